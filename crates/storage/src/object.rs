//! One version of one object, and reads that are of that version or fail.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::try_join_all;

use crate::coalesce;
use crate::counters::CounterCells;
use crate::deadline::within;
use crate::error::{StorageError, StorageErrorKind, shown};
use crate::local::LocalFile;
use crate::remote::RemoteObject;

/// An object that has just been opened.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The object.
    pub object: Object,
    /// Its first bytes.
    pub head: Bytes,
    /// Its last bytes; they begin at `object.size() - tail.len()`. May overlap with the head.
    pub tail: Bytes,
}

/// Tells versions of an object apart. Two equal versions of one name hold the same bytes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ObjectVersion(pub(crate) Version);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Version {
    /// The ETag, with its quotes.
    ETag(String),
    /// A file: the size, when its content was last written, and which file of which device.
    File {
        size: u64,
        modified: Option<SystemTime>,
        device: u64,
        inode: u64,
    },
    /// A server without ETags: size and `Last-Modified` in milliseconds.
    Modified { size: u64, millis: i64 },
}

impl fmt::Display for ObjectVersion {
    /// The same text for the same version, another for another: fit for a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Version::ETag(tag) => write!(f, "etag-{tag}"),
            Version::File {
                size,
                modified,
                device,
                inode,
            } => {
                let nanos = modified
                    .and_then(|m| m.duration_since(SystemTime::UNIX_EPOCH).ok())
                    .map_or(0, |d| d.as_nanos());
                write!(f, "file-{size}-{nanos}-{device}-{inode}")
            }
            Version::Modified { size, millis } => write!(f, "modified-{size}-{millis}"),
        }
    }
}

/// One version of one object. Cloning is cheap; a local file stays open until the last clone is
/// dropped.
#[derive(Clone, Debug)]
pub struct Object {
    inner: Arc<ObjectInner>,
}

#[derive(Debug)]
struct ObjectInner {
    name: String,
    size: u64,
    version: ObjectVersion,
    source: Source,
    settings: ObjectSettings,
}

/// What an object has of its store.
#[derive(Clone, Debug)]
pub(crate) struct ObjectSettings {
    pub(crate) counters: Arc<CounterCells>,
    /// How long a read may take.
    pub(crate) timeout: Duration,
}

#[derive(Debug)]
pub(crate) enum Source {
    Local(LocalFile),
    Remote(RemoteObject),
}

impl Object {
    pub(crate) fn new(
        name: &str,
        size: u64,
        version: Version,
        source: Source,
        settings: ObjectSettings,
    ) -> Self {
        let version = ObjectVersion(version);
        let name = name.to_owned();
        Self {
            inner: Arc::new(ObjectInner {
                name,
                size,
                version,
                source,
                settings,
            }),
        }
    }

    /// The name that it was opened by.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.inner.size
    }

    /// Which version this is.
    pub fn version(&self) -> &ObjectVersion {
        &self.inner.version
    }

    /// How long a read may take before it fails with [`StorageErrorKind::Timeout`].
    pub fn timeout(&self) -> Duration {
        self.inner.settings.timeout
    }

    /// Exactly the bytes of `range` of this version, or an error.
    ///
    /// Memory for the whole range is taken; a caller bounds it.
    pub async fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        let read = self.read_ranges(std::slice::from_ref(&range)).await?;
        Ok(read.into_iter().next().unwrap_or_default())
    }

    /// The bytes of several ranges, each as [`Object::read`], in the order asked for, within the
    /// time of one read. Ranges that lie near each other are read as one (with what lies between),
    /// others at the same time.
    pub async fn read_ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StorageError> {
        if let Some(wrong) = ranges
            .iter()
            .find(|r| r.start > r.end || r.end > self.size())
        {
            return Err(self.out_of_range(wrong));
        }
        let costs = match self.inner.source {
            Source::Local(_) => coalesce::LOCAL,
            Source::Remote(_) => coalesce::REMOTE,
        };
        let reads = coalesce::reads(ranges, costs);
        let all = try_join_all(reads.iter().map(|read| self.read_one(read.clone())));
        let all = within(self.timeout(), self.name(), all).await?;
        let bytes_of = |range: &Range<u64>| {
            if range.is_empty() {
                return Some(Bytes::new());
            }
            let at = reads.partition_point(|r| r.start <= range.start);
            let at = at.checked_sub(1)?;
            let (read, bytes) = (reads.get(at)?, all.get(at)?);
            let start = usize::try_from(range.start.checked_sub(read.start)?).ok()?;
            let end = usize::try_from(range.end.checked_sub(read.start)?).ok()?;
            (end <= bytes.len()).then(|| bytes.slice(start..end))
        };
        // Each range lies within one of the reads.
        let parts = ranges
            .iter()
            .map(|range| bytes_of(range).ok_or_else(|| self.out_of_range(range)));
        parts.collect()
    }

    /// Reads a range that lies within the object, and is not empty.
    async fn read_one(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        let this = &*self.inner;
        let length = range.end - range.start;
        let bytes = match &this.source {
            Source::Local(file) => {
                this.settings.counters.request();
                let bytes = file.read(&this.name, range).await?;
                this.settings.counters.received(bytes.len());
                bytes
            }
            Source::Remote(object) => {
                object
                    .read(&this.name, this.size, &this.version.0, range)
                    .await?
            }
        };
        if bytes.len() as u64 != length {
            return Err(StorageError::new(
                StorageErrorKind::Unavailable,
                format!(
                    "{}: the store sent {} bytes in place of {length}",
                    shown(&this.name),
                    bytes.len()
                ),
            ));
        }
        Ok(bytes)
    }

    fn out_of_range(&self, range: &Range<u64>) -> StorageError {
        StorageError::new(
            StorageErrorKind::OutOfRange,
            format!(
                "{}: bytes {} to {} do not lie within its {} bytes",
                shown(self.name()),
                range.start,
                range.end,
                self.size()
            ),
        )
    }
}
