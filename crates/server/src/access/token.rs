//! A token, as a request shows it.

use std::fmt;

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Refused;

/// What a browser's WebSocket says in place of a header: a protocol that begins so, and the token in
/// base64url.
const CARRIER: &str = "bearer.";
/// The longest token: room for a JWT with many claims.
const LONGEST: usize = 8192;

/// A token that was shown. It is not shown again.
#[derive(Clone)]
pub(crate) struct Presented(String);

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presented")
    }
}

impl Presented {
    fn new(text: &str) -> Result<Self, Refused> {
        // RFC 6750, 2.1: b64token.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
        let good = (1..=LONGEST).contains(&text.len()) && text.bytes().all(plain);
        good.then(|| Self(text.to_owned())).ok_or(Refused::Bad)
    }

    pub(super) fn secret(&self) -> &str {
        &self.0
    }

    /// That of `Authorization: Bearer`.
    ///
    /// # Errors
    /// The header is there, and is something else, or twice.
    pub(crate) fn of_header(headers: &HeaderMap) -> Result<Option<Self>, Refused> {
        let mut all = headers.get_all(AUTHORIZATION).iter();
        let Some(header) = all.next() else {
            return Ok(None);
        };
        if all.next().is_some() {
            return Err(Refused::Bad);
        }
        let text = header.to_str().map_err(|_| Refused::Bad)?;
        let (scheme, token) = text.split_once(' ').ok_or(Refused::Bad)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Refused::Bad);
        }
        Self::new(token.trim()).map(Some)
    }

    /// That of the header, or of a WebSocket's protocols.
    ///
    /// # Errors
    /// It cannot be a token, or there are two.
    pub(super) fn of_websocket(headers: &HeaderMap) -> Result<Option<Self>, Refused> {
        let lists = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
        let protocols = lists.filter_map(|list| list.to_str().ok());
        let protocols = protocols.flat_map(|list| list.split(',')).map(str::trim);
        let mut carried = protocols.filter_map(|p| p.strip_prefix(CARRIER));
        let header = Self::of_header(headers)?;
        match (header, carried.next(), carried.next()) {
            (header, None, _) => Ok(header),
            (None, Some(coded), None) => {
                let bytes = URL_SAFE_NO_PAD.decode(coded).map_err(|_| Refused::Bad)?;
                let text = String::from_utf8(bytes).map_err(|_| Refused::Bad)?;
                Self::new(&text).map(Some)
            }
            _ => Err(Refused::Bad),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(all: &[(HeaderName, &str)]) -> HeaderMap {
        let pairs = all.iter();
        pairs
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn shown(all: &[(HeaderName, &str)]) -> Result<Option<String>, Refused> {
        let shown = Presented::of_websocket(&headers(all))?;
        Ok(shown.map(|token| token.secret().to_owned()))
    }

    #[test]
    fn a_token_comes_in_a_header_or_a_protocol() {
        let token = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(shown(&[]), Ok(None));
        assert_eq!(
            shown(&[(AUTHORIZATION, "Bearer a.b-c_~+/=")]),
            token("a.b-c_~+/=")
        );
        assert_eq!(shown(&[(AUTHORIZATION, "bearer  x ")]), token("x"));
        let carried = "bucket-streamer.v1, bearer.c2VjcmV0";
        assert_eq!(shown(&[(SEC_WEBSOCKET_PROTOCOL, carried)]), token("secret"));
        assert_eq!(
            shown(&[(SEC_WEBSOCKET_PROTOCOL, "bucket-streamer.v1")]),
            Ok(None)
        );
        let mut twice = headers(&[(AUTHORIZATION, "Bearer x")]);
        twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer y"));
        assert_eq!(Presented::of_websocket(&twice).err(), Some(Refused::Bad));
        let long = format!("Bearer {}", "x".repeat(LONGEST + 1));
        for bad in [
            "x",
            "Bearer",
            "Bearer ",
            "Basic eDp5",
            "Bearer a b",
            "Bearer a\"b",
            &long,
        ] {
            assert_eq!(shown(&[(AUTHORIZATION, bad)]), Err(Refused::Bad), "{bad}");
        }
        for bad in [
            "bearer.",
            "bearer.!",
            "bearer.YQ==",
            "bearer.YQ, bearer.Yg",
            "bearer.gICA",
        ] {
            assert_eq!(
                shown(&[(SEC_WEBSOCKET_PROTOCOL, bad)]),
                Err(Refused::Bad),
                "{bad}"
            );
        }
        let both = [
            (AUTHORIZATION, "Bearer x"),
            (SEC_WEBSOCKET_PROTOCOL, "bearer.YQ"),
        ];
        assert_eq!(shown(&both), Err(Refused::Bad));
        assert_eq!(
            format!("{:?}", Presented::new("secret").unwrap()),
            "Presented"
        );
    }
}
