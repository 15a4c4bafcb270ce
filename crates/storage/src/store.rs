//! The one door to objects, whatever holds them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::azure::{self, AzureConfig};
use crate::bucket::Bucket;
use crate::counters::{CounterCells, Counters};
use crate::deadline::within;
use crate::error::StorageError;
use crate::gcs::{self, GcsConfig};
use crate::list::{Listing, Page};
use crate::local::LocalStore;
use crate::name::Location;
use crate::object::{ObjectSettings, Opened};
use crate::place::{Beginning, Meaning, Place};
use crate::reads::ReadSettings;
use crate::remote::RemoteStore;
use crate::s3::{self, S3Config};

/// Where objects are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreConfig {
    /// Below a folder.
    Local(PathBuf),
    /// In buckets of S3, or of a server that speaks its protocol.
    S3(S3Config),
    /// In buckets of Google Cloud Storage.
    Gcs(GcsConfig),
    /// In containers of Azure Blob Storage.
    Azure(AzureConfig),
}

impl fmt::Display for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, buckets) = match self {
            Self::Local(root) => return write!(f, "{}", root.display()),
            Self::S3(config) => ("s3", &config.buckets),
            Self::Gcs(config) => ("gs", &config.buckets),
            Self::Azure(config) => ("az", &config.containers),
        };
        for (n, Bucket { name, prefix }) in buckets.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            write!(f, "{comma}{scheme}://{name}")?;
            if !prefix.is_empty() {
                write!(f, "/{}", prefix.trim_matches('/'))?;
            }
        }
        Ok(())
    }
}

/// How reads are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadOptions {
    /// How long a read may take, with all that it waits for and is tried again.
    pub timeout: Duration,
    /// Whether a request over the network that is slow to begin gets a rival.
    pub hedge: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(20),
            hedge: true,
        }
    }
}

/// Objects of a local folder or of buckets. Cloning is cheap and shares everything.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Backend,
    settings: ObjectSettings,
}

#[derive(Clone, Debug)]
enum Backend {
    Local(Arc<LocalStore>),
    Remote(Arc<RemoteStore>),
}

impl Store {
    /// A store. Over the network nothing is sent yet.
    ///
    /// # Errors
    /// Settings that cannot work: a folder that is not there, half of a key pair.
    pub fn new(config: &StoreConfig, options: ReadOptions) -> Result<Self, StorageError> {
        let counters: Arc<CounterCells> = Arc::default();
        let settings = ReadSettings {
            // So that a server which hangs is asked a second and a third time.
            stall: options.timeout / 3,
            hedge: options.hedge,
        };
        let remote = |store: RemoteStore| Backend::Remote(Arc::new(store));
        let backend = match config {
            StoreConfig::Local(root) => Backend::Local(Arc::new(LocalStore::new(root)?)),
            StoreConfig::S3(config) => remote(s3::open(config, settings, &counters)?),
            StoreConfig::Gcs(config) => remote(gcs::open(config, settings, &counters)?),
            StoreConfig::Azure(config) => remote(azure::open(config, settings, &counters)?),
        };
        Ok(Self {
            backend,
            settings: ObjectSettings {
                counters,
                timeout: options.timeout,
            },
        })
    }

    /// A store of the regular files below `root`, which must be a folder that exists.
    pub fn local(root: &Path) -> Result<Self, StorageError> {
        let config = StoreConfig::Local(root.to_owned());
        Self::new(&config, ReadOptions::default())
    }

    /// A store of the objects in buckets of S3. Nothing is sent yet.
    pub fn s3(config: S3Config) -> Result<Self, StorageError> {
        Self::new(&StoreConfig::S3(config), ReadOptions::default())
    }

    /// Opens an object and reads its first `head` and last `tail` bytes (fewer if it is smaller)
    /// in one round trip (two on Azure).
    ///
    /// `name` is a path below the root or a key of the first bucket, `fs:///absolute/path` (local
    /// stores, below the root only) or `s3://bucket/key` (`gs://`, `az://`; the store's buckets
    /// only, and below their prefixes). A local store also finds a plain name whose first part is
    /// the root folder's own name; where a bucket has a prefix, a plain name that does not lie
    /// below it is looked for below it.
    pub async fn open(&self, name: &str, head: u64, tail: u64) -> Result<Opened, StorageError> {
        let location = Location::parse(name)?;
        let settings = &self.settings;
        let opened = within(settings.timeout, name, async {
            match &self.backend {
                Backend::Local(store) => store.open(name, location, head, tail, settings).await,
                Backend::Remote(store) => store.open(name, location, head, tail, settings).await,
            }
        });
        let opened = opened.await;
        if let Err(error) = &opened
            && error.kind() == crate::StorageErrorKind::OutsideStore
        {
            tracing::warn!(%error, "refused a name");
        }
        opened
    }

    /// A page of what lies below a prefix: a path below the root, the beginning of keys of the
    /// first bucket, or `s3://bucket/` and the beginning of its keys. Where there are several
    /// buckets, the first page of the empty prefix names the others as folders.
    ///
    /// # Errors
    /// No such folder, a name that leads outside, a store that does not deliver.
    pub async fn list(&self, page: Page<'_>) -> Result<Listing, StorageError> {
        within(self.settings.timeout, page.prefix, async {
            match &self.backend {
                Backend::Local(store) => store.list(page).await,
                Backend::Remote(store) => store.list(page).await,
            }
        })
        .await
    }

    /// Asks whether the store answers, as cheaply as can be: one request, of the first bucket.
    ///
    /// # Errors
    /// It does not, or there is nothing where the objects should be. A store that only refuses to
    /// list is there.
    pub async fn reach(&self) -> Result<(), StorageError> {
        let reached = match &self.backend {
            Backend::Local(store) => return store.reach().await,
            Backend::Remote(store) => store.list(Page {
                prefix: "",
                limit: 1,
                cursor: None,
                wanted: |_| true,
            }),
        };
        match reached.await {
            Err(error) if error.kind() != crate::StorageErrorKind::Forbidden => Err(error),
            _ => Ok(()),
        }
    }

    /// What [`Store::open`] may open by this name, the likeliest first; `None` for a name that has a
    /// part which is no name, or leads outside. Nobody is asked.
    pub fn meanings(&self, name: &str) -> Option<Vec<Meaning>> {
        let location = Location::parse(name).ok()?;
        match &self.backend {
            Backend::Local(store) => store.meanings(name, location),
            Backend::Remote(store) => store.meaning(name, location).map(|m| vec![m]),
        }
    }

    /// The place that configuration names by a prefix: a folder, a bucket or an object. Slashes at
    /// its ends mean nothing.
    ///
    /// # Errors
    /// Why it can be none of this store, as the end of a sentence.
    pub fn place(&self, prefix: &str) -> Result<Place, &'static str> {
        match &self.backend {
            Backend::Local(store) => store.place(prefix),
            Backend::Remote(store) => store.place(prefix),
        }
    }

    /// Where names that [`Store::list`] gives for this prefix begin; `None` where it gives none.
    pub fn beginning(&self, prefix: &str) -> Option<Beginning> {
        match &self.backend {
            Backend::Local(store) => store.beginning(prefix),
            Backend::Remote(store) => store.beginning(prefix),
        }
    }

    /// A place as a listing that begins so names it.
    pub fn listed_name(&self, from: &Beginning, place: &Place) -> String {
        match &self.backend {
            Backend::Local(_) => place.path.clone(),
            Backend::Remote(store) => store.listed_name(from, place),
        }
    }

    /// A name of a place that says where it is: with its bucket, if there are any. Empty for all of a
    /// local store.
    pub fn full_name(&self, place: &Place) -> String {
        match &self.backend {
            Backend::Local(_) => place.path.clone(),
            Backend::Remote(store) => store.full_name(place),
        }
    }

    /// The folder as which a listing of everything names the bucket of a place; `None` for the one
    /// of plain names.
    pub fn bucket_folder(&self, place: &Place) -> Option<String> {
        match &self.backend {
            Backend::Local(_) => None,
            Backend::Remote(store) => store.bucket_folder(place),
        }
    }

    /// What has been read so far, by this store, its clones and their objects.
    pub fn counters(&self) -> Counters {
        self.settings.counters.get()
    }
}
