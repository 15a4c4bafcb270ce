//! What `ffmpeg -progress` says.

/// How far an encode has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Progress {
    /// Pictures written.
    pub(crate) frames: u64,
    /// Presentation time reached, in microseconds.
    pub(crate) out_time_us: u64,
}

/// Collects the `key=value` lines of one report after another.
#[derive(Debug, Default)]
pub(crate) struct ProgressParser {
    current: Progress,
}

impl ProgressParser {
    /// Takes one line; gives the report that it completes, if any. Unknown keys and values that
    /// are not numbers (`N/A` before the first picture) are passed over.
    pub(crate) fn line(&mut self, line: &str) -> Option<Progress> {
        let (key, value) = line.trim().split_once('=')?;
        let value = value.trim();
        match key {
            "frame" => self.current.frames = value.parse().unwrap_or(self.current.frames),
            "out_time_us" => {
                self.current.out_time_us = value.parse().unwrap_or(self.current.out_time_us);
            }
            // The last line of each report: `continue` or `end`.
            "progress" => return Some(self.current),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_ends_with_its_progress_line() {
        let mut parser = ProgressParser::default();
        let text = "frame=12\nfps=3.4\nout_time_us=480000\nout_time=00:00:00.480000\nspeed=0.1x";
        for line in text.lines() {
            assert_eq!(parser.line(line), None);
        }
        let report = Progress {
            frames: 12,
            out_time_us: 480_000,
        };
        assert_eq!(parser.line("progress=continue"), Some(report));
        assert_eq!(parser.line("frame=  13 "), None);
        assert_eq!(parser.line("progress=end").unwrap().frames, 13);
    }

    #[test]
    fn what_is_no_number_changes_nothing() {
        let mut parser = ProgressParser::default();
        for line in [
            "frame=N/A",
            "out_time_us=-23000",
            "",
            "rubbish",
            "=",
            "frame=99999999999999999999",
        ] {
            assert_eq!(parser.line(line), None);
        }
        assert_eq!(parser.line("progress=continue"), Some(Progress::default()));
    }
}
