//! Where no memory is shared with other processes, no buffer comes from there.

use std::ffi::c_int;
use std::sync::Arc;

use ffmpeg_sys_the_third as sys;

/// There is none.
#[derive(Debug)]
pub(crate) enum FrameArena {}

impl FrameArena {
    /// # Safety
    /// It is never called.
    pub(super) unsafe fn get_buffer(
        self: &Arc<Self>,
        _context: *mut sys::AVCodecContext,
        _frame: *mut sys::AVFrame,
    ) -> c_int {
        match **self {}
    }
}
