//! The offsets file of a video, as far as a client needs it.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// The file; keys that are not needed here are passed over.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(crate) struct FramesFile {
    /// Where the video lies.
    pub(crate) video_url: Option<String>,
    /// In presentation order.
    pub(crate) frames: Vec<Frame>,
}

/// One frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub(crate) struct Frame {
    /// Position of its sample in the video, in bytes.
    pub(crate) offset: u64,
    /// Position of the IRAP that a plain decoder starts from.
    pub(crate) irap_offset: Option<u64>,
}

/// Reads an offsets file with at least one frame.
pub(crate) fn read(path: &Path) -> anyhow::Result<FramesFile> {
    let name = path.display();
    let text = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
    let file: FramesFile =
        serde_json::from_slice(&text).with_context(|| format!("{name} is not an offsets file"))?;
    ensure!(!file.frames.is_empty(), "{name} lists no frames");
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(content: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.json");
        std::fs::write(&path, content).unwrap();
        format!("{:#}", read(&path).unwrap_err())
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_in_one_line() {
        for (content, reason) in [
            ("", "is not an offsets file: EOF"),
            ("\u{0}\u{0}\u{0}\u{18}ftyp", "is not an offsets file"),
            ("{\"frames\":3}", "expected a sequence"),
            ("{\"video_url\":\"a\"}", "missing field `frames`"),
            (
                "{\"frames\":[{\"irap_offset\":0}]}",
                "missing field `offset`",
            ),
            ("{\"frames\":[{\"offset\":-1}]}", "expected u64"),
            ("{\"frames\":[]}", "lists no frames"),
        ] {
            let error = error(content);
            assert!(error.contains(reason) && !error.contains('\n'), "{error}");
        }
        let missing = format!("{:#}", read(Path::new("/nowhere/f")).unwrap_err());
        assert!(missing.starts_with("cannot read /nowhere/f: "), "{missing}");
    }
}
