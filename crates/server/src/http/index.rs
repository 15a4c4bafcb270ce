//! `GET /v1/videos/{path}/index`: where the frames lie, as JSON in columns or as the offsets file
//! of `repo-cli`. Both are written piece by piece as they are sent: the index of a long video is
//! larger as text than in memory.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{ACCEPT, CONTENT_DISPOSITION};
use axum::response::Response;
use engine::Video;
use futures::stream;
use media::sidecar::{FrameOffset, OffsetsFile};
use media::{PresentationIndex, VideoIndex};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Asked;
use super::caching::{Answer, Tag};
use super::problem::Problem;

/// The content type of the offsets file.
pub(super) const SIDECAR: &str = "application/octet-stream";
/// Frames of one piece of text: some milliseconds of work at the most.
const PIECE: u32 = 4096;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum IndexFormat {
    /// Columns.
    Json,
    /// The offsets file of `repo-cli`, for `streaming-cli`.
    Sidecar,
}

#[derive(Deserialize, IntoParams, Default)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct IndexQuery {
    /// In place of what `Accept` says.
    #[param(inline)]
    format: Option<IndexFormat>,
    /// The version that is meant.
    v: Option<String>,
}

/// Where the frames lie: columns of equal length, in presentation order.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "describes what `Pieces` writes")]
pub(super) struct Index {
    /// The video's name.
    path: String,
    /// Which version this is.
    version: String,
    /// Frames of the video, and length of each column.
    frame_count: u32,
    /// Ticks per second.
    timescale: u32,
    /// Position of each frame's sample in the object.
    offset: Vec<u64>,
    /// Bytes of it.
    size: Vec<u32>,
    /// Presentation time in ticks, edit list applied; `time` counts from the first one.
    pts: Vec<i64>,
    /// 1 where the container says that decoding can start, else 0.
    keyframe: Vec<u8>,
}

/// The index's columns, in the order in which they are written.
const COLUMNS: [&str; 4] = ["offset", "size", "pts", "keyframe"];

/// Where the frames of a video lie.
#[utoipa::path(
    get,
    path = "/v1/videos/{path}/index",
    tag = "videos",
    params(("path" = String, Path, description = "The video's name, percent-encoded as one part"), IndexQuery),
    responses(
        (status = 200, description = "The index; with `format=sidecar` or `Accept: application/octet-stream` the offsets file", content(
            (Index = "application/json"),
            (String = "application/octet-stream"),
        )),
        (status = 304, description = "The client has it"),
        (status = "4XX", description = "Not served", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not served", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn index(asked: &Asked<'_>) -> Result<Response, Problem> {
    let IndexQuery { format, v } = asked.query()?;
    let current = asked.video(v.as_deref()).await?;
    let accept = asked.headers.get(ACCEPT).and_then(|a| a.to_str().ok());
    let sidecar = match format {
        Some(format) => format == IndexFormat::Sidecar,
        None => accept.is_some_and(|a| a.contains(SIDECAR) && !a.contains("application/json")),
    };
    let video = &current.opened.video;
    let form = if sidecar { "sidecar" } else { "index" };
    let tag = Tag::weak(video.identity(), form);
    let answer = Answer {
        current: &current,
        granted: asked.granted,
        tag: &tag,
        content_type: if sidecar { SIDECAR } else { "application/json" },
        varies: format.is_none(),
    };
    if tag.is_known_to(asked.headers) {
        return Ok(answer.not_modified());
    }
    let name = asked.name.to_owned();
    let pieces = Pieces::new(Arc::clone(video), name, &current.opened.version, sidecar);
    let pieces = stream::iter(pieces.map(Ok::<String, Infallible>));
    let mut response = answer.with(Body::from_stream(pieces));
    if sidecar {
        let file = HeaderValue::from_static("attachment; filename=\"video.offsets.json\"");
        response.headers_mut().insert(CONTENT_DISPOSITION, file);
    }
    Ok(response)
}

/// The text, in pieces.
struct Pieces {
    video: Arc<Video>,
    /// What stands before the columns, not yet written.
    head: Option<String>,
    sidecar: bool,
    /// Of [`COLUMNS`].
    column: usize,
    frame: u32,
}

impl Pieces {
    fn new(video: Arc<Video>, name: String, version: &str, sidecar: bool) -> Self {
        let text = |s: &str| serde_json::Value::from(s).to_string();
        let index = video.index();
        let head = if sidecar {
            format!("{{\"video_url\":{},\"frames\":[", text(&name))
        } else {
            format!(
                "{{\"path\":{},\"version\":{},\"frame_count\":{},\"timescale\":{}",
                text(&name),
                text(version),
                index.frame_count(),
                index.timescale()
            )
        };
        Self {
            head: Some(head),
            video,
            sidecar,
            column: 0,
            frame: 0,
        }
    }
}

impl Iterator for Pieces {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        let columns = if self.sidecar { 1 } else { COLUMNS.len() };
        let column = COLUMNS.get(self.column).filter(|_| self.column < columns)?;
        let index = self.video.index();
        let end = self.frame.saturating_add(PIECE).min(index.frame_count());
        let mut text = String::new();
        if self.frame == 0 && !self.sidecar {
            // Writing into a string does not fail.
            write!(text, ",\"{column}\":[").ok();
        }
        for frame in self.frame..end {
            if frame > 0 {
                text.push(',');
            }
            let frame = PresentationIndex(frame);
            if self.sidecar {
                let entry = OffsetsFile::frame(index, frame);
                text.push_str(&offset_text(entry));
            } else {
                write!(text, "{}", value(index, frame, self.column).unwrap_or(0)).ok();
            }
        }
        self.frame = end;
        if end >= index.frame_count() {
            text.push(']');
            self.frame = 0;
            self.column += 1;
            if self.column >= columns {
                text.push('}');
            }
        }
        Some(text)
    }
}

fn offset_text(entry: Option<FrameOffset>) -> String {
    entry
        .and_then(|entry| serde_json::to_string(&entry).ok())
        .unwrap_or_else(|| "null".into())
}

fn value(index: &VideoIndex, frame: PresentationIndex, column: usize) -> Option<i128> {
    if column == 2 {
        return index.presentation_time(frame).map(i128::from);
    }
    let sample = index.sample(index.decode_index(frame)?)?;
    Some(match column {
        0 => sample.offset.into(),
        1 => sample.size.into(),
        _ => sample.sync.into(),
    })
}
