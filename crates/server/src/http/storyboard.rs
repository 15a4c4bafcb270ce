//! `GET /v1/videos/{path}/storyboard.jpg`, `.vtt`, `.json`: many small pictures in one, and what is
//! where in it, as players show it above their time lines.
//!
//! The video is divided into as many spans of time as there are tiles. What stands for a span is
//! the frame in it that is cheapest to decode: its keyframe, else the one that follows a keyframe
//! most closely.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use codec::{ContactSheet, Rendition};
use engine::{FrameEvent, FrameTarget, Output, Priority, RequestOptions};
use media::{PresentationIndex, VideoIndex};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Asked;
use super::caching::{Answer, Tag};
use super::path::Sheet;
use super::problem::{FrameRange, Problem, seconds};
use super::videos::Current;

/// Columns, and rows, at the most.
const MOST_TILES: u32 = 32;
/// Pixels of a sheet at the most: 48 MiB while it is made.
const MOST_PIXELS: u64 = 16 << 20;
const WIDTHS: std::ops::RangeInclusive<u32> = 16..=640;
/// Quality of a tile before it is encoded with the others.
const TILE_QUALITY: u8 = 92;

#[derive(Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct StoryboardQuery {
    /// Tiles beside each other.
    #[param(minimum = 1, maximum = 32, default = 10)]
    columns: u32,
    /// Rows of tiles; without it as many as `interval` needs, else 10.
    #[param(minimum = 1, maximum = 32)]
    rows: Option<u32>,
    /// Width of a tile.
    #[param(minimum = 16, maximum = 640, default = 160)]
    width: u32,
    /// Seconds that a tile stands for; without it the tiles divide the whole video.
    #[param(minimum = 0.001)]
    interval: Option<f64>,
    /// The version that is meant.
    v: Option<String>,
}

impl Default for StoryboardQuery {
    fn default() -> Self {
        Self {
            columns: 10,
            rows: None,
            width: 160,
            interval: None,
            v: None,
        }
    }
}

/// What is where in a sheet.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub(super) struct Storyboard {
    /// The sheet, from where this was.
    url: String,
    /// Which version of the video this is.
    version: String,
    /// Tiles beside each other.
    columns: u32,
    /// Rows of tiles.
    rows: u32,
    /// Pixels of a tile.
    tile_width: u32,
    /// Pixels of a tile.
    tile_height: u32,
    /// Seconds that a tile stands for.
    interval: f64,
    tiles: Vec<Tile>,
}

/// A picture in the sheet.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub(super) struct Tile {
    /// Pixels from the left.
    x: u32,
    /// Pixels from above.
    y: u32,
    /// Where its span begins, in seconds.
    start: f64,
    /// Where its span ends.
    end: f64,
    /// The frame that it shows.
    frame: u32,
}

/// A contact sheet, or what is where in it.
#[utoipa::path(
    get,
    path = "/v1/videos/{path}/storyboard.{form}",
    tag = "frames",
    params(
        ("path" = String, Path, description = "The video's name, percent-encoded as one part"),
        ("form" = inline(Sheet), Path, description = "What is wanted of it"),
        StoryboardQuery,
    ),
    responses(
        (status = 200, description = "The sheet, WebVTT with `url#xywh=`, or JSON", content(
            (Vec<u8> = "image/jpeg"),
            (String = "text/vtt"),
            (Storyboard = "application/json"),
        )),
        (status = 304, description = "The client has it"),
        (status = "4XX", description = "Not served", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not served", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn storyboard(asked: &Asked<'_>, form: Sheet) -> Result<Response, Problem> {
    let query: StoryboardQuery = asked.query()?;
    query.check()?;
    let current = asked.video(query.v.as_deref()).await?;
    let (video, version) = (&current.opened.video, &current.opened.version);
    let size = (video.info().width, video.info().height);
    let board = Storyboard::plan(&query, video.index(), size, version)?;
    let parameters = format!("{form:?} {}", board.url);
    let tag = match form {
        Sheet::Jpg => Tag::strong(video.identity(), &parameters),
        Sheet::Vtt | Sheet::Json => Tag::weak(video.identity(), &parameters),
    };
    let answer = Answer {
        current: &current,
        granted: asked.granted,
        tag: &tag,
        content_type: match form {
            Sheet::Jpg => "image/jpeg",
            Sheet::Vtt => "text/vtt",
            Sheet::Json => "application/json",
        },
        varies: false,
    };
    if tag.is_known_to(asked.headers) {
        return Ok(answer.not_modified());
    }
    Ok(match form {
        Sheet::Json => answer.with(serde_json::to_string(&board).unwrap_or_default()),
        Sheet::Vtt => answer.with(board.vtt()),
        Sheet::Jpg => answer.with(sheet(asked, &current, board, &tag).await?),
    })
}

impl StoryboardQuery {
    fn check(&self) -> Result<(), Problem> {
        let refused = |what: String| Err(Problem::bad_request(what));
        let tiles = 1..=MOST_TILES;
        for (name, count) in [("columns", Some(self.columns)), ("rows", self.rows)] {
            if count.is_some_and(|c| !tiles.contains(&c)) {
                return refused(format!("{name} must be from 1 to {MOST_TILES}"));
            }
        }
        if !WIDTHS.contains(&self.width) {
            let (from, to) = (WIDTHS.start(), WIDTHS.end());
            return refused(format!("width must be from {from} to {to}"));
        }
        if self.interval.is_some_and(|i| !(0.001..=1e9).contains(&i)) {
            return refused("interval must be seconds from 0.001 on".into());
        }
        Ok(())
    }
}

impl Storyboard {
    fn plan(
        query: &StoryboardQuery,
        index: &VideoIndex,
        (width, height): (u32, u32),
        version: &str,
    ) -> Result<Self, Problem> {
        let columns = query.columns;
        let duration = seconds(index.duration(), index).max(f64::MIN_POSITIVE);
        let wanted = query.interval.map(|i| (duration / i).ceil().max(1.0));
        let rows = match (query.rows, wanted) {
            (Some(rows), _) => rows,
            (None, Some(tiles)) if tiles <= f64::from(columns * MOST_TILES) => {
                (tiles as u32).div_ceil(columns).max(1)
            }
            (None, Some(_)) => MOST_TILES + 1,
            (None, None) => 10.min(MOST_TILES),
        };
        let room = columns * rows;
        if rows > MOST_TILES || wanted.is_some_and(|tiles| tiles > f64::from(room)) {
            let most = columns * query.rows.unwrap_or(MOST_TILES);
            return Err(Problem::bad_request(format!(
                "the video lasts {duration:.3} s: an interval of at least {:.3} s fits into \
                 {most} tiles",
                duration / f64::from(most)
            )));
        }
        let tile = Rendition {
            max_width: Some(query.width),
            ..Rendition::full_size(TILE_QUALITY)
        };
        let (tile_width, tile_height) = tile.size(width as usize, height as usize);
        let pixels = (u64::from(room))
            .saturating_mul(tile_width as u64)
            .saturating_mul(tile_height as u64);
        if pixels > MOST_PIXELS {
            return Err(Problem::bad_request(format!(
                "a sheet of {columns}x{rows} tiles of {tile_width}x{tile_height} is too large: at \
                 most {MOST_PIXELS} pixels are made"
            )));
        }
        let interval = query.interval.unwrap_or(duration / f64::from(room));
        let (tile_width, tile_height) = (tile_width as u32, tile_height as u32);
        let tiles = spans(index, interval, room)
            .into_iter()
            .zip(0u32..)
            .map(|((span, frame), n)| Tile {
                x: n % columns * tile_width,
                y: n / columns * tile_height,
                start: f64::from(span) * interval,
                end: (f64::from(span + 1) * interval).min(duration),
                frame,
            })
            .collect();
        let mut url = format!(
            "storyboard.jpg?columns={columns}&rows={rows}&width={}",
            query.width
        );
        if let Some(interval) = query.interval {
            // Writing into a string does not fail.
            write!(url, "&interval={interval}").ok();
        }
        write!(url, "&v={version}").ok();
        Ok(Self {
            url,
            version: version.to_owned(),
            columns,
            rows,
            tile_width,
            tile_height,
            interval,
            tiles,
        })
    }

    /// WebVTT, as players read it.
    fn vtt(&self) -> String {
        let clock = |seconds: f64| {
            let millis = (seconds * 1000.0).round().max(0.0) as u64;
            let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
            let (seconds, millis) = (millis / 1000 % 60, millis % 1000);
            format!("{hours:02}:{minutes:02}:{seconds:02}.{millis:03}")
        };
        let mut text = String::from("WEBVTT\n");
        for tile in &self.tiles {
            let (start, end) = (clock(tile.start), clock(tile.end));
            let Tile { x, y, .. } = tile;
            let (url, w, h) = (&self.url, self.tile_width, self.tile_height);
            write!(text, "\n{start} --> {end}\n{url}#xywh={x},{y},{w},{h}\n").ok();
        }
        text
    }
}

/// The spans in which a frame begins, and for each the frame that stands for it.
fn spans(index: &VideoIndex, interval: f64, most: u32) -> Vec<(u32, u32)> {
    let first = index.presentation_time(PresentationIndex(0)).unwrap_or(0);
    // By span: how far behind its keyframe the cheapest frame lies, and which that is.
    let mut best: Vec<Option<(u32, u32)>> = Vec::new();
    for frame in 0..index.frame_count() {
        let place = PresentationIndex(frame);
        let (Some(time), Some(sample)) =
            (index.presentation_time(place), index.decode_index(place))
        else {
            continue;
        };
        let span = (seconds(time.saturating_sub(first), index) / interval + 1e-9).floor();
        let span = (span.max(0.0) as usize).min(most.saturating_sub(1) as usize);
        if best.len() <= span {
            best.resize(span + 1, None);
        }
        let sync = index.sync_at_or_before(sample).unwrap_or(sample);
        let cost = sample.0.saturating_sub(sync.0);
        if let Some(slot) = best.get_mut(span)
            && slot.is_none_or(|(known, _)| cost < known)
        {
            *slot = Some((cost, frame));
        }
    }
    let with_frames = best.into_iter().zip(0u32..);
    with_frames
        .filter_map(|(best, span)| Some((span, best?.1)))
        .collect()
}

/// Makes the sheet, unless it is kept.
async fn sheet(
    asked: &Asked<'_>,
    current: &Current,
    board: Storyboard,
    tag: &Tag,
) -> Result<Bytes, Problem> {
    let http = asked.http;
    let key = tag.as_str().to_owned();
    if let Some(sheet) = http.sheets.get(&key) {
        return Ok(sheet);
    }
    let busy = |_| Problem::too_busy();
    let place = Arc::clone(&http.sheet_room).try_acquire_owned();
    let place = place.map_err(busy)?;
    let (video, index) = (&current.opened.video, current.opened.video.index());
    let output = Output {
        width: Some(board.tile_width),
        height: Some(board.tile_height),
        quality: Some(TILE_QUALITY),
        ..Output::default()
    };
    let frames = board.tiles.iter();
    let targets: Vec<FrameTarget> = frames
        .filter_map(|tile| index.decode_index(PresentationIndex(tile.frame)))
        .map(|sample| FrameTarget { sample, output })
        .collect();
    if targets.is_empty() {
        let mut problem = Problem::not_found("The video shows no frames");
        problem.has_frames(FrameRange::of(index));
        return Err(problem);
    }
    http.frames(asked.who, targets.len())?;
    let options = RequestOptions {
        priority: Priority::Fifo,
        preview: false,
    };
    let client = http.clients.of(asked.client);
    let mut ticket = client.request(video, targets, options);
    let (columns, rows) = (board.columns as usize, board.rows as usize);
    let tile = (board.tile_width as usize, board.tile_height as usize);
    let made = |e: codec::CodecError| {
        Problem::of_frame(protocol::FrameErrorCode::EncodeFailed, e.to_string())
    };
    let mut sheet = ContactSheet::new(columns, rows, tile).map_err(made)?;
    let (mut shown, mut failure) = (0u32, None);
    while let Some(event) = ticket.next().await {
        let FrameEvent::Outcome(outcome) = event else {
            continue;
        };
        match outcome.result {
            // A small image: a fraction of a millisecond.
            Ok(image) => match sheet.put(outcome.position, &image.bytes) {
                Ok(()) => shown += 1,
                Err(error) => failure = Some(made(error)),
            },
            Err(error) => {
                let problem = Problem::of_engine(&error);
                if problem.is_video_changed() {
                    return Err(problem);
                }
                failure = Some(problem);
            }
        }
    }
    // Damaged frames leave their tiles black.
    if let (0, Some(problem)) = (shown, failure.take()) {
        return Err(problem);
    }
    let quality = http.engine.quality();
    let compressed = tokio::task::spawn_blocking(move || {
        let compressed = sheet.compress(quality);
        drop(place);
        compressed
    });
    let compressed = compressed.await.map_err(|_| Problem::too_busy())?;
    let bytes = Bytes::from(compressed.map_err(made)?);
    http.sheets.insert(key, bytes.clone());
    Ok(bytes)
}
