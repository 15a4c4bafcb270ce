//! A real S3 server for tests: Garage, one node, one key, in a temporary folder.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use tempfile::TempDir;

/// The settings of the store in docker-compose.yml.
const SETTINGS: &str = include_str!("../../../docker/garage.toml");

/// A running Garage, ended and removed when dropped.
pub struct Garage {
    child: Child,
    program: PathBuf,
    folder: TempDir,
    endpoint: String,
}

impl Garage {
    /// The bucket that it has from the start.
    pub const BUCKET: &str = "videos";
    /// A key that may read and write the bucket.
    pub const ACCESS_KEY: &str = "GK0123456789abcdef01234567";
    /// The secret of [`Self::ACCESS_KEY`].
    pub const SECRET_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    /// Its region.
    pub const REGION: &str = "us-east-1";

    /// Starts one on free ports of 127.0.0.1, and returns when the bucket can be used.
    pub fn start() -> Result<Self> {
        let program = program()?;
        // A port that was free a moment ago may be taken by the time Garage wants it.
        let mut failure = None;
        for _ in 0..5 {
            match Self::try_start(&program) {
                Ok(garage) => return Ok(garage),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| anyhow::anyhow!("Garage was not tried")))
    }

    /// A client that may write one of its buckets.
    pub fn writer(&self, bucket: &str) -> Result<AmazonS3> {
        let builder = AmazonS3Builder::new()
            .with_endpoint(self.endpoint())
            .with_allow_http(true)
            .with_bucket_name(bucket)
            .with_region(Self::REGION)
            .with_access_key_id(Self::ACCESS_KEY)
            .with_secret_access_key(Self::SECRET_KEY);
        Ok(builder.build()?)
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A command of Garage that is answered by this one, such as `status`.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(settings_file(&self.folder));
        command.stdin(Stdio::null());
        command
    }

    /// Makes a further bucket, which the key may read and write, too.
    pub fn add_bucket(&self, name: &str) -> Result<()> {
        let permissions = ["--read", "--write", "--key", Self::ACCESS_KEY];
        self.administer(["bucket", "create", name].as_slice())?;
        self.administer(&[&["bucket", "allow", name][..], &permissions].concat())
    }

    fn administer(&self, args: &[&str]) -> Result<()> {
        let output = self.command().args(args).output()?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("garage {} failed: {why}", args.join(" "));
        }
        Ok(())
    }

    fn try_start(program: &PathBuf) -> Result<Self> {
        let folder = TempDir::with_prefix("garage-")?;
        let (rpc, api) = (free_address()?, free_address()?);
        // As in docker-compose.yml, but for what two on one machine cannot share.
        let place = folder.path().display().to_string();
        let settings = SETTINGS
            .replace("/var/lib/garage", &place)
            .replace("127.0.0.1:3901", &rpc)
            .replace("0.0.0.0:3900", &api);
        let settings_file = settings_file(&folder);
        std::fs::write(&settings_file, settings)?;
        let mut child = Command::new(program)
            .arg("-c")
            .arg(&settings_file)
            .args(["server", "--single-node", "--default-bucket"])
            .env("GARAGE_DEFAULT_BUCKET", Self::BUCKET)
            .env("GARAGE_DEFAULT_ACCESS_KEY", Self::ACCESS_KEY)
            .env("GARAGE_DEFAULT_SECRET_KEY", Self::SECRET_KEY)
            .env("RUST_LOG", "info")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let Some(log) = child.stderr.take() else {
            bail!("no pipe")
        };
        let mut log = BufReader::new(log);
        let mut seen = String::new();
        // The bucket and the key are made before the S3 port is opened.
        while !seen.contains("S3 API server listening on") {
            if log.read_line(&mut seen)? == 0 {
                let status = child.wait()?;
                bail!("Garage ended before it listened ({status}):\n{seen}");
            }
        }
        // The port for commands may be opened a little later.
        let patience = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(&rpc).is_err() {
            if child.try_wait()?.is_some() || Instant::now() > patience {
                child.kill().ok();
                child.wait().ok();
                bail!("Garage does not listen for commands on {rpc}:\n{seen}");
            }
            thread::sleep(Duration::from_millis(10));
        }
        // Its log must be read on, or it would stand still when the pipe is full.
        thread::spawn(move || {
            let mut sink = [0; 4096];
            while matches!(log.read(&mut sink), Ok(1..)) {}
        });
        Ok(Self {
            child,
            program: program.clone(),
            folder,
            endpoint: format!("http://{api}"),
        })
    }
}

impl Drop for Garage {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn settings_file(folder: &TempDir) -> PathBuf {
    folder.path().join("garage.toml")
}

/// `GARAGE_BIN`, else the one in the user's cache folder.
fn program() -> Result<PathBuf> {
    let set = |name: &str| {
        env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let cache = || {
        let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
        cache
            .unwrap_or_default()
            .join("bucket-streamer/tools/bin/garage")
    };
    let path = set("GARAGE_BIN").unwrap_or_else(cache);
    if !path.is_file() {
        bail!(
            "this test needs the S3 server Garage, and {} is not there: `make test` installs it; \
             or set GARAGE_BIN to the program",
            path.display()
        );
    }
    Ok(path)
}

fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
