//! From targets to decode passes: which access units a decoder is given, in which order.
//!
//! A *pass* begins with an empty decoder and an IRAP, and gives the decoder the union of its
//! targets' reference closures in decode order. Targets whose closures touch share a pass, so
//! that no access unit is decoded twice for one request.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::graph::{Picture, ReferenceGraph, UnitContent, UnitIndex};
use crate::h265::nal::NalType;
use crate::h265::parameter_sets::ParameterSets;
use crate::h265::poc::PocState;
use crate::order::DecodeIndex;

/// Which edges of the graph a closure follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// Everything that RPSs mark as used.
    Rps,
    /// Only what active reference lists name.
    Active,
}

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

/// Why a target is not part of a plan.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// It may depend on samples before the graph's first one: build the graph from the IRAP
    /// before and plan again.
    #[error("the picture depends on what lies before this IRAP")]
    NeedsEarlierStart,
    /// A decoder does not output it: the reason in words.
    #[error("{0}")]
    NotDecodable(&'static str),
    /// The sample holds no picture.
    #[error("the sample holds no picture")]
    NoPicture,
    /// The target is not in the graph.
    #[error("the sample lies outside the graph")]
    Outside,
}

/// How a single target stands.
enum Standing {
    Exact,
    Fallback,
    Refused(Refusal),
}

/// What the graph says of each unit together with all that it depends on.
struct Facts<'g> {
    graph: &'g ReferenceGraph,
    depth: Depth,
    /// Some unit of the closure names a picture that is not there.
    missing: Vec<bool>,
    /// Some unit of the closure has edges that are not reliable.
    uncertain: Vec<bool>,
    /// The last IRAP strictly before the unit, readable or not.
    irap_before: Vec<Option<UnitIndex>>,
}

impl DecodePlan {
    /// Plans the decoding of `targets`, each pass from an empty decoder.
    pub fn new(graph: &ReferenceGraph, targets: &[DecodeIndex], depth: Depth) -> Self {
        let facts = Facts::new(graph, depth);
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
            match facts.standing(unit) {
                Standing::Exact => exact.push(unit),
                Standing::Fallback => {
                    fallback.insert(unit);
                }
                Standing::Refused(why) => plan.refused.push((target, why)),
            }
        }
        plan.passes.extend(facts.exact_passes(&exact));
        plan.passes.extend(facts.fallback_passes(&fallback));
        plan.passes
            .sort_by_key(|p| p.targets.iter().filter_map(|t| order.get(t)).min().copied());
        plan
    }

    /// Access units that are decoded.
    pub fn decoded(&self) -> usize {
        self.passes.iter().map(|p| p.samples.len()).sum()
    }
}

/// The reference closures of a graph, target by target.
pub struct Closures<'g>(Facts<'g>);

impl<'g> Closures<'g> {
    /// Reads what is needed from the graph, once.
    pub fn new(graph: &'g ReferenceGraph, depth: Depth) -> Self {
        Self(Facts::new(graph, depth))
    }

    /// The closure of a target: itself, all it depends on, and the IRAP that a decoder begins
    /// with, in decode order. `None` where the graph does not know it exactly, or it is refused.
    pub fn of(&self, target: DecodeIndex) -> Option<Vec<DecodeIndex>> {
        let unit = self.0.graph.unit_of(target)?;
        match self.0.standing(unit) {
            Standing::Exact => {
                let units = self.0.closure_units(unit);
                Some(
                    units
                        .into_iter()
                        .map(|u| self.0.graph.sample_of(u))
                        .collect(),
                )
            }
            _ => None,
        }
    }
}

/// The closure of one target; see [`Closures::of`].
pub fn closure(
    graph: &ReferenceGraph,
    target: DecodeIndex,
    depth: Depth,
) -> Option<Vec<DecodeIndex>> {
    Closures::new(graph, depth).of(target)
}

impl<'g> Facts<'g> {
    /// One walk over the graph in decode order; edges point back only.
    fn new(graph: &'g ReferenceGraph, depth: Depth) -> Self {
        let count = graph.units().len();
        let mut facts = Self {
            graph,
            depth,
            missing: Vec::with_capacity(count),
            uncertain: Vec::with_capacity(count),
            irap_before: Vec::with_capacity(count),
        };
        let mut irap = None;
        for unit in 0..count as UnitIndex {
            facts.irap_before.push(irap);
            let picture = graph.picture(unit);
            let edges = facts.edges(unit);
            let reaches = |of: &[bool]| {
                edges
                    .iter()
                    .any(|&e| of.get(e as usize).copied().unwrap_or(true))
            };
            let missing = picture.is_none_or(|p| p.active_missing || facts.is_left_out(p))
                || reaches(&facts.missing);
            let uncertain = picture.is_none_or(|p| p.uncertain) || reaches(&facts.uncertain);
            facts.missing.push(missing);
            facts.uncertain.push(uncertain);
            if graph.nal_type(unit).is_some_and(NalType::is_irap) {
                irap = Some(unit);
            }
        }
        facts
    }

    fn edges(&self, unit: UnitIndex) -> &'g [UnitIndex] {
        match (self.graph.picture(unit), self.depth) {
            (None, _) => &[],
            (Some(p), Depth::Rps) => &p.rps_references,
            (Some(p), Depth::Active) => &p.active_references,
        }
    }

    fn irap_before(&self, unit: UnitIndex) -> Option<UnitIndex> {
        self.irap_before.get(unit as usize).copied().flatten()
    }

    /// The IRAP that a unit is associated with, readable or not: itself, or the last one before.
    fn own_irap(&self, unit: UnitIndex) -> Option<UnitIndex> {
        if self.graph.nal_type(unit).is_some_and(NalType::is_irap) {
            Some(unit)
        } else {
            self.irap_before(unit)
        }
    }

    /// A RASL picture whose IRAP begins its sequence: no decoder decodes it (8.1.3).
    fn is_left_out(&self, picture: &Picture) -> bool {
        let irap = picture.irap.and_then(|irap| self.graph.picture(irap));
        picture.nal_type.is_rasl() && irap.is_some_and(|p| p.starts_sequence)
    }

    /// Decides from the headers whether a target can be had.
    fn standing(&self, unit: UnitIndex) -> Standing {
        let graph = self.graph;
        let picture = match graph.units().get(unit as usize).map(|u| &u.content) {
            Some(UnitContent::Picture(p)) => Some(p),
            Some(UnitContent::Unreadable(_)) => None,
            Some(UnitContent::Empty) => return Standing::Refused(Refusal::NoPicture),
            None => return Standing::Refused(Refusal::Outside),
        };
        let Some(irap) = self.own_irap(unit) else {
            return self.earlier_or("no IRAP comes before the picture");
        };
        let is_rasl = graph.nal_type(unit).is_some_and(NalType::is_rasl);
        if is_rasl {
            const WHY: &str = "a RASL picture: it refers to pictures before the first IRAP of its \
                               sequence";
            let of_bla = graph.nal_type(irap).is_some_and(NalType::is_bla);
            let left_out = picture.is_some_and(|p| !p.uncertain && self.is_left_out(p));
            if of_bla || (left_out && self.irap_before(irap).is_some()) {
                return Standing::Refused(Refusal::NotDecodable(WHY));
            }
            // Where the graph itself begins, an earlier start can change what its IRAP is.
            if self.irap_before(irap).is_none() {
                return if graph.nal_type(irap).is_some_and(NalType::is_cra) {
                    self.earlier_or(WHY)
                } else {
                    Standing::Refused(Refusal::NotDecodable(WHY))
                };
            }
        }
        let Some(picture) = picture else {
            return Standing::Fallback;
        };
        if !picture.output {
            return Standing::Refused(Refusal::NotDecodable(
                "the stream says that this picture is not shown (pic_output_flag 0)",
            ));
        }
        let fact = |of: &[bool]| of.get(unit as usize).copied().unwrap_or(true);
        if fact(&self.uncertain) {
            return Standing::Fallback;
        }
        if fact(&self.missing) {
            const WHY: &str = "it refers to a picture that is not in the stream";
            // Nothing after an IDR or BLA depends on anything before it.
            let closed = graph.picture(irap).is_some_and(|p| !p.nal_type.is_cra());
            return if closed && !is_rasl {
                Standing::Refused(Refusal::NotDecodable(WHY))
            } else {
                self.earlier_or(WHY)
            };
        }
        Standing::Exact
    }

    /// Before the stream's start nothing can be fetched; before the graph's start, maybe.
    fn earlier_or(&self, why: &'static str) -> Standing {
        Standing::Refused(if self.graph.at_stream_start() {
            Refusal::NotDecodable(why)
        } else {
            Refusal::NeedsEarlierStart
        })
    }

    /// The IRAPs that a decoder needs for a unit, whatever the unit refers to: it starts at an
    /// IRAP, and takes a RASL picture only where it did not start at that picture's own.
    fn entry_points(&self, unit: UnitIndex) -> impl Iterator<Item = UnitIndex> {
        let own = self.own_irap(unit);
        let is_rasl = self.graph.nal_type(unit).is_some_and(NalType::is_rasl);
        let before = own
            .filter(|_| is_rasl)
            .and_then(|irap| self.irap_before(irap));
        own.into_iter().chain(before)
    }

    /// What has to be decoded before a unit, directly: its references and its entry points.
    fn needs(&self, unit: UnitIndex) -> impl Iterator<Item = UnitIndex> {
        self.edges(unit)
            .iter()
            .copied()
            .chain(self.entry_points(unit))
    }

    /// The target, what it depends on, and its entry points; ascending.
    fn closure_units(&self, target: UnitIndex) -> BTreeSet<UnitIndex> {
        let mut inside = BTreeSet::new();
        let mut open = Vec::from([target]);
        while let Some(unit) = open.pop() {
            if inside.insert(unit) {
                open.extend(self.needs(unit).filter(|u| !inside.contains(u)));
            }
        }
        inside
    }

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
                .flat_map(|g| missing_anchors(self.graph, &g.units))
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

/// A picture that is decoded for its POC alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Anchor {
    unit: UnitIndex,
    /// The unit that needs it.
    anchored: UnitIndex,
}

/// Targets whose closures touch, and the union of these.
#[derive(Default)]
struct Group {
    units: BTreeSet<UnitIndex>,
    targets: BTreeSet<UnitIndex>,
}

/// Union–find over units.
struct DisjointSets {
    parent: Vec<UnitIndex>,
}

impl DisjointSets {
    fn new(count: usize) -> Self {
        Self {
            parent: (0..count as UnitIndex).collect(),
        }
    }

    fn find(&mut self, unit: UnitIndex) -> UnitIndex {
        let mut at = unit;
        loop {
            let up = self.parent.get(at as usize).copied().unwrap_or(at);
            if up == at {
                return at;
            }
            let above = self.parent.get(up as usize).copied().unwrap_or(up);
            if let Some(slot) = self.parent.get_mut(at as usize) {
                *slot = above;
            }
            at = above;
        }
    }

    fn join(&mut self, a: UnitIndex, b: UnitIndex) {
        let (a, b) = (self.find(a), self.find(b));
        if let Some(slot) = self.parent.get_mut(a.max(b) as usize) {
            *slot = a.min(b);
        }
    }
}

/// Derives POC over a selection of units as a decoder would that is given nothing else, and at the
/// first place where that goes wrong returns the pictures left out that set it right.
fn missing_anchors(graph: &ReferenceGraph, units: &BTreeSet<UnitIndex>) -> Vec<Anchor> {
    let mut state = PocState::default();
    let mut shift: Option<i32> = None;
    let mut last_anchor = units.first().copied().unwrap_or(0);
    for &unit in units {
        let Some(p) = graph.picture(unit) else {
            continue;
        };
        let starts = shift.is_none() || p.starts_sequence;
        let before = state;
        let this = p.poc.wrapping_sub(next_poc(&mut state, p, starts));
        let shift = *shift.get_or_insert(this);
        if shift != this {
            let left_out: Vec<UnitIndex> = (last_anchor..unit)
                .filter(|u| !units.contains(u) && graph.picture(*u).is_some_and(sets_poc_anchor))
                .collect();
            return fewest_anchors(graph, before, shift, &left_out, unit);
        }
        if sets_poc_anchor(p) {
            last_anchor = unit;
        }
    }
    Vec::new()
}

/// As few of the pictures left out as lead the POC from `state` to `anchored`: always the last one
/// whose POC comes out right. The next one always does, so that this ends.
fn fewest_anchors(
    graph: &ReferenceGraph,
    mut state: PocState,
    shift: i32,
    left_out: &[UnitIndex],
    anchored: UnitIndex,
) -> Vec<Anchor> {
    let lead_to = |state: PocState, unit: UnitIndex| {
        let (mut state, p) = (state, graph.picture(unit)?);
        let poc = next_poc(&mut state, p, false);
        (p.poc.wrapping_sub(poc) == shift).then_some(state)
    };
    let mut anchors = Vec::new();
    let mut from = 0;
    while lead_to(state, anchored).is_none() {
        let rest = left_out.iter().enumerate().skip(from).rev();
        let mut reached = rest.filter_map(|(place, &u)| Some((place, u, lead_to(state, u)?)));
        let Some((place, unit, next)) = reached.next() else {
            break;
        };
        anchors.push(Anchor { unit, anchored });
        (state, from) = (next, place + 1);
    }
    anchors
}

fn next_poc(state: &mut PocState, p: &Picture, starts: bool) -> i32 {
    let log2 = p.sps.log2_max_poc_lsb;
    state.next(p.nal_type, p.temporal_id, p.poc_lsb, log2, starts)
}

/// The picture becomes `prevTid0Pic` (8.3.1).
fn sets_poc_anchor(p: &Picture) -> bool {
    let t = p.nal_type;
    p.temporal_id == 0 && !t.is_rasl() && !t.is_radl() && !t.is_sub_layer_non_reference()
}

impl Facts<'_> {
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
    let mut result = Vec::with_capacity(samples.len());
    let mut next_unit: UnitIndex = 0;
    let mut sets: ParameterSets = graph.initial_sets().clone();
    for (place, &sample) in samples.iter().enumerate() {
        let mut prelude = Vec::new();
        let Some(unit) = graph.unit_of(sample) else {
            result.push(prelude);
            continue;
        };
        for skipped in next_unit..=unit {
            let Some(u) = graph.units().get(skipped as usize) else {
                break;
            };
            let inside: &[Bytes] = if skipped == unit { &[] } else { &u.sets_inside };
            for set in u.sets_before.iter().chain(inside) {
                // What cannot be read here, a decoder may read: it is given everything.
                if sets.push(set).unwrap_or(true) && place > 0 {
                    prelude.push(set.clone());
                }
            }
        }
        if place == 0 {
            prelude.extend(sets.nals().cloned());
        }
        // What the sample itself brings.
        if let Some(u) = graph.units().get(unit as usize) {
            for set in &u.sets_inside {
                sets.push(set).ok();
            }
        }
        next_unit = unit.saturating_add(1);
        result.push(prelude);
    }
    result
}
