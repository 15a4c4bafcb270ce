//! Starts workers, and keeps those that have nothing to do.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::decoder::IsolatedDecoder;
use super::process::Process;
use crate::{CodecError, Threading};

/// How workers are started.
#[derive(Clone, Debug)]
pub struct LauncherConfig {
    /// The program, which calls [`crate::decode_worker`] and nothing else when it is started so.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables of its environment, which is empty otherwise.
    pub environment: Vec<(OsString, OsString)>,
    /// A worker that does not answer for so long is ended.
    pub timeout: Duration,
    /// The largest picture that is decoded, in luma samples. The memory that a worker may have
    /// follows from it.
    pub max_pixels: u64,
    /// Workers without work that are kept.
    pub idle: usize,
}

const PAGE: u64 = 64 << 10;

impl LauncherConfig {
    /// Bytes for access units, and for pictures. They are addresses; memory is taken for what is
    /// written to.
    pub(super) fn shared_bytes(&self) -> (u64, u64) {
        /// Twice as much as is read of a GOP at the most, and the parameter sets before it.
        const INPUT: u64 = 2 * (288 << 20);
        /// Pictures of the largest size: as many as a decoder may refer to (16, H.265 A.4.2), those
        /// that its threads are at work on, and some that are looked at.
        const PICTURES: u64 = 32;
        /// 4:2:0 of more than 8 bits.
        const SAMPLE_BYTES: u64 = 3;
        const LEAST: u64 = 1 << 30;
        let pictures = self.max_pixels.saturating_mul(PICTURES * SAMPLE_BYTES);
        let pictures = pictures.clamp(LEAST, 1 << 40).next_multiple_of(PAGE);
        (INPUT, pictures)
    }

    /// Bytes that a worker may take for itself: libavcodec keeps about one for each luma sample of
    /// each picture that it may refer to (motion), and buffers for the access unit.
    pub(super) fn own_bytes(&self) -> u64 {
        const BASE: u64 = 768 << 20;
        BASE.saturating_add(self.max_pixels.saturating_mul(24))
    }
}

/// How far a worker has given up what it does not need.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Debug, Default)]
pub struct Confinement {
    /// Calls of the system other than those that decoding needs are refused (seccomp).
    pub calls: bool,
    /// Files, network and signals are out of reach (Landlock), even if such calls were possible.
    pub files: bool,
}

/// What becomes of a worker that was started.
type Start = Box<dyn FnOnce(io::Result<Process>) + Send>;

/// Starts workers.
///
/// All are started by one thread, which lives as long as this: Linux ends a worker when the thread is
/// gone that started it, and that is how one at work ends with its server, however that ends.
pub struct Launcher {
    config: LauncherConfig,
    starts: Sender<Start>,
    idle: Mutex<VecDeque<Process>>,
    confinement: Confinement,
    started: AtomicU64,
    lost: AtomicU64,
}

impl Launcher {
    /// Starts a first worker, by which it is known that it can be done here; the others that may rest
    /// are started when this has returned, so that they are there when they are wanted.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn new(config: LauncherConfig) -> io::Result<Arc<Self>> {
        let (starts, asked) = channel::<Start>();
        let how = config.clone();
        let start = move || {
            for then in asked {
                then(Process::start(&how));
            }
        };
        std::thread::Builder::new()
            .name("launch".into())
            .spawn(start)?;
        let first = start_one(&starts)?;
        let confinement = first.confinement;
        if !confinement.calls {
            return Err(io::Error::other("a worker could not confine itself"));
        }
        let launcher = Arc::new(Self {
            config,
            starts,
            idle: Mutex::new(VecDeque::from([first])),
            confinement,
            started: AtomicU64::new(1),
            lost: AtomicU64::new(0),
        });
        for _ in 1..launcher.config.idle {
            let rest = Arc::downgrade(&launcher);
            launcher
                .starts
                .send(Box::new(move |started| {
                    // Where one cannot be had, who wants it is told.
                    if let (Some(launcher), Ok(process)) = (rest.upgrade(), started) {
                        launcher.started.fetch_add(1, Ordering::Relaxed);
                        launcher.put(process);
                    }
                }))
                .ok();
        }
        Ok(launcher)
    }

    /// How far workers are confined.
    pub fn confinement(&self) -> Confinement {
        self.confinement
    }

    /// Workers that were started, and those of them that crashed, hung or were ended by somebody.
    pub fn counts(&self) -> (u64, u64) {
        let count = |c: &AtomicU64| c.load(Ordering::Relaxed);
        (count(&self.started), count(&self.lost))
    }

    /// A decoder in a worker of its own.
    ///
    /// # Errors
    /// [`CodecError::DecoderUnavailable`]: no worker can be started.
    pub fn open(self: &Arc<Self>, threading: Threading) -> Result<IsolatedDecoder, CodecError> {
        IsolatedDecoder::new(Arc::clone(self), threading, self.config.max_pixels)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Process>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker that has nothing to do, one that had this kind of decoder last if there is one.
    pub(super) fn idle(&self, kind: (Threading, u64)) -> Option<Process> {
        let mut all = self.lock();
        let same = all.iter().position(|p| p.kind == Some(kind));
        match same {
            Some(at) => all.remove(at),
            None => all.pop_front(),
        }
    }

    /// A new worker.
    pub(super) fn start(&self) -> Result<Process, CodecError> {
        self.started.fetch_add(1, Ordering::Relaxed);
        // One may be ended by chance before it is there.
        let again = |_| start_one(&self.starts);
        start_one(&self.starts)
            .or_else(again)
            .map_err(|e| CodecError::DecoderUnavailable {
                reason: format!("no process for it can be started: {e}"),
            })
    }

    /// Takes back a worker that has nothing to do any more.
    pub(super) fn put(&self, process: Process) {
        let mut all = self.lock();
        all.push_back(process);
        let surplus = if all.len() > self.config.idle {
            all.pop_front()
        } else {
            None
        };
        // Ending it takes a while.
        drop(all);
        drop(surplus);
    }

    pub(super) fn count_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }
}

fn start_one(starts: &Sender<Start>) -> io::Result<Process> {
    let gone = || io::Error::other("the thread that starts workers is gone");
    let (reply, started) = sync_channel(1);
    let tell = move |process| {
        // Nobody waits any more: it ends.
        reply.send(process).ok();
    };
    starts.send(Box::new(tell)).map_err(|_| gone())?;
    started.recv().map_err(|_| gone())?
}

impl std::fmt::Debug for Launcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Launcher")
            .field("config", &self.config)
            .field("idle", &self.lock().len())
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}
