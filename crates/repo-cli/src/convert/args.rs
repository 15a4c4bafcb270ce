//! The arguments of `convert`: as typed, and checked.

use std::path::PathBuf;

use anyhow::ensure;

use super::rate::Rate;
use super::seek_profile::Seek;

/// The constant rate factor taken without `--crf`.
const DEFAULT_CRF: f32 = 23.0;

/// `repo-cli convert`, as typed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Only the video is kept: audio, subtitles and data tracks are left out. Colour tags, static HDR \
metadata, bit depth, chroma format, rotation and every frame's time survive.\n\
In folder mode these are taken for videos: 265 3gp avi flv hevc m2ts m4v mkv mov mp4 mpeg mpg mts \
mxf ts webm wmv y4m; .h265 is not, since results are called so.")]
pub(crate) struct RawConvert {
    /// A video, or a folder of videos
    #[arg(long, short, value_name = "FILE|DIR")]
    pub(crate) input: PathBuf,

    /// Where the result goes [default: the input's path with the extension .h265; a folder's
    /// results beside their inputs]
    #[arg(long, short, value_name = "FILE|DIR")]
    pub(crate) output: Option<PathBuf>,

    /// Take the videos of subfolders too
    #[arg(long, short = 'R')]
    pub(crate) recursive: bool,

    /// Also write OUTPUT.offsets.json, the byte offset of every frame, and OUTPUT.bsidx, the index
    /// that the server reads in place of the video's own tables
    #[arg(long)]
    pub(crate) extract_offsets: bool,

    /// The video's address in the offsets file, as it is given; one that ends in / gets the
    /// file's name (in folder mode: its path below the folder) appended [default: fs:// and the
    /// absolute path]
    #[arg(long, value_name = "URL", requires = "extract_offsets")]
    pub(crate) storage_url: Option<String>,

    /// Overwrite what exists
    #[arg(long)]
    pub(crate) force: bool,

    /// Encode on an NVIDIA GPU (hevc_nvenc) if that works here, else with libx265
    #[arg(long)]
    pub(crate) gpu: bool,

    /// Divide width and height by N, a power of two; the result is at least 64x64
    #[arg(long, value_name = "N")]
    pub(crate) downscale: Option<u32>,

    /// Frames per second of the result, at most those of the source: 25, 29.97, 30000/1001
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    pub(crate) fps: Option<String>,

    /// Quality, 0 (best) to 51 [default: 23]
    #[arg(long, value_name = "Q", allow_negative_numbers = true)]
    pub(crate) crf: Option<f32>,

    /// Effort of the encoder [default: medium]
    #[arg(long, value_enum)]
    pub(crate) preset: Option<Preset>,

    /// What to optimise the structure for [default: balanced]
    #[arg(long, value_enum)]
    pub(crate) seek: Option<Seek>,

    /// Do not encode: put the pictures of an H.265 input into the result as they are
    #[arg(long, conflicts_with_all = ["gpu", "downscale", "fps", "crf", "preset", "seek"])]
    pub(crate) copy: bool,
}

/// x265's presets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
#[allow(missing_docs)]
pub(crate) enum Preset {
    Ultrafast,
    Superfast,
    Veryfast,
    Faster,
    Fast,
    #[default]
    Medium,
    Slow,
    Slower,
    Veryslow,
    Placebo,
}

impl Preset {
    /// As x265 calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ultrafast => "ultrafast",
            Self::Superfast => "superfast",
            Self::Veryfast => "veryfast",
            Self::Faster => "faster",
            Self::Fast => "fast",
            Self::Medium => "medium",
            Self::Slow => "slow",
            Self::Slower => "slower",
            Self::Veryslow => "veryslow",
            Self::Placebo => "placebo",
        }
    }

    /// The preset of `hevc_nvenc` that makes about as much effort.
    pub(crate) fn nvenc_name(self) -> &'static str {
        match self {
            Self::Ultrafast => "p1",
            Self::Superfast => "p2",
            Self::Veryfast | Self::Faster => "p3",
            Self::Fast => "p4",
            Self::Medium => "p5",
            Self::Slow | Self::Slower => "p6",
            Self::Veryslow | Self::Placebo => "p7",
        }
    }

    /// `rc-lookahead` of the preset (x265's documentation, "Presets").
    pub(crate) fn lookahead(self) -> u32 {
        match self {
            Self::Ultrafast => 5,
            Self::Superfast => 10,
            Self::Veryfast | Self::Faster | Self::Fast => 15,
            Self::Medium => 20,
            Self::Slow => 25,
            Self::Slower | Self::Veryslow => 40,
            Self::Placebo => 60,
        }
    }
}

/// What is to be done with each video, checked.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Settings {
    /// How the pictures get into the result.
    pub(crate) pictures: Pictures,
    /// Whether to write the offsets file.
    pub(crate) extract_offsets: bool,
    /// The address that the offsets file names.
    pub(crate) storage_url: Option<String>,
    /// Whether existing results are overwritten.
    pub(crate) force: bool,
}

/// How pictures get from the source into the result.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Pictures {
    /// As they are.
    Copy,
    /// Encoded anew.
    Encode(EncodeSettings),
}

/// How to encode.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct EncodeSettings {
    /// Try `hevc_nvenc` first.
    pub(crate) gpu: bool,
    /// Divisor of width and height, a power of two; 1 leaves them.
    pub(crate) downscale: u32,
    /// Frame rate of the result.
    pub(crate) fps: Option<Rate>,
    /// Constant rate factor, 0 to 51.
    pub(crate) crf: f32,
    /// Effort.
    pub(crate) preset: Preset,
    /// Structure.
    pub(crate) seek: Seek,
}

impl RawConvert {
    /// Checks what can be checked without a look at the input.
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        let pictures = if self.copy {
            Pictures::Copy
        } else {
            Pictures::Encode(self.encode()?)
        };
        if let Some(url) = &self.storage_url {
            ensure!(!url.is_empty(), "--storage-url is empty");
        }
        Ok(Settings {
            pictures,
            extract_offsets: self.extract_offsets,
            storage_url: self.storage_url.clone(),
            force: self.force,
        })
    }

    fn encode(&self) -> anyhow::Result<EncodeSettings> {
        let downscale = self.downscale.unwrap_or(1);
        ensure!(
            downscale.is_power_of_two(),
            "--downscale is {downscale}, not a power of two (1, 2, 4, 8 …)"
        );
        let fps = match &self.fps {
            None => None,
            Some(text) => Some(
                text.parse()
                    .map_err(|e| anyhow::anyhow!("--fps {text:?}: {e}"))?,
            ),
        };
        let crf = self.crf.unwrap_or(DEFAULT_CRF);
        ensure!(
            (0.0..=51.0).contains(&crf),
            "--crf is {crf}, not between 0 and 51"
        );
        Ok(EncodeSettings {
            gpu: self.gpu,
            downscale,
            fps,
            crf,
            preset: self.preset.unwrap_or_default(),
            seek: self.seek.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    fn settings(extra: &[&str]) -> Result<Settings, String> {
        let args = ["repo-cli", "convert", "--input", "a.mp4"]
            .iter()
            .chain(extra);
        let cli = Cli::try_parse_from(args).map_err(|e| e.to_string())?;
        let Command::Convert(raw) = cli.command else {
            panic!("another subcommand")
        };
        raw.settings().map_err(|e| e.to_string())
    }

    fn refused(extra: &[&str], reason: &str) {
        let error = settings(extra).unwrap_err();
        assert!(error.contains(reason), "{extra:?}: {error}");
    }

    #[test]
    fn the_defaults() {
        let s = settings(&[]).unwrap();
        assert_eq!(
            s.pictures,
            Pictures::Encode(EncodeSettings {
                gpu: false,
                downscale: 1,
                fps: None,
                crf: 23.0,
                preset: Preset::Medium,
                seek: Seek::Balanced,
            })
        );
        assert!(!s.extract_offsets && !s.force && s.storage_url.is_none());
    }

    #[test]
    fn downscale_is_a_power_of_two() {
        for good in ["1", "2", "8"] {
            assert!(settings(&["--downscale", good]).is_ok());
        }
        refused(&["--downscale", "3"], "not a power of two");
        refused(&["--downscale", "0"], "not a power of two");
    }

    #[test]
    fn fps_is_positive() {
        assert!(settings(&["--fps", "29.97"]).is_ok());
        for bad in ["0", "-5", "nan", "fast", "1/0"] {
            refused(&["--fps", bad], "positive number");
        }
    }

    #[test]
    fn crf_has_x265s_range() {
        assert!(settings(&["--crf", "0"]).is_ok());
        refused(&["--crf", "52"], "between 0 and 51");
        refused(&["--crf", "-1"], "between 0 and 51");
        refused(&["--crf", "NaN"], "between 0 and 51");
    }

    #[test]
    fn copy_stands_alone() {
        assert_eq!(settings(&["--copy"]).unwrap().pictures, Pictures::Copy);
        for other in [
            &["--crf", "20"][..],
            &["--gpu"],
            &["--fps", "5"],
            &["--downscale", "2"],
        ] {
            refused(&[&["--copy"], other].concat(), "cannot be used with");
        }
    }

    #[test]
    fn a_storage_url_without_offsets_file_would_do_nothing() {
        refused(&["--storage-url", "s3://b/k"], "--extract-offsets");
        assert!(settings(&["--extract-offsets", "--storage-url", "s3://b/k"]).is_ok());
        refused(&["--extract-offsets", "--storage-url", ""], "empty");
    }
}
