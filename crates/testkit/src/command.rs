//! Running ffmpeg and ffprobe.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use anyhow::{Context, Result, bail};

/// First line of `ffmpeg -version`: part of every cache key.
pub fn ffmpeg_version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let output = Command::new("ffmpeg").arg("-version").output();
        let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        text.unwrap_or_default()
            .lines()
            .next()
            .unwrap_or("no ffmpeg")
            .to_owned()
    })
}

/// A program to run to its end, its standard error kept for the report.
pub struct Run {
    command: Command,
}

impl Run {
    /// `ffmpeg`, quiet but for errors, overwriting.
    pub fn ffmpeg() -> Self {
        Self::program("ffmpeg").args(["-v", "error", "-nostdin", "-y"])
    }

    /// `ffprobe`, quiet.
    pub fn ffprobe() -> Self {
        Self::program("ffprobe").args(["-v", "quiet"])
    }

    fn program(name: &str) -> Self {
        Self {
            command: Command::new(name),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Runs it, `feed` writing its standard input, and gives its standard output.
    pub fn fed(self, feed: impl FnOnce(&mut dyn Write) -> Result<()> + Send) -> Result<Vec<u8>> {
        let mut output = Vec::new();
        self.stream(feed, |out| Ok(out.read_to_end(&mut output).map(|_| ())?))?;
        Ok(output)
    }

    /// Runs it with nothing on its standard input and gives its standard output.
    pub fn output(self) -> Result<Vec<u8>> {
        self.fed(|_| Ok(()))
    }

    /// Runs it; `feed` writes its standard input and `take` reads its standard output, side by
    /// side. Fails where either does, or the program does.
    pub fn stream(
        mut self,
        feed: impl FnOnce(&mut dyn Write) -> Result<()> + Send,
        take: impl FnOnce(&mut dyn Read) -> Result<()>,
    ) -> Result<()> {
        let line = format!("{:?}", self.command);
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.command.spawn().with_context(|| {
            format!(
                "cannot start {:?} (is it installed? `make deps`)",
                self.command.get_program()
            )
        })?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(mut stdout), Some(mut stderr)) = (stdin, stdout, stderr) else {
            bail!("{line}: no pipes");
        };
        let (fed, taken, complaints) = thread::scope(|scope| {
            let feeder = scope.spawn(move || feed(&mut stdin));
            let listener = scope.spawn(move || {
                let mut text = Vec::new();
                let _ = stderr.read_to_end(&mut text);
                String::from_utf8_lossy(&text).into_owned()
            });
            let taken = take(&mut stdout);
            // A reader that gave up must not leave the program waiting for it.
            drop(stdout);
            (feeder.join(), taken, listener.join().unwrap_or_default())
        });
        let status = child.wait()?;
        if !status.success() {
            bail!("{line}: {status}\n{complaints}");
        }
        taken.with_context(|| format!("output of {line}\n{complaints}"))?;
        match fed {
            Ok(fed) => fed.with_context(|| format!("input of {line}")),
            Err(_) => bail!("{line}: the writer of its input panicked"),
        }
    }
}
