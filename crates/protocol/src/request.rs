//! What a client sends.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{MessageError, describe, quote};
use crate::fields::Fields;

/// A request. Fields that the protocol does not know are ignored.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "type")]
pub enum ClientMessage {
    /// Chooses the video that the following requests are about.
    SetVideo {
        /// A name below the store's root, `fs:///…` or `s3://bucket/key`.
        path: String,
    },
    /// Asks for frames of the video; each is answered by one `Frame` (previews apart) or one
    /// `FrameError`.
    RequestFrames(FramesRequest),
    /// Takes back requests that are due: each of them is answered `cancelled`.
    Cancel {
        /// Only frames with this tag.
        #[serde(skip_serializing_if = "Option::is_none")]
        index: Option<i64>,
        /// Only frames of the messages with this id.
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<RequestId>,
    },
    /// Asks where the video's frames lie, in presentation order: one or more `Index`.
    GetIndex {
        /// The first presentation number; 0 if absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<u64>,
        /// How many frames; all that follow if absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        count: Option<u64>,
    },
    /// Asks for the session's own figures: one `Stats`.
    GetStats,
}

/// The content of a `RequestFrames`.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct FramesRequest {
    /// In the order in which pictures should come.
    pub frames: Vec<FrameRequest>,
    /// The client's own name for this message, echoed in every answer to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// What is still due from earlier messages of this connection is no longer wanted.
    #[serde(skip_serializing_if = "is_false")]
    pub replace: bool,
    /// Where the message stands among the session's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// The nearest picture at hand may come first, where the exact one takes longer.
    #[serde(skip_serializing_if = "is_false")]
    pub preview: bool,
    /// How the pictures are made, where a frame does not say it itself.
    #[serde(flatten)]
    pub rendition: Rendition,
}

/// One frame of a `RequestFrames`.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct FrameRequest {
    /// Which frame.
    #[serde(flatten)]
    pub address: FrameAddress,
    /// Position of the IRAP that a plain tool would start from. A hint that the server does not
    /// need: it works out the true one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub irap_offset: Option<u64>,
    /// The client's own tag, echoed in the answer.
    pub index: i64,
    /// How this picture is made.
    #[serde(flatten)]
    pub rendition: Rendition,
}

impl FrameRequest {
    /// The frame at an offset, as the server would make it by itself.
    pub fn at_offset(offset: u64, index: i64) -> Self {
        Self {
            address: FrameAddress::Offset(offset),
            irap_offset: None,
            index,
            rendition: Rendition::default(),
        }
    }
}

/// The three ways to name a frame.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameAddress {
    /// Position of the frame's sample in the object, in bytes.
    Offset(u64),
    /// The place in presentation order, from 0.
    Frame(u64),
    /// Seconds from the video's first picture: the frame that is shown then.
    Time(f64),
}

/// How a picture is made. What is absent is left to the message, then to the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Rendition {
    /// The picture is scaled down to at most this width, its aspect kept; 1 to 65535.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// The picture is scaled down to at most this height, its aspect kept; 1 to 65535.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// JPEG quality, 1 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<u8>,
}

impl Rendition {
    /// Field by field: what is said here, else what `other` says.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            width: self.width.or(other.width),
            height: self.height.or(other.height),
            quality: self.quality.or(other.quality),
        }
    }
}

/// Where a message stands among those of its session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before those that came earlier.
    #[default]
    Newest,
    /// Not before those that came earlier.
    Fifo,
}

/// The client's own name for a message.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RequestId {
    /// At most [`RequestId::LONGEST`] bytes.
    Text(String),
    /// Within ±[`crate::MAX_SAFE_INTEGER`].
    Number(i64),
}

impl RequestId {
    /// Bytes of a text at most: it stands in every answer.
    pub const LONGEST: usize = 256;
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
        }
    }
}

const KNOWN: &str = "SetVideo, RequestFrames, Cancel, GetIndex and GetStats";
const PRIORITIES: [(&str, Priority); 2] = [("newest", Priority::Newest), ("fifo", Priority::Fifo)];

impl ClientMessage {
    /// Reads one text message. The error says what was wrong, and where.
    pub fn parse(text: &str) -> Result<Self, MessageError> {
        let value: Value = serde_json::from_str(text).map_err(|e| MessageError::NotJson {
            reason: e.to_string(),
        })?;
        let Value::Object(object) = &value else {
            return Err(MessageError::NotAnObject {
                found: describe(&value),
            });
        };
        match Fields::of("The message", object).string("type")? {
            "SetVideo" => Ok(Self::SetVideo {
                path: Fields::of("SetVideo", object).string("path")?.to_owned(),
            }),
            "RequestFrames" => Ok(Self::RequestFrames(FramesRequest::read(object)?)),
            "Cancel" => {
                let fields = Fields::of("Cancel", object);
                Ok(Self::Cancel {
                    index: fields.optional_tag("index")?,
                    request_id: fields.optional_id("request_id")?,
                })
            }
            "GetIndex" => {
                let fields = Fields::of("GetIndex", object);
                Ok(Self::GetIndex {
                    from: fields.optional_count("from")?,
                    count: fields.optional_count("count")?,
                })
            }
            "GetStats" => Ok(Self::GetStats),
            other => Err(MessageError::UnknownType {
                found: quote(other),
                known: KNOWN,
            }),
        }
    }

    /// The message as it goes over the wire.
    pub fn to_json(&self) -> String {
        // Strings, numbers and arrays of them: nothing that JSON cannot hold.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl FramesRequest {
    fn read(object: &Map<String, Value>) -> Result<Self, MessageError> {
        const MESSAGE: &str = "RequestFrames";
        const FRAMES: &str = "an array of objects";
        let fields = Fields::of(MESSAGE, object);
        let value = fields.get("frames", FRAMES)?;
        let Value::Array(entries) = value else {
            return Err(fields.wrong("frames", FRAMES, value));
        };
        let frames: Result<Vec<FrameRequest>, MessageError> = entries
            .iter()
            .enumerate()
            .map(|(position, entry)| {
                let Value::Object(object) = entry else {
                    let place = format!("frames[{position}]");
                    return Err(fields.wrong(&place, "an object", entry));
                };
                FrameRequest::read(&Fields {
                    message: MESSAGE,
                    place: format!("frames[{position}]."),
                    object,
                })
            })
            .collect();
        Ok(Self {
            frames: frames?,
            request_id: fields.optional_id("request_id")?,
            replace: fields.flag("replace")?,
            priority: fields.optional_choice("priority", "\"newest\" or \"fifo\"", &PRIORITIES)?,
            preview: fields.flag("preview")?,
            rendition: Rendition::read(&fields)?,
        })
    }
}

impl FrameRequest {
    fn read(fields: &Fields<'_>) -> Result<Self, MessageError> {
        let offset = fields.optional_count("offset")?;
        let frame = fields.optional_count("frame")?;
        let time = fields.optional_seconds("time")?;
        let address = match (offset, frame, time) {
            (Some(offset), None, None) => FrameAddress::Offset(offset),
            (None, Some(frame), None) => FrameAddress::Frame(frame),
            (None, None, Some(time)) => FrameAddress::Time(time),
            _ => {
                return Err(MessageError::Address {
                    message: fields.message,
                    place: fields.place.trim_end_matches('.').to_owned(),
                    given: u8::from(offset.is_some())
                        + u8::from(frame.is_some())
                        + u8::from(time.is_some()),
                });
            }
        };
        Ok(Self {
            address,
            irap_offset: fields.optional_count("irap_offset")?,
            index: fields.tag("index")?,
            rendition: Rendition::read(fields)?,
        })
    }
}

impl Rendition {
    fn read(fields: &Fields<'_>) -> Result<Self, MessageError> {
        Ok(Self {
            width: fields.optional_pixels("width")?,
            height: fields.optional_pixels("height")?,
            quality: fields.optional_quality("quality")?,
        })
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_SAFE_INTEGER;

    fn refusal(text: &str) -> String {
        ClientMessage::parse(text).unwrap_err().to_string()
    }

    fn with_offset(number: &str) -> Result<ClientMessage, MessageError> {
        ClientMessage::parse(&format!(
            r#"{{"type":"RequestFrames","frames":[{{"offset":{number},"index":0}}]}}"#
        ))
    }

    #[test]
    fn every_refusal_says_what_and_where() {
        let messages = [
            "",
            "{",
            "{\"type\":\"SetVideo\",}",
            "[]",
            "17",
            "{}",
            "{\"type\":3}",
            "{\"type\":\"setvideo\"}",
            "{\"type\":\"SetVideo\"}",
            "{\"type\":\"SetVideo\",\"path\":null}",
            "{\"type\":\"SetVideo\",\"path\":[\"a\"]}",
            "{\"type\":\"RequestFrames\"}",
            "{\"type\":\"RequestFrames\",\"frames\":{}}",
            "{\"type\":\"RequestFrames\",\"frames\":[7]}",
            "{\"type\":\"RequestFrames\",\"frames\":[{\"offset\":1}]}",
            "{\"type\":\"RequestFrames\",\"frames\":[{\"offset\":1,\"index\":0},{\"index\":0}]}",
            "{\"type\":\"RequestFrames\",\"frames\":[{\"offset\":\"1\",\"index\":0}]}",
            "{\"type\":\"RequestFrames\",\"frames\":[{\"offset\":-1,\"index\":0}]}",
            "{\"type\":\"RequestFrames\",\"frames\":[{\"offset\":1.5,\"index\":0}]}",
            "{\"type\":\"RequestFrames\",\"frames\":[{\"offset\":1,\"index\":\"a\"}]}",
            "{\"type\":\"RequestFrames\",\"frames\":[{\"offset\":1,\"irap_offset\":-1,\"index\":0}]}",
            "{\"type\":\"RequestFrames\",\"frames\":[{\"offset\":null,\"index\":0}]}",
            "{\"type\":\"RequestFrames\",\"frames\":[{\"offset\":1,\"frame\":2,\"index\":0}]}",
            "{\"type\":\"RequestFrames\",\"frames\":[{\"offset\":1,\"frame\":2,\"time\":0,\"index\":0}]}",
            "{\"type\":\"RequestFrames\",\"frames\":[{\"frame\":-1,\"index\":0}]}",
            "{\"type\":\"RequestFrames\",\"frames\":[{\"frame\":1.5,\"index\":0}]}",
            "{\"type\":\"RequestFrames\",\"frames\":[{\"time\":-0.1,\"index\":0}]}",
            "{\"type\":\"RequestFrames\",\"frames\":[{\"time\":\"1\",\"index\":0}]}",
            "{\"type\":\"RequestFrames\",\"frames\":[{\"frame\":1}]}",
            "{\"type\":\"RequestFrames\",\"frames\":[{\"frame\":1,\"index\":0,\"width\":0}]}",
            "{\"type\":\"RequestFrames\",\"frames\":[{\"frame\":1,\"index\":0,\"quality\":101}]}",
            "{\"type\":\"RequestFrames\",\"frames\":[],\"width\":65536}",
            "{\"type\":\"RequestFrames\",\"frames\":[],\"height\":1.5}",
            "{\"type\":\"RequestFrames\",\"frames\":[],\"quality\":0}",
            "{\"type\":\"RequestFrames\",\"frames\":[],\"quality\":\"good\"}",
            "{\"type\":\"RequestFrames\",\"frames\":[],\"priority\":\"FIFO\"}",
            "{\"type\":\"RequestFrames\",\"frames\":[],\"priority\":1}",
            "{\"type\":\"RequestFrames\",\"frames\":[],\"replace\":1}",
            "{\"type\":\"RequestFrames\",\"frames\":[],\"preview\":\"yes\"}",
            "{\"type\":\"RequestFrames\",\"frames\":[],\"request_id\":1.5}",
            "{\"type\":\"RequestFrames\",\"frames\":[],\"request_id\":{}}",
            "{\"type\":\"Cancel\",\"index\":\"1\"}",
            "{\"type\":\"Cancel\",\"request_id\":true}",
            "{\"type\":\"GetIndex\",\"from\":-1}",
            "{\"type\":\"GetIndex\",\"count\":\"all\"}",
        ];
        let text: String = messages
            .iter()
            .map(|m| format!("{m}\n  {}\n", refusal(m)))
            .collect();
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_refusal_does_not_grow_with_the_message() {
        let long = "x".repeat(1_000_000);
        assert!(refusal(&format!(r#"{{"type":"{long}"}}"#)).len() < 200);
        assert!(refusal(&format!(r#"{{"type":"SetVideo","path":{{"{long}":1}}}}"#)).len() < 200);
        assert!(refusal(&format!(r#"{{"{long}":1}}"#)).len() < 200);
        assert!(with_offset(&"9".repeat(300)).unwrap_err().to_string().len() < 600);
    }

    #[test]
    fn an_offset_is_a_whole_number_that_json_holds_exactly() {
        for (text, offset) in [
            ("0", 0),
            ("1024", 1024),
            ("1024.0", 1024),
            ("1e3", 1000),
            ("9007199254740991", MAX_SAFE_INTEGER),
        ] {
            let ClientMessage::RequestFrames(request) = with_offset(text).unwrap() else {
                panic!("{text}");
            };
            let address = FrameAddress::Offset(offset);
            assert_eq!(request.frames[0].address, address, "{text}");
        }
        for text in [
            "-1",
            "-1.0",
            "0.5",
            "9007199254740992",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "1e300",
            "true",
            "\"1024\"",
            "null",
        ] {
            assert!(with_offset(text).is_err(), "{text}");
        }
    }

    fn frames_of(text: &str) -> FramesRequest {
        match ClientMessage::parse(text).unwrap() {
            ClientMessage::RequestFrames(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_frame_is_named_in_one_of_three_ways() {
        let request = frames_of(
            r#"{"type":"RequestFrames","frames":[{"frame":7,"index":1},{"time":0,"index":2},
               {"time":1.25,"offset":null,"index":3},{"time":1e300,"index":4}]}"#,
        );
        let addresses: Vec<FrameAddress> = request.frames.iter().map(|f| f.address).collect();
        assert_eq!(
            addresses,
            [
                FrameAddress::Frame(7),
                FrameAddress::Time(0.0),
                FrameAddress::Time(1.25),
                FrameAddress::Time(1e300)
            ]
        );
        assert!(request.frames.iter().all(|f| f.irap_offset.is_none()));
    }

    #[test]
    fn everything_but_the_frames_may_be_left_out_or_null() {
        let plain = FramesRequest::default();
        assert_eq!(frames_of(r#"{"type":"RequestFrames","frames":[]}"#), plain);
        let nulls = r#"{"type":"RequestFrames","frames":[],"request_id":null,"replace":null,
            "priority":null,"preview":null,"width":null,"height":null,"quality":null}"#;
        assert_eq!(frames_of(nulls), plain);
        assert_eq!(plain.priority.unwrap_or_default(), Priority::Newest);
        let text = ClientMessage::RequestFrames(plain).to_json();
        assert_eq!(text, r#"{"type":"RequestFrames","frames":[]}"#);
    }

    #[test]
    fn a_request_id_is_a_short_string_or_a_number() {
        let with = |id: &str| -> Result<Option<RequestId>, MessageError> {
            let text = format!(r#"{{"type":"Cancel","request_id":{id}}}"#);
            match ClientMessage::parse(&text)? {
                ClientMessage::Cancel { request_id, .. } => Ok(request_id),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(with("7"), Ok(Some(RequestId::Number(7))));
        assert_eq!(with("-7.0"), Ok(Some(RequestId::Number(-7))));
        assert_eq!(with("\"\""), Ok(Some(RequestId::Text(String::new()))));
        assert_eq!(with("null"), Ok(None));
        let long = "x".repeat(256);
        assert_eq!(
            with(&format!("\"{long}\"")),
            Ok(Some(RequestId::Text(long.clone())))
        );
        let longer = with(&format!("\"{long}x\"")).unwrap_err().to_string();
        assert!(longer.contains("at most 256 bytes"), "{longer}");
        assert!(with("9007199254740992").is_err());
    }

    #[test]
    fn a_frames_own_rendition_wins() {
        let all = Rendition {
            width: Some(100),
            height: Some(50),
            quality: Some(70),
        };
        assert_eq!(Rendition::default().or(all), all);
        let tall = Rendition {
            height: Some(9),
            ..Rendition::default()
        };
        assert_eq!(
            tall.or(all),
            Rendition {
                height: Some(9),
                ..all
            }
        );
        let fine = Rendition {
            quality: Some(95),
            ..Rendition::default()
        };
        assert_eq!(
            fine.or(all),
            Rendition {
                quality: Some(95),
                ..all
            }
        );
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let parsed = ClientMessage::parse(
            r#"{"type":"RequestFrames","colour":"blue","frames":
               [{"offset":1,"irap_offset":0,"index":-7,"pts":[1,2]}]}"#,
        );
        let frames = vec![FrameRequest {
            irap_offset: Some(0),
            ..FrameRequest::at_offset(1, -7)
        }];
        let request = FramesRequest {
            frames,
            ..FramesRequest::default()
        };
        assert_eq!(parsed, Ok(ClientMessage::RequestFrames(request)));
    }

    #[test]
    fn depth_is_bounded() {
        let deep = "[".repeat(1_000_000);
        assert!(refusal(&deep).starts_with("The message is not JSON: recursion limit exceeded"));
    }
}
