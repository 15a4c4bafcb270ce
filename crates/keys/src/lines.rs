//! Files of one entry a line; empty lines and those that begin with `#` say nothing.

/// A line that cannot be. It is not shown: there may be a secret in it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

/// Reads each line that says something.
pub(crate) fn read<T>(
    text: &str,
    mut entry: impl FnMut(&str) -> Result<T, String>,
) -> Result<Vec<T>, BadLine> {
    let lines = text.lines().map(str::trim).zip(1..);
    let lines = lines.filter(|(text, _)| !text.is_empty() && !text.starts_with('#'));
    let read = lines.map(|(text, line)| entry(text).map_err(|why| BadLine { line, why }));
    read.collect()
}
