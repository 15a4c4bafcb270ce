//! Index files that lie beside videos: found, believed or refused, and found out.
//!
//! [`media::bsidx`] says when a file is believed. What is refused is said once, for each version of
//! the file and of its video.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use media::bsidx::{self, Content, Facts, Header};
use media::heads::Heads;
use storage::{Object, Opened, Store};
use tokio::sync::OnceCell;

use crate::catalog;
use crate::error::{FrameError, FrameErrorCode, OpenError};
use crate::video::key_of;

/// Read of the file at first, beside the video's own ends: that of a quarter of an hour.
const FIRST_BYTES: u64 = 256 * 1024;
/// Refusals that are remembered; what is refused again after more is said again.
const MOST_REFUSED: usize = 4096;

/// Looks for the index file of a video, while the video is looked at.
pub(crate) async fn look(store: &Store, name: &str) -> Option<Opened> {
    if name.ends_with(bsidx::SUFFIX) {
        return None;
    }
    let beside = format!("{name}{}", bsidx::SUFFIX);
    match store.open(&beside, FIRST_BYTES, 0).await {
        Ok(opened) => Some(opened),
        Err(error) => {
            // Where it matters, the video itself cannot be read either.
            if !error.kind().reads_as_not_found() {
                tracing::debug!(%error, "no index file is read");
            }
            None
        }
    }
}

/// What index files are refused.
#[derive(Debug, Default)]
pub(crate) struct Refused(Mutex<HashSet<String>>);

impl Refused {
    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        // A set that is changed by single calls: whole, whatever a panicking thread was doing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holds(&self, file: &str) -> bool {
        self.lock().contains(file)
    }

    /// Refuses a file, and says so the first time.
    fn refuse(&self, file: &str, video: &str, why: &str) {
        let mut all = self.lock();
        if all.len() >= MOST_REFUSED {
            all.clear();
        }
        if all.insert(file.to_owned()) {
            drop(all);
            tracing::warn!(video, why, "the index file beside the video is ignored");
        }
    }
}

/// What an index file says of its video.
#[derive(Debug)]
pub(crate) struct Sidecar {
    heads: Heads,
    /// Which file of which video.
    file: String,
    fingerprint: u64,
    /// A sample was not what its heads say.
    doubted: AtomicBool,
    /// Whether the index is that of the container all the same.
    verdict: OnceCell<bool>,
}

/// Reads the rest of a file that was found, and believes or refuses it.
pub(crate) async fn read(
    refused: &Refused,
    found: Opened,
    video: &Object,
    facts: &Facts,
) -> Option<(media::VideoIndex, Sidecar)> {
    let file = format!(
        "{}@{} of {}",
        found.object.name(),
        found.object.version(),
        key_of(video)
    );
    if refused.holds(&file) {
        return None;
    }
    match try_read(found, video, facts).await {
        Ok((
            header,
            Content {
                index,
                heads: Some(heads),
            },
        )) => Some((
            index,
            Sidecar {
                heads,
                file,
                fingerprint: header.fingerprint(),
                doubted: AtomicBool::new(false),
                verdict: OnceCell::new(),
            },
        )),
        Ok((_, Content { heads: None, .. })) => {
            // Nothing in it could be held against the samples.
            refused.refuse(&file, video.name(), "it has no heads");
            None
        }
        Err(why) => {
            refused.refuse(&file, video.name(), &why);
            None
        }
    }
}

async fn try_read(
    found: Opened,
    video: &Object,
    facts: &Facts,
) -> Result<(Header, Content), String> {
    let header = Header::read(&found.head).map_err(|e| e.to_string())?;
    header.check(facts).map_err(|e| e.to_string())?;
    let size = found.object.size();
    if header.file_length() != size || size > bsidx::MOST_BYTES {
        return Err("damaged: it is cut short, or has more bytes than it says".into());
    }
    // In the same round trip as what it has to be held against.
    let rest = found.object.read(found.head.len() as u64..size);
    let declared = catalog::read_beside(video, facts, header.declared());
    let (rest, declared) = futures::try_join!(rest, declared).map_err(|e| e.to_string())?;
    header
        .check_declared(&declared)
        .map_err(|e| e.to_string())?;
    let head = found.head;
    // The tables of a long video take a while: not on a thread of the network.
    let parsed = tokio::task::spawn_blocking(move || {
        if rest.is_empty() {
            bsidx::read(&head)
        } else {
            bsidx::read(&[head, rest].concat())
        }
    });
    let parsed = parsed
        .await
        .map_err(|_| "it could not be read".to_owned())?;
    parsed.map_err(|e| e.to_string())
}

impl Sidecar {
    /// The heads of the video's samples, as long as they are believed.
    pub(crate) fn heads(&self) -> Option<&Heads> {
        (!self.doubted.load(Ordering::Acquire)).then_some(&self.heads)
    }

    /// It tells two contents apart.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Bytes that it takes in memory, about.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.heads.heap_bytes()
    }

    /// The index turned out not to be that of the container.
    pub(crate) fn is_refuted(&self) -> bool {
        self.verdict.get() == Some(&false)
    }

    /// A sample is not what its heads say: from now on, nothing is planned by them.
    pub(crate) fn doubt(&self, refused: &Refused, video: &Object) {
        self.doubted.store(true, Ordering::Release);
        let why = "a sample is not what it says of it";
        refused.refuse(&self.file, video.name(), why);
    }

    /// Where it was doubted, looks whether at least the index is right: whose it is, the
    /// container's own tables say.
    ///
    /// # Errors
    /// It is not, so that numbers and times of frames may mean others; or it cannot be said.
    pub(crate) async fn settle(
        &self,
        video: &Object,
        index: &media::VideoIndex,
    ) -> Result<(), FrameError> {
        if !self.doubted.load(Ordering::Acquire) {
            return Ok(());
        }
        let verdict = self.verdict.get_or_try_init(|| async {
            match catalog::index_anew(video).await {
                Ok(own) => Ok(own == *index),
                Err(OpenError::Storage(error)) => Err(FrameError::from(&error)),
                Err(_) => Ok(false),
            }
        });
        if *verdict.await? {
            Ok(())
        } else {
            Err(refuted())
        }
    }
}

/// What is asked for by a wrong index is not answered.
pub(crate) fn refuted() -> FrameError {
    let why = "the index file beside the video was wrong: open the video again";
    FrameError::new(FrameErrorCode::VideoChanged, why)
}
