//! What the figures belong to: commit, machine, versions.

use std::fs;
use std::process::Command;

use testkit::{command, directories, programs};

use crate::limit::cores;

/// Names and values, for the head of the report.
pub(crate) fn describe() -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut add = |name: &str, value: String| pairs.push((name.to_owned(), value));
    add("command", std::env::args().collect::<Vec<_>>().join(" "));
    add("commit", commit());
    add("date (UTC)", output("date", &["-u", "+%Y-%m-%d %H:%M"]));
    add("machine", format!("{} cores of {}", cores(), cpu()));
    add("memory", memory());
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    add("load at the start", load.join(" "));
    add("ffmpeg", command::ffmpeg_version().to_owned());
    add("rustc", output("rustc", &["--version"]));
    let server = programs::program("bucket-streamer").unwrap_or_default();
    add("server", output(&server.to_string_lossy(), &["--version"]));
    pairs
}

fn commit() -> String {
    let folder = directories::workspace();
    let folder = folder.to_string_lossy();
    let hash = output("git", &["-C", &folder, "rev-parse", "--short", "HEAD"]);
    match output(
        "git",
        &[
            "-C",
            &folder,
            "status",
            "--porcelain",
            "--untracked-files=no",
        ],
    ) {
        _ if hash.is_empty() => "unknown".into(),
        changes if changes.is_empty() => hash,
        _ => format!("{hash}, with changes"),
    }
}

fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|l| l.strip_prefix("model name"));
    let name = name
        .and_then(|l| l.split_once(':'))
        .map(|(_, name)| name.trim());
    name.unwrap_or(std::env::consts::ARCH).to_owned()
}

fn memory() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kib = kib.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
    kib.map_or_else(String::new, |kib| {
        format!("{:.1} GiB", kib / f64::from(1 << 20))
    })
}

/// What a program says; nothing where it is missing or fails.
fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let text = output.ok().filter(|o| o.status.success());
    text.map_or_else(String::new, |o| {
        String::from_utf8_lossy(&o.stdout).trim().to_owned()
    })
}
