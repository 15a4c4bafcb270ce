//! The reference graph of a stream, what its pictures depend on, and what is planned.

use std::collections::BTreeSet;

use bytes::Bytes;
use media::closure::{Depth, closure};
use media::graph::{ReferenceGraph, UnitContent};
use media::heads::{Heads, HeadsBuilder};
use media::{DecodeIndex, Planner, Sample, Standing, VideoIndex};

use crate::container::index_of;

/// Longer streams show nothing that short ones do not, and take longer than they are worth.
const MOST_SAMPLES: u32 = 64;

pub(crate) fn run(data: &[u8]) {
    let data = Bytes::copy_from_slice(data);
    let Some(index) = index_of(&data).filter(|index| index.sample_count() <= MOST_SAMPLES) else {
        return;
    };
    let samples = samples(&index, &data);
    let of_heads = heads(&index, &samples);
    // From the first sample, and from within, as GOPs are read.
    let starts = [0, 1, index.sample_count() / 2].map(DecodeIndex);
    for first in starts {
        let from = samples.iter().filter(|(sample, _)| sample.index >= first);
        let graph = ReferenceGraph::of_samples(&index, from.map(|(s, d)| (*s, &d[..])));
        let same = of_heads.graph(&index, first, index.sample_count());
        assert_eq!(graph.units().len(), same.units().len());
        for (unit, other) in graph.units().iter().zip(same.units()) {
            // Of a unit that cannot be read, what cannot may differ: heads are cut.
            if !matches!(unit.content, UnitContent::Unreadable(_)) {
                let (content, other) = (&unit.content, &other.content);
                assert_eq!(format!("{content:?}"), format!("{other:?}"));
            }
        }
        check(Planner::new(graph));
    }
}

pub(crate) fn samples(index: &VideoIndex, data: &Bytes) -> Vec<(Sample, Bytes)> {
    let all = (0..index.sample_count()).map(|at| index.sample(DecodeIndex(at)).unwrap());
    all.map(|sample| {
        let range = sample.range();
        let bytes = data.slice(range.start as usize..range.end as usize);
        (sample, bytes)
    })
    .collect()
}

pub(crate) fn heads(index: &VideoIndex, samples: &[(Sample, Bytes)]) -> Heads {
    let mut heads = HeadsBuilder::new(index);
    for (sample, data) in samples {
        heads.push(index, sample, data);
    }
    let heads = heads.finish();
    for (sample, data) in samples {
        assert!(heads.agree(index, sample, data), "{}", sample.index);
    }
    heads
}

fn ascending(samples: &[DecodeIndex]) -> bool {
    samples.is_sorted_by(|a, b| a < b)
}

pub(crate) fn check(planner: Planner) {
    let graph = planner.graph();
    let all: Vec<DecodeIndex> = (0..graph.units().len() as u32)
        .map(|unit| graph.sample_of(unit))
        .collect();
    let mut exact = BTreeSet::new();
    for &target in &all {
        let [active, rps] = [Depth::Active, Depth::Rps].map(|d| closure(graph, target, d));
        for found in [&active, &rps].into_iter().flatten() {
            assert!(ascending(found) && found.contains(&target));
            assert!(found.iter().all(|s| all.contains(s)), "beyond the graph");
        }
        if let (Some(active), Some(rps)) = (&active, &rps) {
            assert!(active.iter().all(|s| rps.contains(s)));
        }
        let standing = planner.standing(target);
        let alone = planner.alone(target);
        assert_eq!(alone.is_some(), standing == Standing::Exact, "{target}");
        if let Some(alone) = alone {
            assert!(ascending(&alone) && alone.last() == Some(&target));
            let needed = active.unwrap();
            assert!(needed.iter().all(|s| alone.contains(s)));
            exact.insert(target);
        }
        let fallback = planner.fallback(target);
        assert_eq!(fallback.is_some(), standing == Standing::Fallback);
        if let Some(fallback) = fallback {
            assert!(ascending(&fallback) && fallback.last() == Some(&target));
        }
    }
    // A decoder that goes on, asked for a few at a time in an order that is none.
    let mut given: Vec<DecodeIndex> = Vec::new();
    for step in 0..12usize {
        let targets: Vec<DecodeIndex> = (0..1 + step % 3)
            .filter_map(|n| all.get((step * 7 + n * 5) % all.len().max(1)).copied())
            .collect();
        let way = planner.way(&given, &targets);
        assert!(ascending(&way.next) && ascending(&way.reached));
        assert!(
            given
                .last()
                .is_none_or(|last| way.next.iter().all(|s| s > last))
        );
        assert!(way.reached.iter().all(|s| way.next.contains(s)));
        let answered: BTreeSet<_> = way.reached.iter().chain(&way.beyond).copied().collect();
        let asked: BTreeSet<_> = targets.into_iter().filter(|t| exact.contains(t)).collect();
        assert_eq!(answered, asked);
        for &target in &way.reached {
            let needed = closure(graph, target, Depth::Active).unwrap();
            let there = |s| given.contains(s) || way.next.contains(s);
            assert!(needed.iter().all(there), "{target} lacks what it refers to");
        }
        let preludes = planner.preludes(&given, &way.next);
        assert_eq!(preludes.len(), way.next.len());
        if way.next.is_empty() {
            given.clear();
        }
        given.extend(way.next);
    }
}
