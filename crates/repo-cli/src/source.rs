//! Opening a video by what a user typed: a local path, or `s3://BUCKET/KEY`.

use std::path::Path;

use anyhow::Context as _;
use engine::OpenError;
use engine::catalog::{self, IndexedObject};
use storage::{Addressing, S3Config, Store};
use tokio::runtime::Runtime;

/// How to reach a bucket: the server's options, under the same names.
#[derive(clap::Args)]
pub(crate) struct RawS3 {
    /// The bucket's region [default: AWS_REGION, AWS_DEFAULT_REGION, the AWS profile's, us-east-1]
    #[arg(long, env = "S3_REGION", value_name = "NAME")]
    s3_region: Option<String>,

    /// Address of an S3 server that is not AWS (Garage, MinIO, Ceph …)
    /// [default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL]
    #[arg(long, env = "S3_ENDPOINT", value_name = "URL", hide_env_values = true)]
    s3_endpoint: Option<String>,

    /// Where requests have the bucket's name: path, virtual (in the host's name), or auto: path
    /// where there is an endpoint [default: auto]
    #[arg(long, env = "S3_ADDRESSING", value_name = "STYLE", value_parser = addressing)]
    s3_addressing: Option<Addressing>,

    /// Send requests without a signature, for buckets that everybody may read
    #[arg(
        long,
        env = "S3_ANONYMOUS",
        value_name = "TRUE|FALSE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = truth
    )]
    s3_anonymous: Option<bool>,

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
            .field("s3_region", &self.s3_region)
            .finish_non_exhaustive()
    }
}

impl RawS3 {
    /// The configuration for a bucket. Empty values count as not given.
    fn config(&self, bucket: &str) -> S3Config {
        let given = |value: &Option<String>| value.clone().filter(|v| !v.is_empty());
        S3Config {
            buckets: vec![bucket.into()],
            region: given(&self.s3_region),
            endpoint: given(&self.s3_endpoint),
            addressing: self.s3_addressing.unwrap_or_default(),
            anonymous: self.s3_anonymous.unwrap_or_default(),
            access_key: given(&self.s3_access_key),
            secret_key: given(&self.s3_secret_key),
        }
    }
}

/// An empty value counts as not given.
fn addressing(text: &str) -> Result<Addressing, &'static str> {
    match text {
        "" | "auto" => Ok(Addressing::Auto),
        "path" => Ok(Addressing::Path),
        "virtual" => Ok(Addressing::Virtual),
        _ => Err("must be auto, path or virtual"),
    }
}

fn truth(text: &str) -> Result<bool, &'static str> {
    match text {
        "" | "false" | "off" | "0" => Ok(false),
        "true" | "on" | "1" => Ok(true),
        _ => Err("must be true or false"),
    }
}

/// Bucket and key of an `s3://` address; `None` for a local path.
///
/// # Errors
/// An address that begins with `s3://` and names no bucket or no key.
pub(crate) fn bucket_and_key(video: &Path) -> anyhow::Result<Option<(&str, &str)>> {
    if !video.as_os_str().as_encoded_bytes().starts_with(b"s3://") {
        return Ok(None);
    }
    let parts = video
        .to_str()
        .and_then(|t| t.strip_prefix("s3://")?.split_once('/'));
    match parts.filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty()) {
        Some(parts) => Ok(Some(parts)),
        None => anyhow::bail!("{} does not name a bucket and a key", video.display()),
    }
}

/// A runtime for one command.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// Opens a video and builds its index. Only what the index needs is read.
pub(crate) async fn open(video: &Path, s3: Option<&RawS3>) -> anyhow::Result<IndexedObject> {
    if let (Some((bucket, _)), Some(s3)) = (bucket_and_key(video)?, s3) {
        let store = Store::s3(s3.config(bucket))?;
        return Ok(catalog::open(&store, &video.to_string_lossy()).await?);
    }
    let name = video.display();
    // A user's own links are followed; the store itself follows none out of its root.
    let path = video
        .canonicalize()
        .with_context(|| format!("cannot open {name}"))?;
    anyhow::ensure!(path.is_file(), "{name} is not a file");
    let (Some(folder), Some(file)) = (path.parent(), path.file_name()) else {
        anyhow::bail!("{name} is not a file");
    };
    let file = file
        .to_str()
        .with_context(|| format!("the name of {name} is no Unicode text"))?;
    let store = Store::local(folder)?;
    catalog::open(&store, file).await.map_err(|e| match e {
        // The name inside the folder is not what the user typed.
        OpenError::NotVideo { error, .. } => anyhow::anyhow!("{name}: {error}"),
        other => anyhow::anyhow!("{name}: {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_s3_address_has_a_bucket_and_a_key() {
        let parts = |t: &'static str| bucket_and_key(Path::new(t));
        assert_eq!(parts("s3://b/k/l.mp4").unwrap(), Some(("b", "k/l.mp4")));
        for local in ["b/k", "./s3://b/k"] {
            assert_eq!(parts(local).unwrap(), None, "{local}");
        }
        for wrong in ["s3://b", "s3://b/", "s3:///k"] {
            assert!(parts(wrong).is_err(), "{wrong}");
        }
    }
}
