//! How long things took: counts in buckets, added to without a lock, and read when somebody looks.

use std::sync::atomic::{AtomicU64, Ordering};

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// Upper bounds of the buckets in nanoseconds, each about twice the one before: from a picture that
/// lies in memory to a read that is given up. What took longer is beyond the last one.
pub const BOUNDS: [u64; 18] = [
    50 * US,
    100 * US,
    250 * US,
    500 * US,
    MS,
    2_500 * US,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    SECOND,
    2_500 * MS,
    5 * SECOND,
    10 * SECOND,
    30 * SECOND,
];

/// Durations, by buckets. One addition is a search among 18 numbers and two atomic additions.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

/// A reading of a [`Histogram`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HistogramReading {
    /// How many durations fell into each bucket of [`BOUNDS`], and beyond the last one.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// Their sum in nanoseconds.
    pub nanos: u64,
}

impl Histogram {
    /// Counts a duration.
    pub fn add(&self, nanos: u64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < nanos);
        if let Some(cell) = self.buckets.get(bucket) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn read(&self) -> HistogramReading {
        HistogramReading {
            buckets: std::array::from_fn(|i| {
                let cell = self.buckets.get(i);
                cell.map_or(0, |cell| cell.load(Ordering::Relaxed))
            }),
            nanos: self.nanos.load(Ordering::Relaxed),
        }
    }
}

impl HistogramReading {
    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::default();
        let check = |nanos: u64, bucket: usize| {
            let before = histogram.read();
            histogram.add(nanos);
            let after = histogram.read();
            assert_eq!(after.buckets[bucket], before.buckets[bucket] + 1, "{nanos}");
            assert_eq!(after.count(), before.count() + 1);
            assert_eq!(after.nanos, before.nanos + nanos);
        };
        check(0, 0);
        check(50_000, 0);
        check(50_001, 1);
        check(30_000_000_000, 17);
        check(30_000_000_001, 18);
        check(u64::MAX / 2, 18);
        assert!(BOUNDS.is_sorted_by(|a, b| a < b));
    }
}
