//! `repo-cli offsets`: the offsets file of a video that exists already, and its index file.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use engine::catalog;
use media::VideoIndex;
use media::bsidx;
use media::sidecar::OffsetsFile;

use crate::convert::video_url;
use crate::placement;
use crate::source::{self, RawS3};

/// `repo-cli offsets`, as typed.
#[derive(Debug, clap::Args)]
pub(crate) struct RawOffsets {
    /// An H.265 video (MP4, MOV or a raw stream): a local path or s3://BUCKET/KEY
    #[arg(value_name = "VIDEO")]
    video: PathBuf,

    /// Where the offsets go, - for standard output [default: VIDEO.offsets.json; of an s3://
    /// video in the current folder]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Also write VIDEO.bsidx, the index that the server reads in place of the video's own
    /// tables, with what each frame depends on; beside the offsets. Reads the whole video
    #[arg(long)]
    graph: bool,

    /// The video's address in the offsets file, as it is given; one that ends in / gets the
    /// file's name appended [default: fs:// and the absolute path; of an s3:// video its own]
    #[arg(long, value_name = "URL")]
    storage_url: Option<String>,

    /// Overwrite what exists
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    s3: RawS3,
}

/// Where the offsets of a video stand: `a.h265.offsets.json` beside `a.h265`.
pub(crate) fn sidecar_path(video: &Path) -> PathBuf {
    placement::with_suffix(video, ".offsets.json")
}

/// Where the index file of a video stands: `a.h265.bsidx` beside `a.h265`.
pub(crate) fn index_path(video: &Path) -> PathBuf {
    placement::with_suffix(video, bsidx::SUFFIX)
}

/// The content of the offsets file.
pub(crate) fn sidecar_text(video_url: String, index: &VideoIndex) -> anyhow::Result<String> {
    let mut text = serde_json::to_string(&OffsetsFile::new(video_url, index))?;
    text.push('\n');
    Ok(text)
}

/// Runs the subcommand.
pub(crate) fn run(raw: RawOffsets) -> anyhow::Result<ExitCode> {
    let storage_url = raw.storage_url.as_deref();
    let name = Path::new(
        raw.video
            .file_name()
            .context("the video has no file name")?,
    );
    let runtime = source::runtime()?;
    let opened = runtime.block_on(source::open(&raw.video, Some(&raw.s3)))?;
    let index = &opened.index;
    let in_bucket = source::bucket_and_key(&raw.video)?.is_some();
    let url = match (in_bucket, storage_url, raw.video.to_str()) {
        (true, None, Some(address)) => address.to_owned(),
        _ => video_url(storage_url, &raw.video, name)?,
    };
    let beside = if in_bucket { name } else { &raw.video };
    let text = sidecar_text(url, index)?;
    let output = raw.output.unwrap_or_else(|| sidecar_path(beside));
    let to_stdout = output == Path::new("-");
    let index_path = if to_stdout {
        index_path(beside)
    } else {
        index_path(&output.with_file_name(name))
    };
    // Where one of the two may not be written, neither is.
    let refused = |path: &Path| !raw.force && path.exists();
    if raw.graph && refused(&index_path) {
        return Err(placement::exists_already(&index_path));
    }
    if !to_stdout && refused(&output) {
        return Err(placement::exists_already(&output));
    }
    let file = match raw.graph {
        true => Some(runtime.block_on(catalog::index_file(&opened))?),
        false => None,
    };
    if to_stdout {
        std::io::stdout().write_all(text.as_bytes())?;
    } else {
        placement::write(&output, text.as_bytes(), raw.force)?;
        let frames = index.frame_count();
        writeln!(std::io::stdout(), "{}: {frames} frames", output.display())?;
    }
    if let Some(file) = file {
        placement::write(&index_path, &file, raw.force)?;
        if !to_stdout {
            let (path, bytes) = (index_path.display(), file.len());
            writeln!(std::io::stdout(), "{path}: {bytes} bytes")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
