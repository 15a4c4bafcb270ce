//! Looks at each answer of an S3 server before the client library does.
//!
//! The library adds one to the last byte of a `Content-Range` without looking, and some servers
//! answer a suffix read of an empty object with `bytes 0-18446744073709551615/0`.

use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
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

#[derive(Debug)]
struct Guarded {
    inner: HttpClient,
}

#[async_trait::async_trait]
impl HttpService for Guarded {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut response = self.inner.execute(request).await?;
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

const CONTENT_RANGE: &str = "content-range";

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
    use super::is_content_range;

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
}
