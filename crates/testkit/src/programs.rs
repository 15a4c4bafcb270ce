//! The programs of this workspace as child processes.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::directories;

/// Names of the server's options: a variable of the caller's must not change a test.
const SERVER_VARIABLES: &[&str] = &[
    "CONFIG",
    "LISTEN_ADDR",
    "STORAGE_BACKEND",
    "LOCAL_PATH",
    "STORAGE_TIMEOUT",
    "HEDGE",
    "S3_BUCKET",
    "S3_PREFIX",
    "S3_REGION",
    "S3_ENDPOINT",
    "S3_ADDRESSING",
    "S3_ANONYMOUS",
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_ALLOW_HTTP",
    "GCS_BUCKET",
    "AZURE_ACCOUNT",
    "AZURE_CONTAINER",
    "JPEG_QUALITY",
    "WORKERS",
    "ISOLATION",
    "MAX_PIXELS",
    "MAX_GOP_FRAMES",
    "DECODE_TIMEOUT",
    "CACHE_SIZE",
    "CACHE_DIR",
    "CACHE_DISK_SIZE",
    "HARVEST",
    "PREFETCH",
    "MAX_SESSIONS",
    "MAX_QUEUED_FRAMES",
    "MAX_FRAMES_PER_MESSAGE",
    "MAX_MESSAGE_BYTES",
    "MAX_OUTBOX_BYTES",
    "CORS_ORIGIN",
    "REQUIRE_AUTH",
    "AUTH_TOKEN_FILE",
    "JWT_KEY_FILE",
    "JWT_JWKS_FILE",
    "URL_KEY_FILE",
    "JWT_AUDIENCE",
    "JWT_ISSUER",
    "JWT_PREFIX_CLAIM",
    "BUCKET_STREAMER_TOKEN",
    "HTTP_LIFETIME",
    "MAX_HTTP_REQUESTS",
    "TLS_CERT",
    "TLS_KEY",
    "MAX_CONNECTIONS",
    "MAX_CONNECTIONS_PER_ADDRESS",
    "HANDSHAKE_TIMEOUT",
    "IDLE_TIMEOUT",
    "DRAIN_TIMEOUT",
    "DRAIN_DELAY",
    "MAX_MESSAGES_PER_SECOND",
    "MAX_FRAMES_PER_SECOND",
    "METRICS_ADDR",
    "OTLP_ENDPOINT",
    "LOG_FORMAT",
    "LOG_LEVEL",
];

/// The built program of this name, beside the running test. Builds nothing.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = directories::programs().join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if !path.is_file() {
        bail!(
            "the program {name} is not built ({} is missing): run \
             `cargo build --release --bins` (or `make build`) before this test",
            path.display()
        );
    }
    Ok(path)
}

/// A command that runs the built program, free of the caller's settings.
pub fn command(name: &str) -> Result<Command> {
    let mut command = Command::new(program(name)?);
    for variable in SERVER_VARIABLES.iter().chain(&["RUST_LOG"]) {
        command.env_remove(variable);
    }
    // What it writes is looked at by tests, and by people where one fails.
    command.env("LOG_FORMAT", "human");
    Ok(command)
}

/// A running `bucket-streamer`, ended when dropped.
pub struct Server {
    child: Child,
    address: String,
    log: Arc<Mutex<String>>,
    /// Collects its standard error.
    errors: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// Starts it on a free port of 127.0.0.1 with these further arguments, and returns when it
    /// listens. Fails with what it wrote if it ends before.
    pub fn start<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Result<Self> {
        Self::start_with(args, |_| {})
    }

    /// The same, with a last change to the command (environment, working directory).
    pub fn start_with<A: AsRef<OsStr>>(
        args: impl IntoIterator<Item = A>,
        change: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        Self::start_at("127.0.0.1:0", args, change)
    }

    /// The same on this address: that of a server that has ended, for who comes back to it.
    pub fn start_at<A: AsRef<OsStr>>(
        address: &str,
        args: impl IntoIterator<Item = A>,
        change: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let mut command = command("bucket-streamer")?;
        command.args(["--listen-addr", address]).args(args);
        change(&mut command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start bucket-streamer")?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
            bail!("no pipes")
        };
        let log = Arc::new(Mutex::new(String::new()));
        let errors = keep(BufReader::new(stderr), Arc::clone(&log));
        let mut stdout = BufReader::new(stdout);
        let mut seen = String::new();
        let address = loop {
            let mut line = String::new();
            if stdout.read_line(&mut line)? == 0 {
                let status = child.wait()?;
                let _ = errors.join();
                let log = log.lock().unwrap_or_else(PoisonError::into_inner);
                bail!("bucket-streamer ended before it listened ({status})\n{seen}{log}");
            }
            if let Some(address) = listening_address(&line) {
                break address;
            }
            seen.push_str(&line);
        };
        keep(stdout, Arc::clone(&log));
        Ok(Self {
            child,
            address,
            log,
            errors: Some(errors),
        })
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// URL of a path, such as `/health`.
    pub fn http(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// URL of the WebSocket endpoint.
    pub fn websocket(&self) -> String {
        format!("ws://{}/ws", self.address)
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for it to end by itself, and gives its status and all that it wrote.
    pub fn wait(mut self) -> Result<(ExitStatus, String)> {
        let status = self.child.wait()?;
        if let Some(errors) = self.errors.take() {
            let _ = errors.join();
        }
        Ok((status, self.log()))
    }

    /// What it has written since it listens.
    pub fn log(&self) -> String {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("bucket-streamer wrote:\n{}", self.log());
        }
    }
}

/// The address in a line `listening on http://ADDRESS`, or `https://`.
fn listening_address(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("listening on http")?;
    let rest = rest.strip_prefix('s').unwrap_or(rest);
    let rest = rest.strip_prefix("://")?;
    let end = rest
        .find(|c: char| c.is_whitespace() || c == '/')
        .unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}

/// Collects what a pipe gives until it closes.
fn keep(mut from: impl Read + Send + 'static, log: Arc<Mutex<String>>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
            log.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push_str(&text);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_line_that_tells_it() {
        let line = "2024-01-01 INFO listening on http://127.0.0.1:41231\n";
        assert_eq!(listening_address(line).as_deref(), Some("127.0.0.1:41231"));
        let line = "listening on https://[::1]:5/\n";
        assert_eq!(listening_address(line).as_deref(), Some("[::1]:5"));
        assert_eq!(listening_address("starting"), None);
    }

    #[test]
    fn a_missing_program_is_named_with_the_way_to_build_it() {
        let error = program("no-such-program").unwrap_err().to_string();
        assert!(
            error.contains("no-such-program") && error.contains("make build"),
            "{error}"
        );
    }
}
