//! `repo-cli offsets`: the offsets file of a video that exists already.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use media::VideoIndex;
use media::sidecar::OffsetsFile;

use crate::{local_index, placement};

/// `repo-cli offsets`, as typed.
#[derive(Debug, clap::Args)]
pub(crate) struct RawOffsets {
    /// A local H.265 video: MP4, MOV or a raw stream
    #[arg(value_name = "VIDEO")]
    video: PathBuf,

    /// Where the offsets go, - for standard output [default: VIDEO.offsets.json]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// The video's address in the offsets file, as it is given; one that ends in / gets the
    /// file's name appended [default: fs:// and the absolute path]
    #[arg(long, value_name = "URL")]
    storage_url: Option<String>,

    /// Overwrite what exists
    #[arg(long)]
    force: bool,
}

/// Where the offsets of a video stand: `a.h265.offsets.json` beside `a.h265`.
pub(crate) fn sidecar_path(video: &Path) -> PathBuf {
    placement::with_suffix(video, ".offsets.json")
}

/// The content of the offsets file.
pub(crate) fn sidecar_text(video_url: String, index: &VideoIndex) -> anyhow::Result<String> {
    let mut text = serde_json::to_string(&OffsetsFile::new(video_url, index))?;
    text.push('\n');
    Ok(text)
}

/// Runs the subcommand.
pub(crate) fn run(raw: RawOffsets) -> anyhow::Result<ExitCode> {
    let index = local_index::open(&raw.video)?;
    let name = Path::new(
        raw.video
            .file_name()
            .context("the video has no file name")?,
    );
    let url = crate::convert::video_url(raw.storage_url.as_deref(), &raw.video, name)?;
    let text = sidecar_text(url, &index)?;
    let output = raw.output.unwrap_or_else(|| sidecar_path(&raw.video));
    if output == Path::new("-") {
        std::io::stdout().write_all(text.as_bytes())?;
    } else {
        placement::write(&output, text.as_bytes(), raw.force)?;
        writeln!(
            std::io::stdout(),
            "{}: {} frames",
            output.display(),
            index.frame_count()
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
