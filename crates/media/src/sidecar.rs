//! The offsets sidecar: `<video>.offsets.json`.
//!
//! Frames stand in presentation order. A client needs no more than this file to request frames by
//! byte offset.

use serde::{Deserialize, Serialize};

use crate::index::VideoIndex;
use crate::order::{DecodeIndex, PresentationIndex};

/// The whole file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct OffsetsFile {
    /// Where the video lies (`fs:///absolute/path`, `s3://bucket/key`, or what the user gave).
    pub video_url: String,
    /// In presentation order.
    pub frames: Vec<FrameOffset>,
}

/// One frame.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FrameOffset {
    /// File position of the frame's sample.
    pub offset: u64,
    /// File position of the IRAP that a plain decoder has to start from.
    pub irap_offset: u64,
    /// Bytes of the sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// Presentation time in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pts: Option<f64>,
    /// The sample is a sync sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyframe: Option<bool>,
}

/// The sync sample from which a decoder that knows nothing but the container has to start, so
/// that `target` comes out: the last one at or before it, or, for a picture shown before that
/// one (a leading picture, which may refer to what lies before), the sync sample before it.
pub fn plain_start(index: &VideoIndex, target: DecodeIndex) -> Option<DecodeIndex> {
    let sync = index.sync_at_or_before(target)?;
    if !is_leading(index, target, sync) {
        return Some(sync);
    }
    let before = sync.0.checked_sub(1).map(DecodeIndex);
    before
        .and_then(|b| index.sync_at_or_before(b))
        .or(Some(sync))
}

/// Whether `target` follows `sync` in decode order but is shown before it.
pub fn is_leading(index: &VideoIndex, target: DecodeIndex, sync: DecodeIndex) -> bool {
    match (index.composition_time(target), index.composition_time(sync)) {
        (Some(t), Some(s)) => target > sync && t < s,
        _ => false,
    }
}

impl OffsetsFile {
    /// The sidecar of an index.
    pub fn new(video_url: String, index: &VideoIndex) -> Self {
        let frames = (0..index.frame_count())
            .filter_map(|frame| Self::frame(index, PresentationIndex(frame)))
            .collect();
        Self { video_url, frames }
    }

    /// One frame's entry.
    pub fn frame(index: &VideoIndex, frame: PresentationIndex) -> Option<FrameOffset> {
        let scale = f64::from(index.timescale().max(1));
        let sample = index.sample(index.decode_index(frame)?)?;
        let start = plain_start(index, sample.index).unwrap_or(sample.index);
        Some(FrameOffset {
            offset: sample.offset,
            irap_offset: index.sample(start)?.offset,
            size: Some(sample.size),
            pts: index.presentation_time(frame).map(|t| t as f64 / scale),
            keyframe: Some(sample.sync),
        })
    }
}
