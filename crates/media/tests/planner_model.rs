//! The planner against a model: whatever a decoder was given by ways, in whatever steps, it holds
//! together with what it is given next; and a model of libavcodec's decoded picture buffer, with
//! its stand-ins for what is missing, finds the very pictures that each picture refers to.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;

use media::closure::Depth;
use media::{DecodeIndex, Planner, Refusal, Standing, Way};
use proptest::prelude::*;
use support::stream::{Stream, Wanted, is_irap, is_non_reference, is_radl, is_rasl, make};
use support::view::{self, DecoderSets, View, graph_from};
use support::{Tape, d};

/// A decoder that knows nothing but what it is given.
struct Decoder<'s> {
    stream: &'s Stream,
    /// POC as it derives it, and the unit; `None` for a stand-in.
    dpb: Vec<(i64, Option<usize>)>,
    prev_tid0: Option<i64>,
    sets: DecoderSets,
}

impl<'s> Decoder<'s> {
    fn new(stream: &'s Stream) -> Self {
        Self {
            stream,
            dpb: Vec::new(),
            prev_tid0: None,
            sets: DecoderSets::default(),
        }
    }

    /// `conforming`: the stream names nothing that is not in it.
    fn give(&mut self, unit: usize, conforming: bool) {
        let au = &self.stream.aus[unit];
        let n = au.nal_type;
        let max = 1i64 << self.stream.log2_max_poc_lsb;
        let lsb = i64::from(au.poc_lsb);
        let starts = self.prev_tid0.is_none() || (is_irap(n) && n != 21);
        let poc = match self.prev_tid0 {
            Some(prev) if !starts => {
                // The one with these bits that is nearest (8-1 written another way).
                let base = prev - prev.rem_euclid(max) + lsb;
                let near = |p: &i64| (1 - max / 2..=max / 2).contains(&(p - prev));
                let candidates = [base - max, base, base + max];
                *candidates.iter().find(|p| near(p)).unwrap()
            }
            _ => lsb,
        };
        if starts {
            self.dpb.clear();
        }
        if conforming {
            let same = self.dpb.iter().find(|(p, _)| *p == poc);
            assert_eq!(same, None, "{unit}: a POC twice");
        }
        let mut named = Vec::new();
        for name in &au.names {
            let wanted = poc + i64::from(name.poc - au.poc);
            let is_it = |p: i64| {
                if name.by_lsb {
                    p.rem_euclid(max) == wanted.rem_euclid(max)
                } else {
                    p == wanted
                }
            };
            let found = self.dpb.iter().copied().find(|(p, _)| is_it(*p));
            let entry = found.unwrap_or((wanted, None));
            if found.is_none() {
                self.dpb.push(entry);
            }
            if let Some(reference) = name.unit.filter(|r| au.active.contains(&Some(*r))) {
                assert_eq!(entry.1, Some(reference), "{unit} refers to {reference}");
            }
            named.push(entry);
        }
        named.push((poc, Some(unit)));
        self.dpb = named;
        let anchors = !is_rasl(n) && !is_radl(n) && !is_non_reference(n);
        if au.temporal_id == 0 && anchors {
            self.prev_tid0 = Some(poc);
        }
    }
}

struct Model<'s> {
    view: View<'s>,
    planner: Planner,
    conforming: bool,
    /// The parameter sets that are in force at each unit.
    sets: Vec<DecoderSets>,
}

impl Model<'_> {
    fn standing(&self, unit: usize) -> view::Standing {
        self.view.standing(unit, Depth::Active)
    }

    fn reach(&self, units: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
        self.view.reach(units, Depth::Active, true)
    }

    fn check_target(&self, unit: usize) {
        let standing = self.planner.standing(d(unit));
        let expected = self.standing(unit);
        let alone = self.planner.alone(d(unit)).map(numbers);
        let fallback = self.planner.fallback(d(unit)).map(numbers);
        let matches = match standing {
            Standing::Exact => expected == view::Standing::Exact,
            Standing::Fallback => expected == view::Standing::Fallback,
            Standing::Refused(Refusal::NeedsEarlierStart) => {
                expected == view::Standing::NeedsEarlierStart
            }
            Standing::Refused(_) => expected == view::Standing::NotDecodable,
        };
        assert!(matches, "{unit}: {standing:?}, not {expected:?}");
        assert_eq!(alone.is_some(), standing == Standing::Exact);
        assert_eq!(fallback.is_some(), standing == Standing::Fallback);
        if let Some(alone) = alone {
            let needed = self.reach([unit]);
            let right = self.view.poc_is_right(needed.iter().copied());
            let alone: BTreeSet<usize> = alone.into_iter().collect();
            assert!(needed.is_subset(&alone));
            assert_eq!(right, needed == alone, "{unit}: {needed:?}, {alone:?}");
        }
        if let Some(fallback) = fallback {
            let truth = &self.view.truths[unit];
            let rasl = is_rasl(self.view.stream.aus[unit].nal_type);
            let irap = truth.irap.unwrap();
            let start = if rasl {
                self.view.truths[irap].irap_before.unwrap_or(irap)
            } else {
                irap
            };
            assert_eq!(fallback, (start..=unit).collect::<Vec<_>>());
        }
    }

    /// Holds a way against the rules; returns what the decoder was given with it.
    fn check_way(&self, given: &[usize], targets: &[usize], way: &Way) -> Vec<usize> {
        let (next, reached) = (numbers(way.next.clone()), numbers(way.reached.clone()));
        let beyond = numbers(way.beyond.clone());
        let exact: Vec<usize> = targets
            .iter()
            .copied()
            .filter(|&u| self.standing(u) == view::Standing::Exact)
            .collect();
        let all: Vec<usize> = given.iter().chain(&next).copied().collect();
        assert!(all.is_sorted_by(|a, b| a < b), "{given:?} then {next:?}");
        // Each target is in one of the lists.
        let asked: BTreeSet<usize> = exact.iter().copied().collect();
        let answered: BTreeSet<usize> = reached.iter().chain(&beyond).copied().collect();
        assert_eq!(
            (answered.len(), &answered),
            (reached.len() + beyond.len(), &asked)
        );
        assert!(reached.iter().all(|t| next.contains(t)));
        assert!(beyond.is_sorted_by_key(|t| exact.iter().position(|e| e == t)));
        if given.is_empty() {
            assert!(exact.first().is_none_or(|t| reached.contains(t)));
        }
        // Everything that it refers to, in one sequence, with the right POCs.
        let set: BTreeSet<usize> = all.iter().copied().collect();
        assert_eq!(self.reach(set.iter().copied()), set, "not closed");
        assert!(
            self.view.poc_is_right(set.iter().copied()),
            "POC in {set:?}"
        );
        let sequences: BTreeSet<usize> = set
            .iter()
            .map(|&u| self.view.stream.aus[u].sequence)
            .collect();
        assert!(sequences.len() <= 1, "{sequences:?}");
        let mut decoder = Decoder::new(self.view.stream);
        for &unit in &set {
            decoder.give(unit, self.conforming);
        }
        // Not more than is needed.
        let mut needed = self.reach(reached.iter().copied());
        needed.extend(given);
        if self.view.poc_is_right(needed.iter().copied()) {
            assert_eq!(set, needed, "more than is needed");
        }
        assert_eq!(reached.is_empty(), next.is_empty());
        self.check_beyond(given, &set, &beyond);
        let rows = next.iter().all(|&u| {
            let graph = self.planner.graph();
            let picture = graph.picture(graph.unit_of(d(u)).unwrap()).unwrap();
            picture.wavefront && !picture.sps.sample_adaptive_offset
        });
        assert_eq!(way.rows_in_parallel, rows);
        all
    }

    /// What is left for a fresh decoder has passed by, has nothing to do with this decoder, or
    /// would get it into trouble with POCs.
    fn check_beyond(&self, given: &[usize], set: &BTreeSet<usize>, beyond: &[usize]) {
        let last = given.last().copied();
        let ahead = |&u: &usize| last.is_none_or(|last| u > last);
        let could: BTreeSet<usize> = (beyond.iter().copied())
            .filter(|t| ahead(t))
            .filter(|&t| {
                self.reach([t])
                    .iter()
                    .all(|u| ahead(u) || given.contains(u))
            })
            .filter(|&t| !self.reach([t]).is_disjoint(set))
            .collect();
        let mut together = self.reach(could.iter().copied());
        together.extend(set);
        assert!(
            could.is_empty() || !self.view.poc_is_right(together.iter().copied()),
            "{could:?} could be reached from {given:?}"
        );
    }

    /// With the preludes, a decoder knows the parameter sets that are in force at each unit.
    fn check_preludes(&self, given: &[usize], next: &[usize], sets: &mut DecoderSets) {
        let stream = self.view.stream;
        let samples = |of: &[usize]| -> Vec<DecodeIndex> { of.iter().map(|&u| d(u)).collect() };
        let preludes = self.planner.preludes(&samples(given), &samples(next));
        assert_eq!(preludes.len(), next.len());
        for (&unit, prelude) in next.iter().zip(&preludes) {
            for nal in prelude {
                sets.take(stream, nal);
            }
            for set in &stream.aus[unit].sets {
                sets.take(stream, &stream.sets[set]);
            }
            // A decoder that was emptied keeps what it knew: more than it needs, maybe.
            let expected = &self.sets[unit];
            assert_eq!((sets.vps, sets.sps), (expected.vps, expected.sps), "{unit}");
            for (id, pps) in &expected.pps {
                assert_eq!(sets.pps.get(id), Some(pps), "{unit}");
            }
        }
    }

    fn walk(&self, t: &mut Tape) {
        let count = self.view.stream.aus.len();
        let mut decoder = Decoder::new(self.view.stream);
        let mut given: Vec<usize> = Vec::new();
        let mut at = self.view.first;
        for _ in 0..12 {
            let targets: Vec<usize> = (0..1 + t.below(4))
                .map(|_| match t.below(3) {
                    0 => self.view.first + t.below((count - self.view.first) as u32) as usize,
                    near => (at + near as usize).min(count - 1),
                })
                .collect();
            let mut targets: Vec<usize> = targets;
            let mut seen = BTreeSet::new();
            targets.retain(|u| seen.insert(*u));
            at = *targets.last().unwrap();
            while targets
                .iter()
                .any(|&u| self.standing(u) == view::Standing::Exact)
            {
                let asked: Vec<DecodeIndex> = targets.iter().map(|&u| d(u)).collect();
                let samples: Vec<DecodeIndex> = given.iter().map(|&u| d(u)).collect();
                let way = self.planner.way(&samples, &asked);
                let all = self.check_way(&given, &targets, &way);
                if way.reached.is_empty() {
                    assert!(!given.is_empty());
                    decoder = Decoder {
                        sets: decoder.sets,
                        ..Decoder::new(self.view.stream)
                    };
                    given.clear();
                    continue;
                }
                let next = numbers(way.next);
                self.check_preludes(&given, &next, &mut decoder.sets);
                given = all;
                targets = numbers(way.beyond);
            }
        }
    }
}

fn numbers(samples: Vec<DecodeIndex>) -> Vec<usize> {
    samples.into_iter().map(|s| s.as_usize()).collect()
}

fn check(t: &mut Tape, wanted: Wanted) {
    let stream = make(t, wanted);
    let count = stream.aus.len();
    let mut in_force = DecoderSets::default();
    let sets: Vec<DecoderSets> = stream
        .aus
        .iter()
        .map(|au| {
            for set in &au.sets {
                in_force.take(&stream, &stream.sets[set]);
            }
            in_force.clone()
        })
        .collect();
    let starts = (0..count).filter(|&u| is_irap(stream.aus[u].nal_type));
    let starts: Vec<usize> = std::iter::once(0).chain(starts).collect();
    for first in starts {
        let model = Model {
            view: View::new(&stream, first),
            planner: Planner::new(graph_from(&stream, first, t.flag())),
            conforming: !wanted.missing,
            sets: sets.clone(),
        };
        for unit in first..count {
            model.check_target(unit);
        }
        let all: Vec<usize> = (first..count).collect();
        let asked: Vec<DecodeIndex> = all.iter().map(|&u| d(u)).collect();
        model.check_way(&[], &all, &model.planner.way(&[], &asked));
        for _ in 0..3 {
            model.walk(t);
        }
        // With gaps: what some targets need alone is there, and something else.
        for _ in 0..3 {
            let targets: Vec<DecodeIndex> = asked.iter().copied().filter(|_| t.one_in(4)).collect();
            let needs = targets.iter().filter_map(|&u| model.planner.alone(u));
            let others = asked.iter().copied();
            let held: BTreeSet<DecodeIndex> = needs
                .flatten()
                .chain(others.filter(|_| t.one_in(5)))
                .collect();
            for place in 0..targets.len() {
                let mut targets = targets.clone();
                targets.swap(0, place);
                let lead = targets[0];
                let way = model.planner.way_with(&[], &targets, |s| held.contains(&s));
                let exact = model.planner.standing(lead) == Standing::Exact;
                assert_eq!(way.reached.contains(&lead), exact, "{lead}");
                let next = numbers(way.next);
                assert!(next.iter().all(|&u| held.contains(&d(u))));
                for &target in &way.reached {
                    let needed = model.reach([target.as_usize()]);
                    assert!(needed.iter().all(|u| next.contains(u)), "{target}");
                }
                assert!(model.view.poc_is_right(next));
            }
        }
        // Whatever a decoder was given, sense or nonsense, what is promised holds: pictures that
        // are wrong already are not referred to.
        for _ in 0..6 {
            let given: Vec<DecodeIndex> = all.iter().filter(|_| t.flag()).map(|&u| d(u)).collect();
            let way = model.planner.way(&given, &asked);
            let last = given.last().map(|s| s.as_usize());
            for &target in &way.reached {
                let needed = model.reach([target.as_usize()]);
                let there = |u: &usize| given.contains(&d(*u)) || way.next.contains(&d(*u));
                assert!(needed.iter().all(there), "{target}");
            }
            let next = numbers(way.next);
            assert!(next.iter().all(|&u| last.is_none_or(|last| u > last)));
            let given = numbers(given);
            assert!(next.is_empty() || model.view.poc_is_right(given.into_iter().chain(next)));
        }
    }
}

fn tape() -> impl Strategy<Value = Tape> {
    prop::collection::vec(any::<u32>(), 100..1600).prop_map(Tape::new)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn sound_streams(mut t in tape()) {
        check(&mut t, Wanted { units: 40, damage: false, missing: false });
    }

    #[test]
    fn damaged_streams(mut t in tape()) {
        check(&mut t, Wanted { units: 40, damage: true, missing: false });
    }

    #[test]
    fn streams_with_missing_references(mut t in tape()) {
        check(&mut t, Wanted { units: 40, damage: true, missing: true });
    }
}
