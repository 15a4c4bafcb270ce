//! `GET /v1/videos`: folders and videos below a prefix.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use engine::VideoListing;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use super::videos::version_of;
use super::{Http, query};

#[derive(Deserialize, IntoParams, Default)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// What names begin with: a folder with its slash at the end, or a part of a name.
    prefix: String,
    /// Folders and videos at the most.
    #[param(minimum = 1, maximum = 1000, default = 1000)]
    limit: Option<usize>,
    /// The `cursor` of the page before.
    cursor: Option<String>,
}

/// A page of a folder.
#[derive(Serialize, ToSchema)]
pub(super) struct Page {
    /// As asked for.
    prefix: String,
    /// Folders, in the store's order.
    folders: Vec<Folder>,
    /// Videos, in the store's order.
    videos: Vec<Video>,
    /// Where the next page begins; absent on the last one. A page may have few entries, even none,
    /// and not be the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// A folder.
#[derive(Serialize, ToSchema)]
pub(super) struct Folder {
    /// To be asked for next.
    prefix: String,
}

/// An object that is a video by its name.
#[derive(Serialize, ToSchema)]
pub(super) struct Video {
    /// Its name: percent-encoded, the `{path}` of the other routes.
    path: String,
    /// Bytes.
    size: u64,
    /// When it was last written (RFC 3339), where the store says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
    /// What `v` may be in URLs of this version.
    version: String,
    /// This version was opened before and is a video; else only its name says so.
    confirmed: bool,
}

/// Folders and videos below a prefix, page by page.
#[utoipa::path(
    get,
    path = "/v1/videos",
    tag = "videos",
    params(ListQuery),
    responses(
        (status = 200, description = "A page", body = Page),
        (status = "4XX", description = "Not served", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not served", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    State(http): State<Arc<Http>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (request, _no_body) = request.into_parts();
    match page(&http, client.ip(), &request).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn page(http: &Http, client: IpAddr, request: &Parts) -> Result<Response, Problem> {
    let (caller, _) = http.ask(client, request)?;
    let ListQuery {
        prefix,
        limit,
        cursor,
    } = query(request.uri.query().unwrap_or_default())?;
    let limit = limit.unwrap_or(storage::MOST_ENTRIES);
    if !(1..=storage::MOST_ENTRIES).contains(&limit) {
        let most = storage::MOST_ENTRIES;
        return Err(Problem::bad_request(format!(
            "limit must be from 1 to {most}, but is {limit}"
        )));
    }
    let _place = http.room.try_acquire().map_err(|_| Problem::too_busy())?;
    let (access, cursor) = (&http.access, cursor.as_deref());
    let listing = access.list(&http.engine, &caller, &prefix, limit, cursor);
    let listing = listing.await;
    let listing = listing.map_err(|e| Problem::of_listing(&prefix, e))?;
    let text = serde_json::to_string(&told(prefix, listing)).unwrap_or_default();
    // What it shows is the caller's alone.
    let lifetime = match caller.name() {
        None => "no-cache",
        Some(_) => "no-store",
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static(lifetime)),
    ];
    Ok((headers, text).into_response())
}

fn told(prefix: String, listing: VideoListing) -> Page {
    let folders = listing.folders.into_iter();
    let videos = listing.videos.into_iter().map(|video| Video {
        version: version_of(&video.identity),
        path: video.entry.name,
        size: video.entry.size,
        modified: (video.entry.modified).map(|m| humantime::format_rfc3339_millis(m).to_string()),
        confirmed: video.confirmed,
    });
    Page {
        prefix,
        folders: folders.map(|prefix| Folder { prefix }).collect(),
        videos: videos.collect(),
        cursor: listing.cursor,
    }
}
