//! Reference graphs and closures against a model: random reference structures by an encoder
//! that knows what each picture refers to, and the rules written out a second time, as plainly as
//! can be.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;

use media::closure::{Depth, closure};
use media::graph::{ReferenceGraph, UnitContent};
use proptest::prelude::*;
use support::stream::{Wanted, is_irap, make};
use support::view::{Standing, View, graph_from};
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
            }
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
