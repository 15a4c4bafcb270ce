//! Why a picture could not be decoded, converted or encoded.

use serde::{Deserialize, Serialize};

/// Errors of this crate. None of them makes a [`crate::HevcDecoder`] or a
/// [`crate::ImageEncoder`] unusable.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug, thiserror::Error)]
pub enum CodecError {
    /// An allocation failed.
    #[error("out of memory")]
    OutOfMemory,
    /// The linked libavcodec has no HEVC decoder, or it did not open.
    #[error("the HEVC decoder of libavcodec cannot be opened: {reason}")]
    DecoderUnavailable {
        /// What libavcodec said.
        reason: String,
    },
    /// The process that decoded is gone, and with it all that the decoder was given. What goes on
    /// with the next access unit is another one, in its initial state.
    #[error("the process that decodes {reason}")]
    WorkerLost {
        /// The sentence's end.
        reason: String,
    },
    /// An access unit that is empty or larger than libavcodec can take.
    #[error("an access unit of {bytes} bytes cannot be decoded")]
    AccessUnitSize {
        /// Its size.
        bytes: usize,
    },
    /// libavcodec refused data.
    #[error("{}: {reason}", match .id { Some(id) => format!("access unit {id} cannot be decoded"), None => "decoding failed".into() })]
    Decode {
        /// The identity of the access unit that was being sent. With [`crate::Threading::Frames`]
        /// the cause may be an earlier one, and this is `None`.
        id: Option<i64>,
        /// What libavcodec said.
        reason: String,
    },
    /// The decoder gave a picture in a format that this crate does not read.
    #[error("pictures in the format {format} are not supported")]
    UnsupportedFormat {
        /// libavutil's name of the format, or what is wrong with it.
        format: String,
    },
    /// A JPEG quality outside 1 to 100.
    #[error("JPEG quality {quality} is not between 1 and 100")]
    Quality {
        /// The quality asked for.
        quality: u8,
    },
    /// A picture that JPEG cannot hold: more than 65535 (libjpeg: 65500) rows or columns.
    #[error("a picture of {width}x{height} does not fit into a JPEG image")]
    TooLargeForJpeg {
        /// Width of the image.
        width: usize,
        /// Height of the image.
        height: usize,
    },
    /// A picture could not be scaled.
    #[error("scaling failed: {reason}")]
    Scale {
        /// What the resizer said.
        reason: String,
    },
    /// libjpeg-turbo failed.
    #[error("the JPEG encoder failed: {reason}")]
    Encode {
        /// What libjpeg-turbo said.
        reason: String,
    },
}
