//! The progress bar of one encode, on a terminal only.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::progress::Progress;

/// A bar that counts seconds of video where the source's duration is known, else pictures.
#[derive(Debug)]
pub(crate) struct Meter {
    bar: ProgressBar,
    timed: bool,
}

impl Meter {
    /// Shows a bar at zero, if stderr is a terminal.
    pub(crate) fn start(name: &Path, duration: Option<f64>) -> Self {
        let name = name
            .file_name()
            .unwrap_or(name.as_os_str())
            .to_string_lossy()
            .into_owned();
        let milliseconds = duration.map(|d| (d * 1000.0) as u64);
        let bar = match milliseconds {
            Some(all) => ProgressBar::new(all),
            None => ProgressBar::no_length(),
        };
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let template = if milliseconds.is_some() {
            "{prefix} [{bar:30}] {percent:>3} % {msg} ETA {eta}"
        } else {
            "{prefix} {spinner} {msg} {elapsed}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(name);
        bar.enable_steady_tick(Duration::from_millis(200));
        Self {
            bar,
            timed: milliseconds.is_some(),
        }
    }

    /// Moves the bar.
    pub(crate) fn set(&self, progress: Progress) {
        if self.timed {
            self.bar.set_position(progress.out_time_us / 1000);
        }
        self.bar.set_message(format!("{} frames", progress.frames));
    }

    /// Takes the bar away.
    pub(crate) fn end(self) {
        self.bar.finish_and_clear();
    }
}
