//! Damaged videos through the whole engine: each frame that is asked for ends with a picture or an
//! error. And where libavcodec decodes the whole stream without a complaint, each picture is the
//! one that comes out there.

use std::cell::{Cell, OnceCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use codec::{HevcDecoder, ImageEncoder, Picture, Rendition, Threading};
use engine::{Engine, EngineConfig, FrameEvent, FrameTarget, Output, RequestOptions, Video};
use media::graph::ReferenceGraph;
use media::packet::{append_nals, append_sample};
use media::{DecodeIndex, PresentationIndex, Sample};
use storage::Store;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::graph::samples;

/// Larger pictures take longer and show nothing else.
const MOST_PIXELS: u64 = 1 << 20;
const MOST_FRAMES: u32 = 12;
const QUALITY: u8 = 80;

struct Place {
    folder: TempDir,
    engine: Engine,
    runtime: Runtime,
    /// Each video has a name of its own: nothing is known of it.
    count: Cell<u64>,
}

impl Place {
    fn new() -> Self {
        // In memory, where there is such a folder.
        let shm = PathBuf::from("/dev/shm");
        let folder = tempfile::tempdir_in(&shm).or_else(|_| tempfile::tempdir());
        let folder = folder.unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let config = EngineConfig {
            // Frame threads cannot say which unit an error is of.
            workers: 1,
            cache_bytes: 0,
            harvest: false,
            max_pixels: MOST_PIXELS,
            jpeg_quality: QUALITY,
            ..EngineConfig::default()
        };
        let store = Store::local(folder.path()).unwrap();
        let engine = runtime.block_on(Engine::new(store, config)).unwrap();
        Self {
            folder,
            engine,
            runtime,
            count: Cell::new(0),
        }
    }
}

thread_local! {
    static PLACE: OnceCell<Place> = const { OnceCell::new() };
}

pub(crate) fn run(data: &[u8]) {
    PLACE.with(|place| {
        let place = place.get_or_init(Place::new);
        let count = place.count.get() + 1;
        place.count.set(count);
        let name = format!("{count}.mp4");
        let path = place.folder.path().join(&name);
        fs::write(&path, data).unwrap();
        place.runtime.block_on(check(&place.engine, &name, data));
        fs::remove_file(path).unwrap();
    });
}

async fn check(engine: &Engine, name: &str, data: &[u8]) {
    let Ok(video) = engine.open(name).await else {
        return;
    };
    let frames = video.index().frame_count();
    let step = frames.div_ceil(MOST_FRAMES).max(1) as usize;
    // From the back to the front, as a decoder likes it least.
    let wanted: Vec<DecodeIndex> = (0..frames)
        .rev()
        .step_by(step)
        .map(|frame| {
            video
                .index()
                .decode_index(PresentationIndex(frame))
                .unwrap()
        })
        .collect();
    let targets = wanted.iter().map(|&sample| FrameTarget {
        sample,
        output: Output::default(),
    });
    let client = engine.client();
    let mut ticket = client.request(&video, targets.collect(), RequestOptions::default());
    let mut answered = BTreeSet::new();
    let mut images = BTreeMap::new();
    while let Some(event) = ticket.next().await {
        let FrameEvent::Outcome(outcome) = event else {
            continue;
        };
        assert!(answered.insert(outcome.position), "two answers");
        match outcome.result {
            Ok(image) => {
                testkit::jpeg::decode(&image.bytes).unwrap();
                images.insert(wanted[outcome.position], image.bytes);
            }
            Err(error) => assert!(!error.message.is_empty()),
        }
    }
    assert_eq!(answered.len(), wanted.len(), "a frame without an answer");
    if images.is_empty() {
        return;
    }
    let samples = samples(video.index(), &Bytes::copy_from_slice(data));
    if let Some(whole) = decode_all(&video, &samples, &images) {
        for (sample, image) in &images {
            // What a decoder of everything does not show is not held against anything.
            if let Some(expected) = whole.get(sample) {
                assert!(image == expected, "{sample} is another picture");
            }
        }
    }
}

/// The images of these samples from one decoder that is given everything; `None` if it complains of
/// anything.
fn decode_all(
    video: &Arc<Video>,
    samples: &[(Sample, Bytes)],
    wanted: &BTreeMap<DecodeIndex, Bytes>,
) -> Option<BTreeMap<DecodeIndex, Vec<u8>>> {
    let index = video.index();
    let graph = ReferenceGraph::of_samples(index, samples.iter().map(|(s, d)| (*s, &d[..])));
    let mut decoder = HevcDecoder::new(Threading::Single).unwrap();
    decoder.set_max_pixels(MOST_PIXELS).unwrap();
    let mut encoder = ImageEncoder::new().unwrap();
    let mut images = BTreeMap::new();
    let mut damaged = false;
    let mut description = None;
    for (sample, data) in samples {
        let own = index.descriptions().get(usize::from(sample.description));
        let mut unit = Vec::new();
        if description.replace(sample.description) != Some(sample.description) {
            let sets = own.iter().flat_map(|d| &d.parameter_sets);
            append_nals(&mut unit, sets.map(|set| &set[..]));
        }
        append_sample(&mut unit, data, index.framing(sample), true).ok()?;
        let mut sink = |picture: Picture| {
            damaged |= picture.is_damaged();
            let at = DecodeIndex(picture.id() as u32);
            if !wanted.contains_key(&at) {
                return;
            }
            let in_stream = graph.unit_of(at).and_then(|unit| graph.picture(unit));
            let colour = in_stream.map_or(video.info().colour, |p| p.sps.vui.colour);
            let colour = colour.or(own.map(|d| d.colour).unwrap_or_default());
            let rendition = Rendition::full_size(QUALITY);
            let image = encoder.encode(&picture, colour, index.orientation(), rendition);
            if let Ok(image) = image {
                images.insert(at, image);
            }
        };
        decoder
            .send(&unit, i64::from(sample.index.0), &mut sink)
            .ok()?;
    }
    (!damaged).then_some(images)
}
