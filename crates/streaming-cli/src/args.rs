//! The command line: as typed, and checked.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::frames_file::{self, Frame};
use crate::pattern::Pattern;

/// Asks a bucket-streamer server for frames, and says how long they took.
#[derive(Debug, clap::Parser)]
#[command(
    name = "streaming-cli",
    version,
    after_help = "\
The time of a frame runs from sending the message that asks for it to having its picture whole. \
The total time runs from the first request to the last answer; connecting and choosing the video \
are not in it. One KB is 1024 bytes.\n\
The exit code is 0 if every frame was answered and at least one came as a picture. Frames that \
came as errors are counted by code on stderr."
)]
pub(crate) struct RawArgs {
    /// Address of the server's WebSocket: ws://, or wss:// with TLS
    #[arg(long, default_value = "ws://localhost:3000/ws")]
    url: String,

    /// Certificates (PEM) to trust beside the system's, for wss://
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Token that the server asks for
    #[arg(
        long,
        env = "BUCKET_STREAMER_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    token: Option<Token>,

    /// File that holds the token; wins over BUCKET_STREAMER_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Name of the video on the server; needed without --frames-file
    /// [default: the video_url of the frames file]
    #[arg(long)]
    video: Option<String>,

    /// Offsets file of the video (VIDEO.offsets.json) [default: the server is asked where the
    /// frames are]
    #[arg(long, value_name = "FILE")]
    frames_file: Option<PathBuf>,

    /// Frames per message; the next message is sent when all of them are answered
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: usize,

    /// Save the pictures into this folder
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,

    /// Print the results as one JSON object
    #[arg(long)]
    json: bool,

    /// Order in which frames are asked for
    #[arg(long, value_enum, default_value_t = Pattern::Sequential)]
    pattern: Pattern,

    /// Seed of the patterns random and scrub: the same seed asks for the same frames
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Ask for at most N frames
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    /// Connections at the same time, each asking for all of its frames; the patterns random and
    /// scrub differ from one to the next
    #[arg(long, value_name = "N", default_value_t = 1)]
    clients: usize,

    /// Give up when the server says nothing for this long
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// A token, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl std::str::FromStr for Token {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let plain = text.bytes().all(|b| b.is_ascii_graphic());
        if !plain {
            return Err("a token is one word of ASCII characters");
        }
        Ok(Self(text.to_owned()))
    }
}

impl Token {
    /// As it stands in the header.
    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

/// What to do, checked.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Settings {
    /// Address of the server's WebSocket.
    pub(crate) url: String,
    /// Certificates that are trusted beside the system's.
    pub(crate) ca: Option<PathBuf>,
    /// What it is shown.
    pub(crate) token: Option<Token>,
    /// What `SetVideo` is sent with.
    pub(crate) video: String,
    /// In presentation order, at least one; `None`: the server is asked.
    pub(crate) frames: Option<Vec<Frame>>,
    /// Frames per message, at least 1.
    pub(crate) batch: usize,
    /// Where pictures are saved.
    pub(crate) output: Option<PathBuf>,
    /// Print JSON.
    pub(crate) json: bool,
    /// Order of the requests.
    pub(crate) pattern: Pattern,
    /// Seed of that order.
    pub(crate) seed: u64,
    /// Requests per connection, at most.
    pub(crate) limit: Option<usize>,
    /// Connections, at least 1.
    pub(crate) clients: usize,
    /// Longest silence.
    pub(crate) timeout: Duration,
}

impl RawArgs {
    /// Checks the arguments and reads the frames file.
    pub(crate) fn check(self) -> anyhow::Result<Settings> {
        let by_tls = self.url.starts_with("wss://");
        ensure!(
            by_tls || self.url.starts_with("ws://"),
            "--url {:?} does not start with ws:// or wss://",
            self.url
        );
        ensure!(
            by_tls || self.ca.is_none(),
            "--ca is for a --url that starts with wss://"
        );
        ensure!(self.batch > 0, "--batch has to be at least 1");
        ensure!(self.limit != Some(0), "--limit has to be at least 1");
        ensure!(self.clients > 0, "--clients has to be at least 1");
        ensure!(self.timeout > 0, "--timeout has to be at least 1");
        let (video, frames) = match &self.frames_file {
            Some(path) => {
                let file = frames_file::read(path)?;
                let Some(video) = self.video.or(file.video_url) else {
                    anyhow::bail!("{} names no video_url: give --video", path.display());
                };
                (video, Some(file.frames))
            }
            None => {
                let video = self.video.context("give --video or --frames-file")?;
                (video, None)
            }
        };
        let token = match &self.token_file {
            Some(path) => {
                let shown = path.display();
                let text = std::fs::read_to_string(path);
                let text = text.with_context(|| format!("cannot read {shown}"))?;
                let token: Result<Token, _> = text.parse().map_err(anyhow::Error::msg);
                let token = token.with_context(|| shown.to_string())?;
                ensure!(!token.0.is_empty(), "{shown} is empty");
                Some(token)
            }
            // An empty variable counts as none.
            None => self.token.filter(|token| !token.0.is_empty()),
        };
        Ok(Settings {
            url: self.url,
            ca: self.ca,
            token,
            video,
            frames,
            batch: self.batch,
            output: self.output,
            json: self.json,
            pattern: self.pattern,
            seed: self.seed,
            limit: self.limit,
            clients: self.clients,
            timeout: Duration::from_secs(self.timeout),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory as _, Parser as _};

    fn check(extra: &[&str], file: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.json");
        std::fs::write(&path, file).unwrap();
        let args = ["streaming-cli", "--frames-file", path.to_str().unwrap()];
        RawArgs::try_parse_from(args.iter().chain(extra))
            .map_err(|e| e.to_string())?
            .check()
            .map_err(|e| format!("{e:#}"))
    }

    const FILE: &str = r#"{"video_url":"fs:///v.h265","frames":[{"offset":1,"irap_offset":0}]}"#;

    #[test]
    fn the_command_line_is_consistent() {
        RawArgs::command().debug_assert();
    }

    #[test]
    fn the_defaults() {
        let s = check(&[], FILE).unwrap();
        assert_eq!(
            (s.url.as_str(), s.batch, s.clients),
            ("ws://localhost:3000/ws", 1, 1)
        );
        assert_eq!(
            (s.pattern, s.limit, s.json),
            (Pattern::Sequential, None, false)
        );
    }

    #[test]
    fn the_video_may_be_named_by_the_frames_file() {
        assert_eq!(check(&[], FILE).unwrap().video, "fs:///v.h265");
        assert_eq!(check(&["--video", "a"], FILE).unwrap().video, "a");
        let nameless = FILE.replace("\"video_url\":\"fs:///v.h265\",", "");
        assert!(check(&[], &nameless).unwrap_err().contains("give --video"));
        assert!(check(&["--video", "a"], &nameless).is_ok());
    }

    #[test]
    fn without_a_frames_file_the_video_must_be_named() {
        let check = |args: &[&str]| {
            let args = ["streaming-cli"].iter().chain(args);
            let checked = RawArgs::try_parse_from(args).unwrap().check();
            checked.map_err(|e| format!("{e:#}"))
        };
        let settings = check(&["--video", "a"]).unwrap();
        assert_eq!((settings.video.as_str(), settings.frames), ("a", None));
        assert!(check(&[]).unwrap_err().contains("--frames-file"));
    }

    #[test]
    fn a_token_comes_from_a_file_or_as_it_is_and_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "from-file\n").unwrap();
        let file = path.to_str().unwrap();
        let given = |args: &[&str]| check(args, FILE).unwrap().token.map(|t| t.header());
        let header = |token: &str| Some(format!("Bearer {token}"));
        assert_eq!(given(&["--token", "typed"]), header("typed"));
        assert_eq!(given(&["--token-file", file]), header("from-file"));
        let both = ["--token", "typed", "--token-file", file];
        assert_eq!(given(&both), header("from-file"));
        let shown = format!("{:?}", check(&["--token", "typed"], FILE).unwrap());
        assert!(!shown.contains("typed"), "{shown}");
        std::fs::write(&path, "two words").unwrap();
        let refused = check(&["--token-file", file], FILE).unwrap_err();
        assert!(
            refused.contains("one word") && !refused.contains("two"),
            "{refused}"
        );
    }

    #[test]
    fn numbers_are_at_least_one() {
        for option in ["--batch", "--limit", "--clients", "--timeout"] {
            let error = check(&[option, "0"], FILE).unwrap_err();
            assert!(error.contains("at least 1"), "{error}");
        }
    }

    #[test]
    fn only_websockets_are_spoken() {
        let refused = |more: &[&str]| check(more, FILE).unwrap_err();
        assert!(refused(&["--url", "http://h/ws"]).contains("ws://"));
        assert!(check(&["--url", "wss://h/ws", "--ca", "a.pem"], FILE).is_ok());
        assert!(refused(&["--ca", "a.pem"]).contains("--ca is for"));
    }
}
