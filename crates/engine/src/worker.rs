//! Worker threads: they encode what is decoded, decode what is wanted, and when nothing is, make
//! what is likely to be wanted next.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use codec::{CodecError, Decoder, ImageEncoder, Threading};

use crate::core::Core;
use crate::develop::{Developing, develop};
use crate::error::EngineError;
use crate::fetch::{prefetch, pump};
use crate::harvest::Asked;
use crate::pass;
use crate::run::Run;
use crate::schedule::Picked;
use crate::stats::add;
use crate::video::Video;

/// The threads; they end when it is dropped.
#[derive(Debug)]
pub(crate) struct Pool {
    core: Arc<Core>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    pub(crate) fn start(core: &Arc<Core>) -> Result<Self, EngineError> {
        let mut pool = Self {
            core: Arc::clone(core),
            threads: Vec::new(),
        };
        for number in 0..core.config.workers {
            let core = Arc::clone(core);
            let thread = std::thread::Builder::new()
                .name(format!("decode-{number}"))
                .spawn(move || serve(&core))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Threads that live, and all that there should be.
    pub(crate) fn alive(&self) -> (usize, usize) {
        let ended = self.threads.iter().filter(|t| t.is_finished()).count();
        let all = self.threads.len();
        (all.saturating_sub(ended), all)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.core.lock().stopping = true;
        self.core.wake.notify_all();
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

enum Work {
    Develop(Developing),
    Pass(Picked<Arc<Video>, Arc<Run>>),
}

fn serve(core: &Arc<Core>) {
    let mut worker = Worker::new(core);
    let mut developed = false;
    while let Some(work) = next(core, developed) {
        developed = matches!(work, Work::Develop(_));
        // A panic must not take the worker with it; what it holds may be in any state and is
        // dropped.
        core.busy.fetch_add(1, Ordering::Relaxed);
        let done = catch_unwind(AssertUnwindSafe(|| match work {
            Work::Develop(work) => develop(core, &mut worker, work),
            Work::Pass(picked) => pass::make(core, &mut worker, picked),
        }));
        core.busy.fetch_sub(1, Ordering::Relaxed);
        if done.is_err() {
            tracing::error!("a worker panicked");
            worker = Worker::new(core);
        }
    }
}

/// Waits for work. `None`: the engine stops. `developed`: the last work was to encode a picture.
fn next(core: &Arc<Core>, developed: bool) -> Option<Work> {
    let mut state = core.lock();
    if developed {
        state.developing.done();
    }
    loop {
        if state.stopping {
            return None;
        }
        if let Some(work) = state.developing.take() {
            return Some(Work::Develop(work));
        }
        if let Some(picked) = state.schedule.pick() {
            return Some(Work::Pass(picked));
        }
        let again = match state.harvest(core) {
            Asked::Nothing => None,
            Asked::Later(at) => Some(at),
            asked => {
                drop(state);
                if let Asked::Bytes(video, gop, to) = asked {
                    prefetch(core, video, gop, to);
                }
                pump(core);
                state = core.lock();
                continue;
            }
        };
        state.schedule.set_idle(true);
        state = match again {
            None => (core.wake.wait(state)).unwrap_or_else(PoisonError::into_inner),
            Some(at) => {
                let time = at.saturating_duration_since(Instant::now());
                let woken = core.wake.wait_timeout(state, time);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.schedule.set_idle(false);
    }
}

/// What one worker thread keeps between its works.
#[derive(Debug)]
pub(crate) struct Worker {
    encoder: Option<ImageEncoder>,
    /// Cores that a request has that has them alone.
    pub(crate) cores: NonZero<usize>,
    /// The access unit that is being put together.
    pub(crate) packet: Vec<u8>,
}

impl Worker {
    fn new(core: &Core) -> Self {
        Self {
            encoder: None,
            cores: NonZero::new(core.config.workers).unwrap_or(NonZero::<usize>::MIN),
            packet: Vec::new(),
        }
    }

    /// A decoder in its initial state.
    pub(crate) fn decoder(
        &mut self,
        core: &Core,
        threading: Threading,
    ) -> Result<Decoder, CodecError> {
        if let Some(decoder) = core.rest.take_empty(threading) {
            return Ok(decoder);
        }
        let decoder = core.decoders.open(threading)?;
        add(&core.counters.decoders_opened, 1);
        Ok(decoder)
    }

    pub(crate) fn encoder(&mut self) -> Result<&mut ImageEncoder, CodecError> {
        match &mut self.encoder {
            Some(encoder) => Ok(encoder),
            none => Ok(none.insert(ImageEncoder::new()?)),
        }
    }
}
