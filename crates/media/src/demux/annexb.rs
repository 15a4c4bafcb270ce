//! Raw byte streams (H.265 Annex B): one pass over the object in bounded pieces.
//!
//! A byte stream has no table of contents, so every byte is looked at once; what is kept are the
//! access units' positions, and the parameter sets. Access units are divided as FFmpeg's parser
//! does (7.4.2.4.4, except that an end-of-sequence NAL unit counts to the access unit after it),
//! so that positions agree with those of `ffprobe`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::{DemuxError, Step};
use crate::colour::ColourDescription;
use crate::h265::nal::{NalHeader, NalType, find_start_code};
use crate::h265::parameter_sets::ParameterSets;
use crate::h265::poc::PocState;
use crate::h265::slice::SliceHeader;
use crate::h265::sps::Sps;
use crate::index::{Framing, Layout, SampleDescription, SampleTable, VideoIndex};
use crate::order::DecodeIndex;
use crate::orientation::Orientation;

/// Bytes of one read.
const PIECE: u64 = 1024 * 1024;
/// Reads that are asked for at once.
const PIECES_AT_ONCE: u64 = 4;
/// Without a readable SPS in this many bytes it is no H.265 stream.
const PROBE: u64 = 4 * 1024 * 1024;
/// Bytes that are kept of a slice: its header up to the reference lists is far shorter.
const SLICE_HEAD: usize = 1024;
/// Bytes that are kept of a parameter set; a longer one cannot be used.
const SET_HEAD: usize = 64 * 1024;
/// All parameter sets that a stream may change to on the way, in bytes.
const MOST_SET_BYTES: usize = 8 * 1024 * 1024;
/// More access units than 77 hours at 60 frames a second have.
const MOST_UNITS: usize = 1 << 24;

/// Whether the head of an object is a byte stream: zero bytes, if any, then a start code.
pub(super) fn looks_like_annexb(head: &[u8]) -> bool {
    match head.iter().position(|&b| b != 0) {
        Some(zeros) => zeros >= 2 && head.get(zeros) == Some(&1),
        None => false,
    }
}

/// Builds the index of a raw byte stream.
#[derive(Debug)]
pub(super) struct Builder {
    size: u64,
    /// Everything before this position has been looked at.
    next: u64,
    pieces: BTreeMap<u64, Bytes>,
    scanner: Scanner,
}

impl Builder {
    pub(super) fn new(size: u64) -> Self {
        Self {
            size,
            next: 0,
            pieces: BTreeMap::new(),
            scanner: Scanner::default(),
        }
    }

    pub(super) fn push(&mut self, offset: u64, data: Bytes) {
        let end = offset.saturating_add(data.len() as u64);
        if end > self.next && end <= self.size {
            // Of two pieces at one place the longer one says more.
            let slot = self.pieces.entry(offset).or_default();
            if slot.len() < data.len() {
                *slot = data;
            }
        }
    }

    pub(super) fn step(&mut self) -> Result<Step, DemuxError> {
        while let Some(piece) = self.take_piece() {
            self.scanner.feed(&piece)?;
            self.next += piece.len() as u64;
            if self.next >= PROBE {
                self.scanner.check_codec()?;
            }
        }
        if self.next >= self.size {
            let scanner = std::mem::take(&mut self.scanner);
            return Ok(Step::Finished(Box::new(scanner.finish(self.size)?)));
        }
        let end = self
            .size
            .min(self.next.saturating_add(PIECE * PIECES_AT_ONCE));
        let mut wanted: Vec<Range<u64>> = Vec::new();
        let mut at = self.next;
        while at < end {
            // What was pushed already (the object's tail) is not asked for again.
            let covered = self
                .pieces
                .range(..=at)
                .next_back()
                .map(|(&o, d)| o.saturating_add(d.len() as u64))
                .filter(|&e| e > at);
            if let Some(e) = covered {
                at = e;
                continue;
            }
            let next_piece = self.pieces.range(at..).next().map_or(end, |(&o, _)| o);
            let stop = end
                .min(at.saturating_add(PIECE))
                .min(next_piece.max(at + 1));
            wanted.push(at..stop);
            at = stop;
        }
        Ok(Step::NeedsData(wanted))
    }

    /// The bytes from `next` on, if they are there.
    fn take_piece(&mut self) -> Option<Bytes> {
        loop {
            let (&offset, _) = self.pieces.range(..=self.next).next_back()?;
            let data = self.pieces.remove(&offset)?;
            let skip = usize::try_from(self.next - offset).ok()?;
            if skip < data.len() {
                return Some(data.slice(skip..));
            }
        }
    }
}

/// A NAL unit of which the end was not seen yet.
#[derive(Debug)]
struct OpenNal {
    /// First byte of its start code, `zero_byte` included.
    code_at: u64,
    /// Its NAL unit header.
    header_at: u64,
    /// Its first bytes, as many as are needed.
    head: Vec<u8>,
}

/// An access unit of which the end was not seen yet.
#[derive(Debug)]
struct OpenUnit {
    code_at: u64,
    header_at: u64,
    /// The picture, once its first slice was seen.
    picture: Option<PictureFacts>,
    /// Its slices are of an IRAP, readable or not.
    irap: bool,
    has_slices: bool,
}

#[derive(Clone, Copy, Debug)]
struct PictureFacts {
    shown: bool,
    /// Number of the coded video sequence, and POC in it: the order of output.
    order: (u32, i32),
}

#[derive(Debug, Default)]
struct Scanner {
    /// Bytes fed so far.
    position: u64,
    /// Zero bytes directly before `position`.
    zeros: u64,
    nal: Option<OpenNal>,
    unit: Option<OpenUnit>,
    sets: ParameterSets,
    /// The first SPS of the stream.
    first_sps: Option<Arc<Sps>>,
    set_bytes: usize,
    in_band_sets: Vec<(DecodeIndex, Bytes)>,
    poc: PocState,
    sequence: u32,
    sequence_ended: bool,
    /// RASL pictures that follow are not output: their IRAP began the sequence.
    skips_rasl: bool,
    last_order: (u32, i32),
    table: SampleTable,
    orders: Vec<Option<(u32, i32)>>,
    /// What the stream looks like if it is not H.265.
    other_codec: Option<&'static str>,
}

impl Scanner {
    /// Looks at the next bytes of the object.
    fn feed(&mut self, data: &[u8]) -> Result<(), DemuxError> {
        let base = self.position;
        // Bytes of `data` that belong to the open NAL unit, up to the next start code.
        let mut from = 0usize;
        // A start code that begins in an earlier piece.
        let straddling = match (self.zeros, data.first(), data.get(1)) {
            (2.., Some(1), _) => Some(1),
            (1.., Some(0), Some(1)) => Some(2),
            _ => None,
        };
        if let Some(header) = straddling {
            let zeros = self.zeros.saturating_add(header as u64 - 1);
            self.start_nal(base + header as u64, zeros)?;
            from = header;
        }
        while let Some(code) = find_start_code(data, from) {
            self.keep_head(data.get(from..code).unwrap_or_default());
            let before = data.get(..code).unwrap_or_default();
            let zero_run = before.iter().rev().take_while(|&&b| b == 0).count();
            let mut zeros = zero_run as u64 + 2;
            if zero_run == before.len() {
                zeros += self.zeros;
            }
            self.start_nal(base + code as u64 + 3, zeros)?;
            from = code + 3;
        }
        self.keep_head(data.get(from..).unwrap_or_default());
        let zero_run = data.iter().rev().take_while(|&&b| b == 0).count();
        self.zeros = if zero_run == data.len() {
            self.zeros + zero_run as u64
        } else {
            zero_run as u64
        };
        self.position += data.len() as u64;
        Ok(())
    }

    /// Keeps the open NAL unit's first bytes.
    fn keep_head(&mut self, bytes: &[u8]) {
        let Some(nal) = &mut self.nal else { return };
        let mut rest = bytes;
        if nal.head.len() < 2 {
            let (now, later) = rest.split_at(rest.len().min(2 - nal.head.len()));
            nal.head.extend_from_slice(now);
            rest = later;
        }
        let most = match NalHeader::parse(&nal.head) {
            Some(h) if h.nal_type.is_slice() => SLICE_HEAD,
            Some(h) if h.nal_type.is_parameter_set() => SET_HEAD,
            _ => 16,
        };
        let room = most.saturating_sub(nal.head.len()).min(rest.len());
        nal.head
            .extend_from_slice(rest.get(..room).unwrap_or_default());
    }

    /// A start code was found: `zeros` zero bytes, a one, and a NAL unit header at `header_at`.
    fn start_nal(&mut self, header_at: u64, zeros: u64) -> Result<(), DemuxError> {
        let code = if zeros >= 3 { 4 } else { 3 };
        let mut code_at = header_at.saturating_sub(code);
        if self.nal.is_none() {
            // leading_zero_8bits belong to the first access unit.
            code_at = 0;
        }
        self.end_nal()?;
        self.nal = Some(OpenNal {
            code_at,
            header_at,
            head: Vec::new(),
        });
        Ok(())
    }

    fn end_nal(&mut self) -> Result<(), DemuxError> {
        let Some(mut nal) = self.nal.take() else {
            return Ok(());
        };
        let whole = nal.head.len() < SET_HEAD;
        // trailing_zero_8bits and the beginning of the next start code are none of its bytes (B.2);
        // how many of them came along hangs on where the pieces end.
        let used = nal.head.iter().rposition(|&b| b != 0).map_or(0, |p| p + 1);
        nal.head.truncate(used);
        let Some(header) = NalHeader::parse(&nal.head) else {
            self.guess_other_codec(&nal.head);
            self.enter_unit(&nal);
            return Ok(());
        };
        let first_slice =
            header.nal_type.is_slice() && nal.head.get(2).is_some_and(|b| b & 0x80 != 0);
        let is_end = header.nal_type == NalType::EOS || header.nal_type == NalType::EOB;
        let begins =
            header.layer_id == 0 && (header.nal_type.begins_access_unit() || is_end || first_slice);
        if begins && self.unit.as_ref().is_some_and(|u| u.has_slices) {
            self.end_unit(nal.code_at)?;
        }
        self.enter_unit(&nal);
        if self.first_sps.is_none() {
            self.guess_other_codec(&nal.head);
        }
        if header.layer_id != 0 {
            return Ok(());
        }
        if is_end {
            self.sequence_ended = true;
        } else if header.nal_type.is_parameter_set() {
            if whole {
                self.enter_set(Bytes::from(nal.head))?;
            }
        } else if header.nal_type.is_slice() {
            self.enter_slice(header, &nal.head);
        }
        Ok(())
    }

    fn enter_unit(&mut self, nal: &OpenNal) {
        self.unit.get_or_insert(OpenUnit {
            code_at: nal.code_at,
            header_at: nal.header_at,
            picture: None,
            irap: false,
            has_slices: false,
        });
    }

    fn enter_set(&mut self, nal: Bytes) -> Result<(), DemuxError> {
        let news = match self.sets.push(&nal) {
            Ok(news) => news,
            // Missed where a slice names it; a decoder may know better, and is given it.
            Err(_) => self.sets.nals().last() == Some(&nal),
        };
        if self.first_sps.is_none() {
            self.first_sps = self.sets.first_sps().cloned();
        }
        if news {
            self.set_bytes += nal.len();
            if self.set_bytes > MOST_SET_BYTES {
                return Err(DemuxError::Unsupported {
                    what: "parameter sets that change all the time (over 8 MiB of them)".into(),
                });
            }
            self.in_band_sets
                .push((DecodeIndex(self.table.offsets.len() as u32), nal));
        }
        Ok(())
    }

    fn enter_slice(&mut self, header: NalHeader, head: &[u8]) {
        let Some(unit) = &mut self.unit else { return };
        unit.has_slices = true;
        unit.irap |= header.nal_type.is_irap();
        if unit.picture.is_some() {
            return;
        }
        let nal_type = header.nal_type;
        let Ok(slice) = SliceHeader::parse(head, nal_type, &self.sets) else {
            return;
        };
        let Some(part) = slice.independent.filter(|_| slice.first_in_picture) else {
            return;
        };
        let starts =
            nal_type.is_irap() && (!nal_type.is_cra() || self.sequence_ended || self.sequence == 0);
        if starts {
            self.sequence = self.sequence.saturating_add(1);
        }
        if nal_type.is_irap() {
            self.skips_rasl = starts;
        }
        self.sequence_ended = false;
        let log2 = slice.sps.log2_max_poc_lsb;
        let poc = self
            .poc
            .next(nal_type, header.temporal_id, part.poc_lsb, log2, starts);
        let skipped = nal_type.is_rasl() && self.skips_rasl;
        unit.picture = Some(PictureFacts {
            shown: part.output && !skipped,
            order: (self.sequence, poc),
        });
    }

    /// The open access unit ends before `end`.
    fn end_unit(&mut self, end: u64) -> Result<(), DemuxError> {
        let Some(unit) = self.unit.take() else {
            return Ok(());
        };
        let index = self.table.offsets.len();
        if index >= MOST_UNITS {
            return Err(DemuxError::Unsupported {
                what: "more than 16 million frames".into(),
            });
        }
        let size =
            u32::try_from(end.saturating_sub(unit.code_at)).map_err(|_| DemuxError::Damaged {
                what: format!("the frame at byte {} has over 4 GiB", unit.code_at),
            })?;
        self.table.offsets.push(unit.code_at);
        self.table.sizes.push(size);
        let distance = unit.header_at.saturating_sub(unit.code_at);
        self.table
            .header_distance
            .push(u8::try_from(distance).unwrap_or(u8::MAX));
        if unit.irap {
            self.table.sync.push(index as u32);
        }
        match unit.picture {
            Some(p) => {
                self.last_order = p.order;
                self.orders.push(p.shown.then_some(p.order));
            }
            // Its header cannot be read: it stands where it came.
            None => self.orders.push(Some(self.last_order)),
        }
        Ok(())
    }

    /// H.264, MPEG-2 and MPEG-4 streams have start codes too.
    fn guess_other_codec(&mut self, head: &[u8]) {
        let guess = match head {
            [
                0x67 | 0x27 | 0x47,
                0x42 | 0x4d | 0x58 | 0x64 | 0x6e | 0x7a | 0xf4,
                ..,
            ] => Some("H.264"),
            [0xb3, ..] => Some("MPEG-1 or MPEG-2 video"),
            [0xb0, ..] => Some("MPEG-4 Visual"),
            _ => None,
        };
        self.other_codec = self.other_codec.or(guess);
    }

    fn check_codec(&self) -> Result<(), DemuxError> {
        if self.first_sps.is_some() {
            return Ok(());
        }
        Err(match self.other_codec {
            Some(codec) => DemuxError::OtherCodec {
                codec: codec.into(),
            },
            None => DemuxError::NotVideo {
                found: "a stream with start codes, but without H.265 parameter sets".into(),
            },
        })
    }

    fn finish(mut self, size: u64) -> Result<VideoIndex, DemuxError> {
        self.end_nal()?;
        if self.unit.as_ref().is_some_and(|u| u.has_slices) {
            self.end_unit(size)?;
        } else if let (Some(start), Some(last)) =
            (self.table.offsets.last(), self.table.sizes.last_mut())
        {
            // NAL units behind the last picture count to it.
            *last = u32::try_from(size.saturating_sub(*start)).unwrap_or(*last);
        }
        self.check_codec()?;
        if self.table.offsets.is_empty() {
            return Err(DemuxError::CutShort {
                what: "the stream has parameter sets, but no picture".into(),
            });
        }
        let mut presented: Vec<u32> = (0..self.orders.len() as u32)
            .filter(|&i| self.orders.get(i as usize).is_some_and(Option::is_some))
            .collect();
        presented.sort_by_key(|&i| self.orders.get(i as usize).copied().flatten());
        let sps = self.first_sps.as_deref();
        // A raw stream has no times: the VUI's rate where it makes sense, else FFmpeg's 25.
        let (units, timescale) = sps
            .and_then(|s| s.vui.timing)
            .filter(|&(units, scale)| {
                let rate = f64::from(scale) / f64::from(units);
                (0.1..=1000.0).contains(&rate)
            })
            .unwrap_or((1, 25));
        self.table.presentation_times = (0..presented.len() as i64)
            .map(|i| i * i64::from(units))
            .collect();
        self.table.presented = presented;
        self.table.time_runs = vec![(0, 0, units)];
        self.table.description_runs = vec![(0, 0)];
        let pixel_aspect = sps.and_then(|s| s.vui.sample_aspect);
        Ok(VideoIndex {
            layout: Layout::AnnexB,
            object_size: size,
            tracks: Vec::new(),
            descriptions: vec![SampleDescription {
                fourcc: None,
                framing: Framing::StartCodes,
                parameter_sets: Vec::new(),
                colour: ColourDescription::default(),
                pixel_aspect,
            }],
            orientation: Orientation::IDENTITY,
            timescale,
            samples: self.table.pack(),
            declared: Vec::new(),
            in_band_sets: self.in_band_sets,
        })
    }
}
