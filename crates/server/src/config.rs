//! From raw arguments to checked ones.
//!
//! Each option is a flag, an environment variable (the same name in capitals with `_`) and a key
//! of an optional TOML file, in this order of precedence. An empty value is taken as not given,
//! as container tools pass variables that are not set.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Parser;
use engine::{DiskCacheConfig, EngineConfig};
use serde::Deserialize;
use storage::{S3Config, Store};

use crate::byte_size;
use crate::limits::Limits;

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

    /// Where the videos are: local or s3 [default: local]
    #[arg(long, env = "STORAGE_BACKEND", value_name = "BACKEND")]
    #[serde(alias = "storage_backend")]
    storage_backend: Option<String>,

    /// Root of the local store; nothing outside it is served [default: ./data]
    #[arg(long, env = "LOCAL_PATH", value_name = "FOLDER")]
    #[serde(alias = "local_path")]
    local_path: Option<String>,

    /// The bucket; required with --storage-backend s3
    #[arg(long, env = "S3_BUCKET", value_name = "NAME")]
    #[serde(alias = "s3_bucket")]
    s3_bucket: Option<String>,

    /// The bucket's region [default: us-east-1]
    #[arg(long, env = "S3_REGION", value_name = "NAME")]
    #[serde(alias = "s3_region")]
    s3_region: Option<String>,

    /// Address of an S3 server that is not AWS (Garage, MinIO, Ceph …); http:// is allowed
    #[arg(long, env = "S3_ENDPOINT", value_name = "URL")]
    #[serde(alias = "s3_endpoint")]
    s3_endpoint: Option<String>,

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

    /// JPEG quality, 1 to 100 [default: 80]
    #[arg(long, env = "JPEG_QUALITY", value_name = "N")]
    #[serde(alias = "jpeg_quality", deserialize_with = "number_or_text")]
    jpeg_quality: Option<String>,

    /// Threads that decode [default: the cores that this process may use]
    #[arg(long, env = "WORKERS", value_name = "N")]
    #[serde(deserialize_with = "number_or_text")]
    workers: Option<String>,

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
    #[serde(untagged)]
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
            s3_bucket: pick(self.s3_bucket, other.s3_bucket),
            s3_region: pick(self.s3_region, other.s3_region),
            s3_endpoint: pick(self.s3_endpoint, other.s3_endpoint),
            s3_access_key: pick(self.s3_access_key, other.s3_access_key),
            s3_secret_key: pick(self.s3_secret_key, other.s3_secret_key),
            jpeg_quality: pick(self.jpeg_quality, other.jpeg_quality),
            workers: pick(self.workers, other.workers),
            cache_size: pick(self.cache_size, other.cache_size),
            cache_dir: pick(self.cache_dir, other.cache_dir),
            cache_disk_size: pick(self.cache_disk_size, other.cache_disk_size),
            harvest: pick(self.harvest, other.harvest),
            max_sessions: pick(self.max_sessions, other.max_sessions),
            max_queued_frames: pick(self.max_queued_frames, other.max_queued_frames),
            max_frames_per_message: pick(self.max_frames_per_message, other.max_frames_per_message),
            max_message_bytes: pick(self.max_message_bytes, other.max_message_bytes),
            max_outbox_bytes: pick(self.max_outbox_bytes, other.max_outbox_bytes),
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
        Ok(EngineConfig {
            workers: workers.unwrap_or(default.workers),
            jpeg_quality: quality.unwrap_or(80),
            cache_bytes: bytes("cache-size", &self.cache_size, 0..=u64::MAX, "0 or more")?
                .unwrap_or(default.cache_bytes),
            disk_cache,
            harvest: match self.harvest.as_deref() {
                None | Some("on") => true,
                Some("off") => false,
                Some(other) => bail!("--harvest must be on or off, but is {other}"),
            },
            ..default
        })
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
        Ok(Limits {
            sessions: whole("max-sessions", &self.max_sessions, 1..=1_000_000)?
                .unwrap_or(default.sessions),
            queued_frames: whole("max-queued-frames", &self.max_queued_frames, 1..=1_000_000)?
                .unwrap_or(default.queued_frames),
            frames_per_message: frames_per_message.unwrap_or(default.frames_per_message),
            message_bytes: message_bytes.unwrap_or(default.message_bytes),
            outbox_bytes: outbox_bytes.unwrap_or(default.outbox_bytes),
            ..default
        })
    }

    fn from_file(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the config file {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("the config file {}", path.display()))
    }
}

const MIB: u64 = 1 << 20;

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
    pub(crate) storage: StorageConfig,
    /// How the engine is sized.
    pub(crate) engine: EngineConfig,
    /// What sessions may take.
    pub(crate) limits: Limits,
    /// A filter for the log.
    pub(crate) log_level: String,
}

/// Where the videos are.
#[derive(Debug)]
pub(crate) enum StorageConfig {
    /// Below a folder.
    Local(PathBuf),
    /// In a bucket.
    S3(S3Config),
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
        let storage = match options.storage_backend.as_deref().unwrap_or("local") {
            "local" => {
                StorageConfig::Local(options.local_path.unwrap_or_else(|| "./data".into()).into())
            }
            "s3" => StorageConfig::S3(S3Config {
                bucket: options.s3_bucket.context(
                    "--storage-backend s3 needs the name of the bucket: set --s3-bucket \
                     (or S3_BUCKET)",
                )?,
                region: options.s3_region.unwrap_or_else(|| "us-east-1".into()),
                endpoint: options.s3_endpoint,
                access_key: options.s3_access_key,
                secret_key: options.s3_secret_key,
            }),
            other => bail!("--storage-backend must be local or s3, but is {other}"),
        };
        Ok(Self {
            listen_addr: options.listen_addr.unwrap_or_else(|| "0.0.0.0:3000".into()),
            storage,
            engine,
            limits,
            log_level: options.log_level.unwrap_or_else(|| "info".into()),
        })
    }
}

impl StorageConfig {
    /// Opens the store. For S3 nothing is sent yet.
    pub(crate) fn open(&self) -> anyhow::Result<Store> {
        Ok(match self {
            Self::Local(root) => Store::local(root)
                .with_context(|| format!("--local-path {} cannot be served", root.display()))?,
            Self::S3(config) => Store::s3(config.clone())?,
        })
    }
}

impl fmt::Display for StorageConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(root) => write!(f, "{}", root.display()),
            Self::S3(config) => write!(f, "s3://{}", config.bucket),
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
        let StorageConfig::S3(s3) = s3.storage else {
            panic!()
        };
        assert_eq!((s3.region.as_str(), s3.endpoint), ("us-east-1", None));
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
        assert!(refusal(&["--storage-backend", "ftp"], None).contains("local or s3"));
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

    /// Flags, variables and keys are documented where people look for them, and are the same.
    #[test]
    fn the_manual_lists_every_option_with_its_variable() {
        use clap::CommandFactory;
        let manual = include_str!("../../../docs/configuration.md");
        for option in Args::command().get_arguments() {
            let Some(flag) = option
                .get_long()
                .filter(|l| !["help", "version"].contains(l))
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
                    "harvest" => "\"off\"",
                    // Alone it would lack its folder.
                    "cache-disk-size" => "\"1GiB\"\ncache-dir = \"x\"",
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
            "[default: 80]",
        ] {
            assert!(help.contains(word), "{word} is not in\n{help}");
        }
    }
}
