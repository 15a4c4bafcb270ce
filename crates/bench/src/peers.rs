//! Others that give frames of a video, each a process of scripts/bench-peers/peer.py that is stopped
//! until it is its turn: some have threads that decode on while nobody asks.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::json;
use testkit::directories;

use crate::clips::{Clip, RATE};
use crate::limit::Frame;

/// As peer.py calls them, and as people do.
const NAMES: [(&str, &str); 5] = [
    ("ffmpeg", "ffmpeg -ss"),
    ("pyav", "PyAV"),
    ("torchcodec", "torchcodec"),
    ("decord", "decord"),
    ("opencv", "OpenCV"),
];

/// The greatest answer that is taken.
const MOST_BYTES: usize = 1 << 30;

/// One that is installed.
#[derive(Debug)]
pub(crate) struct Peer {
    /// As people call it.
    pub(crate) name: &'static str,
    /// Its version.
    pub(crate) version: String,
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// One that is not, and why.
#[derive(Clone, Debug)]
pub(crate) struct Missing {
    /// As people call it.
    pub(crate) name: &'static str,
    /// What it said when it was called.
    pub(crate) why: String,
}

#[derive(Deserialize)]
struct Reply {
    version: Option<String>,
    missing: Option<String>,
    failed: Option<String>,
    #[serde(default)]
    seconds: f64,
    #[serde(default)]
    count: usize,
    #[serde(default)]
    sizes: Vec<usize>,
}

/// Starts all that can be started. `environment` is the Python environment of `make bench-peers`;
/// where it is not there, the system's Python is asked.
pub(crate) fn start(environment: &Path) -> (Vec<Peer>, Vec<Missing>) {
    let own = environment.join("bin/python");
    let python = if own.exists() { own } else { "python3".into() };
    let (mut peers, mut missing) = (Vec::new(), Vec::new());
    for (key, name) in NAMES {
        match Peer::start(&python, key, name) {
            Ok(peer) => peers.push(peer),
            Err(error) => missing.push(Missing {
                name,
                why: format!("{error:#}"),
            }),
        }
    }
    (peers, missing)
}

impl Peer {
    fn start(python: &PathBuf, key: &str, name: &'static str) -> Result<Self> {
        let script = directories::workspace().join("scripts/bench-peers/peer.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", python.display()))?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("no pipes");
        };
        let mut peer = Self {
            name,
            version: String::new(),
            child,
            requests,
            answers: BufReader::new(answers),
        };
        let (reply, _) = peer.reply()?;
        if let Some(why) = reply.missing {
            bail!(why);
        }
        peer.version = reply.version.unwrap_or_default();
        peer.signal(Signal::STOP)?;
        Ok(peer)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("cannot stop and resume {}", self.name))
    }

    /// Opens a clip.
    pub(crate) fn open(&mut self, clip: &Clip) -> Result<()> {
        self.ask(&json!({ "open": clip.path, "rate": RATE }))?;
        Ok(())
    }

    /// One frame as a JPEG image.
    pub(crate) fn frame(&mut self, frame: Frame) -> Result<(Duration, Vec<u8>)> {
        let (reply, mut images) = self.ask(&json!({ "frame": frame.number }))?;
        let image = images.pop().context("no image")?;
        Ok((Duration::from_secs_f64(reply.seconds), image))
    }

    /// The first `count` frames in order: frames per second, how many came, every `step`th image.
    pub(crate) fn all(&mut self, count: usize, step: u32) -> Result<(f64, usize, Vec<Vec<u8>>)> {
        let (reply, images) = self.ask(&json!({ "all": step, "count": count }))?;
        Ok((reply.count as f64 / reply.seconds, reply.count, images))
    }

    fn ask(&mut self, command: &serde_json::Value) -> Result<(Reply, Vec<Vec<u8>>)> {
        self.signal(Signal::CONT)?;
        writeln!(self.requests, "{command}")?;
        let (reply, images) = self.reply()?;
        self.signal(Signal::STOP)?;
        match reply.failed {
            Some(why) => bail!("{}: {why}", self.name),
            None => Ok((reply, images)),
        }
    }

    fn reply(&mut self) -> Result<(Reply, Vec<Vec<u8>>)> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("{} ended: {}", self.name, self.child.wait()?);
        }
        let reply: Reply = serde_json::from_str(&line)?;
        let mut images = Vec::new();
        for &size in &reply.sizes {
            anyhow::ensure!(size <= MOST_BYTES, "an image of {size} bytes");
            let mut image = vec![0; size];
            self.answers.read_exact(&mut image)?;
            images.push(image);
        }
        Ok((reply, images))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
