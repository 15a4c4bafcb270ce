//! Limits and sizes of the engine.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::memory::usable_memory;

/// How the engine is sized.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Decoding threads. A lone request uses as many threads inside its decoder.
    pub workers: usize,
    /// JPEG quality, 1 to 100.
    pub jpeg_quality: u8,
    /// The longest run of compressed samples that is read for one target, in bytes.
    /// What would need more is refused with [`crate::FrameErrorCode::GopTooLarge`].
    pub max_group_bytes: u64,
    /// Compressed bytes that all runs that are worked on together may hold. At least
    /// `max_group_bytes`.
    pub max_bytes_in_flight: u64,
    /// Where only some samples of a GOP are needed: bytes between two of them that are read along
    /// rather than with a request of their own.
    pub read_gap: u64,
    /// Encoded bytes of one client that may wait for being taken.
    pub max_waiting_image_bytes: usize,
    /// Encoded bytes of all clients that may wait for being taken: the more do, the fewer may for
    /// each, but half a MiB always.
    pub max_waiting_bytes_in_all: usize,
    /// The largest picture that is decoded, in luma samples.
    pub max_pixels: u64,
    /// The most access units that are decoded for one frame, with all that it depends on; `None`: as
    /// many as it takes. What would need more is refused with
    /// [`crate::FrameErrorCode::GopTooLarge`].
    pub max_access_units: Option<usize>,
    /// How long decoding may go on without a frame that is wanted.
    pub decode_time: Duration,
    /// Where libavcodec decodes.
    pub isolation: Isolation,
    /// Bytes of images, compressed runs and indexes that are kept in memory; 0: nothing is.
    pub cache_bytes: u64,
    /// Where images and compressed runs are kept beyond memory.
    pub disk_cache: Option<DiskCacheConfig>,
    /// Whether idle workers make what is likely to be wanted next.
    pub harvest: bool,
    /// Whether [`crate::Client::prefetch`] reads anything.
    pub prefetch: bool,
}

/// Where libavcodec decodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Isolation {
    /// In this process, in the threads that ask for it.
    Thread,
    /// In processes of their own, which can do nothing else, by this program.
    Process(DecodeWorker),
}

/// A program that calls [`crate::decode_worker`] when it is started so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DecodeWorker {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its environment, which is empty otherwise.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it cannot be had, the engine does not start. Else it says so, and decodes in threads.
    pub required: bool,
}

/// A cache on disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskCacheConfig {
    /// Its folder; made if it is not there.
    pub folder: PathBuf,
    /// Bytes that it may take.
    pub bytes: u64,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            workers: usable_cores(),
            jpeg_quality: 80,
            max_group_bytes: 256 << 20,
            max_bytes_in_flight: 512 << 20,
            read_gap: 16 << 10,
            max_waiting_image_bytes: 32 << 20,
            max_waiting_bytes_in_all: (usable_memory() / 16).clamp(64 << 20, 512 << 20) as usize,
            max_pixels: codec::DEFAULT_MAX_PIXELS,
            max_access_units: None,
            decode_time: Duration::from_secs(60),
            isolation: Isolation::Thread,
            cache_bytes: usable_memory() / 4,
            disk_cache: None,
            harvest: true,
            prefetch: true,
        }
    }
}

/// Cores that this process may use (affinity and cgroup quota are honoured).
pub fn usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
