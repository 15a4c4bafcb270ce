//! What a decoder is to be given for some targets: a fresh one, or one that stands in the video and
//! goes on.
//!
//! # When going on is exact
//!
//! A decoder is given samples in decode order only, each at most once between two flushes. So going
//! on is the same as one run, from an empty decoder, over everything that it was and will be given,
//! and every picture of such a run is exact if for the set of samples `S` of the run
//!
//! 1. `S` is *closed*: with a picture, all that its active reference lists name is in `S`, and the
//!    IRAPs that a decoder needs in order to take it at all (its own; for a RASL picture the one
//!    before, too);
//! 2. `S` lies in one coded video sequence: the decoder's idea of where a sequence begins is right;
//! 3. every POC of `S` comes out as in the whole stream, but for one constant (8.3.1).
//!
//! A picture is put in for the sake of 3 only where the headers say for sure what it needs, so that
//! 1 and 2 go on to hold. Where no such pictures lead to a target, it is decoded with everything
//! from its IRAP on ([`Standing::Fallback`]).
//!
//! For then a decoder that fills the decoded picture buffer as 8.3.2 says, and makes a stand-in for
//! what an RPS names and is not there (8.3.3), finds for each active entry the very picture: it was
//! decoded, since `S` is closed. It is still there: in the whole stream every RPS in between names
//! it, and RPSs are relative to POCs, which are right. And no stand-in takes its place, since one is
//! made only where no picture of that POC is in the buffer, and no two pictures of a sequence have
//! the same POC.
//!
//! What a picture's RPS names beyond its active lists may be left out. It is lost for good then for
//! this decoder: decode order has passed by. So the targets that a decoder can go on to are those
//! all of whose closure was given, or lies behind what was given last. A target that needs more is
//! [`Way::beyond`] this decoder.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::closure::{Depth, Facts, Standing, View};
use crate::disjoint_sets::DisjointSets;
use crate::graph::{ReferenceGraph, UnitContent, UnitIndex};
use crate::order::DecodeIndex;
use crate::poc_anchors::{Anchor, OutOfReach, PocCount};
use crate::prelude::ParameterSetNews;

/// Plans over one graph. Made once, asked often.
#[derive(Clone, Debug)]
pub struct Planner {
    graph: ReferenceGraph,
    facts: Facts,
    news: ParameterSetNews,
}

/// How a decoder serves targets by being given more.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Way {
    /// What it is to be given, in decode order; all behind what it was given before.
    pub next: Vec<DecodeIndex>,
    /// The targets whose pictures come out exact, in decode order. All are in `next`.
    pub reached: Vec<DecodeIndex>,
    /// The targets that this decoder cannot serve, in the order in which they were asked for:
    /// they need an empty one. A picture that was given before is among them.
    pub beyond: Vec<DecodeIndex>,
    /// Every picture of `next` can be decoded row by row in parallel, exactly: it was coded with
    /// wavefronts and without sample adaptive offset. (libavcodec's rows read, for SAO, samples of
    /// their neighbours that are not always finished: now and then a picture came out a little
    /// wrong.)
    pub rows_in_parallel: bool,
    /// Rows of coding tree blocks in the picture of `next` that has the fewest.
    pub ctb_rows: u32,
}

impl Planner {
    /// Reads what is needed from the graph.
    pub fn new(graph: ReferenceGraph) -> Self {
        Self {
            facts: Facts::new(&graph, Depth::Active),
            news: ParameterSetNews::new(&graph),
            graph,
        }
    }

    /// The graph.
    pub fn graph(&self) -> &ReferenceGraph {
        &self.graph
    }

    fn view(&self) -> View<'_> {
        View::new(&self.graph, &self.facts)
    }

    /// How a target stands, whatever a decoder was given.
    pub fn standing(&self, target: DecodeIndex) -> Standing {
        let unit = self.graph.unit_of(target).unwrap_or(UnitIndex::MAX);
        self.view().standing(unit)
    }

    /// All that an empty decoder must be given for this one target: its closure, the IRAPs to
    /// begin with, and the pictures without which a POC would come out wrong; in decode order.
    /// `None` unless its standing is [`Standing::Exact`].
    ///
    /// A target cannot be served if one of these is damaged.
    pub fn alone(&self, target: DecodeIndex) -> Option<Vec<DecodeIndex>> {
        let way = self.way(&[], &[target]);
        way.reached.contains(&target).then_some(way.next)
    }

    /// Everything from the target's IRAP to the target, for a target whose standing is
    /// [`Standing::Fallback`]; in decode order. An empty decoder must be given it as it lies, with
    /// the marks for the end of a sequence.
    pub fn fallback(&self, target: DecodeIndex) -> Option<Vec<DecodeIndex>> {
        let unit = self.graph.unit_of(target)?;
        let view = self.view();
        if view.standing(unit) != Standing::Fallback {
            return None;
        }
        // The earliest of its entry points.
        let start = view.entry_points(unit).min().unwrap_or(unit);
        Some((start..=unit).map(|u| self.graph.sample_of(u)).collect())
    }

    /// Which of the targets a decoder can serve by being given more, and what.
    ///
    /// `given`, ascending: everything that it was given since it was empty, by ways of this graph;
    /// empty for an empty decoder. From an empty decoder, the first target is always reached, and
    /// with it those whose closures touch its closure, directly or through others. A decoder that
    /// stands goes on to targets whose closures touch what it was given. For others, to be emptied
    /// costs it nothing.
    ///
    /// Targets whose standing is not [`Standing::Exact`] are left out of the answer.
    pub fn way(&self, given: &[DecodeIndex], targets: &[DecodeIndex]) -> Way {
        self.way_with(given, targets, |_| true)
    }

    /// As [`Planner::way`], where not all samples of the graph are at hand: nothing but what is
    /// `held` is put on the way. From an empty decoder a target is reached if all that it needs
    /// [alone](Planner::alone) is held: each choice among what is held then falls as it did among
    /// everything, since what was chosen there is held.
    pub fn way_with(
        &self,
        given: &[DecodeIndex],
        targets: &[DecodeIndex],
        held: impl Fn(DecodeIndex) -> bool,
    ) -> Way {
        let view = self.view();
        let mut seen = BTreeSet::new();
        let targets: Vec<UnitIndex> = targets
            .iter()
            .filter_map(|&t| self.graph.unit_of(t))
            .filter(|&u| view.standing(u) == Standing::Exact && seen.insert(u))
            .collect();
        let last = seen.last().copied().unwrap_or(0);
        let held = |u: UnitIndex| held(self.graph.sample_of(u));
        let course = Stand::after(view, given).and_then(|stand| stand.course(&targets, last, held));
        let Course { units, reached } = course.unwrap_or_default();
        let sample = |&u: &UnitIndex| self.graph.sample_of(u);
        let pictures = || units.iter().filter_map(|&u| self.graph.picture(u));
        Way {
            rows_in_parallel: pictures().count() == units.len()
                && pictures().all(|p| p.wavefront && !p.sps.sample_adaptive_offset),
            ctb_rows: pictures().map(|p| p.sps.ctb_rows).min().unwrap_or(0),
            next: units.iter().map(sample).collect(),
            beyond: targets
                .iter()
                .filter(|u| !reached.contains(u))
                .map(sample)
                .collect(),
            reached: reached.iter().map(sample).collect(),
        }
    }

    /// What must be put before each of `next`, so that a decoder that was given `given` knows the
    /// parameter sets that it would know had it been given everything. An empty decoder is told
    /// all that are in force, first of all.
    pub fn preludes(&self, given: &[DecodeIndex], next: &[DecodeIndex]) -> Vec<Vec<Bytes>> {
        let last = given.last().copied();
        self.news.preludes(&self.graph, last, next)
    }
}

/// What is to be given, and what that reaches.
#[derive(Default)]
struct Course {
    units: BTreeSet<UnitIndex>,
    reached: BTreeSet<UnitIndex>,
}

/// A decoder that was given some units.
struct Stand<'g> {
    view: View<'g>,
    /// By unit; nothing behind its end was given.
    given: Vec<bool>,
    /// The first unit given, where there is one.
    first: Option<UnitIndex>,
    poc: PocCount,
}

impl<'g> Stand<'g> {
    /// `None` where it is not known how such a decoder would go on.
    fn after(view: View<'g>, given: &[DecodeIndex]) -> Option<Self> {
        let graph = view.graph;
        let end = given
            .last()
            .map_or(Some(0), |&s| Some(graph.unit_of(s)?.saturating_add(1)))?;
        let mut stand = Self {
            view,
            given: vec![false; end as usize],
            first: None,
            poc: PocCount::default(),
        };
        let mut behind = 0;
        for &sample in given {
            let unit = graph.unit_of(sample).filter(|&u| u >= behind)?;
            behind = unit.saturating_add(1);
            let picture = match &graph.units().get(unit as usize)?.content {
                UnitContent::Picture(p) => p,
                UnitContent::Empty => continue,
                UnitContent::Unreadable(_) => return None,
            };
            let sound = match stand.first {
                None => picture.nal_type.is_irap(),
                // With another sequence, everything begins anew.
                Some(_) => !picture.starts_sequence,
            };
            if !sound || picture.uncertain || !stand.poc.take(graph, unit) {
                return None;
            }
            stand.first.get_or_insert(unit);
            *stand.given.get_mut(unit as usize)? = true;
        }
        Some(stand)
    }

    fn was_given(&self, unit: UnitIndex) -> bool {
        self.given.get(unit as usize).copied().unwrap_or(false)
    }

    /// Behind everything that was given.
    fn end(&self) -> UnitIndex {
        self.given.len() as UnitIndex
    }

    /// Units up to `last` whose whole closure was given, or is held and lies behind what was.
    fn within_reach(&self, last: UnitIndex, held: impl Fn(UnitIndex) -> bool) -> Vec<bool> {
        let mut within: Vec<bool> = Vec::with_capacity(last as usize);
        for unit in 0..=last {
            let here = (unit >= self.end() && held(unit)) || self.was_given(unit);
            let within_reach = here
                && self.view.is_reliable(unit)
                && (self.view.needs(unit)).all(|n| {
                    // An IRAP is its own entry point.
                    n == unit || within.get(n as usize).copied().unwrap_or(false)
                });
            within.push(within_reach);
        }
        within
    }

    /// The course to as many of the targets as can be reached together; `last` is the greatest.
    fn course(
        &self,
        targets: &[UnitIndex],
        last: UnitIndex,
        held: impl Fn(UnitIndex) -> bool,
    ) -> Option<Course> {
        let within = self.within_reach(last, held);
        let available = |u: UnitIndex| within.get(u as usize).copied().unwrap_or(false);
        let ahead = |u: &UnitIndex| *u >= self.end() && available(*u);
        let ahead: Vec<UnitIndex> = targets.iter().copied().filter(ahead).collect();
        self.course_to(&ahead, available)
            // Where not even that can be had, an empty decoder will do.
            .or_else(|OutOfReach| self.course_to(ahead.get(..1).unwrap_or_default(), available))
            .ok()
    }

    /// A decoder derives each POC from the last picture it was given: where leaving pictures out
    /// would change that, the picture that anchors it is decoded too.
    fn course_to(
        &self,
        targets: &[UnitIndex],
        available: impl Fn(UnitIndex) -> bool + Copy,
    ) -> Result<Course, OutOfReach> {
        let mut anchors = BTreeSet::new();
        loop {
            let course = self.group(targets, &anchors);
            let graph = self.view.graph;
            let missing =
                (self.poc).missing_anchors(graph, &course.units, self.end(), available)?;
            if missing.is_empty() {
                return Ok(course);
            }
            anchors.extend(missing);
        }
    }

    /// The targets whose closures touch what was given (or, where nothing was, the first one's),
    /// and what of these closures was not given. Each unit is visited once, however many targets
    /// depend on it.
    fn group(&self, targets: &[UnitIndex], anchors: &BTreeSet<Anchor>) -> Course {
        let Some(wanted) = self.first.or(targets.first().copied()) else {
            return Course::default();
        };
        let mut sets = DisjointSets::new(self.view.graph.units().len());
        for &Anchor { unit, anchored } in anchors {
            sets.join(anchored, unit);
        }
        let mut inside = BTreeSet::new();
        let extra = anchors.iter().map(|a| a.unit);
        for root in targets.iter().copied().chain(extra) {
            let mut open = Vec::from([root]);
            while let Some(unit) = open.pop() {
                if self.was_given(unit) {
                    // All that was given is one.
                    sets.join(root, wanted);
                    continue;
                }
                sets.join(root, unit);
                if inside.insert(unit) {
                    open.extend(self.view.needs(unit));
                }
            }
        }
        let mut touches = |u: &UnitIndex| sets.find(*u) == sets.find(wanted);
        Course {
            reached: targets.iter().copied().filter(&mut touches).collect(),
            units: inside.into_iter().filter(touches).collect(),
        }
    }
}
