//! What was done: for the whole engine, and for each client.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::cache::DiskCacheCounters;
use crate::histogram::{Histogram, HistogramReading};

/// Adds to a figure.
pub(crate) fn add(cell: &AtomicU64, amount: u64) {
    cell.fetch_add(amount, Ordering::Relaxed);
}

/// How often a stage ran, and how long altogether.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StageStats {
    /// Times that it ran.
    pub count: u64,
    /// Nanoseconds that it took, summed up.
    pub nanos: u64,
}

#[derive(Debug, Default)]
pub(crate) struct StageCell {
    count: AtomicU64,
    nanos: AtomicU64,
}

impl StageCell {
    pub(crate) fn add(&self, nanos: u64) {
        add(&self.count, 1);
        add(&self.nanos, nanos);
    }

    fn read(&self) -> StageStats {
        StageStats {
            count: self.count.load(Ordering::Relaxed),
            nanos: self.nanos.load(Ordering::Relaxed),
        }
    }
}

/// A stage of the whole engine: how the durations are spread, too.
impl From<HistogramReading> for StageStats {
    fn from(reading: HistogramReading) -> Self {
        Self {
            count: reading.count(),
            nanos: reading.nanos,
        }
    }
}

macro_rules! stages {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The stages of a frame's way.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Stages { $($(#[$doc])* pub $name: StageStats),* }

        #[derive(Debug, Default)]
        pub(crate) struct StageCells { $(pub(crate) $name: StageCell),* }

        impl StageCells {
            fn read(&self) -> Stages {
                Stages { $($name: self.$name.read()),* }
            }
        }

        /// How the durations of the stages are spread.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct StageHistograms { $($(#[$doc])* pub $name: HistogramReading),* }

        impl StageHistograms {
            /// Each with its name.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, HistogramReading)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }

        #[derive(Debug, Default)]
        pub(crate) struct StageSpreads { $(pub(crate) $name: Histogram),* }

        impl StageSpreads {
            fn read(&self) -> Stages {
                Stages { $($name: self.$name.read().into()),* }
            }

            pub(crate) fn histograms(&self) -> StageHistograms {
                StageHistograms { $($name: self.$name.read()),* }
            }
        }
    };
}

stages!(
    /// From the wish to the beginning of its pass.
    queue,
    /// Reading compressed bytes.
    fetch,
    /// Reading headers, and deciding what to decode.
    plan,
    /// libavcodec.
    decode,
    /// From decoded planes to those of the image.
    convert,
    /// JPEG compression.
    encode,
);

macro_rules! figures {
    ($(#[$doc_plain:meta])* $plain:ident, $live:ident, $stages:ty, $($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $(#[$doc_plain])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct $plain {
            $($(#[$doc])* pub $name: u64,)*
            /// How long the stages took.
            pub stages: Stages,
        }

        #[derive(Debug, Default)]
        pub(crate) struct $live {
            $(pub(crate) $name: AtomicU64,)*
            pub(crate) stages: $stages,
        }

        impl $live {
            pub(crate) fn read(&self) -> $plain {
                $plain {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    stages: self.stages.read(),
                }
            }
        }
    };
}

figures!(
    /// A reading of one client's figures, since it came. What clients share is counted for each
    /// of them.
    ClientStats,
    ClientCells,
    StageCells,
    /// Images answered with.
    frames,
    /// Previews shown.
    previews,
    /// Targets answered with an error, but for those cancelled.
    errors,
    /// Targets answered as cancelled.
    cancelled,
    /// Targets that had no answer when their ticket was dropped.
    dropped,
    /// Images that were in the cache.
    cache_hits,
    /// Images that were being made for somebody already.
    joined,
    /// Access units decoded in passes for this client.
    access_units_decoded,
    /// Access units that its pictures depend on, each picture taken alone.
    access_units_needed,
    /// Compressed bytes read for it.
    bytes_fetched,
    /// Compressed bytes of the access units that its pictures depend on.
    bytes_needed,
);

figures!(
    /// A reading of the engine's figures, all since its start.
    EngineCounters,
    Counters,
    StageSpreads,
    /// Access units given to a decoder.
    access_units_decoded,
    /// Access units that the images made depend on, each image taken alone.
    access_units_needed,
    /// Of those decoded: in passes that served nobody's request.
    access_units_harvested,
    /// Compressed bytes read.
    bytes_fetched,
    /// Passes.
    passes,
    /// Passes that went on with a decoder that stood in the GOP.
    passes_continued,
    /// Passes that ended early, for something more urgent or because nobody took their images.
    passes_yielded,
    /// Passes that decoded everything from the IRAP, since the headers did not say what depends
    /// on what.
    fallback_passes,
    /// Passes that met damage, so that what does not depend on it was planned and decoded anew.
    repeated_passes,
    /// Images encoded.
    images_encoded,
    /// Of these: for nobody's request.
    images_harvested,
    /// Images found in the cache.
    cache_hits,
    /// Of these: on disk.
    disk_hits,
    /// Images that were in no cache when they were asked for.
    cache_misses,
    /// Compressed samples of a GOP found in memory.
    run_hits,
    /// Not found there.
    run_misses,
    /// Found on disk, of those that were not in memory.
    run_disk_hits,
    /// Not found there either; 0 without a cache on disk.
    run_disk_misses,
    /// Indexes of videos found in memory.
    index_hits,
    /// Not found there.
    index_misses,
    /// Found on disk, of those that were looked for there.
    index_disk_hits,
    /// Not found there; 0 without a cache on disk.
    index_disk_misses,
    /// Targets that joined an image in the making.
    joined,
    /// Targets that joined a running pass on its way.
    joined_passes,
    /// Decoders opened.
    decoders_opened,
    /// Processes that were lost while they decoded: crashed, hung, or ended by somebody.
    workers_lost,
    /// Videos that were found to end processes again and again.
    suspects,
    /// Targets that had no answer yet when their ticket was dropped or cancelled.
    targets_cancelled,
);

/// How the engine stands at this moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EngineState {
    /// Worker threads.
    pub workers: u64,
    /// Of these, those that decode or encode.
    pub workers_busy: u64,
    /// Bytes that the cache in memory holds.
    pub memory_bytes: u64,
    /// Bytes that it may hold.
    pub memory_budget: u64,
    /// Bytes of images that wait for being taken by their clients.
    pub waiting_bytes: u64,
    /// The cache on disk, where there is one.
    pub disk: Option<DiskState>,
}

/// The cache on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiskState {
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes that they may take.
    pub budget: u64,
    /// Files.
    pub files: u64,
    /// What it has done.
    pub counters: DiskCacheCounters,
    /// Whether the folder took what was last written into it.
    pub writable: bool,
}

/// Nanoseconds since an instant.
pub(crate) fn nanos_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
