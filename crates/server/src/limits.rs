//! What one session may take, and how many there may be.

use std::num::NonZeroU32;
use std::time::Duration;

/// Limits of the network's side; those of the engine are in [`engine::EngineConfig`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    /// Sessions at the same time; a further one is refused before it begins.
    pub(crate) sessions: usize,
    /// Frames of one session that may wait for their answers; what is beyond is answered
    /// `too_many_frames`.
    pub(crate) queued_frames: u32,
    /// Frames of one `RequestFrames`; what is beyond is answered `too_many_frames`.
    pub(crate) frames_per_message: usize,
    /// Bytes of one text message; a larger one is answered with an `Error`.
    pub(crate) message_bytes: u32,
    /// Messages that wait for the executor.
    pub(crate) queued_messages: usize,
    /// Messages that wait for the client.
    pub(crate) outbox_messages: usize,
    /// Bytes that wait for the client.
    pub(crate) outbox_bytes: u32,
    /// Bytes that wait for all clients; when there are more, one answer at a time waits for each.
    pub(crate) outbox_bytes_in_all: usize,
    /// Messages and requests of one address in a second; what is beyond waits, or is answered 429.
    pub(crate) messages_per_second: Option<NonZeroU32>,
    /// Frames of one address in a second; what is beyond is answered `rate_limited`.
    pub(crate) frames_per_second: Option<NonZeroU32>,
    /// How long what was asked for is still made after the server was told to stop.
    pub(crate) drain: Duration,
    /// How long the last bytes and the good-bye may take.
    pub(crate) grace: Duration,
    /// Silence after which a client that answers no ping is given up.
    pub(crate) idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 1024,
            queued_frames: 4096,
            frames_per_message: 4096,
            message_bytes: 1 << 20,
            queued_messages: 1024,
            outbox_messages: 256,
            outbox_bytes: 8 << 20,
            outbox_bytes_in_all: 256 << 20,
            messages_per_second: None,
            frames_per_second: None,
            drain: Duration::from_secs(5),
            grace: Duration::from_secs(3),
            idle: Duration::from_secs(120),
        }
    }
}

impl Limits {
    /// Bytes of one message that the transport still reads, so that it can be answered; a larger
    /// one ends the connection.
    pub(crate) fn transport_bytes(&self) -> usize {
        (16 << 20).max(self.message_bytes as usize)
    }

    /// Bytes of the messages that wait for the executor.
    pub(crate) fn queued_bytes(&self) -> u32 {
        self.message_bytes.saturating_mul(2)
    }
}
