//! The pictures that a decoder has begun: by them, pictures are had in decode order, and it is
//! known whether every block of one was decoded.
//!
//! libavcodec gives pictures away in output order, long after they are decoded. But it asks for
//! the buffers of each when it begins it, so that whoever gives the buffers knows where the picture
//! is. The first that is begun with a packet is that packet's picture; what else is begun with it
//! stands in for missing entries of its reference picture set (H.265, 8.3.3).
//!
//! libavcodec tells nothing when the data of a slice end early: the blocks behind keep what their
//! buffer held before, which may be another video's picture. So each buffer gets a mark in every
//! 16×16 block (the smallest coding tree block, H.265 7.4.3.2.1) before it is decoded into, and a
//! picture in which a mark is left whole is not complete. Marks lie at least 4 samples from the
//! block's edges, where the deblocking of decoded neighbours does not reach (8.7.2), and are
//! values that any bit depth can hold.
//!
//! It costs a line of cache per block: some hundredths of a millisecond at 1080p.

use std::ffi::c_int;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ffmpeg_sys_the_third as sys;

use super::arena::FrameArena;
use super::picture::OwnedFrame;
use crate::CodecError;

const BLOCK: usize = 16;
/// Row of the mark in its block: inside a block that is cut to 8 rows, too (coded sizes are
/// multiples of 8).
const ROW: usize = 4;
/// First sample of the mark in its row.
const COLUMN: usize = 4;
/// Samples of a mark; 4 in a block that is cut to 8 columns.
const LENGTH: usize = 8;

/// Pictures that were begun and not taken out since.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    begun: Mutex<Vec<Begun>>,
    /// Where their buffers come from; `None`: libavcodec's own.
    arena: Option<Arc<FrameArena>>,
}

/// A picture that is being decoded.
#[derive(Debug)]
pub(super) struct Begun {
    /// The `pts` of the packet that it was begun with.
    pub(super) serial: i64,
    /// The decoder's own frame. The HEVC decoder asks for buffers for frames of its decoded picture
    /// buffer, which it allocates when it is opened and frees when it is closed; what they refer
    /// to changes with the packets that it is given.
    frame: NonNull<sys::AVFrame>,
    buffer: NonNull<sys::AVBufferRef>,
    marks: Marks,
}

/// The luma plane, as far as it is marked.
#[derive(Debug)]
struct Marks {
    first: NonNull<u8>,
    /// Bytes from row to row.
    stride: usize,
    width: usize,
    height: usize,
    /// 1 or 2.
    sample_bytes: usize,
}

// SAFETY: the reference keeps the buffer alive; it is counted atomically. The samples and the frame
// are read only when the decoder has finished with the packet and was not given another one since.
unsafe impl Send for Begun {}

impl Drop for Begun {
    fn drop(&mut self) {
        let mut buffer = self.buffer.as_ptr();
        // SAFETY: this value's own reference, not used after this.
        unsafe { sys::av_buffer_unref(&mut buffer) };
    }
}

impl Ledger {
    /// Of pictures whose buffers come from there.
    pub(super) fn new(arena: Option<Arc<FrameArena>>) -> Self {
        Self {
            begun: Mutex::default(),
            arena,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Begun>> {
        // A list of pictures is whole, whatever a panicking thread was doing.
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out what was begun with packets up to `last`, in their order.
    pub(super) fn take(&self, last: i64) -> Vec<Begun> {
        let mut list = self.lock();
        let (mut taken, open): (Vec<_>, Vec<_>) =
            list.drain(..).partition(|begun| begun.serial <= last);
        *list = open;
        // Stable: what was begun first with a packet stays first.
        taken.sort_by_key(|begun| begun.serial);
        taken
    }

    /// Forgets all pictures.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }
}

/// Calls `visit` for each mark with the offset of its first byte, its length in samples and its
/// values, until that returns false.
fn for_each_mark(
    width: usize,
    height: usize,
    stride: usize,
    sample_bytes: usize,
    mut visit: impl FnMut(usize, usize, [u8; LENGTH]) -> bool,
) -> bool {
    for y in (ROW..height).step_by(BLOCK) {
        for x in (COLUMN..width).step_by(BLOCK) {
            let length = LENGTH.min(width - x);
            if length >= LENGTH / 2 {
                let place = ((y as u64) << 32) | x as u64;
                if !visit(y * stride + x * sample_bytes, length, values(place)) {
                    return false;
                }
            }
        }
    }
    true
}

/// Eight bytes that look like no picture, others in each place (the finalizer of SplitMix64).
fn values(place: u64) -> [u8; LENGTH] {
    let mut z = place.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).to_le_bytes()
}

impl Begun {
    /// Whether no mark is left. The decoder must have finished with the packet.
    pub(super) fn is_complete(&self) -> bool {
        self.marks.are_gone()
    }

    /// Another reference to the picture, with all that the decoder says about it; `None` where the
    /// decoder has let go of it.
    ///
    /// # Safety
    /// The decoder is open, has finished with the packet that the picture was begun with, and was
    /// not given another one since by the thread that it was decoded in.
    pub(super) unsafe fn frame(&self) -> Result<Option<OwnedFrame>, CodecError> {
        // SAFETY: the frame belongs to the decoder, which is open and does not touch it meanwhile;
        // `buffer` is this value's own reference.
        let (frame, buffer) = unsafe { (self.frame.as_ref(), self.buffer.as_ref()) };
        // SAFETY: a reference that the frame holds is valid.
        let same = unsafe { frame.buf[0].as_ref() }.is_some_and(|b| b.buffer == buffer.buffer);
        if !same || frame.pts != self.serial {
            return Ok(None);
        }
        let mut own = OwnedFrame::new()?;
        // SAFETY: both frames are valid, and `own` is blank.
        match unsafe { sys::av_frame_ref(own.as_mut_ptr(), frame) } {
            0.. => Ok(Some(own)),
            _ => Err(CodecError::OutOfMemory),
        }
    }
}

impl Marks {
    /// Of a frame whose buffers were just obtained; none where its layout is not understood.
    /// `None` without a first plane.
    fn new(frame: &sys::AVFrame) -> Option<Self> {
        let first = NonNull::new(frame.data[0])?;
        let size = |v: c_int| usize::try_from(v).unwrap_or(0);
        let stride = size(frame.linesize[0]);
        let (width, height) = (size(frame.width), size(frame.height));
        // SAFETY: looks up a table; null for an unknown format.
        let depth = unsafe {
            let description = sys::av_pix_fmt_desc_get(sys::AVPixelFormat(frame.format));
            description.as_ref().map_or(0, |d| d.comp[0].depth)
        };
        let sample_bytes = if depth > 8 { 2 } else { 1 };
        let understood = depth > 0 && width * sample_bytes <= stride;
        Some(Self {
            first,
            stride,
            width: if understood { width } else { 0 },
            height,
            sample_bytes,
        })
    }

    fn are_gone(&self) -> bool {
        for_each_mark(
            self.width,
            self.height,
            self.stride,
            self.sample_bytes,
            |at, length, values| {
                // Some sample of the mark is another value by now.
                (0..length).zip(values).any(|(i, value)| {
                    // SAFETY: inside the plane, as when it was marked; nobody writes any more.
                    let byte = |k: usize| unsafe {
                        *self.first.as_ptr().add(at + i * self.sample_bytes + k)
                    };
                    byte(0) != value || (self.sample_bytes == 2 && byte(1) != 0)
                })
            },
        )
    }

    fn set(&self) {
        for_each_mark(
            self.width,
            self.height,
            self.stride,
            self.sample_bytes,
            |at, length, values| {
                for (i, value) in (0..length).zip(values) {
                    // SAFETY: inside the plane; the buffer was just obtained and is not decoded
                    // into yet.
                    unsafe {
                        let sample = self.first.as_ptr().add(at + i * self.sample_bytes);
                        *sample = value;
                        if self.sample_bytes == 2 {
                            *sample.add(1) = 0;
                        }
                    }
                }
                true
            },
        );
    }
}

/// `AVCodecContext.get_buffer2`: libavcodec's own buffers, or some of an arena, marked and entered into
/// the [`Ledger`] that `opaque` points to. Called from any thread of the decoder.
///
/// # Safety
/// As libavcodec calls it; `opaque` is null or points to a [`Ledger`] that outlives the context.
pub(super) unsafe extern "C" fn get_marked_buffer(
    context: *mut sys::AVCodecContext,
    frame: *mut sys::AVFrame,
    flags: c_int,
) -> c_int {
    // SAFETY: valid while libavcodec calls this; the ledger outlives the context.
    let ledger = unsafe { (*context).opaque.cast::<Ledger>().as_ref() };
    let code = match ledger.and_then(|l| l.arena.as_ref()) {
        // SAFETY: the arguments are libavcodec's own.
        Some(arena) => unsafe { arena.get_buffer(context, frame) },
        // SAFETY: as above.
        None => unsafe { sys::avcodec_default_get_buffer2(context, frame, flags) },
    };
    if code < 0 {
        return code;
    }
    // SAFETY: valid while libavcodec calls this.
    let frame = unsafe { &*frame };
    let (Some(ledger), Some(marks)) = (ledger, Marks::new(frame)) else {
        return sys::AVERROR(libc::EINVAL);
    };
    // Plane 0 lies in the first of the buffers.
    // SAFETY: null or a valid reference of the frame; the new one is given back by `Begun`.
    let buffer = unsafe { frame.buf[0].as_ref().map(|b| sys::av_buffer_ref(b)) };
    let Some(buffer) = buffer.and_then(NonNull::new) else {
        return sys::AVERROR(libc::ENOMEM);
    };
    marks.set();
    ledger.lock().push(Begun {
        serial: frame.pts,
        frame: NonNull::from(frame),
        buffer,
        marks,
    });
    code
}
