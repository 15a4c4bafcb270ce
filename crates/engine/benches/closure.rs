//! What finding a reference closure costs, and what it saves.
//!
//! `cargo bench -p engine --bench closure`: for random frames of several structures, the time to
//! read the slice headers from the IRAP on and to plan, for each access unit and as a share of what
//! libavcodec, conversion and JPEG then take; and the decoding of everything from the IRAP on
//! against that of the closure. At the end, the opening of a small and a large file. One core, no
//! server; `make bench` measures that.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use codec::{HevcDecoder, ImageEncoder, Picture, Rendition, Threading};
use engine::{Engine, EngineConfig, Video};
use media::graph::ReferenceGraph;
use media::sidecar::plain_start;
use media::{DecodeIndex, Planner, PresentationIndex, Sample, packet};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use storage::Store;
use testkit::{Chroma, Recipe, boxes, footage};

/// Random frames of each clip.
const TURNS: usize = 30;

fn recipes() -> Vec<Recipe> {
    let clip = |name: &str, width, height| {
        Recipe::new(&format!("bench_closure_{name}"))
            .size(width, height)
            .frames(250)
            .preset("fast")
    };
    vec![
        clip("480p_default", 854, 480).x265("keyint=250"),
        clip("720p_default", 1280, 720).x265("keyint=250"),
        clip("1080p_default", 1920, 1080).x265("keyint=250"),
        clip("1080p_camera", 1920, 1080).x265("keyint=30:bframes=0:ref=1"),
        clip("720p_10bit", 1280, 720)
            .x265("keyint=250")
            .format(Chroma::C420, 10),
    ]
}

/// The samples from a target's IRAP to the target, and their bytes.
struct Run {
    samples: Vec<Sample>,
    data: Vec<Bytes>,
}

impl Run {
    async fn of(video: &Video, target: DecodeIndex) -> Self {
        let start = plain_start(video.index(), target).unwrap();
        let sample = |i| video.index().sample(DecodeIndex(i)).unwrap();
        let samples: Vec<Sample> = (start.0..=target.0).map(sample).collect();
        let ranges: Vec<_> = samples.iter().map(Sample::range).collect();
        let data = video.object().read_ranges(&ranges).await.unwrap();
        Self { samples, data }
    }

    /// What is measured as planning.
    fn plan(&self, video: &Video, target: DecodeIndex) -> (Planner, Vec<DecodeIndex>) {
        let run = self.samples.iter().zip(&self.data);
        let graph = ReferenceGraph::of_samples(video.index(), run.map(|(s, d)| (*s, d.as_ref())));
        let planner = Planner::new(graph);
        let next = planner.way(&[], &[target]).next;
        (planner, next)
    }

    fn units(&self, video: &Video, planner: &Planner, next: &[DecodeIndex]) -> Vec<(i64, Vec<u8>)> {
        let preludes = planner.preludes(&[], next);
        let unit = |(sample, sets): (&DecodeIndex, &Vec<Bytes>)| {
            let place = (sample.0 - self.samples[0].index.0) as usize;
            let framing = video.index().framing(&self.samples[place]);
            let mut unit = Vec::new();
            packet::append_nals(&mut unit, sets.iter().map(Bytes::as_ref));
            packet::append_sample(&mut unit, &self.data[place], framing, false).unwrap();
            (i64::from(sample.0), unit)
        };
        next.iter().zip(&preludes).map(unit).collect()
    }
}

/// Milliseconds of the decoding, and the target's picture.
fn decode(
    decoder: &mut HevcDecoder,
    units: &[(i64, Vec<u8>)],
    target: DecodeIndex,
) -> (f64, Picture) {
    decoder.flush();
    let mut picture = None;
    let mut keep = |p: Picture| {
        if p.id() == i64::from(target.0) {
            picture = Some(p);
        }
    };
    let begin = Instant::now();
    for (id, unit) in units {
        decoder.send(unit, *id, &mut keep).unwrap();
    }
    decoder.finish(&mut keep).unwrap();
    (ms(begin), picture.unwrap())
}

fn ms(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn measure(path: &Path, name: &str) {
    let file = path.file_name().unwrap().to_str().unwrap();
    let store = Store::local(path.parent().unwrap()).unwrap();
    let engine = Engine::new(store, EngineConfig::default()).await.unwrap();
    let video = engine.open(file).await.unwrap();
    let mut decoder = HevcDecoder::new(Threading::Single).unwrap();
    let mut jpeg = ImageEncoder::new().unwrap();
    let mut random = StdRng::seed_from_u64(7);
    let (mut least, mut share, mut per_unit, mut gain) = (vec![], vec![], vec![], vec![]);
    let (mut closure, mut prefix) = (0, 0);
    for _ in 0..TURNS {
        let frame = PresentationIndex(random.random_range(0..video.index().frame_count()));
        let target = video.index().decode_index(frame).unwrap();
        let run = Run::of(&video, target).await;
        let begin = Instant::now();
        let (planner, next) = run.plan(&video, target);
        let planning = ms(begin);
        let all: Vec<DecodeIndex> = run.samples.iter().map(|s| s.index).collect();
        let whole = decode(&mut decoder, &run.units(&video, &planner, &all), target).0;
        let (some, picture) = decode(&mut decoder, &run.units(&video, &planner, &next), target);
        let begin = Instant::now();
        let (colour, rendition) = (video.info().colour, Rendition::full_size(80));
        jpeg.encode(&picture, colour, video.index().orientation(), rendition)
            .unwrap();
        let image = ms(begin);
        least.push(some + image);
        share.push(planning / (some + image) * 100.0);
        per_unit.push(planning * 1e3 / all.len() as f64);
        gain.push(whole / some);
        closure += next.len();
        prefix += all.len();
    }
    println!(
        "{name:14} {:9.1} {:11.2} {:13.2} {:8.1} {:9.1} {:15.2}",
        median(&mut least),
        median(&mut share),
        median(&mut per_unit),
        closure as f64 / TURNS as f64,
        prefix as f64 / TURNS as f64,
        median(&mut gain),
    );
}

/// Opening files that are alike but for the bytes between pictures and `moov`, which is last.
async fn measure_opening(path: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::read(path).unwrap();
    let sizes = [("10 MiB", 10 << 20), ("2 GiB", 2 << 30)];
    for (name, size) in sizes {
        boxes::with_hole(&file, size, &folder.path().join(name)).unwrap();
    }
    let store = Store::local(folder.path()).unwrap();
    let no_cache = EngineConfig {
        cache_bytes: 0,
        ..EngineConfig::default()
    };
    let engine = Engine::new(store, no_cache).await.unwrap();
    for (name, _) in sizes {
        let mut times = Vec::new();
        for _ in 0..TURNS {
            let begin = Instant::now();
            engine.open(name).await.unwrap();
            times.push(ms(begin));
        }
        println!("opening {name}: {:.2} ms", median(&mut times));
    }
}

#[tokio::main]
async fn main() {
    // `cargo test --benches` runs it too, with another argument: nothing is measured then.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    println!(
        "{:14} {:>9} {:>11} {:>13} {:>8} {:>9} {:>15}",
        "", "decode +", "planning, %", "planning, µs", "access", "from the", "decoding, from"
    );
    println!(
        "{:14} {:>9} {:>11} {:>13} {:>8} {:>9} {:>15}",
        "medians", "JPEG, ms", "of that", "per acc. unit", "units", "IRAP", "IRAP / closure"
    );
    let mut first = None;
    for recipe in &recipes() {
        let clip = footage::make(recipe).unwrap();
        measure(&clip.path, recipe.name.trim_start_matches("bench_closure_")).await;
        first.get_or_insert(clip.path);
    }
    measure_opening(&first.unwrap()).await;
}
