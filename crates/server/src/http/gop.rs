//! `GET /v1/videos/{path}/gop`: the compressed samples that a frame depends on, for those who decode
//! HEVC themselves, such as a browser with WebCodecs.
//!
//! The body: the length of a JSON text (4 bytes, the greatest first), the text, and the access units
//! one behind the other.

use axum::response::Response;
use bytes::{BufMut, BytesMut};
use media::{DecodeIndex, PresentationIndex, VideoIndex};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Asked;
use super::caching::{Answer, Tag};
use super::frame::{Mode, address_of, sample};
use super::problem::{Problem, seconds};

/// What one answer may hold.
const MOST_BYTES: u64 = 64 << 20;
/// The content type of the body.
const CONTENT_TYPE: &str = "application/vnd.bucket-streamer.gop";

#[derive(Deserialize, IntoParams, Default)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct GopQuery {
    /// The frame's number in presentation order, from 0. Exactly one of `frame`, `time` and
    /// `offset` must be given.
    frame: Option<u64>,
    /// Seconds from the first picture: the one that is shown then.
    time: Option<f64>,
    /// The position of the frame's sample in the object.
    offset: Option<u64>,
    /// The version that is meant.
    v: Option<String>,
}

/// The text before the access units: what a decoder is to be told.
#[derive(Serialize, ToSchema)]
pub(super) struct GopHeader {
    /// RFC 6381; parameter sets are in the first access unit, and there is no `description`.
    codec: String,
    /// Pixels of a decoded picture, not turned.
    width: u32,
    /// Pixels of a decoded picture, not turned.
    height: u32,
    /// How it is to be turned clockwise, in degrees.
    rotation: u16,
    /// Whether it is to be mirrored before that.
    mirrored: bool,
    /// The frame that is meant: the one to be shown of those that come out.
    frame: Option<u32>,
    /// Its `timestamp`.
    timestamp: i64,
    /// The access units in decode order.
    units: Vec<GopUnit>,
}

/// An access unit.
#[derive(Serialize, ToSchema)]
pub(super) struct GopUnit {
    /// How long it is.
    bytes: usize,
    /// `key` for the first, else `delta`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// When it is shown, in microseconds from the first picture.
    timestamp: i64,
    /// Its number in presentation order; `null` where an edit list hides it.
    frame: Option<u32>,
}

/// The compressed samples that a frame depends on.
#[utoipa::path(
    get,
    path = "/v1/videos/{path}/gop",
    tag = "frames",
    params(("path" = String, Path, description = "The video's name, percent-encoded as one part"), GopQuery),
    responses(
        (status = 200, description = "4 bytes of length, a `GopHeader` as JSON, the access units with start codes (Annex B)", content_type = "application/vnd.bucket-streamer.gop", body = Vec<u8>),
        (status = 304, description = "The client has it"),
        (status = "4XX", description = "Not served", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not served", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn gop(asked: &Asked<'_>) -> Result<Response, Problem> {
    let query: GopQuery = asked.query()?;
    let address = address_of(query.frame, query.time, query.offset)?;
    let current = asked.video(query.v.as_deref()).await?;
    let video = &current.opened.video;
    let index = video.index();
    let target = sample(index, address, Mode::Exact)?;
    let tag = Tag::strong(video.identity(), &format!("gop {}", target.0));
    let answer = Answer {
        current: &current,
        granted: asked.granted,
        tag: &tag,
        content_type: CONTENT_TYPE,
        varies: false,
    };
    if tag.is_known_to(asked.headers) {
        return Ok(answer.not_modified());
    }
    let busy = |_| Problem::too_busy();
    let _place = asked.http.large.try_acquire().map_err(busy)?;
    let units = asked.http.engine.closure(video, target, MOST_BYTES).await;
    let units = units.map_err(|e| Problem::of_engine(&e))?;
    let info = video.info();
    let orientation = index.orientation();
    let (width, height) = match orientation.swaps_axes() {
        true => (info.height, info.width),
        false => (info.width, info.height),
    };
    let header = GopHeader {
        // With its parameter sets in the stream it is `hev1`, however it is stored.
        codec: match info.codec.split_once('.') {
            Some((_, rest)) => format!("hev1.{rest}"),
            None => info.codec.clone(),
        },
        width,
        height,
        rotation: u16::from(orientation.quarter_turns) * 90,
        mirrored: orientation.mirrored,
        frame: index.presentation_index(target).map(|p| p.0),
        timestamp: timestamp(index, target),
        units: (units.iter().enumerate())
            .map(|(n, unit)| GopUnit {
                bytes: unit.bytes.len(),
                kind: if n == 0 { "key" } else { "delta" },
                timestamp: timestamp(index, unit.sample),
                frame: index.presentation_index(unit.sample).map(|p| p.0),
            })
            .collect(),
    };
    let text = serde_json::to_vec(&header).unwrap_or_default();
    let size = units.iter().map(|u| u.bytes.len()).sum::<usize>();
    let mut body = BytesMut::with_capacity(4 + text.len() + size);
    body.put_u32(u32::try_from(text.len()).unwrap_or(0));
    body.put_slice(&text);
    for unit in &units {
        body.put_slice(&unit.bytes);
    }
    Ok(answer.with(body.freeze()))
}

/// When a sample is shown, in microseconds from the first picture: of one that is hidden, when it
/// would be.
fn timestamp(index: &VideoIndex, sample: DecodeIndex) -> i64 {
    let first = PresentationIndex(0);
    let shown = index.presentation_index(sample);
    let ticks = match shown.and_then(|frame| index.presentation_time(frame)) {
        Some(time) => time.saturating_sub(index.presentation_time(first).unwrap_or(0)),
        None => {
            let begin = index.decode_index(first);
            let begin = begin.and_then(|s| index.composition_time(s)).unwrap_or(0);
            let own = index.composition_time(sample).unwrap_or(0);
            own.saturating_sub(begin)
        }
    };
    (seconds(ticks, index) * 1e6).round() as i64
}
