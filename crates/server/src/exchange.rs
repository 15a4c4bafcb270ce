//! What is the same for every HTTP request: its id, its figures, and its line in the log where it
//! was not served.
//!
//! The id is the client's own `x-request-id`, where that is short and plain, else one is made. It
//! stands in the answer's header, in the document that says what is wrong, and in the log. A
//! WebSocket session has the id of the request that opened it.

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use axum::body::HttpBody as _;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::http::route_of;
use crate::metrics::{Metrics, Outcome, Protocol, Route};

const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken from a client.
const LONGEST: usize = 64;

/// The name of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RequestId(Arc<str>);

impl RequestId {
    /// The one that the client gave, else a new one.
    fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(HEADER).and_then(|id| id.to_str().ok());
        given.and_then(Self::given).unwrap_or_else(Self::new)
    }

    /// One that is short, and nothing but letters, digits and a few signs: it goes into a header
    /// and into the log as it is.
    fn given(id: &str) -> Option<Self> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.:".contains(&c);
        let good = (1..=LONGEST).contains(&id.len()) && id.bytes().all(plain);
        good.then(|| Self(id.into()))
    }

    fn new() -> Self {
        /// Another one at each start.
        static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = xxh3_64_with_seed(&number.to_le_bytes(), *SEED);
        Self(format!("{id:016x}").into())
    }

    /// That of the HTTP request that is being answered.
    pub(crate) fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

tokio::task_local! {
    static CURRENT: RequestId;
}

/// Put beside an answer: why the request was not served.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) why: String,
}

/// Stands around everything that answers.
pub(crate) async fn watched(
    State(metrics): State<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let id = RequestId::of(request.headers());
    let (uri, method) = (request.uri().clone(), request.method().clone());
    let client = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let client = client.map(|ConnectInfo(address)| *address);
    let mut exchange = metrics.http(route_of(uri.path()));
    let route = exchange.route.as_str();
    let span = tracing::debug_span!("http", request = %id, route);
    #[cfg(feature = "otel")]
    crate::trace::go_on(&span, request.headers());
    let answering = next.run(request).instrument(span);
    let mut response = CURRENT.scope(id.clone(), answering).await;
    let status = response.status();
    exchange.ends(outcome(status));
    if exchange.route == Route::Frame && status == StatusCode::OK {
        let bytes = response.body().size_hint().exact().unwrap_or(0);
        metrics.image(Protocol::Http, bytes);
    }
    if status.is_client_error() || status.is_server_error() {
        let refusal = response.extensions().get::<Refusal>();
        let code = refusal.map_or_else(|| plain_code(status), |r| r.code);
        metrics.errors(Protocol::Http, code, 1);
        // Paths are percent-encoded, so that they have no line of their own. What stands behind a
        // question mark may be a secret.
        let (path, seconds) = (uri.path(), exchange.began.elapsed().as_secs_f64());
        let (request, status) = (id.as_str(), status.as_u16());
        let client = client.map(tracing::field::display);
        if status >= 500 {
            let why = refusal.map(|r| r.why.as_str());
            tracing::warn!(request, client, %method, route, path, status, code, why, seconds, "not served");
        } else {
            tracing::info!(request, client, %method, route, path, status, code, seconds, "not served");
        }
    }
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(HEADER, id);
    }
    response
}

/// For what is refused before anything of ours is asked.
fn plain_code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::METHOD_NOT_ALLOWED => "method_not_allowed",
        _ if status.is_client_error() => "bad_request",
        _ => "failed",
    }
}

fn outcome(status: StatusCode) -> Outcome {
    match status.as_u16() {
        0..300 => Outcome::Ok,
        300..400 => Outcome::NotModified,
        400..500 => Outcome::Refused,
        _ => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_where_it_is_short_and_plain() {
        let of = |id: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_static(id));
            RequestId::of(&headers).to_string()
        };
        for good in ["a", "4f3a-B_1.2:3", "0123456789abcdef0123456789abcdef"] {
            assert_eq!(of(good), good);
        }
        let long = "x".repeat(65);
        for bad in ["", "a b", "a\tb", "a\"b", "a\\b", "<a>", &*long.leak()] {
            let made = of(bad);
            assert_eq!(made.len(), 16, "{bad}");
            assert_ne!(made, bad);
        }
        let made = |_| RequestId::new().to_string();
        let ids: std::collections::BTreeSet<String> = (0..1000).map(made).collect();
        assert_eq!(ids.len(), 1000);
    }
}
