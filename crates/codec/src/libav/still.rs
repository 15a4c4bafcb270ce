//! Single pictures through libavcodec's encoders: WebP by libwebp, AV1 by libaom. The distributions
//! build both in; where one is missing, that is an error of the one format.

use std::ffi::CStr;
use std::ptr::{self, NonNull};

use ffmpeg_sys_the_third as sys;

use super::{describe, silence_log};
use crate::CodecError;

/// Planes of a 4:2:0 picture, 8 bit.
#[derive(Clone, Copy)]
pub(crate) struct Planes420<'a> {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Samples and stride of luma, Cb, Cr.
    pub(crate) planes: [(&'a [u8], usize); 3],
    /// Full range; else limited.
    pub(crate) full_range: bool,
}

/// How an encoder is set: names and values of its options.
pub(crate) type Options<'a> = &'a [(&'a CStr, &'a CStr)];

/// Whether libavcodec has an encoder of this name.
pub(crate) fn has_encoder(name: &CStr) -> bool {
    // SAFETY: reads a list that never changes; the name ends with a zero.
    !unsafe { sys::avcodec_find_encoder_by_name(name.as_ptr()) }.is_null()
}

/// Encodes one picture, and gives what the encoder gave.
pub(crate) fn encode(
    name: &CStr,
    options: Options<'_>,
    picture: &Planes420<'_>,
) -> Result<Vec<u8>, CodecError> {
    silence_log();
    let (Ok(width), Ok(height)) = (i32::try_from(picture.width), i32::try_from(picture.height))
    else {
        return Err(failed("the picture is too large"));
    };
    // SAFETY: as in `has_encoder`.
    let codec = unsafe { sys::avcodec_find_encoder_by_name(name.as_ptr()) };
    if codec.is_null() {
        let name = name.to_string_lossy();
        return Err(failed(&format!("libavcodec has no encoder {name}")));
    }
    let range = if picture.full_range {
        sys::AVColorRange::JPEG
    } else {
        sys::AVColorRange::MPEG
    };
    let matrix = sys::AVColorSpace::SMPTE170M;
    // SAFETY: the encoder is a valid one; what is returned is owned or null.
    let context = Context(owned(unsafe { sys::avcodec_alloc_context3(codec) })?);
    {
        // SAFETY: allocated above, owned by this function alone, not open yet.
        let context = unsafe { &mut *context.0.as_ptr() };
        (context.width, context.height) = (width, height);
        context.pix_fmt = sys::AVPixelFormat::YUV420P;
        context.time_base = sys::AVRational { num: 1, den: 25 };
        context.color_range = range;
        context.colorspace = matrix;
        // It runs on a worker's thread, beside others.
        context.thread_count = 1;
    }
    let mut settings = Dictionary(ptr::null_mut());
    for (option, value) in options {
        // SAFETY: a valid place for a dictionary, and texts that end with a zero, which are copied.
        let code =
            unsafe { sys::av_dict_set(&raw mut settings.0, option.as_ptr(), value.as_ptr(), 0) };
        check(code)?;
    }
    // SAFETY: the context is not open; the dictionary is a valid one, and is replaced by what was
    // not understood.
    check(unsafe { sys::avcodec_open2(context.0.as_ptr(), codec, &raw mut settings.0) })?;
    // SAFETY: returns an owned frame or null.
    let frame = Frame(owned(unsafe { sys::av_frame_alloc() })?);
    {
        // SAFETY: allocated above, owned by this function alone.
        let frame = unsafe { &mut *frame.0.as_ptr() };
        (frame.width, frame.height) = (width, height);
        frame.format = sys::AVPixelFormat::YUV420P.0;
        frame.color_range = range;
        frame.colorspace = matrix;
        frame.pts = 0;
    }
    // SAFETY: format and size are set, and no buffer is.
    check(unsafe { sys::av_frame_get_buffer(frame.0.as_ptr(), 0) })?;
    fill(&frame, picture)?;
    // SAFETY: an open encoder and a filled frame, which it takes a reference to; then null, which
    // says that no more frames come.
    check(unsafe { sys::avcodec_send_frame(context.0.as_ptr(), frame.0.as_ptr()) })?;
    // SAFETY: as above.
    check(unsafe { sys::avcodec_send_frame(context.0.as_ptr(), ptr::null()) })?;
    // SAFETY: returns an owned packet or null.
    let packet = Packet(owned(unsafe { sys::av_packet_alloc() })?);
    // SAFETY: an open encoder and an empty packet.
    check(unsafe { sys::avcodec_receive_packet(context.0.as_ptr(), packet.0.as_ptr()) })?;
    // SAFETY: filled by libavcodec just now.
    let (data, size) = unsafe { ((*packet.0.as_ptr()).data, (*packet.0.as_ptr()).size) };
    let size = usize::try_from(size).unwrap_or(0);
    if data.is_null() || size == 0 {
        return Err(failed("the encoder gave nothing"));
    }
    // SAFETY: the packet holds so many bytes there, as long as it lives.
    Ok(unsafe { std::slice::from_raw_parts(data, size) }.to_vec())
}

/// Copies the planes into the frame's own.
fn fill(frame: &Frame, picture: &Planes420<'_>) -> Result<(), CodecError> {
    let chroma = (picture.width.div_ceil(2), picture.height.div_ceil(2));
    let sizes = [(picture.width, picture.height), chroma, chroma];
    for (plane, ((samples, stride), (width, height))) in
        picture.planes.into_iter().zip(sizes).enumerate()
    {
        // SAFETY: the frame is a valid one; its first three planes have been allocated.
        let (to, pitch) = unsafe {
            let frame = &*frame.0.as_ptr();
            (
                frame.data.get(plane).copied().unwrap_or(ptr::null_mut()),
                frame.linesize.get(plane).copied().unwrap_or(0),
            )
        };
        let pitch = usize::try_from(pitch).unwrap_or(0);
        if to.is_null() || pitch < width {
            return Err(failed("the frame has no planes"));
        }
        for y in 0..height {
            let row = samples.get(y * stride..y * stride + width);
            let row = row.ok_or_else(|| failed("a plane is too small"))?;
            // SAFETY: `av_frame_get_buffer` has allocated `pitch` bytes for each of the plane's
            // rows, of which there are `height` for this format; `row` is another memory.
            unsafe { ptr::copy_nonoverlapping(row.as_ptr(), to.add(y * pitch), width) };
        }
    }
    Ok(())
}

fn failed(reason: &str) -> CodecError {
    CodecError::Encode {
        reason: reason.to_owned(),
    }
}

fn check(code: i32) -> Result<(), CodecError> {
    if code < 0 {
        return Err(failed(&describe(code)));
    }
    Ok(())
}

fn owned<T>(pointer: *mut T) -> Result<NonNull<T>, CodecError> {
    NonNull::new(pointer).ok_or(CodecError::OutOfMemory)
}

struct Context(NonNull<sys::AVCodecContext>);

impl Drop for Context {
    fn drop(&mut self) {
        let mut pointer = self.0.as_ptr();
        // SAFETY: owned by this value, freed once.
        unsafe { sys::avcodec_free_context(&raw mut pointer) };
    }
}

struct Frame(NonNull<sys::AVFrame>);

impl Drop for Frame {
    fn drop(&mut self) {
        let mut pointer = self.0.as_ptr();
        // SAFETY: owned by this value, freed once.
        unsafe { sys::av_frame_free(&raw mut pointer) };
    }
}

struct Packet(NonNull<sys::AVPacket>);

impl Drop for Packet {
    fn drop(&mut self) {
        let mut pointer = self.0.as_ptr();
        // SAFETY: owned by this value, freed once.
        unsafe { sys::av_packet_free(&raw mut pointer) };
    }
}

struct Dictionary(*mut sys::AVDictionary);

impl Drop for Dictionary {
    fn drop(&mut self) {
        // SAFETY: null or a dictionary of this value's own, freed once.
        unsafe { sys::av_dict_free(&raw mut self.0) };
    }
}
