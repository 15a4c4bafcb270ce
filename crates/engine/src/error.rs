//! What can go wrong, for a video and for a frame.

use media::demux::DemuxError;
use storage::{StorageError, StorageErrorKind};

/// Why a frame was not served.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FrameErrorCode {
    /// No decoder could output it from this stream: a RASL picture with no earlier IRAP, a
    /// picture that the stream hides, one that refers to what is not there.
    NotDecodable,
    /// The decoder found damage in the picture or in what it depends on.
    DecodeFailed,
    /// The picture could not be converted or encoded.
    EncodeFailed,
    /// The store did not give the bytes.
    StorageFailed,
    /// The object is no longer the one that was opened.
    VideoChanged,
    /// The run of samples from the IRAP to the frame is larger than the engine reads at once.
    GopTooLarge,
    /// Nobody waits for it any more.
    Cancelled,
}

/// A frame that was not served: a code, and a sentence for people.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct FrameError {
    /// Stable kind.
    pub code: FrameErrorCode,
    /// A sentence for people.
    pub message: String,
}

impl FrameError {
    pub(crate) fn new(code: FrameErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The object is another version than the one that was opened.
    pub(crate) fn video_changed(name: &str) -> Self {
        let message = format!("{name} was replaced or removed while it was open: set it again");
        Self::new(FrameErrorCode::VideoChanged, message)
    }
}

impl From<&StorageError> for FrameError {
    fn from(e: &StorageError) -> Self {
        let code = match e.kind() {
            StorageErrorKind::Changed => FrameErrorCode::VideoChanged,
            _ => FrameErrorCode::StorageFailed,
        };
        Self::new(code, e.to_string())
    }
}

/// Why a video was not opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such object (or none that may be seen).
    #[error("Video not found: {name}")]
    NotFound {
        /// As it was asked for.
        name: String,
    },
    /// The store failed.
    #[error("{0}")]
    Storage(#[source] StorageError),
    /// The object is no video that can be served.
    #[error("{name}: {error}")]
    NotVideo {
        /// As it was asked for.
        name: String,
        /// What was found instead.
        #[source]
        error: DemuxError,
    },
}

/// The engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A worker thread could not be started.
    #[error("a worker thread cannot be started")]
    Thread(#[from] std::io::Error),
    /// The cache on disk cannot be used.
    #[error(transparent)]
    DiskCache(#[from] crate::cache::DiskCacheError),
    /// A limit makes no sense.
    #[error("{0}")]
    Config(&'static str),
    /// No process can be had that decodes and can do nothing else.
    #[error("no process can be started that decodes alone: {0}")]
    Isolation(String),
}
