//! Buffers for pictures in memory that another process sees.
//!
//! A decoder needs a few dozen of them at a time, nearly all of one size: what is free is found by
//! looking through a list.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ffmpeg_sys_the_third as sys;

use super::picture::Picture;
use crate::apart::{PictureAt, Shared};

/// Buffers begin at a page, planes in them at a line of cache, as vector units like it.
const PAGE: usize = 4096;
const LINE: usize = 64;
/// Bytes behind each plane that a vector unit may touch.
const BEHIND: usize = 16 + LINE - 1;

/// The memory, and what of it is free.
#[derive(Debug)]
pub(crate) struct FrameArena {
    memory: Arc<Shared>,
    free: Mutex<Free>,
}

impl FrameArena {
    /// All of the memory's second part.
    pub(crate) fn new(memory: Arc<Shared>) -> Self {
        let (_, length) = memory.pictures();
        Self {
            memory,
            free: Mutex::new(Free {
                ranges: vec![(0, length)],
                last: 0,
            }),
        }
    }

    pub(crate) fn memory(&self) -> &Shared {
        &self.memory
    }

    /// Where a picture lies; `None` if it is not in here.
    pub(crate) fn describe(&self, picture: &Picture, number: u32) -> Option<PictureAt> {
        let (start, length) = self.memory.pictures();
        picture.place(number, start, length)
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a frame its buffer, laid out as libavcodec wants it (`AVCodecContext.get_buffer2`).
    ///
    /// # Safety
    /// The arguments are those of the callback.
    pub(super) unsafe fn get_buffer(
        self: &Arc<Self>,
        context: *mut sys::AVCodecContext,
        frame: *mut sys::AVFrame,
    ) -> c_int {
        // SAFETY: valid while libavcodec calls this, and nobody else looks at it meanwhile.
        let frame = unsafe { &mut *frame };
        let format = sys::AVPixelFormat(frame.format);
        let (mut width, mut height) = (frame.width, frame.height);
        let mut align: [c_int; 8] = [0; 8];
        // SAFETY: reads the context, and writes two numbers and eight.
        unsafe {
            sys::avcodec_align_dimensions2(context, &mut width, &mut height, align.as_mut_ptr());
        }
        let mut lines: [c_int; 4] = [0; 4];
        loop {
            // SAFETY: writes four numbers.
            let code = unsafe { sys::av_image_fill_linesizes(lines.as_mut_ptr(), format, width) };
            if code < 0 {
                return code;
            }
            let aligned = |(line, align): (&c_int, &c_int)| *align <= 0 || line % align == 0;
            if lines.iter().zip(&align).all(aligned) {
                break;
            }
            // To the next multiple of a larger power of two.
            match width.checked_add(width & width.wrapping_neg()) {
                Some(wider) if wider > width => width = wider,
                _ => return sys::AVERROR(libc::EINVAL),
            }
        }
        let strides = lines.map(|line| line as isize);
        let mut sizes = [0usize; 4];
        // SAFETY: writes four numbers.
        let code = unsafe {
            sys::av_image_fill_plane_sizes(sizes.as_mut_ptr(), format, height, strides.as_ptr())
        };
        if code < 0 {
            return code;
        }
        let mut starts = [0usize; 4];
        let mut whole = 0usize;
        for (start, size) in starts.iter_mut().zip(sizes) {
            *start = whole;
            if size > 0 {
                let next = whole.checked_add(size).and_then(|n| n.checked_add(BEHIND));
                match next.and_then(|n| n.checked_next_multiple_of(LINE)) {
                    Some(next) => whole = next,
                    None => return sys::AVERROR(libc::ENOMEM),
                }
            }
        }
        let taken = whole.checked_next_multiple_of(PAGE);
        let taken =
            taken.and_then(|length| Some((self.lock().take(length, &self.memory)?, length)));
        let Some((offset, length)) = taken else {
            return sys::AVERROR(libc::ENOMEM);
        };
        let (memory, _) = self.memory.pictures();
        // SAFETY: the range was free, so it lies inside the memory.
        let first = unsafe { memory.add(offset) };
        let hold = Box::into_raw(Box::new(Taken {
            arena: Arc::clone(self),
            offset,
            length,
        }));
        // SAFETY: the range is this buffer's alone until `give_back` is called with `hold`, once.
        let buffer = unsafe {
            sys::av_buffer_create(first.as_ptr(), length, Some(give_back), hold.cast(), 0)
        };
        if buffer.is_null() {
            // SAFETY: nobody else has it.
            drop(unsafe { Box::from_raw(hold) });
            return sys::AVERROR(libc::ENOMEM);
        }
        frame.data = [ptr::null_mut(); 8];
        frame.linesize = [0; 8];
        frame.buf = [ptr::null_mut(); 8];
        for (i, ((data, line), (start, size))) in (frame.data.iter_mut())
            .zip(&mut frame.linesize)
            .zip(starts.into_iter().zip(sizes))
            .enumerate()
        {
            if size > 0 {
                // SAFETY: planes lie one behind the other in the range.
                *data = unsafe { first.add(start) }.as_ptr();
                *line = lines.get(i).copied().unwrap_or(0);
            }
        }
        if let Some(own) = frame.buf.first_mut() {
            *own = buffer;
        }
        frame.extended_data = frame.data.as_mut_ptr();
        0
    }
}

/// A range that a buffer has.
struct Taken {
    arena: Arc<FrameArena>,
    offset: usize,
    length: usize,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.arena.lock().put(self.offset, self.length);
    }
}

/// Called by libavutil when nobody refers to a buffer any more.
///
/// # Safety
/// `hold` is what was given to `av_buffer_create`, and this is the only call.
unsafe extern "C" fn give_back(hold: *mut c_void, _data: *mut u8) {
    // SAFETY: as said above.
    drop(unsafe { Box::from_raw(hold.cast::<Taken>()) });
}

/// Free ranges, ascending, none beside another.
#[derive(Debug)]
struct Free {
    ranges: Vec<(usize, usize)>,
    /// Bytes of the buffer that was taken last.
    last: usize,
}

impl Free {
    /// Takes so many bytes: the first that are free. When pictures change their size, what is free
    /// is given back to the system first, so that no more is held than the largest of them needs.
    fn take(&mut self, length: usize, memory: &Shared) -> Option<usize> {
        if length != self.last {
            if self.last > 0 {
                for (offset, length) in &self.ranges {
                    memory.give_back(*offset, *length);
                }
            }
            self.last = length;
        }
        let range = self.ranges.iter_mut().find(|(_, free)| *free >= length)?;
        let offset = range.0;
        range.0 = offset.saturating_add(length);
        range.1 = range.1.saturating_sub(length);
        self.ranges.retain(|(_, free)| *free > 0);
        Some(offset)
    }

    fn put(&mut self, offset: usize, length: usize) {
        let at = self.ranges.partition_point(|(o, _)| *o < offset);
        self.ranges.insert(at, (offset, length));
        // With the one behind, then with the one before.
        for first in [at, at.wrapping_sub(1)] {
            let (Some(a), Some(b)) = (
                self.ranges.get(first).copied(),
                self.ranges.get(first.wrapping_add(1)).copied(),
            ) else {
                continue;
            };
            if a.0.saturating_add(a.1) == b.0 {
                self.ranges.remove(first.wrapping_add(1));
                if let Some(joined) = self.ranges.get_mut(first) {
                    joined.1 = a.1.saturating_add(b.1);
                }
            }
        }
    }
}
