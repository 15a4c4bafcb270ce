//! What the server sends.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::code::FrameErrorCode;
use crate::error::{MessageError, describe, quote};

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
        /// As in the request.
        offset: u64,
        /// Bytes of the binary message that follows.
        size: u64,
    },
    /// A requested frame that does not come.
    FrameError {
        /// As in the request.
        index: i64,
        /// As in the request.
        offset: u64,
        /// Why, for programs.
        error: FrameErrorCode,
        /// Why, for people.
        #[serde(default)]
        message: String,
    },
    /// Something about a message or the video is wrong.
    Error {
        /// What, for people.
        message: String,
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

const KNOWN: &str = "VideoSet, Frame, FrameError and Error";

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
            Some("VideoSet" | "Frame" | "FrameError" | "Error") => Self::deserialize(&value)
                .map_err(|e| MessageError::BadReply {
                    reason: e.to_string(),
                }),
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
            r#"{"type":"Frame","index":3,"offset":9,"size":5,"preview":true,"width":7}"#,
        );
        assert_eq!(
            frame,
            Ok(ServerMessage::Frame {
                index: 3,
                offset: 9,
                size: 5
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
        let unknown = ServerMessage::parse(r#"{"type":"Stats"}"#);
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
