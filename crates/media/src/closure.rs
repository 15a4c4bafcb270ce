//! Reference closures: what one picture depends on, and whether it can be had exactly at all.

use std::collections::BTreeSet;

use crate::graph::{Picture, ReferenceGraph, UnitContent, UnitIndex};
use crate::h265::nal::NalType;
use crate::order::DecodeIndex;
use crate::poc_anchors::PocCount;

/// Which edges of the graph a closure follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// Everything that RPSs mark as used.
    Rps,
    /// Only what active reference lists name.
    Active,
}

/// How a single target stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The headers say exactly what it depends on, and all of that is there.
    Exact,
    /// The headers do not say what depends on what: everything from the IRAP on is decoded.
    Fallback,
    /// It cannot be had from this graph.
    Refused(Refusal),
}

/// Why a target cannot be had from a graph.
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

/// The reference closures of a graph, target by target.
pub struct Closures<'g> {
    graph: &'g ReferenceGraph,
    facts: Facts,
}

impl<'g> Closures<'g> {
    /// Reads what is needed from the graph, once.
    pub fn new(graph: &'g ReferenceGraph, depth: Depth) -> Self {
        let facts = Facts::new(graph, depth);
        Self { graph, facts }
    }

    /// The closure of a target: itself, all it depends on, and the IRAP that a decoder begins
    /// with, in decode order. `None` where the graph does not know it exactly, or it is refused.
    pub fn of(&self, target: DecodeIndex) -> Option<Vec<DecodeIndex>> {
        let view = View::new(self.graph, &self.facts);
        let unit = self.graph.unit_of(target)?;
        if view.standing(unit) != Standing::Exact {
            return None;
        }
        let units = view.closure_units(unit).into_iter();
        Some(units.map(|u| self.graph.sample_of(u)).collect())
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

/// What the graph says of each unit together with all that it depends on.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    depth: Depth,
    /// Some unit of the closure names a picture that is not there.
    missing: Vec<bool>,
    /// Some unit of the closure has edges that are not reliable.
    uncertain: Vec<bool>,
    /// How many pictures up to and with the unit are not [reliable](View::is_reliable).
    unreliable: Vec<u32>,
    /// The last IRAP strictly before the unit, readable or not.
    irap_before: Vec<Option<UnitIndex>>,
}

impl Facts {
    /// One walk over the graph in decode order; edges point back only.
    pub(crate) fn new(graph: &ReferenceGraph, depth: Depth) -> Self {
        let count = graph.units().len();
        let mut facts = Self {
            depth,
            missing: Vec::with_capacity(count),
            uncertain: Vec::with_capacity(count),
            unreliable: Vec::with_capacity(count),
            irap_before: Vec::with_capacity(count),
        };
        let mut irap = None;
        for unit in 0..count as UnitIndex {
            facts.irap_before.push(irap);
            let view = View::new(graph, &facts);
            let picture = graph.picture(unit);
            let edges = view.edges(unit).iter().copied();
            let edges: Vec<UnitIndex> = edges.chain(view.previous(unit)).collect();
            let reaches = |of: &[bool]| {
                edges
                    .iter()
                    .any(|&e| of.get(e as usize).copied().unwrap_or(true))
            };
            let missing = picture.is_none_or(|p| p.active_missing || view.is_left_out(p))
                || reaches(&facts.missing);
            let uncertain = picture.is_none_or(|p| p.uncertain) || reaches(&facts.uncertain);
            facts.missing.push(missing);
            facts.uncertain.push(uncertain);
            let before = facts.unreliable.last().copied().unwrap_or(0);
            let counts = uncertain && graph.nal_type(unit).is_some();
            let now = before.saturating_add(u32::from(counts));
            facts.unreliable.push(now);
            if graph.nal_type(unit).is_some_and(NalType::is_irap) {
                irap = Some(unit);
            }
        }
        facts
    }
}

/// A graph with its facts.
#[derive(Clone, Copy)]
pub(crate) struct View<'g> {
    pub(crate) graph: &'g ReferenceGraph,
    facts: &'g Facts,
}

impl<'g> View<'g> {
    pub(crate) fn new(graph: &'g ReferenceGraph, facts: &'g Facts) -> Self {
        Self { graph, facts }
    }

    pub(crate) fn edges(self, unit: UnitIndex) -> &'g [UnitIndex] {
        match (self.graph.picture(unit), self.facts.depth) {
            (None, _) => &[],
            (Some(p), Depth::Rps) => &p.rps_references,
            (Some(p), Depth::Active) => &p.active_references,
        }
    }

    fn irap_before(self, unit: UnitIndex) -> Option<UnitIndex> {
        let before = self.facts.irap_before.get(unit as usize);
        before.copied().flatten()
    }

    /// The IRAP that a unit is associated with, readable or not: itself, or the last one before.
    fn own_irap(self, unit: UnitIndex) -> Option<UnitIndex> {
        if self.graph.nal_type(unit).is_some_and(NalType::is_irap) {
            Some(unit)
        } else {
            self.irap_before(unit)
        }
    }

    /// A RASL picture whose IRAP begins its sequence: no decoder decodes it (8.1.3).
    fn is_left_out(self, picture: &Picture) -> bool {
        let irap = picture.irap.and_then(|irap| self.graph.picture(irap));
        picture.nal_type.is_rasl() && irap.is_some_and(|p| p.starts_sequence)
    }

    /// Decides from the headers whether a target can be had.
    pub(crate) fn standing(self, unit: UnitIndex) -> Standing {
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
        if fact(&self.facts.uncertain) {
            return Standing::Fallback;
        }
        if fact(&self.facts.missing) {
            const WHY: &str = "it refers to a picture that is not in the stream";
            // Nothing after an IDR or BLA depends on anything before it.
            let closed = graph.picture(irap).is_some_and(|p| !p.nal_type.is_cra());
            return if closed && !is_rasl {
                Standing::Refused(Refusal::NotDecodable(WHY))
            } else {
                self.earlier_or(WHY)
            };
        }
        if self.is_out_of_reach(unit) {
            return Standing::Fallback;
        }
        Standing::Exact
    }

    /// The headers say exactly what the picture depends on. A picture that anchors POCs is put in
    /// for that only where they do: with what it needs, pictures of two sequences could come
    /// together.
    pub(crate) fn is_reliable(self, unit: UnitIndex) -> bool {
        !self
            .facts
            .uncertain
            .get(unit as usize)
            .copied()
            .unwrap_or(true)
    }

    /// A decoder that is given the closure alone would count POC wrongly, and among the pictures
    /// that could set that right are some of which the headers do not say what they depend on.
    fn is_out_of_reach(self, unit: UnitIndex) -> bool {
        let until = |unit: UnitIndex| self.facts.unreliable.get(unit as usize).copied();
        let earliest = self.entry_points(unit).min().unwrap_or(unit);
        if until(earliest) == until(unit) {
            return false;
        }
        let mut count = PocCount::default();
        !(self.closure_units(unit).into_iter()).all(|u| count.take(self.graph, u))
    }

    /// Before the stream's start nothing can be fetched; before the graph's start, maybe.
    fn earlier_or(self, why: &'static str) -> Standing {
        Standing::Refused(if self.graph.at_stream_start() {
            Refusal::NotDecodable(why)
        } else {
            Refusal::NeedsEarlierStart
        })
    }

    /// The IRAPs that a decoder needs for a unit, whatever the unit refers to: it starts at an
    /// IRAP, and takes a RASL picture only where it did not start at that picture's own.
    pub(crate) fn entry_points(self, unit: UnitIndex) -> impl Iterator<Item = UnitIndex> + 'g {
        let own = self.own_irap(unit);
        let is_rasl = self.graph.nal_type(unit).is_some_and(NalType::is_rasl);
        let before = own
            .filter(|_| is_rasl)
            .and_then(|irap| self.irap_before(irap));
        own.into_iter().chain(before)
    }

    /// The pictures without which a decoder would take one long-term picture for another: the one
    /// right before the unit, and for a RASL picture the one before its IRAP, too. (To others an
    /// IRAP is where they begin, whatever its RPS keeps for RASL pictures.)
    fn previous(self, unit: UnitIndex) -> impl Iterator<Item = UnitIndex> + 'g {
        let nal_type = self.graph.nal_type(unit);
        let own = Some(unit).filter(|_| !nal_type.is_some_and(NalType::is_irap));
        let rasl = nal_type.is_some_and(NalType::is_rasl);
        let irap = self.own_irap(unit).filter(|_| rasl);
        own.into_iter().chain(irap).filter_map(move |unit| {
            let needed = self.graph.picture(unit).is_some_and(|p| p.needs_previous);
            // RASL pictures that no decoder decodes change nothing.
            let counts = |&u: &UnitIndex| match self.graph.picture(u) {
                Some(p) => p.uncertain || !self.is_left_out(p),
                None => self.graph.nal_type(u).is_some(),
            };
            (0..unit).rev().take_while(|_| needed).find(counts)
        })
    }

    /// What has to be decoded before a unit, directly: its references and its entry points.
    pub(crate) fn needs(self, unit: UnitIndex) -> impl Iterator<Item = UnitIndex> + 'g {
        let edges = self.edges(unit).iter().copied();
        edges
            .chain(self.entry_points(unit))
            .chain(self.previous(unit))
    }

    /// The target, what it depends on, and its entry points; ascending.
    pub(crate) fn closure_units(self, target: UnitIndex) -> BTreeSet<UnitIndex> {
        let mut inside = BTreeSet::new();
        let mut open = Vec::from([target]);
        while let Some(unit) = open.pop() {
            if inside.insert(unit) {
                open.extend(self.needs(unit).filter(|u| !inside.contains(u)));
            }
        }
        inside
    }
}
