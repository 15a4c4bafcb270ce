//! Folder mode: which files are taken, where their results go, and the table at the end.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::video::{Converted, default_output};

/// Extensions that folder mode takes for videos, in lower case. `.h265` is not among them, since
/// results are called so.
const VIDEO_EXTENSIONS: &[&str] = &[
    "265", "3gp", "avi", "flv", "hevc", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts",
    "mxf", "ts", "webm", "wmv", "y4m",
];

/// How deep folders are looked into.
const DEPTH_LIMIT: usize = 64;

/// A video of a folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    /// Where it lies.
    pub(crate) input: PathBuf,
    /// Its result's place below the output folder.
    pub(crate) below: PathBuf,
}

/// The videos of a folder, by name. Hidden files and linked folders are passed over.
pub(crate) fn find(folder: &Path, recursive: bool) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    walk(
        folder,
        Path::new(""),
        if recursive { DEPTH_LIMIT } else { 0 },
        &mut found,
    )?;
    found.sort_by(|a, b| a.input.cmp(&b.input));
    Ok(found)
}

fn walk(folder: &Path, below: &Path, depth: usize, found: &mut Vec<Found>) -> anyhow::Result<()> {
    let cannot = || format!("cannot read the folder {}", folder.display());
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            if let Some(depth) = depth.checked_sub(1) {
                walk(&path, &below.join(&name), depth, found)?;
            }
        } else if is_video(&path) && path.is_file() {
            found.push(Found {
                input: path,
                below: default_output(&below.join(&name)),
            });
        }
    }
    Ok(())
}

fn is_video(path: &Path) -> bool {
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .map(str::to_ascii_lowercase);
    extension.is_some_and(|e| VIDEO_EXTENSIONS.contains(&e.as_str()))
}

/// For each video whose result has the name of an earlier one's: that earlier video.
pub(crate) fn collisions(found: &[Found]) -> HashMap<PathBuf, PathBuf> {
    let mut first: HashMap<&Path, &Path> = HashMap::new();
    let mut later = HashMap::new();
    for f in found {
        match first.get(f.below.as_path()) {
            Some(earlier) => {
                later.insert(f.input.clone(), earlier.to_path_buf());
            }
            None => {
                first.insert(&f.below, &f.input);
            }
        }
    }
    later
}

/// What became of one video of a folder.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A result was written.
    Converted(Converted),
    /// Its result exists already.
    Skipped,
    /// Why there is none.
    Failed(anyhow::Error),
}

/// The table at the end of a batch, with a last line that counts.
pub(crate) fn table(outcomes: &[(PathBuf, Outcome)]) -> String {
    let mut rows = vec![["FILE", "RESULT", "FRAMES", "SIZE", "CLOSURE", "NOTE"].map(String::from)];
    let (mut converted, mut skipped, mut failed) = (0u32, 0u32, 0u32);
    for (file, outcome) in outcomes {
        let file = file.display().to_string();
        rows.push(match outcome {
            Outcome::Converted(c) => {
                converted += 1;
                let closure = c
                    .closure
                    .map_or_else(String::new, |r| format!("{:.1}", r.mean));
                let (frames, size) = (c.frames.to_string(), human_size(c.bytes));
                [
                    file,
                    "converted".into(),
                    frames,
                    size,
                    closure,
                    c.notes.join("; "),
                ]
            }
            Outcome::Skipped => {
                skipped += 1;
                let empty = String::new;
                [
                    file,
                    "skipped".into(),
                    empty(),
                    empty(),
                    empty(),
                    "exists already".into(),
                ]
            }
            Outcome::Failed(e) => {
                failed += 1;
                let empty = String::new;
                [
                    file,
                    "failed".into(),
                    empty(),
                    empty(),
                    empty(),
                    format!("{e:#}"),
                ]
            }
        });
    }
    let mut widths = [0usize; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text.push_str(&format!(
        "{converted} converted, {skipped} skipped, {failed} failed\n"
    ));
    text
}

/// `1.2 MB`, in steps of 1000.
pub(crate) fn human_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.95 {
            return if unit == "B" {
                format!("{bytes} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: &[Found]) -> Vec<String> {
        found
            .iter()
            .map(|f| f.below.to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn a_folders_videos_are_found_by_extension() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        fs::create_dir_all(dir.join("sub/deeper")).unwrap();
        for name in [
            "b.MP4",
            "a.mov",
            "c.h265",
            "d.txt",
            ".x.mp4",
            "sub/e.mkv",
            "sub/deeper/f.ts",
        ] {
            fs::write(dir.join(name), b"").unwrap();
        }
        fs::create_dir(dir.join("folder.mp4")).unwrap();
        assert_eq!(names(&find(dir, false).unwrap()), ["a.h265", "b.h265"]);
        let all = find(dir, true).unwrap();
        assert_eq!(
            names(&all),
            ["a.h265", "b.h265", "sub/deeper/f.h265", "sub/e.h265"]
        );
    }

    #[test]
    fn two_videos_never_share_a_result() {
        let found = |name: &str| Found {
            input: name.into(),
            below: default_output(Path::new(name)),
        };
        let all = [found("a.mov"), found("a.mp4"), found("b.mp4")];
        let later = collisions(&all);
        assert_eq!(later.len(), 1);
        assert_eq!(later[Path::new("a.mp4")], Path::new("a.mov"));
    }

    #[test]
    fn the_table_has_straight_columns_and_a_count() {
        let converted = Converted {
            frames: 120,
            bytes: 1_234_567,
            closure: Some(ClosureReport { mean: 4.25, max: 9 }),
            notes: vec![],
        };
        let rows = [
            ("a.mp4".into(), Outcome::Converted(converted)),
            ("longer.mp4".into(), Outcome::Skipped),
            (
                "c.mp4".into(),
                Outcome::Failed(anyhow::anyhow!("inner").context("outer")),
            ),
        ];
        assert_eq!(
            table(&rows),
            "\
FILE        RESULT     FRAMES  SIZE    CLOSURE  NOTE
a.mp4       converted  120     1.2 MB  4.2
longer.mp4  skipped                             exists already
c.mp4       failed                              outer: inner
1 converted, 1 skipped, 1 failed
"
        );
    }

    use crate::closure::ClosureReport;

    #[test]
    fn sizes_have_three_digits() {
        assert_eq!(human_size(0), "0 B");
        assert_eq!(human_size(999), "999 B");
        assert_eq!(human_size(1000), "1.0 kB");
        assert_eq!(human_size(999_999), "1.0 MB");
        assert_eq!(human_size(u64::MAX), "18446744.1 TB");
    }
}
