//! What a requester holds while its frames are made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use media::DecodeIndex;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use crate::counters::{LiveCounters, add};
use crate::error::{FrameError, FrameErrorCode};

/// A frame that is asked for: a sample of the opened video.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameTarget {
    /// Its place in decode order.
    pub sample: DecodeIndex,
}

/// One JPEG image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EncodedImage {
    /// The file, whole.
    pub bytes: Bytes,
}

/// The answer to one target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrameOutcome {
    /// Its place in the request.
    pub position: usize,
    /// The picture of exactly this sample, or why there is none.
    pub result: Result<EncodedImage, FrameError>,
}

impl FrameOutcome {
    fn size(&self) -> usize {
        self.result.as_ref().map_or(0, |i| i.bytes.len())
    }
}

/// What requester and workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    cancelled: AtomicBool,
    /// Encoded bytes that were made and not taken.
    waiting: AtomicUsize,
    most_waiting: usize,
    taken: Notify,
}

impl Shared {
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// More images wait than should; passes are to be put aside.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Acquire) >= self.most_waiting
    }

    /// Returns when there is room for more images.
    pub(crate) async fn room(&self) {
        loop {
            let taken = self.taken.notified();
            if !self.is_full() {
                return;
            }
            taken.await;
        }
    }
}

/// Where workers put outcomes. Never blocks: there is room for one outcome per target.
#[derive(Clone, Debug)]
pub(crate) struct Outcomes {
    pub(crate) shared: Arc<Shared>,
    sender: mpsc::Sender<FrameOutcome>,
}

impl Outcomes {
    pub(crate) fn send(&self, position: usize, result: Result<EncodedImage, FrameError>) {
        let outcome = FrameOutcome { position, result };
        self.shared
            .waiting
            .fetch_add(outcome.size(), Ordering::AcqRel);
        // Fails only when the ticket was dropped: then nobody waits.
        self.sender.try_send(outcome).ok();
    }
}

/// The frames of one request, on their way. Dropping it cancels what is not done.
#[derive(Debug)]
pub struct FrameTicket {
    shared: Arc<Shared>,
    receiver: mpsc::Receiver<FrameOutcome>,
    /// Came before its turn.
    early: BTreeMap<usize, FrameOutcome>,
    /// Which targets were answered.
    answered: Vec<bool>,
    next: usize,
    driver: Option<AbortHandle>,
    counters: Arc<LiveCounters>,
}

impl FrameTicket {
    pub(crate) fn new(
        targets: usize,
        most_waiting: usize,
        counters: &Arc<LiveCounters>,
    ) -> (Self, Outcomes) {
        let shared = Arc::new(Shared {
            cancelled: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            most_waiting,
            taken: Notify::new(),
        });
        let (sender, receiver) = mpsc::channel(targets.max(1));
        let ticket = Self {
            shared: Arc::clone(&shared),
            receiver,
            early: BTreeMap::new(),
            answered: vec![false; targets],
            next: 0,
            driver: None,
            counters: Arc::clone(counters),
        };
        (ticket, Outcomes { shared, sender })
    }

    pub(crate) fn driven_by(&mut self, driver: AbortHandle) {
        self.driver = Some(driver);
    }

    /// The next outcome; each target has exactly one. Outcomes come in the order of the request,
    /// except that when more encoded bytes wait than [`crate::EngineConfig`] allows, those that
    /// are ready come first. `None` after the last.
    pub async fn next(&mut self) -> Option<FrameOutcome> {
        loop {
            while self.answered.get(self.next).copied().unwrap_or(false) {
                self.next += 1;
            }
            if self.next >= self.answered.len() {
                return None;
            }
            let due = match self.early.remove(&self.next) {
                Some(outcome) => Some(outcome),
                None if self.shared.is_full() => self.early.pop_first().map(|(_, o)| o),
                None => None,
            };
            if let Some(outcome) = due {
                if let Some(slot) = self.answered.get_mut(outcome.position) {
                    *slot = true;
                }
                self.shared
                    .waiting
                    .fetch_sub(outcome.size(), Ordering::AcqRel);
                self.shared.taken.notify_waiters();
                return Some(outcome);
            }
            match self.receiver.recv().await {
                Some(outcome) => {
                    self.early.insert(outcome.position, outcome);
                }
                None => {
                    // Every worker has let go of it, and this target has no answer: a defect of
                    // ours or a panic in a library. The client still gets one.
                    let position = self.next;
                    let message = "the frame was lost inside the server";
                    let error = FrameError::new(FrameErrorCode::DecodeFailed, message);
                    self.early.insert(
                        position,
                        FrameOutcome {
                            position,
                            result: Err(error),
                        },
                    );
                }
            }
        }
    }
}

impl Drop for FrameTicket {
    fn drop(&mut self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
        if let Some(driver) = &self.driver {
            driver.abort();
        }
        let due = self.answered.iter().filter(|answered| !**answered).count();
        let made = self.early.len() + self.receiver.len();
        add(&self.counters.targets_cancelled, due.saturating_sub(made));
    }
}
