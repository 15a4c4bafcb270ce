//! What the schedule is told and what it says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::ticket::Output;

macro_rules! ids {
    ($($name:ident),*) => { $(
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub(crate) struct $name(pub(super) u64);
    )* };
}
ids!(ClientId, TicketId, OrderId, PassId);

/// One version of one object, as text.
pub(crate) type VideoKey = Arc<str>;

/// A run of samples that begins at a sync sample.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct GopKey {
    pub(crate) video: VideoKey,
    /// First sample, in decode order.
    pub(crate) start: u32,
}

/// One image.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ImageKey {
    pub(crate) video: VideoKey,
    /// In decode order.
    pub(crate) sample: u32,
    pub(crate) output: Output,
}

/// What a client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ClientKind {
    Session,
    /// Asks for what nobody has asked for.
    Harvest,
}

/// What a waiter gets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Purpose {
    /// A picture near the wanted one, to look at meanwhile.
    Preview,
    /// The wanted picture.
    Exact,
}

/// Somebody who waits for an order.
#[derive(Clone, Debug)]
pub(crate) struct Waiter<S> {
    pub(crate) client: ClientId,
    pub(crate) ticket: TicketId,
    pub(crate) position: usize,
    pub(crate) purpose: Purpose,
    /// Where its outcome goes.
    pub(crate) sink: S,
    /// The ticket's, among those of its client: the smaller, the sooner.
    pub(super) rank: i64,
}

/// Something that is wanted.
#[derive(Debug)]
pub(crate) struct Wish<V, S> {
    pub(crate) client: ClientId,
    pub(crate) ticket: TicketId,
    pub(crate) position: usize,
    pub(crate) purpose: Purpose,
    pub(crate) image: ImageKey,
    /// The sync sample to start from.
    pub(crate) start: u32,
    pub(crate) video: V,
    pub(crate) sink: S,
}

/// Told to a running pass: something has changed, [`super::Schedule::look`] says what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signal(Arc<AtomicBool>);

impl Signal {
    /// Whether to look; only once for each change.
    pub(crate) fn take(&self) -> bool {
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::AcqRel)
    }

    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// The same, without taking note of it.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// An order on which a pass works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Claim {
    pub(crate) order: OrderId,
    pub(crate) sample: u32,
    pub(crate) output: Output,
}

/// A pass to be made.
#[derive(Debug)]
pub(crate) struct Picked<V, R> {
    pub(crate) pass: PassId,
    pub(crate) gop: GopKey,
    pub(crate) video: V,
    pub(crate) run: R,
    /// The most urgent first.
    pub(crate) claims: Vec<Claim>,
    /// No other request wants the cores.
    pub(crate) alone: bool,
    pub(crate) signal: Signal,
}

/// What a running pass is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Orders whose pictures lie on the way; claimed for this pass now.
    pub(crate) joined: Vec<Claim>,
    /// Orders of this pass that nobody wants any more.
    pub(crate) dropped: Vec<OrderId>,
    /// The pass is to end: something is more urgent, or nothing is wanted of it.
    pub(crate) stop: bool,
}

/// What was read of a GOP.
pub(crate) trait Held {
    /// Whether a sample's picture can be made from it.
    fn serves(&self, sample: u32) -> bool;
}

/// Bytes to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetch<V> {
    pub(crate) gop: GopKey,
    pub(crate) video: V,
    /// Samples, in decode order: from, and behind the last.
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// Those whose pictures are wanted, ascending: who knows what these depend on need not read
    /// more. Empty: everything is to be read.
    pub(crate) targets: Vec<u32>,
    /// For nobody's request.
    pub(crate) harvest: bool,
}

/// Bounds of what is fetched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FetchLimits {
    /// Reads at once.
    pub(crate) concurrent: usize,
    /// Compressed bytes that GOPs hold and that are being read.
    pub(crate) bytes: u64,
}
