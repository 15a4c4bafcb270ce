//! Objects that are files below one folder.
//!
//! **Invariant:** every path is resolved by the kernel (or by cap-std, component by component)
//! relative to the root's handle, so no `..` and no symlink leads out, whatever is renamed
//! meanwhile.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use cap_fs_ext::OpenOptionsSyncExt;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, FileType, MetadataExt as _, OpenOptions};
use tokio::sync::Semaphore;

use crate::error::{StorageError, StorageErrorKind, shown};
use crate::list::{Entry, Listing, Page};
use crate::name::Location;
use crate::object::{Object, ObjectSettings, Opened, Source, Version};
use crate::place::{Beginning, Meaning, Place, is_beginning, plain};

/// Reads that may block at the same time: as many threads at the most wait for the disk.
const CONCURRENT_READS: usize = 32;

#[derive(Debug)]
pub(crate) struct LocalStore {
    /// Behind an `Arc` because it goes to blocking threads.
    root: Arc<Dir>,
    /// The root's absolute path as it was given, and with symlinks resolved: what may stand
    /// before the rest of an `fs://` name.
    prefixes: Vec<PathBuf>,
    gate: Arc<Semaphore>,
}

/// A file that is held open.
#[derive(Clone, Debug)]
pub(crate) struct LocalFile {
    file: Arc<File>,
    version: Version,
    gate: Arc<Semaphore>,
}

impl LocalStore {
    pub(crate) fn new(root: &Path) -> Result<Self, StorageError> {
        let misconfigured = |e: io::Error| {
            let message = format!(
                "the local store's root {} cannot be used: {e}",
                root.display()
            );
            StorageError::new(StorageErrorKind::Misconfigured, message)
        };
        let mut prefixes = vec![
            std::path::absolute(root).map_err(misconfigured)?,
            root.canonicalize().map_err(misconfigured)?,
        ];
        prefixes.dedup();
        let root = Dir::open_ambient_dir(root, ambient_authority()).map_err(misconfigured)?;
        let gate = Arc::new(Semaphore::new(CONCURRENT_READS));
        Ok(Self {
            root: Arc::new(root),
            prefixes,
            gate,
        })
    }

    pub(crate) async fn open(
        &self,
        name: &str,
        location: Location<'_>,
        head: u64,
        tail: u64,
        settings: &ObjectSettings,
    ) -> Result<Opened, StorageError> {
        let candidates = self.candidates(name, location)?;
        let root = Arc::clone(&self.root);
        let gate = Arc::clone(&self.gate);
        let owned_name = name.to_owned();
        let (file, size, head, tail) = blocking(&self.gate, name, move || {
            let attempt = || open_first(&root, &candidates, &owned_name, head, tail, &gate);
            match attempt() {
                // Written to between the first and the last of these reads: once more.
                Err(e) if e.kind() == StorageErrorKind::Changed => attempt(),
                other => other,
            }
        })
        .await?;
        for part in [&head, &tail] {
            settings.counters.request();
            settings.counters.received(part.len());
        }
        let version = file.version.clone();
        let object = Object::new(name, size, version, Source::Local(file), settings.clone());
        Ok(Opened { object, head, tail })
    }

    /// Looks whether the root is still there and can be read.
    pub(crate) async fn reach(&self) -> Result<(), StorageError> {
        let root = Arc::clone(&self.root);
        blocking(&self.gate, "", move || {
            let gone = || io::Error::from(io::ErrorKind::NotFound);
            let look = || -> io::Result<()> {
                if root.dir_metadata()?.nlink() == 0 {
                    return Err(gone());
                }
                root.entries()?.next().transpose().map(drop)
            };
            look().map_err(|e| {
                let message = format!("the local store's root cannot be read: {e}");
                StorageError::new(StorageErrorKind::Unavailable, message)
            })
        })
        .await
    }

    /// A page of what lies in a folder.
    pub(crate) async fn list(&self, page: Page<'_>) -> Result<Listing, StorageError> {
        let prefix = self.below_root(page.prefix);
        let prefix = prefix.ok_or_else(|| StorageError::outside(page.prefix))?;
        let prefix = prefix.to_owned();
        let (folder, stem) = match prefix.rsplit_once('/') {
            Some((folder, stem)) => (format!("{folder}/"), stem.to_owned()),
            None => (String::new(), prefix),
        };
        let root = Arc::clone(&self.root);
        let (limit, wanted) = (page.limit(), page.wanted);
        let after = page.cursor.map(str::to_owned);
        blocking(&self.gate, page.prefix, move || {
            list_folder(&root, &folder, &stem, limit, after.as_deref(), wanted)
        })
        .await
    }

    /// The part of a prefix that lies below the root.
    fn below_root<'a>(&self, prefix: &'a str) -> Option<&'a str> {
        match prefix.strip_prefix("fs://") {
            None => (!prefix.contains("://")).then_some(prefix),
            Some(path) => (self.prefixes.iter())
                .find_map(|own| path.strip_prefix(own.to_str()?)?.strip_prefix('/')),
        }
    }

    pub(crate) fn meanings(&self, name: &str, location: Location<'_>) -> Option<Vec<Meaning>> {
        let candidates = self.candidates(name, location).ok()?;
        let root = self.prefixes.first()?.to_str()?;
        let meaning = |path: PathBuf| {
            // As the system takes it: `.` and nothing are passed over.
            let path = path.to_str()?;
            let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
            let parts: Vec<&str> = parts.collect();
            let joined = parts.join("/");
            let path = plain(&joined).filter(|_| !path.starts_with('/'))?;
            Some(Meaning {
                place: Place {
                    bucket: None,
                    path: path.to_owned(),
                },
                name: format!("fs://{root}/{path}"),
            })
        };
        candidates.into_iter().map(meaning).collect()
    }

    pub(crate) fn place(&self, prefix: &str) -> Result<Place, &'static str> {
        let below = self.below_root(prefix).or_else(|| {
            // The root itself, without its last slash.
            let path = prefix.strip_prefix("fs://")?.trim_end_matches('/');
            let mut own = self.prefixes.iter();
            own.any(|own| own.to_str() == Some(path)).then_some("")
        });
        let path = below.ok_or("does not lie below the root of the store")?;
        let path = plain(path).ok_or("has a part that is no name")?;
        Ok(Place {
            bucket: None,
            path: path.to_owned(),
        })
    }

    pub(crate) fn beginning(&self, prefix: &str) -> Option<Beginning> {
        let text = self.below_root(prefix).filter(|text| is_beginning(text))?;
        Some(Beginning {
            bucket: None,
            text: text.to_owned(),
            full: false,
        })
    }

    /// The relative paths that a name may mean, the likeliest first.
    fn candidates(&self, name: &str, location: Location<'_>) -> Result<Vec<PathBuf>, StorageError> {
        match location {
            Location::Plain(path) => {
                let path = Path::new(path);
                let mut candidates = vec![path.to_owned()];
                // `data/test.h265` where the root is `./data`.
                for own_name in self.prefixes.iter().filter_map(|p| p.file_name()) {
                    if let Ok(rest) = path.strip_prefix(own_name)
                        && !candidates.iter().any(|c| c == rest)
                    {
                        candidates.push(rest.to_owned());
                    }
                }
                Ok(candidates)
            }
            Location::Absolute(path) => self
                .prefixes
                .iter()
                .find_map(|prefix| Path::new(path).strip_prefix(prefix).ok())
                .map(|rest| vec![rest.to_owned()])
                .ok_or_else(|| StorageError::outside(name)),
            Location::Bucket { .. } => Err(StorageError::outside(name)),
        }
    }
}

type Read = (LocalFile, u64, Bytes, Bytes);

/// Opens the first of the paths that exists.
fn open_first(
    root: &Dir,
    candidates: &[PathBuf],
    name: &str,
    head: u64,
    tail: u64,
    gate: &Arc<Semaphore>,
) -> Result<Read, StorageError> {
    let mut missing = StorageError::not_found(name);
    for path in candidates {
        match open_at(root, path, name, head, tail, gate) {
            Err(e) if e.kind() == StorageErrorKind::NotFound => missing = e,
            other => return other,
        }
    }
    Err(missing)
}

fn open_at(
    root: &Dir,
    path: &Path,
    name: &str,
    head: u64,
    tail: u64,
    gate: &Arc<Semaphore>,
) -> Result<Read, StorageError> {
    if path.as_os_str().is_empty() {
        return Err(not_a_file(name));
    }
    // Looked at before it is opened, because opening a device can do something; and again after
    // it, because it may have been another one by then. A FIFO without a writer does not block.
    let failed = |e: io::Error| from_io(name, &e);
    if !root.metadata(path).map_err(failed)?.is_file() {
        return Err(not_a_file(name));
    }
    let mut options = OpenOptions::new();
    options.read(true).nonblock(true);
    let file = root.open_with(path, &options).map_err(failed)?.into_std();
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(not_a_file(name));
    }
    let size = metadata.len();
    let file = LocalFile {
        file: Arc::new(file),
        version: version_of(&metadata),
        gate: Arc::clone(gate),
    };
    let head = file.read_now(name, 0..size.min(head))?;
    let tail = file.read_now(name, size.saturating_sub(tail)..size)?;
    Ok((file, size, head, tail))
}

impl LocalFile {
    pub(crate) async fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes, StorageError> {
        let file = self.clone();
        let owned_name = name.to_owned();
        blocking(&self.gate, name, move || file.read_now(&owned_name, range)).await
    }

    /// Reads on this thread, then looks whether the file is still what was opened.
    fn read_now(&self, name: &str, range: Range<u64>) -> Result<Bytes, StorageError> {
        let failed = |e: io::Error| from_io(name, &e);
        let too_large = || {
            let length = range.end.saturating_sub(range.start);
            let message = format!("{}: no memory for {length} bytes", shown(name));
            StorageError::new(StorageErrorKind::Unavailable, message)
        };
        let length = usize::try_from(range.end.saturating_sub(range.start));
        let length = length.map_err(|_| too_large())?;
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(length).map_err(|_| too_large())?;
        buffer.resize(length, 0);
        let read = self.file.read_exact_at(&mut buffer, range.start);
        if version_of(&self.file.metadata().map_err(failed)?) != self.version {
            return Err(StorageError::changed(name));
        }
        read.map_err(failed)?;
        Ok(Bytes::from(buffer))
    }
}

/// The first names of a folder behind `after`; never more of them are held than a page has.
fn list_folder(
    root: &Dir,
    folder: &str,
    stem: &str,
    limit: usize,
    after: Option<&str>,
    wanted: fn(&str) -> bool,
) -> Result<Listing, StorageError> {
    let failed = |e: io::Error| match e.kind() {
        // It is a file: nothing lies below it.
        io::ErrorKind::NotADirectory => StorageError::not_found(folder),
        _ => from_io(folder, &e),
    };
    // A slash at the beginning, or two in a row, are in no name that a listing gives.
    if folder == "/" || folder.starts_with('/') || folder.contains("//") || folder.contains('\0') {
        return Err(StorageError::not_found(folder));
    }
    let path = Path::new(if folder.is_empty() { "." } else { folder });
    let mut first = BTreeSet::new();
    let mut more = false;
    for entry in root.read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else {
            // No name in UTF-8: no request can say it.
            continue;
        };
        if !name.starts_with(stem) {
            continue;
        }
        let full = format!("{folder}{name}");
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        let Some(key) = listed_as(root, &full, kind, wanted) else {
            continue;
        };
        let beyond = first.len() >= limit && first.last().is_some_and(|last| *last < key);
        if after.is_some_and(|after| key.as_str() <= after) {
            continue;
        }
        more |= beyond;
        if !beyond {
            first.insert(key);
            if first.len() > limit {
                first.pop_last();
                more = true;
            }
        }
    }
    let cursor = first.last().cloned();
    let mut listing = Listing {
        cursor: cursor.filter(|_| more),
        ..Listing::default()
    };
    for name in first {
        if name.ends_with('/') {
            listing.folders.push(name);
            continue;
        }
        // Removed meanwhile: not there.
        let Ok(metadata) = root.metadata(&name) else {
            continue;
        };
        if !metadata.is_file() {
            continue;
        }
        let modified = metadata.modified().ok().map(|m| m.into_std());
        let version = Version::File {
            size: metadata.len(),
            modified,
            device: metadata.dev(),
            inode: metadata.ino(),
        };
        listing
            .objects
            .push(Entry::new(name, metadata.len(), modified, version));
    }
    Ok(listing)
}

/// What an entry of a folder is listed as, a folder with a slash at its end; `None`: it is not.
/// Where a symbolic link leads is looked at from the root, which it must not leave.
fn listed_as(root: &Dir, name: &str, kind: FileType, wanted: fn(&str) -> bool) -> Option<String> {
    if kind.is_dir() {
        return Some(format!("{name}/"));
    }
    if kind.is_file() {
        return wanted(name).then(|| name.to_owned());
    }
    if !kind.is_symlink() {
        return None;
    }
    let metadata = root.metadata(name).ok()?;
    if metadata.is_dir() {
        return Some(format!("{name}/"));
    }
    (metadata.is_file() && wanted(name)).then(|| name.to_owned())
}

fn version_of(metadata: &std::fs::Metadata) -> Version {
    Version::File {
        size: metadata.len(),
        modified: metadata.modified().ok(),
        device: metadata.dev(),
        inode: metadata.ino(),
    }
}

/// Runs what waits for the disk on a thread that may wait, when there is one free.
async fn blocking<T: Send + 'static>(
    gate: &Arc<Semaphore>,
    name: &str,
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    let unavailable = |what: &str| {
        StorageError::new(
            StorageErrorKind::Unavailable,
            format!("{}: {what}", shown(name)),
        )
    };
    let permit = Arc::clone(gate)
        .acquire_owned()
        .await
        .map_err(|_| unavailable("closed"))?;
    tokio::task::spawn_blocking(move || {
        let result = work();
        drop(permit);
        result
    })
    .await
    .map_err(|_| unavailable("the read was abandoned"))?
}

fn not_a_file(name: &str) -> StorageError {
    StorageError::new(
        StorageErrorKind::InvalidName,
        format!("{} is not a regular file", shown(name)),
    )
}

fn from_io(name: &str, error: &io::Error) -> StorageError {
    use io::ErrorKind as Io;
    // A loop of symlinks leads nowhere. Its `ErrorKind` is not stable yet.
    if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return StorageError::not_found(name);
    }
    let (kind, why) = match error.kind() {
        Io::NotFound | Io::NotADirectory => return StorageError::not_found(name),
        // cap-std's own refusal; the system's comes with its error number.
        Io::PermissionDenied if error.raw_os_error().is_none() => {
            return StorageError::outside(name);
        }
        Io::PermissionDenied => (StorageErrorKind::Forbidden, "may not be read".to_owned()),
        Io::InvalidInput | Io::InvalidFilename | Io::IsADirectory => (
            StorageErrorKind::InvalidName,
            "is not the name of a file".to_owned(),
        ),
        Io::TimedOut => (StorageErrorKind::Timeout, "was not read in time".to_owned()),
        Io::UnexpectedEof => return StorageError::changed(name),
        _ => (
            StorageErrorKind::Unavailable,
            format!("cannot be read: {error}"),
        ),
    };
    StorageError::new(kind, format!("{} {why}", shown(name)))
}
