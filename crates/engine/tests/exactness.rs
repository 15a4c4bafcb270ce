//! The main gate: whatever is decoded from a reference closure equals, bit for bit, what ffmpeg's
//! plain decode of the whole file gives for that sample.
//!
//! For every made clip and every real file: every frame, in random order, over decoders that are
//! reused from clip to clip; then random sets of frames in one plan.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::num::NonZero;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use codec::{HevcDecoder, Picture, Plane, Threading};
use media::demux::{HEAD_BYTES, IndexBuilder, Step, TAIL_BYTES};
use media::graph::ReferenceGraph;
use media::h265::ParameterSets;
use media::index::Layout;
use media::plan::{DecodePlan, Depth, Refusal, preludes};
use media::sidecar::plain_start;
use media::{DecodeIndex, VideoIndex, packet};
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

    fn graph(&self, first: DecodeIndex, last: DecodeIndex) -> ReferenceGraph {
        let samples: Vec<_> = (first.0..=last.0)
            .map(|i| self.index.sample(DecodeIndex(i)).unwrap())
            .map(|s| (s, self.bytes(s.index)))
            .collect();
        ReferenceGraph::of_samples(&self.index, samples.iter().map(|(s, d)| (*s, d.as_ref())))
    }

    /// Decodes targets as the engine does, starting over from further back where it must.
    fn decode(
        &self,
        targets: &[DecodeIndex],
        depth: Depth,
        decoder: &mut HevcDecoder,
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
            let graph = self.graph(start, last);
            let plan = DecodePlan::new(&graph, &due, depth);
            let mut earlier = Vec::new();
            for (sample, why) in plan.refused {
                if why == Refusal::NeedsEarlierStart && start.0 > 0 {
                    earlier.push(sample);
                } else {
                    results.insert(sample, Err(why));
                }
            }
            for pass in &plan.passes {
                tally.decoded += pass.samples.len();
                tally.fallback += usize::from(pass.fallback);
                let before = preludes(&graph, &pass.samples);
                let mut pictures = Vec::new();
                for (&sample, sets) in pass.samples.iter().zip(&before) {
                    let mut unit = Vec::new();
                    packet::append_nals(&mut unit, sets.iter().map(Bytes::as_ref));
                    let s = self.index.sample(sample).unwrap();
                    let framing = self.index.framing(&s);
                    packet::append_sample(&mut unit, &self.bytes(sample), framing, pass.fallback)?;
                    if !unit.is_empty() {
                        decoder
                            .send(&unit, i64::from(sample.0), &mut |p| pictures.push(p))
                            .with_context(|| format!("{sample} of pass {:?}", pass.samples))?;
                    }
                }
                decoder.drain(&mut |p| pictures.push(p))?;
                for picture in pictures {
                    let sample = DecodeIndex(u32::try_from(picture.id())?);
                    ensure!(!picture.is_damaged(), "{sample} is damaged");
                    if pass.targets.contains(&sample) {
                        let twice = results.insert(sample, Ok(hash(&picture)));
                        ensure!(twice.is_none(), "{sample} came twice");
                    }
                }
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

/// Luma samples of pictures that are asked for one by one, in each file.
const MOST_SINGLE_PIXELS: usize = 60_000_000;

/// A stream that ffmpeg cannot decode (screen content coding): nothing is served, and nothing
/// breaks.
fn check_undecodable(clip: &Clip, decoders: &mut Decoders) -> Result<String> {
    for i in 0..clip.index.sample_count() {
        for decoder in &mut decoders.each {
            let sample = DecodeIndex(i);
            let got = clip.decode(&[sample], Depth::Active, decoder, &mut Tally::default());
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

struct Decoders {
    each: Vec<HevcDecoder>,
}

impl Decoders {
    fn new() -> Self {
        let two = NonZero::new(2).unwrap();
        let kinds = [
            Threading::Single,
            Threading::Slices(two),
            Threading::Frames(two),
        ];
        Self {
            each: kinds
                .into_iter()
                .map(|k| HevcDecoder::new(k).unwrap())
                .collect(),
        }
    }

    /// In turn; by rows only where that is exact, as [`media::plan::DecodePass`] says.
    fn nth(&mut self, turn: usize, rows: bool) -> &mut HevcDecoder {
        let kinds: &[usize] = if rows { &[0, 1, 2] } else { &[0, 2] };
        &mut self.each[kinds[turn % kinds.len()]]
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
    // Large pictures one by one take minutes; all of them are compared below, in one plan.
    let pixels = all.first().map_or(0, |f| f.width * f.height).max(1);
    let singles = samples.len().min((MOST_SINGLE_PIXELS / pixels).max(12));
    let mut active = Tally::default();
    let mut rps = Tally::default();
    let mut refused = 0;
    let mut prefix = 0;
    for (turn, &sample) in samples.iter().take(singles).enumerate() {
        let decoder = decoders.nth(turn, rows);
        let both = [(Depth::Active, &mut active), (Depth::Rps, &mut rps)];
        let depths = if turn % 4 == 0 { 2 } else { 1 };
        for (depth, tally) in both.into_iter().take(depths) {
            let got = clip
                .decode(&[sample], depth, decoder, tally)?
                .remove(&sample);
            match (got, expected.get(&sample)) {
                (Some(Ok(hash)), Some(&want)) => {
                    ensure!(hash == want, "{sample} is wrong ({depth:?})");
                }
                (Some(Err(_)), None) => refused += 1,
                (Some(Err(why)), Some(_)) => {
                    anyhow::bail!("{sample} is refused ({why}), ffmpeg shows it")
                }
                (Some(Ok(_)), None) => anyhow::bail!("{sample} is served, ffmpeg does not show it"),
                (None, _) => anyhow::bail!("{sample} did not come out"),
            }
        }
        let start = plain_start(&clip.index, sample).unwrap_or(sample);
        prefix += (sample.0 - start.0 + 1) as usize;
    }
    // Sets of frames in one plan: no access unit is decoded twice, all are right.
    for turn in 0..6 {
        let count = match turn {
            0 => samples.len(),
            _ => random.random_range(1..=singles.min(40)),
        };
        let some: Vec<DecodeIndex> = samples
            .choose_multiple(&mut random, count)
            .copied()
            .collect();
        let mut tally = Tally::default();
        let decoder = decoders.nth(turn, rows);
        let got = clip.decode(&some, Depth::Active, decoder, &mut tally)?;
        ensure!(
            tally.decoded <= clip.index.sample_count() as usize || refused > 0,
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
    let n = singles as f64;
    Ok(format!(
        "{} samples, {singles} alone, prefix {:.1}, active closure {:.1}, fallbacks {}, refused {}",
        samples.len(),
        prefix as f64 / n,
        active.decoded as f64 / n,
        active.fallback + rps.fallback,
        refused
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
