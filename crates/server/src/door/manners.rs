//! Headers that every answer has, for the sake of browsers.

use axum::http::header::{
    CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue};

/// Where an answer is shown as a page of its own, it loads nothing and stands in no frame. The
/// viewer has a policy of its own.
const POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; base-uri 'none'");
/// Half a year. Other hosts below this name are not spoken for.
const ONLY_TLS: HeaderValue = HeaderValue::from_static("max-age=15768000");

/// Puts them in, where the answer has not its own.
pub(super) fn put(headers: &mut HeaderMap, tls: bool) {
    let nosniff = HeaderValue::from_static("nosniff");
    let no_referrer = HeaderValue::from_static("no-referrer");
    headers.entry(X_CONTENT_TYPE_OPTIONS).or_insert(nosniff);
    headers.entry(REFERRER_POLICY).or_insert(no_referrer);
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(POLICY);
    if tls {
        headers.entry(STRICT_TRANSPORT_SECURITY).or_insert(ONLY_TLS);
    }
}
