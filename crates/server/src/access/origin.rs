//! Which web pages may open a session: those of the server itself, and of `--cors-origin`.
//!
//! A browser lets any page open a WebSocket to any server, and tells the server whose page it is. What
//! is no browser tells no origin, and is let in.

use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;

/// Whether a request may open a session, as far as its origin goes.
pub(super) fn is_let_in(request: &Parts, known: &[String]) -> bool {
    let mut origins = request.headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return true;
    };
    let Some(origin) = origin.to_str().ok().filter(|_| origins.next().is_none()) else {
        return false;
    };
    if known
        .iter()
        .any(|k| k == "*" || k.eq_ignore_ascii_case(origin))
    {
        return true;
    }
    // HTTP/2 has no `Host`.
    let host = request
        .headers
        .get(HOST)
        .and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri.authority().map(|a| a.as_str()));
    let Some((scheme, own)) = origin.split_once("://").filter(|(_, own)| !own.is_empty()) else {
        return false;
    };
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let bare = |authority: &str| {
        let bare = authority.strip_suffix(port).unwrap_or(authority);
        bare.to_ascii_lowercase()
    };
    host.is_some_and(|host| bare(host) == bare(own))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn let_in(host: &str, origin: Option<&str>, known: &[&str]) -> bool {
        let mut request = Request::builder().uri("/ws").header(HOST, host);
        if let Some(origin) = origin {
            request = request.header(ORIGIN, origin);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let known: Vec<String> = known.iter().map(|k| (*k).to_owned()).collect();
        is_let_in(&parts, &known)
    }

    #[test]
    fn a_page_of_the_server_and_of_known_origins_is_let_in() {
        for (host, origin) in [
            ("a.example", "https://a.example"),
            ("a.example:443", "https://a.example"),
            ("A.example", "http://a.example"),
            ("a.example:80", "http://a.example"),
            ("127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("[::1]:3000", "http://[::1]:3000"),
        ] {
            assert!(let_in(host, Some(origin), &[]), "{host} {origin}");
        }
        for (host, origin) in [
            ("a.example", "https://b.example"),
            ("a.example", "https://a.example:8443"),
            ("a.example:443", "http://a.example"),
            ("localhost:3000", "http://127.0.0.1:3000"),
            ("a.example", "null"),
            ("a.example", ""),
            ("a.example", "https://"),
            ("", "https://"),
            ("a.example", "file://a.example"),
            ("a.example", "https://a.example.evil"),
        ] {
            assert!(!let_in(host, Some(origin), &[]), "{host} {origin}");
            assert!(let_in(host, Some(origin), &["*"]));
        }
        assert!(let_in("a.example", None, &[]));
        let known = ["https://b.example"];
        assert!(let_in("a.example", Some("https://b.example"), &known));
        assert!(!let_in("a.example", Some("https://c.example"), &known));
    }
}
