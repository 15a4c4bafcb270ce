//! What a client sends.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::MAX_SAFE_INTEGER;
use crate::error::{MessageError, describe, quote};

/// A request. Fields that the protocol does not know are ignored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "type")]
pub enum ClientMessage {
    /// Chooses the video that the following requests are about.
    SetVideo {
        /// A name below the store's root, `fs:///…` or `s3://bucket/key`.
        path: String,
    },
    /// Asks for frames of the video; each is answered by one `Frame` or one `FrameError`.
    RequestFrames {
        /// In the order in which pictures should come.
        frames: Vec<FrameRequest>,
    },
}

/// One frame of a `RequestFrames`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct FrameRequest {
    /// Position of the frame's sample in the object, in bytes.
    pub offset: u64,
    /// Position of the IRAP that a plain tool would start from. A hint that the server does not
    /// need: it works out the true one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub irap_offset: Option<u64>,
    /// The client's own tag, echoed in the answer.
    pub index: i64,
}

const KNOWN: &str = "SetVideo and RequestFrames";
const A_STRING: &str = "a string";
const AN_OFFSET: &str = "a whole number from 0 to 9007199254740991";
const AN_INDEX: &str = "a whole number from -9007199254740991 to 9007199254740991";

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
        let kind = Fields {
            message: "The message",
            place: String::new(),
            object,
        }
        .string("type")?;
        match kind {
            "SetVideo" => {
                let fields = Fields {
                    message: "SetVideo",
                    place: String::new(),
                    object,
                };
                Ok(Self::SetVideo {
                    path: fields.string("path")?.to_owned(),
                })
            }
            "RequestFrames" => Ok(Self::RequestFrames {
                frames: frames(object)?,
            }),
            other => Err(MessageError::UnknownType {
                found: quote(other),
                known: KNOWN,
            }),
        }
    }

    /// The message as it goes over the wire.
    pub fn to_json(&self) -> String {
        // Strings, integers and arrays of them: nothing that JSON cannot hold.
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn frames(object: &Map<String, Value>) -> Result<Vec<FrameRequest>, MessageError> {
    const MESSAGE: &str = "RequestFrames";
    let fields = Fields {
        message: MESSAGE,
        place: String::new(),
        object,
    };
    let expected = "an array of objects";
    let value = fields.get("frames", expected)?;
    let Value::Array(entries) = value else {
        return Err(fields.wrong("frames", expected, value));
    };
    entries
        .iter()
        .enumerate()
        .map(|(position, entry)| {
            let Value::Object(object) = entry else {
                return Err(fields.wrong(&format!("frames[{position}]"), "an object", entry));
            };
            let fields = Fields {
                message: MESSAGE,
                place: format!("frames[{position}]."),
                object,
            };
            Ok(FrameRequest {
                offset: fields.offset("offset")?,
                irap_offset: fields.optional_offset("irap_offset")?,
                index: fields.index("index")?,
            })
        })
        .collect()
}

/// The fields of one object, with the words that an error needs.
struct Fields<'a> {
    message: &'static str,
    /// What stands before a field's name in an error, as `frames[3].`.
    place: String,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn get(&self, field: &str, expected: &'static str) -> Result<&'a Value, MessageError> {
        self.object.get(field).ok_or_else(|| MessageError::Missing {
            message: self.message,
            field: format!("{}{field}", self.place),
            expected,
        })
    }

    fn wrong(&self, field: &str, expected: &'static str, value: &Value) -> MessageError {
        MessageError::WrongField {
            message: self.message,
            field: format!("{}{field}", self.place),
            expected,
            found: describe(value),
        }
    }

    fn string(&self, field: &str) -> Result<&'a str, MessageError> {
        let value = self.get(field, A_STRING)?;
        value
            .as_str()
            .ok_or_else(|| self.wrong(field, A_STRING, value))
    }

    fn offset(&self, field: &str) -> Result<u64, MessageError> {
        let value = self.get(field, AN_OFFSET)?;
        whole(value)
            .and_then(|n| u64::try_from(n).ok())
            .ok_or_else(|| self.wrong(field, AN_OFFSET, value))
    }

    fn optional_offset(&self, field: &str) -> Result<Option<u64>, MessageError> {
        match self.object.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.offset(field).map(Some),
        }
    }

    fn index(&self, field: &str) -> Result<i64, MessageError> {
        let value = self.get(field, AN_INDEX)?;
        whole(value).ok_or_else(|| self.wrong(field, AN_INDEX, value))
    }
}

/// A number without a fraction whose magnitude every JSON writer can hold. `1024.0` is 1024: JSON
/// has one kind of number, and some writers put the point.
fn whole(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    let whole = number.as_i64().or_else(|| {
        let float = number.as_f64()?;
        let exact = float.fract() == 0.0 && float.abs() <= MAX_SAFE_INTEGER as f64;
        exact.then_some(float as i64)
    })?;
    (whole.unsigned_abs() <= MAX_SAFE_INTEGER).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let ClientMessage::RequestFrames { frames } = with_offset(text).unwrap() else {
                panic!("{text}");
            };
            assert_eq!(frames[0].offset, offset, "{text}");
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

    #[test]
    fn unknown_fields_are_ignored() {
        let parsed = ClientMessage::parse(
            r#"{"type":"RequestFrames","colour":"blue","frames":
               [{"offset":1,"irap_offset":0,"index":-7,"pts":[1,2]}]}"#,
        );
        let frames = vec![FrameRequest {
            offset: 1,
            irap_offset: Some(0),
            index: -7,
        }];
        assert_eq!(parsed, Ok(ClientMessage::RequestFrames { frames }));
    }

    #[test]
    fn depth_is_bounded() {
        let deep = "[".repeat(1_000_000);
        assert!(refusal(&deep).starts_with("The message is not JSON: recursion limit exceeded"));
    }
}
