//! `repo-cli offsets`: the offsets file of a video that exists already.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use media::VideoIndex;
use media::sidecar::OffsetsFile;
use storage::{S3Config, Store};

use crate::convert::video_url;
use crate::{local_index, placement};

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

/// How to reach a bucket: the server's options, under the same names.
#[derive(clap::Args)]
struct RawS3 {
    /// The bucket's region [default: us-east-1]
    #[arg(long, env = "S3_REGION", value_name = "NAME")]
    s3_region: Option<String>,

    /// Address of an S3 server that is not AWS (Garage, MinIO, Ceph …)
    #[arg(long, env = "S3_ENDPOINT", value_name = "URL")]
    s3_endpoint: Option<String>,

    /// Access key [default: environment, AWS profile, web identity; then minioadmin with
    /// --s3-endpoint, else the instance's role]
    #[arg(
        long,
        env = "S3_ACCESS_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    s3_access_key: Option<String>,

    /// Secret key; needed with --s3-access-key
    #[arg(
        long,
        env = "S3_SECRET_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    s3_secret_key: Option<String>,
}

// By hand: keys are never printed.
impl std::fmt::Debug for RawS3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawS3")
            .field("s3_endpoint", &self.s3_endpoint)
            .finish_non_exhaustive()
    }
}

impl RawS3 {
    /// The configuration for a bucket. Empty values count as not given.
    fn config(self, bucket: &str) -> S3Config {
        let given = |value: Option<String>| value.filter(|v| !v.is_empty());
        S3Config {
            bucket: bucket.to_owned(),
            region: given(self.s3_region).unwrap_or_else(|| "us-east-1".into()),
            endpoint: given(self.s3_endpoint),
            access_key: given(self.s3_access_key),
            secret_key: given(self.s3_secret_key),
        }
    }
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

/// Bucket and key of an `s3://` address.
fn bucket_and_key(video: &Path) -> Option<(&str, &str)> {
    let (bucket, key) = video.to_str()?.strip_prefix("s3://")?.split_once('/')?;
    (!bucket.is_empty() && !key.is_empty()).then_some((bucket, key))
}

/// Runs the subcommand.
pub(crate) fn run(raw: RawOffsets) -> anyhow::Result<ExitCode> {
    let storage_url = raw.storage_url.as_deref();
    let name = Path::new(
        raw.video
            .file_name()
            .context("the video has no file name")?,
    );
    let (index, url, beside) = if let Some((bucket, _)) = bucket_and_key(&raw.video) {
        let address = raw
            .video
            .to_str()
            .context("the address is no Unicode text")?;
        let index = open_s3(address, raw.s3.config(bucket))?;
        let url = match storage_url {
            None => address.to_owned(),
            given => video_url(given, &raw.video, name)?,
        };
        (index, url, sidecar_path(name))
    } else {
        anyhow::ensure!(
            !raw.video
                .as_os_str()
                .as_encoded_bytes()
                .starts_with(b"s3://"),
            "{} does not name a bucket and a key",
            raw.video.display()
        );
        let index = local_index::open(&raw.video)?;
        (
            index,
            video_url(storage_url, &raw.video, name)?,
            sidecar_path(&raw.video),
        )
    };
    let text = sidecar_text(url, &index)?;
    let output = raw.output.unwrap_or(beside);
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

fn open_s3(address: &str, config: S3Config) -> anyhow::Result<VideoIndex> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let store = Store::s3(config)?;
    Ok(runtime
        .block_on(engine::catalog::open(&store, address))?
        .index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_s3_address_has_a_bucket_and_a_key() {
        let parts = |t: &'static str| bucket_and_key(Path::new(t));
        assert_eq!(parts("s3://b/k/l.mp4"), Some(("b", "k/l.mp4")));
        for other in ["s3://b", "s3://b/", "s3:///k", "b/k", "./s3://b/k"] {
            assert_eq!(parts(other), None, "{other}");
        }
    }
}
