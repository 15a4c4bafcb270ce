//! The one place where the engine's words become the protocol's.

use engine::{OpenError, Video};
use protocol::{FrameErrorCode, FrameRequest, ServerMessage, VideoDescription};

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

/// The answer to a frame that does not come.
pub(crate) fn frame_error(
    request: &FrameRequest,
    error: FrameErrorCode,
    message: impl Into<String>,
) -> ServerMessage {
    ServerMessage::FrameError {
        index: request.index,
        offset: request.offset,
        error,
        message: message.into(),
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

/// The two answers to a `SetVideo` that did not.
pub(crate) fn video_not_set(path: String, error: &OpenError) -> [ServerMessage; 2] {
    let message = match error {
        // What a client tried to reach outside the store reads as what does not exist.
        OpenError::NotFound { .. } => not_found(&path),
        OpenError::Storage(e) if e.kind().reads_as_not_found() => not_found(&path),
        other => other.to_string(),
    };
    [
        ServerMessage::Error { message },
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
    let (horizontal, vertical) = info.pixel_aspect.unwrap_or((1, 1));
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

/// `chroma_format_idc` (H.265 table 6-1) in the usual notation.
fn chroma(chroma_format_idc: u8) -> &'static str {
    match chroma_format_idc {
        0 => "4:0:0",
        1 => "4:2:0",
        2 => "4:2:2",
        _ => "4:4:4",
    }
}
