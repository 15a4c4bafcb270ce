//! The HEVC decoder of libavcodec: access units in, pictures out in the same order, each with its
//! identity.
//!
//! Pictures are taken where the decoder begins them (see [`super::begun`]), as soon as their access
//! unit is decoded; what libavcodec gives out, in output order and later, is dropped. So nothing
//! has to be drained, and the decoder can go on.
//!
//! Packets are numbered (`serial`, carried as `pts`). With n frame threads, libavcodec takes a packet
//! and then waits until the thread that was given one first has finished: when it has taken packet k,
//! packet k − (n − 1) is decoded, its thread has nothing to do, and later ones are still being
//! decoded.

use std::collections::VecDeque;
use std::num::NonZero;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use ffmpeg_sys_the_third as sys;
use media::h265::nal::{self, NalHeader, NalType};
use media::index::Framing;
use serde::{Deserialize, Serialize};

use super::arena::FrameArena;
use super::begun::{Ledger, get_marked_buffer};
use super::picture::{OwnedFrame, Picture};
use super::{describe, silence_log};
use crate::CodecError;

/// Pictures with more luma samples than this are refused unless
/// [`HevcDecoder::set_max_pixels`] says otherwise: 8192×8192, nearly twice the 8K of H.265's level 6.2
/// (35 651 584 luma samples, table A.8), with room for large stills. It bounds what a few forged bytes in an
/// SPS can make the decoder allocate.
pub const DEFAULT_MAX_PIXELS: u64 = 8192 * 8192;

/// How a decoder spreads its work over threads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Debug)]
pub enum Threading {
    /// All in the caller's thread.
    Single,
    /// CTU rows (WPP) of one picture at a time: lowers the latency of a single picture. Not exact
    /// in streams with sample adaptive offset: rows filter with samples of their neighbours that
    /// are not always finished. Useful only where the stream has WPP.
    Slices(NonZero<usize>),
    /// Several pictures at a time: raises the throughput of a run of pictures; each comes out
    /// later, by one send less than there are threads, or with [`HevcDecoder::finish`].
    Frames(NonZero<usize>),
}

impl Threading {
    /// Pictures side by side on so many cores, in a stream whose pictures have so many rows of
    /// coding tree blocks.
    ///
    /// A picture is decoded behind those that it refers to, some rows later. Where there are rows
    /// enough, one thread more than there are cores works while others wait for rows (a ninth to a
    /// seventh less time at 1080p with blocks of 64); where there are few, it only waits, too.
    pub fn frames(cores: NonZero<usize>, ctb_rows: u32) -> Self {
        /// 1080 lines in blocks of 64 are 17 rows, 720 are 12, 480 are 8.
        const ENOUGH: u32 = 16;
        match cores.get() {
            2.. if ctb_rows >= ENOUGH => Self::Frames(cores.saturating_add(1)),
            _ => Self::Frames(cores),
        }
    }

    /// Whether several pictures are decoded at a time.
    pub fn is_frames(self) -> bool {
        matches!(self, Self::Frames(_))
    }
}

/// One HEVC decoder. It outlives a request: flushing one costs far less than opening one.
#[derive(Debug)]
pub struct HevcDecoder {
    context: Context,
    packet: Packet,
    /// What libavcodec gives out is received into it.
    frame: OwnedFrame,
    threading: Threading,
    max_pixels: u64,
    /// Of the last packet.
    serial: i64,
    /// Access units whose decoding has not ended: serial and identity.
    in_flight: VecDeque<(i64, i64)>,
    /// The last access unit ended with an end of sequence or of bitstream (H.265, 7.4.2.4.4).
    sequence_ended: bool,
    /// A packet without a picture went between an end of sequence and what follows it, and
    /// libavcodec looks for that end in the packet before: it is said again. (Version 5.1 decodes
    /// alike without; what it shows, and what another version makes of it, may differ.)
    repeat_end: bool,
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
        Self::open(threading, DEFAULT_MAX_PIXELS, None)
    }

    /// Opens a decoder that refuses pictures with more luma samples than this, and decodes into an
    /// arena, if there is one.
    pub(crate) fn open(
        threading: Threading,
        max_pixels: u64,
        arena: Option<Arc<FrameArena>>,
    ) -> Result<Self, CodecError> {
        silence_log();
        Ok(Self {
            context: Context::open(threading, max_pixels, arena)?,
            packet: Packet::new()?,
            frame: OwnedFrame::new()?,
            threading,
            max_pixels,
            serial: 0,
            in_flight: VecDeque::new(),
            sequence_ended: false,
            repeat_end: false,
        })
    }

    /// Refuses pictures with more luma samples than this, before anything is allocated for them.
    /// Drops all state without output (the limit takes hold when a decoder is opened).
    ///
    /// # Errors
    /// As [`HevcDecoder::new`]; the decoder is unchanged then.
    pub fn set_max_pixels(&mut self, max_pixels: u64) -> Result<(), CodecError> {
        if max_pixels != self.max_pixels {
            self.context = Context::open(self.threading, max_pixels, None)?;
            self.max_pixels = max_pixels;
            self.forget();
        }
        Ok(())
    }

    /// Decodes one access unit in Annex B framing (start codes; parameter sets where they are
    /// due). `id` is the identity that its picture will carry.
    ///
    /// `sink` gets pictures in the order in which access units were sent, each as soon as it is
    /// decoded, whether or not it is due for output (`pic_output_flag`, H.265 7.4.7.1). With
    /// [`Threading::Single`] and [`Threading::Slices`] that is this access unit's picture, if it
    /// has one (RASL pictures without their references have none, 8.1.3). With
    /// [`Threading::Frames`] it is the picture of an earlier one, or none yet.
    ///
    /// # Errors
    /// The access unit has no picture that could be shown. The decoder has dropped all state; the
    /// next send starts anew. With [`Threading::Frames`] the cause may be any access unit whose
    /// picture has not come out, and none of these does.
    pub fn send(
        &mut self,
        access_unit: &[u8],
        id: i64,
        sink: &mut dyn FnMut(Picture),
    ) -> Result<(), CodecError> {
        self.send_watched(access_unit, id, sink, &mut drop)
    }

    /// [`HevcDecoder::send`]; `output` gets what libavcodec gives out.
    fn send_watched(
        &mut self,
        access_unit: &[u8],
        id: i64,
        sink: &mut dyn FnMut(Picture),
        output: &mut dyn FnMut(OwnedFrame),
    ) -> Result<(), CodecError> {
        // An empty packet would mean "end of stream".
        let result = if access_unit.is_empty() {
            Err(Failure::Picture(CodecError::AccessUnitSize { bytes: 0 }))
        } else {
            let before = if self.repeat_end {
                END_OF_SEQUENCE
            } else {
                &[]
            };
            self.repeat_end = false;
            self.sequence_ended = self.threading.is_frames() && ends_sequence(access_unit);
            self.decode([before, access_unit], Some(id), sink, output)
        };
        result.map_err(|e| self.fail(e, Some(id)))
    }

    /// Completes what frame threads have in flight, and hands it out. State stays: the next send
    /// goes on. With other kinds of threading nothing is ever in flight.
    ///
    /// # Errors
    /// As [`HevcDecoder::send`] with frame threads.
    pub fn finish(&mut self, sink: &mut dyn FnMut(Picture)) -> Result<(), CodecError> {
        // Ends: each packet lets one more come out.
        while !self.in_flight.is_empty() {
            self.repeat_end |= self.sequence_ended;
            self.decode([&[], NO_PICTURE], None, sink, &mut drop)
                .map_err(|e| self.fail(e, None))?;
        }
        Ok(())
    }

    /// Drops all state without output.
    pub fn flush(&mut self) {
        // SAFETY: the context is valid and open.
        unsafe { sys::avcodec_flush_buffers(self.context.pointer.as_ptr()) };
        self.forget();
    }

    /// No access unit was sent yet.
    fn forget(&mut self) {
        self.context.ledger.clear();
        self.in_flight.clear();
        (self.sequence_ended, self.repeat_end) = (false, false);
    }

    /// Gives a packet to libavcodec, then hands out the pictures that are decoded.
    fn decode(
        &mut self,
        data: [&[u8]; 2],
        id: Option<i64>,
        sink: &mut dyn FnMut(Picture),
        output: &mut dyn FnMut(OwnedFrame),
    ) -> Result<(), Failure> {
        self.serial += 1;
        self.packet
            .fill(data, self.serial)
            .map_err(Failure::Picture)?;
        if let Some(id) = id {
            self.in_flight.push_back((self.serial, id));
        }
        let result = self.exchange(output);
        self.packet.clear();
        result?;
        self.hand_out(self.serial - self.context.delay, sink)
    }

    /// Sends the packet, and receives all that libavcodec gives out.
    fn exchange(&mut self, output: &mut dyn FnMut(OwnedFrame)) -> Result<(), Failure> {
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
            let got = self.receive_all(output)?;
            if !full {
                return Ok(());
            }
            if got == 0 {
                // Neither takes a packet nor gives a picture: the API rules this out, and a
                // decoder that did so would hold the caller in this loop.
                return Err(Failure::Libav(code));
            }
        }
    }

    /// Receives until the decoder wants more input; says how often it gave something.
    fn receive_all(&mut self, output: &mut dyn FnMut(OwnedFrame)) -> Result<usize, Failure> {
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
            output(self.frame.take().map_err(Failure::Picture)?);
        }
    }

    /// Hands out the pictures of packets up to `last`, with which the decoder has finished.
    fn hand_out(&mut self, last: i64, sink: &mut dyn FnMut(Picture)) -> Result<(), Failure> {
        let mut begun = self.context.ledger.take(last).into_iter().peekable();
        while let Some(&(serial, id)) = self.in_flight.front()
            && serial <= last
        {
            self.in_flight.pop_front();
            let mut own = None;
            let mut lacks_references = false;
            while let Some(next) = begun.next_if(|b| b.serial <= serial) {
                match &own {
                    None => own = Some(next),
                    // What is begun later stands in for pictures that are not there.
                    Some(_) => lacks_references = true,
                }
            }
            // Without a picture, nothing was begun.
            let Some(own) = own else { continue };
            if !own.is_complete() {
                return Err(Failure::Incomplete);
            }
            // SAFETY: the context is open. Without frame threads the decoder does nothing between
            // two packets. With them, `last` leaves out the packets that threads may be at work
            // on, and a thread gets its next one in a later call.
            let frame = unsafe { own.frame() }.map_err(Failure::Picture)?;
            let frame = frame.ok_or(Failure::Lost)?;
            sink(Picture::new(frame, id, lacks_references).map_err(Failure::Picture)?);
        }
        Ok(())
    }

    fn fail(&mut self, failure: Failure, id: Option<i64>) -> CodecError {
        self.flush();
        let id = id.filter(|_| !self.threading.is_frames());
        failure.into_error(id)
    }
}

/// An end of sequence (H.265, 7.3.2.6).
const END_OF_SEQUENCE: &[u8] = &[0, 0, 1, 36 << 1, 1];

/// An access unit delimiter that allows all slice types (7.3.2.5), and nothing behind it.
const NO_PICTURE: &[u8] = &[0, 0, 1, 35 << 1, 1, 0b0101_0000];

/// Whether an end of sequence or of bitstream follows other NAL units of the access unit.
fn ends_sequence(access_unit: &[u8]) -> bool {
    nal::units(access_unit, Framing::StartCodes)
        .skip_while(|unit| matches!(unit, Ok(unit) if is_end(unit)))
        .any(|unit| unit.is_ok_and(is_end))
}

fn is_end(unit: &[u8]) -> bool {
    let end = |h: NalHeader| matches!(h.nal_type, NalType::EOS | NalType::EOB);
    NalHeader::parse(unit).is_some_and(end)
}

/// "Not now": no input is taken, or no output is there.
const AGAIN: i32 = sys::AVERROR(libc::EAGAIN);

/// What stops a send, before it is known which access unit it is laid to.
enum Failure {
    /// libavcodec's code. "No memory" may be damage, too: so it calls a decoded picture buffer that
    /// is full, or an SEI without its SPS.
    Libav(i32),
    /// A picture has blocks that were not decoded.
    Incomplete,
    /// libavcodec keeps frames in another way than it did.
    Lost,
    Picture(CodecError),
}

impl Failure {
    fn into_error(self, id: Option<i64>) -> CodecError {
        let reason = match self {
            Self::Picture(error) => return error,
            Self::Libav(code) => describe(code),
            Self::Incomplete => "the slice data end before the picture is complete".into(),
            Self::Lost => "the decoder has dropped the picture".into(),
        };
        CodecError::Decode { id, reason }
    }
}

/// An open decoder context.
#[derive(Debug)]
struct Context {
    pointer: NonNull<sys::AVCodecContext>,
    /// How many of the packets that were sent last may still be in the work.
    delay: i64,
    /// The context's `opaque` points to it; dropped after the context.
    ledger: Box<Ledger>,
}

impl Context {
    fn open(
        threading: Threading,
        max_pixels: u64,
        arena: Option<Arc<FrameArena>>,
    ) -> Result<Self, CodecError> {
        // SAFETY: looks up a table of the library.
        let codec = unsafe { sys::avcodec_find_decoder(sys::AVCodecID::HEVC) };
        if codec.is_null() {
            let reason = "it was built without one".into();
            return Err(CodecError::DecoderUnavailable { reason });
        }
        // SAFETY: `codec` is a decoder of the library.
        let context = unsafe { sys::avcodec_alloc_context3(codec) };
        let mut context = Self {
            pointer: NonNull::new(context).ok_or(CodecError::OutOfMemory)?,
            delay: 0,
            ledger: Box::new(Ledger::new(arena)),
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
            c.export_side_data = sys::AV_CODEC_EXPORT_DATA_FILM_GRAIN;
            // libavcodec rounds the left edge to its buffers' alignment; `Picture` does not.
            c.apply_cropping = 0;
            // Slice data that end early are no error to libavcodec: see `begun`.
            c.get_buffer2 = Some(get_marked_buffer);
            c.opaque = ptr::from_ref(&*context.ledger).cast_mut().cast();
            // Else frame threads have them called by the thread that sends packets (libavcodec
            // before 60).
            #[cfg(thread_safe_callbacks)]
            {
                c.thread_safe_callbacks = 1;
            }
        }
        // SAFETY: context and codec are valid; there are no options.
        let code = unsafe { sys::avcodec_open2(context.pointer.as_ptr(), codec, ptr::null_mut()) };
        // SAFETY: the context is valid.
        let (active, threads) = unsafe {
            let c = context.pointer.as_ref();
            (c.active_thread_type, c.thread_count)
        };
        if active & sys::FF_THREAD_FRAME != 0 {
            context.delay = i64::from(threads).saturating_sub(1).max(0);
        }
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

    /// Copies both parts, one behind the other, into a reference-counted buffer with the zero
    /// padding that libavcodec's bit readers need behind it.
    fn fill(&mut self, [before, data]: [&[u8]; 2], serial: i64) -> Result<(), CodecError> {
        let refused = || CodecError::AccessUnitSize { bytes: data.len() };
        let bytes = before.len().saturating_add(data.len());
        let size = i32::try_from(bytes).map_err(|_| refused())?;
        self.clear();
        // SAFETY: the packet is valid and blank.
        match unsafe { sys::av_new_packet(self.0.as_ptr(), size) } {
            0.. => {}
            code if code == sys::AVERROR(libc::ENOMEM) => return Err(CodecError::OutOfMemory),
            _ => return Err(refused()),
        }
        // SAFETY: `av_new_packet` succeeded: `data` points to `size` writable bytes, which nobody
        // else refers to yet, and `size` is the sum of both lengths.
        unsafe {
            let packet = &mut *self.0.as_ptr();
            ptr::copy_nonoverlapping(before.as_ptr(), packet.data, before.len());
            ptr::copy_nonoverlapping(data.as_ptr(), packet.data.add(before.len()), data.len());
            packet.pts = serial;
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::support::{access_units, made};

    /// What a frame says about itself and its samples, apart from where in time it belongs.
    fn said(f: &sys::AVFrame) -> String {
        // SAFETY: the side data of a valid frame.
        let side_data = (0..f.nb_side_data as usize).map(|i| unsafe {
            let data = &**f.side_data.add(i);
            let bytes = std::slice::from_raw_parts(data.data, data.size);
            format!("{:?} {bytes:?}", data.type_)
        });
        let side_data: Vec<String> = side_data.collect();
        format!(
            "{:?} {:?} {:?} crop {:?} colour {:?} sar {}/{} type {:?} flags {} {} repeat {} {side_data:?}",
            f.format,
            (f.width, f.height),
            (f.data, f.linesize),
            (f.crop_left, f.crop_right, f.crop_top, f.crop_bottom),
            (
                f.color_primaries,
                f.color_trc,
                f.colorspace,
                f.color_range,
                f.chroma_location
            ),
            f.sample_aspect_ratio.num,
            f.sample_aspect_ratio.den,
            f.pict_type,
            f.flags,
            f.decode_error_flags,
            f.repeat_pict,
        )
    }

    #[test]
    fn a_thread_more_works_only_where_there_are_rows_to_wait_for() {
        let n = |n| NonZero::new(n).unwrap();
        assert_eq!(Threading::frames(n(2), 17), Threading::Frames(n(3)));
        assert_eq!(Threading::frames(n(2), 8), Threading::Frames(n(2)));
        assert_eq!(Threading::frames(n(1), 17), Threading::Frames(n(1)));
        assert!(Threading::frames(n(1), 17).is_frames() && !Threading::Slices(n(2)).is_frames());
    }

    #[test]
    fn an_end_of_sequence_is_said_again_behind_packets_without_a_picture() {
        let slice: &[u8] = &[0, 0, 1, 2, 1, 0x80, 7];
        let bitstream: &[u8] = &[0, 0, 0, 1, 37 << 1, 1];
        for (nals, ends) in [
            ([slice, &[], &[]], false),
            ([slice, END_OF_SEQUENCE, &[]], true),
            ([slice, bitstream, &[0, 0]], true),
            ([slice, END_OF_SEQUENCE, bitstream], true),
            // That belongs to what was before.
            ([END_OF_SEQUENCE, slice, &[]], false),
            ([END_OF_SEQUENCE, slice, END_OF_SEQUENCE], true),
            ([NO_PICTURE, END_OF_SEQUENCE, &[]], true),
        ] {
            assert_eq!(ends_sequence(&nals.concat()), ends, "{nals:?}");
        }

        let stream = std::fs::read(made("open_gop_rasl")).unwrap();
        let units = access_units(&stream);
        let ended = [units[0], END_OF_SEQUENCE].concat();
        for (first, finish, repeats) in [
            (&ended[..], true, true),
            (&ended[..], false, false),
            (units[0], true, false),
        ] {
            let two = NonZero::new(2).unwrap();
            let mut decoder = HevcDecoder::new(Threading::Frames(two)).unwrap();
            decoder.send(first, 0, &mut drop).unwrap();
            if finish {
                decoder.finish(&mut drop).unwrap();
            }
            assert_eq!(decoder.repeat_end, repeats);
            decoder.send(units[0], 1, &mut drop).unwrap();
            assert!(!decoder.repeat_end);
        }
    }

    /// Pictures that are taken where they are begun are what libavcodec gives out later: the same
    /// buffers, with the same said about them.
    #[test]
    fn a_picture_is_what_libavcodec_gives_out() {
        for recipe in [
            "default_gop",
            "bits_10",
            "bits_12",
            "chroma_422",
            "chroma_422_bits_10",
            "chroma_444_bits_12",
            "gray",
            "gray_bits_10",
            "odd_size_444",
            "cropped_left_and_top",
            "cropped_odd_444",
            "display_window",
            "pixel_aspect",
            "fields",
            "bt601_full",
            "bt2020_limited",
            "pq",
            "hlg",
            "open_gop_rasl",
            "annexb_joined",
        ] {
            let stream = std::fs::read(made(recipe)).unwrap();
            let two = NonZero::new(2).unwrap();
            for threading in [
                Threading::Single,
                Threading::Slices(two),
                Threading::Frames(two),
            ] {
                let mut decoder = HevcDecoder::new(threading).unwrap();
                // Kept, so that no buffer is used twice.
                let (mut taken, mut given) = (Vec::new(), Vec::new());
                for (id, unit) in access_units(&stream).into_iter().enumerate() {
                    let mut take = |p| taken.push(p);
                    let mut give = |f| given.push(f);
                    decoder
                        .send_watched(unit, id as i64, &mut take, &mut give)
                        .unwrap();
                }
                decoder.finish(&mut |p| taken.push(p)).unwrap();
                // The rest, as libavcodec wants to be asked for it.
                let context = decoder.context.pointer.as_ptr();
                // SAFETY: the context is valid; a null packet asks for what is still inside.
                unsafe { sys::avcodec_send_packet(context, ptr::null()) };
                decoder
                    .receive_all(&mut |f| given.push(f))
                    .unwrap_or_else(|_| panic!("{recipe}"));
                let taken: HashMap<i64, &Picture> =
                    taken.iter().map(|p| (p.frame().pts, p)).collect();
                assert!(given.len() >= 12);
                let mut compared = 0;
                for frame in &given {
                    let frame = frame.get();
                    let picture = taken[&frame.pts];
                    assert_eq!(said(picture.frame()), said(frame), "{recipe} {threading:?}");
                    assert!(!picture.is_damaged());
                    compared += 1;
                }
                // With `finish`, a few were given out unseen.
                assert!(compared + 3 > taken.len(), "{recipe} {threading:?}");
            }
        }
    }
}
