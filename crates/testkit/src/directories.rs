//! Where things lie: the workspace, its build output, the footage cache, real camera files.

use std::env;
use std::path::{Path, PathBuf};

/// The workspace root.
pub fn workspace() -> PathBuf {
    // The manifest directory is `<root>/crates/testkit`.
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_owned()
}

/// Folder of the programs that were built with the running test or benchmark:
/// `target/<profile>`, two levels above `target/<profile>/deps/<test>`.
pub fn programs() -> PathBuf {
    let own = env::current_exe().unwrap_or_default();
    let folder = own.parent().unwrap_or(Path::new("."));
    if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    }
    .to_owned()
}

/// Where made clips are kept: `BUCKET_STREAMER_FOOTAGE_CACHE`, else `target/footage`.
pub fn footage_cache() -> PathBuf {
    let named = env::var_os("BUCKET_STREAMER_FOOTAGE_CACHE").filter(|value| !value.is_empty());
    named.map_or_else(
        || {
            let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
            workspace()
                .join(target.unwrap_or_else(|| "target".into()))
                .join("footage")
        },
        PathBuf::from,
    )
}

/// Real camera files and conformance streams, sorted by path: those in `BUCKET_STREAMER_FOOTAGE`,
/// else in `../shared/footage` beside the workspace, subfolders included. `None` where there is no
/// such folder; a test that wants them says so and passes.
pub fn camera_files() -> Option<Vec<PathBuf>> {
    let named = env::var_os("BUCKET_STREAMER_FOOTAGE").filter(|value| !value.is_empty());
    let folder = named.map_or_else(|| workspace().join("../shared/footage"), PathBuf::from);
    if !folder.is_dir() {
        eprintln!(
            "note: no camera footage at {}: its part of this test is skipped",
            folder.display()
        );
        return None;
    }
    let mut files = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        let entries = folder.read_dir().into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if !is_note(&path) {
                files.push(path);
            }
        }
    }
    files.sort();
    Some(files)
}

/// Text and checksums that lie beside streams.
fn is_note(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    [
        "md", "md5", "txt", "doc", "docx", "zip", "yuv", "csv", "json",
    ]
    .contains(&extension)
}
