//! A folder of videos, an engine over it, and what its answers are held against.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::{
    Client, Engine, EngineConfig, FrameErrorCode, FrameEvent, FrameOutcome, FrameTarget,
    FrameTicket, Output, RequestOptions, Video,
};
use futures::FutureExt;
use media::closure::{Closures, Depth};
use media::graph::ReferenceGraph;
use media::{DecodeIndex, PresentationIndex};
use storage::Store;
use tempfile::TempDir;
use testkit::{Recipe, footage, jpeg};

/// Long enough for a slow machine; what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(180);

/// Fails where the future does not end.
pub(crate) async fn ends<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it hangs")
}

/// Returns as soon as the condition holds; fails where it never does.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    ends(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A folder that an engine serves from.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// A folder with these made clips in it, under their recipes' names.
    pub(crate) fn with(clips: &[&str]) -> Self {
        let place = Self::new();
        for name in clips {
            place.add(name);
        }
        place
    }

    pub(crate) fn add(&self, clip: &str) {
        self.write(clip, &clip_bytes(clip));
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// An engine with two workers and the defaults, but without cache and harvest, and for what
    /// `change` changes.
    pub(crate) async fn engine(&self, change: impl FnOnce(&mut EngineConfig)) -> Engine {
        let mut config = EngineConfig {
            workers: 2,
            cache_bytes: 0,
            harvest: false,
            ..EngineConfig::default()
        };
        change(&mut config);
        Engine::new(Store::local(self.0.path()).unwrap(), config)
            .await
            .unwrap()
    }
}

pub(crate) fn clip_bytes(name: &str) -> Vec<u8> {
    fs::read(footage::clip(name).unwrap().path).unwrap()
}

/// Two seconds of work for one core: 720p, one GOP, no B-frames.
pub(crate) fn slow_clip() -> Vec<u8> {
    let recipe = Recipe::new("slow_to_decode")
        .size(1280, 720)
        .frames(120)
        .preset("ultrafast")
        .x265("keyint=-1:bframes=0:wpp=0");
    fs::read(footage::make(&recipe).unwrap().path).unwrap()
}

/// The frames of a video in presentation order.
pub(crate) fn frames(video: &Video) -> Vec<DecodeIndex> {
    (0..video.index().frame_count())
        .map(|i| video.index().decode_index(PresentationIndex(i)).unwrap())
        .collect()
}

pub(crate) fn targets(samples: &[DecodeIndex]) -> Vec<FrameTarget> {
    samples
        .iter()
        .map(|&sample| FrameTarget {
            sample,
            output: Output::default(),
        })
        .collect()
}

/// Asks, as a client of its own.
pub(crate) fn request(engine: &Engine, video: &Arc<Video>, samples: &[DecodeIndex]) -> FrameTicket {
    request_of(&engine.client(), video, samples)
}

pub(crate) fn request_of(
    client: &Client,
    video: &Arc<Video>,
    samples: &[DecodeIndex],
) -> FrameTicket {
    client.request(video, targets(samples), RequestOptions::default())
}

/// The next outcome.
pub(crate) async fn next(ticket: &mut FrameTicket) -> Option<FrameOutcome> {
    loop {
        match ends(ticket.next()).await? {
            FrameEvent::Outcome(outcome) => return Some(outcome),
            FrameEvent::Preview(_) => {}
        }
    }
}

/// All outcomes; fails where a position is answered twice or not at all.
pub(crate) async fn outcomes(mut ticket: FrameTicket, count: usize) -> Vec<FrameOutcome> {
    let mut all = Vec::new();
    while let Some(outcome) = next(&mut ticket).await {
        all.push(outcome);
    }
    let mut positions: Vec<usize> = all.iter().map(|o| o.position).collect();
    positions.sort_unstable();
    assert_eq!(
        positions,
        (0..count).collect::<Vec<_>>(),
        "exactly one outcome for each target"
    );
    all
}

/// Asks for samples and gives the outcomes in the order in which they came.
pub(crate) async fn ask(
    engine: &Engine,
    video: &Arc<Video>,
    samples: &[DecodeIndex],
) -> Vec<FrameOutcome> {
    outcomes(request(engine, video, samples), samples.len()).await
}

/// The number burnt into an outcome's picture.
pub(crate) fn number(outcome: &FrameOutcome) -> u32 {
    let image = outcome.result.as_ref().unwrap_or_else(|e| {
        panic!("position {}: {:?}: {e}", outcome.position, e.code);
    });
    jpeg::frame_number(&image.bytes).unwrap()
}

/// Holds outcomes against the samples that were asked for: each picture shows the number of its
/// place in presentation order (the clips count from 0).
pub(crate) fn check_numbers(video: &Video, samples: &[DecodeIndex], outcomes: &[FrameOutcome]) {
    for outcome in outcomes {
        let sample = samples[outcome.position];
        let shown = video.index().presentation_index(sample).unwrap().0;
        assert_eq!(number(outcome), shown, "{sample}");
    }
}

/// The graph of a whole video, from its file's bytes.
pub(crate) fn graph(video: &Video, file: &[u8]) -> ReferenceGraph {
    let index = video.index();
    let samples = (0..index.sample_count()).map(|i| {
        let sample = index.sample(DecodeIndex(i)).unwrap();
        let range = sample.range();
        (sample, &file[range.start as usize..range.end as usize])
    });
    ReferenceGraph::of_samples(index, samples)
}

/// The closures of the samples, one by one.
pub(crate) fn closures(
    video: &Video,
    file: &[u8],
    samples: &[DecodeIndex],
) -> Vec<BTreeSet<DecodeIndex>> {
    let graph = graph(video, file);
    let closures = Closures::new(&graph, Depth::Active);
    samples
        .iter()
        .map(|&s| closures.of(s).unwrap().into_iter().collect())
        .collect()
}

/// All samples that these closures hold together.
pub(crate) fn union(closures: &[BTreeSet<DecodeIndex>]) -> BTreeSet<DecodeIndex> {
    closures.iter().flatten().copied().collect()
}

/// One GOP of 250 pictures under a B-pyramid: what x265 makes by default.
pub(crate) fn gop_of_250() -> Vec<u8> {
    let recipe = Recipe::new("gop_of_250")
        .frames(250)
        .x265("keyint=250:scenecut=0");
    fs::read(footage::make(&recipe).unwrap().path).unwrap()
}

/// Sixty-four GOPs of one picture each, which takes some milliseconds.
pub(crate) fn many_iraps() -> Vec<u8> {
    let recipe = Recipe::new("many_iraps")
        .size(1280, 720)
        .frames(64)
        .preset("ultrafast")
        .x265("keyint=1");
    fs::read(footage::make(&recipe).unwrap().path).unwrap()
}

/// Asks as this client and gives the outcomes in the order in which they came.
pub(crate) async fn ask_as(
    client: &Client,
    video: &Arc<Video>,
    samples: &[DecodeIndex],
) -> Vec<FrameOutcome> {
    outcomes(request_of(client, video, samples), samples.len()).await
}

/// The ticket's next event, if it is there already.
pub(crate) fn ready(ticket: &mut FrameTicket) -> Option<FrameEvent> {
    ticket.next().now_or_never().flatten()
}

/// Which of these pictures are in the cache, by their places. What is not is not waited for.
pub(crate) async fn cached(
    client: &Client,
    video: &Arc<Video>,
    samples: &[DecodeIndex],
) -> Vec<usize> {
    // What is in memory is answered before the request returns.
    let mut ticket = request_of(client, video, samples);
    ticket.cancel_all();
    let got = outcomes(ticket, samples.len()).await;
    let (there, missing): (Vec<_>, Vec<_>) = got.into_iter().partition(|o| o.result.is_ok());
    for outcome in missing {
        assert_eq!(outcome.result.unwrap_err().code, FrameErrorCode::Cancelled);
    }
    check_numbers(video, samples, &there);
    let mut there: Vec<usize> = there.iter().map(|o| o.position).collect();
    there.sort_unstable();
    there
}

/// Bytes of some samples.
pub(crate) fn bytes_of(video: &Video, samples: impl IntoIterator<Item = u32>) -> u64 {
    let size = |i| u64::from(video.index().sample(DecodeIndex(i)).unwrap().size);
    samples.into_iter().map(size).sum()
}

/// The image of every sample, made by a decoder that was emptied before it.
pub(crate) async fn fresh_images(place: &Place, name: &str, samples: &[DecodeIndex]) -> Vec<Bytes> {
    place.add("smallest");
    let engine = place.engine(|c| c.workers = 1).await;
    let (video, other) = (
        engine.open(name).await.unwrap(),
        engine.open("smallest").await.unwrap(),
    );
    let mut images = Vec::new();
    for &sample in samples {
        // The only decoder that may stand is taken for something else.
        ask(&engine, &other, &[DecodeIndex(0)]).await;
        let mut got = ask(&engine, &video, &[sample]).await;
        check_numbers(&video, &[sample], &got);
        images.push(got.remove(0).result.unwrap().bytes);
    }
    assert_eq!(engine.counters().passes_continued, 0);
    images
}
