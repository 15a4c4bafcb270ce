//! The bytes of an object that were pushed so far and are still of use.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// Pushed bytes by their place in the object. Pieces never overlap and are never empty.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    pieces: BTreeMap<u64, Bytes>,
}

impl Chunks {
    /// Keeps the bytes at `offset` that are not held yet; what lies at or beyond `object_size`
    /// is dropped.
    pub(super) fn push(&mut self, offset: u64, mut data: Bytes, object_size: u64) {
        let room = object_size.saturating_sub(offset);
        data.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        let whole = offset..offset.saturating_add(data.len() as u64);
        for gap in self.missing(whole) {
            let from = gap.start.saturating_sub(offset) as usize;
            let to = gap.end.saturating_sub(offset) as usize;
            if from < to && to <= data.len() {
                self.pieces.insert(gap.start, data.slice(from..to));
            }
        }
    }

    /// The parts of a range that are not held, ascending.
    pub(super) fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        if range.is_empty() {
            return gaps;
        }
        let mut at = range.start;
        let before = self.pieces.range(..range.start).next_back();
        for (&start, data) in before.into_iter().chain(self.pieces.range(range.clone())) {
            if at >= range.end {
                break;
            }
            if start > at {
                gaps.push(at..start.min(range.end));
            }
            at = at.max(start.saturating_add(data.len() as u64));
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// How many bytes are held from `at` on without a gap, up to `limit`.
    pub(super) fn held_from(&self, at: u64, limit: u64) -> u64 {
        let end = at.saturating_add(limit);
        self.missing(at..end)
            .first()
            .map_or(limit, |gap| gap.start.saturating_sub(at))
    }

    /// The bytes of a range, or the parts of it that are not held. No bytes are copied where one
    /// piece covers the range.
    pub(super) fn get(&self, range: Range<u64>) -> Result<Bytes, Vec<Range<u64>>> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let missing = self.missing(range.clone());
        if !missing.is_empty() {
            return Err(missing);
        }
        if let Some((&start, data)) = self.pieces.range(..=range.start).next_back() {
            let from = range.start.saturating_sub(start);
            let to = range.end.saturating_sub(start);
            if to <= data.len() as u64 && from <= to {
                return Ok(data.slice(from as usize..to as usize));
            }
        }
        let mut joined = BytesMut::with_capacity(range.end.saturating_sub(range.start) as usize);
        let before = self.pieces.range(..range.start).next_back();
        for (&start, data) in before.into_iter().chain(self.pieces.range(range.clone())) {
            let from = range.start.saturating_sub(start).min(data.len() as u64);
            let to = range.end.saturating_sub(start).min(data.len() as u64);
            joined.extend_from_slice(data.get(from as usize..to as usize).unwrap_or_default());
        }
        Ok(joined.freeze())
    }

    /// Drops the pieces that end at or before `offset`.
    pub(super) fn discard_before(&mut self, offset: u64) {
        while let Some((&start, data)) = self.pieces.first_key_value() {
            if start.saturating_add(data.len() as u64) > offset {
                break;
            }
            self.pieces.pop_first();
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_pushes_are_joined_and_gaps_are_named() {
        let object: Vec<u8> = (0..100).collect();
        let object = Bytes::from(object);
        let mut c = Chunks::default();
        c.push(10, object.slice(10..20), 100);
        c.push(30, object.slice(30..40), 100);
        c.push(15, object.slice(15..35), 100);
        assert_eq!(c.get(12..38).unwrap(), object.slice(12..38));
        assert_eq!(c.get(5..45).unwrap_err(), vec![5..10, 40..45]);
        assert_eq!(c.held_from(20, 64), 20);
        assert_eq!(c.held_from(5, 64), 0);
        c.discard_before(20);
        assert_eq!(c.missing(10..40), vec![10..20]);
    }

    #[test]
    fn bytes_beyond_the_object_are_not_kept() {
        let mut c = Chunks::default();
        c.push(8, Bytes::from_static(&[1; 8]), 10);
        c.push(20, Bytes::from_static(&[1; 8]), 10);
        assert_eq!(c.get(8..10).unwrap().len(), 2);
        assert_eq!(c.missing(8..30), vec![10..30]);
    }
}
