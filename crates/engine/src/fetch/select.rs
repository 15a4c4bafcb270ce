//! Which samples of a GOP some targets need, by the video's heads, and in which reads they come.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use media::heads::Heads;
use media::{DecodeIndex, Planner, Refusal, Sample, Standing, VideoIndex};

use crate::run::Run;

/// Who wants more pictures of a GOP than this needs nearly all of it.
const MOST_TARGETS: usize = 32;
/// Reads at once for one GOP.
const MOST_READS: usize = 16;
/// The shortest graph that is made; longer ones are made in powers of two, so that who goes through
/// a GOP picture by picture does not have one made for each.
const SHORTEST: u32 = 64;
/// Bytes between two samples that follow one another, of other tracks: read along.
const FOREIGN_GAP: u64 = 64 << 10;

/// Whether targets are few enough for looking at what each depends on.
pub(super) fn is_of_use(targets: &[u32]) -> bool {
    (1..=MOST_TARGETS).contains(&targets.len())
}

/// How targets are served.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) planner: Arc<Planner>,
    /// What will be served: the targets, and what the run serves already.
    pub(super) serves: BTreeSet<u32>,
    /// Samples that must be there.
    needs: BTreeSet<DecodeIndex>,
    /// Bytes that are read along between two samples.
    pub(super) gap: u64,
}

/// What targets need. `None`: the heads do not say it for sure, and everything is to be read.
pub(super) fn plan(
    index: &VideoIndex,
    heads: &Heads,
    start: u32,
    base: Option<&Run>,
    targets: &[u32],
) -> Option<Plan> {
    let last = targets.iter().copied();
    let last = last.chain(base.and_then(|b| b.samples().last()).map(|s| s.index.0));
    let end = last.max()?.checked_add(1)?;
    let (planner, mut serves) = match base.and_then(Run::plan) {
        Some((planner, serves)) if reaches(planner, end) => (Arc::clone(planner), serves.clone()),
        old => {
            let span = end
                .checked_sub(start)?
                .max(SHORTEST)
                .checked_next_power_of_two()?;
            let gop = index.sync_after(DecodeIndex(start));
            let gop = gop.map_or(index.sample_count(), |s| s.0);
            let end = start.saturating_add(span).min(gop).max(end);
            let graph = heads.graph(index, DecodeIndex(start), end);
            let planner = Arc::new(Planner::new(graph));
            (
                planner,
                old.map(|(_, serves)| serves.clone()).unwrap_or_default(),
            )
        }
    };
    let mut needs = BTreeSet::new();
    for &target in targets {
        let sample = DecodeIndex(target);
        if !Heads::knows(planner.graph(), sample) {
            return None;
        }
        match planner.standing(sample) {
            Standing::Exact => needs.extend(planner.alone(sample)?),
            Standing::Fallback => return None,
            // Its order goes to another GOP.
            Standing::Refused(Refusal::NeedsEarlierStart) => {}
            // It is refused by its own headers, as they are in the video.
            Standing::Refused(_) => {
                needs.insert(sample);
            }
        }
        serves.insert(target);
    }
    Some(Plan {
        planner,
        serves,
        needs,
        gap: 0,
    })
}

fn reaches(planner: &Planner, end: u32) -> bool {
    let graph = planner.graph();
    graph.first().0.saturating_add(graph.units().len() as u32) >= end
}

impl Plan {
    /// What is to be read, in decode order: what is needed and not there, and what lies between two
    /// such samples where it is no more than `gap` bytes, or more where that makes too many reads.
    pub(super) fn choose(
        &mut self,
        index: &VideoIndex,
        base: Option<&Run>,
        gap: u64,
    ) -> Vec<Sample> {
        let held = |i: DecodeIndex| base.is_some_and(|run| run.get(i).is_some());
        let lacking = self.needs.iter().copied().filter(|i| !held(*i));
        let lacking: Vec<Sample> = lacking.filter_map(|i| index.sample(i)).collect();
        self.gap = gap.max(least_gap(index, &lacking, held));
        // Where it is other tracks that lie between, that is not enough.
        loop {
            let chosen = with_between(index, &lacking, held, self.gap);
            if ranges(&chosen, self.gap).len() <= MOST_READS || self.gap > index.object_size() {
                return chosen;
            }
            self.gap = self.gap.max(1024).saturating_mul(2);
        }
    }
}

/// What must be read along so that no more than [`MOST_READS`] reads are left: of all that lies
/// between samples, the most bytes are left out.
fn least_gap(index: &VideoIndex, lacking: &[Sample], held: impl Fn(DecodeIndex) -> bool) -> u64 {
    let pairs = lacking.iter().zip(lacking.iter().skip(1));
    let between = pairs.map(|(a, b)| between(index, a, b, &held));
    let (gaps, closed): (Vec<_>, Vec<_>) = between.partition(Option::is_some);
    let mut gaps: Vec<u64> = gaps.into_iter().flatten().map(|g| bytes_of(&g)).collect();
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    let left = MOST_READS.saturating_sub(1).saturating_sub(closed.len());
    gaps.get(left).copied().unwrap_or(0)
}

/// The samples between two; `None` where one of them is held.
fn between(
    index: &VideoIndex,
    a: &Sample,
    b: &Sample,
    held: impl Fn(DecodeIndex) -> bool,
) -> Option<Vec<Sample>> {
    let places = a.index.0.saturating_add(1)..b.index.0;
    let sample = |i| index.sample(i).filter(|_| !held(i));
    places.map(DecodeIndex).map(sample).collect()
}

fn bytes_of(samples: &[Sample]) -> u64 {
    let sizes = samples.iter().map(|s| u64::from(s.size));
    sizes.fold(0, u64::saturating_add)
}

/// Samples, and those between them where these are few bytes and none of them is held.
fn with_between(
    index: &VideoIndex,
    lacking: &[Sample],
    held: impl Fn(DecodeIndex) -> bool,
    gap: u64,
) -> Vec<Sample> {
    let mut chosen: Vec<Sample> = Vec::with_capacity(lacking.len());
    for sample in lacking {
        if let Some(last) = chosen.last() {
            let along = between(index, last, sample, &held);
            chosen.extend(along.filter(|a| bytes_of(a) <= gap).unwrap_or_default());
        }
        chosen.push(*sample);
    }
    chosen
}

/// The reads that bring samples, which are in decode order: those that follow one another come in
/// one, with the few bytes of other tracks that lie between them.
pub(super) fn ranges(samples: &[Sample], gap: u64) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut before: Option<&Sample> = None;
    for sample in samples {
        let follows = before.is_some_and(|b| b.index.0.checked_add(1) == Some(sample.index.0));
        let most = gap.max(FOREIGN_GAP);
        let range = sample.range();
        match ranges.last_mut() {
            Some(last) if follows && range.start >= last.end && range.start - last.end <= most => {
                last.end = range.end;
            }
            _ => ranges.push(range),
        }
        before = Some(sample);
    }
    ranges
}

/// The samples' own bytes, from the reads that [`ranges`] said.
pub(super) fn divide(samples: &[Sample], ranges: &[Range<u64>], parts: &[Bytes]) -> Vec<Bytes> {
    let mut place = 0;
    let own = |sample: &Sample| {
        let wanted = sample.range();
        loop {
            let (range, part) = (ranges.get(place)?, parts.get(place)?);
            if range.start <= wanted.start && wanted.end <= range.end {
                let from = usize::try_from(wanted.start - range.start).ok()?;
                let to = usize::try_from(wanted.end - range.start).ok()?;
                return (to <= part.len()).then(|| part.slice(from..to));
            }
            place += 1;
        }
    };
    samples.iter().map_while(own).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

    use super::*;

    fn sample(index: u32, offset: u64, size: u32) -> Sample {
        Sample {
            index: DecodeIndex(index),
            offset,
            size,
            sync: index == 0,
            description: 0,
            dts: i64::from(index),
            composition_offset: 0,
        }
    }

    #[test]
    fn what_follows_comes_in_one_read_and_each_gets_its_own_bytes() {
        let samples = [
            sample(0, 100, 10),
            sample(1, 110, 5),
            // Some sound lies between.
            sample(2, 120, 5),
            // One is left out.
            sample(4, 130, 4),
            sample(5, 134, 1),
            // Somewhere else; and before.
            sample(6, 1 << 30, 7),
            sample(7, 20, 7),
        ];
        let ranges = ranges(&samples, 0);
        assert_eq!(ranges, [100..125, 130..135, 1 << 30..(1 << 30) + 7, 20..27]);
        let parts: Vec<Bytes> = ranges
            .iter()
            .map(|r| r.clone().map(|at| at as u8).collect::<Vec<u8>>().into())
            .collect();
        let data = divide(&samples, &ranges, &parts);
        assert_eq!(data.len(), samples.len());
        for (sample, data) in samples.iter().zip(data) {
            assert_eq!(data.len() as u32, sample.size);
            assert_eq!(data[0], sample.offset as u8);
        }
    }
}
