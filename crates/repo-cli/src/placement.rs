//! Files that appear whole or not at all.
//!
//! Work goes to a hidden temporary file in the folder of its destination and is renamed when it
//! is finished. Dropping it before that deletes it.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// A file that is being written and does not yet stand at its destination.
#[derive(Debug)]
pub(crate) struct Pending {
    temporary: tempfile::TempPath,
    destination: PathBuf,
    overwrite: bool,
}

impl Pending {
    /// An empty temporary file beside `destination`, whose folder is made where it is missing.
    pub(crate) fn new(destination: &Path, overwrite: bool) -> anyhow::Result<Self> {
        let folder = folder_of(destination);
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".repo-cli-").suffix(".partial");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            // What a plain new file would get (the umask still applies): others read it later.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let temporary = builder
            .tempfile_in(folder)
            .with_context(|| format!("cannot write into {}", folder.display()))?
            .into_temp_path();
        Ok(Self {
            temporary,
            destination: destination.to_owned(),
            overwrite,
        })
    }

    /// Where to write.
    pub(crate) fn path(&self) -> &Path {
        &self.temporary
    }

    /// Puts the finished file at its destination in one step.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        let renamed = if self.overwrite {
            self.temporary.persist(&self.destination)
        } else {
            self.temporary.persist_noclobber(&self.destination)
        };
        match renamed {
            Ok(()) => Ok(()),
            Err(e) if e.error.kind() == ErrorKind::AlreadyExists => {
                Err(exists_already(&self.destination))
            }
            Err(e) => {
                let name = self.destination.display();
                Err(e.error).with_context(|| format!("cannot write {name}"))
            }
        }
    }
}

/// What is not overwritten without being told to.
pub(crate) fn exists_already(path: &Path) -> anyhow::Error {
    anyhow::anyhow!("{} exists already (--force overwrites it)", path.display())
}

/// The folder that a path lies in; the current one for a bare file name.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

/// Writes a small file whole.
pub(crate) fn write(destination: &Path, content: &[u8], overwrite: bool) -> anyhow::Result<()> {
    let pending = Pending::new(destination, overwrite)?;
    let mut file = fs::OpenOptions::new().write(true).open(pending.path())?;
    file.write_all(content)
        .with_context(|| format!("cannot write {}", destination.display()))?;
    drop(file);
    pending.finish()
}

/// The path as an absolute one, without a look at what it names.
pub(crate) fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} has no absolute form", path.display()))
}

/// `NAME` plus a suffix: `a.h265` → `a.h265.offsets.json`.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut all: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        all.sort();
        all
    }

    #[test]
    fn an_unfinished_file_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let pending = Pending::new(&folder.path().join("a"), false).unwrap();
        fs::write(pending.path(), b"half").unwrap();
        assert_eq!(names(folder.path()).len(), 1);
        drop(pending);
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn what_appeared_in_the_meantime_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        let pending = Pending::new(&target, false).unwrap();
        fs::write(&target, b"other").unwrap();
        let error = pending.finish().unwrap_err().to_string();
        assert!(error.contains("exists already"), "{error}");
        assert_eq!(fs::read(&target).unwrap(), b"other");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn force_overwrites_in_one_step() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        write(&target, b"1", false).unwrap();
        write(&target, b"2", true).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"2");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_the_result_as_far_as_the_umask_allows() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        fs::write(&plain, b"").unwrap();
        let ours = folder.path().join("ours");
        write(&ours, b"", false).unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
