//! The `ffmpeg` and `ffprobe` programs: found, asked for their version, given paths safely.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What to tell a user who has no FFmpeg.
const INSTALL: &str = "install FFmpeg (Debian, Ubuntu: apt-get install ffmpeg; \
     Fedora: dnf install ffmpeg; macOS: brew install ffmpeg) and see that it is in PATH";

/// A path as FFmpeg takes it without reading options, protocols or patterns into it.
pub(crate) fn file_url(path: &Path) -> OsString {
    let mut url = OsString::from("file:");
    url.push(path);
    url
}

/// Turns the failure to start a program into words.
pub(crate) fn cannot_start(program: &str, error: std::io::Error) -> anyhow::Error {
    if error.kind() == ErrorKind::NotFound {
        anyhow::anyhow!("the program {program} was not found: {INSTALL}")
    } else {
        anyhow::Error::new(error).context(format!("cannot start {program}"))
    }
}

/// Runs a program to its end and gives what it wrote.
pub(crate) fn output(program: &str, args: &[OsString]) -> anyhow::Result<Output> {
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| cannot_start(program, e))
}

/// Lines with which FFmpeg ends that give no reason.
const EMPTY_WORDS: &[&str] = &["Conversion failed!", "Nothing was written into output file"];

/// FFmpeg's reason: the last line on stderr that gives one, without the path that it repeats. An
/// encoder's own complaint comes before FFmpeg's guess at what it means.
pub(crate) fn reason(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|l| !EMPTY_WORDS.iter().any(|e| l.starts_with(e)));
    let encoder = lines.clone().find(|l| l.starts_with("x265 [error]"));
    let line = encoder
        .or_else(|| lines.rfind(|l| !l.is_empty()))
        .unwrap_or("no reason given");
    match line.rsplit_once(": ") {
        Some((prefix, rest)) if prefix.contains("file:") => rest.to_owned(),
        _ => line.to_owned(),
    }
}

/// Options whose spelling changed between FFmpeg's versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Dialect {
    version: (u32, u32),
}

impl Dialect {
    /// Asks the installed `ffmpeg`.
    pub(crate) fn ask() -> anyhow::Result<Self> {
        let out = output("ffmpeg", &["-version".into()])?;
        anyhow::ensure!(
            out.status.success(),
            "ffmpeg -version fails: {}",
            reason(&out.stderr)
        );
        Ok(Self::parse(&String::from_utf8_lossy(&out.stdout)))
    }

    /// Reads `ffmpeg version 5.1.9-0+deb12u1 …`. Builds without a release number are taken as
    /// newer than every release.
    fn parse(text: &str) -> Self {
        let word = text
            .strip_prefix("ffmpeg version ")
            .and_then(|t| t.split_whitespace().next());
        let mut numbers = word
            .map(|w| w.strip_prefix('n').unwrap_or(w))
            .unwrap_or_default()
            .split(|c: char| !c.is_ascii_digit())
            .map(str::parse);
        let version = match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
            (Some(Ok(major)), _) => (major, 0),
            _ => (u32::MAX, 0),
        };
        Self { version }
    }

    /// Options that hand on every picture at its own time.
    pub(crate) fn keep_times(self) -> [&'static str; 4] {
        let [option, value] = self.passthrough();
        // Encoders count time in 1/frame rate unless told otherwise, which rounds the times of
        // a variable frame rate.
        let base = if self.version < (6, 1) { "-1" } else { "demux" };
        [option, value, "-enc_time_base", base]
    }

    /// The option that neither drops nor repeats pictures.
    pub(crate) fn passthrough(self) -> [&'static str; 2] {
        if self.version < (5, 1) {
            ["-vsync", "passthrough"]
        } else {
            ["-fps_mode", "passthrough"]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_first_line() {
        let version = |t: &str| Dialect::parse(t).version;
        assert_eq!(version("ffmpeg version 5.1.9-0+deb12u1 Copyright"), (5, 1));
        assert_eq!(version("ffmpeg version n7.1 Copyright"), (7, 1));
        assert_eq!(
            version("ffmpeg version 4.4.2-0ubuntu0.22.04.1 Copyright"),
            (4, 4)
        );
        assert_eq!(version("ffmpeg version 8 Copyright"), (8, 0));
        assert_eq!(
            version("ffmpeg version N-109542-g1bf1222 Copyright"),
            (u32::MAX, 0)
        );
        assert_eq!(version("rubbish"), (u32::MAX, 0));
    }

    #[test]
    fn options_follow_the_version() {
        let args = |version| Dialect { version }.keep_times().join(" ");
        assert_eq!(args((4, 4)), "-vsync passthrough -enc_time_base -1");
        assert_eq!(args((5, 1)), "-fps_mode passthrough -enc_time_base -1");
        assert_eq!(args((7, 1)), "-fps_mode passthrough -enc_time_base demux");
    }

    #[test]
    fn the_reason_is_the_last_line_without_the_path() {
        let say = |t: &str| reason(t.as_bytes());
        assert_eq!(
            say("moov atom not found\nfile:a: b.mp4: Invalid data found\n"),
            "Invalid data found"
        );
        assert_eq!(
            say("Error opening encoder: bad\n\n"),
            "Error opening encoder: bad"
        );
        assert_eq!(say("why\nConversion failed!\n"), "why");
        assert_eq!(
            say("x265 [error]: too small\nMaybe incorrect parameters\n"),
            "x265 [error]: too small"
        );
        assert_eq!(say(""), "no reason given");
    }

    #[test]
    fn paths_are_never_options_or_protocols() {
        assert_eq!(file_url(Path::new("-y")), "file:-y");
        assert_eq!(file_url(Path::new("http://x")), "file:http://x");
    }
}
