//! Reads the first GOP of a video that was just set, so that its first frame need not wait for the
//! store. It goes where all that is read goes, so what is wanted meanwhile is read once.

use std::sync::Arc;

use media::sidecar::plain_start;
use media::{DecodeIndex, PresentationIndex};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::core::Core;
use crate::fetch::read_in_time;
use crate::schedule::{Fetch, GopKey};
use crate::video::Video;

/// Pieces that are read at the same time, for all clients together.
const TOGETHER: usize = 4;
/// The first piece: who asks for a frame waits for the end of one piece at the most.
const FIRST_PIECE: u64 = 256 << 10;
const LONGEST_PIECE: u64 = 4 << 20;
/// Most bytes of one GOP.
const MOST: u64 = 16 << 20;

/// A reading ahead; dropped, it ends.
#[derive(Debug)]
pub struct Prefetch(Option<JoinHandle<()>>);

impl Drop for Prefetch {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Who may read ahead.
#[derive(Debug)]
pub(crate) struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(TOGETHER))
    }
}

/// Begins to read the first GOP of a video, as far as there is room for what nobody has asked for.
pub(crate) fn first_gop(core: &Arc<Core>, video: &Arc<Video>) -> Prefetch {
    let most = (core.caches.budget() / 8).min(core.config.max_group_bytes);
    if !core.config.prefetch || most == 0 {
        return Prefetch(None);
    }
    let (core, video) = (Arc::clone(core), Arc::clone(video));
    let runtime = core.runtime.clone();
    Prefetch(Some(runtime.spawn(async move {
        for fetch in pieces(&video, most.min(MOST)) {
            // Never closed; if it were, pieces would only be read all at once.
            let _turn = core.ahead.0.acquire().await.ok();
            if let Err(error) = read_in_time(&core, &fetch).await {
                // Who needs it will read it again, and be told what is wrong.
                tracing::debug!(%error, "not read ahead");
                return;
            }
        }
    })))
}

/// The first GOP in pieces that grow, up to so many bytes.
fn pieces(video: &Arc<Video>, most: u64) -> Vec<Fetch<Arc<Video>>> {
    let index = video.index();
    let first = index.decode_index(PresentationIndex(0));
    let Some(start) = first.and_then(|s| plain_start(index, s)) else {
        return Vec::new();
    };
    let end = index
        .sync_after(start)
        .map_or(index.sample_count(), |s| s.0);
    let piece_to = |to: u32| Fetch {
        gop: GopKey {
            video: Arc::clone(video.key()),
            start: start.0,
        },
        video: Arc::clone(video),
        from: start.0,
        to,
        targets: Vec::new(),
        harvest: true,
    };
    let mut pieces = Vec::new();
    let (mut piece, mut all, mut length) = (0_u64, 0_u64, FIRST_PIECE);
    for sample in (start.0..end).map_while(|i| index.sample(DecodeIndex(i))) {
        let size = u64::from(sample.size);
        all = all.saturating_add(size);
        if all > most {
            break;
        }
        piece = piece.saturating_add(size);
        let to = sample.index.0.saturating_add(1);
        if piece >= length || to == end {
            pieces.push(piece_to(to));
            piece = 0;
            length = (length * 4).min(LONGEST_PIECE);
        }
    }
    pieces
}
