//! What the engine has done so far.

use std::sync::atomic::{AtomicU64, Ordering};

/// A reading of the engine's counters, all since its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EngineCounters {
    /// Access units given to a decoder.
    pub access_units_decoded: u64,
    /// Access units between IRAP and target that closures left out.
    pub access_units_skipped: u64,
    /// Passes.
    pub passes: u64,
    /// Passes that decoded everything from the IRAP, since the headers did not say what depends
    /// on what.
    pub fallback_passes: u64,
    /// Passes that met damage, so that what does not depend on it was planned and decoded anew.
    pub repeated_passes: u64,
    /// Passes that were put aside because nobody took their images.
    pub passes_put_aside: u64,
    /// Passes put aside that were given up, to be begun anew when there is room: too much was put
    /// aside already.
    pub passes_given_up: u64,
    /// Images encoded.
    pub images_encoded: u64,
    /// Decoders opened.
    pub decoders_opened: u64,
    /// Targets that had no answer yet when their ticket was dropped.
    pub targets_cancelled: u64,
}

macro_rules! live {
    ($($field:ident),*) => {
        #[derive(Debug, Default)]
        pub(crate) struct LiveCounters { $(pub(crate) $field: AtomicU64),* }

        impl LiveCounters {
            pub(crate) fn read(&self) -> EngineCounters {
                EngineCounters { $($field: self.$field.load(Ordering::Relaxed)),* }
            }
        }
    };
}

live!(
    access_units_decoded,
    access_units_skipped,
    passes,
    fallback_passes,
    repeated_passes,
    passes_put_aside,
    passes_given_up,
    images_encoded,
    decoders_opened,
    targets_cancelled
);

pub(crate) fn add(counter: &AtomicU64, amount: usize) {
    counter.fetch_add(amount as u64, Ordering::Relaxed);
}
