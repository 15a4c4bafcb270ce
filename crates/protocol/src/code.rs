//! The codes that say why a frame did not come, or a video was not set.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a requested frame gets no picture: the `error` of a `FrameError`. Codes are stable; new
/// ones may be added.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameErrorCode {
    /// No video is set on this connection.
    NoVideo,
    /// No frame of the video lies at this offset.
    UnknownOffset,
    /// The video has no frame of this number, or none at this time.
    UnknownFrame,
    /// The stream does not hold what this picture needs (a RASL picture with no earlier IRAP).
    NotDecodable,
    /// The decoder refused the bytes, or decoded them with errors.
    DecodeFailed,
    /// The picture could not be made into a JPEG.
    EncodeFailed,
    /// The storage did not deliver the bytes.
    StorageFailed,
    /// More frames than the server takes in one message, or than may be due in one session.
    TooManyFrames,
    /// The frame is no longer wanted: the client took it back, or another video was set.
    Cancelled,
    /// The bytes from the IRAP to the frame are more than the server holds at once.
    GopTooLarge,
    /// The object was replaced while it was open; set the video again.
    VideoChanged,
    /// More frames than the client may ask for in a second; ask again later.
    RateLimited,
    /// The token with which the connection was opened has ended.
    Unauthorized,
    /// Only ever received: a code that this version does not know.
    #[serde(other, skip_serializing)]
    Unrecognised,
}

impl FrameErrorCode {
    /// Every code that is ever sent, in the order of the documentation.
    pub const ALL: [Self; 13] = [
        Self::NoVideo,
        Self::UnknownOffset,
        Self::UnknownFrame,
        Self::NotDecodable,
        Self::DecodeFailed,
        Self::EncodeFailed,
        Self::StorageFailed,
        Self::TooManyFrames,
        Self::Cancelled,
        Self::GopTooLarge,
        Self::VideoChanged,
        Self::RateLimited,
        Self::Unauthorized,
    ];

    /// The code as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoVideo => "no_video",
            Self::UnknownOffset => "unknown_offset",
            Self::UnknownFrame => "unknown_frame",
            Self::NotDecodable => "not_decodable",
            Self::DecodeFailed => "decode_failed",
            Self::EncodeFailed => "encode_failed",
            Self::StorageFailed => "storage_failed",
            Self::TooManyFrames => "too_many_frames",
            Self::Cancelled => "cancelled",
            Self::GopTooLarge => "gop_too_large",
            Self::VideoChanged => "video_changed",
            Self::RateLimited => "rate_limited",
            Self::Unauthorized => "unauthorized",
            Self::Unrecognised => "unrecognised",
        }
    }
}

impl fmt::Display for FrameErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a video was not set: the `error` of the `Error` that stands before a `VideoSet` which is not
/// ok. Codes are stable; new ones may be added.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VideoErrorCode {
    /// There is no such video, or none that may be seen.
    NotFound,
    /// The object is no H.265 video that can be served.
    NotAVideo,
    /// The storage did not deliver what its index needs.
    StorageFailed,
    /// The object was replaced again and again while its index was read.
    VideoChanged,
    /// The token with which the connection was opened has ended.
    Unauthorized,
    /// Only ever received: a code that this version does not know.
    #[serde(other, skip_serializing)]
    Unrecognised,
}

impl VideoErrorCode {
    /// Every code that is ever sent, in the order of the documentation.
    pub const ALL: [Self; 5] = [
        Self::NotFound,
        Self::NotAVideo,
        Self::StorageFailed,
        Self::VideoChanged,
        Self::Unauthorized,
    ];

    /// The code as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::NotAVideo => "not_a_video",
            Self::StorageFailed => "storage_failed",
            Self::VideoChanged => "video_changed",
            Self::Unauthorized => "unauthorized",
            Self::Unrecognised => "unrecognised",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FrameErrorCode, VideoErrorCode};

    #[test]
    fn a_code_reads_as_it_is_written() {
        for code in FrameErrorCode::ALL {
            let wire = serde_json::to_string(&code).unwrap();
            assert_eq!(wire, format!("\"{}\"", code.as_str()));
            assert_eq!(serde_json::from_str::<FrameErrorCode>(&wire).unwrap(), code);
        }
        for code in VideoErrorCode::ALL {
            let wire = serde_json::to_string(&code).unwrap();
            assert_eq!(wire, format!("\"{}\"", code.as_str()));
            assert_eq!(serde_json::from_str::<VideoErrorCode>(&wire).unwrap(), code);
        }
    }

    #[test]
    fn a_code_of_a_later_version_is_still_a_code() {
        let code: FrameErrorCode = serde_json::from_str("\"out_of_tea\"").unwrap();
        assert_eq!(code, FrameErrorCode::Unrecognised);
        assert!(serde_json::to_string(&code).is_err());
    }
}
