//! What a store has been asked for.

use std::sync::atomic::{AtomicU64, Ordering};

/// Totals since the store was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Reads sent to the store: of a file, or over the network, those below among them.
    pub requests: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Requests sent again, after a failure that may pass.
    pub retries: u64,
    /// Second requests, sent because the first was slow to begin.
    pub hedges: u64,
    /// Reads that joined an equal one under way, and sent nothing.
    pub joined: u64,
}

#[derive(Debug, Default)]
pub(crate) struct CounterCells {
    requests: AtomicU64,
    bytes: AtomicU64,
    retries: AtomicU64,
    hedges: AtomicU64,
    joined: AtomicU64,
}

fn add(cell: &AtomicU64, amount: u64) {
    cell.fetch_add(amount, Ordering::Relaxed);
}

impl CounterCells {
    pub(crate) fn request(&self) {
        add(&self.requests, 1);
    }

    pub(crate) fn received(&self, bytes: usize) {
        add(&self.bytes, bytes as u64);
    }

    pub(crate) fn retry(&self) {
        add(&self.retries, 1);
    }

    pub(crate) fn hedge(&self) {
        add(&self.hedges, 1);
    }

    pub(crate) fn join(&self) {
        add(&self.joined, 1);
    }

    pub(crate) fn get(&self) -> Counters {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        Counters {
            requests: read(&self.requests),
            bytes: read(&self.bytes),
            retries: read(&self.retries),
            hedges: read(&self.hedges),
            joined: read(&self.joined),
        }
    }
}
