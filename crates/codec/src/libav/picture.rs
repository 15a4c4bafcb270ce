//! A decoded picture: planes of samples, cropped to the conformance window.

use std::any::Any;
use std::ffi::CStr;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use ffmpeg_sys_the_third as sys;
use serde::{Deserialize, Serialize};

use crate::CodecError;
#[cfg(target_os = "linux")]
use crate::apart::{Lease, PictureAt, PlaneAt};

/// `chroma_format_idc` (H.265, 6.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Debug)]
pub enum Chroma {
    /// 4:0:0, luma alone.
    Mono,
    /// 4:2:0, chroma halved in both directions.
    C420,
    /// 4:2:2, chroma halved horizontally.
    C422,
    /// 4:4:4.
    C444,
}

impl Chroma {
    /// Log2 of how many luma columns and rows one chroma sample covers.
    pub fn shifts(self) -> (u32, u32) {
        match self {
            Self::C420 => (1, 1),
            Self::C422 => (1, 0),
            Self::C444 | Self::Mono => (0, 0),
        }
    }
}

/// What kind of slices a picture was coded with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Debug)]
pub enum PictureType {
    /// Intra only.
    I,
    /// At most one reference per block.
    P,
    /// Up to two references per block.
    B,
    /// Not told by the decoder.
    Unknown,
}

/// A decoded picture. Reference-counted: a clone shares the samples. It stays valid after its
/// decoder is gone, and holds one buffer of the decoder's pool until it is dropped.
#[derive(Clone, Debug)]
pub struct Picture {
    /// What keeps the samples: the frame, or memory that another process decoded into.
    _hold: Arc<dyn Any + Send + Sync>,
    id: i64,
    chroma: Chroma,
    bit_depth: u8,
    rgb: bool,
    width: usize,
    height: usize,
    planes: [Option<RawPlane>; 3],
    picture_type: PictureType,
    damaged: bool,
    lacks_references: bool,
}

/// Where the cropped samples of a plane lie. Checked against the frame or the memory that it is in by
/// who made the picture.
#[derive(Clone, Copy, Debug)]
struct RawPlane {
    /// First sample; aligned for the sample type, inside the buffer that the frame refers to.
    first: NonNull<u8>,
    /// Samples from one row to the next; at least `width`.
    stride: usize,
    width: usize,
    height: usize,
}

// SAFETY: the pointers lead into the buffers of the frame or into a mapping, which are `Send` and
// `Sync` and which this value keeps; they are only read through.
unsafe impl Send for Picture {}
// SAFETY: as above.
unsafe impl Sync for Picture {}

impl Picture {
    /// Takes over a frame that a decoder filled, if its format is one that this crate reads.
    pub(super) fn new(
        frame: OwnedFrame,
        id: i64,
        lacks_references: bool,
    ) -> Result<Self, CodecError> {
        let f = frame.get();
        let format = sys::AVPixelFormat(f.format);
        // SAFETY: looks up a table; null for an unknown format.
        let Some(descriptor) = (unsafe { sys::av_pix_fmt_desc_get(format).as_ref() }) else {
            return Err(CodecError::UnsupportedFormat {
                format: format!("number {}", f.format),
            });
        };
        let unsupported = |what: &str| {
            // SAFETY: the names in the table are C strings.
            let name = unsafe { CStr::from_ptr(descriptor.name) }.to_string_lossy();
            CodecError::UnsupportedFormat {
                format: format!("{name}{what}"),
            }
        };
        let has = |flag: i32| descriptor.flags & (flag as u64) != 0;
        let native = has(sys::AV_PIX_FMT_FLAG_BE) == cfg!(target_endian = "big");
        let [depth, step] = [descriptor.comp[0].depth, descriptor.comp[0].step];
        let wide = depth > 8;
        if has(sys::AV_PIX_FMT_FLAG_PAL)
            || has(sys::AV_PIX_FMT_FLAG_BITSTREAM)
            || has(sys::AV_PIX_FMT_FLAG_HWACCEL)
            || has(sys::AV_PIX_FMT_FLAG_BAYER)
            || has(sys::AV_PIX_FMT_FLAG_FLOAT)
            || (wide && !native)
            || !(8..=16).contains(&depth)
        {
            return Err(unsupported(""));
        }
        let count = match descriptor.nb_components {
            1 => 1,
            // A fourth component is alpha (an auxiliary layer), which is not shown.
            3 | 4 => 3,
            _ => return Err(unsupported("")),
        };
        let chroma = match (count, descriptor.log2_chroma_w, descriptor.log2_chroma_h) {
            (1, ..) => Chroma::Mono,
            (_, 1, 1) => Chroma::C420,
            (_, 1, 0) => Chroma::C422,
            (_, 0, 0) => Chroma::C444,
            _ => return Err(unsupported("")),
        };
        let bytes = if wide { 2usize } else { 1 };
        // One sample a step, each component in a plane of its own, from the lowest bit on.
        // Components are R, G, B where planes are G, B, R (as H.265 codes them).
        let order = if count == 3 && has(sys::AV_PIX_FMT_FLAG_RGB) {
            [2, 0, 1]
        } else {
            [0, 1, 2]
        };
        let plain = descriptor
            .comp
            .iter()
            .zip(order)
            .take(count)
            .all(|(c, plane)| {
                c.plane == plane
                    && c.depth == depth
                    && c.step == step
                    && c.step == bytes as i32
                    && c.offset == 0
                    && c.shift == 0
            });
        if !plain {
            return Err(unsupported(""));
        }

        let size = |v: i32| usize::try_from(v).ok();
        let cropped = |coded: i32, first: usize, last: usize| {
            size(coded)?
                .checked_sub(first)?
                .checked_sub(last)
                .filter(|&v| v > 0)
        };
        let width = cropped(f.width, f.crop_left, f.crop_right);
        let height = cropped(f.height, f.crop_top, f.crop_bottom);
        let (Some(width), Some(height)) = (width, height) else {
            return Err(unsupported(" with an empty conformance window"));
        };
        let mut planes = [None; 3];
        let stored = f.data.iter().zip(f.linesize).take(count);
        for (i, (plane, (&data, line))) in planes.iter_mut().zip(stored).enumerate() {
            let (sx, sy) = if i == 0 { (0, 0) } else { chroma.shifts() };
            let up = |v: usize, shift: u32| v.div_ceil(1 << shift);
            let (left, top) = (f.crop_left >> sx, f.crop_top >> sy);
            let (w, h) = (up(width, sx), up(height, sy));
            let line = size(line).unwrap_or(0);
            // The decoder's plane has room for the coded size; the window must lie inside it.
            let (coded_w, coded_h) = (
                up(size(f.width).unwrap_or(0), sx),
                up(size(f.height).unwrap_or(0), sy),
            );
            if data.is_null()
                || line < coded_w * bytes
                || !line.is_multiple_of(bytes)
                || left + w > coded_w
                || top + h > coded_h
                || data.align_offset(bytes) != 0
            {
                return Err(unsupported(" with an unexpected layout"));
            }
            // SAFETY: row `top` and column `left` lie inside the coded plane (checked above),
            // which lies in one allocation.
            let first = unsafe { data.add(top * line + left * bytes) };
            let first = NonNull::new(first).ok_or(CodecError::OutOfMemory)?;
            *plane = Some(RawPlane {
                first,
                stride: line / bytes,
                width: w,
                height: h,
            });
        }
        let rgb = has(sys::AV_PIX_FMT_FLAG_RGB);
        let picture_type = match f.pict_type {
            sys::AVPictureType::I => PictureType::I,
            sys::AVPictureType::P => PictureType::P,
            sys::AVPictureType::B => PictureType::B,
            _ => PictureType::Unknown,
        };
        let damaged = f.flags & sys::AV_FRAME_FLAG_CORRUPT != 0 || f.decode_error_flags != 0;
        Ok(Self {
            _hold: Arc::new(frame),
            id,
            chroma,
            bit_depth: depth as u8,
            rgb,
            width,
            height,
            planes,
            picture_type,
            damaged,
            lacks_references,
        })
    }

    /// The picture that another process has decoded into memory that this one shares; `None` where
    /// its planes do not lie in there, or make no picture.
    #[cfg(target_os = "linux")]
    pub(crate) fn shared(at: &PictureAt, lease: Lease) -> Option<Self> {
        let (start, length) = lease.memory().pictures();
        let (width, height) = (
            usize::try_from(at.width).ok()?,
            usize::try_from(at.height).ok()?,
        );
        let possible = 1..=usize::from(u16::MAX);
        if !possible.contains(&width)
            || !possible.contains(&height)
            || !(8..=16).contains(&at.bit_depth)
        {
            return None;
        }
        let bytes = if at.bit_depth > 8 { 2usize } else { 1 };
        let mut planes = [None; 3];
        for (i, (plane, at_plane)) in planes.iter_mut().zip(at.planes).enumerate() {
            let wanted = i == 0 || at.chroma != Chroma::Mono;
            let Some(PlaneAt { offset, stride }) = at_plane.filter(|_| wanted) else {
                match wanted {
                    true => return None,
                    false => continue,
                }
            };
            let (sx, sy) = if i == 0 { (0, 0) } else { at.chroma.shifts() };
            let (w, h) = (width.div_ceil(1 << sx), height.div_ceil(1 << sy));
            let (offset, stride) = (usize::try_from(offset).ok()?, usize::try_from(stride).ok()?);
            let samples = stride.checked_mul(h.checked_sub(1)?)?.checked_add(w)?;
            let end = samples.checked_mul(bytes)?.checked_add(offset)?;
            if stride < w || end > length || !offset.is_multiple_of(bytes) {
                return None;
            }
            // SAFETY: inside the mapping, as was just seen; mappings begin at a page.
            let first = unsafe { start.add(offset) };
            *plane = Some(RawPlane {
                first,
                stride,
                width: w,
                height: h,
            });
        }
        Some(Self {
            _hold: Arc::new(lease),
            id: at.id,
            chroma: at.chroma,
            bit_depth: at.bit_depth,
            rgb: at.gbr,
            width,
            height,
            planes,
            picture_type: at.picture_type,
            damaged: at.damaged,
            lacks_references: at.lacks_references,
        })
    }

    /// Where it lies, for who shares memory that begins at `start` and is so long; `None` where it
    /// lies elsewhere.
    #[cfg(target_os = "linux")]
    pub(super) fn place(
        &self,
        number: u32,
        start: NonNull<u8>,
        length: usize,
    ) -> Option<PictureAt> {
        let mut planes = [None; 3];
        for (place, plane) in planes.iter_mut().zip(&self.planes) {
            let Some(plane) = plane else { continue };
            let offset = plane.first.addr().get().checked_sub(start.addr().get())?;
            if offset >= length {
                return None;
            }
            *place = Some(PlaneAt {
                offset: u64::try_from(offset).ok()?,
                stride: u32::try_from(plane.stride).ok()?,
            });
        }
        Some(PictureAt {
            number,
            id: self.id,
            chroma: self.chroma,
            bit_depth: self.bit_depth,
            gbr: self.rgb,
            width: u32::try_from(self.width).ok()?,
            height: u32::try_from(self.height).ok()?,
            picture_type: self.picture_type,
            damaged: self.damaged,
            lacks_references: self.lacks_references,
            planes,
        })
    }

    /// The identity that was sent with the access unit.
    pub fn id(&self) -> i64 {
        self.id
    }

    #[cfg(test)]
    #[allow(clippy::expect_used)]
    pub(super) fn frame(&self) -> &sys::AVFrame {
        let frame = self._hold.downcast_ref::<OwnedFrame>();
        frame.expect("it was decoded here").get()
    }

    /// Luma columns of the conformance window.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Luma rows of the conformance window.
    pub fn height(&self) -> usize {
        self.height
    }

    /// How chroma is subsampled.
    pub fn chroma(&self) -> Chroma {
        self.chroma
    }

    /// Bits per sample, 8 to 16. Samples of more than 8 bits lie in the low bits of `u16`.
    pub fn bit_depth(&self) -> u8 {
        self.bit_depth
    }

    /// Whether the planes are G, B, R (`matrix_coeffs` 0) rather than Y, Cb, Cr.
    pub fn is_gbr(&self) -> bool {
        self.rgb
    }

    /// Plane 0 (Y or G), 1 (Cb or B) or 2 (Cr or R), cropped; `None` where there is none.
    pub fn plane(&self, index: usize) -> Option<Plane<'_>> {
        let plane = (*self.planes.get(index)?)?;
        Some(if self.bit_depth > 8 {
            Plane::U16(self.rows(plane))
        } else {
            Plane::U8(self.rows(plane))
        })
    }

    /// `T` must be `u8` for 8 bit, `u16` for more.
    fn rows<T>(&self, plane: RawPlane) -> Rows<'_, T> {
        let length = plane.stride * (plane.height - 1) + plane.width;
        // SAFETY: who made the picture checked that the window lies inside the coded plane of
        // samples of this size, so that the last sample of the last row is inside the buffer; the
        // pointer is aligned; the buffer lives as long as what `&self` holds, and is only read. Bytes between rows belong to the same buffer and are initialised or padding that
        // libavutil allocated; `Rows` hands out rows only.
        let samples = unsafe { slice::from_raw_parts(plane.first.as_ptr().cast(), length) };
        Rows {
            samples,
            stride: plane.stride,
            width: plane.width,
            height: plane.height,
        }
    }

    /// Whether the decoder says that the picture is damaged or that it lacked a reference.
    pub fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// Whether its reference picture set names pictures that the decoder was not given, so that it
    /// has made some up in their place (H.265, 8.3.3). Nothing comes of it where the picture itself
    /// does not refer to them: the set also names what later pictures refer to.
    pub fn lacks_references(&self) -> bool {
        self.lacks_references
    }

    /// What kind of slices it was coded with (of the last slice, where they differ).
    pub fn picture_type(&self) -> PictureType {
        self.picture_type
    }

    /// Memory that the samples take, in bytes, as far as they are looked at: for cache budgets.
    pub fn byte_size(&self) -> usize {
        let bytes = if self.bit_depth > 8 { 2 } else { 1 };
        self.planes
            .iter()
            .flatten()
            .map(|p| p.stride * p.height * bytes)
            .sum()
    }
}

/// One plane of a picture.
#[derive(Clone, Copy, Debug)]
pub enum Plane<'a> {
    /// 8-bit samples.
    U8(Rows<'a, u8>),
    /// Samples of 9 to 16 bits.
    U16(Rows<'a, u16>),
}

/// The rows of one plane, top to bottom.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T> {
    samples: &'a [T],
    stride: usize,
    width: usize,
    height: usize,
}

impl<'a, T> Rows<'a, T> {
    /// No rows.
    pub(crate) fn empty() -> Self {
        Self {
            samples: &[],
            stride: 0,
            width: 0,
            height: 0,
        }
    }

    /// Samples per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Samples from one row's start to the next one's.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// One row; an empty slice past the end.
    pub fn row(&self, index: usize) -> &'a [T] {
        let start = index.saturating_mul(self.stride);
        self.samples
            .get(start..start.saturating_add(self.width))
            .unwrap_or(&[])
    }

    /// All rows.
    pub fn iter(&self) -> impl Iterator<Item = &'a [T]> + use<'a, T> {
        let this = Rows { ..*self };
        (0..self.height).map(move |y| this.row(y))
    }

    /// From the first sample of the first row to the last sample of the last one.
    pub(crate) fn as_strided(&self) -> &'a [T] {
        self.samples
    }
}

/// A frame that this value owns.
#[derive(Debug)]
pub(super) struct OwnedFrame(NonNull<sys::AVFrame>);

// SAFETY: the frame is owned, its buffers are reference-counted atomically, and nobody writes to
// them: it is filled only when its picture is decoded, and from then on libavcodec only reads it.
unsafe impl Send for OwnedFrame {}
// SAFETY: as above; `&OwnedFrame` only reads.
unsafe impl Sync for OwnedFrame {}

impl OwnedFrame {
    pub(super) fn new() -> Result<Self, CodecError> {
        // SAFETY: allocates.
        NonNull::new(unsafe { sys::av_frame_alloc() })
            .map(Self)
            .ok_or(CodecError::OutOfMemory)
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut sys::AVFrame {
        self.0.as_ptr()
    }

    pub(super) fn get(&self) -> &sys::AVFrame {
        // SAFETY: valid from allocation to drop; written to through `&mut self` only.
        unsafe { self.0.as_ref() }
    }

    /// Moves the content out, leaving this one blank for the next picture.
    pub(super) fn take(&mut self) -> Result<Self, CodecError> {
        let mut blank = Self::new()?;
        std::mem::swap(self, &mut blank);
        Ok(blank)
    }
}

impl Drop for OwnedFrame {
    fn drop(&mut self) {
        let mut frame = self.0.as_ptr();
        // SAFETY: owned, and not used after this.
        unsafe { sys::av_frame_free(&mut frame) };
    }
}
