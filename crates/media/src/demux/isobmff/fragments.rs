//! `moof` to columns (ISO/IEC 14496-12, 8.8).

use std::collections::HashMap;

use super::super::DemuxError;
use super::boxes::{BoxRef, Fields};
use super::columns::{Columns, DescriptionMap};
use super::movie::FragmentDefaults;
use super::tables;

/// `sample_depends_on` 1 and `sample_is_non_sync_sample` of the sample flags (8.8.3.1): with
/// either set, decoding cannot start here.
const NOT_SYNC: u32 = 0x0100_0000 | 0x0001_0000;

// `tfhd` flags.
const BASE_DATA_OFFSET: u32 = 0x1;
const DESCRIPTION_INDEX: u32 = 0x2;
const DEFAULT_DURATION: u32 = 0x8;
const DEFAULT_SIZE: u32 = 0x10;
const DEFAULT_FLAGS: u32 = 0x20;
const DEFAULT_BASE_IS_MOOF: u32 = 0x2_0000;

// `trun` flags.
const DATA_OFFSET: u32 = 0x1;
const FIRST_FLAGS: u32 = 0x4;
const DURATION: u32 = 0x100;
const SIZE: u32 = 0x200;
const FLAGS: u32 = 0x400;
const COMPOSITION_OFFSET: u32 = 0x800;

/// What fragments are read with.
#[derive(Debug)]
pub(super) struct Context<'a> {
    /// The track whose samples are wanted.
    pub(super) track_id: u32,
    pub(super) defaults: &'a HashMap<u32, FragmentDefaults>,
    pub(super) descriptions: &'a DescriptionMap,
}

/// Adds the samples of one fragment. Other tracks are read as far as the place of the wanted
/// one's data hangs on theirs.
pub(super) fn read(
    moof: &BoxRef<'_>,
    context: &Context<'_>,
    columns: &mut Columns,
) -> Result<(), DemuxError> {
    // Without a base in `tfhd`, the first track's data is placed from the start of `moof`, each
    // other's from the end of the data before (8.8.7.1).
    let mut implicit_base = moof.at;
    for traf in moof.children() {
        let traf = traf?;
        if &traf.fourcc.0 == b"traf" {
            implicit_base = read_traf(&traf, moof.at, implicit_base, context, columns)?;
        }
    }
    Ok(())
}

/// Gives the end of the track's data.
fn read_traf(
    traf: &BoxRef<'_>,
    moof_at: u64,
    implicit_base: u64,
    context: &Context<'_>,
    columns: &mut Columns,
) -> Result<u64, DemuxError> {
    let tfhd = TrackHeader::read(
        &traf.need(b"tfhd")?,
        moof_at,
        implicit_base,
        context.defaults,
    )?;
    let wanted = tfhd.track_id == context.track_id;
    let first = columns.len();
    let mut next = tfhd.base;
    for child in traf.children() {
        let child = child?;
        match &child.fourcc.0 {
            // It stands before the runs.
            b"tfdt" if wanted => columns.next_dts = read_tfdt(&child)?,
            b"trun" => {
                let run = Run::read(&child, &tfhd.defaults)?;
                let start = match run.data_offset {
                    Some(offset) => tfhd.base.checked_add_signed(i64::from(offset)),
                    None => Some(next),
                };
                let start = start.ok_or_else(|| child.damaged("places data outside the object"))?;
                next = if wanted {
                    let index = tfhd.defaults.description_index;
                    append(&child, &run, start, index, context.descriptions, columns)?
                } else {
                    start.saturating_add(run.data_length())
                };
            }
            _ => {}
        }
    }
    if wanted {
        read_groups(traf, first, columns)?;
    }
    Ok(next)
}

/// Random access points that a sample group of the fragment names.
fn read_groups(traf: &BoxRef<'_>, first: u32, columns: &mut Columns) -> Result<(), DemuxError> {
    let samples = columns.len().saturating_sub(first);
    for child in traf.children() {
        let child = child?;
        if &child.fourcc.0 == b"sbgp" {
            let sync = &mut columns.table.sync;
            if tables::read_random_access_points(&child, first, samples, sync)? {
                let of_fragment = sync.partition_point(|&s| s < first);
                if let Some(tail) = sync.get_mut(of_fragment..) {
                    tail.sort_unstable();
                }
                sync.dedup();
                break;
            }
        }
    }
    Ok(())
}

/// `tfhd`, with `trex` behind it.
struct TrackHeader {
    track_id: u32,
    base: u64,
    defaults: FragmentDefaults,
}

impl TrackHeader {
    fn read(
        tfhd: &BoxRef<'_>,
        moof_at: u64,
        implicit_base: u64,
        defaults: &HashMap<u32, FragmentDefaults>,
    ) -> Result<Self, DemuxError> {
        let (_, flags, mut fields) = tfhd.full()?;
        let mut read = || {
            let track_id = fields.u32()?;
            let mut defaults = defaults.get(&track_id).copied().unwrap_or_default();
            let base = if flags & BASE_DATA_OFFSET != 0 {
                fields.u64()?
            } else if flags & DEFAULT_BASE_IS_MOOF != 0 {
                moof_at
            } else {
                implicit_base
            };
            let mut set = |flag: u32, value: &mut u32| {
                if flags & flag != 0 {
                    *value = fields.u32()?;
                }
                Some(())
            };
            set(DESCRIPTION_INDEX, &mut defaults.description_index)?;
            set(DEFAULT_DURATION, &mut defaults.duration)?;
            set(DEFAULT_SIZE, &mut defaults.size)?;
            set(DEFAULT_FLAGS, &mut defaults.flags)?;
            Some(Self {
                track_id,
                base,
                defaults,
            })
        };
        read().ok_or_else(|| tfhd.short())
    }
}

fn read_tfdt(tfdt: &BoxRef<'_>) -> Result<i64, DemuxError> {
    let (version, _, mut fields) = tfdt.full()?;
    let time = fields
        .u64_in_version_1(version)
        .ok_or_else(|| tfdt.short())?;
    i64::try_from(time).map_err(|_| tfdt.damaged(format_args!("has a decode time of {time}")))
}

/// `trun`: its rows are there, none is read yet.
struct Run<'a> {
    flags: u32,
    count: u32,
    data_offset: Option<i32>,
    first_flags: Option<u32>,
    rows: &'a [u8],
    row_len: usize,
    defaults: &'a FragmentDefaults,
}

struct Row {
    duration: u32,
    size: u32,
    flags: u32,
    composition_offset: i32,
}

impl<'a> Run<'a> {
    fn read(trun: &BoxRef<'a>, defaults: &'a FragmentDefaults) -> Result<Self, DemuxError> {
        let (_, flags, mut fields) = trun.full()?;
        let mut head = || {
            let count = fields.u32()?;
            let data_offset = if flags & DATA_OFFSET != 0 {
                Some(fields.i32()?)
            } else {
                None
            };
            let first_flags = if flags & FIRST_FLAGS != 0 {
                Some(fields.u32()?)
            } else {
                None
            };
            Some((count, data_offset, first_flags))
        };
        let (count, data_offset, first_flags) = head().ok_or_else(|| trun.short())?;
        let columns = [DURATION, SIZE, FLAGS, COMPOSITION_OFFSET];
        let row_len = 4 * columns.iter().filter(|&&c| flags & c != 0).count();
        let rows = usize::try_from(count)
            .ok()
            .and_then(|n| n.checked_mul(row_len));
        let rows = rows.and_then(|n| fields.bytes(n)).ok_or_else(|| {
            trun.damaged(format_args!(
                "says that it has {count} samples, more than fit into it"
            ))
        })?;
        Ok(Self {
            flags,
            count,
            data_offset,
            first_flags,
            rows,
            row_len,
            defaults,
        })
    }

    /// Every row in turn; where the box has no columns, its defaults `count` times.
    fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        (0..self.count).map(|i| {
            let at = (i as usize).saturating_mul(self.row_len);
            let mut fields = Fields(self.rows.get(at..).unwrap_or_default());
            let mut column = |flag: u32, default: u32| {
                if self.flags & flag != 0 {
                    fields.u32().unwrap_or(default)
                } else {
                    default
                }
            };
            let duration = column(DURATION, self.defaults.duration);
            let size = column(SIZE, self.defaults.size);
            let mut flags = column(FLAGS, self.defaults.flags);
            if let Some(first) = self.first_flags.filter(|_| i == 0) {
                flags = first;
            }
            let composition_offset = column(COMPOSITION_OFFSET, 0).cast_signed();
            Row {
                duration,
                size,
                flags,
                composition_offset,
            }
        })
    }

    /// Bytes of all samples together.
    fn data_length(&self) -> u64 {
        if self.flags & SIZE == 0 {
            u64::from(self.count).saturating_mul(u64::from(self.defaults.size))
        } else {
            self.rows()
                .fold(0, |sum, row| sum.saturating_add(u64::from(row.size)))
        }
    }
}

/// Adds the samples of a run; gives the end of its data.
fn append(
    trun: &BoxRef<'_>,
    run: &Run<'_>,
    start: u64,
    description_index: u32,
    descriptions: &DescriptionMap,
    columns: &mut Columns,
) -> Result<u64, DemuxError> {
    if run.count == 0 {
        return Ok(start);
    }
    columns.check_count(run.count)?;
    if run.flags & SIZE == 0 && run.defaults.size == 0 {
        return Err(trun.damaged(format_args!(
            "says that it has {} samples of no size",
            run.count
        )));
    }
    let first = columns.len();
    columns.push_description(first, descriptions.get(description_index, first)?);
    let mut offset = start;
    for row in run.rows() {
        let sample = columns.len();
        offset = columns.push_offset(offset, row.size)?;
        columns.table.sizes.push(row.size);
        columns.push_times(sample, 1, row.duration);
        columns.push_composition_offset(sample, row.composition_offset);
        if row.flags & NOT_SYNC == 0 {
            columns.table.sync.push(sample);
        }
    }
    Ok(offset)
}
