//! `streaming-cli`: asks a bucket-streamer server for frames, and says how long they took.

mod args;
mod bench;
mod client;
mod frames_file;
mod pattern;
mod report;
mod save;
mod tls;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let done = args::RawArgs::parse().check().and_then(|settings| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        runtime.block_on(bench::run(settings))
    });
    done.unwrap_or_else(|error| {
        // Nothing is left to do where even stderr is closed.
        let _ = writeln!(std::io::stderr(), "error: {error:#}");
        ExitCode::FAILURE
    })
}
