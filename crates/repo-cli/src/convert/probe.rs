//! What a source holds, asked of `ffprobe`.

use std::path::Path;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::colour::{ColourTags, ColourWords, HdrMetadata, SideData};
use super::pixel::PixelFormat;
use super::rate::Rate;
use super::tool;

/// The first video track of a source (cover pictures do not count).
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Source {
    /// FFmpeg's name of the codec: `hevc`, `h264` …
    pub(crate) codec: String,
    /// FFmpeg's names of the container: `mov,mp4,…`, `hevc` for a raw stream.
    pub(crate) container: String,
    /// As stored, before rotation.
    pub(crate) width: u32,
    /// As stored, before rotation.
    pub(crate) height: u32,
    /// Sample aspect ratio, where it is told.
    pub(crate) pixel_aspect: Option<(u32, u32)>,
    /// Pixel format.
    pub(crate) format: PixelFormat,
    /// Mean frame rate, where it is known.
    pub(crate) rate: Option<Rate>,
    /// Seconds, where known.
    pub(crate) duration: Option<f64>,
    /// Colour tags of the first picture, or else of the stream.
    pub(crate) colour: ColourTags,
    /// Static HDR metadata.
    pub(crate) hdr: HdrMetadata,
}

impl Source {
    /// A raw H.265 byte stream: it has no times.
    pub(crate) fn is_raw_hevc(&self) -> bool {
        self.container == "hevc"
    }
}

#[derive(Debug, Default, Deserialize)]
struct Report {
    #[serde(default)]
    streams: Vec<Stream>,
    #[serde(default)]
    frames: Vec<Frame>,
    #[serde(default)]
    format: Format,
    #[serde(default)]
    pixel_formats: Vec<PixelFormat>,
}

#[derive(Debug, Deserialize)]
struct Stream {
    codec_name: Option<String>,
    width: Option<u32>,
    height: Option<u32>,
    pix_fmt: Option<String>,
    sample_aspect_ratio: Option<String>,
    avg_frame_rate: Option<String>,
    duration: Option<String>,
    #[serde(flatten)]
    colour: ColourWords,
    #[serde(default)]
    side_data_list: Vec<SideData>,
}

#[derive(Debug, Deserialize)]
struct Frame {
    #[serde(flatten)]
    colour: ColourWords,
    #[serde(default)]
    side_data_list: Vec<SideData>,
}

#[derive(Debug, Default, Deserialize)]
struct Format {
    format_name: Option<String>,
    duration: Option<String>,
}

/// Asks `ffprobe` for a file's first video track.
pub(crate) fn probe(path: &Path) -> anyhow::Result<Source> {
    let mut args: Vec<_> = "-v error -select_streams V:0 -show_streams -show_format -show_frames \
                            -show_pixel_formats -read_intervals %+#1 -of json -i"
        .split_whitespace()
        .map(Into::into)
        .collect();
    args.push(tool::file_url(path));
    let out = tool::output("ffprobe", &args)?;
    if !out.status.success() {
        bail!(
            "not a video that FFmpeg can read: {}",
            tool::reason(&out.stderr)
        );
    }
    read(&out.stdout)
}

fn read(json: &[u8]) -> anyhow::Result<Source> {
    let report: Report =
        serde_json::from_slice(json).context("ffprobe's answer is not understood")?;
    let Some(stream) = report.streams.into_iter().next() else {
        bail!("it holds no video")
    };
    let codec = stream
        .codec_name
        .context("its codec is not known to FFmpeg")?;
    let size = stream
        .width
        .zip(stream.height)
        .filter(|&(w, h)| w > 0 && h > 0);
    let (width, height) = size.context("its picture size cannot be told")?;
    let name = stream.pix_fmt.context("its pictures cannot be decoded")?;
    let format = report
        .pixel_formats
        .into_iter()
        .find(|f| f.name == name)
        .with_context(|| format!("its pixel format {name} is not known"))?;
    let first = report.frames.into_iter().next();
    let (frame_colour, frame_data) =
        first.map_or_else(Default::default, |f| (f.colour.tags(), f.side_data_list));
    let seconds = |text: Option<String>| text?.parse::<f64>().ok().filter(|s| *s > 0.0);
    Ok(Source {
        codec,
        container: report.format.format_name.unwrap_or_default(),
        width,
        height,
        pixel_aspect: stream.sample_aspect_ratio.as_deref().and_then(ratio),
        format,
        rate: stream.avg_frame_rate.and_then(|r| r.parse().ok()),
        duration: seconds(stream.duration).or_else(|| seconds(report.format.duration)),
        colour: frame_colour.or(stream.colour.tags()),
        hdr: HdrMetadata::from_side_data(frame_data.iter().chain(&stream.side_data_list)),
    })
}

/// `4:3`; `0:1` and `N/A` say nothing.
fn ratio(text: &str) -> Option<(u32, u32)> {
    let (a, b) = text.split_once(':')?;
    let (a, b) = (a.parse().ok()?, b.parse().ok()?);
    (a > 0 && b > 0).then_some((a, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"{
        "pixel_formats":[{"name":"yuv420p","nb_components":3,"log2_chroma_w":1,"log2_chroma_h":1,
            "flags":{"rgb":0},"components":[{"index":1,"bit_depth":8}]}],
        "frames":[{"color_transfer":"smpte2084","side_data_list":[{"max_content":5,"max_average":4}]}],
        "streams":[{"codec_name":"h264","width":320,"height":240,"pix_fmt":"yuv420p",
            "sample_aspect_ratio":"4:3","avg_frame_rate":"30000/1001","duration":"1.5",
            "color_transfer":"bt709","color_range":"tv"}],
        "format":{"format_name":"mov,mp4","duration":"2.0"}}"#;

    #[test]
    fn a_report_is_read() {
        let s = read(REPORT.as_bytes()).unwrap();
        assert_eq!((s.codec.as_str(), s.width, s.height), ("h264", 320, 240));
        assert_eq!(s.pixel_aspect, Some((4, 3)));
        assert_eq!(s.rate.unwrap().to_string(), "30000/1001");
        assert_eq!(s.duration, Some(1.5));
        assert_eq!(s.hdr.light_level, Some((5, 4)));
    }

    #[test]
    fn the_pictures_own_tags_win_over_the_containers() {
        let s = read(REPORT.as_bytes()).unwrap();
        assert_eq!(s.colour.transfer, Some(16));
        assert_eq!(s.colour.full_range, Some(false));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = |t: &str| format!("{:#}", read(t.as_bytes()).unwrap_err());
        assert_eq!(error("{}"), "it holds no video");
        assert_eq!(
            error(r#"{"streams":[{"codec_name":"hevc"}]}"#),
            "its picture size cannot be told"
        );
        assert!(error("nothing").starts_with("ffprobe's answer"));
        assert_eq!(
            error(&REPORT.replace("\"name\":\"yuv420p\"", "\"name\":\"other\"")),
            "its pixel format yuv420p is not known"
        );
    }

    #[test]
    fn an_unknown_rate_is_none() {
        let s = read(REPORT.replace("30000/1001", "0/0").as_bytes()).unwrap();
        assert_eq!(s.rate, None);
    }
}
