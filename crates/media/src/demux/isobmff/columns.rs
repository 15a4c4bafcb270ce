//! The sample table while it grows, from `stbl` and from fragments alike.

use super::super::DemuxError;
use super::boxes::FourCc;
use super::limits;
use super::sample_entry::{Content, SampleEntry};
use crate::index::{SampleDescription, SampleTable};

/// Columns in decode order, with what is needed to append to them.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) table: SampleTable,
    /// Decode time after the last sample.
    pub(super) next_dts: i64,
    object_size: u64,
    /// The object's own structure shows that it is whole, so that a sample outside of it is a
    /// false entry and not a missing end.
    whole: bool,
}

impl Columns {
    pub(super) fn new(object_size: u64, whole: bool) -> Self {
        Self {
            table: SampleTable::default(),
            next_dts: 0,
            object_size,
            whole,
        }
    }

    /// Number of samples whose place is known.
    pub(super) fn len(&self) -> u32 {
        self.table.offsets.len() as u32
    }

    /// Checks that `more` samples may be added: the limit, and not more samples than the object
    /// has bytes, so that memory stays in proportion to what is really there.
    pub(super) fn check_count(&self, more: u32) -> Result<(), DemuxError> {
        let total = u64::from(self.len()).saturating_add(u64::from(more));
        if total > limits::SAMPLES {
            return Err(DemuxError::Unsupported {
                what: format!(
                    "a track of {total} samples (at most {} are served)",
                    limits::SAMPLES
                ),
            });
        }
        if total > self.object_size {
            return Err(DemuxError::Damaged {
                what: format!(
                    "the track says that it has {total} samples, in an object of {} bytes",
                    self.object_size
                ),
            });
        }
        Ok(())
    }

    /// Adds the place of the next sample; its size was or will be added to `sizes`. Gives the
    /// offset after it.
    pub(super) fn push_offset(&mut self, offset: u64, size: u32) -> Result<u64, DemuxError> {
        match offset.checked_add(u64::from(size)) {
            Some(end) if end <= self.object_size => {
                self.table.offsets.push(offset);
                Ok(end)
            }
            _ => Err(self.sample_outside(offset, size)),
        }
    }

    fn sample_outside(&self, offset: u64, size: u32) -> DemuxError {
        let what = format!(
            "sample {} of the video, {size} bytes at byte {offset}, does not lie in the object's \
             {} bytes",
            self.len(),
            self.object_size
        );
        if self.whole {
            DemuxError::Damaged { what }
        } else {
            DemuxError::CutShort { what }
        }
    }

    /// Adds decode times: `count` samples of one duration each.
    pub(super) fn push_times(&mut self, first: u32, count: u32, duration: u32) {
        if count == 0 {
            return;
        }
        let goes_on = self
            .table
            .time_runs
            .last()
            .is_some_and(|&(start, dts, each)| {
                let samples = i64::from(first.saturating_sub(start));
                each == duration
                    && dts.saturating_add(samples.saturating_mul(i64::from(each))) == self.next_dts
            });
        if !goes_on {
            self.table.time_runs.push((first, self.next_dts, duration));
        }
        let length = i64::from(count).saturating_mul(i64::from(duration));
        self.next_dts = self.next_dts.saturating_add(length);
    }

    /// Sets the composition offset of sample `at`, the last one so far. Nothing is kept as long
    /// as all are zero.
    pub(super) fn push_composition_offset(&mut self, at: u32, offset: i32) {
        let column = &mut self.table.composition_offsets;
        if offset != 0 || !column.is_empty() {
            column.resize(at as usize, 0);
            column.push(offset);
        }
    }

    /// The samples from `first` on use a description.
    pub(super) fn push_description(&mut self, first: u32, description: u16) {
        if self
            .table
            .description_runs
            .last()
            .is_none_or(|r| r.1 != description)
        {
            self.table.description_runs.push((first, description));
        }
    }

    /// The columns with the last details put in order.
    pub(super) fn finish(mut self) -> SampleTable {
        let samples = self.table.offsets.len();
        let table = &mut self.table;
        if !table.composition_offsets.is_empty() {
            table.composition_offsets.resize(samples, 0);
        }
        if table.sync.is_empty() && samples > 0 {
            // A table without any sync sample leaves no place to start from; decoding can start
            // with the first sample if at all.
            table.sync.push(0);
        }
        table.offsets.shrink_to_fit();
        table.sizes.shrink_to_fit();
        table.composition_offsets.shrink_to_fit();
        table.sync.shrink_to_fit();
        self.table
    }
}

/// From the description indexes of the file (from 1, all entries of `stsd`) to those of the
/// [`VideoIndex`](crate::VideoIndex) (from 0, the H.265 ones only).
#[derive(Debug)]
pub(super) struct DescriptionMap {
    entries: Vec<Result<u16, (FourCc, DemuxError)>>,
}

impl DescriptionMap {
    /// Takes the H.265 descriptions out of the entries of `stsd`.
    pub(super) fn split(
        entries: &[SampleEntry],
    ) -> Result<(Self, Vec<SampleDescription>), DemuxError> {
        if entries.len() > usize::from(u16::MAX) {
            return Err(DemuxError::Unsupported {
                what: format!("a track with {} sample descriptions", entries.len()),
            });
        }
        let mut descriptions = Vec::new();
        let map = entries
            .iter()
            .map(|entry| match &entry.content {
                Content::Hevc(description) => {
                    let place = descriptions.len() as u16;
                    descriptions.push(description.clone());
                    Ok(place)
                }
                Content::Other(error) => Err((entry.fourcc, error.clone())),
            })
            .collect();
        Ok((Self { entries: map }, descriptions))
    }

    /// The description that the file's index names.
    pub(super) fn get(&self, index: u32, sample: u32) -> Result<u16, DemuxError> {
        let entry = index
            .checked_sub(1)
            .and_then(|i| self.entries.get(usize::try_from(i).ok()?));
        match entry {
            Some(Ok(place)) => Ok(*place),
            Some(Err((fourcc, error))) => Err(DemuxError::Unsupported {
                what: format!(
                    "a track that changes its codec: from sample {sample} on it has `{fourcc}` \
                     ({error})"
                ),
            }),
            None => Err(DemuxError::Damaged {
                what: format!(
                    "sample {sample} has description {index}, but `stsd` has {}",
                    self.entries.len()
                ),
            }),
        }
    }
}
