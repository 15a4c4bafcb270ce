//! Reference graphs and decode plans against a model: random reference structures by an encoder
//! that knows what each picture refers to, and the rules written out a second time, as plainly as
//! can be.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use media::graph::{ReferenceGraph, UnitContent};
use media::h265::ParameterSets;
use media::index::Framing;
use media::plan::{DecodePlan, Depth, Refusal, closure, preludes};
use proptest::prelude::*;
use support::stream::{Set, Stream, Wanted, is_irap, is_non_reference, is_radl, is_rasl, make};
use support::{Tape, d};

const LENGTHS: Framing = Framing::LengthPrefixed(4);

/// What is true of a unit, seen from a graph that begins at `View::first`.
#[derive(Clone, Debug, Default)]
struct Truth {
    readable: bool,
    /// The IRAP it is associated with, readable or not.
    irap: Option<usize>,
    irap_before: Option<usize>,
    starts: bool,
    uncertain: bool,
    rps: BTreeSet<usize>,
    active: BTreeSet<usize>,
    active_missing: bool,
    left_out: bool,
}

struct View<'s> {
    stream: &'s Stream,
    first: usize,
    truths: Vec<Truth>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Exact,
    Fallback,
    NotDecodable,
    NeedsEarlierStart,
}

impl<'s> View<'s> {
    fn new(stream: &'s Stream, first: usize) -> Self {
        let mut truths = vec![Truth::default(); stream.aus.len()];
        let (mut irap, mut readable_irap) = (None, None);
        let (mut damaged, mut guessed) = (false, false);
        let mut sequence_from = first;
        let mut begins = false;
        for (u, au) in stream.aus.iter().enumerate().skip(first) {
            let t = &mut truths[u];
            t.irap_before = irap;
            if is_irap(au.nal_type) {
                irap = Some(u);
            }
            t.irap = irap;
            if au.damaged {
                damaged = true;
                continue;
            }
            t.readable = true;
            if is_irap(au.nal_type) {
                t.starts = au.nal_type != 21 || au.eos_before || readable_irap.is_none() || damaged;
                guessed = damaged && au.nal_type == 21;
                damaged = false;
                readable_irap = Some(u);
                begins = t.starts;
                if t.starts {
                    sequence_from = u;
                }
            }
            t.uncertain = damaged || (guessed && is_rasl(au.nal_type));
            t.left_out = is_rasl(au.nal_type) && begins;
            let there = |r: &Option<usize>| r.filter(|&r| r >= sequence_from);
            t.rps = au.rps.iter().filter_map(there).collect();
            t.active = au.active.iter().filter_map(there).collect();
            t.active_missing = au.active.iter().any(|r| there(r).is_none());
        }
        Self {
            stream,
            first,
            truths,
        }
    }

    fn edges(&self, unit: usize, depth: Depth) -> &BTreeSet<usize> {
        match depth {
            Depth::Rps => &self.truths[unit].rps,
            Depth::Active => &self.truths[unit].active,
        }
    }

    /// Everything that can be reached, by going on until nothing is new.
    fn reach(
        &self,
        from: impl IntoIterator<Item = usize>,
        depth: Depth,
        iraps: bool,
    ) -> BTreeSet<usize> {
        let mut all: BTreeSet<usize> = from.into_iter().collect();
        loop {
            let mut more = all.clone();
            for &u in &all {
                more.extend(self.edges(u, depth));
                if iraps {
                    let irap = self.truths[u].irap;
                    more.extend(irap);
                    if is_rasl(self.stream.aus[u].nal_type) {
                        more.extend(irap.and_then(|i| self.truths[i].irap_before));
                    }
                }
            }
            if more == all {
                return all;
            }
            all = more;
        }
    }

    fn standing(&self, unit: usize, depth: Depth) -> Standing {
        let earlier = if self.first == 0 {
            Standing::NotDecodable
        } else {
            Standing::NeedsEarlierStart
        };
        let (au, t) = (&self.stream.aus[unit], &self.truths[unit]);
        let Some(irap) = t.irap else { return earlier };
        let irap_type = self.stream.aus[irap].nal_type;
        let rasl = is_rasl(au.nal_type);
        if rasl {
            let first_of_graph = self.truths[irap].irap_before.is_none();
            match irap_type {
                21 if first_of_graph => return earlier,
                21 if t.readable && !t.uncertain && t.left_out => return Standing::NotDecodable,
                21 => {}
                _ => return Standing::NotDecodable,
            }
        }
        if !t.readable {
            return Standing::Fallback;
        }
        if !au.output {
            return Standing::NotDecodable;
        }
        let all = self.reach([unit], depth, false);
        if all
            .iter()
            .any(|&u| self.truths[u].uncertain || !self.truths[u].readable)
        {
            return Standing::Fallback;
        }
        if all
            .iter()
            .any(|&u| self.truths[u].active_missing || self.truths[u].left_out)
        {
            return if irap_type != 21 && !rasl {
                Standing::NotDecodable
            } else {
                earlier
            };
        }
        Standing::Exact
    }

    /// 8.3.1 over some units alone, by a decoder that starts with them. Whether every POC differs
    /// from the true one by the same number.
    fn poc_is_right(&self, units: impl IntoIterator<Item = usize>) -> bool {
        let max = 1i64 << self.stream.log2_max_poc_lsb;
        let mut prev: Option<i64> = None;
        let mut shift = None;
        units.into_iter().all(|u| {
            let au = &self.stream.aus[u];
            let lsb = i64::from(au.poc_lsb);
            let poc = match prev {
                None => lsb,
                Some(_) if is_irap(au.nal_type) && au.nal_type != 21 => lsb,
                Some(prev) => {
                    let (prev_lsb, prev_msb) = (prev.rem_euclid(max), prev - prev.rem_euclid(max));
                    let msb = if lsb < prev_lsb && prev_lsb - lsb >= max / 2 {
                        prev_msb + max
                    } else if lsb > prev_lsb && lsb - prev_lsb > max / 2 {
                        prev_msb - max
                    } else {
                        prev_msb
                    };
                    msb + lsb
                }
            };
            let n = au.nal_type;
            if prev.is_none()
                || (au.temporal_id == 0 && !is_rasl(n) && !is_radl(n) && !is_non_reference(n))
            {
                prev = Some(poc);
            }
            let this = i64::from(au.poc) - poc;
            *shift.get_or_insert(this) == this
        })
    }
}

/// The parameter sets that libavcodec has: what a set hangs on must be there, and when that
/// changes the set is gone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct DecoderSets {
    vps: Option<Set>,
    sps: Option<Set>,
    pps: BTreeMap<u8, Set>,
}

impl DecoderSets {
    fn take(&mut self, stream: &Stream, nal: &[u8]) {
        let known = stream.sets.iter().find(|(_, bytes)| bytes[..] == *nal);
        let set = *known.expect("a set of the stream").0;
        match set {
            Set::Vps(_) => {
                if self.vps != Some(set) {
                    *self = Self::default();
                }
                self.vps = Some(set);
            }
            Set::Sps(_) => {
                assert!(self.vps.is_some(), "an SPS before its VPS");
                if self.sps != Some(set) {
                    self.pps.clear();
                }
                self.sps = Some(set);
            }
            Set::Pps(place) => {
                assert!(self.sps.is_some(), "a PPS before its SPS");
                self.pps.insert(stream.pps[place].id, set);
            }
        }
    }
}

fn graph_from(stream: &Stream, first: usize, eos_first: bool) -> ReferenceGraph {
    let before = stream.aus[..first].iter().flat_map(|au| &au.sets);
    let before: Vec<&Bytes> = before.map(|s| &stream.sets[s]).collect();
    let sets = ParameterSets::from_nals(before);
    let mut graph = ReferenceGraph::new(d(first), sets, first == 0);
    for sample in &stream.samples(eos_first)[first..] {
        graph.push(sample, LENGTHS, &[]);
    }
    graph
}

fn units(graph: &ReferenceGraph, of: &[u32]) -> BTreeSet<usize> {
    of.iter().map(|&u| graph.sample_of(u).as_usize()).collect()
}

fn check_edges(view: &View<'_>, graph: &ReferenceGraph) {
    let mut shift: Option<(usize, i32)> = None;
    for u in view.first..view.stream.aus.len() {
        let (au, truth) = (&view.stream.aus[u], &view.truths[u]);
        let unit = graph.unit_of(d(u)).unwrap();
        assert_eq!(graph.nal_type(unit).map(|n| n.0), Some(au.nal_type));
        let Some(p) = graph.picture(unit) else {
            let content = &graph.units()[unit as usize].content;
            assert!(matches!(content, UnitContent::Unreadable(_)), "{u}");
            assert!(!truth.readable, "{u}: {content:?}");
            continue;
        };
        assert!(truth.readable, "{u}");
        assert_eq!(p.uncertain, truth.uncertain, "{u}");
        assert_eq!(p.poc_lsb, au.poc_lsb, "{u}");
        assert_eq!((p.nal_type.0, p.temporal_id), (au.nal_type, au.temporal_id));
        if truth.uncertain {
            shift = None;
            continue;
        }
        assert_eq!(p.starts_sequence, truth.starts, "{u}");
        assert_eq!(
            p.irap.map(|i| graph.sample_of(i).as_usize()),
            truth.irap,
            "{u}"
        );
        assert_eq!(p.output, au.output, "{u}");
        assert_eq!(units(graph, &p.rps_references), truth.rps, "{u}: RPS");
        assert_eq!(
            units(graph, &p.active_references),
            truth.active,
            "{u}: active"
        );
        assert!(truth.active.is_subset(&truth.rps));
        assert_eq!(p.active_missing, truth.active_missing, "{u}");
        // POC differences are those of the sequence.
        let this = p.poc.wrapping_sub(au.poc);
        match shift {
            Some((sequence, s)) if sequence == au.sequence && !truth.starts => {
                assert_eq!(this, s, "{u}: POC {} for {}", p.poc, au.poc);
            }
            _ => shift = Some((au.sequence, this)),
        }
    }
}

fn check_plan(view: &View<'_>, graph: &ReferenceGraph, targets: &[usize], depth: Depth) {
    let asked: Vec<_> = targets.iter().map(|&u| d(u)).collect();
    let plan = DecodePlan::new(graph, &asked, depth);
    let mut due: BTreeMap<usize, Standing> = targets
        .iter()
        .map(|&u| (u, view.standing(u, depth)))
        .collect();
    for (sample, why) in &plan.refused {
        let expected = due.remove(&sample.as_usize()).expect("refused once");
        let got = match why {
            Refusal::NeedsEarlierStart => Standing::NeedsEarlierStart,
            Refusal::NotDecodable(_) => Standing::NotDecodable,
            other => panic!("{sample}: {other}"),
        };
        assert_eq!(got, expected, "{sample}: {why}");
    }
    let mut decoded = BTreeSet::new();
    let mut decoded_in_fallback = BTreeSet::new();
    for pass in &plan.passes {
        let samples: Vec<usize> = pass.samples.iter().map(|s| s.as_usize()).collect();
        assert!(samples.is_sorted_by(|a, b| a < b));
        assert!(is_irap(view.stream.aus[samples[0]].nal_type), "{samples:?}");
        let kind = if pass.fallback {
            Standing::Fallback
        } else {
            Standing::Exact
        };
        let wanted: Vec<usize> = pass.targets.iter().map(|s| s.as_usize()).collect();
        assert!(!wanted.is_empty() && wanted.is_sorted_by(|a, b| a < b));
        for target in &wanted {
            assert_eq!(due.remove(target), Some(kind), "{target}");
            assert!(samples.binary_search(target).is_ok());
        }
        check_preludes(view, graph, pass);
        let set: BTreeSet<usize> = samples.iter().copied().collect();
        if pass.fallback {
            assert!(samples.windows(2).all(|w| w[1] == w[0] + 1));
            assert_eq!(samples.last(), wanted.last());
            assert!(decoded_in_fallback.is_disjoint(&set), "decoded twice");
            decoded_in_fallback.extend(set);
            continue;
        }
        assert!(decoded.is_disjoint(&set), "decoded twice");
        decoded.extend(set.iter().copied());
        let needed = view.reach(wanted, depth, true);
        assert!(needed.is_subset(&set));
        assert_eq!(
            view.reach(samples.iter().copied(), depth, true),
            set,
            "not closed"
        );
        assert!(
            view.poc_is_right(samples.iter().copied()),
            "POC in {samples:?}"
        );
        if view.poc_is_right(needed.iter().copied()) {
            assert_eq!(set, needed, "more than is needed");
        } else {
            assert_ne!(set, needed);
        }
        let sequence = view.stream.aus[samples[0]].sequence;
        assert!(
            samples
                .iter()
                .all(|&u| view.stream.aus[u].sequence == sequence)
        );
        for (place, references) in pass.references.iter().enumerate() {
            let got: BTreeSet<usize> = references.iter().map(|&r| samples[r as usize]).collect();
            assert_eq!(got, *view.edges(samples[place], depth));
        }
        let rows = |&u: &usize| {
            let picture = graph.picture(graph.unit_of(d(u)).unwrap()).unwrap();
            picture.wavefront && !picture.sps.sample_adaptive_offset
        };
        assert_eq!(pass.rows_in_parallel, samples.iter().all(rows));
    }
    assert!(due.is_empty(), "not answered: {due:?}");
    // In the order of what was asked first.
    let place = |s: &media::DecodeIndex| targets.iter().position(|&t| t == s.as_usize());
    let firsts = plan
        .passes
        .iter()
        .map(|p| p.targets.iter().map(place).min());
    assert!(firsts.is_sorted());
    assert_eq!(
        plan.decoded(),
        plan.passes.iter().map(|p| p.samples.len()).sum()
    );
}

fn check_preludes(view: &View<'_>, graph: &ReferenceGraph, pass: &media::plan::DecodePass) {
    let stream = view.stream;
    let mut in_stream = DecoderSets::default();
    let mut at: Vec<DecoderSets> = Vec::new();
    for au in &stream.aus {
        for set in &au.sets {
            in_stream.take(stream, &stream.sets[set]);
        }
        at.push(in_stream.clone());
    }
    let mut decoder = DecoderSets::default();
    let preludes = preludes(graph, &pass.samples);
    assert_eq!(preludes.len(), pass.samples.len());
    for (sample, prelude) in pass.samples.iter().zip(&preludes) {
        for nal in prelude {
            decoder.take(stream, nal);
        }
        for set in &stream.aus[sample.as_usize()].sets {
            decoder.take(stream, &stream.sets[set]);
        }
        assert_eq!(decoder, at[sample.as_usize()], "{sample}");
    }
}

fn check(t: &mut Tape, wanted: Wanted) {
    let stream = make(t, wanted);
    let count = stream.aus.len();
    let starts = (0..count).filter(|&u| is_irap(stream.aus[u].nal_type));
    let starts: Vec<usize> = std::iter::once(0).chain(starts).collect();
    for _ in 0..4 {
        let first = *t.pick(&starts);
        let view = View::new(&stream, first);
        let graph = graph_from(&stream, first, t.flag());
        assert_eq!(graph.units().len(), count - first);
        check_edges(&view, &graph);
        for depth in [Depth::Active, Depth::Rps] {
            for u in first..count {
                let exact = view.standing(u, depth) == Standing::Exact;
                let expected =
                    exact.then(|| view.reach([u], depth, true).into_iter().map(d).collect());
                assert_eq!(closure(&graph, d(u), depth), expected, "{u}");
                check_plan(&view, &graph, &[u], depth);
            }
            for _ in 0..3 {
                let asked = 1 + t.below(8);
                let mut targets = Vec::new();
                for _ in 0..asked {
                    let target = first + t.below((count - first) as u32) as usize;
                    if !targets.contains(&target) {
                        targets.push(target);
                    }
                }
                check_plan(&view, &graph, &targets, depth);
            }
            let all: Vec<usize> = (first..count).collect();
            check_plan(&view, &graph, &all, depth);
        }
    }
}

fn tape() -> impl Strategy<Value = Tape> {
    prop::collection::vec(any::<u32>(), 100..1600).prop_map(Tape::new)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

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
