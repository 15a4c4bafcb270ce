//! Worker threads: each has its decoders and its JPEG encoder, and keeps them.

use std::collections::VecDeque;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use codec::{CodecError, HevcDecoder, JpegEncoder, Threading};
use tokio::sync::oneshot;

use crate::config::EngineConfig;
use crate::counters::{LiveCounters, add};
use crate::error::EngineError;
use crate::pass::{Job, JobEnd};

/// The worker threads and the queue before them.
///
/// The queue is bounded by what is let in: every job holds its compressed bytes under the
/// engine's limit of bytes in flight.
#[derive(Debug)]
pub(crate) struct Pool {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Queue {
    state: Mutex<QueueState>,
    wake: Condvar,
    /// Jobs that wait or run.
    busy: AtomicUsize,
}

#[derive(Debug, Default)]
struct QueueState {
    jobs: VecDeque<Task>,
    stopping: bool,
}

#[derive(Debug)]
struct Task {
    job: Job,
    reply: oneshot::Sender<JobEnd>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // The state is a list of jobs: whole, whatever a panicking thread was doing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if state.stopping {
                return None;
            }
            match state.jobs.pop_front() {
                Some(task) => return Some(task),
                None => {
                    state = self
                        .wake
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner)
                }
            }
        }
    }
}

impl Pool {
    pub(crate) fn start(
        config: &EngineConfig,
        counters: &Arc<LiveCounters>,
    ) -> Result<Self, EngineError> {
        let queue = Arc::new(Queue {
            state: Mutex::new(QueueState::default()),
            wake: Condvar::new(),
            busy: AtomicUsize::new(0),
        });
        let mut pool = Self {
            queue,
            threads: Vec::new(),
        };
        for number in 0..config.workers {
            let queue = Arc::clone(&pool.queue);
            let mut worker = Worker::new(config, counters);
            let thread = std::thread::Builder::new()
                .name(format!("decode-{number}"))
                .spawn(move || {
                    while let Some(Task { job, reply }) = queue.next() {
                        let alone = queue.busy.load(Ordering::Relaxed) <= 1;
                        // A panic in one job must not take the worker with it; its decoders may
                        // be in any state and are dropped.
                        let run = catch_unwind(AssertUnwindSafe(|| job.run(&mut worker, alone)));
                        queue.busy.fetch_sub(1, Ordering::Relaxed);
                        match run {
                            Ok(end) => {
                                reply.send(end).ok();
                            }
                            Err(_) => {
                                tracing::error!("a decoding job panicked");
                                worker.forget();
                            }
                        }
                    }
                })?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    pub(crate) fn submit(&self, job: Job, reply: oneshot::Sender<JobEnd>) {
        self.queue.busy.fetch_add(1, Ordering::Relaxed);
        self.queue.lock().jobs.push_back(Task { job, reply });
        self.queue.wake.notify_one();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        {
            let mut state = self.queue.lock();
            state.stopping = true;
            state.jobs.clear();
        }
        self.queue.wake.notify_all();
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

/// How a pass uses the cores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Spread {
    /// One core: others have work too, or there is nothing to spread.
    Single,
    /// Rows of one picture side by side.
    Slices,
    /// Pictures side by side.
    Frames,
}

/// What one worker thread keeps between jobs.
#[derive(Debug)]
pub(crate) struct Worker {
    /// At most one idle decoder of each kind.
    idle: Vec<(Spread, HevcDecoder)>,
    jpeg: Option<JpegEncoder>,
    threads: NonZero<usize>,
    max_pixels: u64,
    pub(crate) quality: u8,
    pub(crate) counters: Arc<LiveCounters>,
    /// The access unit that is being put together.
    pub(crate) packet: Vec<u8>,
}

impl Worker {
    fn new(config: &EngineConfig, counters: &Arc<LiveCounters>) -> Self {
        Self {
            idle: Vec::new(),
            jpeg: None,
            threads: NonZero::new(config.workers).unwrap_or(NonZero::<usize>::MIN),
            max_pixels: config.max_pixels,
            quality: config.jpeg_quality,
            counters: Arc::clone(counters),
            packet: Vec::new(),
        }
    }

    /// A decoder in its initial state.
    pub(crate) fn decoder(&mut self, spread: Spread) -> Result<HevcDecoder, CodecError> {
        if let Some(at) = self.idle.iter().position(|(s, _)| *s == spread) {
            return Ok(self.idle.swap_remove(at).1);
        }
        let threading = match spread {
            Spread::Single => Threading::Single,
            Spread::Slices => Threading::Slices(self.threads),
            Spread::Frames => Threading::Frames(self.threads),
        };
        let mut decoder = HevcDecoder::new(threading)?;
        decoder.set_max_pixels(self.max_pixels)?;
        add(&self.counters.decoders_opened, 1);
        Ok(decoder)
    }

    /// Takes a decoder back; its state is dropped.
    pub(crate) fn give_back(&mut self, spread: Spread, mut decoder: HevcDecoder) {
        decoder.flush();
        if !self.idle.iter().any(|(s, _)| *s == spread) {
            self.idle.push((spread, decoder));
        }
    }

    pub(crate) fn jpeg(&mut self) -> Result<&mut JpegEncoder, CodecError> {
        match &mut self.jpeg {
            Some(jpeg) => Ok(jpeg),
            none => Ok(none.insert(JpegEncoder::new()?)),
        }
    }

    fn forget(&mut self) {
        self.idle.clear();
        self.jpeg = None;
    }
}
