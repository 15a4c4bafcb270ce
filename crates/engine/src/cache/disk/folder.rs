//! The folder and its files. Everything is named relative to the opened folder, by names made here,
//! and no link is followed: nothing outside of it can be reached, whoever changes what it holds.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::entry::Name;
use super::error::DiskCacheError;
use super::index::Found;

/// Held by the cache that uses the folder. The system lets go of it when the process ends.
const LOCK: &str = "lock";
/// Files that have not got their names yet.
pub(super) const UNFINISHED: &str = "unfinished-";

/// Nobody else's business: videos may be private.
const FILE_MODE: Mode = Mode::from_raw_mode(0o600);
const FOLDER_MODE: u32 = 0o700;

/// An opened folder that no other cache uses.
pub(super) struct Folder {
    path: PathBuf,
    folder: OwnedFd,
    lock: OwnedFd,
    unfinished: AtomicU64,
}

impl Folder {
    /// Opens and locks the folder, made if need be; removes what was left unfinished, and says
    /// which finished files there are.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<Found>), DiskCacheError> {
        let refused = |action| {
            move |source: io::Error| DiskCacheError::Unusable {
                folder: path.to_owned(),
                action,
                source,
            }
        };
        if let Err(e) = fs::metadata(path)
            && e.kind() == io::ErrorKind::NotFound
        {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(FOLDER_MODE).create(path);
            made.map_err(refused("made"))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(|e| refused("opened")(e.into()))?;
        let lock = open_file(&folder, LOCK, OFlags::RDWR | OFlags::CREATE)
            .map_err(|e| refused("written")(e.into()))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let folder = path.to_owned();
                return Err(DiskCacheError::InUse { folder });
            }
            Err(e) => return Err(refused("locked")(e.into())),
        }
        let opened = Self {
            path: path.to_owned(),
            folder,
            lock,
            unfinished: AtomicU64::new(0),
        };
        let found = opened.list().map_err(refused("read"))?;
        opened.probe().map_err(refused("written"))?;
        Ok((opened, found))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The finished files; unfinished ones are removed.
    fn list(&self) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        for listed in fs::read_dir(&self.path)? {
            let listed = listed?;
            let file_name = listed.file_name();
            let Some(file) = file_name.to_str() else {
                continue;
            };
            if is_unfinished(file) {
                // If that fails, so does what `probe` tries, or it is a folder of somebody else's.
                let _ = self.unlink(file);
                continue;
            }
            let Some(name) = Name::parse(file) else {
                continue;
            };
            // Of the entry itself, not of what a link leads to.
            let Ok(metadata) = listed.metadata() else {
                continue;
            };
            if metadata.is_file() {
                found.push(Found {
                    name,
                    bytes: metadata.len(),
                    modified: metadata.modified()?,
                });
            }
        }
        Ok(found)
    }

    /// Whether files can be made and removed here.
    fn probe(&self) -> io::Result<()> {
        let name = self.unfinished_name();
        drop(self.create(&name)?);
        self.unlink(&name)
    }

    /// Writes a file, `head` before `value`. On failure there is none of this name.
    pub(super) fn write(&self, name: Name, head: &[u8], value: &[u8]) -> io::Result<()> {
        let unfinished = self.unfinished_name();
        let mut file = self.create(&unfinished)?;
        let written = file
            .write_all(head)
            .and_then(|()| file.write_all(value))
            .and_then(|()| {
                let to = name.to_string();
                rustix::fs::renameat(&self.folder, &unfinished, &self.folder, to)
                    .map_err(io::Error::from)
            });
        if written.is_err() {
            // What cannot be removed now is removed at the next start.
            let _ = self.unlink(&unfinished);
        }
        written
    }

    /// What is in a file of at most `largest` bytes; `None` if there is no such file.
    pub(super) fn read(&self, name: Name, largest: usize) -> io::Result<Option<Vec<u8>>> {
        // Opening a pipe that somebody put there must not wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let file = match open_file(&self.folder, &name.to_string(), flags) {
            Ok(file) => File::from(file),
            // Gone, or a link: not ours.
            Err(Errno::NOENT | Errno::LOOP | Errno::MLINK) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let metadata = file.metadata()?;
        let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        if !metadata.is_file() || length > largest {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(length);
        file.take(metadata.len()).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, name: Name) -> io::Result<()> {
        self.unlink(&name.to_string())
    }

    fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        Ok(File::from(open_file(&self.folder, name, flags)?))
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn unfinished_name(&self) -> String {
        let number = self.unfinished.fetch_add(1, Relaxed);
        format!("{UNFINISHED}{}-{number}", std::process::id())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closing would do, if no child of this process had a copy between its fork and its exec.
        let _ = rustix::fs::flock(&self.lock, FlockOperation::Unlock);
    }
}

fn open_file(folder: &OwnedFd, name: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, OsStr::new(name), flags, FILE_MODE)
}

fn is_unfinished(file: &str) -> bool {
    let numbers = file.strip_prefix(UNFINISHED);
    numbers.is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit() || b == b'-'))
}
