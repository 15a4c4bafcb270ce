//! `GET /v1/videos/{path}`: what the server knows of a video.

use axum::response::Response;
use bytes::Bytes;
use media::index::Layout;
use media::{DecodeIndex, VideoIndex};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Asked;
use super::caching::{Answer, Tag};
use super::problem::{Problem, seconds};
use super::videos::Opened;
use crate::answer::{chroma, lowest_terms};

#[derive(Deserialize, IntoParams, Default)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct VersionQuery {
    /// The version that is meant, as `version` tells it: the answer may be kept for ever, and a
    /// version that is not there any more is `video_changed`.
    pub(super) v: Option<String>,
}

/// What the server knows of a video without reading its pictures.
#[derive(Serialize, ToSchema)]
pub(super) struct Info {
    /// Its name.
    path: String,
    /// Which version this is: what `v` may be in URLs.
    version: String,
    /// Bytes of the object.
    size: u64,
    /// RFC 6381.
    codec: String,
    /// The profile of H.265.
    profile: String,
    /// Pixels of a delivered picture, after cropping and turning.
    width: u32,
    /// Pixels of a delivered picture, after cropping and turning.
    height: u32,
    /// Bits of a coded sample.
    bit_depth: u8,
    /// As in `4:2:0`.
    chroma: String,
    /// How coded pictures are turned clockwise, in degrees.
    rotation: u16,
    /// Whether they are mirrored before that.
    mirrored: bool,
    /// Width and height of one delivered pixel.
    pixel_aspect_ratio: [u32; 2],
    colour: Colour,
    /// Seconds.
    duration: f64,
    /// Mean frames per second; 0 where the video has no duration.
    frame_rate: f64,
    /// Pictures that are shown.
    frame_count: u32,
    /// Samples in the file, shown or not.
    sample_count: u32,
    /// Ticks per second of the index.
    timescale: u32,
    container: Container,
    gops: Gops,
}

/// What the stream or the container says of colours (H.273).
#[derive(Serialize, ToSchema)]
pub(super) struct Colour {
    primaries: u8,
    transfer: u8,
    matrix: u8,
    /// `null` where nothing says it.
    full_range: Option<bool>,
}

/// How the object is laid out.
#[derive(Serialize, ToSchema)]
pub(super) struct Container {
    /// The layout.
    layout: ContainerLayout,
    /// Its tracks; none in a raw stream.
    tracks: Vec<Track>,
}

/// How samples are stored.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ContainerLayout {
    /// ISO BMFF with `moov` before the samples.
    MoovFirst,
    /// ISO BMFF with `moov` behind the samples.
    MoovLast,
    /// ISO BMFF in fragments.
    Fragmented,
    /// A raw stream (H.265 Annex B).
    AnnexB,
}

/// A track of the container.
#[derive(Serialize, ToSchema)]
pub(super) struct Track {
    id: u32,
    /// As in `vide`.
    handler: String,
    /// As in `hvc1`.
    codec: Option<String>,
    /// It is the one that is served.
    selected: bool,
}

/// From one sync sample to the next.
#[derive(Serialize, ToSchema, Default, PartialEq, Debug)]
pub(super) struct Gops {
    /// How many there are.
    count: u32,
    /// Samples of the shortest.
    samples_min: u32,
    /// Samples of one, on average.
    samples_mean: f64,
    /// Samples of the longest.
    samples_max: u32,
    /// Bytes of one, on average.
    bytes_mean: f64,
    /// Bytes of the largest.
    bytes_max: u64,
}

impl Gops {
    fn of(index: &VideoIndex) -> Self {
        let mut gops = Self::default();
        let mut bytes_in_all = 0u64;
        let starts: Vec<u32> = index.sync_samples().map(|s| s.0).collect();
        let ends = starts.iter().copied().skip(1).chain([index.sample_count()]);
        for (start, end) in starts.iter().copied().zip(ends) {
            let samples = end.saturating_sub(start);
            let sizes = (start..end).filter_map(|s| index.sample(DecodeIndex(s)));
            let bytes = sizes.map(|s| u64::from(s.size)).sum::<u64>();
            gops.samples_min = match gops.count {
                0 => samples,
                _ => gops.samples_min.min(samples),
            };
            gops.count += 1;
            gops.samples_max = gops.samples_max.max(samples);
            gops.bytes_max = gops.bytes_max.max(bytes);
            gops.samples_mean += f64::from(samples);
            bytes_in_all = bytes_in_all.saturating_add(bytes);
        }
        let count = f64::from(gops.count.max(1));
        gops.samples_mean /= count;
        gops.bytes_mean = bytes_in_all as f64 / count;
        gops
    }
}

fn text(fourcc: [u8; 4]) -> String {
    String::from_utf8_lossy(&fourcc).into_owned()
}

impl Info {
    fn of(name: &str, opened: &Opened) -> Self {
        let (info, index) = (opened.video.info(), opened.video.index());
        let orientation = index.orientation();
        let (across, down) = lowest_terms(info.pixel_aspect.unwrap_or((1, 1)));
        Self {
            path: name.to_owned(),
            version: opened.version.clone(),
            size: index.object_size(),
            codec: info.codec.clone(),
            profile: info.profile.to_owned(),
            width: info.width,
            height: info.height,
            bit_depth: info.bit_depth,
            chroma: chroma(info.chroma_format_idc).to_owned(),
            rotation: u16::from(orientation.quarter_turns) * 90,
            mirrored: orientation.mirrored,
            pixel_aspect_ratio: if orientation.swaps_axes() {
                [down, across]
            } else {
                [across, down]
            },
            colour: Colour {
                primaries: info.colour.primaries,
                transfer: info.colour.transfer,
                matrix: info.colour.matrix,
                full_range: info.colour.full_range,
            },
            duration: seconds(index.duration(), index),
            frame_rate: info.fps,
            frame_count: index.frame_count(),
            sample_count: index.sample_count(),
            timescale: index.timescale(),
            container: Container {
                layout: match index.layout() {
                    Layout::Progressive { moov_first: true } => ContainerLayout::MoovFirst,
                    Layout::Progressive { moov_first: false } => ContainerLayout::MoovLast,
                    Layout::Fragmented => ContainerLayout::Fragmented,
                    Layout::AnnexB => ContainerLayout::AnnexB,
                },
                tracks: (index.tracks().iter())
                    .map(|t| Track {
                        id: t.id,
                        handler: text(t.handler),
                        codec: t.codec.map(text),
                        selected: t.selected,
                    })
                    .collect(),
            },
            gops: Gops::of(index),
        }
    }
}

/// What the server knows of a video.
#[utoipa::path(
    get,
    path = "/v1/videos/{path}",
    tag = "videos",
    params(("path" = String, Path, description = "The video's name, percent-encoded as one part"), VersionQuery),
    responses(
        (status = 200, description = "What is known of it", body = Info),
        (status = 304, description = "The client has it"),
        (status = "4XX", description = "Not served", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Not served", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn info(asked: &Asked<'_>) -> Result<Response, Problem> {
    let VersionQuery { v } = asked.query()?;
    let current = asked.video(v.as_deref()).await?;
    let opened = &current.opened;
    let tag = Tag::weak(opened.video.identity(), "info");
    let answer = Answer {
        current: &current,
        granted: asked.granted,
        tag: &tag,
        content_type: "application/json",
        varies: false,
    };
    if tag.is_known_to(asked.headers) {
        return Ok(answer.not_modified());
    }
    if let Some(text) = opened.info.get() {
        return Ok(answer.with(text.clone()));
    }
    // Goes through all samples of a video that may be long.
    let (name, of) = (asked.name.to_owned(), std::sync::Arc::clone(opened));
    let made = tokio::task::spawn_blocking(move || {
        let text = serde_json::to_string(&Info::of(&name, &of)).unwrap_or_default();
        of.info.get_or_init(|| Bytes::from(text)).clone()
    });
    match made.await {
        Ok(text) => Ok(answer.with(text)),
        // Only when the runtime ends.
        Err(_) => Err(Problem::too_busy()),
    }
}
