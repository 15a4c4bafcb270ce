//! `repo-cli devshell`: a command in the development container.

use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use anyhow::Context as _;

/// The service of the compose file that is the development container.
const SERVICE: &str = "dev";

/// What compose looks for, in its order.
const COMPOSE_FILES: &[&str] = &[
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
];

/// What can run a compose file, in the order in which it is tried.
const ENGINES: &[&[&str]] = &[
    &["docker", "compose"],
    &["docker-compose"],
    &["podman", "compose"],
];

/// `repo-cli devshell`, as typed.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The container is the service `dev` of the nearest compose file, in this \
folder or above. The command's exit code is passed on."
)]
pub(crate) struct RawDevshell {
    /// The command and its arguments [default: a shell]
    #[arg(
        value_name = "CMD",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<OsString>,
}

/// Runs the subcommand.
pub(crate) fn run(raw: &RawDevshell) -> anyhow::Result<ExitCode> {
    let here = std::env::current_dir().context("the current folder cannot be told")?;
    let file = compose_file(&here).with_context(|| {
        format!(
            "no compose file ({}) in {} or above",
            COMPOSE_FILES.join(", "),
            here.display()
        )
    })?;
    let engine = ENGINES.iter().find(|e| answers(e)).context(
        "no container engine answers: install Docker with its compose plugin, or podman with \
         podman-compose",
    )?;
    let args = arguments(engine, &file, &raw.command, std::io::stdin().is_terminal());
    let (program, rest) = args.split_first().context("no engine")?;
    let status = Command::new(program)
        .args(rest)
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    Ok(ExitCode::from(exit_code(status)))
}

/// The nearest compose file, from a folder upwards.
fn compose_file(from: &Path) -> Option<PathBuf> {
    from.ancestors()
        .flat_map(|folder| COMPOSE_FILES.iter().map(move |name| folder.join(name)))
        .find(|file| file.is_file())
}

/// Whether `ENGINE version` works.
fn answers(engine: &[&str]) -> bool {
    let Some((program, rest)) = engine.split_first() else {
        return false;
    };
    let status = Command::new(program)
        .args(rest)
        .arg("version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match status {
        Ok(status) => status.success(),
        Err(e) => e.kind() != ErrorKind::NotFound && e.kind() != ErrorKind::PermissionDenied,
    }
}

fn arguments(engine: &[&str], file: &Path, command: &[OsString], terminal: bool) -> Vec<OsString> {
    let mut args: Vec<OsString> = engine.iter().map(OsString::from).collect();
    args.extend([
        "-f".into(),
        file.as_os_str().to_owned(),
        "run".into(),
        "--rm".into(),
    ]);
    if !terminal {
        args.push("-T".into());
    }
    args.push(SERVICE.into());
    if command.is_empty() {
        args.push("bash".into());
    }
    args.extend_from_slice(command);
    args
}

/// What a shell reports: the program's own code, or 128 and the signal that ended it.
fn exit_code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    let signal = None;
    let code = status
        .code()
        .or_else(|| signal.map(|s: i32| s.saturating_add(128)));
    code.and_then(|c| u8::try_from(c).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_compose_file_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(folder.path().join("docker-compose.yml"), "").unwrap();
        assert_eq!(
            compose_file(&deep).unwrap(),
            folder.path().join("docker-compose.yml")
        );
        std::fs::write(folder.path().join("a/compose.yaml"), "").unwrap();
        assert_eq!(
            compose_file(&deep).unwrap(),
            folder.path().join("a/compose.yaml")
        );
    }

    #[test]
    fn the_command_is_passed_as_it_is() {
        let command = ["cargo".into(), "test".into(), "--".into(), "-x y".into()];
        let args = arguments(
            &["docker", "compose"],
            Path::new("/w/compose.yaml"),
            &command,
            false,
        );
        let line = args
            .join(OsString::from("|").as_os_str())
            .into_string()
            .unwrap();
        assert_eq!(
            line,
            "docker|compose|-f|/w/compose.yaml|run|--rm|-T|dev|cargo|test|--|-x y"
        );
        let args = arguments(&["podman", "compose"], Path::new("c"), &[], true);
        assert_eq!(
            args.join(OsString::from("|").as_os_str()),
            "podman|compose|-f|c|run|--rm|dev|bash"
        );
    }
}
