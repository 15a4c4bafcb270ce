//! The index of one video: where each sample lies, and in which order pictures are shown.
//!
//! It holds no media bytes. Its columns are packed, so that a sample takes about 10 bytes, and ten
//! hours at 60 frames a second (2.16 million samples) take about 20 MiB.

use std::ops::Range;

use bytes::Bytes;

use crate::colour::ColourDescription;
use crate::order::{DecodeIndex, PresentationIndex};
use crate::orientation::Orientation;
use crate::packed::Packed;

/// How the samples are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// ISO BMFF with all samples described by `moov`.
    Progressive {
        /// `moov` comes before the first `mdat`.
        moov_first: bool,
    },
    /// ISO BMFF with `moof` fragments.
    Fragmented,
    /// A raw byte stream (H.265 Annex B).
    AnnexB,
}

/// How NAL units are framed inside a sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// Each NAL unit after a big-endian length of this many bytes (1, 2 or 4; ISO/IEC 14496-15).
    LengthPrefixed(u8),
    /// Start codes (H.265 Annex B).
    StartCodes,
}

/// One entry of `stsd` that holds H.265, or the one description of a raw stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SampleDescription {
    /// `hvc1`, `hev1`, …; `None` for a raw stream.
    pub fourcc: Option<[u8; 4]>,
    /// How its samples are framed.
    pub framing: Framing,
    /// VPS, SPS and PPS NAL units (with NAL header, without framing) from `hvcC`, in its order.
    pub parameter_sets: Vec<Bytes>,
    /// `colr` of type `nclx` or `nclc`.
    pub colour: ColourDescription,
    /// `pasp`, horizontal and vertical spacing.
    pub pixel_aspect: Option<(u32, u32)>,
}

/// One track of the container, for reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrackSummary {
    /// `track_ID`.
    pub id: u32,
    /// Handler type (`vide`, `soun`, `meta` …).
    pub handler: [u8; 4],
    /// The four-character code of the first sample description, where there is one.
    pub codec: Option<[u8; 4]>,
    /// Whether this is the track that the index describes.
    pub selected: bool,
}

/// One sample: one access unit in one place of the object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Position in decode order.
    pub index: DecodeIndex,
    /// First byte in the object. For a raw stream: the first byte that belongs to the access
    /// unit's first start code (its `zero_byte` where it has one).
    pub offset: u64,
    /// Bytes.
    pub size: u32,
    /// The container (or, for a raw stream, the NAL unit type) says that decoding can start here.
    pub sync: bool,
    /// Which [`SampleDescription`].
    pub description: u16,
    /// Decode time in the track's timescale, without edit list (as `stts`/`tfdt` give it).
    pub dts: i64,
    /// Composition time minus decode time, in the track's timescale.
    pub composition_offset: i32,
}

impl Sample {
    /// The bytes of the sample in the object.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(u64::from(self.size))
    }
}

/// Everything the server knows of a video without reading its pictures.
///
/// Made by [`crate::demux::IndexBuilder`], and read from what [`crate::bsidx`] has written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VideoIndex {
    pub(crate) layout: Layout,
    pub(crate) object_size: u64,
    pub(crate) tracks: Vec<TrackSummary>,
    pub(crate) descriptions: Vec<SampleDescription>,
    pub(crate) orientation: Orientation,
    /// Ticks per second of the track.
    pub(crate) timescale: u32,
    pub(crate) samples: Columns,
    /// What the container says of the movie and of the track as a whole lies here: the beginnings
    /// of `moov` and of the track's `trak`. Empty for a raw stream.
    pub(crate) declared: Vec<Range<u64>>,
    /// Raw streams: parameter sets seen on the way, each with the sample before whose slices it
    /// stands; a set is listed when its content changes.
    pub(crate) in_band_sets: Vec<(DecodeIndex, Bytes)>,
}

/// Samples as columns while they are collected. All vectors indexed by decode order have the same
/// length.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct SampleTable {
    pub(crate) offsets: Vec<u64>,
    pub(crate) sizes: Vec<u32>,
    /// Decode order: composition offset (`ctts`); empty where all are zero.
    pub(crate) composition_offsets: Vec<i32>,
    /// Raw streams: bytes from the sample's first byte to its first NAL unit header; else empty.
    pub(crate) header_distance: Vec<u8>,
    /// Decode order of every sync sample, ascending.
    pub(crate) sync: Vec<u32>,
    /// First sample and description of each run, ascending by sample; the first starts at 0.
    pub(crate) description_runs: Vec<(u32, u16)>,
    /// First sample, its decode time, and the duration of each sample of the run; ascending.
    pub(crate) time_runs: Vec<(u32, i64, u32)>,
    /// Presentation order: which sample is shown.
    pub(crate) presented: Vec<u32>,
    /// Presentation order: presentation time on the movie's timeline (edit list applied), in the
    /// track's timescale.
    pub(crate) presentation_times: Vec<i64>,
}

/// The same, packed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Columns {
    pub(crate) offsets: Packed,
    pub(crate) sizes: Packed,
    /// Empty where all are zero.
    pub(crate) composition_offsets: Packed,
    /// Empty but for raw streams.
    pub(crate) header_distance: Packed,
    pub(crate) sync: Packed,
    pub(crate) description_runs: Vec<(u32, u16)>,
    /// Decode order: decode time.
    pub(crate) times: Packed,
    /// Duration of the last sample in decode order.
    pub(crate) last_duration: u32,
    pub(crate) presented: Packed,
    pub(crate) presentation_times: Packed,
    /// Decode order: first place in `presented`, or `NOT_PRESENTED`.
    pub(crate) rank: Packed,
    /// Decode order sorted by offset; empty where decode order is offset order already.
    pub(crate) by_offset: Packed,
}

/// In [`Columns::rank`]: an edit list hides this sample.
const NOT_PRESENTED: i64 = -1;

impl SampleTable {
    /// Packs the columns, one after another: each is let go of when it is packed.
    pub(crate) fn pack(self) -> Columns {
        let count = self.sizes.len();
        let starts = self.time_runs.iter().map(|r| r.0 as usize);
        let ends = starts.skip(1).chain([count]);
        let runs = self.time_runs.iter().zip(ends);
        let times = runs.flat_map(|(&(first, start, each), end)| {
            let places = 0..end.saturating_sub(first as usize) as i64;
            places.map(move |n| start.saturating_add(n.saturating_mul(i64::from(each))))
        });
        Columns {
            times: times.collect(),
            last_duration: self.time_runs.last().map_or(0, |r| r.2),
            by_offset: by_offset(&self.offsets),
            offsets: self.offsets.into_iter().map(|o| o as i64).collect(),
            sizes: self.sizes.into_iter().map(i64::from).collect(),
            composition_offsets: self
                .composition_offsets
                .into_iter()
                .map(i64::from)
                .collect(),
            header_distance: self.header_distance.into_iter().map(i64::from).collect(),
            sync: self.sync.into_iter().map(i64::from).collect(),
            description_runs: self.description_runs,
            rank: rank(&self.presented, count),
            presented: self.presented.into_iter().map(i64::from).collect(),
            presentation_times: self.presentation_times.into_iter().collect(),
        }
    }
}

/// Samples by offset, where that is another order than their own.
pub(crate) fn by_offset(offsets: &[u64]) -> Packed {
    if offsets.is_sorted() {
        return Packed::default();
    }
    let mut order: Vec<u32> = (0..offsets.len() as u32).collect();
    order.sort_by_key(|&s| offsets.get(s as usize).copied().unwrap_or(u64::MAX));
    order.into_iter().map(i64::from).collect()
}

/// The first place of each sample among the presented.
pub(crate) fn rank(presented: &[u32], samples: usize) -> Packed {
    let mut rank = vec![u32::MAX; samples];
    for (place, &sample) in presented.iter().enumerate() {
        if let Some(first) = rank.get_mut(sample as usize).filter(|r| **r == u32::MAX) {
            *first = place as u32;
        }
    }
    let place = |r| match r {
        u32::MAX => NOT_PRESENTED,
        r => i64::from(r),
    };
    rank.into_iter().map(place).collect()
}

impl VideoIndex {
    /// How the samples are stored.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Size of the object that was indexed, in bytes.
    pub fn object_size(&self) -> u64 {
        self.object_size
    }

    /// All tracks of the container, in its order; empty for a raw stream.
    pub fn tracks(&self) -> &[TrackSummary] {
        &self.tracks
    }

    /// The sample descriptions; at least one.
    pub fn descriptions(&self) -> &[SampleDescription] {
        &self.descriptions
    }

    /// How a sample's NAL units are framed.
    pub fn framing(&self, sample: &Sample) -> Framing {
        let own = self.descriptions.get(usize::from(sample.description));
        own.map_or(Framing::LengthPrefixed(4), |d| d.framing)
    }

    /// How pictures are to be turned for display.
    pub fn orientation(&self) -> Orientation {
        self.orientation
    }

    /// Ticks per second.
    pub fn timescale(&self) -> u32 {
        self.timescale
    }

    /// Number of samples (access units), shown or not.
    pub fn sample_count(&self) -> u32 {
        self.samples.offsets.len() as u32
    }

    /// Number of pictures in presentation order (an edit list may hide samples).
    pub fn frame_count(&self) -> u32 {
        self.samples.presented.len() as u32
    }

    /// Bytes that it takes in memory, about.
    pub fn heap_bytes(&self) -> usize {
        let t = &self.samples;
        let columns = [
            &t.offsets,
            &t.sizes,
            &t.composition_offsets,
            &t.header_distance,
            &t.sync,
            &t.times,
            &t.presented,
            &t.presentation_times,
            &t.rank,
            &t.by_offset,
        ];
        let sets = self.parameter_sets().map(Bytes::len).sum::<usize>();
        columns.into_iter().map(Packed::heap_bytes).sum::<usize>()
            + t.description_runs.len() * size_of::<(u32, u16)>()
            + self.in_band_sets.len() * size_of::<(DecodeIndex, Bytes)>()
            + sets
    }

    /// Where the container says what holds for the movie and for the track as a whole, rather than
    /// for each sample: a few KiB. Nothing for a raw stream.
    pub fn declared(&self) -> &[Range<u64>] {
        &self.declared
    }

    /// The sample at a place in decode order.
    pub fn sample(&self, index: DecodeIndex) -> Option<Sample> {
        let t = &self.samples;
        let i = index.as_usize();
        let (offset, size) = (t.offsets.get(i)? as u64, t.sizes.get_u32(i)?);
        let description = run_at(&t.description_runs, index.0, |r| r.0).map_or(0, |r| r.1);
        let composition_offset = t.composition_offsets.get(i).unwrap_or(0);
        Some(Sample {
            index,
            offset,
            size,
            sync: t
                .sync
                .get(t.sync.partition_point(|s| s < i64::from(index.0)))
                == Some(i64::from(index.0)),
            description,
            dts: t.times.get(i).unwrap_or(0),
            composition_offset: i32::try_from(composition_offset).unwrap_or(0),
        })
    }

    /// The sample that a position in the object names: for a container, its first byte only; for
    /// a raw stream, every byte from the first of its start code up to its NAL unit header.
    pub fn sample_at_offset(&self, offset: u64) -> Option<DecodeIndex> {
        let t = &self.samples;
        let nth = |k: usize| -> Option<u32> {
            if t.by_offset.is_empty() {
                Some(k as u32)
            } else {
                t.by_offset.get_u32(k)
            }
        };
        let start_of = |k: usize| {
            nth(k)
                .and_then(|d| t.offsets.get(d as usize))
                .map(|o| o as u64)
        };
        // Last sample that starts at or before the position.
        let (mut low, mut high) = (0usize, t.offsets.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if start_of(middle)? <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let sample = nth(low.checked_sub(1)?)?;
        let distance = offset.checked_sub(t.offsets.get(sample as usize)? as u64)?;
        let reach = t.header_distance.get(sample as usize).unwrap_or(0);
        (distance <= reach as u64).then_some(DecodeIndex(sample))
    }

    /// Which sample is shown at a place in presentation order.
    pub fn decode_index(&self, frame: PresentationIndex) -> Option<DecodeIndex> {
        self.samples
            .presented
            .get_u32(frame.as_usize())
            .map(DecodeIndex)
    }

    /// Where a sample is shown (first, if an edit list shows it twice); `None` if it is hidden.
    pub fn presentation_index(&self, sample: DecodeIndex) -> Option<PresentationIndex> {
        // `NOT_PRESENTED` is below zero.
        let rank = self.samples.rank.get_u32(sample.as_usize());
        rank.map(PresentationIndex)
    }

    /// Presentation time on the movie's timeline (edit list applied), in ticks of the timescale.
    pub fn presentation_time(&self, frame: PresentationIndex) -> Option<i64> {
        self.samples.presentation_times.get(frame.as_usize())
    }

    /// The picture that is on screen so many seconds after the first one appears: the last one
    /// whose time is not later, where half a tick later counts as equal, since seconds are seldom
    /// exact. `None` before 0, from the end ([`VideoIndex::duration`]) on, and for what is no
    /// number. Where an edit list leaves a gap, the picture before it stays.
    pub fn frame_at_time(&self, seconds: f64) -> Option<PresentationIndex> {
        let times = &self.samples.presentation_times;
        let (first, last) = (times.get(0)?, times.last()?);
        let ticks = seconds * f64::from(self.timescale);
        // A last picture without a duration is there for one tick.
        let shown = last.saturating_sub(first).saturating_add(1);
        let end = self.duration().max(shown);
        // Not a number is in no range.
        if !(0.0..end as f64).contains(&ticks) {
            return None;
        }
        let after = times.partition_point(|t| t.saturating_sub(first) as f64 <= ticks + 0.5);
        let frame = u32::try_from(after.checked_sub(1)?).ok()?;
        Some(PresentationIndex(frame))
    }

    /// Composition time (decode time plus composition offset) without edit list; for a raw stream
    /// the place in presentation order stands for it.
    pub fn composition_time(&self, sample: DecodeIndex) -> Option<i64> {
        if self.layout == Layout::AnnexB {
            return self.presentation_index(sample).map(|p| i64::from(p.0));
        }
        let s = self.sample(sample)?;
        Some(s.dts.saturating_add(i64::from(s.composition_offset)))
    }

    /// The last sync sample at or before a sample, in decode order.
    pub fn sync_at_or_before(&self, sample: DecodeIndex) -> Option<DecodeIndex> {
        let sync = &self.samples.sync;
        let after = sync.partition_point(|s| s <= i64::from(sample.0));
        after
            .checked_sub(1)
            .and_then(|k| sync.get_u32(k))
            .map(DecodeIndex)
    }

    /// The first sync sample behind a sample, in decode order.
    pub fn sync_after(&self, sample: DecodeIndex) -> Option<DecodeIndex> {
        let sync = &self.samples.sync;
        let after = sync.partition_point(|s| s <= i64::from(sample.0));
        sync.get_u32(after).map(DecodeIndex)
    }

    /// All sync samples, in decode order.
    pub fn sync_samples(&self) -> impl Iterator<Item = DecodeIndex> + '_ {
        let sync = &self.samples.sync;
        (0..sync.len()).map_while(|k| sync.get_u32(k).map(DecodeIndex))
    }

    /// Decode duration of the whole track, in ticks of the timescale: from the first presented
    /// picture's time to the last one's end (its end is its time plus the last sample's duration).
    pub fn duration(&self) -> i64 {
        let times = &self.samples.presentation_times;
        match (times.get(0), times.last()) {
            (Some(first), Some(last)) => last
                .saturating_sub(first)
                .saturating_add(i64::from(self.samples.last_duration)),
            _ => 0,
        }
    }

    /// Parameter sets that are in force before the slices of `sample`, without what lies inside
    /// that sample itself: those of its description, then those seen in-band before it (raw
    /// streams only; later content of the same kind and id stands after earlier content).
    pub fn parameter_sets_before(&self, sample: DecodeIndex) -> Vec<Bytes> {
        let description = self.sample(sample).map_or(0, |s| s.description);
        let mut sets = self
            .descriptions
            .get(usize::from(description))
            .map(|d| d.parameter_sets.clone())
            .unwrap_or_default();
        sets.extend(
            self.in_band_sets
                .iter()
                .take_while(|(at, _)| *at < sample)
                .map(|(_, s)| s.clone()),
        );
        sets
    }

    /// All parameter sets known from the index: the descriptions' and the in-band ones.
    pub fn parameter_sets(&self) -> impl Iterator<Item = &Bytes> {
        self.descriptions
            .iter()
            .flat_map(|d| d.parameter_sets.iter())
            .chain(self.in_band_sets.iter().map(|(_, s)| s))
    }
}

/// The last run that starts at or before `at`.
fn run_at<T>(runs: &[T], at: u32, start: impl Fn(&T) -> u32) -> Option<&T> {
    let after = runs.partition_point(|r| start(r) <= at);
    after.checked_sub(1).and_then(|k| runs.get(k))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(offsets: &[u64], reach: &[u8]) -> VideoIndex {
        VideoIndex {
            layout: Layout::AnnexB,
            object_size: 1000,
            tracks: vec![],
            descriptions: vec![],
            orientation: Orientation::IDENTITY,
            timescale: 25,
            samples: SampleTable {
                offsets: offsets.to_vec(),
                sizes: vec![10; offsets.len()],
                header_distance: reach.to_vec(),
                ..SampleTable::default()
            }
            .pack(),
            declared: vec![],
            in_band_sets: vec![],
        }
    }

    #[test]
    fn an_offset_names_a_sample_by_its_start_code_only() {
        let i = index(&[0, 100, 200], &[4, 3, 4]);
        assert_eq!(i.sample_at_offset(0), Some(DecodeIndex(0)));
        assert_eq!(i.sample_at_offset(4), Some(DecodeIndex(0)));
        assert_eq!(i.sample_at_offset(5), None);
        assert_eq!(i.sample_at_offset(103), Some(DecodeIndex(1)));
        assert_eq!(i.sample_at_offset(104), None);
        assert_eq!(i.sample_at_offset(u64::MAX), None);
    }

    #[test]
    fn samples_may_lie_in_any_order_in_the_object() {
        let i = index(&[500, 100, 300], &[]);
        assert_eq!(i.sample_at_offset(500), Some(DecodeIndex(0)));
        assert_eq!(i.sample_at_offset(100), Some(DecodeIndex(1)));
        assert_eq!(i.sample_at_offset(300), Some(DecodeIndex(2)));
        assert_eq!(i.sample_at_offset(301), None);
    }
}
