//! Videos that have ended the processes that decode them.
//!
//! One access unit that crashes libavcodec spoils the frames that depend on it, as damage does. But
//! each of a thousand such costs a process: a video that does this again and again is not decoded any
//! more for a while.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{FrameError, FrameErrorCode};
use crate::schedule::VideoKey;

/// Access units of a video that have ended processes before nothing more of it is decoded.
const MOST: u32 = 3;
/// How long that is held against it, from the last one on.
const MEMORY: Duration = Duration::from_secs(600);
/// Videos that are known at the same time; beyond, the oldest is forgotten.
const VIDEOS: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Suspects(Mutex<HashMap<VideoKey, (u32, Instant)>>);

impl Suspects {
    fn lock(&self) -> MutexGuard<'_, HashMap<VideoKey, (u32, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An access unit of it has ended two processes, one after the other. True if that was once too
    /// often.
    pub(crate) fn note(&self, video: &VideoKey, now: Instant) -> bool {
        let mut all = self.lock();
        all.retain(|_, (_, last)| now.saturating_duration_since(*last) < MEMORY);
        if all.len() >= VIDEOS && !all.contains_key(video) {
            let oldest = all.iter().min_by_key(|(_, (_, last))| *last);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                all.remove(&oldest);
            }
        }
        let (count, last) = all.entry(video.clone()).or_insert((0, now));
        *count = count.saturating_add(1);
        *last = now;
        *count == MOST
    }

    /// Why nothing of it is decoded, if that is so.
    pub(crate) fn refusal(&self, video: &VideoKey, now: Instant) -> Option<FrameError> {
        let (count, last) = *self.lock().get(video)?;
        let recent = now.saturating_duration_since(last) < MEMORY;
        (recent && count >= MOST).then(|| {
            let minutes = MEMORY.as_secs() / 60;
            FrameError::new(
                FrameErrorCode::DecodeFailed,
                format!(
                    "the video has ended the process that decodes {count} times: it is not decoded \
                     for {minutes} minutes"
                ),
            )
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_video_is_refused_once_it_has_done_it_often_enough_and_for_a_while() {
        let suspects = Suspects::default();
        let (bad, good): (VideoKey, VideoKey) = ("bad".into(), "good".into());
        let now = Instant::now();
        assert!(!suspects.note(&bad, now) && !suspects.note(&bad, now));
        assert!(!suspects.note(&good, now));
        assert!(suspects.refusal(&bad, now).is_none());
        assert!(suspects.note(&bad, now));
        let refusal = suspects.refusal(&bad, now).unwrap();
        assert!(refusal.message.contains("3 times"), "{refusal}");
        assert!(suspects.refusal(&good, now).is_none());
        // It is told once, and forgotten after a while.
        assert!(!suspects.note(&bad, now));
        assert!(suspects.refusal(&bad, now + MEMORY).is_none());
        assert!(!suspects.note(&bad, now + MEMORY));
        assert!(suspects.refusal(&bad, now + MEMORY).is_none());
    }

    #[test]
    fn so_many_are_known_at_the_most() {
        let suspects = Suspects::default();
        let now = Instant::now();
        for i in 0..VIDEOS + 10 {
            let key: VideoKey = i.to_string().into();
            suspects.note(&key, now + Duration::from_millis(i as u64));
        }
        let all = suspects.lock();
        assert_eq!(all.len(), VIDEOS);
        assert!(!all.contains_key("9") && all.contains_key("10"));
    }
}
