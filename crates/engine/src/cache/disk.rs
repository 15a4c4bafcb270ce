//! The tier on disk: values that outlive the process, in files of their own.
//!
//! ```text
//! put ─► Queue ─► writer thread: Index says what must go ─► Folder: remove, write, rename
//! get ─► Index ─► blocking thread: Folder: read ─► entry::value: the very bytes, or a miss
//! ```
//!
//! Nothing but the files is kept: at a start the index is rebuilt from their names and sizes. So
//! there is no state that a crash could leave half written. A file has its final name only when all
//! of it has been handed to the system, and is believed only when its checksum and its key are
//! right: what a kill, a power cut, a bad disk or another program leaves there is a miss.

mod entry;
mod error;
mod folder;
mod index;
mod queue;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;

use entry::{Damage, Name};
pub use error::DiskCacheError;
use folder::Folder;
use index::Index;
use queue::{Job, Queue};

/// The longest key that is kept, in bytes.
const MAX_KEY_BYTES: usize = 4 << 10;
/// The largest value that is kept.
const MAX_VALUE_BYTES: usize = 16 << 20;
/// Values that wait for the writer, in bytes; what comes beyond is dropped.
const MAX_QUEUED_BYTES: usize = 16 << 20;
/// Files that are being read, in KiB together.
const MAX_READING_KIB: usize = 16 << 10;

/// Values in files of one folder, bounded in bytes, at hand again after a restart.
///
/// A folder belongs to one `DiskCache` at a time. Its own files are those whose names it would
/// give; others in the folder are neither read nor touched, and files outside of it never are.
///
/// In memory it holds about 60 bytes for each file (at most 2^19 files), up to 16 MiB that wait to
/// be written, and up to 16 MiB that are being read.
///
/// Dropping it writes what still waits, and gives the folder free.
pub struct DiskCache {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    folder: Folder,
    index: Index,
    queue: Queue,
    reading: Arc<Semaphore>,
    counters: Counters,
    trouble: Mutex<Trouble>,
    /// Whether the folder took what was last written.
    writable: AtomicBool,
}

/// What is known of a folder that refuses: a disk that is full, or gone.
#[derive(Debug, Default)]
struct Trouble {
    /// Nothing is written before this. Each refusal in a row makes the pause twice as long.
    until: Option<Instant>,
    pause: Duration,
    /// When it was last said in the log.
    said: Option<Instant>,
    /// It was said, and not yet that it has passed.
    unrevoked: bool,
}

/// Whether something stands in the way of one file, and of no other.
fn is_of_one_name(error: &io::Error) -> bool {
    use io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::IsADirectory | ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty
    )
}

/// How long nothing is written after a refusal, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often a trouble that lasts is said.
const SAY_AGAIN: Duration = Duration::from_secs(600);

/// What a [`DiskCache`] has done since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DiskCacheCounters {
    /// Values found.
    pub hits: u64,
    /// Values not found, damaged ones included.
    pub misses: u64,
    /// Values not served because their files were not what had been written.
    pub damaged: u64,
    /// Values written.
    pub written: u64,
    /// Values dropped because too much waited for the writer already.
    pub dropped: u64,
    /// Values dropped because they are too large: over 16 MiB, or over half of the budget.
    pub too_large: u64,
    /// Reads, writes and removals that the system refused.
    pub failed: u64,
    /// Values not written, since the folder had just refused others.
    pub skipped: u64,
}

#[derive(Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    damaged: AtomicU64,
    written: AtomicU64,
    dropped: AtomicU64,
    too_large: AtomicU64,
    failed: AtomicU64,
    skipped: AtomicU64,
}

impl DiskCache {
    /// Opens the cache in `folder`, which is made if it is not there, for at most `bytes` of files
    /// (in blocks of 4 KiB, as most filesystems give them out).
    ///
    /// What an earlier process left is taken over, newest first, as far as `bytes` allow; the rest
    /// of it is removed. Blocks for a look at each file.
    ///
    /// # Errors
    /// When the folder cannot be made, read or written, or when it is in use by another cache.
    pub fn open(folder: &Path, bytes: u64) -> Result<Self, DiskCacheError> {
        let (folder, found) = Folder::open(folder)?;
        let shared = Arc::new(Shared {
            folder,
            index: Index::new(bytes),
            queue: Queue::new(MAX_QUEUED_BYTES),
            reading: Arc::new(Semaphore::new(MAX_READING_KIB)),
            counters: Counters::default(),
            trouble: Mutex::default(),
            writable: AtomicBool::new(true),
        });
        for name in shared.index.take_over(found) {
            shared.remove(name);
        }
        let writer = std::thread::Builder::new()
            .name("cache-writer".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.write_queued()
            })
            .map_err(DiskCacheError::Thread)?;
        Ok(Self {
            shared,
            writer: Some(writer),
        })
    }

    /// The value of `key`: what was put last under it, or nothing.
    ///
    /// Must be called within a tokio runtime, whose blocking threads do the reading. Dropping the
    /// future gives up the value; reading a file ends by itself.
    pub async fn get(&self, key: &str) -> Option<Bytes> {
        let value = self.find(key).await;
        let counters = &self.shared.counters;
        let counter = match value {
            Some(_) => &counters.hits,
            None => &counters.misses,
        };
        counter.fetch_add(1, Relaxed);
        value
    }

    async fn find(&self, key: &str) -> Option<Bytes> {
        let name = Name::of(key);
        let bytes = self.shared.index.touch(name)?;
        let kib = usize::try_from(bytes.div_ceil(1024)).unwrap_or(usize::MAX);
        let permits = u32::try_from(kib.min(MAX_READING_KIB)).ok()?;
        let reading = Arc::clone(&self.shared.reading);
        let permit = reading.acquire_many_owned(permits).await.ok()?;
        let shared = Arc::clone(&self.shared);
        let key = key.to_owned();
        let read = tokio::task::spawn_blocking(move || {
            let value = shared.read(name, &key);
            drop(permit);
            value
        });
        read.await.ok().flatten()
    }

    /// Whether a value of so many bytes is not too large to be kept.
    pub fn takes(&self, bytes: u64) -> bool {
        bytes <= MAX_VALUE_BYTES as u64 && self.shared.index.fits(bytes)
    }

    /// Keeps `value` under `key`, in place of what was there: soon, on a thread of its own. Never
    /// waits; when the disk is slower than its callers, values are dropped.
    pub fn put(&self, key: String, value: Bytes) {
        let counters = &self.shared.counters;
        let fits = key.len() <= MAX_KEY_BYTES
            && value.len() <= MAX_VALUE_BYTES
            && self.shared.index.fits(entry::file_bytes(&key, &value));
        if !fits {
            counters.too_large.fetch_add(1, Relaxed);
        } else if !self.shared.queue.push(Job::Put { key, value }) {
            counters.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Returns when all that was put before is written or given up.
    pub async fn flush(&self) {
        let (done, written) = tokio::sync::oneshot::channel();
        self.shared.queue.push(Job::Tell(done));
        // The writer answers or is gone: it has nothing more to write then, either.
        let _ = written.await;
    }

    /// Files kept.
    pub fn len(&self) -> usize {
        self.shared.index.len()
    }

    /// Whether no file is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the files kept, in blocks of 4 KiB.
    pub fn bytes(&self) -> u64 {
        self.shared.index.bytes()
    }

    /// What has been done so far.
    pub fn counters(&self) -> DiskCacheCounters {
        let c = &self.shared.counters;
        DiskCacheCounters {
            hits: c.hits.load(Relaxed),
            misses: c.misses.load(Relaxed),
            damaged: c.damaged.load(Relaxed),
            written: c.written.load(Relaxed),
            dropped: c.dropped.load(Relaxed),
            too_large: c.too_large.load(Relaxed),
            failed: c.failed.load(Relaxed),
            skipped: c.skipped.load(Relaxed),
        }
    }

    /// Bytes that the files may take.
    pub fn budget(&self) -> u64 {
        self.shared.index.budget()
    }

    /// Whether the folder took what was last written into it: not where the disk is full, or the
    /// folder gone.
    pub fn is_writable(&self) -> bool {
        self.shared.writable.load(Relaxed)
    }
}

impl Drop for DiskCache {
    fn drop(&mut self) {
        self.shared.queue.close();
        if let Some(writer) = self.writer.take() {
            // A panic there has been reported where it happened.
            let _ = writer.join();
        }
    }
}

impl fmt::Debug for DiskCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskCache")
            .field("folder", &self.shared.folder.path())
            .finish_non_exhaustive()
    }
}

/// The blocking half.
impl Shared {
    /// The writer's life.
    fn write_queued(&self) {
        while let Some(job) = self.queue.next() {
            let bytes = job.bytes();
            match job {
                Job::Put { key, value } => self.write(&key, &value),
                Job::Forget(name) => {
                    self.index.remove(name);
                    self.remove(name);
                }
                // Nobody waits any more: fine.
                Job::Tell(done) => drop(done.send(())),
            }
            self.queue.done(bytes);
        }
    }

    fn write(&self, key: &str, value: &[u8]) {
        let name = Name::of(key);
        if self.pauses() {
            self.counters.skipped.fetch_add(1, Relaxed);
            // An older value of the key is not what was put last.
            if self.index.holds(name) {
                self.index.remove(name);
                self.remove(name);
            }
            return;
        }
        // What must go, goes first (an older file of this name, too): the folder is within its
        // budget at every moment.
        for evicted in self.index.admit(name, entry::file_bytes(key, value)) {
            self.remove(evicted);
        }
        if !self.index.holds(name) {
            return;
        }
        match self.folder.write(name, &entry::head(key, value), value) {
            Ok(()) => {
                self.counters.written.fetch_add(1, Relaxed);
                self.recovered();
            }
            Err(e) => {
                self.index.remove(name);
                self.failed("write", &e);
                if !is_of_one_name(&e) {
                    self.pause();
                }
            }
        }
    }

    fn read(&self, name: Name, key: &str) -> Option<Bytes> {
        let largest = MAX_VALUE_BYTES.saturating_add(MAX_KEY_BYTES);
        let file = match self.folder.read(name, largest) {
            Ok(file) => file?,
            Err(e) => {
                self.failed("read", &e);
                return None;
            }
        };
        match entry::value(Bytes::from(file), key) {
            Ok(value) => Some(value),
            Err(Damage) => {
                if self.counters.damaged.fetch_add(1, Relaxed) == 0 {
                    let folder = self.folder.path();
                    tracing::warn!(?folder, file = %name, "a damaged file in the cache: left out");
                }
                // If too much waits, the next reader comes to the same end.
                self.queue.push(Job::Forget(name));
                None
            }
        }
    }

    fn remove(&self, name: Name) {
        if let Err(e) = self.folder.remove(name) {
            self.failed("remove", &e);
        }
    }

    /// Whether nothing is to be written for now.
    fn pauses(&self) -> bool {
        let until = self.trouble().until;
        until.is_some_and(|until| Instant::now() < until)
    }

    /// The folder refused a file: the next is tried after a while. Until then what comes is kept in
    /// memory alone, as if there were no folder.
    fn pause(&self) {
        self.writable.store(false, Relaxed);
        let mut trouble = self.trouble();
        trouble.pause = (trouble.pause * 2).clamp(PAUSES.0, PAUSES.1);
        trouble.until = Instant::now().checked_add(trouble.pause);
    }

    /// The folder took a file.
    fn recovered(&self) {
        if self.writable.swap(true, Relaxed) {
            return;
        }
        let mut trouble = self.trouble();
        trouble.until = None;
        trouble.pause = Duration::ZERO;
        if std::mem::take(&mut trouble.unrevoked) {
            drop(trouble);
            let folder = self.folder.path();
            tracing::info!(?folder, "the cache folder takes files again");
        }
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a refusal, and says it, but not again and again.
    fn failed(&self, action: &str, error: &std::io::Error) {
        let failed = self.counters.failed.fetch_add(1, Relaxed).saturating_add(1);
        let mut trouble = self.trouble();
        if trouble.said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            trouble.said = Some(Instant::now());
            trouble.unrevoked = true;
            drop(trouble);
            let folder = self.folder.path();
            let why = "the cache folder fails: going on without it";
            tracing::warn!(?folder, action, %error, failed, "{why}");
        }
    }
}
