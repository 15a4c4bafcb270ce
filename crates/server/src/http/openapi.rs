//! `GET /v1/openapi.json`: the API, described from the code that serves it.

use std::sync::OnceLock;

use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::gop::{GopHeader, GopUnit};
use super::problem::{FrameRange, Problem};
use super::{clip, frame, gop, index, info, list, storyboard};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "bucket-streamer",
        description = "Any single frame of an H.265 video in a bucket, exact",
        license(name = "MIT OR Apache-2.0")
    ),
    paths(
        list::list,
        info::info,
        index::index,
        frame::frame,
        storyboard::storyboard,
        clip::clip,
        gop::gop
    ),
    components(schemas(Problem, FrameRange, GopHeader, GopUnit)),
    // Where the server asks for no token, the first is enough.
    security((), ("token" = []), ("signed_url" = [])),
    modifiers(&Schemes)
)]
struct Document;

/// How a request says who asks.
struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let token = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A static token, or a JSON Web Token"));
        components.add_security_scheme("token", SecurityScheme::Http(token.build()));
        let signature = "With `key` and `expires`, of this very URL, as `repo-cli sign` makes it";
        let signature = ApiKeyValue::with_description("signature", signature);
        let signature = SecurityScheme::ApiKey(ApiKey::Query(signature));
        components.add_security_scheme("signed_url", signature);
    }
}

/// The document, made once.
pub(super) async fn openapi() -> Response {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = TEXT.get_or_init(|| Document::openapi().to_json().unwrap_or_default().into());
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text.clone()).into_response()
}
