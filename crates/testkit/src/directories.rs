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

/// Real camera files, sorted by name: those in `BUCKET_STREAMER_FOOTAGE`, else in
/// `../shared/footage` beside the workspace. `None` where there is no such folder; a test that
/// wants them says so and passes.
pub fn camera_files() -> Option<Vec<PathBuf>> {
    let named = env::var_os("BUCKET_STREAMER_FOOTAGE").filter(|value| !value.is_empty());
    let folder = named.map_or_else(|| workspace().join("../shared/footage"), PathBuf::from);
    let Ok(entries) = folder.read_dir() else {
        eprintln!(
            "note: no camera footage at {}: its part of this test is skipped",
            folder.display()
        );
        return None;
    };
    let mut files: Vec<_> = entries
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.is_file() && path.extension().is_none_or(|e| e != "md"))
        .collect();
    files.sort();
    Some(files)
}
