//! Objects of one S3 bucket.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt,
    RetryConfig,
};
use tokio::sync::Semaphore;
use url::Url;

use crate::counters::CounterCells;
use crate::credentials::{Credentials, Surroundings, choose};
use crate::error::{StorageError, StorageErrorKind, shown};
use crate::name::Location;
use crate::object::{Object, Opened, Source, Version};
use crate::wire::GuardedConnector;

/// Which bucket, and how to reach it.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Config {
    /// The bucket.
    pub bucket: String,
    /// The region, for signatures; `us-east-1` where the server has none.
    pub region: String,
    /// The server's address for anything but AWS, as in `http://localhost:3900`. Requests to it
    /// are path-style.
    pub endpoint: Option<String>,
    /// The access key; with `None` in both: the environment, the AWS profile, a web identity or
    /// container credentials; then `minioadmin` with an endpoint, else the instance's role.
    pub access_key: Option<String>,
    /// The secret key.
    pub secret_key: Option<String>,
}

impl fmt::Debug for S3Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Config")
            .field("bucket", &self.bucket)
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// Requests in flight at the same time, over all objects.
const CONCURRENT_REQUESTS: usize = 64;
/// A key is at most this long (S3: "Naming Amazon S3 objects").
const KEY_BYTES: usize = 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A request that fails in a way that may pass is sent this many times more …
const RETRIES: usize = 4;
/// … until this much time has gone by.
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct S3Store {
    client: Arc<AmazonS3>,
    bucket: String,
    gate: Arc<Semaphore>,
}

/// One object of the bucket.
#[derive(Clone)]
pub(crate) struct S3Object {
    client: Arc<AmazonS3>,
    path: Path,
    gate: Arc<Semaphore>,
}

// By hand, because the client would print its credentials.
impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store")
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for S3Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Object")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl S3Store {
    pub(crate) fn new(config: &S3Config) -> Result<Self, StorageError> {
        let variable = |name: &str| std::env::var(name).ok();
        let read = |path: &PathBuf| std::fs::read_to_string(path).ok();
        Self::in_surroundings(
            config,
            &Surroundings {
                variable: &variable,
                read: &read,
            },
        )
    }

    fn in_surroundings(config: &S3Config, around: &Surroundings<'_>) -> Result<Self, StorageError> {
        let misconfigured =
            |message: String| StorageError::new(StorageErrorKind::Misconfigured, message);
        if config.bucket.is_empty() || config.bucket.contains('/') {
            return Err(misconfigured(format!(
                "\"{}\" is not the name of an S3 bucket",
                shown(&config.bucket)
            )));
        }
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&config.bucket)
            .with_region(&config.region)
            .with_http_connector(GuardedConnector::default())
            .with_retry(RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: RETRIES,
                retry_timeout: RETRY_TIMEOUT,
            });
        let mut options = ClientOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_timeout(REQUEST_TIMEOUT);
        if let Some(endpoint) = &config.endpoint {
            let url = Url::parse(endpoint).ok().filter(|u| u.has_host());
            let http = match url.as_ref().map(Url::scheme) {
                Some("http") => true,
                Some("https") => false,
                _ => {
                    return Err(misconfigured(format!(
                        "the S3 endpoint must be an http:// or https:// address, but is \"{}\"",
                        shown(endpoint)
                    )));
                }
            };
            options = options.with_allow_http(http);
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        }
        let keys = (config.access_key.as_deref(), config.secret_key.as_deref());
        match choose(keys.0, keys.1, config.endpoint.is_some(), around)? {
            Credentials::Keys(pair) => {
                builder = builder
                    .with_access_key_id(pair.access_key)
                    .with_secret_access_key(pair.secret_key);
                if let Some(token) = pair.token {
                    builder = builder.with_token(token);
                }
            }
            Credentials::Ambient => {
                for (name, key) in AMBIENT_KEYS {
                    if let Some(value) = (around.variable)(name).filter(|v| !v.is_empty()) {
                        builder = builder.with_config(key, value);
                    }
                }
            }
        }
        let client = builder.with_client_options(options).build().map_err(|e| {
            misconfigured(format!(
                "the S3 settings cannot work: {}",
                first_line(&e.to_string())
            ))
        })?;
        Ok(Self {
            client: Arc::new(client),
            bucket: config.bucket.clone(),
            gate: Arc::new(Semaphore::new(CONCURRENT_REQUESTS)),
        })
    }

    pub(crate) async fn open(
        &self,
        name: &str,
        location: Location<'_>,
        head: u64,
        tail: u64,
        counters: &Arc<CounterCells>,
    ) -> Result<Opened, StorageError> {
        let object = S3Object {
            client: Arc::clone(&self.client),
            path: self.path(name, location)?,
            gate: Arc::clone(&self.gate),
        };
        let opened = object.ends(name, head, tail, counters).await;
        let (meta, head, tail) = match opened {
            // Replaced between the two reads: once more.
            Err(e) if e.kind() == StorageErrorKind::Changed => {
                object.ends(name, head, tail, counters).await?
            }
            other => other?,
        };
        let version = version_of(&meta);
        let object = Object::new(
            name,
            meta.size,
            version,
            Source::S3(object),
            Arc::clone(counters),
        );
        Ok(Opened { object, head, tail })
    }

    /// The key, as it is. Keys that the client library would change on the way (a slash at an
    /// end, empty parts, `.` and `..`, control characters) are refused.
    fn path(&self, name: &str, location: Location<'_>) -> Result<Path, StorageError> {
        let key = match location {
            Location::Plain(key) => key,
            Location::Bucket { bucket, key } if bucket == self.bucket => key,
            Location::Bucket { .. } | Location::Absolute(_) => {
                return Err(StorageError::outside(name));
            }
        };
        Path::parse(key)
            .ok()
            .filter(|path| path.as_ref() == key && key.len() <= KEY_BYTES)
            .ok_or_else(|| {
                StorageError::new(
                    StorageErrorKind::InvalidName,
                    format!("{} is not a key that can be served", shown(name)),
                )
            })
    }
}

/// What the environment may say of credentials that are not keys.
const AMBIENT_KEYS: [(&str, AmazonS3ConfigKey); 7] = [
    (
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        AmazonS3ConfigKey::WebIdentityTokenFile,
    ),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    (
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
    ),
    (
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        AmazonS3ConfigKey::ContainerCredentialsFullUri,
    ),
    (
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        AmazonS3ConfigKey::ContainerAuthorizationTokenFile,
    ),
    ("AWS_METADATA_ENDPOINT", AmazonS3ConfigKey::MetadataEndpoint),
];

/// The answer to one ranged read: of which object, from where, what.
struct Part {
    meta: ObjectMeta,
    start: u64,
    bytes: Bytes,
}

impl S3Object {
    /// Reads the first and the last bytes at the same time.
    async fn ends(
        &self,
        name: &str,
        head: u64,
        tail: u64,
        counters: &CounterCells,
    ) -> Result<(ObjectMeta, Bytes, Bytes), StorageError> {
        // A range of no bytes cannot be asked for.
        let first = self.get(GetRange::Bounded(0..head.max(1)), None);
        let last = self.get(GetRange::Suffix(tail.max(1)), None);
        counters.request();
        counters.request();
        let (first, last) = futures::join!(first, last);
        for part in [&first, &last].into_iter().flatten() {
            counters.received(part.bytes.len());
        }
        let first = match first {
            Ok(part) => part,
            Err(error) => {
                // No range lies within an object of no bytes: the server says 416.
                if code_of(&error).as_deref() == Some("InvalidRange") {
                    counters.request();
                    let meta = self.client.head(&self.path).await;
                    let meta = meta.map_err(|e| from_s3(name, &e))?;
                    if meta.size == 0 {
                        return Ok((meta, Bytes::new(), Bytes::new()));
                    }
                }
                return Err(from_s3(name, &error));
            }
        };
        let size = first.meta.size;
        let tail_length = size.min(tail);
        let last = match last {
            Ok(part) => part,
            // The head is all of it, so it holds the tail too: servers differ on a suffix that
            // is longer than the object.
            Err(_) if first.bytes.len() as u64 == size => Part {
                meta: first.meta.clone(),
                start: 0,
                bytes: first.bytes.clone(),
            },
            Err(error) => return Err(from_s3(name, &error)),
        };
        if version_of(&first.meta) != version_of(&last.meta) || last.meta.size != size {
            return Err(StorageError::changed(name));
        }
        let incomplete = || {
            StorageError::new(
                StorageErrorKind::Unavailable,
                format!(
                    "{}: the store sent fewer bytes than it announced",
                    shown(name)
                ),
            )
        };
        let head = part_of(&first, 0..size.min(head)).ok_or_else(incomplete)?;
        let tail = part_of(&last, size.saturating_sub(tail_length)..size).ok_or_else(incomplete)?;
        Ok((first.meta, head, tail))
    }

    /// Sends one read and collects its answer.
    async fn get(&self, range: GetRange, version: Option<&str>) -> object_store::Result<Part> {
        // Never closed; if it were, the read would only be unbounded.
        let _permit = self.gate.acquire().await.ok();
        let options = GetOptions {
            range: Some(range),
            if_match: version.map(str::to_owned),
            ..GetOptions::default()
        };
        let answer = self.client.get_opts(&self.path, options).await?;
        let (meta, announced) = (answer.meta.clone(), answer.range.clone());
        let start = announced.start;
        let bytes = answer.bytes().await?;
        if announced.end.checked_sub(start) != Some(bytes.len() as u64) {
            let source = "the body is not as long as the range".into();
            return Err(object_store::Error::Generic {
                store: "S3",
                source,
            });
        }
        Ok(Part { meta, start, bytes })
    }

    /// Reads a range that lies within the object, and is not empty.
    pub(crate) async fn read(
        &self,
        name: &str,
        size: u64,
        version: &Version,
        range: Range<u64>,
    ) -> Result<Bytes, StorageError> {
        // A weak ETag matches nothing under If-Match; it is compared afterwards, as all are.
        let etag = match version {
            Version::ETag(etag) if !etag.starts_with("W/") => Some(etag.as_str()),
            _ => None,
        };
        let part = self.get(GetRange::Bounded(range.clone()), etag).await;
        let part = part.map_err(|e| match from_s3(name, &e) {
            // It was there when it was opened, and was long enough.
            e if e.kind() == StorageErrorKind::NotFound => StorageError::changed(name),
            other => other,
        })?;
        if version_of(&part.meta) != *version || part.meta.size != size {
            return Err(StorageError::changed(name));
        }
        part_of(&part, range).ok_or_else(|| {
            StorageError::new(
                StorageErrorKind::Unavailable,
                format!(
                    "{}: the store sent fewer bytes than it announced",
                    shown(name)
                ),
            )
        })
    }
}

/// The bytes of `range`, counted from the object's start.
fn part_of(part: &Part, range: Range<u64>) -> Option<Bytes> {
    let start = usize::try_from(range.start.checked_sub(part.start)?).ok()?;
    let end = usize::try_from(range.end.checked_sub(part.start)?).ok()?;
    (start <= end && end <= part.bytes.len()).then(|| part.bytes.slice(start..end))
}

fn version_of(meta: &ObjectMeta) -> Version {
    match &meta.e_tag {
        Some(etag) => Version::ETag(etag.clone()),
        None => Version::Modified {
            size: meta.size,
            millis: meta.last_modified.timestamp_millis(),
        },
    }
}

/// The `Code` of the error document that S3 servers send. The client library keeps the document
/// in its message only.
fn code_of(error: &object_store::Error) -> Option<String> {
    let text = error.to_string();
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let plain = code.len() <= 64 && code.chars().all(|c| c.is_ascii_alphanumeric());
    plain.then(|| code.to_owned())
}

/// Says a failure in our own words: the library's repeat the server's document, in which there
/// may be access keys and signatures.
fn from_s3(name: &str, error: &object_store::Error) -> StorageError {
    use StorageErrorKind as Kind;
    let code = code_of(error);
    let named = |code: &Option<String>| match code {
        Some(code) => format!(" ({code})"),
        None => String::new(),
    };
    let (kind, message) = match error {
        object_store::Error::NotFound { .. } if code.as_deref() == Some("NoSuchBucket") => (
            Kind::Misconfigured,
            "the S3 bucket does not exist".to_owned(),
        ),
        object_store::Error::NotFound { .. } => return StorageError::not_found(name),
        object_store::Error::Precondition { .. } => return StorageError::changed(name),
        object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. } => (
            Kind::Forbidden,
            format!(
                "{}: the S3 server refuses access{}",
                shown(name),
                named(&code)
            ),
        ),
        object_store::Error::InvalidPath { .. } => (
            Kind::InvalidName,
            format!("{} is not a key that can be served", shown(name)),
        ),
        _ if code.as_deref() == Some("InvalidRange") => return StorageError::changed(name),
        other => match http_kind(other) {
            Some(HttpErrorKind::Timeout) => (
                Kind::Timeout,
                format!("{}: the S3 server did not answer in time", shown(name)),
            ),
            Some(HttpErrorKind::Connect) => (
                Kind::Unavailable,
                format!("{}: the S3 server cannot be reached", shown(name)),
            ),
            _ => (
                Kind::Unavailable,
                format!("{}: the S3 server failed{}", shown(name), named(&code)),
            ),
        },
    };
    StorageError::new(kind, message)
}

/// What went wrong on the wire, if that is what went wrong.
fn http_kind(error: &object_store::Error) -> Option<HttpErrorKind> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            return Some(http.kind());
        }
        source = error.source();
    }
    None
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(endpoint: Option<&str>) -> S3Config {
        S3Config {
            bucket: "videos".into(),
            region: "us-east-1".into(),
            endpoint: endpoint.map(str::to_owned),
            access_key: Some("AKIAEXAMPLE".into()),
            secret_key: Some("hunter2".into()),
        }
    }

    fn refusal(config: &S3Config) -> StorageError {
        S3Store::new(config).unwrap_err()
    }

    #[test]
    fn settings_that_cannot_work_are_refused_in_a_sentence() {
        for endpoint in ["localhost:3900", "ftp://localhost", "http://", "", "/srv"] {
            let error = refusal(&config(Some(endpoint)));
            assert_eq!(error.kind(), StorageErrorKind::Misconfigured);
            assert!(error.to_string().contains("http:// or https://"), "{error}");
        }
        for bucket in ["", "a/b"] {
            let error = refusal(&S3Config {
                bucket: bucket.into(),
                ..config(None)
            });
            assert!(
                error
                    .to_string()
                    .contains("is not the name of an S3 bucket"),
                "{error}"
            );
        }
        let error = refusal(&S3Config {
            secret_key: None,
            ..config(None)
        });
        assert!(!error.to_string().contains("AKIAEXAMPLE"), "{error}");
    }

    #[test]
    fn a_name_is_a_key_of_this_bucket_or_nothing() {
        let store = S3Store::new(&config(Some("http://localhost:1/"))).unwrap();
        let key = |name: &str| {
            let path = Location::parse(name).and_then(|l| store.path(name, l));
            path.map(|p| p.to_string()).map_err(|e| e.kind())
        };
        use StorageErrorKind::{InvalidName, OutsideStore};
        assert_eq!(key("a/b.mp4"), Ok("a/b.mp4".into()));
        assert_eq!(key("s3://videos/a b%2fc.mp4"), Ok("a b%2fc.mp4".into()));
        assert_eq!(key("s3://other/a.mp4"), Err(OutsideStore));
        assert_eq!(key("s3://videos.evil/a.mp4"), Err(OutsideStore));
        assert_eq!(key("fs:///etc/passwd"), Err(OutsideStore));
        for name in ["../other/a", "a/../../b", "/a", "a/", "a//b", "./a", "a\nb"] {
            assert_eq!(key(name), Err(InvalidName), "{name}");
        }
        assert_eq!(key(&"k".repeat(1025)), Err(InvalidName));
    }

    #[test]
    fn secrets_are_not_printed() {
        let config = config(Some("http://localhost:1"));
        let store = S3Store::new(&config).unwrap();
        let text = format!("{config:?} {store:?}");
        assert!(
            !text.contains("hunter2") && !text.contains("AKIAEXAMPLE"),
            "{text}"
        );
    }
}
