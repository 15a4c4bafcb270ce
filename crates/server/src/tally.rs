//! What a session did: for its last line in the log, and for `GetStats`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use engine::{ClientStats, StageStats};
use protocol::{FrameErrorCode, SessionStats, StageTotal, StageTotals};

use crate::metrics::{Answered, FramesDue, Metrics, Protocol};

/// Counts of one session; of what it sent, not of what the engine made for it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    frames: AtomicU64,
    previews: AtomicU64,
    frame_errors: AtomicU64,
    cancelled: AtomicU64,
    image_bytes: AtomicU64,
    /// Pictures that have been written, and the nanoseconds from their being made.
    sent: AtomicU64,
    send_nanos: AtomicU64,
    /// Where all sessions are counted together.
    metrics: Arc<Metrics>,
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

impl Tally {
    /// Counts for the session, and there.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            ..Self::default()
        }
    }

    /// So many frames are due from now on.
    pub(crate) fn due(&self, frames: usize) -> FramesDue {
        self.metrics.frames_due(frames)
    }

    /// A frame that was asked for then is answered: with a picture, or with a `FrameError`.
    pub(crate) fn answered(&self, asked: Instant, error: Option<FrameErrorCode>) {
        let answered = match error {
            None => Answered::Ok,
            Some(FrameErrorCode::Cancelled) => Answered::Cancelled,
            Some(_) => Answered::Failed,
        };
        self.metrics.frame(asked, answered);
    }

    /// A message was answered with an error.
    pub(crate) fn error(&self, code: &'static str) {
        self.metrics.errors(Protocol::Websocket, code, 1);
    }

    /// A `Frame` with a picture of so many bytes.
    pub(crate) fn frame(&self, preview: bool, bytes: usize) {
        add(
            if preview {
                &self.previews
            } else {
                &self.frames
            },
            1,
        );
        add(&self.image_bytes, bytes as u64);
        self.metrics.image(Protocol::Websocket, bytes as u64);
        if preview {
            self.metrics.preview();
        }
    }

    /// A `FrameError`.
    pub(crate) fn frame_error(&self, code: FrameErrorCode) {
        add(&self.frame_errors, 1);
        self.error(code.as_str());
        if code == FrameErrorCode::Cancelled {
            add(&self.cancelled, 1);
        }
    }

    /// A picture that was made then has been written into the socket.
    pub(crate) fn sent(&self, made: Instant) {
        let nanos = u64::try_from(made.elapsed().as_nanos()).unwrap_or(u64::MAX);
        add(&self.sent, 1);
        add(&self.send_nanos, nanos);
        self.metrics.sent(nanos);
    }

    /// These counts, with what the engine counted for the session.
    pub(crate) fn stats(&self, engine: &ClientStats) -> SessionStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let stages = engine.stages;
        let send = StageStats {
            count: read(&self.sent),
            nanos: read(&self.send_nanos),
        };
        SessionStats {
            frames: read(&self.frames),
            previews: read(&self.previews),
            frame_errors: read(&self.frame_errors),
            cancelled: read(&self.cancelled),
            cache_hits: engine.cache_hits,
            joined: engine.joined,
            access_units_decoded: engine.access_units_decoded,
            access_units_needed: engine.access_units_needed,
            bytes_fetched: engine.bytes_fetched,
            bytes_needed: engine.bytes_needed,
            image_bytes: read(&self.image_bytes),
            stages: StageTotals {
                queue: total(stages.queue),
                fetch: total(stages.fetch),
                plan: total(stages.plan),
                decode: total(stages.decode),
                convert: total(stages.convert),
                encode: total(stages.encode),
                send: total(send),
            },
        }
    }
}

/// In milliseconds, to the microsecond.
fn total(stage: StageStats) -> StageTotal {
    StageTotal {
        count: stage.count,
        ms: (stage.nanos / 1000) as f64 / 1000.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_counts_what_it_sent() {
        let tally = Tally::default();
        tally.frame(false, 100);
        tally.frame(true, 20);
        tally.frame_error(FrameErrorCode::Cancelled);
        tally.frame_error(FrameErrorCode::NoVideo);
        tally.sent(Instant::now());
        let engine = ClientStats {
            joined: 7,
            ..ClientStats::default()
        };
        let stats = tally.stats(&engine);
        assert_eq!(
            (stats.frames, stats.previews, stats.image_bytes),
            (1, 1, 120)
        );
        assert_eq!((stats.frame_errors, stats.cancelled), (2, 1));
        assert_eq!((stats.joined, stats.stages.send.count), (7, 1));
    }

    #[test]
    fn milliseconds_have_three_digits_behind_the_point() {
        let stage = StageStats {
            count: 2,
            nanos: 1_234_567_899,
        };
        let told = serde_json::to_string(&total(stage)).unwrap();
        assert_eq!(told, r#"{"count":2,"ms":1234.567}"#);
    }
}
