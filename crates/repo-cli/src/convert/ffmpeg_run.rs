//! One run of `ffmpeg`: progress read, stopped when the user wants to stop.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::process::Stdio;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::Command;

use super::interrupt::Interrupts;
use super::progress::{Progress, ProgressParser};
use super::tool;

/// How many lines of FFmpeg's complaints are kept.
const KEPT_LINES: usize = 20;

/// Runs `ffmpeg` to its end. On an interrupt it is killed, and has ended when this returns.
pub(crate) async fn run(
    args: &[OsString],
    interrupts: &mut Interrupts,
    mut report: impl FnMut(Progress),
) -> anyhow::Result<()> {
    let mut command = Command::new("ffmpeg");
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // Its own process group: the terminal's Ctrl-C comes here, and ends it from here.
    #[cfg(unix)]
    command.process_group(0);
    let mut child = command
        .spawn()
        .map_err(|e| tool::cannot_start("ffmpeg", e))?;
    let stdout = child.stdout.take().context("ffmpeg has no stdout")?;
    let stderr = child.stderr.take().context("ffmpeg has no stderr")?;
    let ended = {
        let work = async {
            let progress = read_progress(stdout, &mut report);
            let (_, complaints) = tokio::join!(progress, last_lines(stderr));
            complaints
        };
        tokio::select! {
            signal = interrupts.next() => Err(signal),
            complaints = work => Ok(complaints),
        }
    };
    match ended {
        Err(interrupted) => {
            child.kill().await.context("ffmpeg cannot be stopped")?;
            Err(interrupted.into())
        }
        Ok(complaints) => {
            let status = child.wait().await.context("ffmpeg cannot be waited for")?;
            if !status.success() {
                bail!("ffmpeg fails: {}", tool::reason(complaints.as_bytes()));
            }
            Ok(())
        }
    }
}

async fn read_progress(stdout: impl AsyncRead + Unpin, report: &mut impl FnMut(Progress)) {
    let mut lines = BufReader::new(stdout).lines();
    let mut parser = ProgressParser::default();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(progress) = parser.line(&line) {
            report(progress);
        }
    }
}

async fn last_lines(stderr: impl AsyncRead + Unpin) -> String {
    let mut kept = VecDeque::new();
    let mut lines = BufReader::new(stderr).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        if kept.len() == KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(String::from_utf8_lossy(&line).into_owned());
    }
    Vec::from(kept).join("\n")
}
