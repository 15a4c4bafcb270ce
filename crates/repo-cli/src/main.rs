//! `repo-cli`: prepares videos for bucket-streamer.

mod cli;
mod closure;
mod convert;
mod devshell;
mod inspect;
mod offsets;
mod placement;
mod sign;
mod source;
mod token;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let outcome = match cli::Cli::parse().command {
        cli::Command::Convert(raw) => convert::run(raw),
        cli::Command::Offsets(raw) => offsets::run(raw),
        cli::Command::Inspect(raw) => inspect::run(&raw),
        cli::Command::Token(raw) => token::run(raw),
        cli::Command::Sign(raw) => sign::run(&raw),
        cli::Command::Devshell(raw) => devshell::run(&raw),
    };
    outcome.unwrap_or_else(|error| {
        // Nothing is left to do where even stderr is closed.
        let _ = writeln!(std::io::stderr(), "error: {error:#}");
        ExitCode::FAILURE
    })
}
