//! What the network's side counts, for `GET /metrics`.
//!
//! Counting is a few atomic additions in cells that are all there from the start: no lock, no
//! search, nothing that grows with names that clients choose. [`exposition`] reads them when
//! somebody asks, with what the engine and the store have counted for themselves; [`process`] asks
//! the system about this process, [`serve`] is the route.

mod exposition;
mod process;
mod serve;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use engine::Histogram;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use protocol::{FrameErrorCode, VideoErrorCode};

pub(crate) use serve::{Scrape, on_its_own, router};

/// Adds to a figure.
fn add(cell: &AtomicU64, amount: u64) {
    cell.fetch_add(amount, Ordering::Relaxed);
}

/// Nanoseconds since an instant.
fn nanos_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

macro_rules! labels {
    ($(#[$doc:meta])* $kind:ident { $($(#[$of:meta])* $name:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum $kind { $($(#[$of])* $name),* }

        impl $kind {
            /// All there are.
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];

            /// As it stands in a label.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

labels!(
    /// What an HTTP request is for. Never the path itself: there are as many as clients like.
    Route {
        Frame = "frame",
        Info = "info",
        Index = "index",
        Storyboard = "storyboard",
        Clip = "clip",
        Gop = "gop",
        List = "list",
        Openapi = "openapi",
        /// The upgrade to a WebSocket.
        Websocket = "websocket",
        Health = "health",
        Ready = "ready",
        Metrics = "metrics",
        /// A file of the page.
        Viewer = "viewer",
        /// Nothing that there is.
        Other = "other",
    }
);

labels!(
    /// How an HTTP request went.
    Outcome {
        /// Status below 300.
        Ok = "ok",
        /// The client has it: status 3xx.
        NotModified = "not_modified",
        /// What was asked for cannot be had: status 4xx.
        Refused = "refused",
        /// Status 5xx.
        Failed = "failed",
        /// The client went before it was answered.
        Gone = "gone",
    }
);

labels!(
    /// How a frame's request over WebSocket went.
    Answered {
        Ok = "ok",
        Failed = "failed",
        Cancelled = "cancelled",
    }
);

labels!(
    /// Over what somebody asks.
    Protocol {
        Websocket = "websocket",
        Http = "http",
    }
);

labels!(
    /// Why a session ended.
    End {
        /// The client closed, or its connection broke.
        Left = "left",
        /// A message was larger than the transport reads.
        TooLarge = "too_large",
        /// The client broke the WebSocket protocol.
        BrokenProtocol = "broken_protocol",
        /// Nothing can be written to the client.
        NotReading = "not_reading",
        /// The client says nothing, not even that it is there.
        Silent = "silent",
        /// The server stops.
        Stopping = "stopping",
        /// A defect of the server.
        Failed = "failed",
    }
);

/// One cell for each value of a label.
#[derive(Debug)]
struct By<T, const N: usize>([T; N]);

impl<T: Default, const N: usize> Default for By<T, N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| T::default()))
    }
}

impl<T, const N: usize> By<T, N> {
    fn at(&self, place: usize) -> Option<&T> {
        self.0.get(place)
    }
}

const ROUTES: usize = Route::ALL.len();
const OUTCOMES: usize = Outcome::ALL.len();

/// The labels of an error: its protocol and its code, both words of this program.
type ErrorLabels = [(&'static str, &'static str); 2];

/// The cells.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    http: By<By<Histogram, OUTCOMES>, ROUTES>,
    http_in_progress: By<AtomicU64, ROUTES>,
    frames: By<Histogram, { Answered::ALL.len() }>,
    frames_in_progress: AtomicU64,
    send: Histogram,
    previews: AtomicU64,
    image_bytes: By<AtomicU64, { Protocol::ALL.len() }>,
    sessions: AtomicU64,
    sessions_refused: AtomicU64,
    ended: By<AtomicU64, { End::ALL.len() }>,
    answer_hits: AtomicU64,
    answer_misses: AtomicU64,
    /// Codes are words of this program, so that there are no more than it has.
    errors: Family<ErrorLabels, Counter>,
}

/// Codes that only one side has.
const OWN_CODES: [(Protocol, &str); 6] = [
    (Protocol::Websocket, "bad_request"),
    (Protocol::Http, "bad_request"),
    (Protocol::Http, "failed"),
    (Protocol::Http, "not_acceptable"),
    (Protocol::Http, "too_many_sessions"),
    (Protocol::Http, "method_not_allowed"),
];

impl Metrics {
    pub(crate) fn new() -> Arc<Self> {
        let metrics = Self::default();
        // Those that are known are there from the start: a counter that begins with 1 has not
        // risen, to who looks at rates.
        for protocol in Protocol::ALL {
            let frames = FrameErrorCode::ALL.map(FrameErrorCode::as_str);
            let videos = VideoErrorCode::ALL.map(VideoErrorCode::as_str);
            for code in frames.into_iter().chain(videos) {
                metrics.errors(*protocol, code, 0);
            }
        }
        for (protocol, code) in OWN_CODES {
            metrics.errors(protocol, code, 0);
        }
        Arc::new(metrics)
    }

    /// So many answers with this code in place of what was asked for.
    pub(crate) fn errors(&self, protocol: Protocol, code: &'static str, count: u64) {
        let labels = [("protocol", protocol.as_str()), ("code", code)];
        self.errors.get_or_create(&labels).inc_by(count);
    }

    /// A picture of so many bytes was given to a client.
    pub(crate) fn image(&self, protocol: Protocol, bytes: u64) {
        if let Some(cell) = self.image_bytes.at(protocol as usize) {
            add(cell, bytes);
        }
    }

    /// A preview was given to a client.
    pub(crate) fn preview(&self) {
        add(&self.previews, 1);
    }

    /// A frame that was asked for over WebSocket then has its answer.
    pub(crate) fn frame(&self, asked: Instant, answered: Answered) {
        if let Some(histogram) = self.frames.at(answered as usize) {
            histogram.add(nanos_since(asked));
        }
    }

    /// A picture that was made so long ago has been written to a client.
    pub(crate) fn sent(&self, nanos: u64) {
        self.send.add(nanos);
    }

    /// Whether an answer was found by its URL.
    pub(crate) fn by_url(&self, found: bool) {
        let cell = match found {
            true => &self.answer_hits,
            false => &self.answer_misses,
        };
        add(cell, 1);
    }

    /// A session was refused, since there are as many as may be.
    pub(crate) fn session_refused(&self) {
        add(&self.sessions_refused, 1);
    }

    /// Frames that have no answer yet.
    pub(crate) fn frames_due(self: &Arc<Self>, count: usize) -> FramesDue {
        let left = count as u64;
        add(&self.frames_in_progress, left);
        let metrics = Arc::clone(self);
        FramesDue { metrics, left }
    }

    /// A session begins.
    pub(crate) fn session(self: &Arc<Self>) -> Session {
        add(&self.sessions, 1);
        Session {
            metrics: Arc::clone(self),
            end: End::Failed,
        }
    }

    /// An HTTP request begins.
    pub(crate) fn http(self: &Arc<Self>, route: Route) -> Exchange {
        if let Some(cell) = self.http_in_progress.at(route as usize) {
            add(cell, 1);
        }
        Exchange {
            metrics: Arc::clone(self),
            route,
            began: Instant::now(),
            outcome: Outcome::Gone,
        }
    }
}

/// Frames of one message, while some have no answer.
#[derive(Debug)]
pub(crate) struct FramesDue {
    metrics: Arc<Metrics>,
    left: u64,
}

impl FramesDue {
    /// One has its answer.
    pub(crate) fn answered(&mut self) {
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            let cell = &self.metrics.frames_in_progress;
            cell.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for FramesDue {
    fn drop(&mut self) {
        let cell = &self.metrics.frames_in_progress;
        cell.fetch_sub(self.left, Ordering::Relaxed);
    }
}

/// A session, while it lasts.
#[derive(Debug)]
pub(crate) struct Session {
    metrics: Arc<Metrics>,
    end: End,
}

impl Session {
    /// Why it ends.
    pub(crate) fn ends(&mut self, end: End) {
        self.end = end;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.metrics.sessions.fetch_sub(1, Ordering::Relaxed);
        if let Some(cell) = self.metrics.ended.at(self.end as usize) {
            add(cell, 1);
        }
    }
}

/// An HTTP request, until its answer begins.
#[derive(Debug)]
pub(crate) struct Exchange {
    metrics: Arc<Metrics>,
    pub(crate) route: Route,
    pub(crate) began: Instant,
    outcome: Outcome,
}

impl Exchange {
    /// It is answered.
    pub(crate) fn ends(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let (route, outcome) = (self.route as usize, self.outcome as usize);
        if let Some(cell) = self.metrics.http_in_progress.at(route) {
            cell.fetch_sub(1, Ordering::Relaxed);
        }
        let histogram = self.metrics.http.at(route).and_then(|of| of.at(outcome));
        if let Some(histogram) = histogram {
            histogram.add(nanos_since(self.began));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_stands_at_its_place() {
        for (place, route) in Route::ALL.iter().enumerate() {
            assert_eq!(*route as usize, place);
        }
        for (place, end) in End::ALL.iter().enumerate() {
            assert_eq!(*end as usize, place);
        }
    }

    #[test]
    fn what_is_in_progress_ends_however_it_ends() {
        let metrics = Metrics::new();
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let mut due = metrics.frames_due(3);
        due.answered();
        assert_eq!(read(&metrics.frames_in_progress), 2);
        drop(due);
        assert_eq!(read(&metrics.frames_in_progress), 0);
        let mut session = metrics.session();
        session.ends(End::Left);
        assert_eq!(read(&metrics.sessions), 1);
        drop(session);
        assert_eq!((read(&metrics.sessions), read(&metrics.ended.0[0])), (0, 1));
        let exchange = metrics.http(Route::Clip);
        assert_eq!(read(&metrics.http_in_progress.0[Route::Clip as usize]), 1);
        drop(exchange);
        let gone = &metrics.http.0[Route::Clip as usize].0[Outcome::Gone as usize];
        assert_eq!(gone.read().count(), 1);
    }
}
