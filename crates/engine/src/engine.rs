//! The engine: its start, and the opening of videos.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::{Either, select};
use media::DecodeIndex;
use storage::{StorageError, StorageErrorKind, Store};
use tokio::sync::OnceCell;

use crate::beside;
use crate::caches::Caches;
use crate::catalog::{self, IndexedObject};
use crate::client::Client;
use crate::compressed::{self, AccessUnit};
use crate::config::EngineConfig;
use crate::core::Core;
use crate::decoders;
use crate::error::{EngineError, FrameError, OpenError};
use crate::listing::{Verdicts, VideoListing};
use crate::schedule::{ImageKey, VideoKey};
use crate::stats::{EngineCounters, EngineState, StageHistograms, add};
use crate::ticket::{EncodedImage, FrameTarget};
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
    verdicts: Verdicts,
    /// Its threads end with it.
    pool: Pool,
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
        let (config, caches, decoders) = tokio::task::spawn_blocking(move || {
            let decoders = decoders::of(&config)?;
            // Lists a folder that may be large.
            let caches = Caches::new(&config)?;
            Ok::<_, EngineError>((config, caches, decoders))
        })
        .await
        .map_err(|_| EngineError::Config("the caches could not be opened"))??;
        let core = Arc::new(Core::new(config, caches, decoders, runtime));
        let pool = Pool::start(&core)?;
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                core,
                verdicts: Verdicts::default(),
                pool,
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
        let Inner {
            store,
            core,
            verdicts,
            ..
        } = &*self.inner;
        let caches = &core.caches;
        let look = pin!(catalog::look(store, name));
        let beside = pin!(beside::look(store, name));
        // Side by side; but what is in memory waits for no file beside it.
        let (opened, beside) = match select(look, beside).await {
            Either::Left((opened, beside)) => (opened?, Either::Left(beside)),
            Either::Right((beside, opened)) => (opened.await?, Either::Right(beside)),
        };
        let key = key_of(&opened.object);
        let counters = &core.counters;
        if let Some(video) = caches.video(&key).filter(|v| v.refusal().is_none()) {
            add(&counters.index_hits, 1);
            return Ok(video);
        }
        add(&counters.index_misses, 1);
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
                Some(index) => {
                    add(&counters.index_disk_hits, 1);
                    (index, None)
                }
                None => {
                    if caches.has_disk() {
                        add(&counters.index_disk_misses, 1);
                    }
                    let own = self.sorted(&key, catalog::index(name, opened).await)?.index;
                    (core.keep_index(&key, own, facts).await, None)
                }
            },
        };
        let video = Video::new(name, IndexedObject { object, index }, sidecar);
        let video = Arc::new(self.sorted(&key, video)?);
        verdicts.remember(&key, true);
        caches.keep_video(key, &video);
        Ok(video)
    }

    /// What was not a video is remembered.
    fn sorted<T>(&self, key: &VideoKey, made: Result<T, OpenError>) -> Result<T, OpenError> {
        if let Err(OpenError::NotVideo { .. }) = &made {
            self.inner.verdicts.remember(key, false);
        }
        made
    }

    /// A page of the folders and videos whose names begin with `prefix`, at most `limit` of them
    /// ([`storage::MOST_ENTRIES`] where that is more).
    ///
    /// # Errors
    /// No such folder, or the store does not deliver.
    pub async fn list(
        &self,
        prefix: &str,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<VideoListing, StorageError> {
        let inner = &self.inner;
        let listing = inner.verdicts.list(&inner.store, prefix, limit, cursor);
        listing.await
    }

    /// An image that is in the cache in memory; nothing is made or waited for.
    pub fn cached(&self, video: &Arc<Video>, target: FrameTarget) -> Option<EncodedImage> {
        let core = &self.inner.core;
        if video.refusal().is_some() {
            return None;
        }
        let key = core.caches.plain(ImageKey {
            video: Arc::clone(video.key()),
            sample: target.sample.0,
            output: target.output,
        });
        let image = core.caches.image(&key)?;
        add(&core.counters.cache_hits, 1);
        Some(image)
    }

    /// What an empty decoder must be given so that the picture of this sample comes out, in decode
    /// order. At most `most` bytes are read for it.
    ///
    /// # Errors
    /// As for a frame; [`crate::FrameErrorCode::GopTooLarge`] where more would have to be read.
    pub async fn closure(
        &self,
        video: &Arc<Video>,
        sample: DecodeIndex,
        most: u64,
    ) -> Result<Vec<AccessUnit>, FrameError> {
        compressed::closure(&self.inner.core, video, sample, most).await
    }

    /// Bytes that the cache in memory may hold.
    pub fn cache_budget(&self) -> u64 {
        self.inner.core.caches.budget()
    }

    /// Quality of images where none is asked for.
    pub fn quality(&self) -> u8 {
        self.inner.core.config.jpeg_quality
    }

    /// A new client.
    pub fn client(&self) -> Client {
        Client::new(&self.inner)
    }

    /// What was done since the start.
    pub fn counters(&self) -> EngineCounters {
        self.inner.core.counters.read()
    }

    /// How long each run of a stage took, since the start.
    pub fn stage_histograms(&self) -> StageHistograms {
        self.inner.core.counters.stages.histograms()
    }

    /// How it stands now.
    pub fn state(&self) -> EngineState {
        let core = &self.inner.core;
        EngineState {
            workers: core.config.workers as u64,
            workers_busy: core.busy.load(Ordering::Relaxed) as u64,
            memory_bytes: core.caches.bytes(),
            memory_budget: core.caches.budget(),
            waiting_bytes: core.rooms.waiting() as u64,
            disk: core.caches.disk_state(),
        }
    }

    /// Bytes that the cache in memory holds.
    pub fn cached_bytes(&self) -> u64 {
        self.inner.core.caches.bytes()
    }

    /// Workers that live, and all that there should be.
    pub fn workers(&self) -> (usize, usize) {
        self.inner.pool.alive()
    }

    /// The store that it serves from.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }
}
