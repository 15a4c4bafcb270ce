//! Which units belong together.

use crate::graph::UnitIndex;

/// Union–find over units.
pub(crate) struct DisjointSets {
    parent: Vec<UnitIndex>,
}

impl DisjointSets {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            parent: (0..count as UnitIndex).collect(),
        }
    }

    pub(crate) fn find(&mut self, unit: UnitIndex) -> UnitIndex {
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

    pub(crate) fn join(&mut self, a: UnitIndex, b: UnitIndex) {
        let (a, b) = (self.find(a), self.find(b));
        if let Some(slot) = self.parent.get_mut(a.max(b) as usize) {
            *slot = a.min(b);
        }
    }
}
