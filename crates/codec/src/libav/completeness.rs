//! Whether every block of a picture was decoded.
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
use std::sync::{Mutex, MutexGuard, PoisonError};

use ffmpeg_sys_the_third as sys;

const BLOCK: usize = 16;
/// Row of the mark in its block: inside a block that is cut to 8 rows, too (coded sizes are
/// multiples of 8).
const ROW: usize = 4;
/// First sample of the mark in its row.
const COLUMN: usize = 4;
/// Samples of a mark; 4 in a block that is cut to 8 columns.
const LENGTH: usize = 8;

/// Pictures that were begun and not looked at since, in the order in which they were begun.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Vec<Begun>>);

/// The luma plane of a picture that is being decoded.
#[derive(Debug)]
struct Begun {
    id: i64,
    buffer: NonNull<sys::AVBufferRef>,
    first: NonNull<u8>,
    /// Bytes from row to row.
    stride: usize,
    width: usize,
    height: usize,
    /// 1 or 2.
    sample_bytes: usize,
}

// SAFETY: the reference keeps the buffer alive; it is counted atomically, and the samples are
// read only when the decoder has finished with the picture.
unsafe impl Send for Begun {}

impl Drop for Begun {
    fn drop(&mut self) {
        let mut buffer = self.buffer.as_ptr();
        // SAFETY: this value's own reference, not used after this.
        unsafe { sys::av_buffer_unref(&mut buffer) };
    }
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Vec<Begun>> {
        // A list of pictures is whole, whatever a panicking thread was doing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the pictures whose identity is at most `up_to`, and forgets them; says whether one
    /// is not complete. The decoder must have finished with them.
    pub(super) fn settle(&self, up_to: i64) -> Result<(), i64> {
        let mut list = self.lock();
        let (done, open): (Vec<_>, Vec<_>) = list.drain(..).partition(|b| b.id <= up_to);
        *list = open;
        drop(list);
        match done.iter().find(|b| !b.is_complete()) {
            Some(begun) => Err(begun.id),
            None => Ok(()),
        }
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
    fn is_complete(&self) -> bool {
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

    fn mark(&self) {
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

/// `AVCodecContext.get_buffer2`: libavcodec's own buffers, marked and entered into the [`Ledger`]
/// that `opaque` points to. Called from any thread of the decoder.
///
/// # Safety
/// As libavcodec calls it; `opaque` is null or points to a [`Ledger`] that outlives the context.
pub(super) unsafe extern "C" fn get_marked_buffer(
    context: *mut sys::AVCodecContext,
    frame: *mut sys::AVFrame,
    flags: c_int,
) -> c_int {
    // SAFETY: the arguments are libavcodec's own.
    let code = unsafe { sys::avcodec_default_get_buffer2(context, frame, flags) };
    if code < 0 {
        return code;
    }
    // SAFETY: both are valid while libavcodec calls this; the ledger outlives the context.
    let (frame, ledger) = unsafe { (&*frame, (*context).opaque.cast::<Ledger>().as_ref()) };
    let (Some(ledger), Some(first)) = (ledger, NonNull::new(frame.data[0])) else {
        return code;
    };
    let (Ok(stride), Ok(width), Ok(height)) = (
        usize::try_from(frame.linesize[0]),
        usize::try_from(frame.width),
        usize::try_from(frame.height),
    ) else {
        return code;
    };
    // SAFETY: looks up a table; null for an unknown format.
    let depth = unsafe {
        let description = sys::av_pix_fmt_desc_get(sys::AVPixelFormat(frame.format));
        description.as_ref().map_or(0, |d| d.comp[0].depth)
    };
    let sample_bytes = if depth > 8 { 2 } else { 1 };
    // Plane 0 of libavcodec's own buffers lies in the first of them.
    if depth == 0 || width * sample_bytes > stride || frame.buf[0].is_null() {
        return code;
    }
    // SAFETY: the buffer is valid; the new reference is given back by `Begun`.
    let Some(buffer) = NonNull::new(unsafe { sys::av_buffer_ref(frame.buf[0]) }) else {
        return sys::AVERROR(libc::ENOMEM);
    };
    let begun = Begun {
        id: frame.pts,
        buffer,
        first,
        stride,
        width,
        height,
        sample_bytes,
    };
    begun.mark();
    ledger.lock().push(begun);
    code
}
