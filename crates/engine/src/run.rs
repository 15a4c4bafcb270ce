//! Compressed samples of one GOP, and what is known of them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use media::graph::ReferenceGraph;
use media::{DecodeIndex, Planner, Sample, VideoIndex};

/// Consecutive samples and their bytes.
#[derive(Debug)]
pub(crate) struct Run {
    samples: Vec<Sample>,
    data: Vec<Bytes>,
    bytes: u64,
    planner: OnceLock<Planner>,
    damage: Mutex<Damage>,
    /// How many of its bytes are in the cache on disk.
    kept_on_disk: AtomicU64,
}

/// What decoders refused of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Damage {
    /// Damage was met: from now on, one access unit at a time, so that it is known which fails.
    pub(crate) careful: bool,
    /// Samples that a decoder refused.
    pub(crate) broken: BTreeSet<DecodeIndex>,
}

impl Run {
    pub(crate) fn new(samples: Vec<Sample>, data: Vec<Bytes>) -> Self {
        let bytes = data.iter().map(|d| d.len() as u64).sum();
        Self {
            samples,
            data,
            bytes,
            planner: OnceLock::new(),
            damage: Mutex::default(),
            kept_on_disk: AtomicU64::new(0),
        }
    }

    /// This run and the samples behind it.
    pub(crate) fn extended(&self, samples: Vec<Sample>, data: Vec<Bytes>) -> Self {
        let run = Self::new(
            self.samples.iter().copied().chain(samples).collect(),
            self.data.iter().cloned().chain(data).collect(),
        );
        *run.damage() = self.damage().clone();
        let kept = self.kept_on_disk.load(Ordering::Relaxed);
        run.kept_on_disk.store(kept, Ordering::Relaxed);
        run
    }

    /// All of it is in the cache on disk.
    pub(crate) fn is_kept_on_disk(&self) {
        self.kept_on_disk.store(self.bytes, Ordering::Relaxed);
    }

    /// Whether it is time to put it into the cache on disk, which is then done. A run that grows
    /// sample by sample is put there when it has doubled, and when nothing will be put behind it:
    /// not once for each sample.
    pub(crate) fn goes_to_disk(&self, whole: bool) -> bool {
        let goes = whole || self.bytes / 2 >= self.kept_on_disk.load(Ordering::Relaxed);
        if goes {
            self.is_kept_on_disk();
        }
        goes
    }

    /// The sample behind the last, in decode order; 0 for an empty run.
    pub(crate) fn end(&self) -> u32 {
        self.samples
            .last()
            .map_or(0, |s| s.index.0.saturating_add(1))
    }

    /// Compressed bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The samples' bytes, in decode order.
    pub(crate) fn data(&self) -> &[Bytes] {
        &self.data
    }

    pub(crate) fn get(&self, index: DecodeIndex) -> Option<(&Sample, &Bytes)> {
        let first = self.samples.first()?.index;
        let place = index.0.checked_sub(first.0)? as usize;
        Some((self.samples.get(place)?, self.data.get(place)?))
    }

    /// Bytes of some of its samples.
    pub(crate) fn bytes_of(&self, samples: &[DecodeIndex]) -> u64 {
        let size = |s: &DecodeIndex| self.get(*s).map_or(0, |(s, _)| u64::from(s.size));
        samples.iter().map(size).sum()
    }

    /// Reads the headers, once.
    pub(crate) fn planner(&self, index: &VideoIndex) -> &Planner {
        self.planner.get_or_init(|| {
            let run = self.samples.iter().zip(&self.data);
            Planner::new(ReferenceGraph::of_samples(
                index,
                run.map(|(s, d)| (*s, d.as_ref())),
            ))
        })
    }

    pub(crate) fn damage(&self) -> MutexGuard<'_, Damage> {
        // A flag and a set of numbers: whole, whatever a panicking thread was doing.
        self.damage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn a_run_that_grows_is_written_a_few_times_only() {
        let sample = |n: u32| Sample {
            index: DecodeIndex(n),
            offset: u64::from(n) * 100,
            size: 100,
            sync: n == 0,
            description: 0,
            dts: i64::from(n),
            composition_offset: 0,
        };
        let data = || vec![Bytes::from_static(&[0; 100])];
        let mut run = Run::new(vec![sample(0)], data());
        let (mut written, mut times) = (0, 0);
        for n in 1..=250 {
            if run.goes_to_disk(n == 250) {
                (written, times) = (written + run.bytes(), times + 1);
            }
            assert!(run.bytes() < 2 * run.kept_on_disk.load(Ordering::Relaxed) + 100);
            if n < 250 {
                run = run.extended(vec![sample(n)], data());
            }
        }
        assert_eq!(run.bytes(), 25_000);
        assert!(
            times <= 9 && written < 3 * run.bytes(),
            "{times}: {written}"
        );
        // As it was read from there.
        let kept = Run::new(vec![sample(0)], data());
        kept.is_kept_on_disk();
        assert!(!kept.goes_to_disk(false) && kept.goes_to_disk(true));
    }
}
