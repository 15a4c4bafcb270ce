//! One version of one object, and reads that are of that version or fail.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::counters::CounterCells;
use crate::error::{StorageError, StorageErrorKind, shown};
use crate::local::LocalFile;
use crate::s3::S3Object;

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
    /// An S3 server without ETags: size and `Last-Modified` in milliseconds.
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
    counters: Arc<CounterCells>,
}

#[derive(Debug)]
pub(crate) enum Source {
    Local(LocalFile),
    S3(S3Object),
}

/// Ranges with no more than this between them are read as one: less than what a request costs.
const LOCAL_GAP: u64 = 32 * 1024;
const S3_GAP: u64 = 1024 * 1024;

impl Object {
    pub(crate) fn new(
        name: &str,
        size: u64,
        version: Version,
        source: Source,
        counters: Arc<CounterCells>,
    ) -> Self {
        let version = ObjectVersion(version);
        let name = name.to_owned();
        Self {
            inner: Arc::new(ObjectInner {
                name,
                size,
                version,
                source,
                counters,
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

    /// Exactly the bytes of `range` of this version, or an error.
    ///
    /// Memory for the whole range is taken; a caller bounds it.
    pub async fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        let this = &*self.inner;
        if range.start > range.end || range.end > this.size {
            return Err(self.out_of_range(&range));
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        this.counters.request();
        let length = range.end - range.start;
        let bytes = match &this.source {
            Source::Local(file) => file.read(&this.name, range).await?,
            Source::S3(object) => {
                object
                    .read(&this.name, this.size, &this.version.0, range)
                    .await?
            }
        };
        this.counters.received(bytes.len());
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

    /// The bytes of several ranges, each as [`Object::read`], in the order asked for. Ranges that
    /// lie near each other are read as one (with what lies between), others concurrently.
    pub async fn read_ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StorageError> {
        if let Some(wrong) = ranges
            .iter()
            .find(|r| r.start > r.end || r.end > self.size())
        {
            return Err(self.out_of_range(wrong));
        }
        let gap = match self.inner.source {
            Source::Local(_) => LOCAL_GAP,
            Source::S3(_) => S3_GAP,
        };
        object_store::coalesce_ranges(ranges, |range| self.read(range), gap).await
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
