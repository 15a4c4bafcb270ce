//! The fields of a message's objects, read with the words that an error needs.

use serde_json::{Map, Value};

use crate::MAX_SAFE_INTEGER;
use crate::error::{MessageError, describe};
use crate::request::RequestId;

const A_STRING: &str = "a string";
const A_BOOLEAN: &str = "true or false";
const A_COUNT: &str = "a whole number from 0 to 9007199254740991";
const A_TAG: &str = "a whole number from -9007199254740991 to 9007199254740991";
const SECONDS: &str = "a number of seconds, 0 or more";
const PIXELS: &str = "a whole number from 1 to 65535";
const A_QUALITY: &str = "a whole number from 1 to 100";
const AN_ID: &str = "a string of at most 256 bytes or a whole number";

/// The fields of one object. What is `null` counts as absent where it may be absent.
pub(crate) struct Fields<'a> {
    pub(crate) message: &'static str,
    /// What stands before a field's name in an error, as `frames[3].`.
    pub(crate) place: String,
    pub(crate) object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// Those of the message itself.
    pub(crate) fn of(message: &'static str, object: &'a Map<String, Value>) -> Self {
        Self {
            message,
            place: String::new(),
            object,
        }
    }

    pub(crate) fn get(
        &self,
        field: &str,
        expected: &'static str,
    ) -> Result<&'a Value, MessageError> {
        self.object.get(field).ok_or_else(|| MessageError::Missing {
            message: self.message,
            field: format!("{}{field}", self.place),
            expected,
        })
    }

    pub(crate) fn wrong(&self, field: &str, expected: &'static str, value: &Value) -> MessageError {
        MessageError::WrongField {
            message: self.message,
            field: format!("{}{field}", self.place),
            expected,
            found: describe(value),
        }
    }

    /// A field that must be there.
    fn required<T>(
        &self,
        field: &str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T, MessageError> {
        let value = self.get(field, expected)?;
        read(value).ok_or_else(|| self.wrong(field, expected, value))
    }

    /// A field that may be absent.
    fn optional<T>(
        &self,
        field: &str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, MessageError> {
        match self.object.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.required(field, expected, read).map(Some),
        }
    }

    pub(crate) fn string(&self, field: &str) -> Result<&'a str, MessageError> {
        self.required(field, A_STRING, Value::as_str)
    }

    pub(crate) fn tag(&self, field: &str) -> Result<i64, MessageError> {
        self.required(field, A_TAG, whole)
    }

    pub(crate) fn optional_tag(&self, field: &str) -> Result<Option<i64>, MessageError> {
        self.optional(field, A_TAG, whole)
    }

    pub(crate) fn optional_count(&self, field: &str) -> Result<Option<u64>, MessageError> {
        self.optional(field, A_COUNT, |v| u64::try_from(whole(v)?).ok())
    }

    pub(crate) fn optional_seconds(&self, field: &str) -> Result<Option<f64>, MessageError> {
        self.optional(field, SECONDS, |v| {
            v.as_f64().filter(|t| t.is_finite() && *t >= 0.0)
        })
    }

    pub(crate) fn optional_pixels(&self, field: &str) -> Result<Option<u32>, MessageError> {
        self.optional(field, PIXELS, |v| {
            u32::try_from(whole(v)?)
                .ok()
                .filter(|n| (1..=65_535).contains(n))
        })
    }

    pub(crate) fn optional_quality(&self, field: &str) -> Result<Option<u8>, MessageError> {
        self.optional(field, A_QUALITY, |v| {
            u8::try_from(whole(v)?)
                .ok()
                .filter(|n| (1..=100).contains(n))
        })
    }

    /// False where it is absent.
    pub(crate) fn flag(&self, field: &str) -> Result<bool, MessageError> {
        let given = self.optional(field, A_BOOLEAN, Value::as_bool)?;
        Ok(given.unwrap_or(false))
    }

    pub(crate) fn optional_id(&self, field: &str) -> Result<Option<RequestId>, MessageError> {
        self.optional(field, AN_ID, |value| match value {
            Value::String(text) if text.len() <= RequestId::LONGEST => {
                Some(RequestId::Text(text.clone()))
            }
            value => whole(value).map(RequestId::Number),
        })
    }

    pub(crate) fn optional_choice<T: Copy>(
        &self,
        field: &str,
        expected: &'static str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, MessageError> {
        self.optional(field, expected, |value| {
            let text = value.as_str()?;
            choices.iter().find(|c| c.0 == text).map(|c| c.1)
        })
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
