//! From raw arguments to checked ones.
//!
//! Each option is a flag, an environment variable (the same name in capitals with `_`) and a key
//! of an optional TOML file, in this order of precedence. An empty value is taken as not given,
//! as container tools pass variables that are not set.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Parser;
use serde::Deserialize;
use storage::{S3Config, Store};

/// Serves single frames of H.265 videos over WebSocket.
#[derive(Parser, Clone, Default)]
#[command(name = "bucket-streamer", version, about, max_term_width = 100)]
pub(crate) struct Args {
    /// A TOML file with these options as keys, as in `listen-addr = "0.0.0.0:3000"`
    #[arg(long, env = "CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

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

    /// off, error, warn, info, debug, trace, or a filter as in RUST_LOG, which wins
    /// [default: info]
    #[arg(long, env = "LOG_LEVEL", value_name = "LEVEL")]
    #[serde(alias = "log_level")]
    log_level: Option<String>,
}

/// In TOML a number is written without quotes; with them it is none the worse.
fn number_or_text<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(i64),
        Text(String),
    }
    Ok(Some(match Either::deserialize(from)? {
        Either::Number(n) => n.to_string(),
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
            log_level: pick(self.log_level, other.log_level),
        }
    }

    fn from_file(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the config file {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("the config file {}", path.display()))
    }
}

/// The checked configuration.
#[derive(Debug)]
pub(crate) struct Config {
    /// Host and port, not yet resolved.
    pub(crate) listen_addr: String,
    /// Where the videos are.
    pub(crate) storage: StorageConfig,
    /// 1 to 100.
    pub(crate) jpeg_quality: u8,
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
        let jpeg_quality = match options.jpeg_quality.as_deref() {
            None => 80,
            Some(text) => match text.trim().parse() {
                Ok(quality @ 1..=100) => quality,
                _ => bail!("--jpeg-quality must be a whole number from 1 to 100, but is {text}"),
            },
        };
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
            jpeg_quality,
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
            (config.jpeg_quality, config.log_level.as_str()),
            (80, "info")
        );
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
        assert_eq!(config.jpeg_quality, 55);
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
            (config.jpeg_quality, config.listen_addr.as_str()),
            (70, "h:1")
        );
        assert_eq!(
            resolve(&[], Some("jpeg-quality = \"9\""))
                .unwrap()
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
                let file = match flag {
                    "jpeg-quality" => "jpeg-quality = 5".to_owned(),
                    "storage-backend" => "storage-backend = \"local\"".to_owned(),
                    _ => format!("{flag} = \"x\""),
                };
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
