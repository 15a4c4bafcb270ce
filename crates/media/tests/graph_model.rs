//! Reference graphs and decode plans against a model: random reference structures by an encoder
//! that knows what each picture refers to, and the rules written out a second time, as plainly as
//! can be.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use media::graph::{ReferenceGraph, UnitContent};
use media::plan::{DecodePlan, Depth, Refusal, closure, preludes};
use proptest::prelude::*;
use support::stream::{Wanted, is_irap, make};
use support::view::{DecoderSets, Standing, View, graph_from};
use support::{Tape, d};

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
