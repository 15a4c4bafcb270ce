//! The engine: its start, and the opening of videos.

use std::pin::pin;
use std::sync::Arc;

use futures::future::{Either, select};
use storage::{StorageErrorKind, Store};
use tokio::sync::OnceCell;

use crate::beside;
use crate::caches::Caches;
use crate::catalog::{self, IndexedObject};
use crate::client::Client;
use crate::config::EngineConfig;
use crate::core::Core;
use crate::error::{EngineError, OpenError};
use crate::stats::EngineCounters;
use crate::video::{Video, key_of};
use crate::worker::Pool;

/// Serves frames of the videos in one store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    store: Store,
    pub(crate) core: Arc<Core>,
    /// Its threads end with it.
    _pool: Pool,
}

/// An opening that others may join.
pub(crate) type Opening = OnceCell<Result<Arc<Video>, OpenError>>;

impl Engine {
    /// Starts the worker threads. Reads run on the tokio runtime that this is called in.
    ///
    /// # Errors
    /// Limits that make no sense, a thread or a cache folder that cannot be had.
    pub async fn new(store: Store, config: EngineConfig) -> Result<Self, EngineError> {
        if !(1..=100).contains(&config.jpeg_quality) {
            return Err(EngineError::Config(
                "the JPEG quality must be between 1 and 100",
            ));
        }
        if config.workers == 0 {
            return Err(EngineError::Config("at least one worker is needed"));
        }
        if config.max_bytes_in_flight < config.max_group_bytes {
            return Err(EngineError::Config(
                "a group must fit into the bytes in flight",
            ));
        }
        if config.max_waiting_image_bytes == 0 {
            return Err(EngineError::Config("at least one image must be let wait"));
        }
        codec::give_back_large_blocks();
        let runtime = tokio::runtime::Handle::current();
        let (config, caches) = tokio::task::spawn_blocking(move || {
            // Lists a folder that may be large.
            Caches::new(&config).map(|caches| (config, caches))
        })
        .await
        .map_err(|_| EngineError::Config("the caches could not be opened"))??;
        let core = Arc::new(Core::new(config, caches, runtime));
        let pool = Pool::start(&core)?;
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                core,
                _pool: pool,
            }),
        })
    }

    /// Opens a video: reads its index, nothing of its pictures. Who opens the same name at the
    /// same time shares the work; an index of this version that is in the cache is not read, nor is
    /// one that a file beside the video (`<video>.bsidx`) holds.
    ///
    /// # Errors
    /// There is no such object, it cannot be read, or it is no video that can be served.
    pub async fn open(&self, name: &str) -> Result<Arc<Video>, OpenError> {
        let core = &self.inner.core;
        let opening = core.openings.hold(&name.to_owned());
        let opened = opening.get_or_init(|| self.open_now(name)).await.clone();
        // The next one looks whether the object is still the same.
        opening.close();
        if let Ok(video) = &opened {
            core.lock().harvester.opened(video);
            core.wake.notify_all();
        }
        opened
    }

    async fn open_now(&self, name: &str) -> Result<Arc<Video>, OpenError> {
        match self.open_once(name).await {
            // Replaced while its index was read: the new one's.
            Err(OpenError::Storage(e)) if e.kind() == StorageErrorKind::Changed => {
                self.open_once(name).await
            }
            opened => opened,
        }
    }

    async fn open_once(&self, name: &str) -> Result<Arc<Video>, OpenError> {
        let Inner { store, core, .. } = &*self.inner;
        let caches = &core.caches;
        let look = pin!(catalog::look(store, name));
        let beside = pin!(beside::look(store, name));
        // Side by side; but what is in memory waits for no file beside it.
        let (opened, beside) = match select(look, beside).await {
            Either::Left((opened, beside)) => (opened?, Either::Left(beside)),
            Either::Right((beside, opened)) => (opened.await?, Either::Right(beside)),
        };
        let key = key_of(&opened.object);
        if let Some(video) = caches.video(&key).filter(|v| v.refusal().is_none()) {
            return Ok(video);
        }
        let beside = match beside {
            Either::Left(looking) => looking.await,
            Either::Right(found) => found,
        };
        let facts = catalog::facts(&opened);
        let by_file = match beside {
            Some(found) => beside::read(&core.refused, found, &opened.object, &facts).await,
            None => None,
        };
        let object = opened.object.clone();
        let (index, sidecar) = match by_file {
            Some((index, sidecar)) => (index, Some(sidecar)),
            None => match caches.index_on_disk(&key, &facts).await {
                Some(index) => (index, None),
                None => {
                    let own = catalog::index(name, opened).await?.index;
                    (core.keep_index(&key, own, facts).await, None)
                }
            },
        };
        let video = Video::new(name, IndexedObject { object, index }, sidecar)?;
        let video = Arc::new(video);
        caches.keep_video(key, &video);
        Ok(video)
    }

    /// A new client.
    pub fn client(&self) -> Client {
        Client::new(&self.inner)
    }

    /// What was done since the start.
    pub fn counters(&self) -> EngineCounters {
        self.inner.core.counters.read()
    }

    /// Bytes that the cache in memory holds.
    pub fn cached_bytes(&self) -> u64 {
        self.inner.core.caches.bytes()
    }

    /// The store that it serves from.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }
}
