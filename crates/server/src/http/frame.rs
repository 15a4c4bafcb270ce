//! `GET /v1/videos/{path}/frame.jpg`: one picture.

use std::sync::Arc;

use axum::http::HeaderValue;
use axum::http::header::ACCEPT;
use axum::response::Response;
use engine::{
    EncodedImage, FrameEvent, FrameTarget, ImageFormat, Output, Priority, RequestOptions, Video,
};
use media::sidecar::plain_start;
use media::{DecodeIndex, VideoIndex};
use protocol::FrameAddress;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::Asked;
use super::accept;
use super::caching::{Answer, Tag};
use super::hot::Hot;
use super::problem::{Problem, seconds};
use super::videos::Current;
use crate::access::Seen;
use crate::address;

/// The longest side that may be asked for.
const MOST_PIXELS: u32 = 65_535;

/// Which picture is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// This very one.
    #[default]
    Exact,
    /// The keyframe from which it would be decoded: cheaper, and another picture as a rule.
    Keyframe,
}

/// What is done where the picture's aspect is not that of `width` and `height`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Fit {
    /// All of it is shown, inside.
    #[default]
    Contain,
    /// They are filled, and what does not fit in is cut off.
    Cover,
}

/// Whether the picture is turned as the container says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Rotate {
    /// It is.
    #[default]
    Auto,
    /// It is as it was coded.
    Off,
}

/// The formats that a URL may end in.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code, reason = "describes what `path` reads")]
pub(super) enum Extension {
    Jpg,
    Webp,
    Avif,
    Png,
}

#[derive(Deserialize, IntoParams, Default)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct FrameQuery {
    /// The frame's number in presentation order, from 0. Exactly one of `frame`, `time` and
    /// `offset` must be given.
    frame: Option<u64>,
    /// Seconds from the first picture: the one that is shown then.
    time: Option<f64>,
    /// The position of the frame's sample in the object.
    offset: Option<u64>,
    /// Not needed: the server works out where decoding must start.
    #[allow(dead_code, reason = "taken so that it is checked, and described")]
    irap_offset: Option<u64>,
    /// The picture is scaled down to be at most so wide.
    #[param(minimum = 1, maximum = 65535)]
    width: Option<u32>,
    /// The picture is scaled down to be at most so high.
    #[param(minimum = 1, maximum = 65535)]
    height: Option<u32>,
    /// What is done where the aspect is another.
    #[param(inline)]
    fit: Fit,
    /// Whether the picture is turned as the container says.
    #[param(inline)]
    rotate: Rotate,
    /// 1 to 100, in place of the server's; without meaning for PNG.
    #[param(minimum = 1, maximum = 100)]
    quality: Option<u8>,
    /// Which picture is meant.
    #[param(inline)]
    mode: Mode,
    /// The version that is meant.
    v: Option<String>,
}

impl FrameQuery {
    fn output(&self, format: ImageFormat) -> Result<Output, Problem> {
        check_output(self.width, self.height, self.quality)?;
        Ok(Output {
            width: self.width,
            height: self.height,
            quality: self.quality,
            format,
            cover: self.fit == Fit::Cover && self.width.is_some() && self.height.is_some(),
            as_coded: self.rotate == Rotate::Off,
        })
    }
}

/// The one way in which a frame is named.
pub(super) fn address_of(
    frame: Option<u64>,
    time: Option<f64>,
    offset: Option<u64>,
) -> Result<FrameAddress, Problem> {
    let given = [
        frame.map(FrameAddress::Frame),
        time.map(FrameAddress::Time),
        offset.map(FrameAddress::Offset),
    ];
    let mut given = given.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(address), None) => Ok(address),
        _ => Err(Problem::bad_request(
            "exactly one of frame, time and offset must be given",
        )),
    }
}

/// Looks whether an image can be like this.
pub(super) fn check_output(
    width: Option<u32>,
    height: Option<u32>,
    quality: Option<u8>,
) -> Result<(), Problem> {
    for (name, side) in [("width", width), ("height", height)] {
        if side.is_some_and(|s| !(1..=MOST_PIXELS).contains(&s)) {
            return Err(Problem::bad_request(format!(
                "{name} must be from 1 to {MOST_PIXELS}"
            )));
        }
    }
    if quality.is_some_and(|q| !(1..=100).contains(&q)) {
        return Err(Problem::bad_request("quality must be from 1 to 100"));
    }
    Ok(())
}

/// The sample that is asked for.
pub(super) fn sample(
    index: &VideoIndex,
    address: FrameAddress,
    mode: Mode,
) -> Result<DecodeIndex, Problem> {
    let found = address::find(index, address);
    let (sample, _) = found.map_err(|unknown| Problem::unknown(unknown, index))?;
    Ok(match mode {
        Mode::Exact => sample,
        Mode::Keyframe => plain_start(index, sample).unwrap_or(sample),
    })
}

/// One picture, exact.
#[utoipa::path(
    get,
    path = "/v1/videos/{path}/frame.{format}",
    tag = "frames",
    params(
        ("path" = String, Path, description = "The video's name, percent-encoded as one part"),
        ("format" = inline(Extension), Path, description = "How it is stored. `frame` without it: as `Accept` says"),
        FrameQuery,
    ),
    responses(
        (status = 200, description = "The picture", content(
            (Vec<u8> = "image/jpeg"),
            (Vec<u8> = "image/webp"),
            (Vec<u8> = "image/avif"),
            (Vec<u8> = "image/png"),
        ), headers(
            ("frame-number" = u32, description = "Its number; absent where an edit list hides it"),
            ("frame-time" = f64, description = "Its time in seconds from the first picture"),
            ("frame-offset" = u64, description = "The position of its sample in the object"),
            ("video-version" = String, description = "What `v` may be"),
        )),
        (status = 304, description = "The client has it"),
        (status = "4XX", description = "Not served", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not served", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn frame(
    asked: &Asked<'_>,
    format: Option<ImageFormat>,
) -> Result<Response, Problem> {
    let query: FrameQuery = asked.query()?;
    let chosen = format.or_else(|| {
        let accept = asked.headers.get(ACCEPT).and_then(|a| a.to_str().ok());
        accept::choose(accept, ImageFormat::is_available)
    });
    let Some(chosen) = chosen.filter(|f| f.is_available()) else {
        let formats = "pictures are image/jpeg, image/webp, image/avif and image/png";
        return Err(Problem::not_acceptable(formats));
    };
    let (address, output) = (
        address_of(query.frame, query.time, query.offset)?,
        query.output(chosen)?,
    );
    let current = asked.video(query.v.as_deref()).await?;
    let video = &current.opened.video;
    let sample = sample(video.index(), address, query.mode)?;
    let tag = picture_tag(asked, video, sample, output);
    let answer = Answer {
        current: &current,
        granted: asked.granted,
        tag: &tag,
        content_type: accept::content_type(chosen),
        varies: format.is_none(),
    };
    if tag.is_known_to(asked.headers) {
        let mut response = answer.not_modified();
        describe(&mut response, video.index(), sample);
        return Ok(response);
    }
    let target = FrameTarget { sample, output };
    let image = picture(asked, &current, target).await?.bytes;
    let mut response = answer.with(image.clone());
    describe(&mut response, video.index(), sample);
    if format.is_some() && asked.seen == Seen::AsNamed {
        let hot = Hot {
            opened: Arc::downgrade(&current.opened),
            pinned: current.pinned,
            tag: tag.clone(),
            headers: response.headers().clone(),
            image,
        };
        asked.http.hot.keep(asked.request, hot);
    }
    Ok(response)
}

/// A name for the bytes of a picture.
fn picture_tag(asked: &Asked<'_>, video: &Video, sample: DecodeIndex, output: Output) -> Tag {
    let quality = output.quality.unwrap_or(asked.http.engine.quality());
    let side = |side: Option<u32>| side.unwrap_or(0);
    let quality = match output.format {
        ImageFormat::Png => 100,
        _ => quality,
    };
    let parameters = format!(
        "{:?} {} {}x{} q{quality} {} {}",
        output.format,
        sample.0,
        side(output.width),
        side(output.height),
        output.cover,
        output.as_coded
    );
    Tag::strong(video.identity(), &parameters)
}

/// The picture, from the cache or made. When this is dropped, it is not wanted any more.
pub(super) async fn picture(
    asked: &Asked<'_>,
    current: &Current,
    target: FrameTarget,
) -> Result<EncodedImage, Problem> {
    let http = asked.http;
    let video = &current.opened.video;
    if let Some(image) = http.engine.cached(video, target) {
        return Ok(image);
    }
    let _place = http.room.try_acquire().map_err(|_| Problem::too_busy())?;
    let client = http.clients.of(asked.client);
    let options = RequestOptions {
        priority: Priority::Fifo,
        preview: false,
    };
    let mut ticket = client.request(video, vec![target], options);
    loop {
        match ticket.next().await {
            Some(FrameEvent::Outcome(outcome)) => {
                return outcome.result.map_err(|e| Problem::of_engine(&e));
            }
            // None was asked for.
            Some(FrameEvent::Preview(_)) => {}
            // Not without an outcome.
            None => return Err(Problem::too_busy()),
        }
    }
}

/// Says which picture it is.
fn describe(response: &mut Response, index: &VideoIndex, sample: DecodeIndex) {
    let headers = response.headers_mut();
    if let Some(sample) = index.sample(sample) {
        headers.insert("frame-offset", sample.offset.into());
    }
    let Some(frame) = index.presentation_index(sample) else {
        return;
    };
    headers.insert("frame-number", frame.0.into());
    let first = index.presentation_time(media::PresentationIndex(0));
    if let (Some(time), Some(first)) = (index.presentation_time(frame), first) {
        let time = seconds(time.saturating_sub(first), index);
        if let Ok(time) = HeaderValue::from_str(&format!("{time:.6}")) {
            headers.insert("frame-time", time);
        }
    }
}
