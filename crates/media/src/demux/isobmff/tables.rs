//! `stbl` to columns (ISO/IEC 14496-12, 8.5 to 8.9).
//!
//! Counts are checked against the bytes of their box before anything is allocated. Where two
//! tables disagree, those that say *where* a sample lies (`stsz`, `stsc`, `stco`) must agree;
//! those that say *when* it is shown (`stts`, `ctts`) are gone on with as players do: the last
//! duration repeats, missing composition offsets are zero.

use super::super::DemuxError;
use super::boxes::BoxRef;
use super::columns::{Columns, DescriptionMap};

/// `stts` deltas above this are small negative numbers (FFmpeg's limit: ten seconds at 48 kHz).
const LARGEST_DELTA: u32 = u32::MAX - 48_000 * 10;

/// Reads the samples of one track that `moov` describes.
pub(super) fn read(
    stbl: &BoxRef<'_>,
    descriptions: &DescriptionMap,
    columns: &mut Columns,
) -> Result<(), DemuxError> {
    read_sizes(stbl, columns)?;
    let samples = columns.table.sizes.len() as u32;
    if samples == 0 {
        return Ok(());
    }
    read_places(stbl, descriptions, columns)?;
    read_times(&stbl.need(b"stts")?, samples, columns)?;
    if let Some(ctts) = stbl.child(b"ctts")? {
        read_composition_offsets(&ctts, samples, columns)?;
    }
    read_sync(stbl, samples, columns)
}

/// `stsz`, or `stz2` with its fields of 4, 8 or 16 bits.
fn read_sizes(stbl: &BoxRef<'_>, columns: &mut Columns) -> Result<(), DemuxError> {
    let too_many = |b: &BoxRef<'_>, count: u32| {
        b.damaged(format_args!(
            "says that it has {count} samples, more than fit into it"
        ))
    };
    if let Some(stsz) = stbl.child(b"stsz")? {
        let (_, _, mut fields) = stsz.full()?;
        let (size, count) = fields.u32().zip(fields.u32()).ok_or_else(|| stsz.short())?;
        if size != 0 {
            columns.check_count(count)?;
            columns.table.sizes = vec![size; count as usize];
            return Ok(());
        }
        let rows = fields
            .rows::<4>(count)
            .ok_or_else(|| too_many(&stsz, count))?;
        columns.check_count(count)?;
        columns.table.sizes = rows.iter().map(|row| u32::from_be_bytes(*row)).collect();
        return Ok(());
    }
    let stz2 = stbl.need(b"stz2")?;
    let (_, _, mut fields) = stz2.full()?;
    let (field_size, count) = fields.u32().zip(fields.u32()).ok_or_else(|| stz2.short())?;
    let few = || too_many(&stz2, count);
    columns.table.sizes = match field_size & 0xff {
        16 => {
            let rows = fields.rows::<2>(count).ok_or_else(few)?;
            rows.iter()
                .map(|row| u32::from(u16::from_be_bytes(*row)))
                .collect()
        }
        8 => {
            let rows = fields.rows::<1>(count).ok_or_else(few)?;
            rows.iter().map(|&[size]| u32::from(size)).collect()
        }
        4 => {
            let rows = fields.rows::<1>(count.div_ceil(2)).ok_or_else(few)?;
            let halves = rows.iter().flat_map(|&[pair]| [pair >> 4, pair & 15]);
            halves.take(count as usize).map(u32::from).collect()
        }
        other => return Err(stz2.damaged(format_args!("has fields of {other} bits"))),
    };
    columns.check_count(count)
}

/// `stsc` with `stco` or `co64`: the place and the description of every sample.
fn read_places(
    stbl: &BoxRef<'_>,
    descriptions: &DescriptionMap,
    columns: &mut Columns,
) -> Result<(), DemuxError> {
    let chunks = ChunkOffsets::read(stbl)?;
    let stsc = stbl.need(b"stsc")?;
    let (_, _, mut fields) = stsc.full()?;
    let count = fields.u32().ok_or_else(|| stsc.short())?;
    let runs = fields.rows::<12>(count).ok_or_else(|| {
        stsc.damaged(format_args!(
            "says that it has {count} entries, more than fit into it"
        ))
    })?;
    let first_chunk_of = |row: &[u8; 12]| {
        let [a, b, c, d, ..] = *row;
        u32::from_be_bytes([a, b, c, d])
    };

    let sizes = std::mem::take(&mut columns.table.sizes);
    columns.table.offsets.reserve_exact(sizes.len());
    let mut left = sizes.iter();
    if runs.first().is_some_and(|run| first_chunk_of(run) != 1) {
        return Err(stsc.damaged("does not start with chunk 1"));
    }
    let mut nexts = runs.iter().skip(1).map(first_chunk_of);
    'runs: for run in runs {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *run;
        let first_chunk = u32::from_be_bytes([a, b, c, d]);
        let samples_per_chunk = u32::from_be_bytes([e, f, g, h]);
        let description_index = u32::from_be_bytes([i, j, k, l]);
        let next = nexts
            .next()
            .unwrap_or_else(|| chunks.len().saturating_add(1));
        if next < first_chunk {
            return Err(stsc.damaged("has runs that do not ascend"));
        }
        let mut first_of_run = true;
        for chunk in first_chunk..next {
            let Some(mut offset) = chunks.get(chunk - 1) else {
                break 'runs;
            };
            for _ in 0..samples_per_chunk {
                let Some(&size) = left.next() else {
                    break 'runs;
                };
                if first_of_run {
                    first_of_run = false;
                    let sample = columns.len();
                    columns.push_description(sample, descriptions.get(description_index, sample)?);
                }
                offset = columns.push_offset(offset, size)?;
            }
        }
    }
    let placed = columns.len();
    if placed as usize != sizes.len() {
        return Err(stsc.damaged(format_args!(
            "and `stco` place {placed} samples, but `stsz` has {}",
            sizes.len()
        )));
    }
    columns.table.sizes = sizes;
    Ok(())
}

/// `stco` or `co64`.
enum ChunkOffsets<'a> {
    Short(&'a [[u8; 4]]),
    Long(&'a [[u8; 8]]),
}

impl<'a> ChunkOffsets<'a> {
    fn read(stbl: &BoxRef<'a>) -> Result<Self, DemuxError> {
        let (table, long) = match stbl.child(b"co64")? {
            Some(co64) => (co64, true),
            None => (stbl.need(b"stco")?, false),
        };
        let (_, _, mut fields) = table.full()?;
        let count = fields.u32().ok_or_else(|| table.short())?;
        let rows = if long {
            fields.rows(count).map(Self::Long)
        } else {
            fields.rows(count).map(Self::Short)
        };
        rows.ok_or_else(|| {
            table.damaged(format_args!(
                "says that it has {count} chunks, more than fit into it"
            ))
        })
    }

    fn len(&self) -> u32 {
        let len = match self {
            Self::Short(rows) => rows.len(),
            Self::Long(rows) => rows.len(),
        };
        u32::try_from(len).unwrap_or(u32::MAX)
    }

    fn get(&self, chunk: u32) -> Option<u64> {
        let chunk = chunk as usize;
        match self {
            Self::Short(rows) => rows
                .get(chunk)
                .map(|row| u64::from(u32::from_be_bytes(*row))),
            Self::Long(rows) => rows.get(chunk).map(|row| u64::from_be_bytes(*row)),
        }
    }
}

/// `stts`: decode times.
fn read_times(stts: &BoxRef<'_>, samples: u32, columns: &mut Columns) -> Result<(), DemuxError> {
    let mut first = 0u32;
    let mut last_duration = None;
    // FFmpeg's repair: a delta that is a small negative number counts as 1, and later durations
    // are shortened until the times are right again.
    let mut corrected_dts = 0i64;
    for [a, b, c, d, e, f, g, h] in entries::<8>(stts)? {
        let count = u32::from_be_bytes([*a, *b, *c, *d]).min(samples.saturating_sub(first));
        let delta = u32::from_be_bytes([*e, *f, *g, *h]);
        if count == 0 {
            continue;
        }
        let mut duration = delta;
        if delta > LARGEST_DELTA {
            duration = 1;
            let signed = i64::from(delta.cast_signed());
            corrected_dts = corrected_dts.saturating_add(signed.saturating_mul(i64::from(count)));
        } else {
            let length = i64::from(delta).saturating_mul(i64::from(count));
            corrected_dts = corrected_dts.saturating_add(length);
        }
        let length = i64::from(duration).saturating_mul(i64::from(count));
        let drift = columns
            .next_dts
            .saturating_add(length)
            .saturating_sub(corrected_dts);
        if drift > 0 {
            let each = drift / i64::from(count);
            let correction = u32::try_from(each).unwrap_or(u32::MAX);
            duration -= correction.min(duration.saturating_sub(1));
        }
        columns.push_times(first, count, duration);
        first += count;
        last_duration = Some(duration);
    }
    match last_duration {
        Some(duration) => {
            columns.push_times(first, samples.saturating_sub(first), duration);
            Ok(())
        }
        None => Err(stts.damaged("is empty, but the track has samples")),
    }
}

/// `ctts`. Version 0 says that its offsets are unsigned, but files with negative ones in it are
/// common and offsets beyond 2^31 ticks are not, so both versions are read as signed.
fn read_composition_offsets(
    ctts: &BoxRef<'_>,
    samples: u32,
    columns: &mut Columns,
) -> Result<(), DemuxError> {
    let mut first = 0u32;
    for [a, b, c, d, e, f, g, h] in entries::<8>(ctts)? {
        let count = u32::from_be_bytes([*a, *b, *c, *d]).min(samples.saturating_sub(first));
        let offset = i32::from_be_bytes([*e, *f, *g, *h]);
        if columns.table.composition_offsets.is_empty() {
            if offset == 0 || count == 0 {
                first += count;
                continue;
            }
            columns
                .table
                .composition_offsets
                .reserve_exact(samples as usize);
            columns.table.composition_offsets.resize(first as usize, 0);
        }
        first += count;
        columns
            .table
            .composition_offsets
            .resize(first as usize, offset);
    }
    Ok(())
}

/// The samples at which decoding can start: `stss` (without it: all), and what QuickTime calls
/// partial sync samples (`stps`) and the standard random access points (`rap ` sample group,
/// ISO/IEC 14496-12, 10.4): an open GOP's CRA pictures.
fn read_sync(stbl: &BoxRef<'_>, samples: u32, columns: &mut Columns) -> Result<(), DemuxError> {
    let sync = &mut columns.table.sync;
    let Some(stss) = stbl.child(b"stss")? else {
        *sync = (0..samples).collect();
        return Ok(());
    };
    let rows = entries::<4>(&stss)?;
    // Some writers count from 0; then the first entry is 0.
    let base = u32::from(rows.first() != Some(&[0; 4]));
    sync.extend(
        rows.iter()
            .map(|row| u32::from_be_bytes(*row).wrapping_sub(base)),
    );
    if let Some(stps) = stbl.child(b"stps")? {
        let rows = entries::<4>(&stps)?;
        sync.extend(
            rows.iter()
                .map(|row| u32::from_be_bytes(*row).wrapping_sub(base)),
        );
    }
    for child in stbl.children() {
        let child = child?;
        // There is one such group at most; more would only repeat.
        if &child.fourcc.0 == b"sbgp" && read_random_access_points(&child, 0, samples, sync)? {
            break;
        }
    }
    sync.retain(|&s| s < samples);
    sync.sort_unstable();
    sync.dedup();
    Ok(())
}

/// Adds the members of a `sbgp` of type `rap ` to `sync`; `first` and `samples` say which samples
/// the box speaks of. `false`: the box is of another type.
pub(super) fn read_random_access_points(
    sbgp: &BoxRef<'_>,
    first: u32,
    samples: u32,
    sync: &mut Vec<u32>,
) -> Result<bool, DemuxError> {
    let (version, _, mut fields) = sbgp.full()?;
    if &fields.array::<4>().ok_or_else(|| sbgp.short())? != b"rap " {
        return Ok(false);
    }
    if version >= 1 {
        fields.skip(4).ok_or_else(|| sbgp.short())?;
    }
    let count = fields.u32().ok_or_else(|| sbgp.short())?;
    let rows = fields.rows::<8>(count).ok_or_else(|| {
        sbgp.damaged(format_args!(
            "says that it has {count} entries, more than fit into it"
        ))
    })?;
    let mut done = 0u32;
    for [a, b, c, d, e, f, g, h] in rows {
        let count = u32::from_be_bytes([*a, *b, *c, *d]).min(samples.saturating_sub(done));
        if u32::from_be_bytes([*e, *f, *g, *h]) != 0 {
            let start = first.saturating_add(done);
            sync.extend(start..start.saturating_add(count));
        }
        done += count;
    }
    Ok(true)
}

/// The rows of a full box that is a 32-bit count and a table.
fn entries<'a, const N: usize>(table: &BoxRef<'a>) -> Result<&'a [[u8; N]], DemuxError> {
    let (_, _, mut fields) = table.full()?;
    let count = fields.u32().ok_or_else(|| table.short())?;
    fields.rows(count).ok_or_else(|| {
        table.damaged(format_args!(
            "says that it has {count} entries, more than fit into it"
        ))
    })
}
