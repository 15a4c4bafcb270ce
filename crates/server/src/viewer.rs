//! The page at `/`, out of the program itself: what `viewer/` holds, compressed once.
//!
//! The page loads nothing from anywhere else, and may not: its content security policy names this
//! server only, and knows no inline script or style. Files are few and small, so that a browser
//! asks for them again each time (`no-cache`) and is told `304`: a new version is seen at once.

use std::io::Write as _;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use xxhash_rust::xxh3::xxh3_128;

/// What the page may load, and from where: itself. Pictures are made from bytes that came over the
/// WebSocket (`blob:`).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

macro_rules! files {
    ($($name:literal)*) => {
        &[$(($name, include_bytes!(concat!("../viewer/", $name)))),*]
    };
}

/// Every file of `viewer/`.
const FILES: &[(&str, &[u8])] = files! {
    "api.js"
    "film.js"
    "icon.svg"
    "index.html"
    "index.js"
    "key.js"
    "link.js"
    "local.js"
    "main.js"
    "meter.js"
    "place.js"
    "player.js"
    "projector.js"
    "shelf.js"
    "stage.js"
    "timeline.js"
    "viewer.css"
    "words.js"
};

const PAGE: &str = "index.html";

/// A file as it is sent.
struct Asset {
    name: &'static str,
    content_type: HeaderValue,
    plain: Coded,
    gzip: Option<Coded>,
}

/// In one content coding. Each has an entity tag of its own, as strong tags must.
struct Coded {
    body: Bytes,
    etag: HeaderValue,
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let assets = FILES.iter().filter_map(|(name, content)| {
        let hash = xxh3_128(content);
        let gzip = compressed(content).ok().and_then(|body| {
            let etag = HeaderValue::try_from(format!("\"{hash:032x}-gz\"")).ok()?;
            let body = Bytes::from(body);
            Some(Coded { body, etag })
        });
        Some(Asset {
            name,
            content_type: content_type(name),
            plain: Coded {
                body: Bytes::from_static(content),
                etag: HeaderValue::try_from(format!("\"{hash:032x}\"")).ok()?,
            },
            gzip,
        })
    });
    assets.collect()
});

/// Routes of the page: `/`, and its files below `/viewer/`.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(async |headers: HeaderMap| answer(PAGE, &headers)))
        .route(
            "/viewer/{name}",
            get(async |Path(name): Path<String>, headers: HeaderMap| answer(&name, &headers)),
        )
}

/// Whether a path is one of the page's.
pub(crate) fn has(path: &str) -> bool {
    let file = path.strip_prefix("/viewer/");
    path == "/" || file.is_some_and(|name| FILES.iter().any(|(file, _)| *file == name))
}

fn answer(name: &str, asked: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return (StatusCode::NOT_FOUND, "The viewer has no such file\n").into_response();
    };
    let gzip = asset.gzip.as_ref().filter(|_| takes_gzip(asked));
    let coded = gzip.unwrap_or(&asset.plain);
    let mut headers = HeaderMap::new();
    headers.insert(ETAG, coded.etag.clone());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if has_already(asked, &coded.etag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    headers.insert(CONTENT_TYPE, asset.content_type.clone());
    if gzip.is_some() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    (headers, coded.body.clone()).into_response()
}

fn content_type(name: &str) -> HeaderValue {
    HeaderValue::from_static(match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    })
}

fn compressed(content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    encoder.finish()
}

/// Whether `gzip` stands in `Accept-Encoding`, and not with `q=0`.
fn takes_gzip(asked: &HeaderMap) -> bool {
    let lists = asked.get_all(ACCEPT_ENCODING).into_iter();
    let mut codings = lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','));
    codings.any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight
            .trim()
            .strip_prefix("q=")
            .is_some_and(|q| q.trim().parse::<f32>().is_ok_and(|q| q <= 0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

/// Whether `If-None-Match` names this tag. Weak comparison, as RFC 9110 asks for here: proxies
/// that compress make tags weak.
fn has_already(asked: &HeaderMap, etag: &HeaderValue) -> bool {
    let lists = asked.get_all(IF_NONE_MATCH).into_iter();
    let mut tags = lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: axum::http::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn every_file_of_the_folder_is_in_the_program() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/viewer");
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let held: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, held);
    }

    #[test]
    fn the_page_loads_every_module_at_once_and_none_inline() {
        let (_, page) = FILES.iter().find(|(name, _)| *name == PAGE).unwrap();
        let page = std::str::from_utf8(page).unwrap();
        for (name, _) in FILES.iter().filter(|(name, _)| name.ends_with(".js")) {
            assert_eq!(
                page.matches(&format!("\"viewer/{name}\"")).count(),
                1,
                "{name}"
            );
        }
        assert_eq!(page.matches("<script").count(), 1);
        assert!(!page.contains("<style") && !page.contains(" style="));
        assert!(!page.contains("http://") && !page.contains("https://"));
    }

    #[test]
    fn a_tag_that_is_known_is_not_sent_again() {
        for (encoding, tag) in [
            ("gzip, br", "-gz\""),
            ("identity", "\""),
            ("gzip;q=0", "\""),
        ] {
            let mut headers = asked(ACCEPT_ENCODING, encoding);
            let first = answer(PAGE, &headers);
            assert_eq!(first.status(), StatusCode::OK);
            let etag = first.headers().get(ETAG).unwrap().clone();
            assert!(
                etag.to_str().unwrap().ends_with(tag),
                "{encoding}: {etag:?}"
            );
            let gzip = first.headers().get(CONTENT_ENCODING).is_some();
            assert_eq!(gzip, tag == "-gz\"");
            headers.insert(IF_NONE_MATCH, etag.clone());
            let second = answer(PAGE, &headers);
            assert_eq!(second.status(), StatusCode::NOT_MODIFIED);
            assert_eq!(second.headers().get(ETAG), Some(&etag));
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static("\"another\""));
            assert_eq!(answer(PAGE, &headers).status(), StatusCode::OK);
        }
        assert!(has_already(
            &asked(IF_NONE_MATCH, "\"a\", W/\"b\""),
            &HeaderValue::from_static("\"b\"")
        ));
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let reply = answer("../src/viewer.rs", &HeaderMap::new());
        assert_eq!(reply.status(), StatusCode::NOT_FOUND);
    }
}
