//! What is more than this is refused: far above what cameras and editors write, and low enough
//! that a hostile file cannot ask for much.

/// Samples of one track: 74 hours at 60 frames a second.
pub(super) const SAMPLES: u64 = 16_000_000;
/// Bytes of `moov`.
pub(super) const MOOV: u64 = 512 * 1024 * 1024;
/// Bytes of one `moof`.
pub(super) const MOOF: u64 = 64 * 1024 * 1024;
/// Bytes of an index of fragments (`sidx`, `mfra`); a larger one is passed over.
pub(super) const FRAGMENT_INDEX: u64 = 16 * 1024 * 1024;
/// Boxes at the top level in a row that bring no sample of the video.
pub(super) const BOXES_WITHOUT_SAMPLES: u32 = 65_536;
/// Bytes of a first sample that are searched for parameter sets.
pub(super) const FIRST_SAMPLE: u64 = 64 * 1024;
