//! What requests, reads and workers share.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use codec::Decoders;
use media::bsidx::Facts;
use media::{DecodeIndex, VideoIndex};
use tokio::runtime::Handle;

use crate::ahead::Turns;
use crate::beside::Refused;
use crate::caches::Caches;
use crate::config::EngineConfig;
use crate::develop::Developments;
use crate::engine::Opening;
use crate::error::FrameError;
use crate::harvest::Harvester;
use crate::joint::Joint;
use crate::run::Run;
use crate::schedule::{ClientId, GopKey, Purpose, Schedule, VideoKey, Waiter};
use crate::standing::Rest;
use crate::stats::Counters;
use crate::suspects::Suspects;
use crate::ticket::{EncodedImage, Rooms, Sink};
use crate::video::Video;

/// `None`: nobody is told.
pub(crate) type Waiting = Waiter<Option<Sink>>;

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: EngineConfig,
    pub(crate) counters: Counters,
    /// Workers that decode or encode.
    pub(crate) busy: AtomicUsize,
    pub(crate) caches: Caches,
    pub(crate) decoders: Decoders,
    pub(crate) rest: Rest,
    /// Videos that have ended decoders' processes.
    pub(crate) suspects: Suspects,
    /// What waits for being taken.
    pub(crate) rooms: Arc<Rooms>,
    /// Index files that are not believed.
    pub(crate) refused: Refused,
    /// Videos that are being opened, by name.
    pub(crate) openings: Joint<String, Opening>,
    /// Who reads bytes of a GOP, so that nobody reads the same beside it.
    pub(crate) reading: Joint<GopKey, tokio::sync::Mutex<()>>,
    /// Who reads what nobody has asked for yet.
    pub(crate) ahead: Turns,
    pub(crate) runtime: Handle,
    state: Mutex<State>,
    /// There may be work for a worker.
    pub(crate) wake: Condvar,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) schedule: Schedule<Arc<Video>, Arc<Run>, Option<Sink>>,
    /// Pictures that wait for being encoded, while others decode.
    pub(crate) developing: Developments,
    pub(crate) harvester: Harvester,
    pub(crate) stopping: bool,
}

impl Core {
    pub(crate) fn new(
        config: EngineConfig,
        caches: Caches,
        decoders: Decoders,
        runtime: Handle,
    ) -> Self {
        let mut schedule = Schedule::new();
        let harvester = Harvester::new(&config, &mut schedule);
        Self {
            decoders,
            rest: Rest::new(config.workers),
            suspects: Suspects::default(),
            rooms: Arc::new(Rooms::new(config.max_waiting_bytes_in_all)),
            config,
            counters: Counters::default(),
            busy: AtomicUsize::new(0),
            caches,
            refused: Refused::default(),
            openings: Joint::default(),
            reading: Joint::default(),
            ahead: Turns::default(),
            runtime,
            state: Mutex::new(State {
                schedule,
                developing: Developments::default(),
                harvester,
                stopping: false,
            }),
            wake: Condvar::new(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it is held would be a defect of the schedule; those who come after can
        // still be told that their frames are lost.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an index that the container gave, for the next start.
    pub(crate) async fn keep_index(
        self: &Arc<Self>,
        key: &VideoKey,
        index: VideoIndex,
        facts: Facts,
    ) -> VideoIndex {
        if !self.caches.has_disk() {
            return index;
        }
        let (core, key, index) = (Arc::clone(self), Arc::clone(key), Arc::new(index));
        let shared = Arc::clone(&index);
        // A long video's takes a while: not on a thread of the network.
        let kept = tokio::task::spawn_blocking(move || {
            core.caches.keep_index(&key, &shared, &facts);
        });
        // Where it panicked, it is not kept.
        kept.await.ok();
        Arc::unwrap_or_clone(index)
    }

    /// Gives one who waits what it waited for.
    pub(crate) fn answer(&self, waiter: &Waiting, result: Result<EncodedImage, FrameError>) {
        let Some(sink) = &waiter.sink else { return };
        if waiter.purpose == Purpose::Exact {
            sink.answer(waiter.position, result);
            let mut state = self.lock();
            state
                .schedule
                .cancel_preview(waiter.ticket, waiter.position);
        }
        self.block_if_full(waiter.client, sink);
    }

    /// Shows one who waits for something else a picture near it.
    pub(crate) fn preview(&self, waiter: &Waiting, sample: DecodeIndex, image: EncodedImage) {
        let Some(sink) = &waiter.sink else { return };
        sink.preview(waiter.position, sample, image);
        self.block_if_full(waiter.client, sink);
    }

    fn block_if_full(&self, client: ClientId, sink: &Sink) {
        if sink.room().is_full() {
            let mut state = self.lock();
            // Looked at again: it may have been emptied, and that been told, before the lock.
            if sink.room().block() {
                state.schedule.set_blocked(client, true);
            }
        }
    }
}
