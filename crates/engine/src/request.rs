//! The engine: opening videos, and turning requests into groups of work.

use std::collections::BTreeMap;
use std::sync::Arc;

use media::sidecar::plain_start;
use media::{DecodeIndex, VideoIndex};
use storage::Store;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::catalog;
use crate::config::EngineConfig;
use crate::counters::{EngineCounters, LiveCounters};
use crate::error::{EngineError, FrameError, FrameErrorCode, OpenError};
use crate::group::{Group, run_bytes, serve_group};
use crate::ticket::{FrameTarget, FrameTicket, Outcomes};
use crate::video::Video;
use crate::worker::Pool;

/// Serves frames of the videos in one store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    store: Store,
    pub(crate) config: EngineConfig,
    pub(crate) pool: Pool,
    /// Compressed bytes that groups may hold, in KiB.
    pub(crate) bytes_in_flight: Arc<Semaphore>,
    /// What passes that are put aside may hold of it, in KiB, their decoders counted in. Less by
    /// one largest group, which therefore always gets through, whoever does not take images.
    pub(crate) put_aside: Arc<Semaphore>,
    pub(crate) counters: Arc<LiveCounters>,
}

impl Engine {
    /// Starts the worker threads.
    pub fn new(store: Store, config: EngineConfig) -> Result<Self, EngineError> {
        if !(1..=100).contains(&config.jpeg_quality) {
            return Err(EngineError::Config(
                "the JPEG quality must be between 1 and 100",
            ));
        }
        if config.workers == 0 {
            return Err(EngineError::Config("at least one worker is needed"));
        }
        if config.max_bytes_in_flight < config.max_group_bytes {
            return Err(EngineError::Config(
                "a group must fit into the bytes in flight",
            ));
        }
        if config.max_waiting_image_bytes == 0 {
            return Err(EngineError::Config("at least one image must be let wait"));
        }
        let counters = Arc::new(LiveCounters::default());
        let pool = Pool::start(&config, &counters)?;
        let semaphore = |bytes: u64| {
            let kib = usize::try_from(bytes / 1024).unwrap_or(usize::MAX);
            Arc::new(Semaphore::new(kib.min(Semaphore::MAX_PERMITS)))
        };
        // One KiB more: a group's share is rounded up.
        let bytes_in_flight = semaphore(config.max_bytes_in_flight.saturating_add(1024));
        let put_aside = semaphore(config.max_bytes_in_flight - config.max_group_bytes);
        let inner = Inner {
            store,
            config,
            pool,
            bytes_in_flight,
            put_aside,
            counters,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Opens a video: reads its index, nothing of its pictures.
    pub async fn open(&self, name: &str) -> Result<Arc<Video>, OpenError> {
        let opened = catalog::open(&self.inner.store, name).await?;
        Ok(Arc::new(Video::new(name, opened)?))
    }

    /// Asks for frames. Must be called inside a tokio runtime. Targets that share a run of
    /// samples share one decoding pass. Dropping the ticket cancels.
    pub fn request(&self, video: &Arc<Video>, targets: Vec<FrameTarget>) -> FrameTicket {
        let config = &self.inner.config;
        let most_waiting = config.max_waiting_image_bytes;
        let (mut ticket, outcomes) =
            FrameTicket::new(targets.len(), most_waiting, &self.inner.counters);
        let mut wanted: BTreeMap<DecodeIndex, Vec<usize>> = BTreeMap::new();
        for (position, target) in targets.iter().enumerate() {
            wanted.entry(target.sample).or_default().push(position);
        }
        let groups = group(video.index(), wanted, config.max_group_bytes, &outcomes);
        let inner = Arc::clone(&self.inner);
        let video = Arc::clone(video);
        let driver = tokio::spawn(async move { drive(inner, video, groups, outcomes).await });
        ticket.driven_by(driver.abort_handle());
        ticket
    }

    /// What was done since the start.
    pub fn counters(&self) -> EngineCounters {
        self.inner.counters.read()
    }

    /// The store that it serves from.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }
}

/// Puts targets together whose runs of samples, from the IRAP on, overlap, as long as the whole
/// run stays within `most_bytes`. In the order of their first positions.
fn group(
    index: &VideoIndex,
    wanted: BTreeMap<DecodeIndex, Vec<usize>>,
    most_bytes: u64,
    outcomes: &Outcomes,
) -> Vec<Group> {
    let mut by_start: BTreeMap<DecodeIndex, BTreeMap<DecodeIndex, Vec<usize>>> = BTreeMap::new();
    for (sample, positions) in wanted {
        match plain_start(index, sample) {
            Some(start) => {
                by_start.entry(start).or_default().insert(sample, positions);
            }
            None => {
                let why = "no IRAP comes before the picture: there is nothing to decode it from";
                for position in positions {
                    let error = FrameError::new(FrameErrorCode::NotDecodable, why);
                    outcomes.send(position, Err(error));
                }
            }
        }
    }
    let mut groups: Vec<Group> = Vec::new();
    // Bytes of the last group's run. With open GOPs every run overlaps with the next one: without
    // a limit, the frames of a whole video would be one group.
    let mut bytes = 0u64;
    for (start, targets) in by_start {
        let mut group = Group { start, targets };
        let end = group.end();
        if let Some(last) = groups.last_mut()
            && last.end() > start.0
        {
            let more = run_bytes(index, last.end()..end, most_bytes);
            if bytes.saturating_add(more) <= most_bytes {
                bytes = bytes.saturating_add(more);
                last.targets.append(&mut group.targets);
                continue;
            }
        }
        bytes = run_bytes(index, start.0..end, most_bytes);
        groups.push(group);
    }
    groups.sort_by_key(|g| g.targets.values().flatten().min().copied());
    groups
}

/// Serves the groups of one request, a few at a time.
async fn drive(inner: Arc<Inner>, video: Arc<Video>, groups: Vec<Group>, outcomes: Outcomes) {
    // One group more than there are workers, so that its bytes arrive while these decode.
    let at_once = inner.config.workers.saturating_add(1);
    let mut running = JoinSet::new();
    for group in groups {
        while running.len() >= at_once {
            running.join_next().await;
        }
        outcomes.shared.room().await;
        let (inner, video, outcomes) = (Arc::clone(&inner), Arc::clone(&video), outcomes.clone());
        running.spawn(serve_group(inner, video, group, outcomes));
    }
    drop(outcomes);
    while running.join_next().await.is_some() {}
}
