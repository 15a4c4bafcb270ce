//! From targets to decode passes: which access units a decoder is given, in which order.
//!
//! A *pass* begins with an empty decoder and an IRAP, and gives the decoder the union of its
//! targets' reference closures in decode order. Targets whose closures touch share a pass, so
//! that no access unit is decoded twice for one request.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

pub use crate::closure::{Closures, Depth, Refusal, closure};
use crate::closure::{Facts, Standing, View};
use crate::disjoint_sets::DisjointSets;
use crate::graph::{ReferenceGraph, UnitIndex};
use crate::order::DecodeIndex;
use crate::poc_anchors::{Anchor, PocCount};
use crate::prelude::ParameterSetNews;

/// What a decoder is to be given for some targets.
#[derive(Clone, Debug, Default)]
pub struct DecodePlan {
    /// In the order of their first targets.
    pub passes: Vec<DecodePass>,
    /// Targets that cannot be served from this graph.
    pub refused: Vec<(DecodeIndex, Refusal)>,
}

/// One run of a decoder from empty.
#[derive(Clone, Debug)]
pub struct DecodePass {
    /// Samples to be decoded, in decode order.
    pub samples: Vec<DecodeIndex>,
    /// Those of them that are wanted, in decode order.
    pub targets: Vec<DecodeIndex>,
    /// Everything from the IRAP on is decoded, because the graph does not say what depends on
    /// what. An error at any sample then spoils all targets from there on.
    pub fallback: bool,
    /// Every picture can be decoded row by row in parallel, exactly: it was coded with wavefronts
    /// and without sample adaptive offset. (libavcodec's rows read, for SAO, samples of their
    /// neighbours that are not always finished: now and then a picture came out a little wrong.)
    pub rows_in_parallel: bool,
    /// For each sample, the places in `samples` of what it refers to. Empty in a fallback pass.
    pub references: Vec<Vec<u32>>,
}

impl DecodePlan {
    /// Plans the decoding of `targets`, each pass from an empty decoder.
    pub fn new(graph: &ReferenceGraph, targets: &[DecodeIndex], depth: Depth) -> Self {
        let facts = Facts::new(graph, depth);
        let view = View::new(graph, &facts);
        let mut plan = Self::default();
        let mut exact = Vec::new();
        let mut fallback = BTreeSet::new();
        let mut order = BTreeMap::new();
        for (place, &target) in targets.iter().enumerate() {
            if order.contains_key(&target) {
                continue;
            }
            order.insert(target, place);
            let Some(unit) = graph.unit_of(target) else {
                plan.refused.push((target, Refusal::Outside));
                continue;
            };
            match view.standing(unit) {
                Standing::Exact => exact.push(unit),
                Standing::Fallback => {
                    fallback.insert(unit);
                }
                Standing::Refused(why) => plan.refused.push((target, why)),
            }
        }
        plan.passes.extend(view.exact_passes(&exact));
        plan.passes.extend(view.fallback_passes(&fallback));
        plan.passes
            .sort_by_key(|p| p.targets.iter().filter_map(|t| order.get(t)).min().copied());
        plan
    }

    /// Access units that are decoded.
    pub fn decoded(&self) -> usize {
        self.passes.iter().map(|p| p.samples.len()).sum()
    }
}

impl View<'_> {
    /// Groups targets whose closures touch. Each unit is visited once, however many targets
    /// depend on it.
    fn groups(&self, targets: &[UnitIndex], anchors: &BTreeSet<Anchor>) -> Vec<Group> {
        let mut sets = DisjointSets::new(self.graph.units().len());
        let mut inside = BTreeSet::new();
        for &Anchor { unit, anchored } in anchors {
            sets.join(anchored, unit);
        }
        let extra = anchors.iter().map(|a| a.unit);
        for root in targets.iter().copied().chain(extra) {
            let mut open = Vec::from([root]);
            while let Some(unit) = open.pop() {
                sets.join(root, unit);
                if inside.insert(unit) {
                    open.extend(self.needs(unit));
                }
            }
        }
        let mut groups: BTreeMap<UnitIndex, Group> = BTreeMap::new();
        for unit in inside {
            groups
                .entry(sets.find(unit))
                .or_default()
                .units
                .insert(unit);
        }
        for &target in targets {
            groups
                .entry(sets.find(target))
                .or_default()
                .targets
                .insert(target);
        }
        // An anchor that is in no target's group any more has nothing to serve.
        groups
            .into_values()
            .filter(|g| !g.targets.is_empty())
            .collect()
    }

    fn exact_passes(&self, targets: &[UnitIndex]) -> Vec<DecodePass> {
        let mut anchors = BTreeSet::new();
        let mut groups = self.groups(targets, &anchors);
        // A decoder derives each POC from the last picture it was given: where leaving pictures
        // out would change that, the picture that anchors it is decoded too.
        loop {
            let missing: Vec<Anchor> = groups
                .iter()
                .flat_map(|g| {
                    let anchors =
                        PocCount::default().missing_anchors(self.graph, &g.units, 0, |_| true);
                    anchors.unwrap_or_default()
                })
                .collect();
            if missing.is_empty() {
                break;
            }
            anchors.extend(missing);
            groups = self.groups(targets, &anchors);
        }
        groups.into_iter().map(|g| self.pass(g)).collect()
    }

    fn pass(&self, group: Group) -> DecodePass {
        let places: BTreeMap<UnitIndex, u32> = group.units.iter().copied().zip(0..).collect();
        let references = group.units.iter().map(|&u| {
            self.edges(u)
                .iter()
                .filter_map(|e| places.get(e).copied())
                .collect()
        });
        let sample = |u: &UnitIndex| self.graph.sample_of(*u);
        DecodePass {
            references: references.collect(),
            rows_in_parallel: group.units.iter().all(|&u| {
                let picture = self.graph.picture(u);
                picture.is_some_and(|p| p.wavefront && !p.sps.sample_adaptive_offset)
            }),
            samples: group.units.iter().map(sample).collect(),
            targets: group.targets.iter().map(sample).collect(),
            fallback: false,
        }
    }
}

/// Targets whose closures touch, and the union of these.
#[derive(Default)]
struct Group {
    units: BTreeSet<UnitIndex>,
    targets: BTreeSet<UnitIndex>,
}

impl View<'_> {
    /// For targets whose graph is not known: everything from the IRAP before.
    fn fallback_passes(&self, targets: &BTreeSet<UnitIndex>) -> Vec<DecodePass> {
        let graph = self.graph;
        let mut by_start: BTreeMap<UnitIndex, Vec<UnitIndex>> = BTreeMap::new();
        for &target in targets {
            // The earliest of its entry points.
            let start = self.entry_points(target).min().unwrap_or(target);
            by_start.entry(start).or_default().push(target);
        }
        // Runs that overlap are one run.
        let mut runs: Vec<(UnitIndex, UnitIndex, Vec<UnitIndex>)> = Vec::new();
        for (start, targets) in by_start {
            let end = targets.last().copied().unwrap_or(start);
            match runs.last_mut() {
                Some((_, last, all)) if *last >= start => {
                    *last = end.max(*last);
                    all.extend(targets);
                }
                _ => runs.push((start, end, targets)),
            }
        }
        runs.into_iter()
            .map(|(start, end, mut targets)| {
                targets.sort_unstable();
                DecodePass {
                    samples: (start..=end).map(|u| graph.sample_of(u)).collect(),
                    targets: targets.into_iter().map(|u| graph.sample_of(u)).collect(),
                    fallback: true,
                    rows_in_parallel: false,
                    references: Vec::new(),
                }
            })
            .collect()
    }
}

/// What must be put before each sample of a pass, so that a decoder knows the parameter sets that
/// it would know had it been given everything: for each sample of the pass, in order.
pub fn preludes(graph: &ReferenceGraph, samples: &[DecodeIndex]) -> Vec<Vec<Bytes>> {
    ParameterSetNews::new(graph).preludes(graph, None, samples)
}
