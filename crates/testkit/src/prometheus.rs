//! The real Prometheus, and its `promtool`, where they are to be had.

use std::path::{Path, PathBuf};
use std::process::Command;

/// One of its programs: by `PROMETHEUS_BIN` or `PROMTOOL_BIN`, else on the path. Where there is
/// none, that is said, and who asked leaves out what needs it: the package is not everywhere.
pub fn program(name: &str) -> Option<PathBuf> {
    let variable = format!("{}_BIN", name.to_uppercase());
    let named = std::env::var_os(&variable).map(PathBuf::from);
    let on_path = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places = std::env::split_paths(&path).map(|folder| folder.join(name));
        places.find(|place| place.is_file())
    };
    let found = named.filter(|p| p.is_file()).or_else(on_path);
    if found.is_none() {
        eprintln!("note: {name} is not there ({variable}): what needs it is left out");
    }
    found
}

/// Runs `promtool` in a folder; what it says where it finds fault. Nothing where it is not there.
///
/// # Errors
/// Its words.
pub fn promtool(folder: &Path, arguments: &[&str], input: &str) -> Result<(), String> {
    use std::io::Write as _;
    use std::process::Stdio;
    let Some(promtool) = program("promtool") else {
        return Ok(());
    };
    let run = || {
        let mut child = Command::new(promtool)
            .current_dir(folder)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        child.wait_with_output()
    };
    let output = run().map_err(|e| e.to_string())?;
    let says = [output.stdout, output.stderr].concat();
    let says = String::from_utf8_lossy(&says).into_owned();
    match output.status.success() {
        true => Ok(()),
        false => Err(says),
    }
}
