//! What the server sends.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::code::{FrameErrorCode, VideoErrorCode};
use crate::error::{MessageError, describe, quote};
use crate::request::RequestId;

/// A reply. A client must tolerate fields that it does not know.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum ServerMessage {
    /// The answer to `SetVideo`.
    VideoSet {
        /// The path as the client sent it.
        path: String,
        /// Whether the video is set. If not, an `Error` stands before this message.
        ok: bool,
        /// What the video is; only with `ok`.
        #[serde(flatten)]
        video: Option<VideoDescription>,
    },
    /// A picture. The next message is binary: the JPEG.
    Frame {
        /// As in the request.
        index: i64,
        /// As in the request where that names one; else, and of a preview, where the picture's
        /// sample lies.
        offset: u64,
        /// The picture's place in presentation order; absent if an edit list hides it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        frame: Option<u64>,
        /// Bytes of the binary message that follows.
        size: u64,
        /// As in the request.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request_id: Option<RequestId>,
        /// Not the picture that was asked for, but one near it: the answer itself still comes.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        preview: bool,
    },
    /// A requested frame that does not come.
    FrameError {
        /// As in the request.
        index: i64,
        /// As in the request where that names one, else where the frame's sample lies; absent
        /// where there is no such frame.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offset: Option<u64>,
        /// Why, for programs.
        error: FrameErrorCode,
        /// Why, for people.
        #[serde(default)]
        message: String,
        /// As in the request.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request_id: Option<RequestId>,
    },
    /// Part of the answer to `GetIndex`.
    Index(IndexPiece),
    /// The answer to `GetStats`.
    Stats(SessionStats),
    /// Something about a message or the video is wrong.
    Error {
        /// What, for people.
        message: String,
        /// What, for programs; only where a video was not set.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<VideoErrorCode>,
    },
}

/// What `VideoSet` says of a video.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct VideoDescription {
    /// Pixels of the delivered pictures: cropped and rotated.
    pub width: u32,
    /// Pixels of the delivered pictures: cropped and rotated.
    pub height: u32,
    /// Pictures that are shown.
    pub frame_count: u64,
    /// From the first picture's time to the last one's end, in milliseconds.
    pub duration_ms: u64,
    /// Mean pictures per second.
    pub fps: f64,
    /// The codec as RFC 6381 writes it, as in `hvc1.1.6.L93.B0`.
    pub codec: String,
    /// Bits per sample of the coded pictures.
    pub bit_depth: u8,
    /// Chroma format of the coded pictures: `4:0:0`, `4:2:0`, `4:2:2` or `4:4:4`.
    pub chroma: String,
    /// Degrees clockwise that the coded pictures have been turned by: 0, 90, 180 or 270.
    pub rotation: u16,
    /// Whether the coded pictures have been mirrored (left–right, before the rotation).
    pub mirrored: bool,
    /// Width and height of one delivered pixel; `[1,1]` is square. Pictures are not stretched.
    pub pixel_aspect_ratio: [u32; 2],
}

/// A run of frames in presentation order. The arrays are equally long.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct IndexPiece {
    /// Presentation number of the first frame in this message.
    pub from: u64,
    /// Frames of the whole video.
    pub frame_count: u64,
    /// Ticks per second.
    pub timescale: u32,
    /// Where each frame's sample lies in the object.
    pub offset: Vec<u64>,
    /// Bytes of each sample.
    pub size: Vec<u32>,
    /// Presentation times, in ticks.
    pub pts: Vec<i64>,
    /// 1 for a sync sample, else 0.
    pub keyframe: Vec<u8>,
}

/// What a session did so far.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionStats {
    /// Pictures sent, previews apart.
    pub frames: u64,
    /// Previews sent.
    pub previews: u64,
    /// `FrameError`s sent, those with `cancelled` among them.
    pub frame_errors: u64,
    /// `FrameError`s sent with `cancelled`.
    pub cancelled: u64,
    /// Frames that came from the cache.
    pub cache_hits: u64,
    /// Frames that came from work which had begun for another request.
    pub joined: u64,
    /// Access units decoded for this session.
    pub access_units_decoded: u64,
    /// Access units that its frames depend on, as if each were decoded alone.
    pub access_units_needed: u64,
    /// Bytes read from the store for this session.
    pub bytes_fetched: u64,
    /// Bytes of the access units needed.
    pub bytes_needed: u64,
    /// Bytes of all pictures sent.
    pub image_bytes: u64,
    /// Where the time went.
    pub stages: StageTotals,
}

/// The stages of a frame's way.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StageTotals {
    /// Waiting for a worker.
    pub queue: StageTotal,
    /// Reading from the store.
    pub fetch: StageTotal,
    /// Finding out what must be decoded.
    pub plan: StageTotal,
    /// Decoding.
    pub decode: StageTotal,
    /// Colour conversion and scaling.
    pub convert: StageTotal,
    /// JPEG encoding.
    pub encode: StageTotal,
    /// From the encoded picture to its last byte in the socket.
    pub send: StageTotal,
}

/// One stage.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StageTotal {
    /// How often.
    pub count: u64,
    /// Milliseconds in all, with a fraction.
    pub ms: f64,
}

const KNOWN: &str = "VideoSet, Frame, FrameError, Index, Stats and Error";

impl ServerMessage {
    /// Reads one text message (for clients).
    pub fn parse(text: &str) -> Result<Self, MessageError> {
        let value: Value = serde_json::from_str(text).map_err(|e| MessageError::NotJson {
            reason: e.to_string(),
        })?;
        let Value::Object(object) = &value else {
            return Err(MessageError::NotAnObject {
                found: describe(&value),
            });
        };
        match object.get("type").and_then(Value::as_str) {
            Some("VideoSet" | "Frame" | "FrameError" | "Index" | "Stats" | "Error") => {
                Self::deserialize(&value).map_err(|e| MessageError::BadReply {
                    reason: e.to_string(),
                })
            }
            Some(other) => Err(MessageError::UnknownType {
                found: quote(other),
                known: KNOWN,
            }),
            None => Err(MessageError::Missing {
                message: "The message",
                field: "type".into(),
                expected: "a string",
            }),
        }
    }

    /// The message as it goes over the wire.
    pub fn to_json(&self) -> String {
        // Strings, numbers and arrays of them; a float that is not finite is written as null.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_of_a_later_version_is_read() {
        let frame = ServerMessage::parse(
            r#"{"type":"Frame","index":3,"offset":9,"size":5,"mood":true,"width":7}"#,
        );
        assert_eq!(
            frame,
            Ok(ServerMessage::Frame {
                index: 3,
                offset: 9,
                frame: None,
                size: 5,
                request_id: None,
                preview: false,
            })
        );
        let set = ServerMessage::parse(r#"{"type":"VideoSet","path":"a","ok":true,"mood":1}"#);
        assert_eq!(
            set,
            Ok(ServerMessage::VideoSet {
                path: "a".into(),
                ok: true,
                video: None
            })
        );
        let error = ServerMessage::parse(
            r#"{"type":"FrameError","index":3,"offset":9,"error":"out_of_tea"}"#,
        );
        let Ok(ServerMessage::FrameError { error, message, .. }) = error else {
            panic!("{error:?}");
        };
        assert_eq!(
            (error, message.as_str()),
            (FrameErrorCode::Unrecognised, "")
        );
    }

    #[test]
    fn a_reply_of_an_unknown_type_is_told_apart_from_a_broken_one() {
        let unknown = ServerMessage::parse(r#"{"type":"Weather"}"#);
        assert!(
            matches!(unknown, Err(MessageError::UnknownType { .. })),
            "{unknown:?}"
        );
        let broken = ServerMessage::parse(r#"{"type":"Frame","index":"x"}"#);
        assert!(
            matches!(broken, Err(MessageError::BadReply { .. })),
            "{broken:?}"
        );
        assert!(ServerMessage::parse("null").is_err());
        assert!(ServerMessage::parse("{}").is_err());
        assert!(ServerMessage::parse("").is_err());
    }
}
