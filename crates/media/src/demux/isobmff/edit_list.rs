//! Edit lists (ISO/IEC 14496-12, 8.6.6): which samples are shown, when, and in which order.
//!
//! The rules are those of FFmpeg's demuxer, because its numbers are the ones that people compare
//! with:
//! - An edit shows the samples whose composition time lies in `[media_time, media_time +
//!   duration)`. Others are hidden (FFmpeg: packets with the discard flag).
//! - The first picture that an edit shows begins with the edit, also where `media_time` lies
//!   inside the picture before it.
//! - Empty edits (`media_time` −1) move what follows to a later time.
//! - Several edits stand one after another; a sample shown by two of them is two frames.
//! - In a file with movie fragments the list only moves the timeline (it was written before the
//!   fragments were known, mostly with a duration of 0): all samples are shown.
//!
//! Where FFmpeg gives nothing to follow: a duration of 0 means up to the end of the track; an
//! edit with rate 0 (dwell) shows once the one picture that is on screen at `media_time`; an edit
//! list that would hide everything is not applied.

use std::ops::Range;

use super::super::DemuxError;
use super::boxes::BoxRef;
use super::limits;
use crate::index::SampleTable;

/// One entry of `elst`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Edit {
    /// In ticks of the movie's timescale.
    duration: u64,
    /// In ticks of the media's timescale; `None` for an empty edit.
    media_time: Option<i64>,
    /// `media_rate` 0: one picture is held.
    dwell: bool,
}

/// Timescales that an edit list is applied with, in ticks per second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timescales {
    pub(super) movie: u32,
    pub(super) media: u32,
}

/// Reads the edits of `edts`; none where it holds no `elst`.
pub(super) fn read(edts: &BoxRef<'_>) -> Result<Vec<Edit>, DemuxError> {
    let Some(elst) = edts.child(b"elst")? else {
        return Ok(Vec::new());
    };
    let (version, _, mut fields) = elst.full()?;
    let count = fields.u32().ok_or_else(|| elst.short())?;
    let row = if version == 1 { 20 } else { 12 };
    if u64::from(count).saturating_mul(row) > fields.0.len() as u64 {
        return Err(elst.damaged(format_args!(
            "says that it has {count} edits, more than fit"
        )));
    }
    let mut edits = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let mut next = || {
            let duration = fields.u64_in_version_1(version)?;
            let media_time = if version == 1 {
                fields.i64()?
            } else {
                i64::from(fields.i32()?)
            };
            let rate = fields.u32()?;
            Some(Edit {
                duration,
                media_time: Some(media_time).filter(|&t| t >= 0),
                dwell: rate == 0,
            })
        };
        edits.push(next().ok_or_else(|| elst.short())?);
    }
    Ok(edits)
}

/// Fills the columns of the presentation: `presented` and `presentation_times`.
///
/// `shift_only`: the samples come from movie fragments. `most`: the largest number of frames
/// that is accepted.
pub(super) fn present(
    table: &mut SampleTable,
    edits: &[Edit],
    timescales: Timescales,
    shift_only: bool,
    most: u64,
) -> Result<(), DemuxError> {
    let times = composition_times(table);
    let mut order: Vec<u32> = (0..times.len() as u32).collect();
    let time_of = |sample: u32| times.get(sample as usize).copied().unwrap_or(0);
    order.sort_by_key(|&sample| time_of(sample));

    let edits = if timescales.movie == 0 { &[] } else { edits };
    if shift_only || !edits.iter().any(|e| e.media_time.is_some()) {
        // Without a showing edit there is nothing to show by the list: it is not applied.
        let shift = shift(edits, timescales);
        all(table, order, times, shift);
        return Ok(());
    }

    // Which places of `order` each edit shows, and when the edit starts.
    let mut shown = Vec::new();
    let mut frames = 0u64;
    let mut start = 0i64;
    for edit in edits {
        let duration = rescale(edit.duration, timescales);
        if let Some(media_time) = edit.media_time {
            let places = shown_by(edit, media_time, duration, &order, time_of);
            frames = frames.saturating_add(places.len() as u64);
            if frames > most {
                return Err(DemuxError::Unsupported {
                    what: format!("an edit list that shows more than {most} frames"),
                });
            }
            if !places.is_empty() {
                shown.push((places, start));
            }
        }
        start = start.saturating_add(duration);
    }
    let first_time = |places: &Range<usize>| order.get(places.start).map_or(0, |&s| time_of(s));
    match shown.as_slice() {
        [] => all(table, order, times, 0),
        [(places, start)] if places.len() == order.len() => {
            let shift = first_time(places).saturating_sub(*start);
            all(table, order, times, shift);
        }
        _ => {
            let mut presented = Vec::with_capacity(frames as usize);
            let mut presentation_times = Vec::with_capacity(frames as usize);
            for (places, start) in shown {
                let first = first_time(&places);
                let samples = order.get(places).unwrap_or_default();
                presented.extend_from_slice(samples);
                let since_first = |&s: &u32| time_of(s).saturating_sub(first);
                let time = |s: &u32| start.saturating_add(since_first(s));
                presentation_times.extend(samples.iter().map(time));
            }
            table.presented = presented;
            table.presentation_times = presentation_times;
        }
    }
    Ok(())
}

/// Every sample is shown once, `shift` ticks before its composition time.
fn all(table: &mut SampleTable, order: Vec<u32>, mut times: Vec<i64>, shift: i64) {
    // In order they are the presentation times: no second column is made.
    times.sort_unstable();
    for time in &mut times {
        *time = time.saturating_sub(shift);
    }
    table.presentation_times = times;
    table.presented = order;
}

/// The places in composition order that an edit shows.
fn shown_by(
    edit: &Edit,
    media_time: i64,
    duration: i64,
    order: &[u32],
    time_of: impl Fn(u32) -> i64,
) -> Range<usize> {
    let from = order.partition_point(|&s| time_of(s) < media_time);
    if edit.dwell {
        // The picture on screen at `media_time`: the last that is composed at or before it.
        let after = order.partition_point(|&s| time_of(s) <= media_time);
        let on_screen = after.saturating_sub(1);
        return on_screen..order.len().min(on_screen.saturating_add(1));
    }
    let to = if duration == 0 {
        order.len()
    } else {
        let end = media_time.saturating_add(duration);
        order.partition_point(|&s| time_of(s) < end)
    };
    from..to.max(from)
}

/// How much earlier than its composition time each sample of a fragmented file is shown: the
/// first showing edit's `media_time`, less the empty edits before it; 0 where no edit shows
/// anything.
fn shift(edits: &[Edit], timescales: Timescales) -> i64 {
    let mut delay = 0i64;
    for edit in edits {
        match edit.media_time {
            Some(media_time) => return media_time.saturating_sub(delay),
            None => delay = delay.saturating_add(rescale(edit.duration, timescales)),
        }
    }
    0
}

/// From the movie's ticks to the media's, to the nearest, halves away from zero.
fn rescale(duration: u64, timescales: Timescales) -> i64 {
    let movie = u128::from(timescales.movie.max(1));
    let ticks = (u128::from(duration) * u128::from(timescales.media) + movie / 2) / movie;
    i64::try_from(ticks).unwrap_or(i64::MAX)
}

/// Composition time of every sample, in decode order.
fn composition_times(table: &SampleTable) -> Vec<i64> {
    let samples = table.offsets.len();
    let mut times = Vec::with_capacity(samples);
    let ends = table
        .time_runs
        .iter()
        .skip(1)
        .map(|r| r.0 as usize)
        .chain([samples]);
    for (&(_, start, each), end) in table.time_runs.iter().zip(ends) {
        let mut time = start;
        while times.len() < end {
            times.push(time);
            time = time.saturating_add(i64::from(each));
        }
    }
    times.resize(samples, 0);
    for (time, &offset) in times.iter_mut().zip(&table.composition_offsets) {
        *time = time.saturating_add(i64::from(offset));
    }
    times
}

/// The largest number of frames for an object of a size.
pub(super) fn most_frames(object_size: u64) -> u64 {
    limits::SAMPLES.min(object_size)
}
