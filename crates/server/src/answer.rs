//! The one place where the engine's words become the protocol's.

use engine::{OpenError, Video};
use protocol::{
    FrameAddress, FrameErrorCode, FrameRequest, RequestId, ServerMessage, VideoDescription,
    VideoErrorCode,
};

use crate::access::Ended;
use crate::address::Unknown;
use crate::due::DueFrame;

/// The protocol's code for the engine's.
pub(crate) fn code(code: engine::FrameErrorCode) -> FrameErrorCode {
    use engine::FrameErrorCode as Engine;
    match code {
        Engine::NotDecodable => FrameErrorCode::NotDecodable,
        Engine::DecodeFailed => FrameErrorCode::DecodeFailed,
        Engine::EncodeFailed => FrameErrorCode::EncodeFailed,
        Engine::StorageFailed => FrameErrorCode::StorageFailed,
        Engine::VideoChanged => FrameErrorCode::VideoChanged,
        Engine::GopTooLarge => FrameErrorCode::GopTooLarge,
        Engine::Cancelled => FrameErrorCode::Cancelled,
    }
}

/// What announces a picture of so many bytes.
pub(crate) fn frame(
    frame: &DueFrame,
    request_id: Option<&RequestId>,
    size: usize,
    preview: bool,
) -> ServerMessage {
    ServerMessage::Frame {
        index: frame.index,
        offset: frame.place.offset,
        frame: frame.place.frame,
        size: size as u64,
        request_id: request_id.cloned(),
        preview,
    }
}

/// The answer to a frame that does not come, and has none of the engine's words.
pub(crate) fn unknown_frame(
    frame: &FrameRequest,
    request_id: Option<&RequestId>,
    unknown: &Unknown,
) -> ServerMessage {
    ServerMessage::FrameError {
        index: frame.index,
        offset: match frame.address {
            FrameAddress::Offset(offset) => Some(offset),
            FrameAddress::Frame(_) | FrameAddress::Time(_) => None,
        },
        error: unknown.code,
        message: unknown.message.clone(),
        request_id: request_id.cloned(),
    }
}

/// The answer to a `SetVideo` that went well.
pub(crate) fn video_set(path: String, video: &Video) -> ServerMessage {
    ServerMessage::VideoSet {
        path,
        ok: true,
        video: Some(describe(video)),
    }
}

/// Why a video was not opened, in the protocol's words.
pub(crate) fn refusal(path: &str, error: &OpenError) -> (VideoErrorCode, String) {
    use storage::StorageErrorKind::Changed;
    match error {
        // What a client tried to reach outside the store reads as what does not exist.
        OpenError::NotFound { .. } => (VideoErrorCode::NotFound, not_found(path)),
        OpenError::Storage(e) if e.kind().reads_as_not_found() => {
            (VideoErrorCode::NotFound, not_found(path))
        }
        OpenError::Storage(e) if e.kind() == Changed => {
            (VideoErrorCode::VideoChanged, e.to_string())
        }
        OpenError::Storage(e) => (VideoErrorCode::StorageFailed, e.to_string()),
        OpenError::NotVideo { .. } => (VideoErrorCode::NotAVideo, error.to_string()),
    }
}

/// The two answers to a `SetVideo` that did not.
pub(crate) fn video_not_set(path: String, error: &OpenError) -> [ServerMessage; 2] {
    let (code, message) = refusal(&path, error);
    [
        ServerMessage::Error {
            message,
            error: Some(code),
        },
        ServerMessage::VideoSet {
            path,
            ok: false,
            video: None,
        },
    ]
}

/// The answer to what needs a token that has ended.
pub(crate) fn unauthorized() -> ServerMessage {
    ServerMessage::Error {
        message: Ended::MESSAGE.into(),
        error: Some(VideoErrorCode::Unauthorized),
    }
}

/// The two answers to a `SetVideo` by a token that has ended.
pub(crate) fn video_not_set_for_want_of_token(path: String) -> [ServerMessage; 2] {
    [
        unauthorized(),
        ServerMessage::VideoSet {
            path,
            ok: false,
            video: None,
        },
    ]
}

fn not_found(path: &str) -> String {
    format!("Video not found: {path}")
}

fn describe(video: &Video) -> VideoDescription {
    let (info, index) = (video.info(), video.index());
    let orientation = index.orientation();
    let (horizontal, vertical) = lowest_terms(info.pixel_aspect.unwrap_or((1, 1)));
    VideoDescription {
        width: info.width,
        height: info.height,
        frame_count: index.frame_count().into(),
        duration_ms: info.duration_ms.round() as u64,
        // Not more digits than mean something: 29.97002997 is 29.97003.
        fps: (info.fps * 1e6).round() / 1e6,
        codec: info.codec.clone(),
        bit_depth: info.bit_depth,
        chroma: chroma(info.chroma_format_idc).to_owned(),
        rotation: u16::from(orientation.quarter_turns) * 90,
        mirrored: orientation.mirrored,
        pixel_aspect_ratio: if orientation.swaps_axes() {
            [vertical, horizontal]
        } else {
            [horizontal, vertical]
        },
    }
}

/// Cameras write squares as 65536:65536. A ratio with a zero says nothing: square.
pub(crate) fn lowest_terms((horizontal, vertical): (u32, u32)) -> (u32, u32) {
    let (mut divisor, mut rest) = (horizontal, vertical);
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    if horizontal == 0 || vertical == 0 {
        return (1, 1);
    }
    (horizontal / divisor, vertical / divisor)
}

/// `chroma_format_idc` (H.265 table 6-1) in the usual notation.
pub(crate) fn chroma(chroma_format_idc: u8) -> &'static str {
    match chroma_format_idc {
        0 => "4:0:0",
        1 => "4:2:0",
        2 => "4:2:2",
        _ => "4:4:4",
    }
}

#[cfg(test)]
mod tests {
    use super::lowest_terms;

    #[test]
    fn pixel_aspect_ratios_are_in_lowest_terms() {
        for (coded, told) in [
            ((1, 1), (1, 1)),
            ((65536, 65536), (1, 1)),
            ((40, 33), (40, 33)),
            ((1920, 1080), (16, 9)),
            ((u32::MAX, 5), (858_993_459, 1)),
            ((0, 0), (1, 1)),
            ((0, 7), (1, 1)),
            ((7, 0), (1, 1)),
        ] {
            assert_eq!(lowest_terms(coded), told);
        }
    }
}
