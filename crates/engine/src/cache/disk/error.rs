//! Why a folder cannot be used.

use std::io;
use std::path::PathBuf;

/// Why a [`DiskCache`](super::DiskCache) was not opened.
#[derive(Debug, thiserror::Error)]
pub enum DiskCacheError {
    /// Another cache, of this process or of another, holds the folder.
    #[error("the cache folder {} is in use by another server", folder.display())]
    InUse {
        /// As it was given.
        folder: PathBuf,
    },
    /// The system refuses.
    #[error("the cache folder {} cannot be {action}", folder.display())]
    Unusable {
        /// As it was given.
        folder: PathBuf,
        /// What was tried, as a participle: `opened`.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The writer's thread could not be started.
    #[error("the cache's thread cannot be started")]
    Thread(#[source] io::Error),
}
