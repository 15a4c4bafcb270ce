//! One client: from its messages to the engine, and back.
//!
//! Three tasks: the *reader* takes messages from the socket into a bounded queue, the *executor*
//! works on them in the order in which they came, the *writer* empties the outbox into the
//! socket. A `SetVideo` reaches the executor past the queue, as a higher epoch, so that frames of
//! the video before it end at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::extract::ws::{Message, WebSocket, close_code};
use engine::{Engine, FrameTarget, Video};
use futures::StreamExt;
use futures::stream::SplitStream;
use protocol::{ClientMessage, FrameErrorCode, FrameRequest, ServerMessage};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::answer;
use crate::outbox::{Gone, Outbox, close, outbox, write};

/// What one session may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Frames of one `RequestFrames`; what is beyond is answered `too_many_frames`.
    pub(crate) frames_per_message: usize,
    /// Bytes of one text message; a larger one is answered with an `Error`.
    pub(crate) message_bytes: usize,
    /// Bytes of one message that the transport still reads; a larger one ends the connection.
    pub(crate) transport_bytes: usize,
    /// Messages that wait for the executor.
    pub(crate) queued_messages: usize,
    /// Bytes of the messages that wait for the executor. At least `message_bytes`.
    pub(crate) queued_bytes: u32,
    /// Messages that wait for the client.
    pub(crate) outbox_messages: usize,
    /// Bytes that wait for the client.
    pub(crate) outbox_bytes: u32,
    /// How long a session may go on after the server was told to stop, or after the client has
    /// gone.
    pub(crate) grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frames_per_message: 4096,
            message_bytes: 1 << 20,
            transport_bytes: 16 << 20,
            queued_messages: 1024,
            queued_bytes: 2 << 20,
            outbox_messages: 256,
            outbox_bytes: 8 << 20,
            grace: Duration::from_secs(5),
        }
    }
}

/// A message that waits for the executor.
#[derive(Debug)]
struct Request {
    kind: RequestKind,
    /// How many `SetVideo` came before it, itself included.
    epoch: u64,
    /// Its share of the queue's bytes.
    _room: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum RequestKind {
    SetVideo {
        path: String,
    },
    Frames {
        frames: Vec<FrameRequest>,
    },
    /// Not understood; the sentence says why.
    Refused {
        message: String,
    },
}

/// What a session did, for its last line in the log.
#[derive(Debug, Default)]
struct Tally {
    frames: AtomicU64,
    frame_errors: AtomicU64,
    image_bytes: AtomicU64,
}

/// Why a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The client closed, or its connection broke.
    Left,
    /// A message was larger than the transport reads.
    TooLarge,
    /// The client broke the WebSocket protocol.
    BrokenProtocol,
    /// Nothing can be written to the client.
    NotReading,
    /// The server stops.
    Stopping,
    /// A defect of the server.
    Failed,
}

/// Serves one client to its end. `stop` turns true when the server is to stop.
pub(crate) async fn run(
    socket: WebSocket,
    engine: Engine,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let started = Instant::now();
    let (sink, mut stream) = socket.split();
    let (outbox, pending) = outbox(limits.outbox_messages, limits.outbox_bytes);
    let (queue, requests) = mpsc::channel(limits.queued_messages);
    let (epoch, latest) = watch::channel(0);
    let tally = Arc::new(Tally::default());
    let mut writer = tokio::spawn(write(sink, pending));
    let executor = Executor {
        engine,
        outbox: outbox.clone(),
        latest,
        frames_per_message: limits.frames_per_message,
        tally: Arc::clone(&tally),
    };
    let mut executor = tokio::spawn(executor.run(requests));

    let reader = Reader {
        limits,
        queue,
        epoch,
        room: Arc::new(Semaphore::new(limits.queued_bytes as usize)),
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
        executed = tokio::time::timeout(limits.grace, &mut executor).await.ok();
    }
    if executed.is_none() {
        executor.abort();
        executor.await.ok();
    }
    drop(outbox);
    let (code, reason) = match end {
        End::TooLarge => (close_code::SIZE, "the message is too large"),
        End::BrokenProtocol => (close_code::PROTOCOL, "not a WebSocket message"),
        End::Stopping => (close_code::AWAY, "the server stops"),
        End::Failed => (close_code::ERROR, "the server failed"),
        End::Left | End::NotReading => (close_code::NORMAL, ""),
    };
    let farewell = async {
        if let Ok(Ok(sink)) = (&mut writer).await {
            close(sink, code, reason).await.ok();
        }
    };
    tokio::time::timeout(limits.grace, farewell).await.ok();
    writer.abort();
    tracing::info!(
        end = ?end,
        frames = tally.frames.load(Ordering::Relaxed),
        frame_errors = tally.frame_errors.load(Ordering::Relaxed),
        image_bytes = tally.image_bytes.load(Ordering::Relaxed),
        seconds = started.elapsed().as_secs_f64(),
        "session ended"
    );
}

struct Reader {
    limits: Limits,
    queue: mpsc::Sender<Request>,
    epoch: watch::Sender<u64>,
    room: Arc<Semaphore>,
}

impl Reader {
    /// Reads until the connection ends.
    async fn run(self, stream: &mut SplitStream<WebSocket>) -> End {
        loop {
            let (kind, size) = match stream.next().await {
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
            let mut epoch = *self.epoch.borrow();
            if matches!(kind, RequestKind::SetVideo { .. }) {
                epoch += 1;
                self.epoch.send_replace(epoch);
            }
            let share = u32::try_from(size)
                .unwrap_or(u32::MAX)
                .min(self.limits.queued_bytes);
            let Ok(room) = Arc::clone(&self.room).acquire_many_owned(share).await else {
                return End::Left;
            };
            if self
                .queue
                .send(Request {
                    kind,
                    epoch,
                    _room: room,
                })
                .await
                .is_err()
            {
                return End::NotReading;
            }
        }
    }

    /// Reads one text message, and tells its bytes.
    fn read(&self, text: &str) -> (RequestKind, usize) {
        if text.len() > self.limits.message_bytes {
            let message = format!(
                "The message is {} bytes long; at most {} are taken",
                text.len(),
                self.limits.message_bytes
            );
            return (RequestKind::Refused { message }, 0);
        }
        let kind = match ClientMessage::parse(text) {
            Ok(ClientMessage::SetVideo { path }) => RequestKind::SetVideo { path },
            Ok(ClientMessage::RequestFrames { frames }) => RequestKind::Frames { frames },
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

struct Executor {
    engine: Engine,
    outbox: Outbox,
    /// The epoch of the last `SetVideo` that was read.
    latest: watch::Receiver<u64>,
    frames_per_message: usize,
    tally: Arc<Tally>,
}

impl Executor {
    /// Works on requests until there are no more, or nobody takes the answers.
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) -> Result<(), Gone> {
        let mut video: Option<Arc<Video>> = None;
        while let Some(request) = requests.recv().await {
            match request.kind {
                RequestKind::Refused { message } => {
                    self.outbox.send(&ServerMessage::Error { message }).await?;
                }
                RequestKind::SetVideo { path } => video = self.set_video(path).await?,
                RequestKind::Frames { frames } => {
                    self.serve(video.as_ref(), &frames, request.epoch).await?;
                }
            }
        }
        Ok(())
    }

    async fn set_video(&self, path: String) -> Result<Option<Arc<Video>>, Gone> {
        match self.engine.open(&path).await {
            Ok(video) => {
                self.outbox.send(&answer::video_set(path, &video)).await?;
                Ok(Some(video))
            }
            Err(error) => {
                tracing::debug!(%error, "video not set");
                for message in answer::video_not_set(path, &error) {
                    self.outbox.send(&message).await?;
                }
                Ok(None)
            }
        }
    }

    /// Answers every frame of one message: first those whose answer is known, then the pictures.
    async fn serve(
        &mut self,
        video: Option<&Arc<Video>>,
        frames: &[FrameRequest],
        epoch: u64,
    ) -> Result<(), Gone> {
        let within = frames.len().min(self.frames_per_message);
        let (frames, surplus) = frames.split_at_checked(within).unwrap_or((frames, &[]));
        for frame in surplus {
            let message = format!(
                "At most {} frames are taken at once",
                self.frames_per_message
            );
            self.refuse(frame, FrameErrorCode::TooManyFrames, message)
                .await?;
        }
        let Some(video) = video else {
            for frame in frames {
                self.refuse(frame, FrameErrorCode::NoVideo, "No video is set")
                    .await?;
            }
            return Ok(());
        };
        let mut due = Vec::with_capacity(frames.len());
        let mut targets = Vec::with_capacity(frames.len());
        for frame in frames {
            match video.index().sample_at_offset(frame.offset) {
                Some(sample) => {
                    due.push((frame, false));
                    targets.push(FrameTarget { sample });
                }
                None => {
                    let message = format!("No frame of this video starts at byte {}", frame.offset);
                    self.refuse(frame, FrameErrorCode::UnknownOffset, message)
                        .await?;
                }
            }
        }
        if *self.latest.borrow() == epoch && !targets.is_empty() {
            let mut ticket = self.engine.request(video, targets);
            loop {
                let outcome = tokio::select! {
                    biased;
                    () = superseded(&mut self.latest, epoch) => None,
                    outcome = ticket.next() => outcome,
                };
                let Some(outcome) = outcome else { break };
                let Some((frame, answered)) = due.get_mut(outcome.position) else {
                    continue;
                };
                *answered = true;
                match outcome.result {
                    Ok(image) => {
                        self.tally.frames.fetch_add(1, Ordering::Relaxed);
                        let size = image.bytes.len() as u64;
                        self.tally.image_bytes.fetch_add(size, Ordering::Relaxed);
                        self.outbox
                            .send_frame(frame.index, frame.offset, image.bytes)
                            .await?;
                    }
                    Err(error) => {
                        self.refuse(frame, answer::code(error.code), error.message)
                            .await?;
                    }
                }
            }
            // The ticket is dropped here, and what it had not yet made with it.
        }
        for (frame, answered) in due {
            if !answered {
                self.refuse(frame, FrameErrorCode::Cancelled, "Another video was set")
                    .await?;
            }
        }
        Ok(())
    }

    async fn refuse(
        &self,
        frame: &FrameRequest,
        code: FrameErrorCode,
        message: impl Into<String>,
    ) -> Result<(), Gone> {
        self.tally.frame_errors.fetch_add(1, Ordering::Relaxed);
        self.outbox
            .send(&answer::frame_error(frame, code, message))
            .await
    }
}

/// Returns when a `SetVideo` was read after `epoch`; never, if no more messages come.
async fn superseded(latest: &mut watch::Receiver<u64>, epoch: u64) {
    if latest.wait_for(|latest| *latest > epoch).await.is_err() {
        futures::future::pending::<()>().await;
    }
}
