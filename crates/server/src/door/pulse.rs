//! Whether a connection is alive, and not too slow.
//!
//! One clock for all: the socket tells when bytes came or went ([`Watched`]), requests tell when they
//! begin and end ([`Counted`]), and whoever drives the connection looks now and then.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::Version;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::guests::Guest;

/// How long what may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// From a head's first byte (or the connection's begin) to its last.
    pub(crate) handshake: Duration,
    /// Without a request, and for bytes that the peer does not take.
    pub(crate) idle: Duration,
}

/// Why a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Over {
    /// A request's head did not come in time.
    SlowRequest,
    /// Nothing came.
    Idle,
}

/// What is known of a connection. Times are milliseconds since it began.
#[derive(Debug)]
pub(crate) struct Pulse {
    began: Instant,
    patience: Patience,
    /// Requests whose answer is not given to the last byte.
    working: AtomicUsize,
    /// One more than the time of the first byte of a head; 0 where none is on its way.
    head: AtomicU64,
    /// When something happened last.
    last: AtomicU64,
    /// HTTP/2: bytes come without a request, too.
    multiplexed: AtomicBool,
    /// There are bytes that the peer does not take yet.
    blocked: AtomicBool,
    /// How far a test is ahead of the clock.
    #[cfg(test)]
    ahead: AtomicU64,
}

/// A request that is being answered, until it is dropped.
#[derive(Debug)]
pub(crate) struct Work(Arc<Pulse>);

impl Pulse {
    pub(crate) fn new(patience: Patience) -> Self {
        Self {
            began: Instant::now(),
            patience,
            working: AtomicUsize::new(0),
            head: AtomicU64::new(1),
            last: AtomicU64::new(0),
            multiplexed: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            #[cfg(test)]
            ahead: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        #[cfg(test)]
        let now = now.saturating_add(self.ahead.load(Ordering::Relaxed));
        now
    }

    fn heard(&self) {
        let now = self.now();
        self.last.store(now, Ordering::Relaxed);
        if self.working.load(Ordering::Relaxed) == 0 && !self.multiplexed.load(Ordering::Relaxed) {
            let first = now.saturating_add(1);
            // Where one is on its way already, these bytes are more of it.
            self.head
                .compare_exchange(0, first, Ordering::Relaxed, Ordering::Relaxed)
                .ok();
        }
    }

    fn told(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// A head has come whole.
    pub(crate) fn begin(self: &Arc<Self>, version: Version) -> Work {
        self.working.fetch_add(1, Ordering::Relaxed);
        self.head.store(0, Ordering::Relaxed);
        let multiplexed = version == Version::HTTP_2;
        self.multiplexed.store(multiplexed, Ordering::Relaxed);
        Work(Arc::clone(self))
    }

    /// Whether something is on its way to the peer.
    pub(crate) fn is_busy(&self) -> bool {
        self.working.load(Ordering::Relaxed) > 0 || self.blocked.load(Ordering::Relaxed)
    }

    /// When to look whether it is over: often enough for heads.
    pub(crate) fn next_look(&self) -> Instant {
        const SHORTEST: Duration = Duration::from_millis(20);
        let now = self.now();
        let left = self.deadline().map_or(u64::MAX, |(at, _)| at - now.min(at));
        let left = Duration::from_millis(left);
        Instant::now() + left.clamp(SHORTEST, self.patience.handshake.max(SHORTEST))
    }

    /// Whether, and why, the connection is to end.
    pub(crate) fn is_over(&self) -> Option<Over> {
        let now = self.now();
        let (at, why) = self.deadline()?;
        (now >= at).then_some(why)
    }

    fn deadline(&self) -> Option<(u64, Over)> {
        if self.is_busy() {
            return None;
        }
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let last = self.last.load(Ordering::Relaxed);
        let idle = (last.saturating_add(millis(self.patience.idle)), Over::Idle);
        let head = self.head.load(Ordering::Relaxed).checked_sub(1);
        let head = head.map(|first| first.saturating_add(millis(self.patience.handshake)));
        Some(match head {
            Some(at) if at < idle.0 => (at, Over::SlowRequest),
            _ => idle,
        })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.told();
        self.0.working.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that counts as work until it is sent.
#[derive(Debug)]
pub(crate) struct Counted<B> {
    body: B,
    _work: Work,
}

impl<B> Counted<B> {
    pub(crate) fn new(body: B, work: Work) -> Self {
        Self { body, _work: work }
    }
}

impl<B: Body + Unpin> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that tells its pulse what goes on, fails when the peer takes nothing for too long,
/// and holds its place. All of that goes with it where it becomes a WebSocket.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    stream: S,
    pulse: Arc<Pulse>,
    /// When the peer has taken nothing for too long; only set while it does not.
    stall: Pin<Box<Sleep>>,
    stalls: bool,
    _guest: Guest,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, pulse: Arc<Pulse>, guest: Guest) -> Self {
        Self {
            stream,
            stall: Box::pin(sleep_until(pulse.began)),
            stalls: false,
            pulse,
            _guest: guest,
        }
    }

    /// What became of an attempt to send: an error where the peer has taken nothing for too long.
    fn sent<T>(&mut self, cx: &mut Context<'_>, sent: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if sent.is_ready() {
            if self.stalls {
                self.stalls = false;
                self.pulse.blocked.store(false, Ordering::Relaxed);
                self.pulse.told();
            }
            return sent;
        }
        if !self.stalls {
            self.stalls = true;
            self.pulse.blocked.store(true, Ordering::Relaxed);
            let at = Instant::now() + self.pulse.patience.idle;
            self.stall.as_mut().reset(at);
        }
        ready!(self.stall.as_mut().poll(cx));
        let message = "the peer takes nothing";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.pulse.heard();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.pulse.told();
        self.sent(cx, sent)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.pulse.told();
        self.sent(cx, sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = Pin::new(&mut self.stream).poll_flush(cx);
        self.sent(cx, sent)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.sent(cx, sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        handshake: Duration::from_secs(1000),
        idle: Duration::from_secs(10_000),
    };

    /// Lets time go by. What a test itself takes is nothing against it.
    fn wait(pulse: &Pulse, seconds: u64) {
        pulse.ahead.fetch_add(seconds * 1000, Ordering::Relaxed);
    }

    #[test]
    fn a_head_has_its_time_from_its_first_byte() {
        let pulse = Arc::new(Pulse::new(PATIENCE));
        // The first from the connection's begin, however it trickles.
        for _ in 0..9 {
            wait(&pulse, 100);
            pulse.heard();
        }
        assert_eq!(pulse.is_over(), None);
        wait(&pulse, 100);
        assert_eq!(pulse.is_over(), Some(Over::SlowRequest));
        let work = pulse.begin(Version::HTTP_11);
        wait(&pulse, 100_000);
        assert_eq!(pulse.is_over(), None, "an answer takes as long as it takes");
        drop(work);
        wait(&pulse, 9000);
        assert_eq!(pulse.is_over(), None);
        wait(&pulse, 1000);
        assert_eq!(pulse.is_over(), Some(Over::Idle));
        pulse.heard();
        assert_eq!(pulse.is_over(), None);
        wait(&pulse, 1000);
        assert_eq!(pulse.is_over(), Some(Over::SlowRequest));
    }

    #[test]
    fn bytes_of_http2_are_no_head() {
        let pulse = Arc::new(Pulse::new(PATIENCE));
        drop(pulse.begin(Version::HTTP_2));
        pulse.heard();
        wait(&pulse, 1100);
        assert_eq!(pulse.is_over(), None);
        wait(&pulse, 8900);
        assert_eq!(pulse.is_over(), Some(Over::Idle));
    }

    #[test]
    fn a_look_comes_in_time() {
        let pulse = Arc::new(Pulse::new(PATIENCE));
        let about = |pulse: &Pulse| {
            let left = pulse.next_look() - Instant::now();
            left.as_secs().div_ceil(100)
        };
        wait(&pulse, 400);
        assert_eq!(about(&pulse), 6);
        let work = pulse.begin(Version::HTTP_11);
        assert_eq!(about(&pulse), 10);
        drop(work);
        wait(&pulse, 9500);
        assert_eq!(about(&pulse), 5);
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_given_up() {
        use tokio::io::AsyncWriteExt as _;
        let pulse = Arc::new(Pulse::new(Patience {
            idle: Duration::from_millis(50),
            ..PATIENCE
        }));
        let guests = super::super::guests::Guests::new(1, None);
        let who = crate::who::Who::at([127, 0, 0, 1].into());
        let (near, _far) = tokio::io::duplex(10);
        let mut near = Watched::new(near, Arc::clone(&pulse), guests.admit(who).unwrap());
        near.write_all(&[0; 10]).await.unwrap();
        assert!(!pulse.is_busy());
        let sent = near.write_all(&[0; 1]).await;
        assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(pulse.is_busy() && guests.admit(who).is_err());
        drop(near);
        assert!(guests.admit(who).is_ok());
    }
}
