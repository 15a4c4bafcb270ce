//! `moov`: the movie, its tracks, and which of them is the video.

use std::collections::HashMap;

use super::super::DemuxError;
use super::boxes::{BoxRef, FourCc};
use super::edit_list::{self, Edit};
use super::sample_entry::{self, Content, SampleEntry, codec_name};
use crate::index::TrackSummary;
use crate::orientation::Orientation;

/// A matrix of ISO/IEC 14496-12, 6.2.2 in file order `a b u c d v x y w`: 16.16 fixed point, but
/// 2.30 for `u v w`.
type Matrix = [i32; 9];

const IDENTITY: Matrix = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

/// What `moov` says of the movie as a whole.
#[derive(Debug)]
pub(super) struct Movie<'a> {
    /// Ticks per second of the movie's own timeline (`mvhd`), in which edit durations are given.
    pub(super) timescale: u32,
    /// In the file's order. A track that cannot be read is kept as the reason why.
    tracks: Vec<Result<Track<'a>, DemuxError>>,
    /// `mvex` is there: movie fragments may follow.
    pub(super) fragmented: bool,
    /// Defaults of the fragments by `track_ID`.
    pub(super) defaults: HashMap<u32, FragmentDefaults>,
}

/// What `trex` says for the samples of one track's fragments (ISO/IEC 14496-12, 8.8.3).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FragmentDefaults {
    pub(super) description_index: u32,
    pub(super) duration: u32,
    pub(super) size: u32,
    pub(super) flags: u32,
}

/// One `trak`.
#[derive(Debug)]
pub(super) struct Track<'a> {
    /// Where `trak` begins in the object.
    pub(super) at: u64,
    pub(super) id: u32,
    enabled: bool,
    handler: FourCc,
    /// Ticks per second of the media (`mdhd`).
    pub(super) timescale: u32,
    pub(super) orientation: Orientation,
    pub(super) entries: Vec<SampleEntry>,
    pub(super) edits: Vec<Edit>,
    pub(super) stbl: BoxRef<'a>,
    /// Samples that `moov` itself describes.
    sample_count: u32,
}

impl<'a> Movie<'a> {
    pub(super) fn read(moov: &BoxRef<'a>) -> Result<Self, DemuxError> {
        if moov.child(b"cmov")?.is_some() {
            return Err(DemuxError::Unsupported {
                what: "a compressed movie header (`cmov`)".into(),
            });
        }
        let (timescale, matrix) = read_mvhd(&moov.need(b"mvhd")?)?;
        let mut movie = Self {
            timescale,
            tracks: Vec::new(),
            fragmented: false,
            defaults: HashMap::new(),
        };
        for child in moov.children() {
            let child = child?;
            match &child.fourcc.0 {
                b"trak" => movie.tracks.push(Track::read(&child, &matrix)),
                b"mvex" => movie.read_mvex(&child)?,
                _ => {}
            }
        }
        Ok(movie)
    }

    fn read_mvex(&mut self, mvex: &BoxRef<'_>) -> Result<(), DemuxError> {
        self.fragmented = true;
        for child in mvex.children() {
            let child = child?;
            if &child.fourcc.0 == b"trex" {
                let (_, _, mut fields) = child.full()?;
                let mut next = || fields.u32().ok_or_else(|| child.short());
                let track_id = next()?;
                let defaults = FragmentDefaults {
                    description_index: next()?,
                    duration: next()?,
                    size: next()?,
                    flags: next()?,
                };
                self.defaults.insert(track_id, defaults);
            }
        }
        Ok(())
    }

    /// The track to serve.
    ///
    /// Among tracks with handler `vide` that hold H.265 (if there is none: handler `pict`, the
    /// image sequences of HEIF): an enabled one before a disabled one; then one with five samples
    /// or more before a shorter one (the one-picture tracks of motion photos are larger than the
    /// motion); then the largest picture; then the most samples; then the first of the file. This
    /// follows the order of libavformat's `av_find_best_stream`, with the picture's area in place
    /// of the bit rate.
    pub(super) fn video(&self) -> Result<&Track<'a>, DemuxError> {
        let readable = || self.tracks.iter().filter_map(|t| t.as_ref().ok());
        for handler in [b"vide", b"pict"] {
            let candidates = readable().filter(|t| &t.handler.0 == handler && t.holds_hevc());
            // `max_by_key` keeps the last of equals; the first is wanted.
            if let Some(best) = candidates.rev().max_by_key(|t| {
                let samples = if self.fragmented {
                    u32::MAX
                } else {
                    t.sample_count
                };
                (t.enabled, samples.min(5), t.area(), samples)
            }) {
                return Ok(best);
            }
        }
        Err(self.why_no_video())
    }

    fn why_no_video(&self) -> DemuxError {
        if let Some(error) = self.tracks.iter().find_map(|t| t.as_ref().err()) {
            return error.clone();
        }
        let readable = || self.tracks.iter().filter_map(|t| t.as_ref().ok());
        for handler in [b"vide", b"pict"] {
            for track in readable().filter(|t| &t.handler.0 == handler) {
                match track.entries.first().map(|e| &e.content) {
                    Some(Content::Other(error)) => return error.clone(),
                    Some(Content::Hevc(_)) => {}
                    None => {
                        return DemuxError::Damaged {
                            what: format!("track {} has no sample description", track.id),
                        };
                    }
                }
            }
        }
        let found: Vec<String> = readable().map(Track::describe).collect();
        let found = if found.is_empty() {
            "an MP4 or MOV file without tracks".into()
        } else {
            format!(
                "an MP4 or MOV file without a video track; its tracks: {}",
                found.join(", ")
            )
        };
        DemuxError::NotVideo { found }
    }

    /// All tracks that can be read, for reports.
    pub(super) fn summaries(&self, selected: u32) -> Vec<TrackSummary> {
        self.tracks
            .iter()
            .filter_map(|t| t.as_ref().ok())
            .map(|t| TrackSummary {
                id: t.id,
                handler: t.handler.0,
                codec: t.entries.first().map(|e| e.fourcc.0),
                selected: t.id == selected,
            })
            .collect()
    }
}

impl<'a> Track<'a> {
    fn read(trak: &BoxRef<'a>, movie_matrix: &Matrix) -> Result<Self, DemuxError> {
        let tkhd = trak.need(b"tkhd")?;
        let (enabled, id, matrix) = read_tkhd(&tkhd)?;
        let mdia = trak.need(b"mdia")?;
        let timescale = read_mdhd(&mdia.need(b"mdhd")?)?;
        let handler = read_hdlr(&mdia.need(b"hdlr")?)?;
        let minf = mdia.need(b"minf")?;
        let stbl = minf.need(b"stbl")?;
        let visual = matches!(&handler.0, b"vide" | b"pict");
        let mut entries = sample_entry::read_stsd(&stbl.need(b"stsd")?, visual)?;
        if let Some(external) = external_data(&minf) {
            for entry in &mut entries {
                entry.content = Content::Other(external.clone());
            }
        }
        let edits = match trak.child(b"edts")? {
            Some(edts) => edit_list::read(&edts)?,
            None => Vec::new(),
        };
        Ok(Self {
            at: trak.at,
            id,
            enabled,
            handler,
            timescale,
            orientation: orientation(&matrix, movie_matrix),
            entries,
            edits,
            stbl,
            sample_count: sample_count(&stbl),
        })
    }

    fn holds_hevc(&self) -> bool {
        self.entries
            .iter()
            .any(|e| matches!(e.content, Content::Hevc(_)))
    }

    fn area(&self) -> u32 {
        self.entries
            .iter()
            .map(|e| u32::from(e.width) * u32::from(e.height))
            .max()
            .unwrap_or(0)
    }

    fn describe(&self) -> String {
        match self.entries.first() {
            Some(entry) => format!("`{}` with {}", self.handler, codec_name(entry.fourcc)),
            None => format!("`{}`", self.handler),
        }
    }
}

/// Timescale and matrix of `mvhd`.
fn read_mvhd(mvhd: &BoxRef<'_>) -> Result<(u32, Matrix), DemuxError> {
    let (version, _, mut fields) = mvhd.full()?;
    let mut read = || {
        fields.skip(if version == 1 { 16 } else { 8 })?;
        let timescale = fields.u32()?;
        // duration, rate, volume, reserved
        fields.skip(if version == 1 { 8 } else { 4 })?;
        fields.skip(16)?;
        let mut matrix = IDENTITY;
        for value in &mut matrix {
            *value = fields.i32()?;
        }
        Some((timescale, matrix))
    };
    read().ok_or_else(|| mvhd.short())
}

/// Whether the track is enabled, its id and its matrix.
fn read_tkhd(tkhd: &BoxRef<'_>) -> Result<(bool, u32, Matrix), DemuxError> {
    let (version, flags, mut fields) = tkhd.full()?;
    let mut read = || {
        fields.skip(if version == 1 { 16 } else { 8 })?;
        let id = fields.u32()?;
        // reserved, duration, reserved, layer, alternate_group, volume, reserved
        fields.skip(4)?;
        fields.skip(if version == 1 { 8 } else { 4 })?;
        fields.skip(16)?;
        let mut matrix = IDENTITY;
        for value in &mut matrix {
            *value = fields.i32()?;
        }
        Some((flags & 1 != 0, id, matrix))
    };
    read().ok_or_else(|| tkhd.short())
}

fn read_mdhd(mdhd: &BoxRef<'_>) -> Result<u32, DemuxError> {
    let (version, _, mut fields) = mdhd.full()?;
    let mut read = || {
        fields.skip(if version == 1 { 16 } else { 8 })?;
        fields.u32()
    };
    match read() {
        None => Err(mdhd.short()),
        Some(0) => Err(mdhd.damaged("has a timescale of 0")),
        Some(timescale) => Ok(timescale),
    }
}

fn read_hdlr(hdlr: &BoxRef<'_>) -> Result<FourCc, DemuxError> {
    let (_, _, mut fields) = hdlr.full()?;
    fields
        .skip(4)
        .and_then(|()| fields.array())
        .map(FourCc)
        .ok_or_else(|| hdlr.short())
}

/// The number of samples that `stsz` or `stz2` says; 0 where it says none.
fn sample_count(stbl: &BoxRef<'_>) -> u32 {
    let read = || {
        let sizes = match stbl.child(b"stsz").ok()? {
            Some(stsz) => stsz,
            None => stbl.child(b"stz2").ok()??,
        };
        let (_, _, mut fields) = sizes.full().ok()?;
        fields.skip(4)?;
        fields.u32()
    };
    read().unwrap_or(0)
}

/// The error for a track whose samples lie in another file: its (one) data reference is not
/// marked as self-contained and names a place (ISO/IEC 14496-12, 8.7.2).
fn external_data(minf: &BoxRef<'_>) -> Option<DemuxError> {
    let dref = minf.child(b"dinf").ok()??.child(b"dref").ok()??;
    let entry = dref.children_after(8).next()?.ok()?;
    let (_, flags, fields) = entry.full().ok()?;
    let names_a_place = fields.0.iter().any(|&b| b != 0);
    (flags & 1 == 0 && names_a_place).then(|| DemuxError::Unsupported {
        what: format!(
            "samples in another file (data reference `{}`)",
            entry.fourcc
        ),
    })
}

/// The orientation by the track's matrix and then the movie's: points are row vectors, so the
/// product is track × movie.
fn orientation(track: &Matrix, movie: &Matrix) -> Orientation {
    // The third row and column shift and project; only the 2×2 part turns and mirrors.
    let [a, b, _, c, d, ..] = *track;
    let [ma, mb, _, mc, md, ..] = *movie;
    let product = |x: i32, m: i32, y: i32, n: i32| {
        let sum = i64::from(x) * i64::from(m) + i64::from(y) * i64::from(n);
        i32::try_from(sum.clamp(-1, 1)).unwrap_or(0)
    };
    Orientation::from_matrix(
        product(a, ma, b, mc),
        product(a, mb, b, md),
        product(c, ma, d, mc),
        product(c, mb, d, md),
    )
}
