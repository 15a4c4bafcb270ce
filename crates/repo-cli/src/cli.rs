//! The command line, as it is typed. Each subcommand checks its own arguments.

use clap::{Parser, Subcommand};

use crate::convert::args::RawConvert;
use crate::devshell::RawDevshell;
use crate::inspect::RawInspect;
use crate::offsets::RawOffsets;
use crate::sign::RawSign;
use crate::token::RawToken;

/// Prepares videos for bucket-streamer.
#[derive(Debug, Parser)]
#[command(name = "repo-cli", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Convert a video, or every video of a folder, to seek-friendly H.265 in MP4
    Convert(RawConvert),
    /// Write the offsets file of an existing H.265 video, without converting it
    Offsets(RawOffsets),
    /// Print what the server sees of an H.265 video: layout, GOPs, frames and what each costs
    Inspect(RawInspect),
    /// Make a token, and the line by which a server knows it
    Token(RawToken),
    /// Sign a URL, so that who has it may see what it names, until a time
    Sign(RawSign),
    /// Run a command in the development container
    Devshell(RawDevshell),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
