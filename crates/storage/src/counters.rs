//! What a store has been asked for.

use std::sync::atomic::{AtomicU64, Ordering};

/// Totals since the store was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Reads sent to the store (of a file, or over the network; retries inside one not counted).
    pub requests: u64,
    /// Bytes received.
    pub bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct CounterCells {
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl CounterCells {
    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Counters {
        Counters {
            requests: self.requests.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}
