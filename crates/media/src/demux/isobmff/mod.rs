//! ISO base media files: MP4, MOV, fragmented MP4 (ISO/IEC 14496-12, 14496-15; QuickTime).
//!
//! The builder walks the boxes at the top level by their headers, reads `moov` whole, and, where
//! `moov` announces fragments, each `moof`. It never asks for media bytes but for the start of one
//! sample, where the parameter sets are not in `hvcC`.
//!
//! ```text
//! Walk ──► Movie ──┬───────────────► ParameterSets ──► finished
//!                  └──► Fragments ──►
//! ```
//!
//! How many rounds of reads that takes, when the head and the tail were pushed before: none when
//! they hold `moov`; one when `moov` begins in the head, or when it ends the object and is not
//! out of proportion to it, or when it is short and follows a box that begins in the head (see
//! [`Builder::walk_request`]).

mod boxes;
mod chunks;
mod columns;
mod edit_list;
mod fragments;
mod limits;
mod movie;
mod random_access;
mod sample_entry;
mod tables;

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;

use self::boxes::{BoxRef, FourCc, Header, LONGEST_HEADER};
use self::chunks::Chunks;
use self::columns::{Columns, DescriptionMap};
use self::edit_list::{Edit, Timescales};
use self::movie::{FragmentDefaults, Movie};
use self::random_access::{Hints, MFRO};
use super::{DemuxError, Step};
use crate::index::{Framing, Layout, SampleDescription, TrackSummary, VideoIndex};
use crate::orientation::Orientation;

/// Bytes asked for where a box header is due and nothing is known of what follows.
const HEADER_WINDOW: u64 = 4 * 1024;
/// The same where it is due for the first time: after the media data, `moov` is what mostly follows,
/// and one of some minutes is as long as this at the most. With the head and the tail that the
/// caller has read, it stays below 512 KiB.
const FIRST_WINDOW: u64 = 224 * 1024;
/// The rest of an object that is read at once, in the hope of a `moov`, whatever its share.
const SMALL_REST: u64 = 1024 * 1024;
/// The most that is read so.
const LARGE_REST: u64 = 32 * 1024 * 1024;
/// Fragments that begin closer together than this are read through instead of one by one.
const CLOSE_FRAGMENTS: u64 = 32 * 1024;
/// Bytes asked for at once where fragments are close together.
const CLOSE_WINDOW: u64 = 256 * 1024;
/// The largest window for one fragment's `moof`.
const LARGEST_WINDOW: u64 = 1024 * 1024;
/// Places that are read ahead at once by `sidx` and `mfra`.
const READ_AHEAD: usize = 31;

/// Builds the index of an ISO BMFF object.
#[derive(Debug)]
pub(super) struct Builder {
    size: u64,
    chunks: Chunks,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Going from box to box, looking for `moov`.
    Walk(Walk),
    /// `moov` is found and must be read whole.
    Movie { at: u64, header: Header, walk: Walk },
    /// `moov` is read; going from `moof` to `moof`.
    Fragments {
        video: Box<Video>,
        walk: FragmentWalk,
    },
    /// All samples are known; parameter sets may still be missing.
    ParameterSets { video: Box<Video>, fragmented: bool },
    /// The index was given, or an error was.
    Done,
}

/// What was seen on the way to `moov`.
#[derive(Clone, Debug, Default)]
struct Walk {
    at: u64,
    boxes: u32,
    brand: Option<FourCc>,
    meta: bool,
    media_data: bool,
    first_moof: Option<u64>,
    /// Bytes were asked for.
    asked: bool,
}

/// The video track, from `moov`.
#[derive(Debug)]
struct Video {
    track_id: u32,
    tracks: Vec<TrackSummary>,
    descriptions: Vec<SampleDescription>,
    description_map: DescriptionMap,
    defaults: HashMap<u32, FragmentDefaults>,
    orientation: Orientation,
    timescales: Timescales,
    edits: Vec<Edit>,
    moov_first: bool,
    declared: Vec<Range<u64>>,
    columns: Columns,
}

/// The way from fragment to fragment.
#[derive(Debug)]
struct FragmentWalk {
    at: u64,
    /// Boxes since the last sample of the video.
    idle_boxes: u32,
    hints: Hints,
    mfra: MfraSearch,
    /// Any sample came from a fragment.
    found: bool,
    /// Where the last `moof` began.
    last_moof: Option<u64>,
    /// Distance from the last but one `moof` to the last.
    stride: u64,
    /// Length of the longest `moof` so far.
    longest_moof: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum MfraSearch {
    /// The last bytes of the object say whether there is an `mfra`; `asked`: they were asked for.
    LastBytes {
        asked: bool,
    },
    /// It lies here; `asked`: it was asked for.
    Box {
        range: Range<u64>,
        asked: bool,
    },
    Over,
}

/// What a phase came to.
enum Turn {
    Next(Phase),
    Need(Phase, Vec<Range<u64>>),
    Finished(Box<VideoIndex>),
}

impl Builder {
    pub(super) fn new(size: u64) -> Self {
        Self {
            size,
            chunks: Chunks::default(),
            phase: Phase::Walk(Walk::default()),
        }
    }

    pub(super) fn push(&mut self, offset: u64, data: Bytes) {
        self.chunks.push(offset, data, self.size);
    }

    pub(super) fn step(&mut self) -> Result<Step, DemuxError> {
        loop {
            let turn = match std::mem::replace(&mut self.phase, Phase::Done) {
                Phase::Walk(walk) => self.walk(walk),
                Phase::Movie { at, header, walk } => self.movie(at, header, walk),
                Phase::Fragments { video, walk } => self.fragments(video, walk),
                Phase::ParameterSets { video, fragmented } => {
                    self.parameter_sets(video, fragmented)
                }
                Phase::Done => Err(DemuxError::Unsupported {
                    what: "a further step after the index was given or refused".into(),
                }),
            };
            match turn? {
                Turn::Next(phase) => self.phase = phase,
                Turn::Need(phase, ranges) => {
                    self.phase = phase;
                    return Ok(Step::NeedsData(ranges));
                }
                Turn::Finished(index) => {
                    self.chunks.clear();
                    return Ok(Step::Finished(index));
                }
            }
        }
    }

    /// The box header at `at`, from the bytes at hand. `None`: more bytes are needed.
    fn header_at(&self, at: u64) -> Result<Option<Header>, DemuxError> {
        let here = LONGEST_HEADER.min(self.size.saturating_sub(at));
        let held = self.chunks.held_from(at, here);
        match self.chunks.get(at..at.saturating_add(held)) {
            Ok(bytes) => match Header::read(&bytes, at) {
                Some(header) => header.map(Some),
                // A `largesize` that the object's end cuts off.
                None if held == here => Err(DemuxError::CutShort {
                    what: format!("it ends inside the box header at byte {at}"),
                }),
                None => Ok(None),
            },
            Err(_) => Ok(None),
        }
    }

    /// The end of a box, which must lie within the object.
    fn end_of(&self, at: u64, header: &Header) -> Result<u64, DemuxError> {
        let Some(total) = header.total_len else {
            return Ok(self.size);
        };
        at.checked_add(total)
            .filter(|&end| end <= self.size)
            .ok_or_else(|| DemuxError::CutShort {
                what: format!(
                    "the box `{}` at byte {at} says that it is {total} bytes long, but the \
                     object ends {} bytes after its start",
                    header.fourcc,
                    self.size.saturating_sub(at)
                ),
            })
    }

    fn walk(&mut self, mut walk: Walk) -> Result<Turn, DemuxError> {
        // Fewer bytes than a header are no box.
        while walk.at.saturating_add(8) <= self.size {
            let at = walk.at;
            let Some(header) = self.header_at(at)? else {
                let need = self.walk_request(at, walk.asked);
                walk.asked = true;
                return Ok(Turn::Need(Phase::Walk(walk), need));
            };
            match &header.fourcc.0 {
                b"moov" => return Ok(Turn::Next(Phase::Movie { at, header, walk })),
                b"ftyp" if walk.brand.is_none() => {
                    let brand_at = at.saturating_add(header.header_len);
                    let brand = self.chunks.get(brand_at..brand_at.saturating_add(4)).ok();
                    walk.brand = brand.and_then(|b| boxes::Fields(&b).array()).map(FourCc);
                }
                b"meta" => walk.meta = true,
                b"mdat" => walk.media_data = true,
                b"moof" => walk.first_moof = walk.first_moof.or(Some(at)),
                _ => {}
            }
            walk.at = self.end_of(at, &header).map_err(|e| match e {
                DemuxError::CutShort { what } => DemuxError::CutShort {
                    what: format!("{what}, and no `moov` came before it"),
                },
                other => other,
            })?;
            walk.boxes += 1;
            if walk.boxes > limits::BOXES_WITHOUT_SAMPLES {
                return Err(DemuxError::Unsupported {
                    what: format!(
                        "a file with more than {} boxes before `moov`",
                        walk.boxes - 1
                    ),
                });
            }
            self.chunks.discard_before(walk.at);
        }
        Err(self.no_movie(&walk))
    }

    /// What to read where the next box header is due.
    ///
    /// After the media data comes `moov` in nearly all files, so the rest of the object is read
    /// at once where it is in proportion: then no further round is needed. It is when it takes no
    /// more than an eighth of the object (`moov` takes about 20 bytes for each sample), within
    /// 1 MiB to 32 MiB. Else what begins there is looked at first, for the first time with room for
    /// a `moov`.
    fn walk_request(&self, at: u64, asked: bool) -> Vec<Range<u64>> {
        let rest = self.size.saturating_sub(at);
        let bound = (self.size / 8).clamp(SMALL_REST, LARGE_REST);
        let len = match asked {
            _ if rest <= bound => rest,
            false => FIRST_WINDOW,
            true => HEADER_WINDOW,
        };
        self.chunks
            .missing(at..at.saturating_add(len).min(self.size))
    }

    fn no_movie(&self, walk: &Walk) -> DemuxError {
        let brand = walk
            .brand
            .map_or_else(String::new, |b| format!(" (brand `{b}`)"));
        if walk.first_moof.is_some() {
            return DemuxError::Unsupported {
                what: "a media segment without its initialization segment (`moof`, no `moov`)"
                    .into(),
            };
        }
        if walk.meta {
            return DemuxError::NotVideo {
                found: format!("a still picture in HEIF{brand}"),
            };
        }
        if walk.media_data {
            return DemuxError::CutShort {
                what: format!(
                    "there is media data but no `moov` in the object's {} bytes; the recording \
                     was probably not finished",
                    self.size
                ),
            };
        }
        DemuxError::NotVideo {
            found: format!("an MP4 or MOV file{brand} without `moov`"),
        }
    }

    fn movie(&mut self, at: u64, header: Header, walk: Walk) -> Result<Turn, DemuxError> {
        let end = self.end_of(at, &header)?;
        if end.saturating_sub(at) > limits::MOOV {
            return Err(DemuxError::Unsupported {
                what: format!("a `moov` of {} bytes", end.saturating_sub(at)),
            });
        }
        let body_at = at.saturating_add(header.header_len);
        let body = match self.chunks.get(body_at..end) {
            Ok(body) => body,
            Err(missing) => return Ok(Turn::Need(Phase::Movie { at, header, walk }, missing)),
        };
        let moov = BoxRef {
            fourcc: header.fourcc,
            at,
            body_at,
            body: &body,
        };
        let mut movie = Movie::read(&moov)?;
        let track = movie.video()?;
        let (description_map, descriptions) = DescriptionMap::split(&track.entries)?;
        // All boxes up to the end of `moov` lie in the object; if media data was among them and
        // nothing follows, the object is as long as it should be.
        let whole = walk.media_data && end == self.size;
        let declared = declared(at..end, track.at..end);
        let mut columns = Columns::new(self.size, whole);
        tables::read(&track.stbl, &description_map, &mut columns)?;
        let video = Box::new(Video {
            track_id: track.id,
            tracks: movie.summaries(track.id),
            descriptions,
            description_map,
            orientation: track.orientation,
            timescales: Timescales {
                movie: movie.timescale,
                media: track.timescale,
            },
            edits: track.edits.clone(),
            moov_first: !walk.media_data,
            declared,
            columns,
            defaults: std::mem::take(&mut movie.defaults),
        });
        let fragmented = movie.fragmented;
        // `moov` may be as large as the index: it is let go before the index is made.
        drop(movie);
        drop(body);
        self.chunks.discard_before(walk.first_moof.unwrap_or(end));
        if !fragmented {
            return Ok(Turn::Next(Phase::ParameterSets {
                video,
                fragmented: false,
            }));
        }
        let walk = FragmentWalk {
            at: walk.first_moof.unwrap_or(end),
            idle_boxes: 0,
            hints: Hints::default(),
            mfra: MfraSearch::LastBytes { asked: false },
            found: false,
            last_moof: None,
            stride: u64::MAX,
            longest_moof: 0,
        };
        Ok(Turn::Next(Phase::Fragments { video, walk }))
    }

    fn fragments(
        &mut self,
        mut video: Box<Video>,
        mut walk: FragmentWalk,
    ) -> Result<Turn, DemuxError> {
        let index = self.find_mfra(&mut walk);
        if !index.is_empty() {
            // In the same round as the first window, so that it costs no time of its own.
            let mut need = index;
            need.extend(self.fragment_request(&walk, HEADER_WINDOW));
            return Ok(Turn::Need(Phase::Fragments { video, walk }, disjoint(need)));
        }
        while walk.at.saturating_add(8) <= self.size {
            let at = walk.at;
            let Some(header) = self.header_at(at)? else {
                let need = disjoint(self.fragment_request(&walk, HEADER_WINDOW));
                return Ok(Turn::Need(Phase::Fragments { video, walk }, need));
            };
            let end = self.end_of(at, &header)?;
            let total = end.saturating_sub(at);
            let is_moof = &header.fourcc.0 == b"moof";
            let is_sidx = &header.fourcc.0 == b"sidx" && total <= limits::FRAGMENT_INDEX;
            if is_moof && total > limits::MOOF {
                return Err(DemuxError::Unsupported {
                    what: format!("a `moof` of {total} bytes"),
                });
            }
            if is_moof || is_sidx {
                let body_at = at.saturating_add(header.header_len);
                let body = match self.chunks.get(body_at..end) {
                    Ok(body) => body,
                    Err(_) => {
                        let need = disjoint(self.fragment_request(&walk, total));
                        return Ok(Turn::Need(Phase::Fragments { video, walk }, need));
                    }
                };
                let found = BoxRef {
                    fourcc: header.fourcc,
                    at,
                    body_at,
                    body: &body,
                };
                if is_moof {
                    video.read_fragment(&found, &mut walk)?;
                } else if let Some(media_end) = walk.hints.add_sidx(&found)
                    && media_end > self.size
                {
                    return Err(DemuxError::CutShort {
                        what: format!(
                            "the segment index (`sidx`) at byte {at} speaks of media up to byte \
                             {media_end}, but the object ends at {}",
                            self.size
                        ),
                    });
                }
            }
            walk.idle_boxes += 1;
            if walk.idle_boxes > limits::BOXES_WITHOUT_SAMPLES {
                return Err(DemuxError::Unsupported {
                    what: format!(
                        "{} boxes in a row at the top level without a sample of the video",
                        limits::BOXES_WITHOUT_SAMPLES
                    ),
                });
            }
            walk.at = end;
            walk.hints.discard_to(end);
            self.chunks.discard_before(end);
        }
        Ok(Turn::Next(Phase::ParameterSets {
            video,
            fragmented: walk.found,
        }))
    }

    /// Looks for `mfra` in the bytes at hand; gives what to ask for, once for each thing.
    fn find_mfra(&self, walk: &mut FragmentWalk) -> Vec<Range<u64>> {
        loop {
            match &mut walk.mfra {
                MfraSearch::Over => return Vec::new(),
                MfraSearch::LastBytes { asked } => {
                    let last = self.size.saturating_sub(MFRO).max(walk.at)..self.size;
                    match self.chunks.get(last) {
                        Ok(bytes) => {
                            let range = random_access::mfra_range(&bytes, self.size)
                                .filter(|r| r.end - r.start <= limits::FRAGMENT_INDEX);
                            walk.mfra = range.map_or(MfraSearch::Over, |range| MfraSearch::Box {
                                range,
                                asked: false,
                            });
                        }
                        Err(missing) if !*asked => {
                            *asked = true;
                            return missing;
                        }
                        Err(_) => walk.mfra = MfraSearch::Over,
                    }
                }
                MfraSearch::Box { range, asked } => match self.chunks.get(range.clone()) {
                    Ok(bytes) => {
                        let all = BoxRef {
                            fourcc: FourCc(*b"    "),
                            at: range.start,
                            body_at: range.start,
                            body: &bytes,
                        };
                        if let Ok(Some(mfra)) = all.child(b"mfra") {
                            walk.hints.add_mfra(&mfra);
                        }
                        walk.mfra = MfraSearch::Over;
                    }
                    Err(missing) if !*asked => {
                        *asked = true;
                        return missing;
                    }
                    Err(_) => walk.mfra = MfraSearch::Over,
                },
            }
        }
    }

    /// What to read where the walk stands: at least `least` bytes there, and windows at the next
    /// places where fragments are said to begin.
    fn fragment_request(&self, walk: &FragmentWalk, least: u64) -> Vec<Range<u64>> {
        let window = if walk.stride <= CLOSE_FRAGMENTS {
            CLOSE_WINDOW
        } else {
            // The longest `moof` so far and the header behind it, in whole pages.
            walk.longest_moof
                .saturating_add(LONGEST_HEADER)
                .next_multiple_of(HEADER_WINDOW)
        };
        let window = window.clamp(HEADER_WINDOW, LARGEST_WINDOW);
        let clip = |at: u64, len: u64| at..at.saturating_add(len).min(self.size);
        let mut need = self.chunks.missing(clip(walk.at, window.max(least)));
        for hint in walk.hints.after(walk.at, READ_AHEAD) {
            if hint < self.size {
                need.extend(self.chunks.missing(clip(hint, window)));
            }
        }
        need
    }

    fn parameter_sets(
        &mut self,
        mut video: Box<Video>,
        fragmented: bool,
    ) -> Result<Turn, DemuxError> {
        if video.columns.len() == 0 {
            return Err(if video.defaults.is_empty() {
                DemuxError::NotVideo {
                    found: "an MP4 or MOV file whose video track is empty".into(),
                }
            } else {
                DemuxError::CutShort {
                    what: "`moov` announces movie fragments (`mvex`), but no sample of the video \
                           follows"
                        .into(),
                }
            });
        }
        let mut need = Vec::new();
        for place in 0..video.descriptions.len() {
            let Some((range, length_size)) = video.first_sample_without_sets(place) else {
                continue;
            };
            match self.chunks.get(range) {
                Ok(bytes) => video.take_sets(place, &bytes, length_size)?,
                Err(missing) => need.extend(missing),
            }
        }
        if !need.is_empty() {
            return Ok(Turn::Need(
                Phase::ParameterSets { video, fragmented },
                disjoint(need),
            ));
        }
        video.finish(self.size, fragmented).map(Turn::Finished)
    }
}

impl Video {
    fn read_fragment(
        &mut self,
        moof: &BoxRef<'_>,
        walk: &mut FragmentWalk,
    ) -> Result<(), DemuxError> {
        let before = self.columns.len();
        let context = fragments::Context {
            track_id: self.track_id,
            defaults: &self.defaults,
            descriptions: &self.description_map,
        };
        fragments::read(moof, &context, &mut self.columns)?;
        if self.columns.len() > before {
            walk.found = true;
            walk.idle_boxes = 0;
        }
        if let Some(last) = walk.last_moof.replace(moof.at) {
            walk.stride = moof.at.saturating_sub(last);
        }
        let header = moof.body_at.saturating_sub(moof.at);
        let total = header.saturating_add(moof.body.len() as u64);
        walk.longest_moof = walk.longest_moof.max(total);
        Ok(())
    }

    /// For a description that has samples but no SPS: the start of its first sync sample, and
    /// the size of NAL unit lengths.
    fn first_sample_without_sets(&self, place: usize) -> Option<(Range<u64>, u8)> {
        let description = self.descriptions.get(place)?;
        let Framing::LengthPrefixed(length_size) = description.framing else {
            return None;
        };
        if description
            .parameter_sets
            .iter()
            .any(|nal| sample_entry::is_base_layer_sps(nal))
        {
            return None;
        }
        let table = &self.columns.table;
        let runs = &table.description_runs;
        let sample = runs
            .iter()
            .enumerate()
            .filter(|(_, r)| usize::from(r.1) == place)
            .find_map(|(i, &(first, _))| {
                let end = runs.get(i + 1).map_or(self.columns.len(), |r| r.0);
                let next_sync = table.sync.partition_point(|&s| s < first);
                table.sync.get(next_sync).copied().filter(|&s| s < end)
            })?;
        let offset = *table.offsets.get(sample as usize)?;
        let size = u64::from(*table.sizes.get(sample as usize)?).min(limits::FIRST_SAMPLE);
        Some((offset..offset.saturating_add(size), length_size))
    }

    /// Takes the parameter sets that stand at the start of a sample (`hev1` in-band).
    fn take_sets(
        &mut self,
        place: usize,
        sample: &[u8],
        length_size: u8,
    ) -> Result<(), DemuxError> {
        let mut sets = Vec::new();
        let mut fields = boxes::Fields(sample);
        loop {
            let length = match length_size {
                1 => fields.u8().map(usize::from),
                2 => fields.u16().map(usize::from),
                _ => fields.u32().map(|n| n as usize),
            };
            // The last NAL unit may go beyond what was read.
            let Some(nal) = length.and_then(|n| fields.bytes(n)) else {
                break;
            };
            if sample_entry::is_base_layer_parameter_set(nal) {
                sets.push(Bytes::copy_from_slice(nal));
            }
        }
        if !sets.iter().any(|nal| sample_entry::is_base_layer_sps(nal)) {
            return Err(DemuxError::Damaged {
                what: format!(
                    "there is no sequence parameter set, neither in `hvcC` nor in the first {} \
                     bytes of the first sync sample",
                    sample.len()
                ),
            });
        }
        if let Some(description) = self.descriptions.get_mut(place) {
            description.parameter_sets.append(&mut sets);
        }
        Ok(())
    }

    fn finish(self, object_size: u64, fragmented: bool) -> Result<Box<VideoIndex>, DemuxError> {
        let layout = if fragmented {
            Layout::Fragmented
        } else {
            Layout::Progressive {
                moov_first: self.moov_first,
            }
        };
        let mut samples = self.columns.finish();
        let most = edit_list::most_frames(object_size);
        edit_list::present(&mut samples, &self.edits, self.timescales, fragmented, most)?;
        Ok(Box::new(VideoIndex {
            layout,
            object_size,
            tracks: self.tracks,
            descriptions: self.descriptions,
            orientation: self.orientation,
            timescale: self.timescales.media,
            samples: samples.pack(),
            declared: self.declared,
            in_band_sets: Vec::new(),
        }))
    }
}

/// The beginnings of `moov` and of the video's `trak`, as far as they can hold more than tables.
fn declared(moov: Range<u64>, trak: Range<u64>) -> Vec<Range<u64>> {
    /// `mvhd` comes first, and has 108 or 120 bytes.
    const MOOV: u64 = 256;
    /// `tkhd`, `edts`, `mdhd`, `hdlr` and `stsd` seldom have more than 2 KiB together.
    const TRAK: u64 = 8 * 1024;
    let begin = |r: Range<u64>, most: u64| r.start..r.end.min(r.start.saturating_add(most));
    disjoint(Vec::from([begin(moov, MOOV), begin(trak, TRAK)]))
}

/// Ranges in ascending order, those that touch or overlap as one.
fn disjoint(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|r| r.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}
