//! What is wrong with a message, as a sentence for the person who wrote the sender.

use serde_json::Value;

/// A text message that is not one of the protocol's. Its `Display` is the sentence that the
/// server sends as the `message` of an `Error`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MessageError {
    /// Not JSON at all.
    #[error("The message is not JSON: {reason}")]
    NotJson {
        /// What the JSON reader met, with line and column.
        reason: String,
    },
    /// JSON, but not an object.
    #[error("The message must be a JSON object, but is {found}")]
    NotAnObject {
        /// What stands there instead.
        found: String,
    },
    /// The `type` is none of the protocol's.
    #[error("Unknown message type {found}; known are {known}")]
    UnknownType {
        /// The `type` of the message.
        found: String,
        /// The types that exist in this direction.
        known: &'static str,
    },
    /// A field that the message needs is absent.
    #[error("{message}: the field \"{field}\" is missing; it must be {expected}")]
    Missing {
        /// The message's type, or "The message" where the type itself is missing.
        message: &'static str,
        /// Where, as in `frames[3].offset`.
        field: String,
        /// What must stand there.
        expected: &'static str,
    },
    /// A field holds something else than it must.
    #[error("{message}: the field \"{field}\" must be {expected}, but is {found}")]
    WrongField {
        /// The message's type, or "The message" for the type itself.
        message: &'static str,
        /// Where, as in `frames[3].offset`.
        field: String,
        /// What must stand there.
        expected: &'static str,
        /// What stands there instead.
        found: String,
    },
    /// A frame that is named in no way, or in more than one.
    #[error(
        "{message}: \"{place}\" must have exactly one of \"offset\", \"frame\" and \"time\", but has \
         {}", if *given == 0 { "none".to_owned() } else { given.to_string() }
    )]
    Address {
        /// The message's type.
        message: &'static str,
        /// Which entry, as in `frames[3]`.
        place: String,
        /// How many of the three are there.
        given: u8,
    },
    /// A reply whose fields do not fit its type (found by clients).
    #[error("The reply does not follow the protocol: {reason}")]
    BadReply {
        /// What the reader met.
        reason: String,
    },
}

/// Names a value by its kind, and shows it where it is short.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => format!("the number {n}"),
        Value::String(s) => format!("the string {}", quote(s)),
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
    }
}

/// The string as JSON, cut after a few characters: an error must not grow with the message.
pub(crate) fn quote(s: &str) -> String {
    const SHOWN: usize = 40;
    let mut short: String = s.chars().take(SHOWN).collect();
    if short.len() < s.len() {
        short.push('…');
    }
    Value::String(short).to_string()
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn a_long_string_is_cut() {
        assert_eq!(quote("short"), "\"short\"");
        assert_eq!(quote(&"ä".repeat(1000)).chars().count(), 43);
        assert_eq!(quote("a\u{0}b"), "\"a\\u0000b\"");
    }
}
