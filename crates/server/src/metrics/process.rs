//! What the system says of this process. Linux tells it in `/proc`; elsewhere nothing is said.

use std::fs;

/// A reading.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Process {
    /// Bytes of memory that are really there.
    pub(super) resident_bytes: Option<u64>,
    /// Open files and sockets.
    pub(super) open_fds: Option<u64>,
    /// How many there may be.
    pub(super) max_fds: Option<u64>,
    /// Threads.
    pub(super) threads: Option<u64>,
}

impl Process {
    pub(super) fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let files = fs::read_dir("/proc/self/fd").ok();
        Self {
            resident_bytes: number(&status, "VmRSS:").map(|kib| kib.saturating_mul(1024)),
            // The one that lists them is open, too.
            open_fds: files.map(|files| (files.count() as u64).saturating_sub(1)),
            max_fds: number(&limits, "Max open files"),
            threads: number(&status, "Threads:"),
        }
    }
}

/// The first number behind a word at the beginning of a line.
fn number(text: &str, word: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(word))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_words() {
        let text = "Name:\tx\nVmRSS:\t  1234 kB\nMax open files            unlimited  8 files\n";
        assert_eq!(number(text, "VmRSS:"), Some(1234));
        assert_eq!(number(text, "Max open files"), None);
        assert_eq!(number(text, "Threads:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_has_memory_files_and_threads() {
        let process = Process::read();
        assert!(process.resident_bytes.unwrap() > 1 << 20, "{process:?}");
        assert!(process.open_fds.unwrap() >= 3, "{process:?}");
        assert!(process.threads.unwrap() >= 1, "{process:?}");
    }
}
