//! Which left-out pictures a decoder must be given for their picture order count alone.
//!
//! A decoder derives each POC from the last picture it was given that may anchor one (8.3.1). Where
//! pictures are left out, the next one may lie too far away, and its POC comes out wrong by a
//! multiple of `MaxPicOrderCntLsb`; with it, all that its reference picture set names.

use std::collections::BTreeSet;

use crate::graph::{Picture, ReferenceGraph, UnitIndex};
use crate::h265::poc::PocState;

/// A picture that is decoded for its POC alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Anchor {
    pub(crate) unit: UnitIndex,
    /// The unit that needs it.
    pub(crate) anchored: UnitIndex,
}

/// The POC of this unit comes out wrong, and no picture that may be put in sets it right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OutOfReach;

/// The count of a decoder that has been given some pictures and nothing else.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct PocCount {
    state: PocState,
    /// What its count differs by from the graph's: the same for all pictures, or it is wrong.
    shift: Option<i32>,
    last_anchor: UnitIndex,
}

impl PocCount {
    /// Gives it a picture; says whether its POC came out right.
    pub(crate) fn take(&mut self, graph: &ReferenceGraph, unit: UnitIndex) -> bool {
        let Some(p) = graph.picture(unit) else {
            return true;
        };
        let starts = self.shift.is_none() || p.starts_sequence;
        let this = p.poc.wrapping_sub(next_poc(&mut self.state, p, starts));
        if sets_poc_anchor(p) {
            self.last_anchor = unit;
        }
        *self.shift.get_or_insert(this) == this
    }

    /// Gives it `units`, all behind what it was given so far, and at the first place where a POC
    /// goes wrong returns the pictures left out that set it right: among those that come after
    /// what it was given, and that are `available`.
    pub(crate) fn missing_anchors(
        mut self,
        graph: &ReferenceGraph,
        units: &BTreeSet<UnitIndex>,
        after: UnitIndex,
        available: impl Fn(UnitIndex) -> bool,
    ) -> Result<Vec<Anchor>, OutOfReach> {
        for &unit in units {
            let before = self;
            if self.take(graph, unit) {
                continue;
            }
            let may_be_put_in = |u: &UnitIndex| {
                !units.contains(u)
                    && available(*u)
                    && graph.picture(*u).is_some_and(sets_poc_anchor)
            };
            let range = before.last_anchor.max(after)..unit;
            let left_out: Vec<UnitIndex> = range.filter(may_be_put_in).collect();
            let shift = before.shift.unwrap_or(0);
            return fewest_anchors(graph, before.state, shift, &left_out, unit);
        }
        Ok(Vec::new())
    }
}

/// As few of the pictures left out as lead the POC from `state` to `anchored`: always the last one
/// whose POC comes out right. In a graph where nothing is left out the next one always does, so
/// that this ends.
fn fewest_anchors(
    graph: &ReferenceGraph,
    mut state: PocState,
    shift: i32,
    left_out: &[UnitIndex],
    anchored: UnitIndex,
) -> Result<Vec<Anchor>, OutOfReach> {
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
        let (place, unit, next) = reached.next().ok_or(OutOfReach)?;
        anchors.push(Anchor { unit, anchored });
        (state, from) = (next, place.saturating_add(1));
    }
    Ok(anchors)
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
