//! The HEVC decoder of libavcodec: access units in, pictures out, each with its identity.

use std::num::NonZero;
use std::ptr::{self, NonNull};

use ffmpeg_sys_the_third as sys;

use super::completeness::{Ledger, get_marked_buffer};
use super::picture::{OwnedFrame, Picture};
use super::{describe, silence_log};
use crate::CodecError;

/// Pictures with more luma samples than this are refused unless
/// [`HevcDecoder::set_max_pixels`] says otherwise: 8192×8192, nearly twice the 8K of H.265's level 6.2
/// (35 651 584 luma samples, table A.8), with room for large stills. It bounds what a few forged bytes in an
/// SPS can make the decoder allocate.
pub const DEFAULT_MAX_PIXELS: u64 = 8192 * 8192;

/// How a decoder spreads its work over threads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Threading {
    /// All in the caller's thread.
    Single,
    /// CTU rows (WPP) of one picture at a time: lowers the latency of a single picture. Not exact
    /// in streams with sample adaptive offset: rows filter with samples of their neighbours that
    /// are not always finished. Useful only where the stream has WPP.
    Slices(NonZero<usize>),
    /// Several pictures at a time: raises the throughput of a run of pictures; each comes out
    /// later by one send per thread.
    Frames(NonZero<usize>),
}

/// One HEVC decoder. It outlives a request: flushing one costs far less than opening one.
#[derive(Debug)]
pub struct HevcDecoder {
    context: Context,
    packet: Packet,
    /// Received into; moved out into a [`Picture`] whenever it was filled.
    frame: OwnedFrame,
    threading: Threading,
    max_pixels: u64,
    /// The access unit that failed since the last flush. Its picture may still stand in the DPB,
    /// half-decoded and marked for output.
    failed: Option<i64>,
}

// SAFETY: the context, packet and frame are owned by this value alone and libavcodec binds none
// of them to the thread that made them; `&self` offers no access to them, so that not being
// `Sync` (raw pointers) stays as it is.
unsafe impl Send for HevcDecoder {}

impl HevcDecoder {
    /// Opens a decoder.
    ///
    /// # Errors
    /// [`CodecError::DecoderUnavailable`], [`CodecError::OutOfMemory`].
    pub fn new(threading: Threading) -> Result<Self, CodecError> {
        silence_log();
        Ok(Self {
            context: Context::open(threading, DEFAULT_MAX_PIXELS)?,
            packet: Packet::new()?,
            frame: OwnedFrame::new()?,
            threading,
            max_pixels: DEFAULT_MAX_PIXELS,
            failed: None,
        })
    }

    /// Refuses pictures with more luma samples than this, before anything is allocated for them.
    /// Drops all state without output (the limit takes hold when a decoder is opened).
    ///
    /// # Errors
    /// As [`HevcDecoder::new`]; the decoder is unchanged then.
    pub fn set_max_pixels(&mut self, max_pixels: u64) -> Result<(), CodecError> {
        if max_pixels != self.max_pixels {
            self.context = Context::open(self.threading, max_pixels)?;
            self.max_pixels = max_pixels;
            self.failed = None;
        }
        Ok(())
    }

    /// Decodes one access unit in Annex B framing (start codes; parameter sets where they are
    /// due). `id` is the identity that its picture will carry; identities rise from send to send
    /// between two flushes. `sink` gets the pictures that have become ready: none, this one or earlier ones.
    ///
    /// # Errors
    /// On an error the access unit's own picture never comes out. Pictures that were complete
    /// before it may still be had with [`HevcDecoder::drain`] (not with [`Threading::Frames`],
    /// where it is not known which one failed); any other `send` starts anew.
    pub fn send(
        &mut self,
        access_unit: &[u8],
        id: i64,
        sink: &mut dyn FnMut(Picture),
    ) -> Result<(), CodecError> {
        if self.failed.is_some() {
            self.flush();
        }
        self.packet.fill(access_unit, id)?;
        let result = self.send_filled(sink);
        self.packet.clear();
        result.map_err(|e| self.note_failure(e, Some(id)))
    }

    fn send_filled(&mut self, sink: &mut dyn FnMut(Picture)) -> Result<(), Failure> {
        loop {
            // SAFETY: both pointers are valid and owned; libavcodec takes its own reference to
            // the packet's buffer.
            let code = unsafe {
                sys::avcodec_send_packet(self.context.pointer.as_ptr(), self.packet.0.as_ptr())
            };
            let full = code == AGAIN;
            if code < 0 && !full {
                return Err(Failure::Libav(code));
            }
            let got = self.receive_all(sink)?;
            if !full {
                return self.settle(i64::MAX);
            }
            if got == 0 {
                // Neither takes a packet nor gives a picture: the API rules this out, and a
                // decoder that did so would hold the caller in this loop.
                return Err(Failure::Libav(code));
            }
        }
    }

    /// End of a pass: hands out all pictures that are still inside, in output order, then
    /// flushes, so that the next send starts anew. Does so after a failed send, too, for the
    /// pictures that were complete before it.
    ///
    /// # Errors
    /// [`CodecError::Decode`] (with frame threads), [`CodecError::UnsupportedFormat`],
    /// [`CodecError::OutOfMemory`]; the decoder is flushed all the same.
    pub fn drain(&mut self, sink: &mut dyn FnMut(Picture)) -> Result<(), CodecError> {
        let failed = self.failed;
        let mut complete = |picture: Picture| {
            if Some(picture.id()) != failed {
                sink(picture);
            }
        };
        // SAFETY: the context is valid; a null packet asks for what is still inside.
        let code = unsafe { sys::avcodec_send_packet(self.context.pointer.as_ptr(), ptr::null()) };
        // "End of file" means that draining had begun already.
        let result = if code < 0 && code != sys::AVERROR_EOF && code != AGAIN {
            Err(Failure::Libav(code))
        } else {
            let received = self.receive_all(&mut complete);
            // The end of the stream was reached: no thread is at work any more.
            received.and_then(|_| {
                self.context
                    .ledger
                    .settle(i64::MAX)
                    .map_err(Failure::Incomplete)
            })
        };
        self.flush();
        result.map_err(|e| e.into_error(None))
    }

    /// Drops all state without output.
    pub fn flush(&mut self) {
        // SAFETY: the context is valid and open.
        unsafe { sys::avcodec_flush_buffers(self.context.pointer.as_ptr()) };
        self.context.ledger.clear();
        self.failed = None;
    }

    /// Hands out pictures until the decoder wants more input or has ended; says how many.
    fn receive_all(&mut self, sink: &mut dyn FnMut(Picture)) -> Result<usize, Failure> {
        let mut count = 0usize;
        loop {
            // SAFETY: both pointers are valid and owned; the frame is unreferenced first by
            // libavcodec.
            let code = unsafe {
                sys::avcodec_receive_frame(self.context.pointer.as_ptr(), self.frame.as_mut_ptr())
            };
            match code {
                AGAIN | sys::AVERROR_EOF => return Ok(count),
                code if code < 0 => return Err(Failure::Libav(code)),
                _ => {}
            }
            count = count.saturating_add(1);
            let filled = self.frame.take().map_err(Failure::Picture)?;
            let picture = Picture::new(filled).map_err(Failure::Picture)?;
            if matches!(self.threading, Threading::Frames(_)) {
                // All that was sent up to this picture is decoded; what it refers to is among it.
                self.settle(picture.id())?;
                sink(picture);
            } else {
                // What was sent last is decoded; only that picture itself can suffer from it.
                let settled = self.settle(i64::MAX);
                if !matches!(settled, Err(Failure::Incomplete(id)) if id == picture.id()) {
                    sink(picture);
                }
                settled?;
            }
        }
    }

    /// Whether the pictures up to an identity are complete. With frame threads, later ones are
    /// still being decoded.
    fn settle(&self, up_to: i64) -> Result<(), Failure> {
        let up_to = match self.threading {
            Threading::Frames(_) if up_to == i64::MAX => return Ok(()),
            _ => up_to,
        };
        self.context
            .ledger
            .settle(up_to)
            .map_err(Failure::Incomplete)
    }

    fn note_failure(&mut self, failure: Failure, id: Option<i64>) -> CodecError {
        if matches!(self.threading, Threading::Frames(_)) {
            self.flush();
            return failure.into_error(None);
        }
        self.failed = id;
        // What it had begun is not finished any more; all before it was looked at.
        self.context.ledger.clear();
        failure.into_error(id)
    }
}

/// "Not now": no input is taken, or no output is there.
const AGAIN: i32 = sys::AVERROR(libc::EAGAIN);

/// What stops a send or a drain, before it is known which access unit it is laid to.
enum Failure {
    Libav(i32),
    /// The picture of this access unit has blocks that were not decoded.
    Incomplete(i64),
    Picture(CodecError),
}

impl Failure {
    fn into_error(self, id: Option<i64>) -> CodecError {
        match self {
            Self::Libav(code) if code == sys::AVERROR(libc::ENOMEM) => CodecError::OutOfMemory,
            Self::Libav(code) => CodecError::Decode {
                id,
                reason: describe(code),
            },
            Self::Incomplete(found) => CodecError::Decode {
                id: id.map(|_| found),
                reason: "the slice data end before the picture is complete".into(),
            },
            Self::Picture(error) => error,
        }
    }
}

/// An open decoder context.
#[derive(Debug)]
struct Context {
    pointer: NonNull<sys::AVCodecContext>,
    /// The context's `opaque` points to it; dropped after the context.
    ledger: Box<Ledger>,
}

impl Context {
    fn open(threading: Threading, max_pixels: u64) -> Result<Self, CodecError> {
        // SAFETY: looks up a table of the library.
        let codec = unsafe { sys::avcodec_find_decoder(sys::AVCodecID::HEVC) };
        if codec.is_null() {
            let reason = "it was built without one".into();
            return Err(CodecError::DecoderUnavailable { reason });
        }
        // SAFETY: `codec` is a decoder of the library.
        let context = unsafe { sys::avcodec_alloc_context3(codec) };
        let context = Self {
            pointer: NonNull::new(context).ok_or(CodecError::OutOfMemory)?,
            ledger: Box::default(),
        };
        let (kind, threads) = match threading {
            Threading::Single => (0, 1),
            Threading::Slices(n) => (sys::FF_THREAD_SLICE, n.get()),
            Threading::Frames(n) => (sys::FF_THREAD_FRAME, n.get()),
        };
        // SAFETY: the context is valid and not yet open; these fields may be set until then.
        unsafe {
            let c = &mut *context.pointer.as_ptr();
            c.thread_count = i32::try_from(threads).unwrap_or(i32::MAX);
            c.thread_type = kind;
            // Errors come back as errors; a picture with concealed damage is of no use here. Where
            // the stream carries the MD5 of its pictures (H.265, D.3.19), it is compared.
            c.err_recognition = sys::AV_EF_EXPLODE | sys::AV_EF_CRCCHECK;
            c.max_pixels = i64::try_from(max_pixels).unwrap_or(i64::MAX);
            // Synthesised film grain is no part of the decoded picture (H.265, D.3.14: how it is
            // shown), and libavcodec keeps a stream's grain over a flush, for the next stream.
            c.export_side_data = sys::AV_CODEC_EXPORT_DATA_FILM_GRAIN as i32;
            // libavcodec rounds the left edge to its buffers' alignment; `Picture` does not.
            c.apply_cropping = 0;
            // Slice data that end early are no error to libavcodec: see `completeness`.
            c.get_buffer2 = Some(get_marked_buffer);
            c.opaque = ptr::from_ref(&*context.ledger).cast_mut().cast();
        }
        // SAFETY: context and codec are valid; there are no options.
        let code = unsafe { sys::avcodec_open2(context.pointer.as_ptr(), codec, ptr::null_mut()) };
        match code {
            0.. => Ok(context),
            code if code == sys::AVERROR(libc::ENOMEM) => Err(CodecError::OutOfMemory),
            code => Err(CodecError::DecoderUnavailable {
                reason: describe(code),
            }),
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let mut context = self.pointer.as_ptr();
        // SAFETY: owned, and not used after this; its threads have ended when it returns.
        unsafe { sys::avcodec_free_context(&mut context) };
    }
}

/// A packet that is filled anew for each access unit.
#[derive(Debug)]
struct Packet(NonNull<sys::AVPacket>);

impl Packet {
    fn new() -> Result<Self, CodecError> {
        // SAFETY: allocates.
        NonNull::new(unsafe { sys::av_packet_alloc() })
            .map(Self)
            .ok_or(CodecError::OutOfMemory)
    }

    /// Copies the data into a reference-counted buffer with the zero padding that libavcodec's
    /// bit readers need behind it.
    fn fill(&mut self, data: &[u8], id: i64) -> Result<(), CodecError> {
        let refused = || CodecError::AccessUnitSize { bytes: data.len() };
        // An empty packet would mean "end of stream".
        if data.is_empty() {
            return Err(refused());
        }
        let size = i32::try_from(data.len()).map_err(|_| refused())?;
        self.clear();
        // SAFETY: the packet is valid and blank.
        match unsafe { sys::av_new_packet(self.0.as_ptr(), size) } {
            0.. => {}
            code if code == sys::AVERROR(libc::ENOMEM) => return Err(CodecError::OutOfMemory),
            _ => return Err(refused()),
        }
        // SAFETY: `av_new_packet` succeeded: `data` points to `size` writable bytes, which nobody
        // else refers to yet.
        unsafe {
            let packet = &mut *self.0.as_ptr();
            ptr::copy_nonoverlapping(data.as_ptr(), packet.data, data.len());
            packet.pts = id;
        }
        Ok(())
    }

    fn clear(&mut self) {
        // SAFETY: the packet is valid; its references are dropped and its fields reset.
        unsafe { sys::av_packet_unref(self.0.as_ptr()) };
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        let mut packet = self.0.as_ptr();
        // SAFETY: owned, and not used after this.
        unsafe { sys::av_packet_free(&mut packet) };
    }
}
