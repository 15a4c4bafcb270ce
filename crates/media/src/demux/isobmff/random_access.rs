//! Where fragments probably begin: `sidx` (ISO/IEC 14496-12, 8.16.3) and `mfra` (8.8.9).
//!
//! These are hints for reading ahead, several places at once. They decide nothing: the boxes are
//! walked one after another whatever the hints say, so a false one costs a read and no more.

use std::ops::Range;

use super::boxes::{BoxRef, Fields};

/// Length of `mfro`, which ends an object that has an `mfra`.
pub(super) const MFRO: u64 = 16;

/// More hints than this are not kept.
const MOST_HINTS: usize = 256 * 1024;

/// Offsets at which a fragment is said to begin, ascending.
#[derive(Debug, Default)]
pub(super) struct Hints {
    offsets: Vec<u64>,
}

impl Hints {
    fn extend(&mut self, offsets: &[u64]) {
        let room = MOST_HINTS.saturating_sub(self.offsets.len());
        let offsets = offsets.get(..room).unwrap_or(offsets);
        let in_order = offsets.is_sorted()
            && self
                .offsets
                .last()
                .is_none_or(|last| offsets.first().is_none_or(|o| o > last));
        self.offsets.extend_from_slice(offsets);
        if !in_order {
            self.offsets.sort_unstable();
            self.offsets.dedup();
        }
    }

    /// The next `most` hints after `at`.
    pub(super) fn after(&self, at: u64, most: usize) -> impl Iterator<Item = u64> + '_ {
        let from = self.offsets.partition_point(|&o| o <= at);
        self.offsets
            .get(from..)
            .unwrap_or_default()
            .iter()
            .copied()
            .take(most)
    }

    /// Forgets the hints up to `at`.
    pub(super) fn discard_to(&mut self, at: u64) {
        let passed = self.offsets.partition_point(|&o| o <= at);
        // Seldom, so that the cost of moving the rest is spread.
        if passed > 1024 && passed > self.offsets.len() / 2 {
            self.offsets.drain(..passed);
        }
    }

    /// Takes the places from a segment index. Gives the end of the media that it speaks of;
    /// `None` where it cannot be read.
    ///
    /// ```text
    /// version(8) flags(24) reference_ID(32) timescale(32) earliest_presentation_time(32|64)
    /// first_offset(32|64) reserved(16) reference_count(16)
    /// { reference_type(1) referenced_size(31) subsegment_duration(32) SAP(32) }
    /// ```
    pub(super) fn add_sidx(&mut self, sidx: &BoxRef<'_>) -> Option<u64> {
        let (version, _, mut fields) = sidx.full().ok()?;
        fields.skip(8)?;
        let wide = u8::from(version != 0);
        fields.u64_in_version_1(wide)?;
        let first_offset = fields.u64_in_version_1(wide)?;
        fields.skip(2)?;
        let count = fields.u16()?;
        let rows = fields.rows::<12>(u32::from(count))?;
        let mut at = sidx
            .body_at
            .checked_add(sidx.body.len() as u64)?
            .checked_add(first_offset)?;
        let mut starts = Vec::with_capacity(rows.len());
        for [a, b, c, d, ..] in rows {
            starts.push(at);
            at = at.checked_add(u64::from(u32::from_be_bytes([a & 0x7f, *b, *c, *d])))?;
        }
        self.extend(&starts);
        Some(at)
    }

    /// Takes the places from the track tables of a whole `mfra` box.
    ///
    /// ```text
    /// tfra: version(8) flags(24) track_ID(32) reserved(26) length_size(2×3) number_of_entry(32)
    ///       { time(32|64) moof_offset(32|64) traf_number trun_number sample_number }
    /// ```
    pub(super) fn add_mfra(&mut self, mfra: &BoxRef<'_>) {
        for tfra in mfra
            .children()
            .map_while(Result::ok)
            .filter(|b| &b.fourcc.0 == b"tfra")
        {
            if let Some(offsets) = moof_offsets(&tfra) {
                self.extend(&offsets);
            }
        }
    }
}

fn moof_offsets(tfra: &BoxRef<'_>) -> Option<Vec<u64>> {
    let (version, _, mut fields) = tfra.full().ok()?;
    fields.skip(4)?;
    let lengths = fields.u32()?;
    let count = fields.u32()?;
    let numbers: u32 = [4, 2, 0]
        .iter()
        .map(|shift| ((lengths >> shift) & 3) + 1)
        .sum();
    let mut offsets = Vec::new();
    for _ in 0..count {
        fields.u64_in_version_1(version)?;
        offsets.push(fields.u64_in_version_1(version)?);
        fields.skip(numbers as usize)?;
    }
    Some(offsets)
}

/// Where `mfra` lies, by the last bytes of an object: `mfro` holds its length.
pub(super) fn mfra_range(last_bytes: &[u8], object_size: u64) -> Option<Range<u64>> {
    let mut fields = Fields(last_bytes);
    if fields.u32()? != MFRO as u32 || &fields.array::<4>()? != b"mfro" {
        return None;
    }
    fields.skip(4)?;
    let start = object_size.checked_sub(u64::from(fields.u32()?))?;
    (start < object_size).then_some(start..object_size)
}
