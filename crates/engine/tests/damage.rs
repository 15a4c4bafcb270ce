//! Damaged streams: every frame that does not depend on the damage is served as if there were
//! none, at any damage and however the pass is spread over threads. Of the others, those are
//! refused in which the decoder finds damage. It does not find all: most bits are valid slice
//! data, and libavcodec says nothing of slice data that end early.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeSet;
use std::ops::Range;

use common::{Place, ask, clip_bytes, closures, frames};
use engine::{Engine, FrameErrorCode, FrameOutcome};
use media::DecodeIndex;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use testkit::{directories, jpeg};

/// The NAL units of a sample with four-byte lengths, without these.
fn nal_units(file: &[u8], sample: Range<u64>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let (mut at, end) = (sample.start as usize, sample.end as usize);
    while at < end {
        let length = u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
        found.push(at + 4..at + 4 + length);
        at += 4 + length;
    }
    found
}

/// The largest slice of a sample.
fn slice(file: &[u8], sample: Range<u64>) -> Range<usize> {
    nal_units(file, sample)
        .into_iter()
        .filter(|unit| file[unit.start] >> 1 & 0x3f < 32)
        .max_by_key(ExactSizeIterator::len)
        .unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Bit,
    Zeros,
    Noise,
    /// The slice ends early.
    Cut,
    /// The slice header says something else.
    Header,
}

const IN_SLICE_DATA: [Damage; 4] = [Damage::Bit, Damage::Zeros, Damage::Noise, Damage::Cut];

impl Damage {
    fn apply(self, slice: &mut [u8], random: &mut StdRng) {
        let middle = slice.len() / 2;
        let rest = &mut slice[middle..];
        match self {
            Self::Bit => rest[0] ^= 1 << random.random_range(0..8),
            Self::Zeros => rest.iter_mut().take(12).for_each(|b| *b = 0),
            Self::Noise => rest
                .iter_mut()
                .for_each(|b| *b = random.random_range(1..=255)),
            Self::Cut => rest.fill(0),
            Self::Header => slice[2..6].iter_mut().for_each(|b| *b = random.random()),
        }
    }
}

/// Engines in all the ways in which a pass is decoded: on one thread, or on two by rows (where
/// the stream has wavefronts and no SAO) or by pictures.
async fn engines(place: &Place) -> [Engine; 2] {
    [
        place.engine(|c| c.workers = 1).await,
        place.engine(|c| c.workers = 2).await,
    ]
}

#[derive(Default, Debug)]
struct Tally {
    untouched: usize,
    refused: usize,
    unnoticed: usize,
}

fn sound(outcomes: &[FrameOutcome]) -> Vec<Vec<u8>> {
    let image = |o: &FrameOutcome| o.result.as_ref().unwrap().bytes.to_vec();
    outcomes.iter().map(image).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_spoils_what_depends_on_it_and_nothing_else() {
    let mut random = StdRng::seed_from_u64(20);
    for name in [
        "wavefronts_without_sao",
        "no_wavefronts",
        "closed_gop",
        "b_frames_8",
        "slices",
        "tools_off",
    ] {
        let place = Place::with(&[name]);
        let file = clip_bytes(name);
        let whole = place.engine(|_| {}).await;
        let video = whole.open(name).await.unwrap();
        let samples = frames(&video);
        let good = sound(&ask(&whole, &video, &samples).await);
        let closures = closures(&video, &file, &samples);
        let mut tally = Tally::default();
        for damage in IN_SLICE_DATA {
            // A leaf, an anchor, two at once.
            let mut hit = samples.clone();
            hit.shuffle(&mut random);
            hit.retain(|&s| slice(&file, video.index().sample(s).unwrap().range()).len() > 40);
            hit.truncate(2);
            let mut bytes = file.clone();
            for &sample in &hit {
                let unit = slice(&file, video.index().sample(sample).unwrap().range());
                damage.apply(&mut bytes[unit], &mut random);
            }
            let hit: BTreeSet<DecodeIndex> = hit.into_iter().collect();
            place.write("damaged", &bytes);
            for engine in engines(&place).await {
                let video = engine.open("damaged").await.unwrap();
                let got = ask(&engine, &video, &samples).await;
                let mut again = Vec::new();
                for (position, &sample) in samples.iter().enumerate().step_by(7) {
                    let mut alone = ask(&engine, &video, &[sample]).await;
                    alone[0].position = position;
                    again.extend(alone);
                }
                for outcome in got.iter().chain(&again) {
                    let sample = samples[outcome.position];
                    let what = || format!("{name}, {damage:?} in {hit:?}: {sample}");
                    let touched = !closures[outcome.position].is_disjoint(&hit);
                    match &outcome.result {
                        Ok(image) if !touched => {
                            assert!(image.bytes == good[outcome.position], "{} differs", what());
                            tally.untouched += 1;
                        }
                        Ok(_) => tally.unnoticed += 1,
                        Err(e) => {
                            assert!(touched, "{} is refused: {e}", what());
                            assert_eq!(e.code, FrameErrorCode::DecodeFailed, "{}", what());
                            tally.refused += 1;
                        }
                    }
                }
            }
        }
        println!("{name}: {tally:?}");
        assert!(tally.untouched > 100, "{name}: {tally:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_headers_cost_their_gop_and_no_other() {
    let mut random = StdRng::seed_from_u64(21);
    for name in [
        "closed_gop",
        "wavefronts_without_sao",
        "slices",
        "open_gop_rasl",
    ] {
        let place = Place::with(&[name]);
        let file = clip_bytes(name);
        let whole = place.engine(|_| {}).await;
        let video = whole.open(name).await.unwrap();
        let samples = frames(&video);
        let good = sound(&ask(&whole, &video, &samples).await);
        let closures = closures(&video, &file, &samples);
        let second = video.index().sync_samples().nth(1).unwrap();
        let mut fallbacks = 0;
        for hit in [1, 2, 3, 5, 8, second.0 - 1].map(DecodeIndex) {
            let mut bytes = file.clone();
            let first = nal_units(&file, video.index().sample(hit).unwrap().range());
            let first = first
                .into_iter()
                .find(|u| file[u.start] >> 1 & 0x3f < 32)
                .unwrap();
            Damage::Header.apply(&mut bytes[first], &mut random);
            place.write("damaged", &bytes);
            for workers in [1, 2] {
                let engine = place.engine(|c| c.workers = workers).await;
                let video = engine.open("damaged").await.unwrap();
                let got = ask(&engine, &video, &samples).await;
                fallbacks += engine.counters().fallback_passes;
                let mut served = 0;
                for outcome in &got {
                    let position = outcome.position;
                    let sample = samples[position];
                    // Nothing from the next IRAP on can depend on it, but for RASL pictures.
                    let after = sample >= second && !closures[position].contains(&DecodeIndex(0));
                    let before = sample < hit;
                    match &outcome.result {
                        Ok(image) if before || after => {
                            assert!(image.bytes == good[position], "{name}, {hit}: {sample}");
                            served += 1;
                        }
                        // Random bytes can be another valid header.
                        Ok(_) => {}
                        Err(e) => assert!(!before && !after, "{name}, {hit}: {sample}: {e}"),
                    }
                }
                assert!(served > 20, "{name}, {hit}: {served}");
            }
        }
        assert!(fallbacks > 0, "{name}: no fallback");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gop_with_every_other_picture_damaged_still_serves_the_rest() {
    let mut random = StdRng::seed_from_u64(22);
    let name = "b_frames_8";
    let place = Place::with(&[name]);
    let file = clip_bytes(name);
    let whole = place.engine(|_| {}).await;
    let video = whole.open(name).await.unwrap();
    let samples = frames(&video);
    let good = sound(&ask(&whole, &video, &samples).await);
    let closures = closures(&video, &file, &samples);
    // Leaves: nothing refers to them.
    let graph = common::graph(&video, &file);
    let referred: BTreeSet<u32> = (0..graph.units().len() as u32)
        .flat_map(|u| graph.picture(u).unwrap().active_references.clone())
        .collect();
    let mut hit = BTreeSet::new();
    let mut bytes = file.clone();
    for &sample in &samples {
        let unit = graph.unit_of(sample).unwrap();
        if !referred.contains(&unit) {
            let unit = slice(&file, video.index().sample(sample).unwrap().range());
            Damage::Noise.apply(&mut bytes[unit], &mut random);
            hit.insert(sample);
        }
    }
    assert!(hit.len() > 20, "{}", hit.len());
    place.write("damaged", &bytes);
    for engine in engines(&place).await {
        let video = engine.open("damaged").await.unwrap();
        for outcome in ask(&engine, &video, &samples).await {
            let position = outcome.position;
            if closures[position].is_disjoint(&hit) {
                assert!(
                    outcome.result.unwrap().bytes == good[position],
                    "{}",
                    samples[position]
                );
            }
        }
        let counters = engine.counters();
        println!("{counters:?}");
        let most = (hit.len() as u64 + 2) * samples.len() as u64;
        assert!(counters.access_units_decoded <= most, "{counters:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decoder_that_met_damage_serves_other_videos_exactly() {
    let mut random = StdRng::seed_from_u64(23);
    let names = ["wavefronts_without_sao", "no_wavefronts"];
    let place = Place::with(&names);
    for (n, name) in names.iter().enumerate() {
        let mut bytes = clip_bytes(name);
        let from = bytes.len() / 8;
        let to = bytes.len() / 2;
        for _ in 0..400 {
            bytes[random.random_range(from..to)] ^= 1 << random.random_range(0..8);
        }
        place.write(&format!("bad{n}"), &bytes);
    }
    for engine in engines(&place).await {
        for round in 0..3 {
            for (n, name) in names.iter().enumerate() {
                if let Ok(bad) = engine.open(&format!("bad{n}")).await {
                    ask(&engine, &bad, &frames(&bad)).await;
                }
                let video = engine.open(name).await.unwrap();
                let mut samples = frames(&video);
                samples.shuffle(&mut random);
                if round == 1 {
                    samples.truncate(5);
                }
                let got = ask(&engine, &video, &samples).await;
                common::check_numbers(&video, &samples, &got);
            }
        }
    }
}

/// The same parameter set with an extension by which pictures may refer to themselves
/// (`pps_scc_extension_flag`, `pps_curr_pic_ref_enabled_flag`): what a picture refers to cannot be told
/// from its headers then. libavcodec does not read so far.
fn with_unknown_references(pps: &[u8]) -> Vec<u8> {
    let mut bits: Vec<bool> = pps
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |k| byte >> k & 1 == 1))
        .collect();
    while bits.pop() == Some(false) {}
    assert_eq!(bits.pop(), Some(false), "an extension is there already");
    let extensions = [0, 0, 0, 1, 0, 0, 0, 0].map(|bit| bit == 1);
    bits.push(true);
    bits.extend(extensions);
    // Itself; no colour transform, no palette; the trailing bit.
    bits.extend([true, false, false, true]);
    bits.resize(bits.len().next_multiple_of(8), false);
    let byte = |bits: &[bool]| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
    bits.chunks(8).map(byte).collect()
}

/// Each NAL unit of a byte stream, without its start code.
fn nals_of(stream: &[u8]) -> Vec<&[u8]> {
    let mut starts: Vec<usize> = (0..stream.len().saturating_sub(2))
        .filter(|&at| stream[at..].starts_with(&[0, 0, 1]))
        .collect();
    starts.push(stream.len());
    let unit = |w: &[usize]| {
        let end = stream[..w[1]].iter().rposition(|b| *b != 0).unwrap() + 1;
        &stream[w[0] + 3..end.max(w[0] + 3)]
    };
    starts.windows(2).map(unit).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_made_up_where_pictures_are_missing() {
    let kind = |nal: &[u8]| nal[0] >> 1 & 0x3f;
    let file = clip_bytes("annexb");
    let stream: Vec<Vec<u8>> = nals_of(&file)
        .into_iter()
        .map(|nal| match kind(nal) {
            34 => with_unknown_references(nal),
            _ => nal.to_vec(),
        })
        .collect();
    // Pictures that others refer to (odd types, Rec. H.265 table 7-1), of the first GOPs.
    let pictures: Vec<usize> = (0..stream.len())
        .filter(|&at| kind(&stream[at]) < 32)
        .collect();
    let is_referred_to = |at: &usize| kind(&stream[pictures[*at]]) == 1;
    let lost: Vec<usize> = (0..pictures.len()).filter(is_referred_to).take(6).collect();
    let place = Place::new();
    let write = |name: &str, without: Option<usize>| {
        let left_out = without.map(|at| pictures[at]);
        let kept = stream
            .iter()
            .enumerate()
            .filter(|(at, _)| Some(*at) != left_out);
        let bytes: Vec<u8> = kept
            .flat_map(|(_, nal)| [&[0, 0, 0, 1], &nal[..]].concat())
            .collect();
        place.write(name, &bytes);
    };
    write("whole", None);
    let engine = place.engine(|_| {}).await;
    let video = engine.open("whole").await.unwrap();
    let samples: Vec<DecodeIndex> = (0..pictures.len() as u32).map(DecodeIndex).collect();
    let good = sound(&ask(&engine, &video, &samples).await);
    assert!(engine.counters().fallback_passes > 0);
    common::check_numbers(&video, &samples, &ask(&engine, &video, &samples).await);
    let mut refused = 0;
    for at in lost {
        let name = format!("without {at}");
        write(&name, Some(at));
        let video = engine.open(&name).await.unwrap();
        let left = &samples[..samples.len() - 1];
        // Twice: what a decoder did before makes no difference.
        for _ in 0..2 {
            for outcome in ask(&engine, &video, left).await {
                let own = outcome.position + usize::from(outcome.position >= at);
                match outcome.result {
                    Ok(image) => assert!(image.bytes == good[own], "{name}: {own} is made up"),
                    Err(e) => {
                        assert_eq!(e.code, FrameErrorCode::DecodeFailed, "{name}: {own}");
                        assert!(own > at, "{name}: {own} is refused");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(refused > 0);
}

/// Damaged on purpose by their makers.
#[tokio::test(flavor = "multi_thread")]
async fn files_made_by_fuzzers_give_errors_or_pictures() {
    let Some(files) = directories::camera_files() else {
        return;
    };
    let place = Place::new();
    let mut seen = 0;
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.contains("fuzz") {
            continue;
        }
        seen += 1;
        place.write(name, &std::fs::read(&path).unwrap());
        for engine in engines(&place).await {
            let Ok(video) = engine.open(name).await else {
                continue;
            };
            let samples: Vec<_> = (0..video.index().sample_count()).map(DecodeIndex).collect();
            let got = ask(&engine, &video, &samples).await;
            for outcome in &got {
                if let Ok(image) = &outcome.result {
                    jpeg::decode(&image.bytes).unwrap();
                }
            }
            let served = got.iter().filter(|o| o.result.is_ok()).count();
            println!("{name}: {served} of {} served", got.len());
        }
    }
    assert!(seen >= 2, "{seen} files");
}
