//! Parameter sets that a decoder must be told of, though the samples that brought them are left
//! out.

use bytes::Bytes;

use crate::graph::{ReferenceGraph, UnitIndex};
use crate::order::DecodeIndex;

/// The changes of parameter sets along a graph: what each unit says that is news where everything
/// is decoded. Nearly always nothing.
#[derive(Clone, Debug)]
pub(crate) struct ParameterSetNews(Vec<News>);

#[derive(Clone, Debug)]
struct News {
    unit: UnitIndex,
    /// It lies in the unit itself, not before it.
    inside: bool,
    set: Bytes,
}

impl ParameterSetNews {
    pub(crate) fn new(graph: &ReferenceGraph) -> Self {
        let mut sets = graph.initial_sets().clone();
        let mut news = Vec::new();
        for (unit, u) in (0..).zip(graph.units()) {
            let before = u.sets_before.iter().map(|s| (false, s));
            for (inside, set) in before.chain(u.sets_inside.iter().map(|s| (true, s))) {
                // What cannot be read here, a decoder may read: it is given everything.
                if sets.push(set).unwrap_or(true) {
                    let set = set.clone();
                    news.push(News { unit, inside, set });
                }
            }
        }
        Self(news)
    }

    /// What is to be put before `sample`, for a decoder that was given `last` and nothing since,
    /// or nothing at all.
    fn before(
        &self,
        graph: &ReferenceGraph,
        last: Option<DecodeIndex>,
        sample: DecodeIndex,
    ) -> Vec<Bytes> {
        let Some(unit) = graph.unit_of(sample) else {
            return Vec::new();
        };
        let Self(news) = self;
        let end = news.partition_point(|n| (n.unit, n.inside) < (unit, true));
        match last {
            None => {
                let mut sets = graph.initial_sets().clone();
                for n in news.get(..end).unwrap_or_default() {
                    // Both are kept: the one of before, and the one that cannot be read.
                    sets.push(&n.set).ok();
                }
                sets.nals().cloned().collect()
            }
            // The sample itself brought what lies inside it.
            Some(last) => {
                let unit = last.0.checked_sub(graph.first().0);
                let start = news.partition_point(|n| unit.is_some_and(|u| n.unit <= u));
                let between = news.get(start..end).unwrap_or_default();
                between.iter().map(|n| n.set.clone()).collect()
            }
        }
    }

    /// What is to be put before each of `next`, which are ascending, for a decoder that was given
    /// `last` last, or nothing.
    pub(crate) fn preludes(
        &self,
        graph: &ReferenceGraph,
        mut last: Option<DecodeIndex>,
        next: &[DecodeIndex],
    ) -> Vec<Vec<Bytes>> {
        let each = next.iter().map(|&sample| {
            let prelude = self.before(graph, last, sample);
            last = Some(sample);
            prelude
        });
        each.collect()
    }
}
