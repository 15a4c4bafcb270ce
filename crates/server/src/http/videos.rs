//! Videos that requests are about: opened once, and looked at again after a while.
//!
//! A request has no session in which a video is set. To ask the store for each of them whether the
//! object is still the same would cost a round trip; so for [`Videos::lifetime`] it is taken to be.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::{Engine, Video};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use xxhash_rust::xxh3::xxh3_64;

use super::problem::Problem;
use crate::access::told_of;

/// About what indexes of videos may take here, beside the engine's cache: an eighth of what that may
/// hold, within these. (Most are in that cache, too, and take no more memory then.)
const BYTES: RangeInclusive<u64> = 4 << 20..=64 << 20;

/// A video, and when it was last seen to be the object's content.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) video: Arc<Video>,
    /// Short for its identity: `v` in a URL.
    pub(super) version: String,
    seen: Mutex<Instant>,
    /// What is told of it, made once.
    pub(super) info: OnceLock<Bytes>,
}

/// The text by which a URL names a version.
pub(super) fn version_of(identity: &str) -> String {
    format!("{:016x}", xxh3_64(identity.as_bytes()))
}

impl Opened {
    fn new(video: Arc<Video>) -> Self {
        Self {
            version: version_of(video.identity()),
            video,
            seen: Mutex::new(Instant::now()),
            info: OnceLock::new(),
        }
    }

    fn age(&self) -> Duration {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.elapsed()
    }

    fn is_seen(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

#[derive(Clone, Debug)]
struct ByIndex;

impl Weighter<String, Arc<Opened>> for ByIndex {
    fn weight(&self, name: &String, opened: &Arc<Opened>) -> u64 {
        opened.video.weight().saturating_add(name.len() as u64)
    }
}

/// A video for one request.
#[derive(Clone, Debug)]
pub(super) struct Current {
    pub(super) opened: Arc<Opened>,
    /// How long an answer about it may be taken for true.
    pub(super) fresh: Duration,
    /// The URL names this version.
    pub(super) pinned: bool,
}

#[derive(Debug)]
pub(super) struct Videos {
    engine: Engine,
    lifetime: Duration,
    opened: Cache<String, Arc<Opened>, ByIndex>,
}

impl Videos {
    pub(super) fn new(engine: Engine, lifetime: Duration) -> Self {
        let most = (engine.cache_budget() / 8).clamp(*BYTES.start(), *BYTES.end());
        Self {
            engine,
            lifetime,
            opened: Cache::with_weighter(1024, most, ByIndex),
        }
    }

    /// How long answers about it hold from now on; `None` where it must be looked at again.
    pub(super) fn fresh(&self, opened: &Opened, pinned: bool) -> Option<Duration> {
        let fresh = self.lifetime.saturating_sub(opened.age());
        let holds = opened.video.refusal().is_none() && (pinned || !fresh.is_zero());
        holds.then_some(fresh)
    }

    /// The video of this name, which the caller has `asked` for; the version that is `pinned`, if one
    /// is.
    pub(super) async fn get(
        &self,
        name: &str,
        asked: &str,
        pinned: Option<&str>,
    ) -> Result<Current, Problem> {
        let known = self
            .opened
            .get(name)
            .filter(|o| o.video.refusal().is_none());
        if let Some(opened) = &known {
            // A version does not change: what is held of it needs no second look.
            let named = pinned == Some(opened.version.as_str());
            let fresh = self.lifetime.saturating_sub(opened.age());
            if named || (!fresh.is_zero() && pinned.is_none()) {
                return Ok(Current {
                    opened: Arc::clone(opened),
                    fresh,
                    pinned: named,
                });
            }
        }
        let video = self.engine.open(name).await;
        let video = video.map_err(|e| Problem::of_open(asked, &told_of(e, name, asked)))?;
        let opened = match known {
            Some(known) if known.video.identity() == video.identity() => {
                known.is_seen();
                known
            }
            _ => {
                let opened = Arc::new(Opened::new(video));
                self.opened.insert(name.to_owned(), Arc::clone(&opened));
                opened
            }
        };
        match pinned {
            Some(version) if version != opened.version => {
                Err(Problem::other_version(asked, &opened.version))
            }
            _ => Ok(Current {
                opened,
                fresh: self.lifetime,
                pinned: pinned.is_some(),
            }),
        }
    }
}
