//! The command lines of `ffmpeg`, from what the source holds and what is asked for.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{bail, ensure};

use super::args::EncodeSettings;
use super::colour::ColourTags;
use super::pixel::{Chroma, CodedFormat};
use super::probe::Source;
use super::rate::Rate;
use super::tool::{Dialect, file_url};

/// Least width and height of a downscaled result.
const LEAST_SIZE: u32 = 64;

/// `--fps` may be above the source's rate by this factor: 23.98 stands for 24000/1001.
const RATE_TOLERANCE: f64 = 1.0005;

/// Which encoder works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Encoder {
    /// libx265, on the CPU.
    X265,
    /// hevc_nvenc, on an NVIDIA GPU.
    Nvenc,
}

/// One encode, worked out: the settings applied to one source.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct EncodePlan<'a> {
    source: &'a Source,
    settings: EncodeSettings,
    /// Width and height of the result.
    size: (u32, u32),
    format: CodedFormat,
    /// Frame rate of the result, where it is known.
    rate: Option<Rate>,
    /// Whether pictures are dropped for another rate.
    resample: bool,
    colour: ColourTags,
}

impl<'a> EncodePlan<'a> {
    /// Checks the settings against the source.
    pub(crate) fn new(source: &'a Source, settings: EncodeSettings) -> anyhow::Result<Self> {
        let format = source.format.coded();
        let n = settings.downscale;
        let size = format.valid_size(source.width / n.max(1), source.height / n.max(1));
        let (w, h) = size;
        ensure!(
            n == 1 || (w >= LEAST_SIZE && h >= LEAST_SIZE),
            "--downscale {n} makes {w}x{h} of {}x{}; the least is {LEAST_SIZE}x{LEAST_SIZE}",
            source.width,
            source.height
        );
        let (rate, resample) = match (settings.fps, source.rate) {
            (None, rate) => (rate, false),
            (Some(_), None) => bail!("--fps needs a source whose frame rate is known"),
            (Some(asked), Some(has)) => {
                ensure!(
                    asked.as_f64() <= has.as_f64() * RATE_TOLERANCE,
                    "--fps {asked} is above the source's {:.3} frames per second",
                    has.as_f64()
                );
                let rate = if asked.as_f64() > has.as_f64() {
                    has
                } else {
                    asked
                };
                (Some(rate), true)
            }
        };
        let colour = if format.from_rgb {
            source.colour.after_rgb_conversion()
        } else {
            source.colour
        };
        Ok(Self {
            source,
            settings,
            size,
            format,
            rate,
            resample,
            colour,
        })
    }

    /// Whether there is a reason to try the GPU; else why not.
    pub(crate) fn nvenc_format(&self) -> anyhow::Result<&'static str> {
        self.format.nvenc_name().ok_or_else(|| {
            anyhow::anyhow!(
                "hevc_nvenc does not encode {} without loss",
                self.format.name()
            )
        })
    }

    /// Arguments of a run that encodes one grey picture of the right size and format on the GPU
    /// and throws it away.
    pub(crate) fn nvenc_trial_args(&self) -> anyhow::Result<Vec<OsString>> {
        let (w, h) = self.size;
        let format = self.nvenc_format()?;
        let mut args = strings(&[
            "-hide_banner",
            "-nostdin",
            "-loglevel",
            "error",
            "-f",
            "lavfi",
        ]);
        args.extend(strings(&[
            "-i",
            &format!("color=gray:s={w}x{h}:r=25:d=0.04,format={format}"),
        ]));
        args.extend(self.nvenc_args());
        args.extend(strings(&["-frames:v", "1", "-f", "null", "-"]));
        Ok(args)
    }

    /// Arguments of the encode.
    pub(crate) fn args(
        &self,
        encoder: Encoder,
        dialect: Dialect,
        input: &Path,
        output: &Path,
    ) -> Vec<OsString> {
        let mut args = common_args();
        // FFmpeg would turn the pictures upright; they stay as they are, and the track's matrix
        // is carried over, which costs nothing and loses nothing.
        args.extend(strings(&["-noautorotate"]));
        args.extend(input_args(self.source, input));
        let filters = self.filters(encoder);
        if !filters.is_empty() {
            args.extend(strings(&["-filter:v", &filters.join(",")]));
        }
        if !self.resample {
            args.extend(strings(&dialect.keep_times()));
        }
        args.extend(match encoder {
            Encoder::X265 => self.x265_args(),
            Encoder::Nvenc => self.nvenc_args(),
        });
        args.extend(self.colour.ffmpeg_args().into_iter().map(OsString::from));
        args.extend(strings(&["-tag:v", "hvc1"]));
        args.extend(output_args(output));
        args
    }

    fn filters(&self, encoder: Encoder) -> Vec<String> {
        let mut filters = Vec::new();
        if let (true, Some(rate)) = (self.resample, self.rate) {
            filters.push(format!("fps=fps={rate}"));
        }
        let (w, h) = self.size;
        let scales = self.settings.downscale != 1;
        if !scales && self.size != (self.source.width, self.source.height) {
            // H.265 has no odd sizes where chroma is halved; other codecs do.
            filters.push(format!("crop=w={w}:h={h}:x=0:y=0"));
        }
        let converts = !self.format.is(&self.source.format.name);
        if scales || converts {
            let mut scale = format!("scale=w={w}:h={h}:flags=lanczos+accurate_rnd+full_chroma_int");
            let range = |full: bool| if full { "full" } else { "limited" };
            if self.format.from_rgb {
                scale.push_str(":out_color_matrix=bt709:out_range=limited");
            } else if let Some(full) = self.source.colour.full_range {
                // Without these libswscale turns some full-range formats into limited range.
                let range = range(full);
                scale.push_str(&format!(":in_range={range}:out_range={range}"));
            }
            filters.push(scale);
            if let Some((a, b)) = self.source.pixel_aspect {
                // Cutting to even sizes must not make 959:960 out of square pixels.
                filters.push(format!("setsar={a}/{b}"));
            }
        }
        match encoder {
            Encoder::X265 if converts => filters.push(format!("format={}", self.format.name())),
            Encoder::Nvenc => {
                let wanted = self.format.nvenc_name().unwrap_or("yuv420p");
                if wanted != self.format.name() {
                    filters.push(format!("format={wanted}"));
                }
            }
            Encoder::X265 => {}
        }
        filters
    }

    fn x265_args(&self) -> Vec<OsString> {
        let s = &self.settings;
        let mut params = vec!["log-level=error".to_owned()];
        params.extend(
            s.seek
                .profile()
                .x265_params(self.rate, s.preset.lookahead()),
        );
        params.extend(self.source.hdr.x265_params());
        if let (Chroma::C420, Some(location)) = (self.format.chroma, self.colour.chroma_location) {
            params.push(format!("chromaloc={location}"));
        }
        let crf = s.crf.to_string();
        let params = params.join(":");
        strings(&["-c:v", "libx265", "-preset", s.preset.name(), "-crf", &crf])
            .into_iter()
            .chain(strings(&["-x265-params", &params]))
            .collect()
    }

    fn nvenc_args(&self) -> Vec<OsString> {
        let s = &self.settings;
        let mut args = strings(&["-c:v", "hevc_nvenc", "-preset", s.preset.nvenc_name()]);
        // `cq` counts as CRF does, but 0 means "automatic" there.
        let quality = s.crf.max(1.0).to_string();
        args.extend(strings(&["-rc", "vbr", "-cq", &quality, "-b:v", "0"]));
        args.extend(
            s.seek
                .profile()
                .nvenc_args(self.rate)
                .into_iter()
                .map(OsString::from),
        );
        args
    }
}

/// Arguments that put an H.265 source into an MP4 as it is. The sample entry of an MP4 stays what
/// it is; a raw stream, which repeats its parameter sets, becomes `hev1`.
pub(crate) fn copy_args(
    source: &Source,
    input: &Path,
    output: &Path,
) -> anyhow::Result<Vec<OsString>> {
    ensure!(
        source.codec == "hevc",
        "its video is {}, and --copy only takes H.265: leave it out to encode",
        source.codec
    );
    let mut args = common_args();
    args.extend(input_args(source, input));
    args.extend(strings(&["-c:v", "copy"]));
    args.extend(output_args(output));
    Ok(args)
}

fn common_args() -> Vec<OsString> {
    strings(&[
        "-hide_banner",
        "-nostdin",
        "-y",
        "-loglevel",
        "error",
        "-nostats",
        "-progress",
        "pipe:1",
    ])
}

/// The input and which of its tracks. A raw stream carries no times: the rate of its headers (or
/// FFmpeg's assumption) is stated, so that it becomes exact.
fn input_args(source: &Source, input: &Path) -> Vec<OsString> {
    let mut args = Vec::new();
    if let (true, Some(rate)) = (source.is_raw_hevc(), source.rate) {
        args.extend(strings(&["-framerate", &rate.to_string()]));
    }
    args.extend(strings(&["-i"]));
    args.push(file_url(input));
    args.extend(strings(&["-map", "0:V:0"]));
    args
}

/// The result. `moov` stays at the end: bucket-streamer reads head and tail at once, and nothing
/// has to be written twice. No chapter or timecode track is made.
fn output_args(output: &Path) -> Vec<OsString> {
    let mut args = strings(&["-map_chapters", "-1", "-write_tmcd", "0", "-f", "mp4"]);
    args.push(file_url(output));
    args
}

fn strings(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::args::Preset;
    use crate::convert::seek_profile::Seek;

    fn source(width: u32, height: u32, format: &str) -> Source {
        let (chroma, bits, rgb) = match format {
            "yuv420p" | "yuvj420p" | "nv12" => ((1, 1), 8, 0),
            "yuv422p10le" => ((1, 0), 10, 0),
            "gbrp" => ((0, 0), 8, 1),
            "yuv420p10le" => ((1, 1), 10, 0),
            other => panic!("{other}"),
        };
        let format = serde_json::from_value(serde_json::json!({
            "name": format, "nb_components": 3, "log2_chroma_w": chroma.0,
            "log2_chroma_h": chroma.1, "flags": {"rgb": rgb},
            "components": [{"bit_depth": bits}],
        }))
        .unwrap();
        Source {
            codec: "h264".into(),
            container: "mov,mp4".into(),
            width,
            height,
            pixel_aspect: Some((1, 1)),
            format,
            rate: Some("30000/1001".parse().unwrap()),
            duration: None,
            colour: ColourTags {
                full_range: Some(false),
                ..ColourTags::default()
            },
            hdr: Default::default(),
        }
    }

    const SETTINGS: EncodeSettings = EncodeSettings {
        gpu: false,
        downscale: 1,
        fps: None,
        crf: 23.0,
        preset: Preset::Medium,
        seek: Seek::Balanced,
    };

    fn dialect() -> Dialect {
        Dialect::ask().unwrap()
    }

    fn line(source: &Source, settings: EncodeSettings, encoder: Encoder) -> String {
        let plan = EncodePlan::new(source, settings).unwrap();
        let args = plan.args(
            encoder,
            dialect(),
            Path::new("-i n.mp4"),
            Path::new("out%d"),
        );
        args.join(OsString::from("|").as_os_str())
            .into_string()
            .unwrap()
    }

    fn refused(source: &Source, settings: EncodeSettings, reason: &str) {
        let error = EncodePlan::new(source, settings).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }

    #[test]
    fn an_encode_keeps_times_and_rotation_and_has_no_filter_without_need() {
        let line = line(&source(320, 240, "yuv420p"), SETTINGS, Encoder::X265);
        assert!(
            line.contains("|-noautorotate|-i|file:-i n.mp4|-map|0:V:0|"),
            "{line}"
        );
        assert!(line.contains("passthrough|-enc_time_base|"), "{line}");
        assert!(
            line.contains(
                "|-c:v|libx265|-preset|medium|-crf|23|-x265-params|log-level=error:keyint=86:"
            ),
            "{line}"
        );
        assert!(
            line.ends_with("|-tag:v|hvc1|-map_chapters|-1|-write_tmcd|0|-f|mp4|file:out%d"),
            "{line}"
        );
        assert!(!line.contains("-filter"), "{line}");
    }

    #[test]
    fn full_range_420_needs_no_conversion() {
        let mut s = source(320, 240, "yuvj420p");
        s.colour.full_range = Some(true);
        let line = line(&s, SETTINGS, Encoder::X265);
        assert!(!line.contains("-filter"), "{line}");
        assert!(line.contains("|-color_range|2|"), "{line}");
    }

    #[test]
    fn other_formats_are_converted_within_their_range() {
        let mut s = source(320, 240, "nv12");
        s.colour.full_range = Some(true);
        let line = line(&s, SETTINGS, Encoder::X265);
        assert!(
            line.contains(":in_range=full:out_range=full,setsar=1/1,format=yuv420p|"),
            "{line}"
        );
    }

    #[test]
    fn rgb_becomes_bt709() {
        let line = line(&source(320, 240, "gbrp"), SETTINGS, Encoder::X265);
        assert!(
            line.contains(":out_color_matrix=bt709:out_range=limited,setsar=1/1,format=yuv444p|"),
            "{line}"
        );
        assert!(line.contains("|-colorspace|1|-color_range|1|"), "{line}");
    }

    #[test]
    fn downscaling_keeps_sizes_that_chroma_can_halve() {
        let half = EncodeSettings {
            downscale: 2,
            ..SETTINGS
        };
        let text = line(&source(1366, 770, "yuv420p"), half, Encoder::X265);
        assert!(text.contains("scale=w=682:h=384:"), "{text}");
        let text = line(&source(1366, 770, "yuv422p10le"), half, Encoder::X265);
        assert!(text.contains("scale=w=682:h=385:"), "{text}");
        let eighth = EncodeSettings {
            downscale: 8,
            ..SETTINGS
        };
        assert!(EncodePlan::new(&source(512, 512, "yuv420p"), eighth).is_ok());
        refused(
            &source(512, 511, "yuv420p"),
            eighth,
            "makes 64x62 of 512x511",
        );
        let huge = EncodeSettings {
            downscale: 1 << 31,
            ..SETTINGS
        };
        refused(&source(4096, 4096, "yuv420p"), huge, "makes 0x0");
    }

    #[test]
    fn an_odd_edge_is_cut_where_chroma_is_halved() {
        let text = line(&source(319, 179, "yuv420p"), SETTINGS, Encoder::X265);
        assert!(
            text.contains("|-filter:v|crop=w=318:h=178:x=0:y=0|"),
            "{text}"
        );
        let text = line(&source(319, 179, "yuv422p10le"), SETTINGS, Encoder::X265);
        assert!(text.contains("crop=w=318:h=179:x=0:y=0|"), "{text}");
        let text = line(&source(319, 179, "gbrp"), SETTINGS, Encoder::X265);
        assert!(!text.contains("crop"), "{text}");
    }

    #[test]
    fn a_lower_rate_drops_pictures_a_higher_one_is_refused() {
        let fps = |t: &str| EncodeSettings {
            fps: Some(t.parse().unwrap()),
            ..SETTINGS
        };
        let s = source(320, 240, "yuv420p");
        let text = line(&s, fps("10"), Encoder::X265);
        assert!(text.contains("|-filter:v|fps=fps=10|"), "{text}");
        assert!(text.contains(":keyint=35:"), "{text}");
        assert!(!text.contains("passthrough"), "{text}");
        // Rounded by hand: the source's own rate is meant.
        assert!(line(&s, fps("29.98"), Encoder::X265).contains("fps=fps=30000/1001"));
        refused(&s, fps("30"), "above the source's 29.970");
        refused(&Source { rate: None, ..s }, fps("5"), "frame rate is known");
    }

    #[test]
    fn nvenc_is_tried_only_for_what_it_codes_without_loss() {
        let ten = source(320, 240, "yuv420p10le");
        let plan = EncodePlan::new(&ten, SETTINGS).unwrap();
        let trial = plan.nvenc_trial_args().unwrap();
        assert!(trial.contains(&"color=gray:s=320x240:r=25:d=0.04,format=p010le".into()));
        let text = line(&ten, SETTINGS, Encoder::Nvenc);
        assert!(text.contains("|-filter:v|format=p010le|"), "{text}");
        assert!(
            text.contains("|-c:v|hevc_nvenc|-preset|p5|-rc|vbr|-cq|23|-b:v|0|-g|30|"),
            "{text}"
        );
        let other = source(320, 240, "yuv422p10le");
        assert!(
            EncodePlan::new(&other, SETTINGS)
                .unwrap()
                .nvenc_trial_args()
                .is_err()
        );
    }

    #[test]
    fn copying_takes_h265_only() {
        let mut s = source(320, 240, "yuv420p");
        let error = copy_args(&s, Path::new("a"), Path::new("b"))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("its video is h264"), "{error}");
        s.codec = "hevc".into();
        assert!(copy_args(&s, Path::new("a"), Path::new("b")).is_ok());
    }
}
