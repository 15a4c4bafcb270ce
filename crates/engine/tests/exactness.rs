//! The main gate: whatever is decoded from a reference closure equals, bit for bit, what ffmpeg's
//! plain decode of the whole file gives for that sample.
//!
//! For every made clip and every real file, over decoders that are used from clip to clip: every
//! frame alone, in random order; random sets of frames; and walks, in which one decoder goes on from
//! where it stands as long as the planner knows a way. Some of it, and every frame once, by decoders in
//! processes of their own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::{BTreeSet, HashMap};
use std::num::NonZero;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use codec::{Decoder, Decoders as Open, Launcher, LauncherConfig, Picture, Plane, Threading};
use media::demux::{HEAD_BYTES, IndexBuilder, Step, TAIL_BYTES};
use media::graph::ReferenceGraph;
use media::h265::ParameterSets;
use media::index::Layout;
use media::sidecar::plain_start;
use media::{DecodeIndex, Planner, Refusal, Standing, VideoIndex, packet};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use testkit::reference::{self, Options, PlaneHasher};

struct Clip {
    data: Bytes,
    index: VideoIndex,
}

fn open(path: &Path) -> Result<Clip> {
    let data = Bytes::from(std::fs::read(path)?);
    let size = data.len() as u64;
    let mut builder = IndexBuilder::new(size);
    builder.push(0, data.slice(..(HEAD_BYTES.min(size)) as usize));
    builder.push(
        size - TAIL_BYTES.min(size),
        data.slice((size - TAIL_BYTES.min(size)) as usize..),
    );
    loop {
        match builder.step()? {
            Step::Finished(index) => {
                return Ok(Clip {
                    data,
                    index: *index,
                });
            }
            Step::NeedsData(ranges) => {
                for r in ranges {
                    builder.push(r.start, data.slice(r.start as usize..r.end as usize));
                }
            }
        }
    }
}

impl Clip {
    fn bytes(&self, sample: DecodeIndex) -> Bytes {
        let range = self.index.sample(sample).unwrap().range();
        self.data.slice(range.start as usize..range.end as usize)
    }

    fn planner(&self, first: DecodeIndex, last: DecodeIndex) -> Planner {
        let samples: Vec<_> = (first.0..=last.0)
            .map(|i| self.index.sample(DecodeIndex(i)).unwrap())
            .map(|s| (s, self.bytes(s.index)))
            .collect();
        let samples = samples.iter().map(|(s, d)| (*s, d.as_ref()));
        Planner::new(ReferenceGraph::of_samples(&self.index, samples))
    }

    /// Serves targets, starting over from further back where it must.
    fn decode(
        &self,
        targets: &[DecodeIndex],
        decoder: &mut Decoder,
        tally: &mut Tally,
    ) -> Result<HashMap<DecodeIndex, Result<u128, Refusal>>> {
        let mut results = HashMap::new();
        let mut start = targets
            .iter()
            .filter_map(|&t| plain_start(&self.index, t))
            .min()
            .context("no sync sample")?;
        let last = *targets.iter().max().unwrap();
        let mut due: Vec<DecodeIndex> = targets.to_vec();
        loop {
            let planner = self.planner(start, last);
            let mut earlier = Vec::new();
            let mut exact = Vec::new();
            for &target in &due {
                match planner.standing(target) {
                    Standing::Exact => exact.push(target),
                    Standing::Fallback => {
                        tally.fallback += 1;
                        let mut walker = Walker::new(self, &planner, decoder);
                        let out = walker.fall_back(target)?;
                        results.insert(target, Ok(out.context("it did not come out")?));
                    }
                    Standing::Refused(Refusal::NeedsEarlierStart) if start.0 > 0 => {
                        earlier.push(target);
                    }
                    Standing::Refused(why) => {
                        results.insert(target, Err(why));
                    }
                }
            }
            while !exact.is_empty() {
                let way = planner.way(&[], &exact);
                let first = exact.first().unwrap();
                ensure!(way.reached.contains(first), "{first} is not reached");
                ensure!(way.reached.len() + way.beyond.len() == exact.len());
                tally.decoded += way.next.len();
                let mut walker = Walker::new(self, &planner, decoder);
                walker.go_on(&way.next)?;
                walker.finish()?;
                for sample in way.reached {
                    let hash = *walker.out.get(&sample).context("it did not come out")?;
                    let twice = results.insert(sample, Ok(hash));
                    ensure!(twice.is_none(), "{sample} came twice");
                }
                exact = way.beyond;
            }
            if earlier.is_empty() {
                return Ok(results);
            }
            due = earlier;
            start = self
                .index
                .sync_at_or_before(DecodeIndex(start.0 - 1))
                .unwrap_or(DecodeIndex(0));
        }
    }
}

/// One decoder, which starts empty, and what it was given.
struct Walker<'c> {
    clip: &'c Clip,
    planner: &'c Planner,
    decoder: &'c mut Decoder,
    given: Vec<DecodeIndex>,
    /// What came out.
    out: HashMap<DecodeIndex, u128>,
}

impl<'c> Walker<'c> {
    fn new(clip: &'c Clip, planner: &'c Planner, decoder: &'c mut Decoder) -> Self {
        decoder.flush();
        Self {
            clip,
            planner,
            decoder,
            given: Vec::new(),
            out: HashMap::new(),
        }
    }

    fn start_over(&mut self) {
        self.decoder.flush();
        self.given.clear();
    }

    fn go_on(&mut self, next: &[DecodeIndex]) -> Result<()> {
        self.give(next, false)
    }

    /// Everything from the IRAP on, as it lies; gives the target's picture.
    fn fall_back(&mut self, target: DecodeIndex) -> Result<Option<u128>> {
        self.start_over();
        let all = self.planner.fallback(target).context("no fallback")?;
        self.give(&all, true)?;
        self.finish()?;
        Ok(self.out.get(&target).copied())
    }

    fn give(&mut self, next: &[DecodeIndex], as_it_lies: bool) -> Result<()> {
        let index = &self.clip.index;
        let preludes = self.planner.preludes(&self.given, next);
        let mut pictures = Vec::new();
        for (&sample, sets) in next.iter().zip(&preludes) {
            let mut unit = Vec::new();
            packet::append_nals(&mut unit, sets.iter().map(Bytes::as_ref));
            let framing = index.framing(&index.sample(sample).unwrap());
            packet::append_sample(&mut unit, &self.clip.bytes(sample), framing, as_it_lies)?;
            if !unit.is_empty() {
                self.decoder
                    .send(&unit, i64::from(sample.0), &mut |p| pictures.push(p))
                    .with_context(|| format!("{sample}: {next:?} after {:?}", self.given))?;
            }
        }
        self.given.extend(next);
        self.take(pictures)
    }

    fn finish(&mut self) -> Result<()> {
        let mut pictures = Vec::new();
        self.decoder.finish(&mut |p| pictures.push(p))?;
        self.take(pictures)
    }

    fn take(&mut self, pictures: Vec<Picture>) -> Result<()> {
        for picture in pictures {
            let sample = DecodeIndex(u32::try_from(picture.id())?);
            ensure!(!picture.is_damaged(), "{sample} is damaged");
            self.out.insert(sample, hash(&picture));
        }
        Ok(())
    }
}

/// Luma samples that are decoded in the walk of one decoder over one file.
const MOST_WALK_PIXELS: usize = 30_000_000;

/// Steps of a walk, at the most.
const MOST_STEPS: usize = 60;

/// Walks over a file as people do, with one decoder that goes on where that is possible. All that
/// comes out of it is compared, wanted or not. Returns how often it went on and began anew.
fn walk(
    clip: &Clip,
    expected: &HashMap<DecodeIndex, u128>,
    decoder: &mut Decoder,
    random: &mut StdRng,
    pixels: usize,
) -> Result<(usize, usize)> {
    let count = clip.index.sample_count();
    let planner = clip.planner(DecodeIndex(0), DecodeIndex(count - 1));
    let mut shown: Vec<DecodeIndex> = (0..clip.index.frame_count())
        .filter_map(|i| clip.index.decode_index(media::PresentationIndex(i)))
        .collect();
    shown.retain(|s| matches!(planner.standing(*s), Standing::Exact | Standing::Fallback));
    if shown.is_empty() {
        return Ok((0, 0));
    }
    let mut walker = Walker::new(clip, &planner, decoder);
    let (mut went_on, mut began) = (0, 0);
    let mut decoded = 0;
    let mut at = 0;
    let mut due_out = BTreeSet::new();
    for step in 0..MOST_STEPS {
        if decoded * pixels > MOST_WALK_PIXELS && step >= 4 {
            break;
        }
        let last = shown.len() - 1;
        let frames: Vec<usize> = match random.random_range(0..8) {
            // Mostly by single frames, as one looks.
            0..=2 => vec![(at + 1).min(last)],
            3 => vec![at.saturating_sub(1)],
            4 => vec![(at + random.random_range(2..=12)).min(last)],
            5 => vec![random.random_range(0..=last)],
            6 => (at..=(at + 6).min(last)).collect(),
            _ => (0..random.random_range(2..=8))
                .map(|_| random.random_range(0..=last))
                .collect(),
        };
        at = *frames.last().unwrap();
        let mut targets: Vec<DecodeIndex> = frames.iter().map(|&f| shown[f]).collect();
        targets.sort_unstable();
        targets.dedup();
        let (mut due, others): (Vec<_>, Vec<_>) = targets
            .into_iter()
            .partition(|&t| planner.standing(t) == Standing::Exact);
        for target in others {
            walker.finish()?;
            walker.fall_back(target)?;
            decoded += walker.given.len();
            due_out.insert(target);
        }
        while !due.is_empty() {
            let way = planner.way(&walker.given, &due);
            ensure!(way.reached.len() + way.beyond.len() == due.len());
            if way.reached.is_empty() {
                ensure!(!walker.given.is_empty(), "{due:?} cannot be reached");
                walker.finish()?;
                walker.start_over();
                continue;
            }
            let goes_on = !walker.given.is_empty();
            *(if goes_on { &mut went_on } else { &mut began }) += 1;
            walker.go_on(&way.next)?;
            decoded += way.next.len();
            due_out.extend(way.reached);
            due = way.beyond;
        }
        // With frame threads, what is left comes out with what is given next.
        if random.random() {
            walker.finish()?;
            compare(&mut walker.out, &mut due_out, expected)
                .with_context(|| format!("step {step}, given {:?}", walker.given))?;
            ensure!(due_out.is_empty(), "{due_out:?} did not come out");
        }
    }
    walker.finish()?;
    compare(&mut walker.out, &mut due_out, expected)
        .with_context(|| format!("last step, given {:?}", walker.given))?;
    ensure!(due_out.is_empty(), "{due_out:?} did not come out");
    Ok((went_on, began))
}

/// Compares what came out and forgets it.
fn compare(
    out: &mut HashMap<DecodeIndex, u128>,
    due: &mut BTreeSet<DecodeIndex>,
    expected: &HashMap<DecodeIndex, u128>,
) -> Result<()> {
    for (sample, hash) in out.drain() {
        match expected.get(&sample) {
            Some(want) => ensure!(hash == *want, "{sample} is wrong"),
            // A picture that is not shown (pic_output_flag 0) comes out of a decoder all the same.
            None => ensure!(!due.contains(&sample), "ffmpeg does not show {sample}"),
        }
        due.remove(&sample);
    }
    Ok(())
}

/// Luma samples of pictures that are asked for one by one, in each file.
const MOST_SINGLE_PIXELS: usize = 60_000_000;

/// A stream that ffmpeg cannot decode (screen content coding): nothing is served, and nothing
/// breaks.
fn check_undecodable(clip: &Clip, decoders: &mut Decoders) -> Result<String> {
    for i in 0..clip.index.sample_count() {
        for decoder in &mut decoders.each {
            let sample = DecodeIndex(i);
            let got = clip.decode(&[sample], decoder, &mut Tally::default());
            let served = got.is_ok_and(|mut r| matches!(r.remove(&sample), Some(Ok(_))));
            ensure!(!served, "{sample} is served, ffmpeg cannot decode it");
        }
    }
    Ok("ffmpeg decodes nothing, nor do we".into())
}

#[derive(Default)]
struct Tally {
    decoded: usize,
    fallback: usize,
}

fn hash(picture: &Picture) -> u128 {
    let mut hasher = PlaneHasher::default();
    for plane in (0..3).filter_map(|i| picture.plane(i)) {
        match plane {
            Plane::U8(rows) => rows.iter().for_each(|row| hasher.row(row)),
            Plane::U16(rows) => {
                let mut bytes = Vec::new();
                for row in rows.iter() {
                    bytes.clear();
                    bytes.extend(row.iter().flat_map(|s| s.to_le_bytes()));
                    hasher.row(&bytes);
                }
            }
        }
    }
    hasher.finish()
}

/// This program is its own decoding process: started so, it runs this test alone.
#[test]
fn a_worker() {
    if std::env::var_os("DECODE_WORKER").is_some() {
        codec::decode_worker();
    }
}

struct Decoders {
    each: Vec<Decoder>,
}

impl Decoders {
    fn new() -> Self {
        let two = NonZero::new(2).unwrap();
        let kinds = [
            Threading::Single,
            Threading::Slices(two),
            Threading::Frames(two),
        ];
        let max_pixels = codec::DEFAULT_MAX_PIXELS;
        let apart = Launcher::new(LauncherConfig {
            program: std::env::current_exe().unwrap(),
            arguments: ["a_worker", "--exact", "--test-threads=1"]
                .map(Into::into)
                .into(),
            environment: vec![("DECODE_WORKER".into(), "1".into())],
            timeout: Duration::from_secs(60),
            max_pixels,
            idle: 2,
        });
        let here = Open::Here { max_pixels };
        let apart = Open::Apart(apart.unwrap());
        let mut each: Vec<Decoder> = kinds.map(|k| here.open(k).unwrap()).into();
        each.push(apart.open(Threading::Frames(two)).unwrap());
        each.push(apart.open(Threading::Single).unwrap());
        Self { each }
    }

    /// In turn; by rows only where that is exact, as [`media::Way`] says.
    fn nth(&mut self, turn: usize, rows: bool) -> &mut Decoder {
        let kinds: &[usize] = if rows {
            &[0, 1, 2, 3, 4]
        } else {
            &[0, 2, 3, 4]
        };
        &mut self.each[kinds[turn % kinds.len()]]
    }

    /// One in a process of its own.
    fn apart(&mut self) -> &mut Decoder {
        &mut self.each[3]
    }
}

/// Holds one file against the full decode. Returns a line for the log.
fn check(path: &Path, decoders: &mut Decoders, seed: u64) -> Result<String> {
    let clip = open(path)?;
    let shown = match reference::decode(path, Options::default()) {
        Ok(shown) => shown,
        Err(e) if e.to_string().contains("sees no frame") => {
            return check_undecodable(&clip, decoders);
        }
        Err(e) if e.to_string().contains("the format changes") => {
            return Ok(format!("not compared: {e:#}"));
        }
        Err(e) => return Err(e),
    };
    let hides = clip.index.frame_count() < clip.index.sample_count();
    let all = if hides && clip.index.layout() != Layout::AnnexB {
        reference::decode(
            path,
            Options {
                ignore_edit_list: true,
                limit: None,
            },
        )?
    } else {
        shown.clone()
    };
    let by_position = |frames: &[reference::ReferenceFrame]| -> Result<Vec<(DecodeIndex, u128)>> {
        frames
            .iter()
            .map(|f| {
                let position = f.position.context("ffprobe gives no position")?;
                let sample = clip
                    .index
                    .sample_at_offset(position)
                    .with_context(|| format!("no sample at {position}"))?;
                Ok((sample, f.hash))
            })
            .collect()
    };
    // What a person calls frame n is ffmpeg's frame n, but for pictures that no decoder outputs:
    // the container does not say which these are.
    let shown: Vec<DecodeIndex> = by_position(&shown)?.into_iter().map(|f| f.0).collect();
    let expected: HashMap<DecodeIndex, u128> = by_position(&all)?.into_iter().collect();
    ensure!(expected.len() == all.len(), "two frames of one sample");
    let listed: Vec<DecodeIndex> = (0..clip.index.frame_count())
        .map(|i| {
            clip.index
                .decode_index(media::PresentationIndex(i))
                .unwrap()
        })
        .filter(|s| expected.contains_key(s))
        .collect();
    ensure!(
        listed == shown,
        "presentation order: {listed:?} but ffmpeg shows {shown:?}"
    );

    let sets = ParameterSets::from_nals(clip.index.parameter_sets());
    let rows = sets.first_sps().is_some_and(|s| !s.sample_adaptive_offset);
    let mut random = StdRng::seed_from_u64(seed);
    let mut samples: Vec<DecodeIndex> = (0..clip.index.sample_count()).map(DecodeIndex).collect();
    samples.shuffle(&mut random);
    // Large pictures one by one take minutes; all of them are compared below, in one set.
    let pixels = all.first().map_or(0, |f| f.width * f.height).max(1);
    let singles = samples.len().min((MOST_SINGLE_PIXELS / pixels).max(12));
    let mut tally = Tally::default();
    let mut refused = 0;
    let mut prefix = 0;
    for (turn, &sample) in samples.iter().take(singles).enumerate() {
        let decoder = decoders.nth(turn, rows);
        let mut got = clip.decode(&[sample], decoder, &mut tally)?;
        match (got.remove(&sample), expected.get(&sample)) {
            (Some(Ok(hash)), Some(&want)) => ensure!(hash == want, "{sample} is wrong"),
            (Some(Err(_)), None) => refused += 1,
            (Some(Err(why)), Some(_)) => {
                anyhow::bail!("{sample} is refused ({why}), ffmpeg shows it")
            }
            (Some(Ok(_)), None) => anyhow::bail!("{sample} is served, ffmpeg does not show it"),
            (None, _) => anyhow::bail!("{sample} did not come out"),
        }
        let start = plain_start(&clip.index, sample).unwrap_or(sample);
        prefix += (sample.0 - start.0 + 1) as usize;
    }
    // Sets of frames: no access unit is decoded twice, all are right.
    for turn in 0..7 {
        let count = match turn {
            0 | 6 => samples.len(),
            _ => random.random_range(1..=singles.min(40)),
        };
        let some: Vec<DecodeIndex> = samples
            .choose_multiple(&mut random, count)
            .copied()
            .collect();
        let mut of_set = Tally::default();
        let decoder = match turn {
            6 => decoders.apart(),
            _ => decoders.nth(turn, rows),
        };
        let got = clip.decode(&some, decoder, &mut of_set)?;
        ensure!(
            of_set.decoded <= clip.index.sample_count() as usize || refused > 0,
            "access units are decoded twice"
        );
        for sample in &some {
            match (got.get(sample), expected.get(sample)) {
                (Some(Ok(hash)), Some(want)) => {
                    ensure!(hash == want, "{sample} is wrong among {some:?}");
                }
                (Some(Err(_)), None) => {}
                other => anyhow::bail!("{sample} among {some:?}: {other:?}"),
            }
        }
    }
    let (mut went_on, mut began) = (0, 0);
    for turn in 0..if rows { 5 } else { 4 } {
        let decoder = decoders.nth(turn, rows);
        let (on, anew) = walk(&clip, &expected, decoder, &mut random, pixels)
            .with_context(|| format!("walk {turn}"))?;
        went_on += on;
        began += anew;
    }
    let n = singles as f64;
    Ok(format!(
        "{} samples, {singles} alone, prefix {:.1}, closure {:.1}, fallbacks {}, refused {refused}, \
         went on {went_on}, began {began}",
        samples.len(),
        prefix as f64 / n,
        tally.decoded as f64 / n,
        tally.fallback,
    ))
}

#[test]
fn every_frame_of_every_made_clip_is_exact() {
    let clips = testkit::footage::all().unwrap();
    assert!(clips.len() > 60, "only {} clips", clips.len());
    let mut decoders = Decoders::new();
    let mut wrong = Vec::new();
    for (n, clip) in clips.iter().enumerate() {
        match check(&clip.path, &mut decoders, n as u64) {
            Ok(line) if !line.contains("fallbacks 0") => {
                wrong.push(format!("{}: headers are not understood: {line}", clip.name));
            }
            Ok(line) => println!("{:32} {line}", clip.name),
            Err(e) => {
                println!("{:32} WRONG: {e:#}", clip.name);
                wrong.push(format!("{}: {e:#}", clip.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_frame_of_every_camera_file_is_exact() {
    let Some(files) = testkit::directories::camera_files() else {
        return;
    };
    let mut decoders = Decoders::new();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for (n, path) in files.iter().enumerate() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if let Err(e) = open(path) {
            println!("{name:50} refused: {e:#}");
            // Whatever else is refused is a file that was served before.
            if !format!("{e:#}").contains("an MPEG transport stream") && !name.contains("fuzz") {
                wrong.push(format!("{name} is refused: {e:#}"));
            }
            continue;
        }
        if name.contains("fuzz") {
            continue;
        }
        match check(path, &mut decoders, n as u64) {
            Ok(line) => println!("{name:50} {line}"),
            Err(e) => {
                println!("{name:50} WRONG: {e:#}");
                wrong.push(format!("{name}: {e:#}"));
            }
        }
        checked += 1;
    }
    assert!(checked > 20, "only {checked} files were checked");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
