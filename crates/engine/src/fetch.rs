//! Reads the bytes that orders lack, in the order that the schedule says.
//!
//! Without more knowledge that is everything from a GOP's start to the last target. Where the
//! video's [heads](media::heads) say what its samples depend on, it is what the targets depend on
//! ([`select`]); and what was read is held against its heads before anything is made of it.

mod select;

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
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
        let held = state.schedule.run_of(&fetch.gop);
        let run = largest(held, core.caches.run(&fetch.gop));
        if let Some(run) = run.filter(|run| is_enough(run, &fetch)) {
            let (end, bytes) = (run.end(), run.bytes());
            state.schedule.fetched(&fetch.gop, run, end, bytes);
            drop(state);
            add(&core.counters.run_hits, 1);
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

/// What is read of a GOP is always put to what there was, so that the larger run is all of it.
fn largest(held: Option<Arc<Run>>, cached: Option<Arc<Run>>) -> Option<Arc<Run>> {
    held.into_iter().chain(cached).max_by_key(|r| r.bytes())
}

/// Bytes of the samples from one up to another.
fn size(video: &Arc<Video>, from: u32, to: u32) -> u64 {
    (from..to)
        .map_while(|i| video.index().sample(DecodeIndex(i)))
        .fold(0, |sum, sample| sum.saturating_add(u64::from(sample.size)))
}

/// Whether a run serves all that a read is for.
fn is_enough(run: &Run, fetch: &Fetch<Arc<Video>>) -> bool {
    let serves_all = !fetch.targets.is_empty() && fetch.targets.iter().all(|t| run.serves(*t));
    is_believed(run, &fetch.video) && (run.end() >= fetch.to || serves_all)
}

/// Whether a run is not planned by heads that turned out to be wrong.
fn is_believed(run: &Run, video: &Video) -> bool {
    run.plan().is_none() || video.heads().is_some()
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
    // What was read ahead is in the cache only.
    let mut base = largest(held, core.caches.run(key));
    let counters = &core.counters;
    match base.as_ref().is_some_and(|run| is_enough(run, fetch)) {
        true => add(&counters.run_hits, 1),
        false => add(&counters.run_misses, 1),
    }
    if base.is_none() && core.caches.has_disk() {
        base = core.caches.run_on_disk(key, &fetch.video).await;
        match base.is_some() {
            true => add(&counters.run_disk_hits, 1),
            false => add(&counters.run_disk_misses, 1),
        }
    }
    let run = loop {
        fetch.video.settle().await?;
        // The samples are what they are, whatever they were planned by.
        base = base.map(|run| match is_believed(&run, &fetch.video) {
            true => run,
            false => Arc::new(run.extended(Vec::new(), Vec::new())),
        });
        if let Some(run) = base.as_ref().filter(|run| is_enough(run, fetch)) {
            return Ok(Arc::clone(run));
        }
        let Chosen { samples, plan } = choose(core, fetch, base.clone()).await;
        let data = read_samples(core, fetch, &samples, plan.as_ref()).await?;
        if !agree(&fetch.video, &samples, &data).await {
            // Once more, by the container's own tables.
            fetch.video.doubt(&core.refused);
            continue;
        }
        let run = match &base {
            Some(base) => base.extended(samples, data),
            None => Run::new(samples, data),
        };
        break Arc::new(match plan {
            Some(plan) => run.planned(plan.planner, plan.serves),
            None => run,
        });
    };
    let index = fetch.video.index();
    let end = index.sync_after(DecodeIndex(key.start));
    let whole = run.end() >= end.map_or(index.sample_count(), |s| s.0);
    core.caches.keep_run(key, &run, whole);
    Ok(run)
}

/// What is to be read, and how the run is planned then.
struct Chosen {
    samples: Vec<Sample>,
    /// `None`: by its own headers.
    plan: Option<select::Plan>,
}

/// What is to be read beyond what there is.
async fn choose(core: &Arc<Core>, fetch: &Fetch<Arc<Video>>, base: Option<Arc<Run>>) -> Chosen {
    let holds = |base: &Option<Arc<Run>>, i| base.as_ref().is_some_and(|r| r.get(i).is_some());
    if fetch.video.heads().is_some() && select::is_of_use(&fetch.targets) {
        let (video, targets) = (Arc::clone(&fetch.video), fetch.targets.clone());
        let (start, run, gap) = (fetch.gop.start, base.clone(), core.config.read_gap);
        let began = Instant::now();
        // Reads headers, as a worker does; but they decide what to read.
        let planned = tokio::task::spawn_blocking(move || {
            let heads = video.heads()?;
            let (index, run) = (video.index(), run.as_deref());
            let mut plan = select::plan(index, heads, start, run, &targets)?;
            let samples = plan.choose(index, run, gap);
            Some(Chosen {
                samples,
                plan: Some(plan),
            })
        });
        // Where it panicked, everything is read.
        let planned = planned.await.ok().flatten();
        core.counters.stages.plan.add(nanos_since(began));
        if let Some(chosen) = planned {
            return chosen;
        }
    }
    let index = fetch.video.index();
    let all = (fetch.gop.start..fetch.to).map(DecodeIndex);
    let lacking = all.filter(|i| !holds(&base, *i));
    Chosen {
        samples: lacking.filter_map(|i| index.sample(i)).collect(),
        plan: None,
    }
}

/// Reads samples; those who wait for the GOP are charged.
async fn read_samples(
    core: &Arc<Core>,
    fetch: &Fetch<Arc<Video>>,
    samples: &[Sample],
    plan: Option<&select::Plan>,
) -> Result<Vec<Bytes>, FrameError> {
    if samples.is_empty() {
        return Ok(Vec::new());
    }
    let began = Instant::now();
    let object = fetch.video.object();
    let read = if let Some(plan) = plan {
        // What is to be read along was chosen already: the store is to read no more than that.
        let ranges = select::ranges(samples, plan.gap);
        let reads: Vec<_> = ranges.iter().map(|r| object.read(r.clone())).collect();
        let read = futures::future::try_join_all(reads).await;
        read.map(|parts| select::divide(samples, &ranges, &parts))
    } else {
        let ranges: Vec<Range<u64>> = samples.iter().map(Sample::range).collect();
        object.read_ranges(&ranges).await
    };
    let data = read.map_err(|e| FrameError::from(&e))?;
    let nanos = nanos_since(began);
    let bytes: u64 = data.iter().map(|d| d.len() as u64).sum();
    add(&core.counters.bytes_fetched, bytes);
    core.counters.stages.fetch.add(nanos);
    for sink in core
        .lock()
        .schedule
        .sinks_in(&fetch.gop)
        .into_iter()
        .flatten()
    {
        add(&sink.cells().bytes_fetched, bytes);
        sink.cells().stages.fetch.add(nanos);
    }
    Ok(data)
}

/// Whether samples are what the video's heads say, where it has any.
async fn agree(video: &Arc<Video>, samples: &[Sample], data: &[Bytes]) -> bool {
    if video.heads().is_none() || samples.is_empty() {
        return true;
    }
    let all: Vec<(Sample, Bytes)> = samples.iter().copied().zip(data.iter().cloned()).collect();
    let video = Arc::clone(video);
    // Start codes are looked for in all bytes: not on a thread of the network.
    let agree = tokio::task::spawn_blocking(move || {
        let Some(heads) = video.heads() else {
            return false;
        };
        let index = video.index();
        all.iter()
            .all(|(sample, data)| heads.agree(index, sample, data))
    });
    // What could not be looked at is not believed.
    agree.await.unwrap_or(false)
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
        targets: Vec::new(),
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
