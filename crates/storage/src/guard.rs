//! Looks at each answer of a server before the client library does.
//!
//! The library adds one to the last byte of a `Content-Range` without looking, and some servers
//! answer a suffix read of an empty object with `bytes 0-18446744073709551615/0`. And it keeps what
//! a server says of a failure in a text only, in which there may be keys and signatures: here it
//! becomes a [`Refused`].

use futures::StreamExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};

/// Makes clients whose answers have been looked at.
#[derive(Debug, Default)]
pub(crate) struct GuardedConnector {
    inner: ReqwestConnector,
}

impl HttpConnector for GuardedConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Guarded {
            inner: self.inner.connect(options)?,
        }))
    }
}

/// A server's refusal: what of it is for programs.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the server answered with status {status}")]
pub(crate) struct Refused {
    pub(crate) status: u16,
    /// The `Code` of the error document.
    pub(crate) code: Option<String>,
}

#[derive(Debug)]
struct Guarded {
    inner: HttpClient,
}

#[async_trait::async_trait]
impl HttpService for Guarded {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Of the requests for credentials the library reads some refusals itself.
        let of_object = request.headers().contains_key(RANGE);
        let mut response = self.inner.execute(request).await?;
        let status = response.status().as_u16();
        let failed = may_pass(status) || (of_object && status >= 300);
        if failed {
            let code = code_of(response).await;
            let refused = Refused { status, code };
            return Err(HttpError::new(HttpErrorKind::Unknown, refused));
        }
        let nonsense = response
            .headers()
            .get(CONTENT_RANGE)
            .is_some_and(|value| !value.to_str().is_ok_and(is_content_range));
        if nonsense {
            // The library refuses a partial answer that does not say which part it is.
            response.headers_mut().remove(CONTENT_RANGE);
        }
        Ok(response)
    }
}

const RANGE: &str = "range";
const CONTENT_RANGE: &str = "content-range";

/// Whether a refusal with this status may be another answer a moment later.
pub(crate) fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// The code in the document that comes with a failure. Of a document that is long, or breaks off,
/// what has come.
async fn code_of(response: HttpResponse) -> Option<String> {
    const MOST: usize = 64 << 10;
    let mut document = Vec::new();
    let mut body = response.into_body().bytes_stream();
    while document.len() < MOST
        && let Some(Ok(chunk)) = body.next().await
    {
        document.extend_from_slice(&chunk);
    }
    code_in(&String::from_utf8_lossy(&document))
}

fn code_in(document: &str) -> Option<String> {
    let (_, rest) = document.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let plain = (1..=64).contains(&code.len()) && code.chars().all(|c| c.is_ascii_alphanumeric());
    plain.then(|| code.to_owned())
}

/// Whether this is `bytes FIRST-LAST/SIZE` with FIRST ≤ LAST < SIZE (RFC 9110, 14.4), or the
/// `bytes */SIZE` of an answer without content.
fn is_content_range(value: &str) -> bool {
    let Some((range, size)) = value.strip_prefix("bytes ").and_then(|v| v.split_once('/')) else {
        return false;
    };
    if range == "*" {
        return true;
    }
    let Some((first, last)) = range.split_once('-') else {
        return false;
    };
    match (
        first.parse::<u64>(),
        last.parse::<u64>(),
        size.parse::<u64>(),
    ) {
        (Ok(first), Ok(last), Ok(size)) => first <= last && last < size,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_range_that_lies_within_the_size_is_let_through() {
        for good in [
            "bytes 0-0/1",
            "bytes 5-9/10",
            "bytes */0",
            "bytes 0-9/18446744073709551615",
        ] {
            assert!(is_content_range(good), "{good}");
        }
        for bad in [
            "",
            "bytes",
            "bytes 0-18446744073709551615/0",
            "bytes 0-18446744073709551615/18446744073709551615",
            "bytes 0-0/0",
            "bytes 9-5/10",
            "bytes 0-10/10",
            "bytes 0-9/*",
            "bytes -1-9/10",
            "bytes 0-18446744073709551616/1",
            "items 0-1/2",
        ] {
            assert!(!is_content_range(bad), "{bad}");
        }
    }

    #[test]
    fn a_code_is_a_word() {
        let document = "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>…</Message>";
        assert_eq!(code_in(document).as_deref(), Some("SlowDown"));
        for none in [
            "",
            "<Code>SlowDown",
            "<Code>AKIA/secret</Code>",
            "SlowDown</Code>",
            "<Code></Code>",
        ] {
            assert_eq!(code_in(none), None, "{none}");
        }
    }

    #[test]
    fn what_may_pass_is_the_servers_own_trouble() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(may_pass(status));
        }
        for status in [200, 206, 301, 304, 400, 401, 403, 404, 412, 416, 501, 505] {
            assert!(!may_pass(status));
        }
    }
}
