//! The index file of a video, `<video>.bsidx`: its index and its samples' [heads](crate::heads), so
//! that a server needs neither the container's tables nor slice headers in order to know what a
//! frame takes. docs/sidecar.md has the format byte by byte.
//!
//! # When it is believed
//!
//! A file that lies beside a video may be older than the video, or damaged. It is believed only if
//!
//! 1. it is whole: its own length, and checksums over its head and its body;
//! 2. it was made of an object of the same size, whose first and last 128 KiB and whose
//!    [declarations](VideoIndex::declared) (what `moov` and `trak` say before their tables begin)
//!    have the same hashes. Those who open an object read both ends anyway, so that this costs
//!    nothing; the declarations are a few KiB, read beside the file itself;
//! 3. its ETag is the object's, where both have one. A file that was written before the video was
//!    put into a bucket has none: which ETag a store will give cannot be told beforehand.
//!
//! Another take, another encoding, a cut, a remux, a changed rotation, edit list or colour
//! description all differ in one of these. What could differ in none of them is an object in which
//! some bytes between its ends were changed in place and which has no ETag in the file. There the
//! *heads* decide: every sample that is decoded is first held against its own
//! ([`Heads::agree`]), so that a table of other places or sizes, or pictures with other references,
//! are found out before a picture is made of them. (Left is an editor that changes nothing but
//! entries of `stts`, `ctts` or `stss`, in place, deep inside a long `moov`: frames come out exact
//! then, at the times and numbers that they had.)
//!
//! The checksums are XXH3: against accidents. Who may write beside a video may as well replace it.
//!
//! # Reading
//!
//! No length is trusted: counts are bounded by the bytes that are left, every value by what an
//! index may hold. What cannot be taken apart to the last byte is [`Unfit`].

use std::ops::Range;

use bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::colour::ColourDescription;
use crate::heads::Heads;
use crate::index::{
    Columns, Framing, Layout, SampleDescription, TrackSummary, VideoIndex, by_offset, rank,
};
use crate::order::DecodeIndex;
use crate::orientation::Orientation;
use crate::packed::{Packed, Packer};
use crate::varint::{self, Fields};

/// What stands behind a video's name.
pub const SUFFIX: &str = ".bsidx";
/// Bytes of each end of the object that are hashed.
pub const END_BYTES: u64 = 128 * 1024;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 112;
/// The longest file that is read.
pub const MOST_BYTES: u64 = 512 * 1024 * 1024;

const MAGIC: [u8; 8] = *b"\x89BSIDX\r\n";
const VERSION: u32 = 1;
const HAS_HEADS: u32 = 1;
const HAS_ETAG: u32 = 2;
/// Places for declarations in the header.
const DECLARED: usize = 2;
/// The longest declaration.
const MOST_DECLARED: u64 = 64 * 1024;
const MOST_SAMPLES: usize = 16_000_000;

/// Why a file is not believed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfit {
    /// It is no index file, or not all of one.
    #[error("damaged: {0}")]
    Damaged(&'static str),
    /// Its version is not known here.
    #[error("version {0}, which is not known")]
    Version(u32),
    /// It was made of another object.
    #[error("stale: {0} is not that of the video it was made of")]
    Stale(&'static str),
}

/// What is known of an object that was opened.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Bytes.
    pub size: u64,
    /// Its first bytes, at least [`END_BYTES`] of them where there are so many.
    pub head: Bytes,
    /// Its last bytes, likewise.
    pub tail: Bytes,
    /// Its ETag, where it has one.
    pub etag: Option<String>,
}

impl Facts {
    /// Bytes of the object, where they lie in its ends.
    pub fn get(&self, range: &Range<u64>) -> Option<Bytes> {
        let part = |data: &Bytes, at: u64| {
            let start = usize::try_from(range.start.checked_sub(at)?).ok()?;
            let end = usize::try_from(range.end.checked_sub(at)?).ok()?;
            (start <= end && end <= data.len()).then(|| data.slice(start..end))
        };
        let tail_at = self.size.checked_sub(self.tail.len() as u64)?;
        part(&self.head, 0).or_else(|| part(&self.tail, tail_at))
    }

    fn end_hashes(&self) -> (u64, u64) {
        let most = END_BYTES as usize;
        let head = self.head.get(..most).unwrap_or(&self.head);
        let from = self.tail.len().saturating_sub(most);
        let tail = self.tail.get(from..).unwrap_or_default();
        (xxh3_64(head), xxh3_64(tail))
    }
}

/// The first [`HEADER_BYTES`] of a file: what it was made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    file_length: u64,
    object_size: u64,
    head_hash: u64,
    tail_hash: u64,
    etag_hash: Option<u64>,
    declared: Vec<Range<u64>>,
    declared_hash: u64,
    has_heads: bool,
    body_hash: u64,
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// It is none, or damaged.
    pub fn read(file: &[u8]) -> Result<Self, Unfit> {
        let short = || Unfit::Damaged("it ends in its header");
        let header = file.get(..HEADER_BYTES).ok_or_else(short)?;
        let mut fields = Fields(header);
        if fields.array() != Some(MAGIC) {
            return Err(Unfit::Damaged("it does not begin as one"));
        }
        let version = fields.array().map_or(0, u32::from_le_bytes);
        if version != VERSION {
            return Err(Unfit::Version(version));
        }
        let (hashed, hash) = header
            .split_at_checked(HEADER_BYTES - 8)
            .ok_or_else(short)?;
        if hash != xxh3_64(hashed).to_le_bytes() {
            return Err(Unfit::Damaged("its header's checksum is wrong"));
        }
        let flags = fields.array().map_or(u32::MAX, u32::from_le_bytes);
        if flags & !(HAS_HEADS | HAS_ETAG) != 0 {
            return Err(Unfit::Damaged("its flags are not known"));
        }
        let mut next = || fields.array().map(u64::from_le_bytes).ok_or_else(short);
        let (file_length, object_size) = (next()?, next()?);
        let (head_hash, tail_hash, etag_hash) = (next()?, next()?, next()?);
        let mut declared = Vec::new();
        for _ in 0..DECLARED {
            let (start, length) = (next()?, next()?);
            let end = start.checked_add(length).filter(|e| *e <= object_size);
            let end = end.filter(|_| length <= MOST_DECLARED);
            let end = end.ok_or(Unfit::Damaged("a declaration lies outside of the video"))?;
            if length > 0 {
                declared.push(start..end);
            }
        }
        Ok(Self {
            file_length,
            object_size,
            head_hash,
            tail_hash,
            etag_hash: (flags & HAS_ETAG != 0).then_some(etag_hash),
            declared,
            declared_hash: next()?,
            has_heads: flags & HAS_HEADS != 0,
            body_hash: next()?,
        })
    }

    /// Bytes of the whole file.
    pub fn file_length(&self) -> u64 {
        self.file_length
    }

    /// It tells two contents apart.
    pub fn fingerprint(&self) -> u64 {
        self.body_hash
    }

    /// Whether the file has the samples' heads.
    pub fn has_heads(&self) -> bool {
        self.has_heads
    }

    /// What has to be read of the object in order to know whether it is still the same; see
    /// [`Header::check_declared`].
    pub fn declared(&self) -> &[Range<u64>] {
        &self.declared
    }

    /// Whether it was made of this object, as far as the object's ends tell.
    ///
    /// # Errors
    /// Which of its facts differs.
    pub fn check(&self, object: &Facts) -> Result<(), Unfit> {
        if object.size != self.object_size {
            return Err(Unfit::Stale("the size"));
        }
        let etag = object.etag.as_ref().map(|tag| xxh3_64(tag.as_bytes()));
        if let (Some(theirs), Some(ours)) = (etag, self.etag_hash)
            && theirs != ours
        {
            return Err(Unfit::Stale("the ETag"));
        }
        if object.end_hashes() != (self.head_hash, self.tail_hash) {
            return Err(Unfit::Stale("the beginning or the end"));
        }
        Ok(())
    }

    /// Whether it was made of this object, whose bytes in [`Header::declared`] these are.
    ///
    /// # Errors
    /// They differ.
    pub fn check_declared(&self, bytes: &[Bytes]) -> Result<(), Unfit> {
        if hash_of(bytes) == self.declared_hash {
            Ok(())
        } else {
            Err(Unfit::Stale("what the container declares"))
        }
    }

    fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&MAGIC);
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        let flags = flag(self.has_heads, HAS_HEADS) | flag(self.etag_hash.is_some(), HAS_ETAG);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        let place = |k: usize| {
            self.declared
                .get(k)
                .map_or((0, 0), |r| (r.start, r.end - r.start))
        };
        let ((first, first_length), (second, second_length)) = (place(0), place(1));
        for value in [
            self.file_length,
            self.object_size,
            self.head_hash,
            self.tail_hash,
            self.etag_hash.unwrap_or(0),
            first,
            first_length,
            second,
            second_length,
            self.declared_hash,
            self.body_hash,
        ] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        let hash = xxh3_64(&out);
        out.extend_from_slice(&hash.to_le_bytes());
        out
    }
}

fn hash_of(parts: &[Bytes]) -> u64 {
    let mut hash = Xxh3::new();
    for part in parts {
        hash.update(part);
    }
    hash.digest()
}

/// What a file holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Content {
    /// The index.
    pub index: VideoIndex,
    /// The heads of all samples, where they were written.
    pub heads: Option<Heads>,
}

/// Writes a file. `declared`: the object's bytes in [`VideoIndex::declared`].
pub fn write(
    index: &VideoIndex,
    heads: Option<&Heads>,
    object: &Facts,
    declared: &[Bytes],
) -> Vec<u8> {
    let mut body = Vec::new();
    write_movie(&mut body, index);
    write_columns(&mut body, index);
    if let Some(heads) = heads {
        write_heads(&mut body, heads);
    }
    let (head_hash, tail_hash) = object.end_hashes();
    let header = Header {
        file_length: (HEADER_BYTES + body.len()) as u64,
        object_size: index.object_size(),
        head_hash,
        tail_hash,
        etag_hash: object.etag.as_ref().map(|tag| xxh3_64(tag.as_bytes())),
        declared: index.declared.clone(),
        declared_hash: hash_of(declared),
        has_heads: heads.is_some(),
        body_hash: xxh3_64(&body),
    };
    let mut out = header.write();
    out.append(&mut body);
    out
}

/// Reads a whole file. Whether it was made of the object at hand is another question:
/// [`Header::check`] and [`Header::check_declared`] answer it.
///
/// # Errors
/// It is damaged.
pub fn read(file: &[u8]) -> Result<(Header, Content), Unfit> {
    let header = Header::read(file)?;
    if header.file_length != file.len() as u64 {
        return Err(Unfit::Damaged(
            "it is cut short, or has more bytes than it says",
        ));
    }
    let body = file.get(HEADER_BYTES..).unwrap_or_default();
    if xxh3_64(body) != header.body_hash {
        return Err(Unfit::Damaged("its checksum is wrong"));
    }
    let mut fields = Fields(body);
    let content = read_body(&mut fields, &header);
    let content = content.filter(|_| fields.0.is_empty());
    let content = content.ok_or(Unfit::Damaged("its content makes no sense"))?;
    Ok((header, content))
}

fn read_body(fields: &mut Fields<'_>, header: &Header) -> Option<Content> {
    let mut index = read_movie(fields, header)?;
    index.samples = read_columns(fields, &index)?;
    let heads = if header.has_heads {
        Some(read_heads(fields, &index)?)
    } else {
        None
    };
    Some(Content { index, heads })
}

fn write_movie(out: &mut Vec<u8>, index: &VideoIndex) {
    out.push(match index.layout {
        Layout::Progressive { moov_first: false } => 0,
        Layout::Progressive { moov_first: true } => 1,
        Layout::Fragmented => 2,
        Layout::AnnexB => 3,
    });
    varint::put(out, u64::from(index.timescale));
    let mirrored = u8::from(index.orientation.mirrored);
    out.push(index.orientation.quarter_turns & 3 | mirrored << 2);
    varint::put(out, index.tracks.len() as u64);
    for track in &index.tracks {
        varint::put(out, u64::from(track.id));
        out.extend_from_slice(&track.handler);
        put_fourcc(out, track.codec);
        out.push(u8::from(track.selected));
    }
    varint::put(out, index.descriptions.len() as u64);
    for description in &index.descriptions {
        put_fourcc(out, description.fourcc);
        out.push(match description.framing {
            Framing::StartCodes => 0,
            Framing::LengthPrefixed(bytes) => bytes,
        });
        varint::put(out, description.parameter_sets.len() as u64);
        for set in &description.parameter_sets {
            put_block(out, set);
        }
        let colour = description.colour;
        out.extend_from_slice(&[colour.primaries, colour.transfer, colour.matrix]);
        out.push(colour.full_range.map_or(2, u8::from));
        let (horizontal, vertical) = description.pixel_aspect.unwrap_or((0, 0));
        out.push(u8::from(description.pixel_aspect.is_some()));
        varint::put(out, u64::from(horizontal));
        varint::put(out, u64::from(vertical));
    }
    varint::put(out, index.in_band_sets.len() as u64);
    let mut before = 0;
    for (sample, set) in &index.in_band_sets {
        varint::put(out, u64::from(sample.0.saturating_sub(before)));
        before = sample.0;
        put_block(out, set);
    }
}

fn read_movie(fields: &mut Fields<'_>, header: &Header) -> Option<VideoIndex> {
    let layout = match fields.u8()? {
        0 => Layout::Progressive { moov_first: false },
        1 => Layout::Progressive { moov_first: true },
        2 => Layout::Fragmented,
        3 => Layout::AnnexB,
        _ => return None,
    };
    let timescale = fields.u32()?;
    let turned = fields.u8().filter(|t| *t < 8)?;
    let orientation = Orientation {
        mirrored: turned & 4 != 0,
        quarter_turns: turned & 3,
    };
    let mut tracks = Vec::new();
    for _ in 0..fields.count()? {
        tracks.push(TrackSummary {
            id: fields.u32()?,
            handler: fields.array()?,
            codec: read_fourcc(fields)?,
            selected: read_flag(fields)?,
        });
    }
    let mut descriptions = Vec::new();
    for _ in 0..fields.count().filter(|n| (1..=0xffff).contains(n))? {
        descriptions.push(read_description(fields)?);
    }
    let mut in_band_sets = Vec::new();
    let mut sample = 0u32;
    for _ in 0..fields.count()? {
        sample = sample.checked_add(fields.u32()?)?;
        in_band_sets.push((DecodeIndex(sample), Bytes::copy_from_slice(fields.block()?)));
    }
    Some(VideoIndex {
        layout,
        object_size: header.object_size,
        tracks,
        descriptions,
        orientation,
        timescale,
        samples: Columns::default(),
        declared: header.declared.clone(),
        in_band_sets,
    })
}

fn read_description(fields: &mut Fields<'_>) -> Option<SampleDescription> {
    let fourcc = read_fourcc(fields)?;
    let framing = match fields.u8()? {
        0 => Framing::StartCodes,
        bytes @ (1 | 2 | 4) => Framing::LengthPrefixed(bytes),
        _ => return None,
    };
    let mut parameter_sets = Vec::new();
    for _ in 0..fields.count()? {
        parameter_sets.push(Bytes::copy_from_slice(fields.block()?));
    }
    let [primaries, transfer, matrix] = fields.array()?;
    let full_range = match fields.u8()? {
        0 => Some(false),
        1 => Some(true),
        2 => None,
        _ => return None,
    };
    let has_aspect = read_flag(fields)?;
    let aspect = (fields.u32()?, fields.u32()?);
    Some(SampleDescription {
        fourcc,
        framing,
        parameter_sets,
        colour: ColourDescription {
            primaries,
            transfer,
            matrix,
            full_range,
        },
        pixel_aspect: has_aspect.then_some(aspect),
    })
}

fn write_columns(out: &mut Vec<u8>, index: &VideoIndex) {
    let t = &index.samples;
    varint::put(out, t.sizes.len() as u64);
    varint::put(out, t.presented.len() as u64);
    for size in t.sizes.iter() {
        varint::put(out, size as u64);
    }
    let ends = t.offsets.iter().zip(t.sizes.iter());
    let ends = ends.map(|(offset, size)| offset.wrapping_add(size));
    put_differences(out, &t.offsets, [0].into_iter().chain(ends));
    out.push(u8::from(!t.composition_offsets.is_empty()));
    let before = [0].into_iter().chain(t.composition_offsets.iter());
    put_differences(out, &t.composition_offsets, before);
    out.push(u8::from(!t.header_distance.is_empty()));
    out.extend(t.header_distance.iter().map(|distance| distance as u8));
    varint::put(out, t.sync.len() as u64);
    put_differences(
        out,
        &t.sync,
        [0].into_iter().chain(t.sync.iter().map(|s| s + 1)),
    );
    varint::put(out, t.description_runs.len() as u64);
    let mut before = 0;
    for &(first, description) in &t.description_runs {
        varint::put(out, u64::from(first.saturating_sub(before)));
        varint::put(out, u64::from(description));
        before = first;
    }
    put_line(out, &t.times);
    varint::put(out, u64::from(t.last_duration));
    let expected = t.presented.iter().map(|p| p + 1);
    put_differences(out, &t.presented, [0].into_iter().chain(expected));
    put_line(out, &t.presentation_times);
}

/// How each value differs from what is expected in its place.
fn put_differences(out: &mut Vec<u8>, column: &Packed, expected: impl Iterator<Item = i64>) {
    let differences = column.iter().zip(expected).map(|(v, e)| v.wrapping_sub(e));
    varint::put_column(out, differences);
}

/// How each value differs from the line through the two before it.
fn put_line(out: &mut Vec<u8>, column: &Packed) {
    let mut line = Line::default();
    varint::put_column(out, column.iter().map(|value| line.difference(value)));
}

/// Expects that values go on as the last two did.
#[derive(Default)]
struct Line {
    last: i64,
    step: i64,
}

impl Line {
    fn difference(&mut self, value: i64) -> i64 {
        let difference = value.wrapping_sub(self.last).wrapping_sub(self.step);
        self.go_on(difference);
        difference
    }

    fn go_on(&mut self, difference: i64) -> i64 {
        self.step = self.step.wrapping_add(difference);
        self.last = self.last.wrapping_add(self.step);
        self.last
    }
}

fn read_columns(fields: &mut Fields<'_>, index: &VideoIndex) -> Option<Columns> {
    // Each sample has a byte of size at least; frames are bounded as in a container.
    let (count, frames) = (fields.count()?, usize::try_from(fields.varint()?).ok()?);
    let within = |count: usize| count <= MOST_SAMPLES && count as u64 <= index.object_size;
    if count == 0 || !within(count) || !within(frames) {
        return None;
    }
    let mut sizes = Packer::default();
    for _ in 0..count {
        sizes.push(i64::from(fields.u32()?));
    }
    let sizes = sizes.finish();
    let mut offsets = Vec::with_capacity(count);
    let mut expected = 0u64;
    fields.column(count, |difference| {
        let size = sizes.get_u32(offsets.len())?;
        let offset = expected.wrapping_add(difference as u64);
        expected = offset.checked_add(u64::from(size))?;
        offsets.push(offset);
        (expected <= index.object_size).then_some(())
    })?;
    let composition_offsets = optional(fields, count, |fields, packer| {
        let mut last = 0i64;
        fields.column(count, |difference| {
            last = last.wrapping_add(difference);
            packer.push(i64::from(i32::try_from(last).ok()?));
            Some(())
        })
    })?;
    let header_distance = optional(fields, count, |fields, packer| {
        let distances = fields.bytes(count)?;
        distances.iter().for_each(|d| packer.push(i64::from(*d)));
        Some(())
    })?;
    let sync = read_sync(fields, count)?;
    let description_runs = read_description_runs(fields, count, index.descriptions.len())?;
    let times = read_line(fields, count)?;
    let last_duration = fields.u32()?;
    let mut presented = Vec::with_capacity(frames);
    let mut expected = 0i64;
    fields.column(frames, |difference| {
        let sample = expected.wrapping_add(difference);
        expected = sample.wrapping_add(1);
        let sample = u32::try_from(sample)
            .ok()
            .filter(|s| (*s as usize) < count)?;
        presented.push(sample);
        Some(())
    })?;
    let presentation_times = read_line(fields, frames)?;
    Some(Columns {
        by_offset: by_offset(&offsets),
        offsets: offsets.into_iter().map(|o| o as i64).collect(),
        sizes,
        composition_offsets,
        header_distance,
        sync,
        description_runs,
        times,
        last_duration,
        rank: rank(&presented, count),
        presented: presented.into_iter().map(i64::from).collect(),
        presentation_times,
    })
}

/// A column that may be left out.
fn optional(
    fields: &mut Fields<'_>,
    count: usize,
    read: impl FnOnce(&mut Fields<'_>, &mut Packer) -> Option<()>,
) -> Option<Packed> {
    let mut packer = Packer::default();
    if read_flag(fields)? {
        read(fields, &mut packer)?;
        debug_assert_eq!(packer.len(), count);
    }
    Some(packer.finish())
}

fn read_sync(fields: &mut Fields<'_>, count: usize) -> Option<Packed> {
    let syncs = usize::try_from(fields.varint()?)
        .ok()
        .filter(|n| *n <= count)?;
    let mut sync = Packer::default();
    let mut expected = 0i64;
    fields.column(syncs, |difference| {
        // Never before the last one.
        let sample = expected
            .checked_add(difference)
            .filter(|_| difference >= 0)?;
        expected = sample.checked_add(1)?;
        sync.push(sample);
        (expected <= count as i64).then_some(())
    })?;
    Some(sync.finish())
}

fn read_description_runs(
    fields: &mut Fields<'_>,
    count: usize,
    descriptions: usize,
) -> Option<Vec<(u32, u16)>> {
    let mut runs: Vec<(u32, u16)> = Vec::new();
    for place in 0..fields.count()? {
        let distance = fields.u32()?;
        let before = runs.last().map_or(0, |r| r.0);
        let first = before.checked_add(distance)?;
        let ascends = (place == 0) == (distance == 0);
        let description = u16::try_from(fields.varint()?).ok()?;
        if !ascends || first as usize >= count || usize::from(description) >= descriptions {
            return None;
        }
        runs.push((first, description));
    }
    Some(runs)
}

fn read_line(fields: &mut Fields<'_>, count: usize) -> Option<Packed> {
    let mut packer = Packer::default();
    let mut line = Line::default();
    fields.column(count, |difference| {
        packer.push(line.go_on(difference));
        Some(())
    })?;
    Some(packer.finish())
}

fn write_heads(out: &mut Vec<u8>, heads: &Heads) {
    varint::put(out, heads.sets.len() as u64);
    for set in &heads.sets {
        put_block(out, set);
    }
    let mut before = 0;
    for end in heads.ends.iter() {
        varint::put(out, end.wrapping_sub(before) as u64);
        before = end;
    }
    put_block(out, &heads.entries);
}

fn read_heads(fields: &mut Fields<'_>, index: &VideoIndex) -> Option<Heads> {
    let mut sets = Vec::new();
    for _ in 0..fields.count()? {
        sets.push(Bytes::copy_from_slice(fields.block()?));
    }
    let mut ends = Packer::default();
    let mut end = 0u64;
    for _ in 0..index.sample_count() {
        end = end.checked_add(fields.varint()?)?;
        ends.push(i64::try_from(end).ok()?);
    }
    let entries = fields.block().filter(|e| e.len() as u64 == end)?;
    let heads = Heads {
        sets,
        // Bytes of their own, so that they do not hold the whole file.
        entries: Bytes::copy_from_slice(entries),
        ends: ends.finish(),
    };
    heads.are_sound().then_some(heads)
}

fn put_block(out: &mut Vec<u8>, block: &[u8]) {
    varint::put(out, block.len() as u64);
    out.extend_from_slice(block);
}

fn put_fourcc(out: &mut Vec<u8>, fourcc: Option<[u8; 4]>) {
    out.push(u8::from(fourcc.is_some()));
    out.extend_from_slice(&fourcc.unwrap_or_default());
}

fn read_fourcc(fields: &mut Fields<'_>) -> Option<Option<[u8; 4]>> {
    let there = read_flag(fields)?;
    let fourcc = fields.array()?;
    Some(there.then_some(fourcc))
}

fn read_flag(fields: &mut Fields<'_>) -> Option<bool> {
    match fields.u8()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}
