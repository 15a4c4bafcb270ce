//! Reads the bytes that orders lack, in the order that the schedule says.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use media::{DecodeIndex, Sample};
use tracing::Instrument;

use crate::core::Core;
use crate::error::{FrameError, FrameErrorCode};
use crate::run::Run;
use crate::schedule::{Fetch, FetchLimits, GopKey};
use crate::stats::{add, nanos_since};
use crate::video::Video;

/// Begins all reads that may run now.
pub(crate) fn pump(core: &Arc<Core>) {
    let limits = FetchLimits {
        // One more than there are workers, so that bytes arrive while these decode.
        concurrent: core.config.workers.saturating_add(2),
        bytes: core.config.max_bytes_in_flight,
    };
    loop {
        let mut state = core.lock();
        let Some(fetch) = state.schedule.next_fetch(limits, size) else {
            return;
        };
        // What is in memory is there at once, while the schedule is held: else somebody who pumps
        // beside could make something less urgent runnable before it.
        let run = core.caches.run(&fetch.gop);
        if let Some(run) = run.filter(|run| run.end() >= fetch.to) {
            let (end, bytes) = (run.end(), run.bytes());
            state.schedule.fetched(&fetch.gop, run, end, bytes);
            drop(state);
            core.wake.notify_all();
            continue;
        }
        drop(state);
        let guard = Guard {
            core: Arc::clone(core),
            gop: Some(fetch.gop.clone()),
        };
        let span = tracing::debug_span!("fetch", start = fetch.gop.start, to = fetch.to);
        core.runtime
            .spawn(fetch_one(Arc::clone(core), fetch, guard).instrument(span));
    }
}

/// Bytes of the samples from one up to another.
fn size(video: &Arc<Video>, from: u32, to: u32) -> u64 {
    (from..to)
        .map_while(|i| video.index().sample(DecodeIndex(i)))
        .fold(0, |sum, sample| sum.saturating_add(u64::from(sample.size)))
}

fn deliver(core: &Arc<Core>, gop: &GopKey, run: Arc<Run>) {
    let (end, bytes) = (run.end(), run.bytes());
    core.lock().schedule.fetched(gop, run, end, bytes);
    core.wake.notify_all();
}

/// A read that ends without a result, as when the runtime ends, must not leave anybody waiting.
struct Guard {
    core: Arc<Core>,
    gop: Option<GopKey>,
}

impl Guard {
    fn fail(&mut self, error: &FrameError) {
        let Some(gop) = self.gop.take() else { return };
        let waiters = self.core.lock().schedule.fetch_failed(&gop);
        for waiter in waiters {
            self.core.answer(&waiter, Err(error.clone()));
        }
        // What idle workers waited for may have been this.
        self.core.wake.notify_all();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.fail(&FrameError::new(
            FrameErrorCode::Cancelled,
            "the server is stopping",
        ));
    }
}

async fn fetch_one(core: Arc<Core>, fetch: Fetch<Arc<Video>>, mut guard: Guard) {
    match read_in_time(&core, &fetch).await {
        Ok(run) => {
            guard.gop = None;
            deliver(&core, &fetch.gop, run);
        }
        Err(error) => guard.fail(&error),
    }
    pump(&core);
}

/// Reads within the time that the store gives a read; waiting for others who read the same counts.
pub(crate) async fn read_in_time(
    core: &Arc<Core>,
    fetch: &Fetch<Arc<Video>>,
) -> Result<Arc<Run>, FrameError> {
    let video = &fetch.video;
    // What one read has shown, no other one need ask for.
    if video.is_changed() {
        return Err(FrameError::video_changed(video.name()));
    }
    let time = video.object().timeout();
    match tokio::time::timeout(time, read(core, fetch)).await {
        Ok(Err(error)) if error.code == FrameErrorCode::VideoChanged => {
            video.set_changed();
            core.caches.forget_video(video);
            tracing::info!(
                name = video.name(),
                "a video was replaced while it was open"
            );
            Err(FrameError::video_changed(video.name()))
        }
        Ok(read) => read,
        Err(_) => {
            let name = video.name();
            let why = format!(
                "{name}: the store did not deliver within {} s",
                time.as_secs_f64()
            );
            Err(FrameError::new(FrameErrorCode::StorageFailed, why))
        }
    }
}

async fn read(core: &Arc<Core>, fetch: &Fetch<Arc<Video>>) -> Result<Arc<Run>, FrameError> {
    let key = &fetch.gop;
    // What is being read ahead is not read again beside it.
    let turn = core.reading.hold(key);
    let _turn = turn.lock().await;
    let held = core.lock().schedule.run_of(key);
    let cached = core.caches.run(key);
    // The longer one: what was read ahead is in the cache only.
    let mut base = held.into_iter().chain(cached).max_by_key(|run| run.end());
    if base.is_none() && core.caches.has_disk() {
        base = core.caches.run_on_disk(key, &fetch.video).await;
    }
    let from = base.as_ref().map_or(key.start, |run| run.end());
    if let Some(run) = base.as_ref()
        && from >= fetch.to
    {
        return Ok(Arc::clone(run));
    }
    let index = fetch.video.index();
    let samples: Vec<Sample> = (from..fetch.to)
        .filter_map(|i| index.sample(DecodeIndex(i)))
        .collect();
    let ranges: Vec<Range<u64>> = samples.iter().map(Sample::range).collect();
    let began = Instant::now();
    let data = fetch
        .video
        .object()
        .read_ranges(&ranges)
        .await
        .map_err(|e| FrameError::from(&e))?;
    let nanos = nanos_since(began);
    let bytes: u64 = data.iter().map(|d| d.len() as u64).sum();
    add(&core.counters.bytes_fetched, bytes);
    core.counters.stages.fetch.add(nanos);
    for sink in core.lock().schedule.sinks_in(key).into_iter().flatten() {
        add(&sink.cells().bytes_fetched, bytes);
        sink.cells().stages.fetch.add(nanos);
    }
    let run = Arc::new(match base {
        Some(base) => base.extended(samples, data),
        None => Run::new(samples, data),
    });
    let index = fetch.video.index();
    let end = index.sync_after(DecodeIndex(key.start));
    let whole = run.end() >= end.map_or(index.sample_count(), |s| s.0);
    core.caches.keep_run(key, &run, whole);
    Ok(run)
}

/// Reads the samples of a GOP up to `to` into the cache, for when they are wanted. The harvester
/// is told when it has ended.
pub(crate) fn prefetch(core: &Arc<Core>, video: Arc<Video>, gop: GopKey, to: u32) {
    /// However it ends.
    struct Ending(Arc<Core>);
    impl Drop for Ending {
        fn drop(&mut self) {
            self.0.lock().harvester.has_read_ahead();
            self.0.wake.notify_all();
        }
    }
    let fetch = Fetch {
        from: gop.start,
        gop,
        video,
        to,
        harvest: true,
    };
    let ending = Ending(Arc::clone(core));
    core.runtime.spawn(async move {
        // Who needs them will read them again, and be told what is wrong.
        if let Err(error) = read_in_time(&ending.0, &fetch).await {
            tracing::debug!(%error, "not read ahead");
        }
    });
}
