//! libavcodec behind a safe seam, and the C library that it allocates from.

#[cfg_attr(not(target_os = "linux"), path = "nowhere.rs")]
mod arena;
mod begun;
mod decoder;
mod memory;
mod picture;
mod still;

#[cfg(target_os = "linux")]
pub(crate) use arena::FrameArena;
pub use decoder::{DEFAULT_MAX_PIXELS, HevcDecoder, Threading};
pub use memory::give_back_large_blocks;
pub use picture::{Chroma, Picture, PictureType, Plane, Rows};
pub(crate) use still::{Planes420, encode, has_encoder};

use std::ffi::CStr;
use std::sync::Once;

use ffmpeg_sys_the_third as sys;

/// Stops libav* from writing to stderr: what went wrong comes back as a [`crate::CodecError`].
fn silence_log() {
    static ONCE: Once = Once::new();
    // SAFETY: sets one global integer; `Once` keeps two threads from doing so at a time.
    ONCE.call_once(|| unsafe { sys::av_log_set_level(sys::AV_LOG_QUIET) });
}

/// libavutil's sentence for an error code.
fn describe(code: i32) -> String {
    let mut text = [0u8; 128];
    // SAFETY: `av_strerror` writes at most `text.len()` bytes, a terminating zero among them, and
    // keeps no pointer.
    unsafe { sys::av_strerror(code, text.as_mut_ptr().cast(), text.len()) };
    CStr::from_bytes_until_nul(&text).map_or_else(
        |_| format!("error {code}"),
        |s| s.to_string_lossy().into_owned(),
    )
}
