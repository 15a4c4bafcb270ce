//! Requests over HTTP: paths, parameters and headers, through the whole router, over a folder with
//! a small video in it.

use std::cell::OnceCell;
use std::fs;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use engine::{Engine, EngineConfig};
use futures::StreamExt;
use storage::Store;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower::ServiceExt;

struct Place {
    _folder: TempDir,
    router: Router,
    runtime: Runtime,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let videos = crate::seeds::videos();
        for (name, video) in ["a.mp4", "b.h265"].into_iter().zip(&videos) {
            fs::write(folder.path().join(name), video).unwrap();
        }
        fs::write(folder.path().join("bad.mp4"), &videos[0][..700]).unwrap();
        let config = EngineConfig {
            workers: 1,
            cache_bytes: 4 << 20,
            ..EngineConfig::default()
        };
        let store = Store::local(folder.path()).unwrap();
        let engine = runtime.block_on(Engine::new(store, config)).unwrap();
        let router = runtime.block_on(async { bucket_streamer::fuzzing::router(engine) });
        Self {
            _folder: folder,
            router,
            runtime,
        }
    }
}

thread_local! {
    static PLACE: OnceCell<Place> = const { OnceCell::new() };
}

/// The first line is method, path and query; each further one a header.
pub(crate) fn run(data: &[u8]) {
    if let Some(request) = request(data) {
        PLACE.with(|place| {
            let place = place.get_or_init(Place::new);
            place.runtime.block_on(check(&place.router, request));
        });
    }
}

fn request(data: &[u8]) -> Option<Request<Body>> {
    let mut lines = data.split(|b| *b == b'\n');
    let first = std::str::from_utf8(lines.next()?).ok()?;
    let (method, uri) = first.split_once(' ')?;
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).ok()?;
    // As it comes over the wire: a path, not a whole address.
    let uri = uri.starts_with('/').then(|| uri.parse().ok())??;
    *request.uri_mut() = uri;
    for line in lines {
        let colon = line.iter().position(|b| *b == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request)
}

async fn check(router: &Router, request: Request<Body>) {
    let shown = format!("{request:?}");
    let answer = router.clone().oneshot(request).await.unwrap();
    let (head, body) = answer.into_parts();
    let status = head.status;
    // What somebody asks for is never the server's or the store's own trouble.
    assert!(
        status != StatusCode::INTERNAL_SERVER_ERROR && status != StatusCode::BAD_GATEWAY,
        "{status} for {shown}"
    );
    let kind = head.headers.get("content-type");
    let kind = kind.map_or("", |kind| kind.to_str().unwrap());
    let mut pieces = body.into_data_stream();
    let mut text = Vec::new();
    // Clips go on in their own time: their beginning is enough.
    let most = Duration::from_millis(if kind.starts_with("multipart") {
        1
    } else {
        60_000
    });
    let read = async {
        while let Some(piece) = pieces.next().await {
            text.extend_from_slice(&piece.unwrap());
        }
    };
    let ended = tokio::time::timeout(most, read).await;
    assert!(
        ended.is_ok() || kind.starts_with("multipart"),
        "{shown} hangs"
    );
    if kind.contains("json") && !head.headers.contains_key("content-encoding") && !text.is_empty() {
        let document: Result<serde_json::Value, _> = serde_json::from_slice(&text);
        let document = document.unwrap_or_else(|e| panic!("{e} in the answer to {shown}"));
        if status.is_client_error() {
            assert_eq!(document["status"], status.as_u16(), "{shown}");
            assert!(
                document["code"]
                    .as_str()
                    .is_some_and(|code| !code.is_empty())
            );
        }
    }
}
