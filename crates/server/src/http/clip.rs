//! `GET /v1/videos/{path}/clip`: a part of a video as `multipart/x-mixed-replace`, which an `<img>`
//! plays.
//!
//! Pictures are sent at the rate asked for. A few are made ahead; a client that reads slowly sees
//! them later, and no more are made for it meanwhile.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use engine::{
    Client, EncodedImage, FrameError, FrameEvent, FrameTarget, FrameTicket, Output, Priority,
    RequestOptions, Video,
};
use futures::stream;
use media::{PresentationIndex, VideoIndex};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::Asked;
use super::frame::check_output;
use super::problem::{FrameRange, Problem, seconds};
use crate::rates::Pace;

/// Pictures that are ordered together.
const TOGETHER: usize = 16;
const RATES: std::ops::RangeInclusive<f64> = 0.01..=120.0;
/// What parts are separated by.
const BOUNDARY: &str = "frame";

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ClipFormat {
    /// JPEG images, each in place of the one before.
    #[default]
    Mjpeg,
}

#[derive(Deserialize, IntoParams, Default)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct ClipQuery {
    /// Seconds from the first picture.
    #[param(minimum = 0)]
    from: f64,
    /// Seconds from the first picture; without it, to the end.
    #[param(minimum = 0)]
    to: Option<f64>,
    /// Pictures a second; without it the video's, at most 30.
    #[param(minimum = 0.01, maximum = 120)]
    fps: Option<f64>,
    /// The only one there is.
    #[param(inline)]
    #[allow(dead_code, reason = "taken so that it is checked, and described")]
    format: ClipFormat,
    /// Pictures are scaled down to be at most so wide.
    #[param(minimum = 1, maximum = 65535)]
    width: Option<u32>,
    /// Pictures are scaled down to be at most so high.
    #[param(minimum = 1, maximum = 65535)]
    height: Option<u32>,
    /// 1 to 100, in place of the server's.
    #[param(minimum = 1, maximum = 100)]
    quality: Option<u8>,
    /// The version that is meant.
    v: Option<String>,
}

/// A part of a video, picture by picture.
#[utoipa::path(
    get,
    path = "/v1/videos/{path}/clip",
    tag = "frames",
    params(("path" = String, Path, description = "The video's name, percent-encoded as one part"), ClipQuery),
    responses(
        (status = 200, description = "The pictures", content_type = "multipart/x-mixed-replace", body = Vec<u8>),
        (status = "4XX", description = "Not served", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not served", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn clip(asked: &Asked<'_>) -> Result<Response, Problem> {
    let query: ClipQuery = asked.query()?;
    check_output(query.width, query.height, query.quality)?;
    if query.fps.is_some_and(|fps| !RATES.contains(&fps)) {
        return Err(Problem::bad_request("fps must be from 0.01 to 120"));
    }
    let current = asked.video(query.v.as_deref()).await?;
    let video = &current.opened.video;
    let index = video.index();
    let end = seconds(index.duration(), index);
    let times = query.from..query.to.unwrap_or(end).min(end);
    if !(times.start >= 0.0 && times.start < times.end) {
        let mut problem = Problem::not_found(format!(
            "The video shows nothing from {} s up to {} s",
            times.start,
            query.to.unwrap_or(end)
        ));
        problem.has_frames(FrameRange::of(index));
        return Err(problem);
    }
    let fps = query.fps.unwrap_or(video.info().fps.clamp(0.01, 30.0));
    let place = Arc::clone(&asked.http.clip_room).try_acquire_owned();
    let mut clip = Clip {
        client: Arc::new(asked.http.engine.client()),
        video: Arc::clone(video),
        output: Output {
            width: query.width,
            height: query.height,
            quality: query.quality,
            ..Output::default()
        },
        fps,
        times,
        shown: 0,
        ticket: None,
        began: Instant::now(),
        pace: Pace {
            rates: Arc::clone(&asked.http.rates),
            who: asked.who,
        },
        stop: asked.http.stop.clone(),
        _place: place.map_err(|_| Problem::too_busy())?,
    };
    // What is wrong with the first picture is told as with any.
    let first = match clip.next_image().await {
        Some((frame, Ok(image))) => part(frame, &image),
        Some((_, Err(error))) => return Err(Problem::of_engine(&error)),
        None => return Err(Problem::not_found("The video shows no frames")),
    };
    clip.began = Instant::now();
    let rest = stream::unfold(Some(clip), |clip| async {
        let mut clip = clip?;
        match clip.next_part().await {
            Some(part) => Some((part, Some(clip))),
            None => Some((Bytes::from(format!("--{BOUNDARY}--\r\n")), None)),
        }
    });
    let first = stream::once(async { first });
    let parts = futures::StreamExt::chain(first, rest);
    let parts = futures::StreamExt::map(parts, Ok::<Bytes, Infallible>);
    let kind = format!("multipart/x-mixed-replace; boundary={BOUNDARY}");
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_str(&kind)),
        (CACHE_CONTROL, Ok(HeaderValue::from_static("no-store"))),
    ];
    let headers = headers.map(|(name, value)| {
        let value = value.unwrap_or_else(|_| HeaderValue::from_static("multipart/mixed"));
        (name, value)
    });
    Ok((headers, Body::from_stream(parts)).into_response())
}

fn part(frame: u32, image: &EncodedImage) -> Bytes {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\nFrame-Number: \
         {frame}\r\n\r\n",
        image.bytes.len()
    );
    [head.as_bytes(), &image.bytes, b"\r\n"].concat().into()
}

/// A clip on its way.
struct Clip {
    /// Its own, so that what it waits for is weighed by itself.
    client: Arc<Client>,
    video: Arc<Video>,
    output: Output,
    fps: f64,
    /// Seconds.
    times: std::ops::Range<f64>,
    /// Pictures that were ordered.
    shown: u32,
    /// What is being made, and which frames that is.
    ticket: Option<(FrameTicket, VecDeque<u32>)>,
    /// When the first picture was sent.
    began: Instant,
    pace: Pace,
    /// Turns true when the server is to stop.
    stop: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
}

impl Clip {
    /// The frames that are shown next.
    fn order(&mut self, index: &VideoIndex) -> VecDeque<u32> {
        let mut frames = VecDeque::new();
        while frames.len() < TOGETHER {
            let time = self.times.start + f64::from(self.shown) / self.fps;
            if time >= self.times.end {
                break;
            }
            self.shown = self.shown.saturating_add(1);
            frames.extend(index.frame_at_time(time).map(|f| f.0));
        }
        frames
    }

    async fn next_image(&mut self) -> Option<(u32, Result<EncodedImage, FrameError>)> {
        loop {
            if let Some((ticket, frames)) = &mut self.ticket {
                match ticket.next().await {
                    Some(FrameEvent::Outcome(outcome)) => {
                        let frame = frames.get(outcome.position).copied().unwrap_or_default();
                        return Some((frame, outcome.result));
                    }
                    // None was asked for.
                    Some(FrameEvent::Preview(_)) => continue,
                    None => self.ticket = None,
                }
            }
            let video = Arc::clone(&self.video);
            let frames = self.order(video.index());
            if frames.is_empty() {
                return None;
            }
            self.pace.wait_for(frames.len()).await;
            let samples = frames.iter().filter_map(|frame| {
                let frame = PresentationIndex(*frame);
                video.index().decode_index(frame)
            });
            let output = self.output;
            let targets = samples.map(|sample| FrameTarget { sample, output });
            let options = RequestOptions {
                priority: Priority::Fifo,
                preview: false,
            };
            let ticket = self.client.request(&video, targets.collect(), options);
            self.ticket = Some((ticket, frames));
        }
    }

    /// The next picture when it is due; `None` at the end.
    async fn next_part(&mut self) -> Option<Bytes> {
        let mut stop = self.stop.clone();
        let next = async {
            // A picture that cannot be shown is left out.
            let (frame, image) = loop {
                match self.next_image().await? {
                    (frame, Ok(image)) => break (frame, image),
                    (_, Err(e)) if e.code == engine::FrameErrorCode::VideoChanged => return None,
                    (_, Err(_)) => {}
                }
            };
            // Who reads more slowly than that has its own time.
            let pause = Duration::from_secs_f64(1.0 / self.fps);
            let due = self.began + pause;
            tokio::time::sleep_until(due).await;
            self.began = due.max(Instant::now() - pause);
            Some(part(frame, &image))
        };
        tokio::select! {
            part = next => part,
            _ = stop.wait_for(|stop| *stop) => None,
        }
    }
}
