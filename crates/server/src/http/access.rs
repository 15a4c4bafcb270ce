//! Who asks by URL, and what the answer says of that to caches.
//!
//! Who may see what is decided by [`crate::access`]. Every route asks here first, and every answer tells
//! caches whose it is.

use std::time::{Duration, SystemTime};

use axum::http::request::Parts;

use super::problem::Problem;
use crate::access::{Access, Caller, Presented, Refused};

/// Whose an answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Granted {
    /// The answer is the same for everybody: a cache that many share may keep it.
    pub(super) to_everybody: bool,
    /// Until when the caller may have it.
    ends: Option<SystemTime>,
}

impl Granted {
    pub(super) fn to(caller: &Caller) -> Self {
        Self {
            to_everybody: caller.name().is_none(),
            ends: caller.ends(),
        }
    }

    /// Of a time, what the caller may have.
    pub(super) fn within(self, time: Duration) -> Duration {
        let left = self.ends.map(|ends| ends.duration_since(SystemTime::now()));
        left.map_or(time, |left| left.unwrap_or_default().min(time))
    }
}

/// Who asks: by a token, or because the URL is signed.
///
/// # Errors
/// Nobody who may.
pub(super) fn ask(access: &Access, request: &Parts) -> Result<Caller, Problem> {
    if access.is_open() {
        return Ok(access.admit(None)?);
    }
    let token = Presented::of_header(&request.headers)?;
    // Who shows both has not written the URL for others.
    let by_url = match token {
        None => access.admit_url(&request.uri),
        Some(_) => None,
    };
    Ok(match by_url {
        Some(caller) => caller?,
        None => access.admit(token.as_ref())?,
    })
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Nobody => {
                let detail = "A token is needed: Authorization: Bearer TOKEN";
                Self::unauthorized(detail, "Bearer realm=\"bucket-streamer\"")
            }
            Refused::Bad => {
                let detail = "The token, or the URL's signature, is not one that is known here, or has ended";
                Self::unauthorized(detail, BAD)
            }
            Refused::UrlExpired => Self::unauthorized("The URL's time is over", BAD),
            Refused::Origin => Self::forbidden_origin(),
        }
    }
}

const BAD: &str = "Bearer realm=\"bucket-streamer\", error=\"invalid_token\"";
