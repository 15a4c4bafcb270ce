//! From raw arguments to checked ones.
//!
//! Each option is a flag, an environment variable (the same name in capitals with `_`) and a key
//! of an optional TOML file, in this order of precedence. An empty value is taken as not given,
//! as container tools pass variables that are not set.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use engine::{DecodeWorker, DiskCacheConfig, EngineConfig, Isolation};
use serde::Deserialize;
use storage::{
    Addressing, AzureConfig, Bucket, GcsConfig, ReadOptions, S3Config, Store, StoreConfig,
};

use crate::access::{AccessConfig, JwtConfig};
use crate::byte_size;
use crate::door::{DoorConfig, TlsFiles};
use crate::duration;
use crate::http::HttpConfig;
use crate::limits::Limits;
use crate::log::LogFormat;

/// The first argument of this program where it is started as a process that decodes for another one.
pub(crate) const DECODE_WORKER: &str = "decode-worker";

/// Serves single frames of H.265 videos over WebSocket.
#[derive(Parser, Clone, Default)]
#[command(name = "bucket-streamer", version, about, max_term_width = 100)]
pub(crate) struct Args {
    /// A TOML file with these options as keys, as in `listen-addr = "0.0.0.0:3000"`
    #[arg(long, env = "CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Ask the server that runs on --listen-addr how it is, and end: with 0 if it is well. For the
    /// health check of a container
    #[arg(long)]
    pub(crate) health: bool,

    #[command(flatten)]
    options: Options,
}

/// The options as they were written, by flag, by variable, or in the file.
#[derive(clap::Args, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Options {
    /// Address and port to listen on [default: 0.0.0.0:3000]
    #[arg(long, env = "LISTEN_ADDR", value_name = "HOST:PORT")]
    #[serde(alias = "listen_addr")]
    listen_addr: Option<String>,

    /// Where the videos are: local, s3, gcs or azure [default: local]
    #[arg(long, env = "STORAGE_BACKEND", value_name = "BACKEND")]
    #[serde(alias = "storage_backend")]
    storage_backend: Option<String>,

    /// Root of the local store; nothing outside it is served [default: ./data]
    #[arg(long, env = "LOCAL_PATH", value_name = "FOLDER")]
    #[serde(alias = "local_path")]
    local_path: Option<String>,

    /// How long a read from the storage may take, with all that is tried again, as 20s or 1500ms;
    /// beyond, frames that need it are answered storage_failed [default: 20s]
    #[arg(long, env = "STORAGE_TIMEOUT", value_name = "TIME")]
    #[serde(alias = "storage_timeout", deserialize_with = "number_or_text")]
    storage_timeout: Option<String>,

    /// auto or off: whether a request to a bucket that is slow to begin is sent a second time, at
    /// most one in twenty [default: auto]
    #[arg(long, env = "HEDGE", value_name = "AUTO|OFF")]
    hedge: Option<String>,

    /// The bucket, or several as in flights,lab: these may be named in s3://BUCKET/KEY, the first
    /// is that of plain names. Required with --storage-backend s3
    #[arg(long, env = "S3_BUCKET", value_name = "NAMES")]
    #[serde(alias = "s3_bucket", deserialize_with = "text_or_list")]
    s3_bucket: Option<String>,

    /// Nothing but keys below this is served: of all buckets, or as in flights=2026/raw,lab=public
    /// [default: all keys are]
    #[arg(long, env = "S3_PREFIX", value_name = "PREFIXES")]
    #[serde(alias = "s3_prefix", deserialize_with = "text_or_list")]
    s3_prefix: Option<String>,

    /// The buckets' region [default: AWS_REGION, AWS_DEFAULT_REGION, the AWS profile's, us-east-1]
    #[arg(long, env = "S3_REGION", value_name = "NAME")]
    #[serde(alias = "s3_region")]
    s3_region: Option<String>,

    /// Address of an S3 server that is not AWS (Garage, MinIO, Ceph …); http:// is allowed
    /// [default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL]
    #[arg(long, env = "S3_ENDPOINT", value_name = "URL", hide_env_values = true)]
    #[serde(alias = "s3_endpoint")]
    s3_endpoint: Option<String>,

    /// Where requests have the bucket's name: path, virtual (in the host's name), or auto: path
    /// where there is an endpoint [default: auto]
    #[arg(long, env = "S3_ADDRESSING", value_name = "STYLE")]
    #[serde(alias = "s3_addressing")]
    s3_addressing: Option<String>,

    /// Send requests without a signature, for buckets that everybody may read [default: false]
    #[arg(
        long,
        env = "S3_ANONYMOUS",
        value_name = "TRUE|FALSE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    #[serde(alias = "s3_anonymous", deserialize_with = "number_or_text")]
    s3_anonymous: Option<String>,

    /// Access key [default: environment, AWS profile, web identity; then minioadmin with
    /// --s3-endpoint, else the instance's role]
    #[arg(
        long,
        env = "S3_ACCESS_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    #[serde(alias = "s3_access_key")]
    s3_access_key: Option<String>,

    /// Secret key; needed with --s3-access-key
    #[arg(
        long,
        env = "S3_SECRET_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    #[serde(alias = "s3_secret_key")]
    s3_secret_key: Option<String>,

    /// The bucket of Google Cloud Storage, or several; required with --storage-backend gcs
    #[arg(long, env = "GCS_BUCKET", value_name = "NAMES")]
    #[serde(alias = "gcs_bucket", deserialize_with = "text_or_list")]
    gcs_bucket: Option<String>,

    /// The Azure storage account [default: AZURE_STORAGE_ACCOUNT_NAME]
    #[arg(long, env = "AZURE_ACCOUNT", value_name = "NAME")]
    #[serde(alias = "azure_account")]
    azure_account: Option<String>,

    /// The Azure container, or several; required with --storage-backend azure
    #[arg(long, env = "AZURE_CONTAINER", value_name = "NAMES")]
    #[serde(alias = "azure_container", deserialize_with = "text_or_list")]
    azure_container: Option<String>,

    /// JPEG quality, 1 to 100 [default: 80]
    #[arg(long, env = "JPEG_QUALITY", value_name = "N")]
    #[serde(alias = "jpeg_quality", deserialize_with = "number_or_text")]
    jpeg_quality: Option<String>,

    /// Threads that decode [default: the cores that this process may use]
    #[arg(long, env = "WORKERS", value_name = "N")]
    #[serde(deserialize_with = "number_or_text")]
    workers: Option<String>,

    /// process or thread: where H.265 is decoded. In processes of their own, which can open nothing,
    /// a video that crashes the decoder costs its own frames; threads share the server's memory
    /// [default: process, and threads where that cannot be had]
    #[arg(long, env = "ISOLATION", value_name = "WHERE")]
    isolation: Option<String>,

    /// The largest picture that is decoded, in luma samples, as 36000000; larger ones are refused
    /// before anything is allocated for them [default: 67108864, 8192x8192]
    #[arg(long, env = "MAX_PIXELS", value_name = "N")]
    #[serde(alias = "max_pixels", deserialize_with = "number_or_text")]
    max_pixels: Option<String>,

    /// Access units that are decoded for one frame, with all that it depends on; what needs more is
    /// answered gop_too_large; 0 is as many as it takes [default: 0]
    #[arg(long, env = "MAX_GOP_FRAMES", value_name = "N")]
    #[serde(alias = "max_gop_frames", deserialize_with = "number_or_text")]
    max_gop_frames: Option<String>,

    /// How long decoding may go on without a frame that is wanted, as 60s; beyond, it is answered
    /// decode_failed. A single access unit may take this, but never more than 10s [default: 60s]
    #[arg(long, env = "DECODE_TIMEOUT", value_name = "TIME")]
    #[serde(alias = "decode_timeout", deserialize_with = "number_or_text")]
    decode_timeout: Option<String>,

    /// Memory for images, compressed GOPs and indexes that are kept: bytes, or as 512MiB, 2GiB;
    /// 0 keeps nothing [default: a quarter of the memory that this process may use]
    #[arg(long, env = "CACHE_SIZE", value_name = "SIZE")]
    #[serde(alias = "cache_size", deserialize_with = "number_or_text")]
    cache_size: Option<String>,

    /// A folder where images and compressed GOPs are kept beyond memory and restarts
    /// [default: none]
    #[arg(long, env = "CACHE_DIR", value_name = "FOLDER")]
    #[serde(alias = "cache_dir")]
    cache_dir: Option<String>,

    /// What --cache-dir may take on disk [default: 10GiB]
    #[arg(long, env = "CACHE_DISK_SIZE", value_name = "SIZE")]
    #[serde(alias = "cache_disk_size", deserialize_with = "number_or_text")]
    cache_disk_size: Option<String>,

    /// on or off: whether idle workers make what is likely to be asked for next [default: on]
    #[arg(long, env = "HARVEST", value_name = "ON|OFF")]
    #[serde(deserialize_with = "number_or_text")]
    harvest: Option<String>,

    /// on or off: whether setting a video reads its first GOP before anybody asks [default: on]
    #[arg(long, env = "PREFETCH", value_name = "ON|OFF")]
    #[serde(deserialize_with = "number_or_text")]
    prefetch: Option<String>,

    /// Connections at the same time; further ones are answered with HTTP status 503
    /// [default: 1024]
    #[arg(long, env = "MAX_SESSIONS", value_name = "N")]
    #[serde(alias = "max_sessions", deserialize_with = "number_or_text")]
    max_sessions: Option<String>,

    /// Frames of one connection that may wait for their answers; further ones are answered
    /// too_many_frames [default: 4096]
    #[arg(long, env = "MAX_QUEUED_FRAMES", value_name = "N")]
    #[serde(alias = "max_queued_frames", deserialize_with = "number_or_text")]
    max_queued_frames: Option<String>,

    /// Frames that one message may ask for; further ones are answered too_many_frames
    /// [default: 4096]
    #[arg(long, env = "MAX_FRAMES_PER_MESSAGE", value_name = "N")]
    #[serde(alias = "max_frames_per_message", deserialize_with = "number_or_text")]
    max_frames_per_message: Option<String>,

    /// Size of one message from a client; a larger one is refused [default: 1MiB]
    #[arg(long, env = "MAX_MESSAGE_BYTES", value_name = "SIZE")]
    #[serde(alias = "max_message_bytes", deserialize_with = "number_or_text")]
    max_message_bytes: Option<String>,

    /// What may wait to be sent to one client; then its session waits [default: 8MiB]
    #[arg(long, env = "MAX_OUTBOX_BYTES", value_name = "SIZE")]
    #[serde(alias = "max_outbox_bytes", deserialize_with = "number_or_text")]
    max_outbox_bytes: Option<String>,

    /// Do not start where everybody may see everything: where none of the next four says who may come
    /// in [default: false]
    #[arg(
        long,
        env = "REQUIRE_AUTH",
        value_name = "TRUE|FALSE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    #[serde(alias = "require_auth", deserialize_with = "number_or_text")]
    require_auth: Option<String>,

    /// A file of static tokens, NAME:SHA256 in each line, and behind it what the token may see if that
    /// is not everything; repo-cli token makes a line [default: none]
    #[arg(long, env = "AUTH_TOKEN_FILE", value_name = "FILE")]
    #[serde(alias = "auth_token_file")]
    auth_token_file: Option<String>,

    /// The key of JSON Web Tokens: a public key in PEM (RS256, ES256), or a secret (HS256)
    /// [default: none]
    #[arg(long, env = "JWT_KEY_FILE", value_name = "FILE")]
    #[serde(alias = "jwt_key_file")]
    jwt_key_file: Option<String>,

    /// Several keys of JSON Web Tokens, as a JWKS [default: none]
    #[arg(long, env = "JWT_JWKS_FILE", value_name = "FILE")]
    #[serde(alias = "jwt_jwks_file")]
    jwt_jwks_file: Option<String>,

    /// A file of keys of signed URLs, ID:SECRET in each line; repo-cli sign signs [default: none]
    #[arg(long, env = "URL_KEY_FILE", value_name = "FILE")]
    #[serde(alias = "url_key_file")]
    url_key_file: Option<String>,

    /// The audience that a JSON Web Token must be for (aud), or several, of which one is enough
    /// [default: none: it must name none]
    #[arg(long, env = "JWT_AUDIENCE", value_name = "NAMES")]
    #[serde(alias = "jwt_audience", deserialize_with = "text_or_list")]
    jwt_audience: Option<String>,

    /// The issuer that a JSON Web Token must be of (iss) [default: any]
    #[arg(long, env = "JWT_ISSUER", value_name = "NAME")]
    #[serde(alias = "jwt_issuer")]
    jwt_issuer: Option<String>,

    /// The claim that says what a JSON Web Token may see: an array of prefixes, or a text with spaces
    /// between them [default: none: everything]
    #[arg(long, env = "JWT_PREFIX_CLAIM", value_name = "CLAIM")]
    #[serde(alias = "jwt_prefix_claim")]
    jwt_prefix_claim: Option<String>,

    /// Origins whose web pages may use the HTTP API and open sessions, as in
    /// https://a.example,https://b.example; * lets all [default: the server's own]
    #[arg(long, env = "CORS_ORIGIN", value_name = "ORIGINS")]
    #[serde(alias = "cors_origin", deserialize_with = "text_or_list")]
    cors_origin: Option<String>,

    /// How long answers over HTTP are taken for true before the object is looked at again, by the
    /// server and by caches before it, as 10s or 5m; 0s looks each time [default: 10s]
    #[arg(long, env = "HTTP_LIFETIME", value_name = "TIME")]
    #[serde(alias = "http_lifetime", deserialize_with = "number_or_text")]
    http_lifetime: Option<String>,

    /// HTTP requests that may wait for work at the same time; further ones are answered with
    /// status 503 [default: 256]
    #[arg(long, env = "MAX_HTTP_REQUESTS", value_name = "N")]
    #[serde(alias = "max_http_requests", deserialize_with = "number_or_text")]
    max_http_requests: Option<String>,

    /// A file with the certificate to show (PEM), and those that lead from it to an authority:
    /// connections speak TLS. Read again on SIGHUP and when it changes
    #[arg(long, env = "TLS_CERT", value_name = "FILE")]
    #[serde(alias = "tls_cert")]
    tls_cert: Option<String>,

    /// A file with the certificate's key (PEM); needed with --tls-cert
    #[arg(long, env = "TLS_KEY", value_name = "FILE")]
    #[serde(alias = "tls_key")]
    tls_key: Option<String>,

    /// Connections at the same time, of all kinds; further ones are told so and closed
    /// [default: 4096]
    #[arg(long, env = "MAX_CONNECTIONS", value_name = "N")]
    #[serde(alias = "max_connections", deserialize_with = "number_or_text")]
    max_connections: Option<String>,

    /// Connections of one address; not for servers behind a proxy, whose address all have
    /// [default: as many as there may be]
    #[arg(long, env = "MAX_CONNECTIONS_PER_ADDRESS", value_name = "N")]
    #[serde(
        alias = "max_connections_per_address",
        deserialize_with = "number_or_text"
    )]
    max_connections_per_address: Option<String>,

    /// Messages over WebSocket and requests over HTTP that one token, or one address without, may
    /// send in a second; more are read later, or answered with status 429 [default: as many as it likes]
    #[arg(long, env = "MAX_MESSAGES_PER_SECOND", value_name = "N")]
    #[serde(alias = "max_messages_per_second", deserialize_with = "number_or_text")]
    max_messages_per_second: Option<String>,

    /// Frames that one token, or one address without, may ask for in a second; more are answered rate_limited (HTTP: 429)
    /// [default: as many as it likes]
    #[arg(long, env = "MAX_FRAMES_PER_SECOND", value_name = "N")]
    #[serde(alias = "max_frames_per_second", deserialize_with = "number_or_text")]
    max_frames_per_second: Option<String>,

    /// How long a TLS handshake may take, and the head of a request [default: 10s]
    #[arg(long, env = "HANDSHAKE_TIMEOUT", value_name = "TIME")]
    #[serde(alias = "handshake_timeout", deserialize_with = "number_or_text")]
    handshake_timeout: Option<String>,

    /// How long a connection may be silent: without a request over HTTP, without an answer to a
    /// ping over WebSocket, or without taking what is sent [default: 2m]
    #[arg(long, env = "IDLE_TIMEOUT", value_name = "TIME")]
    #[serde(alias = "idle_timeout", deserialize_with = "number_or_text")]
    idle_timeout: Option<String>,

    /// After SIGTERM, how long frames that were asked for are still made [default: 5s]
    #[arg(long, env = "DRAIN_TIMEOUT", value_name = "TIME")]
    #[serde(alias = "drain_timeout", deserialize_with = "number_or_text")]
    drain_timeout: Option<String>,

    /// After SIGTERM, how long requests are still taken while /ready fails, so that balancers
    /// notice [default: 0s]
    #[arg(long, env = "DRAIN_DELAY", value_name = "TIME")]
    #[serde(alias = "drain_delay", deserialize_with = "number_or_text")]
    drain_delay: Option<String>,
    /// An address for Prometheus alone: /metrics is served there, and not on --listen-addr
    /// [default: none]
    #[arg(long, env = "METRICS_ADDR", value_name = "HOST:PORT")]
    #[serde(alias = "metrics_addr")]
    metrics_addr: Option<String>,

    /// An OpenTelemetry collector that takes spans by OTLP over HTTP, as http://127.0.0.1:4318; for
    /// programs built with the feature otel [default: none]
    #[arg(long, env = "OTLP_ENDPOINT", value_name = "URL")]
    #[serde(alias = "otlp_endpoint")]
    otlp_endpoint: Option<String>,

    /// How the log is written: human, json, or auto: for people on a terminal, else as JSON
    /// [default: auto]
    #[arg(long, env = "LOG_FORMAT", value_name = "FORMAT")]
    #[serde(alias = "log_format")]
    log_format: Option<String>,

    /// off, error, warn, info, debug, trace, or a filter as in RUST_LOG, which wins
    /// [default: info]
    #[arg(long, env = "LOG_LEVEL", value_name = "LEVEL")]
    #[serde(alias = "log_level")]
    log_level: Option<String>,
}

/// In TOML a number is written without quotes; with them it is none the worse. A truth value is
/// read as its word, so that it is refused by the option's own sentence.
fn number_or_text<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a whole number or a text is wanted")]
    enum Either {
        Number(i64),
        Truth(bool),
        Text(String),
    }
    Ok(Some(match Either::deserialize(from)? {
        Either::Number(n) => n.to_string(),
        Either::Truth(truth) => truth.to_string(),
        Either::Text(text) => text,
    }))
}

/// A list may be written as one, or as it is on the command line.
fn text_or_list<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        List(Vec<String>),
    }
    Ok(Some(match Either::deserialize(from)? {
        Either::Text(text) => text,
        Either::List(list) => list.join(","),
    }))
}

impl Options {
    /// What is given here, else what `other` gives.
    fn or(self, other: Self) -> Self {
        let pick = |a: Option<String>, b: Option<String>| {
            a.filter(|v| !v.is_empty()).or(b.filter(|v| !v.is_empty()))
        };
        Self {
            listen_addr: pick(self.listen_addr, other.listen_addr),
            storage_backend: pick(self.storage_backend, other.storage_backend),
            local_path: pick(self.local_path, other.local_path),
            storage_timeout: pick(self.storage_timeout, other.storage_timeout),
            hedge: pick(self.hedge, other.hedge),
            s3_bucket: pick(self.s3_bucket, other.s3_bucket),
            s3_prefix: pick(self.s3_prefix, other.s3_prefix),
            s3_region: pick(self.s3_region, other.s3_region),
            s3_endpoint: pick(self.s3_endpoint, other.s3_endpoint),
            s3_addressing: pick(self.s3_addressing, other.s3_addressing),
            s3_anonymous: pick(self.s3_anonymous, other.s3_anonymous),
            s3_access_key: pick(self.s3_access_key, other.s3_access_key),
            s3_secret_key: pick(self.s3_secret_key, other.s3_secret_key),
            gcs_bucket: pick(self.gcs_bucket, other.gcs_bucket),
            azure_account: pick(self.azure_account, other.azure_account),
            azure_container: pick(self.azure_container, other.azure_container),
            jpeg_quality: pick(self.jpeg_quality, other.jpeg_quality),
            workers: pick(self.workers, other.workers),
            isolation: pick(self.isolation, other.isolation),
            max_pixels: pick(self.max_pixels, other.max_pixels),
            max_gop_frames: pick(self.max_gop_frames, other.max_gop_frames),
            decode_timeout: pick(self.decode_timeout, other.decode_timeout),
            cache_size: pick(self.cache_size, other.cache_size),
            cache_dir: pick(self.cache_dir, other.cache_dir),
            cache_disk_size: pick(self.cache_disk_size, other.cache_disk_size),
            harvest: pick(self.harvest, other.harvest),
            prefetch: pick(self.prefetch, other.prefetch),
            max_sessions: pick(self.max_sessions, other.max_sessions),
            max_queued_frames: pick(self.max_queued_frames, other.max_queued_frames),
            max_frames_per_message: pick(self.max_frames_per_message, other.max_frames_per_message),
            max_message_bytes: pick(self.max_message_bytes, other.max_message_bytes),
            max_outbox_bytes: pick(self.max_outbox_bytes, other.max_outbox_bytes),
            require_auth: pick(self.require_auth, other.require_auth),
            auth_token_file: pick(self.auth_token_file, other.auth_token_file),
            jwt_key_file: pick(self.jwt_key_file, other.jwt_key_file),
            jwt_jwks_file: pick(self.jwt_jwks_file, other.jwt_jwks_file),
            url_key_file: pick(self.url_key_file, other.url_key_file),
            jwt_audience: pick(self.jwt_audience, other.jwt_audience),
            jwt_issuer: pick(self.jwt_issuer, other.jwt_issuer),
            jwt_prefix_claim: pick(self.jwt_prefix_claim, other.jwt_prefix_claim),
            cors_origin: pick(self.cors_origin, other.cors_origin),
            http_lifetime: pick(self.http_lifetime, other.http_lifetime),
            max_http_requests: pick(self.max_http_requests, other.max_http_requests),
            tls_cert: pick(self.tls_cert, other.tls_cert),
            tls_key: pick(self.tls_key, other.tls_key),
            max_connections: pick(self.max_connections, other.max_connections),
            max_connections_per_address: pick(
                self.max_connections_per_address,
                other.max_connections_per_address,
            ),
            max_messages_per_second: pick(
                self.max_messages_per_second,
                other.max_messages_per_second,
            ),
            max_frames_per_second: pick(self.max_frames_per_second, other.max_frames_per_second),
            handshake_timeout: pick(self.handshake_timeout, other.handshake_timeout),
            idle_timeout: pick(self.idle_timeout, other.idle_timeout),
            drain_timeout: pick(self.drain_timeout, other.drain_timeout),
            drain_delay: pick(self.drain_delay, other.drain_delay),
            metrics_addr: pick(self.metrics_addr, other.metrics_addr),
            otlp_endpoint: pick(self.otlp_endpoint, other.otlp_endpoint),
            log_format: pick(self.log_format, other.log_format),
            log_level: pick(self.log_level, other.log_level),
        }
    }

    fn engine(&self) -> anyhow::Result<EngineConfig> {
        let default = EngineConfig::default();
        let quality = whole("jpeg-quality", &self.jpeg_quality, 1..=100)?;
        let workers = whole("workers", &self.workers, 1..=1024)?;
        let disk_bytes = bytes(
            "cache-disk-size",
            &self.cache_disk_size,
            MIB..=u64::MAX,
            "at least 1MiB",
        )?;
        let disk_cache = match (&self.cache_dir, disk_bytes) {
            (Some(folder), bytes) => Some(DiskCacheConfig {
                folder: folder.into(),
                bytes: bytes.unwrap_or(10 << 30),
            }),
            (None, Some(_)) => bail!("--cache-disk-size needs a folder: set --cache-dir"),
            (None, None) => None,
        };
        let max_pixels = whole("max-pixels", &self.max_pixels, 1..=1 << 32)?;
        let gop_frames = whole("max-gop-frames", &self.max_gop_frames, 0..=1 << 32)?;
        let decode_time = match &self.decode_timeout {
            None => default.decode_time,
            Some(text) => duration::parse(text)
                .filter(|t| (duration::SHORTEST..=duration::LONGEST).contains(t))
                .with_context(|| {
                    format!(
                        "--decode-timeout must be a time from 100ms to 1h, as in 60s, but is {text}"
                    )
                })?,
        };
        Ok(EngineConfig {
            isolation: self.isolation()?,
            max_pixels: max_pixels.unwrap_or(default.max_pixels),
            max_access_units: gop_frames.filter(|n| *n > 0),
            decode_time,
            workers: workers.unwrap_or(default.workers),
            jpeg_quality: quality.unwrap_or(80),
            cache_bytes: bytes("cache-size", &self.cache_size, 0..=u64::MAX, "0 or more")?
                .unwrap_or(default.cache_bytes),
            disk_cache,
            harvest: on_or_off("harvest", &self.harvest)?,
            prefetch: on_or_off("prefetch", &self.prefetch)?,
            ..default
        })
    }

    fn isolation(&self) -> anyhow::Result<Isolation> {
        let process = |required| {
            Isolation::Process(DecodeWorker {
                // This very program, even where another file has its name by now.
                program: "/proc/self/exe".into(),
                arguments: vec![DECODE_WORKER.into()],
                environment: Vec::new(),
                required,
            })
        };
        Ok(match self.isolation.as_deref() {
            None if cfg!(target_os = "linux") => process(false),
            None | Some("thread") => Isolation::Thread,
            Some("process") => process(true),
            Some(other) => bail!("--isolation must be process or thread, but is {other}"),
        })
    }

    fn storage(&self) -> anyhow::Result<StoreConfig> {
        Ok(match self.storage_backend.as_deref().unwrap_or("local") {
            "local" => {
                let root = self.local_path.as_deref().unwrap_or("./data");
                StoreConfig::Local(root.into())
            }
            "s3" => StoreConfig::S3(S3Config {
                buckets: buckets("s3", "s3-bucket", &self.s3_bucket, &self.s3_prefix)?,
                region: self.s3_region.clone(),
                endpoint: self.s3_endpoint.clone(),
                addressing: match self.s3_addressing.as_deref() {
                    None | Some("auto") => Addressing::Auto,
                    Some("path") => Addressing::Path,
                    Some("virtual") => Addressing::Virtual,
                    Some(other) => {
                        bail!("--s3-addressing must be auto, path or virtual, but is {other}")
                    }
                },
                anonymous: truth("s3-anonymous", &self.s3_anonymous)?,
                access_key: self.s3_access_key.clone(),
                secret_key: self.s3_secret_key.clone(),
            }),
            "gcs" => StoreConfig::Gcs(GcsConfig {
                buckets: buckets("gcs", "gcs-bucket", &self.gcs_bucket, &None)?,
            }),
            "azure" => StoreConfig::Azure(AzureConfig {
                account: self.azure_account.clone(),
                containers: buckets("azure", "azure-container", &self.azure_container, &None)?,
            }),
            other => bail!("--storage-backend must be local, s3, gcs or azure, but is {other}"),
        })
    }

    fn reads(&self) -> anyhow::Result<ReadOptions> {
        let default = ReadOptions::default();
        let timeout = match &self.storage_timeout {
            None => default.timeout,
            Some(text) => duration::parse(text)
                .filter(|t| (duration::SHORTEST..=duration::LONGEST).contains(t))
                .with_context(|| {
                    format!(
                        "--storage-timeout must be a time from 100ms to 1h, as in 20s or 1500ms, \
                         but is {text}"
                    )
                })?,
        };
        let hedge = match self.hedge.as_deref() {
            None | Some("auto") => true,
            Some("off") => false,
            Some(other) => bail!("--hedge must be auto or off, but is {other}"),
        };
        Ok(ReadOptions { timeout, hedge })
    }

    fn limits(&self) -> anyhow::Result<Limits> {
        let default = Limits::default();
        let frames_per_message = whole(
            "max-frames-per-message",
            &self.max_frames_per_message,
            1..=1_000_000,
        )?;
        let message_bytes = bytes(
            "max-message-bytes",
            &self.max_message_bytes,
            1 << 10..=1 << 30,
            "from 1KiB to 1GiB",
        )?;
        let outbox_bytes = bytes(
            "max-outbox-bytes",
            &self.max_outbox_bytes,
            64 << 10..=2 << 30,
            "from 64KiB to 2GiB",
        )?;
        let (messages, frames) = (&self.max_messages_per_second, &self.max_frames_per_second);
        let messages = whole("max-messages-per-second", messages, 1..=1_000_000)?;
        let frames = whole("max-frames-per-second", frames, 1..=1_000_000)?;
        Ok(Limits {
            sessions: whole("max-sessions", &self.max_sessions, 1..=1_000_000)?
                .unwrap_or(default.sessions),
            queued_frames: whole("max-queued-frames", &self.max_queued_frames, 1..=1_000_000)?
                .unwrap_or(default.queued_frames),
            frames_per_message: frames_per_message.unwrap_or(default.frames_per_message),
            message_bytes: message_bytes.unwrap_or(default.message_bytes),
            outbox_bytes: outbox_bytes.unwrap_or(default.outbox_bytes),
            messages_per_second: messages.and_then(NonZeroU32::new),
            frames_per_second: frames.and_then(NonZeroU32::new),
            drain: time("drain-timeout", &self.drain_timeout, Duration::ZERO)?
                .unwrap_or(default.drain),
            idle: time("idle-timeout", &self.idle_timeout, duration::SHORTEST)?
                .unwrap_or(default.idle),
            ..default
        })
    }

    fn door(&self, limits: &Limits) -> anyhow::Result<DoorConfig> {
        let default = DoorConfig::default();
        let connections = whole("max-connections", &self.max_connections, 1..=1_000_000)?;
        let connections_per_address = whole(
            "max-connections-per-address",
            &self.max_connections_per_address,
            1..=1_000_000,
        )?;
        let handshake = time(
            "handshake-timeout",
            &self.handshake_timeout,
            duration::SHORTEST,
        )?;
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Some(TlsFiles {
                cert: cert.into(),
                key: key.into(),
            }),
            (None, None) => None,
            (Some(_), None) => bail!("--tls-cert needs its key: set --tls-key"),
            (None, Some(_)) => bail!("--tls-key needs its certificate: set --tls-cert"),
        };
        Ok(DoorConfig {
            connections: connections.unwrap_or(default.connections),
            connections_per_address,
            handshake: handshake.unwrap_or(default.handshake),
            idle: limits.idle,
            drain_delay: time("drain-delay", &self.drain_delay, Duration::ZERO)?
                .unwrap_or(default.drain_delay),
            tls,
        })
    }

    fn http(&self) -> anyhow::Result<HttpConfig> {
        let default = HttpConfig::default();
        let lifetime = match &self.http_lifetime {
            None => default.lifetime,
            Some(text) => duration::parse(text)
                .filter(|t| *t <= LONGEST_LIFETIME)
                .with_context(|| {
                    format!(
                        "--http-lifetime must be a time up to 30 days, as in 10s or 5m, but is \
                         {text}"
                    )
                })?,
        };
        let origins = self.cors_origin.as_deref().unwrap_or_default().split(',');
        let origins = origins.map(str::trim).filter(|o| !o.is_empty());
        let cors_origins: Vec<String> = origins.map(str::to_owned).collect();
        for origin in &cors_origins {
            // As browsers send it: no path, not even a slash.
            let host = origin.split_once("://").map(|(_, host)| host);
            let plain = host.is_some_and(|h| !h.is_empty() && !h.contains(['/', '*', ' ']));
            if origin != "*" && !plain {
                bail!(
                    "--cors-origin must be * or origins as in https://a.example, but has {origin}"
                );
            }
        }
        let requests = whole("max-http-requests", &self.max_http_requests, 1..=1_000_000)?;
        Ok(HttpConfig {
            cors_origins,
            lifetime,
            requests: requests.unwrap_or(default.requests),
        })
    }

    /// `origins`: whose pages are let in.
    fn access(&self, origins: &[String]) -> anyhow::Result<AccessConfig> {
        let file = |path: &Option<String>| path.as_deref().map(PathBuf::from);
        let audience = self.jwt_audience.as_deref().unwrap_or_default().split(',');
        let audience = audience.map(str::trim).filter(|a| !a.is_empty());
        Ok(AccessConfig {
            required: truth("require-auth", &self.require_auth)?,
            token_file: file(&self.auth_token_file),
            jwt_key_file: file(&self.jwt_key_file),
            jwt_jwks_file: file(&self.jwt_jwks_file),
            jwt: JwtConfig {
                audience: audience.map(str::to_owned).collect(),
                issuer: self.jwt_issuer.clone(),
                prefix_claim: self.jwt_prefix_claim.clone(),
            },
            url_key_file: file(&self.url_key_file),
            origins: origins.to_owned(),
        })
    }

    fn from_file(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the config file {}", path.display()))?;
        let refused = |error: toml::de::Error| {
            let why = refusal_of_file(&text, &error);
            anyhow::anyhow!("the config file {}, {why}", path.display())
        };
        toml::from_str(&text).map_err(refused)
    }
}

/// What is wrong with a config file, and in which line. The line itself is not shown, nor what
/// stands in it where that may be a secret.
fn refusal_of_file(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or_default();
    let number = before.matches('\n').count();
    let line = text.lines().nth(number).unwrap_or_default();
    let key = line.split_once('=').map(|(key, _)| key.trim());
    // A line may be part of a text that is longer.
    let key = key.filter(|k| {
        k.chars()
            .all(|c| c.is_ascii_lowercase() || "-_3".contains(c))
    });
    let secret = ["s3-access", "s3_access", "s3-secret", "s3_secret"];
    let why = match (key, error.message()) {
        _ if secret.iter().any(|s| line.contains(s)) => {
            format!("{} must be a text in quotes", key.unwrap_or("a key of S3"))
        }
        (Some(key), why) if !why.contains(key) => format!("{key}: {why}"),
        (_, why) => why.to_owned(),
    };
    format!("line {}: {why}", number + 1)
}

/// The buckets that flags name.
fn buckets(
    backend: &str,
    flag: &str,
    names: &Option<String>,
    prefixes: &Option<String>,
) -> anyhow::Result<Vec<Bucket>> {
    let names = names.as_deref().with_context(|| {
        let variable = flag.to_uppercase().replace('-', "_");
        format!(
            "--storage-backend {backend} needs the name of the bucket: set --{flag} (or {variable})"
        )
    })?;
    Bucket::list(names, prefixes.as_deref().unwrap_or_default())
        .map_err(|why| anyhow::anyhow!("--{flag}: {why}"))
}

const MIB: u64 = 1 << 20;
const LONGEST_LIFETIME: Duration = Duration::from_secs(30 * 86_400);

/// On, if it is not given.
fn on_or_off(flag: &str, text: &Option<String>) -> anyhow::Result<bool> {
    match text.as_deref() {
        None | Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(other) => bail!("--{flag} must be on or off, but is {other}"),
    }
}

/// A time from `shortest` to an hour, if it is given.
fn time(flag: &str, text: &Option<String>, shortest: Duration) -> anyhow::Result<Option<Duration>> {
    let Some(text) = text else { return Ok(None) };
    let time = duration::parse(text).filter(|t| (shortest..=duration::LONGEST).contains(t));
    match time {
        Some(time) => Ok(Some(time)),
        None => bail!(
            "--{flag} must be a time from {} to 1h, as in 20s or 1500ms, but is {text}",
            if shortest.is_zero() { "0s" } else { "100ms" }
        ),
    }
}

/// False, if it is not given.
fn truth(flag: &str, text: &Option<String>) -> anyhow::Result<bool> {
    match text.as_deref() {
        None | Some("false" | "off" | "0") => Ok(false),
        Some("true" | "on" | "1") => Ok(true),
        Some(other) => bail!("--{flag} must be true or false, but is {other}"),
    }
}

/// A whole number within these bounds, if it is given.
fn whole<T: TryFrom<u64>>(
    flag: &str,
    text: &Option<String>,
    within: RangeInclusive<u64>,
) -> anyhow::Result<Option<T>> {
    let Some(text) = text else { return Ok(None) };
    let number = text.trim().parse().ok().filter(|n| within.contains(n));
    match number.and_then(|n| T::try_from(n).ok()) {
        Some(number) => Ok(Some(number)),
        None => bail!(
            "--{flag} must be a whole number from {} to {}, but is {text}",
            within.start(),
            within.end()
        ),
    }
}

/// A number of bytes within these bounds, if it is given.
fn bytes<T: TryFrom<u64>>(
    flag: &str,
    text: &Option<String>,
    within: RangeInclusive<u64>,
    bounds: &str,
) -> anyhow::Result<Option<T>> {
    let Some(text) = text else { return Ok(None) };
    let number = byte_size::parse(text).filter(|n| within.contains(n));
    match number.and_then(|n| T::try_from(n).ok()) {
        Some(number) => Ok(Some(number)),
        None => bail!(
            "--{flag} must be a number of bytes, {bounds}, as in 8388608, 512MiB or 2GiB, but is \
             {text}"
        ),
    }
}

/// The checked configuration.
#[derive(Debug)]
pub(crate) struct Config {
    /// Host and port, not yet resolved.
    pub(crate) listen_addr: String,
    /// Where the videos are.
    pub(crate) storage: StoreConfig,
    /// How they are read.
    pub(crate) reads: ReadOptions,
    /// How the engine is sized.
    pub(crate) engine: EngineConfig,
    /// What sessions may take.
    pub(crate) limits: Limits,
    /// The HTTP side.
    pub(crate) http: HttpConfig,
    /// Who comes in, and how.
    pub(crate) door: DoorConfig,
    /// Who may see what.
    pub(crate) access: AccessConfig,
    /// Where the metrics are served alone.
    pub(crate) metrics_addr: Option<String>,
    /// Where spans are sent.
    pub(crate) otlp_endpoint: Option<String>,
    /// How the log is written.
    pub(crate) log_format: LogFormat,
    /// A filter for the log.
    pub(crate) log_level: String,
}

impl Config {
    /// Puts arguments, environment (read by clap) and config file together and checks them.
    pub(crate) fn resolve(args: Args) -> anyhow::Result<Self> {
        let file = match args.config.filter(|p| !p.as_os_str().is_empty()) {
            Some(path) => Options::from_file(&path)?,
            None => Options::default(),
        };
        let options = args.options.or(file);
        let engine = options.engine()?;
        let limits = options.limits()?;
        let http = options.http()?;
        let door = options.door(&limits)?;
        let access = options.access(&http.cors_origins)?;
        let storage = options.storage()?;
        let reads = options.reads()?;
        let log_format = match options.log_format.as_deref() {
            None => LogFormat::default(),
            Some(text) => LogFormat::parse(text)?,
        };
        Ok(Self {
            listen_addr: options.listen_addr.unwrap_or_else(|| "0.0.0.0:3000".into()),
            storage,
            reads,
            engine,
            limits,
            http,
            door,
            access,
            metrics_addr: options.metrics_addr,
            otlp_endpoint: options.otlp_endpoint,
            log_format,
            log_level: options.log_level.unwrap_or_else(|| "info".into()),
        })
    }

    /// Opens the store. Over the network nothing is sent yet.
    pub(crate) fn open_store(&self) -> anyhow::Result<Store> {
        let store = Store::new(&self.storage, self.reads);
        match &self.storage {
            StoreConfig::Local(root) => {
                store.with_context(|| format!("--local-path {} cannot be served", root.display()))
            }
            _ => Ok(store?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(flags: &[&str], file: Option<&str>) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let mut line = vec!["bucket-streamer"];
        line.extend(flags);
        let mut args = Args::try_parse_from(line).map_err(|e| e.to_string())?;
        if let Some(text) = file {
            std::fs::write(&path, text).unwrap();
            args.config = Some(path);
        }
        Config::resolve(args).map_err(|e| format!("{e:#}"))
    }

    fn refusal(flags: &[&str], file: Option<&str>) -> String {
        resolve(flags, file).unwrap_err()
    }

    #[test]
    fn the_defaults_are_those_of_the_manual() {
        let config = resolve(&[], None).unwrap();
        assert_eq!(config.listen_addr, "0.0.0.0:3000");
        assert_eq!(
            (config.engine.jpeg_quality, config.log_level.as_str()),
            (80, "info")
        );
        let limits = config.limits;
        assert_eq!(limits, Limits::default());
        assert_eq!(config.http, HttpConfig::default());
        assert_eq!(config.door, DoorConfig::default());
        let seconds = [limits.drain, limits.idle, config.door.handshake].map(|t| t.as_secs());
        assert_eq!(seconds, [5, 120, 10]);
        assert_eq!((config.door.connections, config.door.tls), (4096, None));
        assert_eq!(config.http.lifetime, Duration::from_secs(10));
        assert_eq!(config.http.requests, 256);
        assert_eq!(
            (
                limits.sessions,
                limits.queued_frames,
                limits.frames_per_message
            ),
            (1024, 4096, 4096)
        );
        assert_eq!(
            (limits.message_bytes, limits.outbox_bytes),
            (1 << 20, 8 << 20)
        );
        let engine = config.engine;
        assert_eq!(engine.workers, engine::usable_cores());
        assert_eq!((engine.harvest, engine.disk_cache), (true, None));
        assert_eq!(config.storage.to_string(), "./data");
        let s3 = resolve(&["--storage-backend", "s3", "--s3-bucket", "b"], None).unwrap();
        assert_eq!(s3.storage.to_string(), "s3://b");
        let StoreConfig::S3(s3) = s3.storage else {
            panic!()
        };
        let expected = S3Config {
            buckets: vec!["b".into()],
            ..S3Config::default()
        };
        assert!(s3 == expected, "{s3:?}");
        let seconds = std::time::Duration::from_secs(20);
        let reads = ReadOptions {
            timeout: seconds,
            hedge: true,
        };
        assert_eq!(config.reads, reads);
    }

    #[test]
    fn buckets_are_given_in_lists() {
        let flags = [
            "--storage-backend=s3",
            "--s3-bucket=flights, lab",
            "--s3-prefix=raw,lab=public/",
            "--s3-addressing=virtual",
            "--s3-anonymous",
            "--s3-region=eu-west-1",
            "--storage-timeout=1500ms",
            "--hedge=off",
        ];
        let config = resolve(&flags, None).unwrap();
        let shown = "s3://flights/raw, s3://lab/public";
        assert_eq!(config.storage.to_string(), shown);
        let StoreConfig::S3(s3) = config.storage else {
            panic!()
        };
        assert_eq!((s3.addressing, s3.anonymous), (Addressing::Virtual, true));
        assert_eq!(s3.region.as_deref(), Some("eu-west-1"));
        assert_eq!(config.reads.timeout.as_millis(), 1500);
        assert!(!config.reads.hedge);
        let file = "storage-backend = \"s3\"\ns3-bucket = [\"flights\", \"lab\"]\n\
                    s3-prefix = [\"raw\", \"lab=public\"]\ns3-anonymous = true\n\
                    storage-timeout = 3\n";
        let config = resolve(&[], Some(file)).unwrap();
        assert_eq!(config.storage.to_string(), shown);
        assert_eq!(config.reads.timeout.as_secs(), 3);
        let gcs = resolve(&["--storage-backend=gcs", "--gcs-bucket=a,b"], None).unwrap();
        assert_eq!(gcs.storage.to_string(), "gs://a, gs://b");
        let flags = [
            "--storage-backend=azure",
            "--azure-container=c",
            "--azure-account=x",
        ];
        assert_eq!(resolve(&flags, None).unwrap().storage.to_string(), "az://c");
    }

    #[test]
    fn storage_settings_that_make_no_sense_are_refused_in_a_sentence() {
        let s3 = ["--storage-backend=s3", "--s3-bucket=a,b"];
        for (flag, says) in [
            ("--s3-prefix=x,y", "the second prefix"),
            ("--s3-addressing=host", "auto, path or virtual, but is host"),
            ("--s3-anonymous=maybe", "true or false, but is maybe"),
            ("--storage-timeout=soon", "from 100ms to 1h, as in 20s"),
            ("--storage-timeout=1ms", "from 100ms to 1h"),
            ("--storage-timeout=2h", "from 100ms to 1h"),
            ("--hedge=on", "auto or off, but is on"),
        ] {
            let text = refusal(&[s3[0], s3[1], flag], None);
            assert!(text.contains(says), "{flag}: {text}");
        }
        let twice = refusal(&["--storage-backend=s3", "--s3-bucket=a,a"], None);
        assert!(twice.contains("named twice"), "{twice}");
        assert!(refusal(&["--storage-backend=gcs"], None).contains("--gcs-bucket"));
        assert!(refusal(&["--storage-backend=azure"], None).contains("AZURE_CONTAINER"));
    }

    #[test]
    fn a_config_file_that_is_refused_keeps_its_secrets() {
        for file in [
            "s3-secret-key = hunter2",
            "log-level = \"info\"\ns3_access_key = hunter2",
            "s3-secret-key = [\"hunter2\"]",
            "s3-secret-key = \"hunter2",
            "s3-secret-keys = \"hunter2\"",
        ] {
            let text = refusal(&[], Some(file));
            assert!(!text.contains("hunter2"), "{text}");
            assert!(text.contains("line"), "{text}");
        }
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = "jpeg-quality = 55\nlog-level = \"debug\"\nlisten-addr = \"[::1]:1\"\n";
        let config = resolve(&["--log-level", "warn", "--listen-addr", ""], Some(file)).unwrap();
        assert_eq!(config.engine.jpeg_quality, 55);
        assert_eq!(config.log_level, "warn");
        assert_eq!(config.listen_addr, "[::1]:1");
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_a_sentence() {
        for quality in ["0", "101", "-1", "80.5", "high"] {
            let flag = format!("--jpeg-quality={quality}");
            let text = refusal(&[&flag], None);
            assert!(
                text.contains("from 1 to 100") && text.contains(quality),
                "{text}"
            );
        }
        assert!(refusal(&[], Some("jpeg-quality = 0")).contains("from 1 to 100"));
        assert!(refusal(&[], Some("jpeg-quality = 80.5")).contains("a whole number or a text"));
        assert!(refusal(&["--storage-backend", "ftp"], None).contains("local, s3, gcs or azure"));
        assert!(refusal(&["--storage-backend", "s3"], None).contains("--s3-bucket"));
        assert!(
            refusal(&["--storage-backend", "s3", "--s3-bucket", ""], None).contains("--s3-bucket")
        );
        assert!(refusal(&["--config", "/nowhere/c.toml"], None).contains("/nowhere/c.toml"));
        assert!(refusal(&["--nonsense"], None).contains("--nonsense"));
    }

    #[test]
    fn limits_and_caches_are_given_in_numbers_and_sizes() {
        let flags = [
            "--max-sessions=7",
            "--max-queued-frames=8",
            "--max-frames-per-message=9",
            "--max-message-bytes=2KiB",
            "--max-outbox-bytes=65536",
            "--workers=3",
            "--cache-size=512MiB",
            "--cache-dir=/c",
            "--harvest=off",
        ];
        let Config { engine, limits, .. } = resolve(&flags, None).unwrap();
        assert_eq!(
            (
                limits.sessions,
                limits.queued_frames,
                limits.frames_per_message
            ),
            (7, 8, 9)
        );
        assert_eq!(
            (limits.message_bytes, limits.outbox_bytes),
            (2048, 64 << 10)
        );
        assert_eq!((engine.workers, engine.harvest), (3, false));
        assert_eq!(engine.cache_bytes, 512 << 20);
        let disk = |bytes| DiskCacheConfig {
            folder: "/c".into(),
            bytes,
        };
        assert_eq!(engine.disk_cache, Some(disk(10 << 30)));
        let file = "cache-size = 0\ncache_dir = \"/c\"\ncache-disk-size = \"1 GiB\"\n\
                    workers = 2\nharvest = \"off\"\nmax-sessions = 5\n";
        let Config { engine, limits, .. } = resolve(&["--harvest", "on"], Some(file)).unwrap();
        assert_eq!((engine.cache_bytes, engine.workers), (0, 2));
        assert_eq!(engine.disk_cache, Some(disk(1 << 30)));
        assert_eq!((engine.harvest, limits.sessions), (true, 5));
    }

    #[test]
    fn a_limit_that_makes_no_sense_is_refused_in_a_sentence() {
        for (flag, says) in [
            (
                "--max-sessions=0",
                "a whole number from 1 to 1000000, but is 0",
            ),
            ("--max-queued-frames=-1", "--max-queued-frames must be"),
            ("--max-frames-per-message=many", "but is many"),
            ("--workers=0", "from 1 to 1024, but is 0"),
            ("--workers=1.5", "from 1 to 1024"),
            ("--max-message-bytes=1023", "from 1KiB to 1GiB"),
            ("--max-message-bytes=2GiB", "from 1KiB to 1GiB"),
            ("--max-outbox-bytes=1KiB", "from 64KiB to 2GiB"),
            (
                "--cache-size=1GB",
                "as in 8388608, 512MiB or 2GiB, but is 1GB",
            ),
            ("--cache-size=-1", "--cache-size must be a number of bytes"),
            ("--cache-disk-size=1GiB", "--cache-disk-size needs a folder"),
            ("--cache-disk-size=0", "at least 1MiB"),
            ("--harvest=yes", "on or off, but is yes"),
            ("--prefetch=1", "--prefetch must be on or off, but is 1"),
        ] {
            let text = refusal(&[flag], None);
            assert!(text.contains(says), "{flag}: {text}");
        }
        let text = refusal(&[], Some("harvest = true"));
        assert!(text.contains("on or off, but is true"), "{text}");
        assert!(refusal(&[], Some("workers = 0")).contains("--workers must be"));
    }

    #[test]
    fn the_file_is_checked_key_by_key() {
        let text = refusal(&[], Some("log-level = \"info\"\nlisten-adr = \"x\"\n"));
        assert!(
            text.contains("`listen-adr`") && text.contains("line 2"),
            "{text}"
        );
        assert!(refusal(&[], Some("local-path = 7")).contains("local-path"));
        assert!(refusal(&[], Some("local-path")).contains("config.toml"));
        assert!(resolve(&[], Some("")).is_ok());
        // Both spellings of a name are understood.
        let config = resolve(&[], Some("jpeg_quality = 70\nlisten_addr = \"h:1\"")).unwrap();
        assert_eq!(
            (config.engine.jpeg_quality, config.listen_addr.as_str()),
            (70, "h:1")
        );
        assert_eq!(
            resolve(&[], Some("jpeg-quality = \"9\""))
                .unwrap()
                .engine
                .jpeg_quality,
            9
        );
    }

    #[test]
    fn origins_are_as_browsers_send_them() {
        let origins = |list: &str| resolve(&["--cors-origin", list], None).map(|c| c.http);
        let two = origins("https://a.example, http://localhost:5173").unwrap();
        let expected = ["https://a.example", "http://localhost:5173"];
        assert_eq!(two.cors_origins, expected);
        assert_eq!(origins("*").unwrap().cors_origins, ["*"]);
        for wrong in [
            "a.example",
            "https://a.example/",
            "https://",
            "https://*.example",
        ] {
            let refused = origins(wrong).unwrap_err();
            assert!(refused.contains("--cors-origin"), "{refused}");
        }
        let lifetime = |text: &str| resolve(&["--http-lifetime", text], None);
        assert_eq!(lifetime("0s").unwrap().http.lifetime, Duration::ZERO);
        assert!(lifetime("31d").is_err() && lifetime("721h").is_err());
    }

    #[test]
    fn the_door_is_set_in_numbers_and_times() {
        let file = "max-connections = 50\ndrain_delay = \"5s\"\nidle-timeout = 30\n";
        let flags = [
            "--max-connections-per-address=7",
            "--handshake-timeout=1500ms",
            "--drain-timeout=0s",
            "--max-messages-per-second=8",
            "--max-frames-per-second=9",
            "--tls-cert=/c",
            "--tls-key=/k",
        ];
        let Config { door, limits, .. } = resolve(&flags, Some(file)).unwrap();
        let expected = DoorConfig {
            connections: 50,
            connections_per_address: Some(7),
            handshake: Duration::from_millis(1500),
            idle: Duration::from_secs(30),
            drain_delay: Duration::from_secs(5),
            tls: Some(TlsFiles {
                cert: "/c".into(),
                key: "/k".into(),
            }),
        };
        assert_eq!(door, expected);
        assert_eq!((limits.drain, limits.idle), (Duration::ZERO, door.idle));
        let rates = [limits.messages_per_second, limits.frames_per_second];
        assert_eq!(rates, [8, 9].map(NonZeroU32::new));
        for (flag, says) in [
            ("--tls-cert=/c", "--tls-cert needs its key: set --tls-key"),
            ("--tls-key=/k", "set --tls-cert"),
            ("--max-frames-per-second=0", "from 1 to 1000000"),
            ("--max-connections=0", "from 1 to 1000000, but is 0"),
            ("--idle-timeout=0s", "from 100ms to 1h, as in 20s"),
            ("--handshake-timeout=2h", "--handshake-timeout must be"),
            ("--drain-timeout=soon", "from 0s to 1h"),
            ("--drain-delay=-1", "--drain-delay must be a time"),
        ] {
            let text = refusal(&[flag], None);
            assert!(text.contains(says), "{flag}: {text}");
        }
    }

    /// Flags, variables and keys are documented where people look for them, and are the same.
    #[test]
    fn the_manual_lists_every_option_with_its_variable() {
        use clap::CommandFactory;
        let manual = include_str!("../../../docs/configuration.md");
        for option in Args::command().get_arguments() {
            let Some(flag) = option
                .get_long()
                .filter(|l| !["help", "version", "health"].contains(l))
            else {
                continue;
            };
            let variable = option.get_env().unwrap().to_str().unwrap();
            assert_eq!(variable, flag.to_uppercase().replace('-', "_"));
            let row = format!("| `--{flag}` | `{variable}` |");
            assert!(manual.contains(&row), "docs/configuration.md lacks {row}");
            if flag != "config" {
                let value = match flag {
                    "jpeg-quality" | "workers" => "5",
                    "storage-backend" => "\"local\"",
                    "log-format" => "\"json\"",
                    "harvest" | "prefetch" | "hedge" => "\"off\"",
                    "http-lifetime" => "\"20s\"",
                    "isolation" => "\"thread\"",
                    "cors-origin" => "\"*\"",
                    "require-auth" => "true",
                    // Alone it would lack its folder.
                    "cache-disk-size" => "\"1GiB\"\ncache-dir = \"x\"",
                    "tls-cert" => "\"x\"\ntls-key = \"x\"",
                    "tls-key" => "\"x\"\ntls-cert = \"x\"",
                    "drain-delay" => "0",
                    _ if flag.ends_with("-timeout") => "\"20s\"",
                    _ if flag.starts_with("max-") || flag.ends_with("-size") => "100000",
                    _ => "\"x\"",
                };
                let file = format!("{flag} = {value}");
                assert!(resolve(&[], Some(&file)).is_ok(), "{file}");
            }
        }
    }

    #[test]
    fn help_shows_the_variables_and_no_secrets() {
        use clap::CommandFactory;
        let help = Args::command().render_long_help().to_string();
        for word in [
            "[env: LISTEN_ADDR=",
            "[env: S3_SECRET_KEY]",
            "[env: S3_ENDPOINT]",
            "[default: 80]",
        ] {
            assert!(help.contains(word), "{word} is not in\n{help}");
        }
    }
}
