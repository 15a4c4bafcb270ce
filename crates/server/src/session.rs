//! One client: from its messages to the engine, and back.
//!
//! The *reader* takes messages from the socket into a bounded queue, the *executor* works on them,
//! each message's *forwarder* carries pictures from the engine into the outbox, the *writer*
//! empties that into the socket.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::ws::{Message, WebSocket, close_code};
use engine::{ClientStats, Engine};
use futures::StreamExt;
use futures::stream::SplitStream;
use protocol::{ClientMessage, FramesRequest, RequestId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tracing::Instrument;

use crate::access::Guest;
use crate::executor::Executor;
use crate::limits::Limits;
use crate::metrics::{End, Metrics};
use crate::outbox::{Gone, Outbox, Outboxes, close, outbox, write};
use crate::rates::Pace;
use crate::tally::Tally;

/// A message that waits for the executor.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) kind: RequestKind,
    /// Its share of the queue's bytes.
    _room: OwnedSemaphorePermit,
}

/// What a message asks for.
#[derive(Debug)]
pub(crate) enum RequestKind {
    /// Another video.
    SetVideo { path: String },
    /// Frames of the video.
    Frames(FramesRequest),
    /// That what is due is no longer made.
    Cancel {
        index: Option<i64>,
        request_id: Option<RequestId>,
    },
    /// Where the frames are.
    Index { from: u64, count: Option<u64> },
    /// The session's figures.
    Stats,
    /// Nothing that is understood; the sentence says why.
    Refused { message: String },
}

impl From<ClientMessage> for RequestKind {
    fn from(message: ClientMessage) -> Self {
        match message {
            ClientMessage::SetVideo { path } => Self::SetVideo { path },
            ClientMessage::RequestFrames(request) => Self::Frames(request),
            ClientMessage::Cancel { index, request_id } => Self::Cancel { index, request_id },
            ClientMessage::GetIndex { from, count } => Self::Index {
                from: from.unwrap_or(0),
                count,
            },
            ClientMessage::GetStats => Self::Stats,
        }
    }
}

/// What a session is given.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) engine: Engine,
    pub(crate) guest: Guest,
    pub(crate) limits: Limits,
    pub(crate) pace: Pace,
    pub(crate) outboxes: Arc<Outboxes>,
    pub(crate) metrics: Arc<Metrics>,
    /// Turns true when the server is to stop.
    pub(crate) stop: watch::Receiver<bool>,
}

/// Serves one client to its end.
pub(crate) async fn run(socket: WebSocket, given: Given) {
    let Given {
        engine,
        guest,
        limits,
        pace,
        outboxes,
        metrics,
        mut stop,
    } = given;
    let mut counted = metrics.session();
    let started = Instant::now();
    let (sink, mut stream) = socket.split();
    let (outbox, pending) = outbox(limits.outbox_messages, limits.outbox_bytes, &outboxes);
    let (queue, requests) = mpsc::channel(limits.queued_messages);
    let tally = Arc::new(Tally::new(metrics));
    let mut writer = tokio::spawn(write(sink, pending, Arc::clone(&tally)));
    let executor = Executor::new(
        engine.clone(),
        guest,
        limits,
        pace.clone(),
        outbox.clone(),
        Arc::clone(&tally),
    );
    let (stay, left) = oneshot::channel::<()>();
    let mut executor = tokio::spawn(executor.run(requests, left).in_current_span());

    let reader = Reader {
        limits,
        pace,
        outbox: outbox.clone(),
        queue,
        room: Arc::new(Semaphore::new(limits.queued_bytes() as usize)),
    };
    let mut executed = None;
    let end = tokio::select! {
        end = reader.run(&mut stream) => end,
        () = outbox.closed() => End::NotReading,
        result = &mut executor => {
            let end = if result.is_ok() { End::NotReading } else { End::Failed };
            executed = Some(result);
            end
        }
        // An error means that the sender is gone, and with it the server.
        _ = stop.wait_for(|stop| *stop) => End::Stopping,
    };
    // From here on no request comes any more. When the server stops, what was asked for is still
    // served; a client that went waits for nothing.
    if end == End::Stopping {
        executed = tokio::time::timeout(limits.drain, &mut executor).await.ok();
    }
    drop(stay);
    if executed.is_none() {
        executor.await.ok();
    }
    drop(outbox);
    let (code, reason) = match end {
        End::TooLarge => (close_code::SIZE, "the message is too large"),
        End::BrokenProtocol => (close_code::PROTOCOL, "not a WebSocket message"),
        End::Silent => (close_code::POLICY, "no answer to a ping"),
        // Come back, in a moment: to this server's successor, or to another.
        End::Stopping => (close_code::RESTART, "the server stops: connect again"),
        End::Failed => (close_code::ERROR, "the server failed"),
        End::Left | End::NotReading => (close_code::NORMAL, ""),
    };
    let farewell = async {
        if let Ok(sink) = (&mut writer).await {
            close(sink, code, reason).await.ok();
        }
    };
    tokio::time::timeout(limits.grace, farewell).await.ok();
    writer.abort();
    counted.ends(end);
    tracing::debug!(counters = ?engine.counters(), "the engine so far");
    let did = tally.stats(&ClientStats::default());
    tracing::info!(
        end = end.as_str(),
        frames = did.frames,
        previews = did.previews,
        frame_errors = did.frame_errors,
        cancelled = did.cancelled,
        image_bytes = did.image_bytes,
        seconds = started.elapsed().as_secs_f64(),
        "session ended"
    );
}

struct Reader {
    limits: Limits,
    pace: Pace,
    outbox: Outbox,
    queue: mpsc::Sender<Request>,
    room: Arc<Semaphore>,
}

impl Reader {
    /// Reads until the connection ends.
    async fn run(self, stream: &mut SplitStream<WebSocket>) -> End {
        loop {
            let next = match self.next(stream).await {
                Ok(next) => next,
                Err(end) => return end,
            };
            let (kind, size) = match next {
                None | Some(Ok(Message::Close(_))) => return End::Left,
                Some(Err(error)) => return end_of(&error),
                // The transport answers these by itself.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Binary(_))) => {
                    let message = "The message is binary; requests are text messages in JSON";
                    (
                        RequestKind::Refused {
                            message: message.into(),
                        },
                        0,
                    )
                }
                Some(Ok(Message::Text(text))) => self.read(text.as_str()),
            };
            // Who sends faster than it may is read no faster.
            self.pace.message().await;
            let share = u32::try_from(size)
                .unwrap_or(u32::MAX)
                .min(self.limits.queued_bytes());
            let Ok(room) = Arc::clone(&self.room).acquire_many_owned(share).await else {
                return End::Left;
            };
            if self
                .queue
                .send(Request { kind, _room: room })
                .await
                .is_err()
            {
                return End::NotReading;
            }
        }
    }

    /// The next message. Half of the idle time without one, the client is asked whether it is
    /// there; then it has the other half.
    async fn next(
        &self,
        stream: &mut SplitStream<WebSocket>,
    ) -> Result<Option<Result<Message, axum::Error>>, End> {
        let half = self.limits.idle / 2;
        if let Ok(next) = tokio::time::timeout(half, stream.next()).await {
            return Ok(next);
        }
        tokio::select! {
            next = stream.next() => return Ok(next),
            // Behind what it has not taken yet, which may take its time; a connection that takes
            // nothing at all ends by itself.
            asked = self.outbox.ping() => asked.map_err(|Gone| End::NotReading)?,
        }
        let answered = tokio::time::timeout(half, stream.next()).await;
        answered.map_err(|_| End::Silent)
    }

    /// Reads one text message, and tells its bytes.
    fn read(&self, text: &str) -> (RequestKind, usize) {
        let most = self.limits.message_bytes as usize;
        if text.len() > most {
            let message = format!(
                "The message is {} bytes long; at most {most} are taken",
                text.len()
            );
            return (RequestKind::Refused { message }, 0);
        }
        let kind = match ClientMessage::parse(text) {
            Ok(message) => message.into(),
            Err(error) => RequestKind::Refused {
                message: error.to_string(),
            },
        };
        (kind, text.len())
    }
}

/// What a failed read means.
fn end_of(error: &axum::Error) -> End {
    use tokio_tungstenite::tungstenite::Error;
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        match error.downcast_ref::<Error>() {
            Some(Error::Capacity(_)) => return End::TooLarge,
            Some(Error::Utf8(_)) => return End::BrokenProtocol,
            Some(Error::Protocol(
                tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            )) => return End::Left,
            Some(Error::Protocol(_)) => return End::BrokenProtocol,
            Some(_) => return End::Left,
            None => source = error.source(),
        }
    }
    End::Left
}
