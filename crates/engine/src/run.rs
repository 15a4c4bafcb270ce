//! Compressed samples of one GOP, and what is known of them.
//!
//! A run is what was read of a GOP, in decode order: everything from its start up to some sample, or,
//! where the video's heads say what depends on what, only what some targets need. So it may have
//! gaps. What can be decoded from it is what it [serves](Run::serves).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use media::graph::ReferenceGraph;
use media::{DecodeIndex, Planner, Sample, VideoIndex, Way};

use crate::schedule::Held;

/// Samples and their bytes.
#[derive(Debug)]
pub(crate) struct Run {
    /// Ascending.
    samples: Vec<Sample>,
    data: Vec<Bytes>,
    bytes: u64,
    /// How many of them, from the first on, follow one another.
    together: usize,
    /// Targets behind these all of whose needs are there, by [`Run::planned`].
    served: BTreeSet<u32>,
    /// Made of the video's heads, for the GOP as far as anything was asked for.
    planned: Option<Arc<Planner>>,
    /// Made of the headers of the samples that follow one another.
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
    /// Samples, ascending.
    pub(crate) fn new(samples: Vec<Sample>, data: Vec<Bytes>) -> Self {
        let bytes = data.iter().map(|d| d.len() as u64).sum();
        let follows = |pair: &[Sample]| match pair {
            [a, b] => a.index.0.checked_add(1) == Some(b.index.0),
            _ => false,
        };
        let gap = samples.windows(2).position(|pair| !follows(pair));
        Self {
            together: gap.map_or(samples.len(), |at| at.saturating_add(1)),
            samples,
            data,
            bytes,
            served: BTreeSet::new(),
            planned: None,
            planner: OnceLock::new(),
            damage: Mutex::default(),
            kept_on_disk: AtomicU64::new(0),
        }
    }

    /// This run with more samples, which it does not have.
    pub(crate) fn extended(&self, samples: Vec<Sample>, data: Vec<Bytes>) -> Self {
        let old = self.samples.iter().copied().zip(self.data.iter().cloned());
        let mut all: Vec<(Sample, Bytes)> = old.chain(samples.into_iter().zip(data)).collect();
        all.sort_by_key(|(sample, _)| sample.index);
        let (samples, data) = all.into_iter().unzip();
        let run = Self::new(samples, data);
        *run.damage() = self.damage().clone();
        let kept = self.kept_on_disk.load(Ordering::Relaxed);
        run.kept_on_disk.store(kept, Ordering::Relaxed);
        run
    }

    /// Planned by this, it serves these targets.
    pub(crate) fn planned(mut self, planner: Arc<Planner>, targets: BTreeSet<u32>) -> Self {
        self.served = targets;
        self.planned = Some(planner);
        self
    }

    /// What it is planned by, and what it serves by that, where it is planned by heads.
    pub(crate) fn plan(&self) -> Option<(&Arc<Planner>, &BTreeSet<u32>)> {
        Some((self.planned.as_ref()?, &self.served))
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

    /// The sample behind those that follow one another from the first on; 0 for an empty run.
    pub(crate) fn end(&self) -> u32 {
        let last = self.together.checked_sub(1);
        let last = last.and_then(|at| self.samples.get(at));
        last.map_or(0, |s| s.index.0.saturating_add(1))
    }

    /// Compressed bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The samples, in decode order.
    pub(crate) fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The samples' bytes, in decode order.
    pub(crate) fn data(&self) -> &[Bytes] {
        &self.data
    }

    /// Samples that are held or planned with.
    pub(crate) fn units(&self) -> usize {
        let planned = self.planned.as_ref();
        let planned = planned.map_or(0, |p| p.graph().units().len());
        planned.max(self.samples.len())
    }

    /// Whether a target can be decoded from what is there, or be said not to be decodable.
    pub(crate) fn serves(&self, target: u32) -> bool {
        // Whatever the picture depends on lies before it.
        target < self.end() || self.served.contains(&target)
    }

    pub(crate) fn get(&self, index: DecodeIndex) -> Option<(&Sample, &Bytes)> {
        let place = self
            .samples
            .binary_search_by_key(&index, |s| s.index)
            .ok()?;
        Some((self.samples.get(place)?, self.data.get(place)?))
    }

    /// Bytes of some of its samples.
    pub(crate) fn bytes_of(&self, samples: &[DecodeIndex]) -> u64 {
        let size = |s: &DecodeIndex| self.get(*s).map_or(0, |(s, _)| u64::from(s.size));
        samples.iter().map(size).sum()
    }

    /// What it is planned by: headers are read, once, unless the video's heads have told already.
    pub(crate) fn planner(&self, index: &VideoIndex) -> &Planner {
        if let Some(planner) = &self.planned {
            return planner;
        }
        self.planner.get_or_init(|| {
            let run = self.samples.iter().zip(&self.data).take(self.together);
            Planner::new(ReferenceGraph::of_samples(
                index,
                run.map(|(s, d)| (*s, d.as_ref())),
            ))
        })
    }

    /// A way of `planner` over what is there.
    pub(crate) fn way(
        &self,
        planner: &Planner,
        given: &[DecodeIndex],
        targets: &[DecodeIndex],
    ) -> Way {
        if self.together == self.samples.len() && self.planned.is_none() {
            return planner.way(given, targets);
        }
        planner.way_with(given, targets, |sample| self.get(sample).is_some())
    }

    pub(crate) fn damage(&self) -> MutexGuard<'_, Damage> {
        // A flag and a set of numbers: whole, whatever a panicking thread was doing.
        self.damage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held for Arc<Run> {
    fn serves(&self, sample: u32) -> bool {
        Run::serves(self, sample)
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
