//! `repo-cli token`: makes a static token, and the line by which a server knows it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use keys::{TokenEntry, digest, make_token, read_tokens};

#[derive(Debug, clap::Args)]
pub(crate) struct RawToken {
    /// What the server's log calls who has it
    name: String,

    /// What it may see: a folder, or one video; several times for several [default: everything]
    #[arg(long = "prefix", value_name = "PREFIX")]
    prefixes: Vec<String>,

    /// Append the line to this file of tokens, and print the token alone
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(crate) fn run(raw: RawToken) -> anyhow::Result<ExitCode> {
    let RawToken {
        name,
        prefixes,
        file,
    } = raw;
    let token = make_token().ok().context("the system has no randomness")?;
    let entry = TokenEntry {
        name,
        digest: digest(&token),
        prefixes,
    };
    entry.check().map_err(anyhow::Error::msg)?;
    let mut out = std::io::stdout().lock();
    match file {
        Some(path) => {
            append(&path, &entry)?;
            writeln!(out, "{token}")?;
        }
        None => {
            writeln!(out, "token  {token}")?;
            writeln!(out, "line   {entry}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Appends a line, in one go. A new file is for its owner alone.
fn append(path: &Path, entry: &TokenEntry) -> anyhow::Result<()> {
    let shown = path.display();
    let before = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e).with_context(|| format!("cannot read {shown}")),
    };
    let broken = !before.is_empty() && !before.ends_with('\n');
    let line = format!("{}{entry}\n", if broken { "\n" } else { "" });
    read_tokens(&format!("{before}{line}")).with_context(|| shown.to_string())?;
    let mut options = OpenOptions::new();
    let options = options.append(true).create(true).mode(0o600);
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    written.with_context(|| format!("cannot write {shown}"))
}
