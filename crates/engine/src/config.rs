//! Limits and sizes of the engine.

/// How the engine is sized.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Decoding threads. A lone request uses as many threads inside its decoder.
    pub workers: usize,
    /// JPEG quality, 1 to 100.
    pub jpeg_quality: u8,
    /// The longest run of compressed samples that is read for one group of targets, in bytes.
    /// What would need more is refused with [`crate::FrameErrorCode::GopTooLarge`].
    pub max_group_bytes: u64,
    /// Compressed bytes that all groups together may hold. At least `max_group_bytes`.
    pub max_bytes_in_flight: u64,
    /// Encoded bytes of one request that may wait for being taken.
    pub max_waiting_image_bytes: usize,
    /// The largest picture that is decoded, in luma samples.
    pub max_pixels: u64,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            workers: usable_cores(),
            jpeg_quality: 80,
            max_group_bytes: 256 << 20,
            max_bytes_in_flight: 512 << 20,
            max_waiting_image_bytes: 32 << 20,
            max_pixels: codec::DEFAULT_MAX_PIXELS,
        }
    }
}

/// Cores that this process may use (affinity and cgroup quota are honoured).
pub fn usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
