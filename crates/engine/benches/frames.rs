//! What a random frame costs, against the least that it can cost.
//!
//! `cargo bench -p engine --bench frames`. The limit is libavcodec alone on the same access units,
//! in the same process and on as many threads, plus conversion and JPEG. Both are measured turn by
//! turn on the same frames, and what is printed is the median of the ratios of neighbours: other
//! load on the machine hits both alike.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::{HevcDecoder, JpegEncoder, Threading};
use engine::{Engine, EngineConfig, FrameTarget, Video};
use media::graph::ReferenceGraph;
use media::plan::{DecodePlan, Depth, preludes};
use media::sidecar::plain_start;
use media::{DecodeIndex, PresentationIndex, packet};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use storage::Store;
use testkit::{Chroma, Recipe, footage};

/// Random frames of each clip.
const TURNS: usize = 40;

fn recipes() -> Vec<Recipe> {
    let clip = |name: &str, width, height| {
        Recipe::new(name)
            .size(width, height)
            .frames(250)
            .preset("fast")
    };
    // The converter's default (`--seek balanced`).
    let seek =
        "keyint=36:min-keyint=36:open-gop=0:scenecut=0:bframes=8:b-adapt=0:b-pyramid=1:ref=1";
    vec![
        clip("bench_480p_default", 854, 480).x265("keyint=250"),
        clip("bench_720p_default", 1280, 720).x265("keyint=250"),
        clip("bench_1080p_default", 1920, 1080).x265("keyint=250"),
        clip("bench_1080p_camera", 1920, 1080).x265("keyint=30:bframes=0:ref=1"),
        clip("bench_1080p_seek", 1920, 1080).x265(seek),
        clip("bench_720p_10bit", 1280, 720)
            .x265("keyint=250")
            .format(Chroma::C420, 10),
    ]
}

/// One frame's work without an engine: what was fetched and planned before the clock runs.
struct Prepared {
    units: Vec<(i64, Vec<u8>)>,
    target: i64,
    data: Vec<Bytes>,
    samples: Vec<media::Sample>,
}

async fn prepare(video: &Video, target: DecodeIndex) -> Prepared {
    let index = video.index();
    let start = plain_start(index, target).unwrap();
    let samples: Vec<_> = (start.0..=target.0)
        .map(|i| index.sample(DecodeIndex(i)).unwrap())
        .collect();
    let ranges: Vec<_> = samples.iter().map(media::Sample::range).collect();
    let data = video.object().read_ranges(&ranges).await.unwrap();
    let run = samples.iter().zip(&data).map(|(s, d)| (*s, d.as_ref()));
    let graph = ReferenceGraph::of_samples(index, run);
    let plan = DecodePlan::new(&graph, &[target], Depth::Active);
    let pass = &plan.passes[0];
    let before = preludes(&graph, &pass.samples);
    let units = pass
        .samples
        .iter()
        .zip(&before)
        .map(|(&sample, sets)| {
            let mut unit = Vec::new();
            packet::append_nals(&mut unit, sets.iter().map(Bytes::as_ref));
            let place = (sample.0 - start.0) as usize;
            let framing = index.framing(&samples[place]);
            packet::append_sample(&mut unit, &data[place], framing, false).unwrap();
            (i64::from(sample.0), unit)
        })
        .collect();
    Prepared {
        units,
        target: i64::from(target.0),
        data,
        samples,
    }
}

/// The limit: decode, convert, encode.
fn limit(
    prepared: &Prepared,
    video: &Video,
    decoder: &mut HevcDecoder,
    jpeg: &mut JpegEncoder,
) -> (Duration, usize) {
    let begin = Instant::now();
    let mut picture = None;
    let mut keep = |p: codec::Picture| {
        if p.id() == prepared.target {
            picture = Some(p);
        }
    };
    for (id, unit) in &prepared.units {
        decoder.send(unit, *id, &mut keep).unwrap();
    }
    decoder.drain(&mut keep).unwrap();
    let orientation = video.index().orientation();
    let image = jpeg
        .encode(&picture.unwrap(), video.info().colour, orientation, 80)
        .unwrap();
    (begin.elapsed(), image.len())
}

/// Everything from the IRAP on, as a frame server without a graph does.
fn decode_prefix(prepared: &Prepared, video: &Video, decoder: &mut HevcDecoder) -> Duration {
    let sets = video
        .index()
        .parameter_sets_before(prepared.samples[0].index);
    let mut units = Vec::new();
    for (sample, data) in prepared.samples.iter().zip(&prepared.data) {
        let mut unit = Vec::new();
        if units.is_empty() {
            packet::append_nals(&mut unit, sets.iter().map(Bytes::as_ref));
        }
        let framing = video.index().framing(sample);
        packet::append_sample(&mut unit, data, framing, false).unwrap();
        units.push(unit);
    }
    let begin = Instant::now();
    for (i, unit) in units.iter().enumerate() {
        decoder.send(unit, i as i64, &mut |_| {}).unwrap();
    }
    decoder.drain(&mut |_| {}).unwrap();
    begin.elapsed()
}

fn decode_only(prepared: &Prepared, decoder: &mut HevcDecoder) -> Duration {
    let begin = Instant::now();
    for (id, unit) in &prepared.units {
        decoder.send(unit, *id, &mut |_| {}).unwrap();
    }
    decoder.drain(&mut |_| {}).unwrap();
    begin.elapsed()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn one(engine: &Engine, video: &Arc<Video>, sample: DecodeIndex) -> (Duration, usize) {
    let begin = Instant::now();
    let mut ticket = engine.request(video, vec![FrameTarget { sample }]);
    let image = ticket.next().await.unwrap().result.unwrap();
    (begin.elapsed(), image.bytes.len())
}

async fn measure(path: &Path, name: &str) {
    let folder = path.parent().unwrap();
    let store = Store::local(folder).unwrap();
    let config = EngineConfig {
        workers: 1,
        ..EngineConfig::default()
    };
    let engine = Engine::new(store, config).unwrap();
    let file = path.file_name().unwrap().to_str().unwrap();
    let video = engine.open(file).await.unwrap();
    let mut decoder = HevcDecoder::new(Threading::Single).unwrap();
    let mut jpeg = JpegEncoder::new().unwrap();
    let mut random = StdRng::seed_from_u64(7);
    let (mut ratio, mut served, mut bound) = (Vec::new(), Vec::new(), Vec::new());
    let (mut plan, mut per_unit, mut gain) = (Vec::new(), Vec::new(), Vec::new());
    let (mut units, mut prefix) = (0, 0);
    for turn in 0..TURNS + 2 {
        let frame = PresentationIndex(random.random_range(0..video.index().frame_count()));
        let sample = video.index().decode_index(frame).unwrap();
        let prepared = prepare(&video, sample).await;
        let ((ours, size), (least, same)) = if turn % 2 == 0 {
            let a = one(&engine, &video, sample).await;
            (a, limit(&prepared, &video, &mut decoder, &mut jpeg))
        } else {
            let b = limit(&prepared, &video, &mut decoder, &mut jpeg);
            (one(&engine, &video, sample).await, b)
        };
        assert_eq!(size, same, "both make the same image");
        let begin = Instant::now();
        let run = prepared
            .samples
            .iter()
            .zip(&prepared.data)
            .map(|(s, d)| (*s, d.as_ref()));
        let graph = ReferenceGraph::of_samples(video.index(), run);
        let planned = DecodePlan::new(&graph, &[sample], Depth::Active);
        let planning = begin.elapsed();
        assert_eq!(planned.decoded(), prepared.units.len());
        let closure = decode_only(&prepared, &mut decoder);
        let whole = decode_prefix(&prepared, &video, &mut decoder);
        if turn < 2 {
            continue; // decoders were opened
        }
        ratio.push(ours.as_secs_f64() / least.as_secs_f64());
        served.push(ours.as_secs_f64() * 1e3);
        bound.push(least.as_secs_f64() * 1e3);
        plan.push(planning.as_secs_f64() / least.as_secs_f64() * 100.0);
        per_unit.push(planning.as_secs_f64() * 1e6 / prepared.samples.len() as f64);
        gain.push(whole.as_secs_f64() / closure.as_secs_f64());
        units += prepared.units.len();
        prefix += prepared.samples.len();
    }
    println!(
        "{name:22} {:7.1} {:7.1} {:8.3} {:8.2} {:8.1} {:8.1} {:8.1} {:8.2}",
        median(&mut served),
        median(&mut bound),
        median(&mut ratio),
        median(&mut plan),
        median(&mut per_unit),
        units as f64 / TURNS as f64,
        prefix as f64 / TURNS as f64,
        median(&mut gain),
    );
}

/// `SetVideo`: opening a large and a small file, both with `moov` at the end.
async fn measure_open(path: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(path).unwrap();
    for (name, size) in [("small.mp4", 10u64 << 20), ("large.mp4", 2u64 << 30)] {
        testkit::boxes::with_hole(&bytes, size, &folder.path().join(name)).unwrap();
    }
    let engine = Engine::new(
        Store::local(folder.path()).unwrap(),
        EngineConfig::default(),
    )
    .unwrap();
    let (mut small, mut large) = (Vec::new(), Vec::new());
    for _ in 0..30 {
        for (name, times) in [("small.mp4", &mut small), ("large.mp4", &mut large)] {
            let begin = Instant::now();
            engine.open(name).await.unwrap();
            times.push(begin.elapsed().as_secs_f64() * 1e3);
        }
    }
    println!(
        "\nopening a video with moov at its end, ms: 10 MiB {:.2}, 2 GiB {:.2}",
        median(&mut small),
        median(&mut large)
    );
}

#[tokio::main]
async fn main() {
    // `cargo test` runs benchmarks too, with this argument: nothing is measured then.
    if std::env::args().any(|a| a == "--test") || !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let recipes = recipes();
    println!(
        "{:22} {:>7} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}\n{:22} {:>7} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "random single frame",
        "served",
        "limit",
        "served/",
        "plan %",
        "plan us",
        "access",
        "from",
        "prefix/",
        "one core, cold",
        "ms",
        "ms",
        "limit",
        "of limit",
        "per AU",
        "units",
        "IRAP",
        "closure",
    );
    let mut first = None;
    for recipe in &recipes {
        let clip = footage::make(recipe).unwrap();
        measure(&clip.path, recipe.name.trim_start_matches("bench_")).await;
        first.get_or_insert(clip.path);
    }
    measure_open(&first.unwrap()).await;
}
