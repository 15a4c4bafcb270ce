//! The frames of one message that have no answer yet: who answers, answers once.
//!
//! Two tasks share it. The session's executor marks what is no longer wanted; the message's
//! forwarder passes that on to the engine's ticket, and takes each frame out when it answers it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use protocol::RequestId;
use tokio::sync::Notify;

use crate::address::Place;

/// Frames of one message, by their positions in the engine's ticket.
#[derive(Debug)]
pub(crate) struct Due {
    request_id: Option<RequestId>,
    state: Mutex<State>,
    ordered: Notify,
}

/// What an answer repeats of its request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DueFrame {
    /// The client's tag.
    pub(crate) index: i64,
    /// What was asked for.
    pub(crate) place: Place,
}

/// Why a frame is no longer wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reason {
    /// By `Cancel`.
    Cancelled,
    /// By a later message with `replace`.
    Replaced,
    /// By a later `SetVideo`.
    OtherVideo,
}

impl Reason {
    /// A sentence for people.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Cancelled => "The frame was cancelled",
            Self::Replaced => "A later request replaced this one",
            Self::OtherVideo => "Another video was set",
        }
    }
}

/// What the ticket is to be told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Orders {
    /// Nothing of the message is wanted any more.
    pub(crate) all: bool,
    /// These positions are not wanted any more.
    pub(crate) positions: Vec<usize>,
}

#[derive(Debug)]
struct State {
    frames: Vec<Slot>,
    /// Frames that are due and wanted.
    wanted: usize,
    orders: Orders,
}

#[derive(Debug)]
struct Slot {
    frame: DueFrame,
    standing: Standing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Due { previewed: bool },
    Withdrawn(Reason),
    Answered,
}

impl Due {
    pub(crate) fn new(request_id: Option<RequestId>, frames: Vec<DueFrame>) -> Self {
        let slot = |frame| Slot {
            frame,
            standing: Standing::Due { previewed: false },
        };
        let state = State {
            wanted: frames.len(),
            frames: frames.into_iter().map(slot).collect(),
            orders: Orders::default(),
        };
        Self {
            request_id,
            state: Mutex::new(state),
            ordered: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is whole before anything in it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of the message.
    pub(crate) fn request_id(&self) -> Option<&RequestId> {
        self.request_id.as_ref()
    }

    /// What has this tag and is due is not wanted any more; without a tag, all that is due.
    pub(crate) fn withdraw(&self, index: Option<i64>, reason: Reason) {
        let mut state = self.lock();
        let State {
            frames,
            wanted,
            orders,
        } = &mut *state;
        let before = *wanted;
        for (position, slot) in frames.iter_mut().enumerate() {
            let meant = index.is_none_or(|index| index == slot.frame.index);
            if meant && matches!(slot.standing, Standing::Due { .. }) {
                slot.standing = Standing::Withdrawn(reason);
                *wanted -= 1;
                orders.positions.push(position);
            }
        }
        if *wanted == before {
            return;
        }
        if *wanted == 0 {
            *orders = Orders {
                all: true,
                positions: Vec::new(),
            };
        }
        self.ordered.notify_one();
    }

    /// Nothing of it is wanted any more, and only answers are missing.
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.lock().wanted == 0
    }

    /// Waits for the next orders. For one task only; loses nothing when it is dropped.
    pub(crate) async fn orders(&self) -> Orders {
        loop {
            let orders = std::mem::take(&mut self.lock().orders);
            if orders != Orders::default() {
                return orders;
            }
            self.ordered.notified().await;
        }
    }

    /// Takes a frame out to answer it, with why it is no longer wanted, if it is not. `None` if
    /// it was answered before.
    pub(crate) fn answer(&self, position: usize) -> Option<(DueFrame, Option<Reason>)> {
        let mut state = self.lock();
        let slot = state.frames.get_mut(position)?;
        let (frame, standing) = (slot.frame, slot.standing);
        slot.standing = Standing::Answered;
        match standing {
            Standing::Due { .. } => {
                state.wanted -= 1;
                Some((frame, None))
            }
            Standing::Withdrawn(reason) => Some((frame, Some(reason))),
            Standing::Answered => None,
        }
    }

    /// A frame for which something may be shown meanwhile: once, and only as long as it is due.
    pub(crate) fn preview(&self, position: usize) -> Option<DueFrame> {
        let mut state = self.lock();
        let slot = state.frames.get_mut(position)?;
        match &mut slot.standing {
            Standing::Due { previewed } if !*previewed => {
                *previewed = true;
                Some(slot.frame)
            }
            _ => None,
        }
    }

    /// Positions that have no answer yet.
    pub(crate) fn unanswered(&self) -> Vec<usize> {
        let state = self.lock();
        let frames = state.frames.iter().enumerate();
        let left = frames.filter(|(_, slot)| slot.standing != Standing::Answered);
        left.map(|(position, _)| position).collect()
    }
}
