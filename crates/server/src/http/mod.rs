//! Frames and what is known of videos, by URL: for caches, CDNs and everybody who has no
//! WebSocket. `docs/http.md` is the contract. Thin: what is made is made by the engine.
//!
//! A request goes one way: [`access`] says who asks, [`path`] takes its URL apart, [`videos`] gives the
//! video, one of the handlers makes the answer, [`caching`] says how long it holds, or [`problem`]
//! says what is wrong.

mod accept;
mod access;
mod caching;
mod clients;
mod clip;
mod frame;
mod gop;
mod hot;
mod index;
mod info;
mod list;
mod openapi;
mod path;
mod problem;
mod storyboard;
mod videos;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use engine::Engine;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, watch};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{Predicate, SizeAbove};
use tower_http::cors::{AllowOrigin, CorsLayer};

use self::access::Granted;
use self::clients::Clients;
use self::hot::Answers;
use self::path::Wanted;
use self::problem::Problem;
use self::videos::{Current, Videos};
use crate::access::{Access, Caller, Refused, Seen, Sight};
use crate::metrics::{Metrics, Route};
use crate::rates::Rates;
use crate::who::Who;

/// What a path is for.
pub(crate) fn route_of(path: &str) -> Route {
    match path {
        "/health" => return Route::Health,
        "/ready" => return Route::Ready,
        "/metrics" => return Route::Metrics,
        "/ws" => return Route::Websocket,
        "/v1/openapi.json" => return Route::Openapi,
        "/v1/videos" | path::VIDEOS => return Route::List,
        _ => {}
    }
    if !path.starts_with(path::VIDEOS) {
        return match crate::viewer::has(path) {
            true => Route::Viewer,
            false => Route::Other,
        };
    }
    match path::wanted(path) {
        Wanted::Info => Route::Info,
        Wanted::Index => Route::Index,
        Wanted::Storyboard(_) => Route::Storyboard,
        Wanted::Clip => Route::Clip,
        Wanted::Gop => Route::Gop,
        Wanted::Frame(_) => Route::Frame,
    }
}

/// How the HTTP side is set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct HttpConfig {
    /// Origins whose pages may use this server; `*`: all may.
    pub(crate) cors_origins: Vec<String>,
    /// How long an object that was looked at is taken to be the same.
    pub(crate) lifetime: Duration,
    /// Requests that wait for work at the same time.
    pub(crate) requests: usize,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            cors_origins: Vec::new(),
            lifetime: Duration::from_secs(10),
            requests: 256,
        }
    }
}

/// What all requests share.
#[derive(Debug)]
struct Http {
    engine: Engine,
    access: Access,
    videos: Videos,
    clients: Clients,
    /// Places for requests that something has to be made or read for.
    room: Arc<Semaphore>,
    /// Pictures that were sent, by their URLs.
    hot: Answers,
    /// Storyboards that were made, by their tags.
    sheets: Cache<String, Bytes, ByBytes>,
    /// Places for storyboards that are made: each takes much memory.
    sheet_room: Arc<Semaphore>,
    /// Places for compressed samples that are put together.
    large: Semaphore,
    /// Places for clips.
    clip_room: Arc<Semaphore>,
    /// How much a client may ask for.
    rates: Arc<Rates>,
    metrics: Arc<Metrics>,
    /// Turns true when the server is to stop.
    stop: watch::Receiver<bool>,
}

#[derive(Clone, Debug)]
struct ByBytes;

impl Weighter<String, Bytes> for ByBytes {
    fn weight(&self, key: &String, bytes: &Bytes) -> u64 {
        (key.len() + bytes.len()) as u64
    }
}

/// Bytes of answers, and of storyboards, that are kept beside the engine's cache: a sixteenth of what
/// that may hold, and this at the most.
const MOST_KEPT: u64 = 32 << 20;
/// Storyboards that are made at the same time.
const SHEETS_AT_WORK: usize = 4;
/// Answers with compressed samples that are put together at the same time.
const GOPS_AT_WORK: usize = 8;
/// Clips that play at the same time.
const CLIPS: usize = 64;

/// Headers that pages of other origins may read, beside those that they always may.
const EXPOSED: [&str; 7] = [
    "etag",
    "retry-after",
    "video-version",
    "frame-number",
    "frame-time",
    "frame-offset",
    "x-request-id",
];

/// The routes below `/v1`.
pub(crate) fn router(
    engine: Engine,
    access: Access,
    config: &HttpConfig,
    rates: Arc<Rates>,
    metrics: Arc<Metrics>,
    stop: watch::Receiver<bool>,
) -> Router {
    let kept = (engine.cache_budget() / 16).min(MOST_KEPT);
    let http = Arc::new(Http {
        videos: Videos::new(engine.clone(), config.lifetime),
        clients: Clients::new(engine.clone()),
        engine,
        access,
        hot: Answers::of(kept),
        sheets: Cache::with_weighter(256, kept, ByBytes),
        sheet_room: Arc::new(Semaphore::new(SHEETS_AT_WORK)),
        large: Semaphore::new(GOPS_AT_WORK),
        clip_room: Arc::new(Semaphore::new(CLIPS)),
        rates,
        metrics,
        stop,
        room: Arc::new(Semaphore::new(config.requests)),
    });
    let no_such_path = async || Problem::not_found("There is nothing at this path");
    let refused = async || Problem::method_not_allowed();
    let router = Router::new()
        .route("/v1/videos", get(list::list).fallback(refused))
        .route("/v1/videos/", get(list::list).fallback(refused))
        .route("/v1/videos/{*path}", get(of_video).fallback(refused))
        .route("/v1/openapi.json", get(openapi::openapi).fallback(refused))
        .route("/v1", get(no_such_path))
        .route("/v1/{*path}", get(no_such_path))
        .layer(CompressionLayer::new().gzip(true).compress_when(is_text()));
    let router = router.with_state(http);
    match cors(&config.cors_origins) {
        Some(layer) => router.layer(layer),
        None => router,
    }
}

impl Http {
    /// Who asks, and for whom that counts, if they may ask for one more.
    ///
    /// # Errors
    /// Nobody who may, or for now not.
    fn ask(&self, client: IpAddr, request: &Parts) -> Result<(Caller, Who), Problem> {
        let asked = access::ask(&self.access, request);
        let who = match &asked {
            Ok(caller) => Who::of(caller, client),
            Err(_) => Who::at(client),
        };
        self.rates.message(who).map_err(Problem::too_fast)?;
        Ok((asked?, who))
    }

    /// Takes so many frames of what somebody may ask for.
    fn frames(&self, who: Who, count: usize) -> Result<(), Problem> {
        let taken = self.rates.frames(who, count);
        taken.map_err(Problem::too_fast)
    }
}

/// What is worth compressing: pictures are.
fn is_text() -> impl Predicate {
    SizeAbove::new(1024).and(
        |_: axum::http::StatusCode,
         _: axum::http::Version,
         headers: &HeaderMap,
         _: &axum::http::Extensions| {
            let kind = headers.get(axum::http::header::CONTENT_TYPE);
            let kind = kind.and_then(|k| k.to_str().ok()).unwrap_or_default();
            kind.contains("json") || kind.starts_with("text/") || kind == index::SIDECAR
        },
    )
}

fn cors(origins: &[String]) -> Option<CorsLayer> {
    let allowed = if origins.is_empty() {
        return None;
    } else if origins.iter().any(|o| o == "*") {
        AllowOrigin::any()
    } else {
        let known = origins.iter().filter_map(|o| HeaderValue::from_str(o).ok());
        AllowOrigin::list(known)
    };
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::HEAD])
        .allow_headers([header::IF_NONE_MATCH, header::AUTHORIZATION])
        .expose_headers(EXPOSED.map(HeaderName::from_static))
        .max_age(Duration::from_secs(86_400));
    Some(layer)
}

/// A request about a video.
struct Asked<'a> {
    http: &'a Http,
    name: &'a str,
    caller: Caller,
    /// How the caller sees the name.
    seen: Seen,
    granted: Granted,
    request: &'a Parts,
    headers: &'a HeaderMap,
    query: &'a str,
    client: IpAddr,
    /// For whom it counts.
    who: Who,
}

impl Asked<'_> {
    /// The video that it is about: the version that is `pinned`, if one is.
    async fn video(&self, pinned: Option<&str>) -> Result<Current, Problem> {
        let Http {
            videos,
            access,
            engine,
            ..
        } = self.http;
        match &self.seen {
            Seen::AsNamed => videos.get(self.name, self.name, pinned).await,
            Seen::As(name) => videos.get(name, self.name, pinned).await,
            Seen::Hidden => {
                let nothing = access.look_for_nothing(engine, &self.caller, self.name);
                Err(Problem::of_open(self.name, &nothing.await))
            }
        }
    }

    /// The query's parameters.
    fn query<Q: DeserializeOwned>(&self) -> Result<Q, Problem> {
        query(self.query)
    }
}

fn query<Q: DeserializeOwned>(text: &str) -> Result<Q, Problem> {
    serde_urlencoded::from_str(text).map_err(|e| Problem::bad_request(e.to_string()))
}

/// The answer to who is not let in.
pub(crate) fn refusal(refused: Refused) -> Response {
    Problem::from(refused).into_response()
}

async fn of_video(
    State(http): State<Arc<Http>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (request, _no_body) = request.into_parts();
    let answered = answer(&http, client.ip(), &request).await;
    answered.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(http: &Http, client: IpAddr, request: &Parts) -> Result<Response, Problem> {
    let (caller, who) = http.ask(client, request)?;
    let kept = || http.hot.find(&http.videos, &caller, request);
    if *caller.sight() == Sight::All
        && let Some(response) = kept()
    {
        http.frames(who, 1)?;
        http.metrics.by_url(true);
        return Ok(response);
    }
    let (name, wanted) = path::parse(request.uri.path())?;
    let seen = http.access.seen(&caller, &name);
    // Others must not notice whether it is there.
    if *caller.sight() != Sight::All
        && seen == Seen::AsNamed
        && let Some(response) = kept()
    {
        http.frames(who, 1)?;
        http.metrics.by_url(true);
        return Ok(response);
    }
    if let Wanted::Frame(Some(_)) = wanted {
        http.metrics.by_url(false);
    }
    let asked = Asked {
        http,
        granted: Granted::to(&caller),
        seen,
        caller,
        name: &name,
        request,
        headers: &request.headers,
        query: request.uri.query().unwrap_or_default(),
        client,
        who,
    };
    // On the heap: it is large, and what was found above would be moved about with it.
    match Box::pin(asked.answer(wanted)).await {
        // The object was replaced since it was looked at: the new one's.
        Err(problem) if problem.is_video_changed() => Box::pin(asked.answer(wanted)).await,
        answered => answered,
    }
}

impl Asked<'_> {
    async fn answer(&self, wanted: Wanted) -> Result<Response, Problem> {
        match wanted {
            Wanted::Info => info::info(self).await,
            Wanted::Index => index::index(self).await,
            Wanted::Storyboard(form) => storyboard::storyboard(self, form).await,
            Wanted::Clip => clip::clip(self).await,
            Wanted::Gop => {
                self.http.frames(self.who, 1)?;
                gop::gop(self).await
            }
            Wanted::Frame(format) => {
                self.http.frames(self.who, 1)?;
                frame::frame(self, format).await
            }
        }
    }
}
