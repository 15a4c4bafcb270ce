//! The one door to objects, whatever holds them.

use std::path::Path;
use std::sync::Arc;

use crate::counters::{CounterCells, Counters};
use crate::error::StorageError;
use crate::local::LocalStore;
use crate::name::Location;
use crate::object::Opened;
use crate::s3::{S3Config, S3Store};

/// A local folder or an S3 bucket. Cloning is cheap and shares everything.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Backend,
    counters: Arc<CounterCells>,
}

#[derive(Clone, Debug)]
enum Backend {
    Local(Arc<LocalStore>),
    S3(Arc<S3Store>),
}

impl Store {
    /// A store of the regular files below `root`, which must be a folder that exists.
    pub fn local(root: &Path) -> Result<Self, StorageError> {
        let backend = Backend::Local(Arc::new(LocalStore::new(root)?));
        Ok(Self {
            backend,
            counters: Arc::default(),
        })
    }

    /// A store of the objects in one bucket. Nothing is sent yet.
    pub fn s3(config: S3Config) -> Result<Self, StorageError> {
        let backend = Backend::S3(Arc::new(S3Store::new(&config)?));
        Ok(Self {
            backend,
            counters: Arc::default(),
        })
    }

    /// Opens an object and reads its first `head` and last `tail` bytes (fewer if it is smaller)
    /// in one round trip.
    ///
    /// `name` is a path below the root or a key of the bucket, `fs:///absolute/path` (local
    /// stores, below the root only) or `s3://bucket/key` (S3 stores, the store's bucket only). A
    /// local store also finds a plain name whose first part is the root folder's own name.
    pub async fn open(&self, name: &str, head: u64, tail: u64) -> Result<Opened, StorageError> {
        let opened = match (&self.backend, Location::parse(name)?) {
            (Backend::Local(store), location) => {
                store.open(name, location, head, tail, &self.counters).await
            }
            (Backend::S3(store), location) => {
                store.open(name, location, head, tail, &self.counters).await
            }
        };
        if let Err(error) = &opened
            && error.kind() == crate::StorageErrorKind::OutsideStore
        {
            tracing::warn!(%error, "refused a name");
        }
        opened
    }

    /// What has been read so far, by this store, its clones and their objects.
    pub fn counters(&self) -> Counters {
        self.counters.get()
    }
}
