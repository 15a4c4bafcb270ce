//! What the log is told of a frame's way. Alone in its program: it listens to all of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use common::{Place, ask, check_numbers, frames, until};
use tracing::Subscriber;
use tracing::span::Id;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// How many spans of each name have begun and ended.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<BTreeMap<&'static str, (u64, u64)>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, _: &tracing::span::Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let name = context.span(id).unwrap().name();
        self.0.lock().unwrap().entry(name).or_default().0 += 1;
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let name = context.span(&id).unwrap().name();
        self.0.lock().unwrap().entry(name).or_default().1 += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_stage_is_a_span_of_its_counters_name() {
    let spans = Spans::default();
    let listening = tracing_subscriber::registry().with(spans.clone());
    tracing::subscriber::set_global_default(listening).unwrap();
    let place = Place::with(&["closed_gop"]);
    let engine = place.engine(|c| c.cache_bytes = 16 << 20).await;
    let video = engine.open("closed_gop").await.unwrap();
    let samples = frames(&video);
    // The second time nothing is queued: it is in the cache.
    for _ in 0..2 {
        check_numbers(
            &video,
            &samples[..3],
            &ask(&engine, &video, &samples[..3]).await,
        );
    }
    // One pass makes all three of them; it counts when it has ended.
    until(|| engine.counters().stages.decode.count == 1).await;
    let stages = engine.counters().stages;
    let named = [
        ("queue", stages.queue),
        ("fetch", stages.fetch),
        ("plan", stages.plan),
        ("decode", stages.decode),
        ("convert", stages.convert),
        ("encode", stages.encode),
    ];
    let ended = || {
        let spans = spans.0.lock().unwrap();
        named.map(|(name, _)| spans.get(name).copied().unwrap_or_default())
    };
    until(|| ended().iter().all(|(begun, ended)| begun == ended)).await;
    for ((name, stage), (begun, _)) in named.into_iter().zip(ended()) {
        assert_eq!(begun, stage.count, "{name}");
    }
    assert_eq!((stages.queue.count, stages.convert.count), (1, 3));
}
