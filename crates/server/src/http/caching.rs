//! What caches and CDNs are told: which answer this is, and how long it holds.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use xxhash_rust::xxh3::Xxh3;

use super::access::Granted;
use super::videos::Current;

/// Changes whenever the same request would give other bytes for the same object: with the encoders
/// and the conversion of colours.
const MADE_BY: &str = concat!(env!("CARGO_PKG_VERSION"), "/1");

/// A name for the bytes of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Tag(String);

impl Tag {
    /// Of what is made of one version, with these parameters.
    pub(super) fn strong(identity: &str, parameters: &str) -> Self {
        Self(format!("\"{:032x}\"", digest(identity, parameters)))
    }

    /// Of a text that may be compressed on the way: the same content, not the same bytes.
    pub(super) fn weak(identity: &str, parameters: &str) -> Self {
        Self(format!("W/\"{:032x}\"", digest(identity, parameters)))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the client has it (RFC 9110, 13.1.2: compared weakly).
    pub(super) fn is_known_to(&self, headers: &HeaderMap) -> bool {
        let plain = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
        let own = plain(&self.0);
        let mut lists = headers.get_all(IF_NONE_MATCH).iter();
        lists.any(|list| {
            let tags = list.to_str().unwrap_or_default().split(',');
            tags.map(str::trim).any(|t| t == "*" || plain(t) == own)
        })
    }
}

fn digest(identity: &str, parameters: &str) -> u128 {
    let mut hash = Xxh3::new();
    for part in [MADE_BY, identity, parameters] {
        hash.update(part.as_bytes());
        hash.update(&[0]);
    }
    hash.digest128()
}

/// What an answer says of itself.
pub(super) struct Answer<'a> {
    pub(super) current: &'a Current,
    pub(super) granted: Granted,
    pub(super) tag: &'a Tag,
    pub(super) content_type: &'static str,
    /// The request's `Accept` was looked at.
    pub(super) varies: bool,
}

impl Answer<'_> {
    /// The client has it.
    pub(super) fn not_modified(&self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        self.put(response.headers_mut());
        response
    }

    pub(super) fn with(&self, body: impl Into<Body>) -> Response {
        let mut response = Response::new(body.into());
        let headers = response.headers_mut();
        self.put(headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        // What is small is sent whole.
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("none"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    fn put(&self, headers: &mut HeaderMap) {
        if let Ok(tag) = HeaderValue::from_str(self.tag.as_str()) {
            headers.insert(ETAG, tag);
        }
        let Current { fresh, pinned, .. } = *self.current;
        put_lifetime(headers, self.granted, fresh, pinned);
        // A browser's own cache must not show one person what another one fetched.
        let varies = match (self.varies, self.granted.to_everybody) {
            (false, true) => None,
            (true, true) => Some("accept"),
            (false, false) => Some("authorization"),
            (true, false) => Some("accept, authorization"),
        };
        if let Some(varies) = varies {
            headers.insert(VARY, HeaderValue::from_static(varies));
        }
        if let Ok(version) = HeaderValue::from_str(&self.current.opened.version) {
            headers.insert("video-version", version);
        }
    }
}

/// As long as a cache is told to keep what never changes.
const A_YEAR: Duration = Duration::from_secs(31_536_000);

/// How long an answer holds.
pub(super) fn put_lifetime(
    headers: &mut HeaderMap,
    granted: Granted,
    fresh: Duration,
    pinned: bool,
) {
    let whose = if granted.to_everybody {
        "public"
    } else {
        "private"
    };
    let lifetime = if pinned {
        let seconds = granted.within(A_YEAR).as_secs();
        format!("{whose}, max-age={seconds}, immutable")
    } else {
        let seconds = granted.within(fresh).as_secs();
        format!("{whose}, max-age={seconds}, must-revalidate")
    };
    if let Ok(lifetime) = HeaderValue::from_str(&lifetime) {
        headers.insert(CACHE_CONTROL, lifetime);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_in_what_the_client_has() {
        let tag = Tag::strong("a@etag-1", "frame 7");
        let known = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_str(value).unwrap());
            tag.is_known_to(&headers)
        };
        let own = tag.as_str();
        for value in [
            own.to_owned(),
            format!("\"x\", {own}"),
            format!("W/{own}"),
            "*".into(),
        ] {
            assert!(known(&value), "{value}");
        }
        for value in ["", "\"x\"", own.trim_matches('"')] {
            assert!(!known(value), "{value}");
        }
        assert!(!tag.is_known_to(&HeaderMap::new()));
        for (identity, parameters) in [
            ("a@etag-2", "frame 7"),
            ("a@etag-1", "frame 8"),
            ("a@etag-1\0frame", "7"),
        ] {
            assert_ne!(tag, Tag::strong(identity, parameters));
        }
    }
}
