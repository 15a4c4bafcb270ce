//! What is to be sent to one client: in order, bounded in messages and in bytes.
//!
//! A client that does not read fills its own outbox, and then its own session waits; nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures::SinkExt;
use futures::stream::SplitSink;
use protocol::ServerMessage;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::tally::Tally;

/// The client is gone, or does not take any more.
#[derive(Debug)]
pub(crate) struct Gone;

/// Sends to one client.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<Item>,
    /// Pings go before all that waits.
    pings: mpsc::Sender<Ping>,
    room: Arc<Semaphore>,
    bytes: u32,
    all: Arc<Outboxes>,
}

/// What waits in all outboxes.
#[derive(Debug)]
pub(crate) struct Outboxes {
    waiting: AtomicUsize,
    most: usize,
}

impl Outboxes {
    /// When more bytes than this wait in all, each outbox takes one item at a time.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            waiting: AtomicUsize::new(0),
            most,
        })
    }

    /// Bytes that wait in all of them.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn is_crowded(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= self.most
    }
}

/// Bytes of one item in an outbox, until they are written.
#[derive(Debug)]
struct Waiting {
    all: Arc<Outboxes>,
    bytes: usize,
}

impl Waiting {
    fn new(all: &Arc<Outboxes>, bytes: usize) -> Self {
        all.waiting.fetch_add(bytes, Ordering::Relaxed);
        let all = Arc::clone(all);
        Self { all, bytes }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.all.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What is sent without anything in between.
#[derive(Debug)]
struct Item {
    text: String,
    /// The image that a `Frame` announces, and when it was made.
    image: Option<(Bytes, Instant)>,
    /// Its share of the outbox's bytes.
    _room: OwnedSemaphorePermit,
    _waiting: Waiting,
}

/// A ping; who asked for it is told when it is in the socket.
type Ping = oneshot::Sender<()>;

/// The other end, for the task that writes to the socket.
#[derive(Debug)]
pub(crate) struct Pending {
    queue: mpsc::Receiver<Item>,
    pings: mpsc::Receiver<Ping>,
}

/// An outbox of at most so many messages and bytes. One item may be larger than the bytes; it
/// then waits until it is alone.
pub(crate) fn outbox(messages: usize, bytes: u32, all: &Arc<Outboxes>) -> (Outbox, Pending) {
    let (sender, receiver) = mpsc::channel(messages);
    let (pings, pings_to_send) = mpsc::channel(1);
    let room = Arc::new(Semaphore::new(bytes as usize));
    (
        Outbox {
            queue: sender,
            pings,
            room,
            bytes,
            all: Arc::clone(all),
        },
        Pending {
            queue: receiver,
            pings: pings_to_send,
        },
    )
}

impl Outbox {
    /// Puts a message in, as soon as there is room.
    pub(crate) async fn send(&self, message: &ServerMessage) -> Result<(), Gone> {
        self.put(message.to_json(), None).await
    }

    /// Puts in a message that is written already.
    pub(crate) async fn send_text(&self, text: String) -> Result<(), Gone> {
        self.put(text, None).await
    }

    /// Puts in a `Frame` and the image that it announces, which was made at that time.
    pub(crate) async fn send_frame(
        &self,
        frame: &ServerMessage,
        image: Bytes,
        made: Instant,
    ) -> Result<(), Gone> {
        self.put(frame.to_json(), Some((image, made))).await
    }

    /// Asks the client whether it is there; returns when the question is in the socket.
    pub(crate) async fn ping(&self) -> Result<(), Gone> {
        let (sent, in_socket) = oneshot::channel();
        self.pings.send(sent).await.map_err(|_| Gone)?;
        in_socket.await.map_err(|_| Gone)
    }

    async fn put(&self, text: String, image: Option<(Bytes, Instant)>) -> Result<(), Gone> {
        let size = text
            .len()
            .saturating_add(image.as_ref().map_or(0, |(image, _)| image.len()));
        let share = if self.all.is_crowded() {
            self.bytes
        } else {
            u32::try_from(size).unwrap_or(u32::MAX).min(self.bytes)
        };
        let room = Arc::clone(&self.room).acquire_many_owned(share);
        // The semaphore knows nothing of the writer's end.
        let room = tokio::select! {
            room = room => room.map_err(|_| Gone)?,
            () = self.queue.closed() => return Err(Gone),
        };
        self.queue
            .send(Item {
                text,
                image,
                _room: room,
                _waiting: Waiting::new(&self.all, size),
            })
            .await
            .map_err(|_| Gone)
    }

    /// Returns when the writer has ended.
    pub(crate) async fn closed(&self) {
        self.queue.closed().await;
    }
}

#[cfg(test)]
impl Pending {
    /// The next item, if there is one: its text, and its image.
    pub(crate) fn take(&mut self) -> Option<(String, Option<Bytes>)> {
        let item = self.queue.try_recv().ok()?;
        Some((item.text, item.image.map(|(image, _)| image)))
    }
}

/// Writes until every [`Outbox`] is dropped and everything is sent, or nothing can be sent any more,
/// then gives the socket back.
pub(crate) async fn write(
    mut socket: SplitSink<WebSocket, Message>,
    mut pending: Pending,
    tally: Arc<Tally>,
) -> SplitSink<WebSocket, Message> {
    if let Err(error) = write_all(&mut socket, &mut pending, &tally).await {
        tracing::debug!(%error, "nothing can be sent any more");
    }
    socket
}

async fn write_all(
    socket: &mut SplitSink<WebSocket, Message>,
    pending: &mut Pending,
    tally: &Tally,
) -> Result<(), axum::Error> {
    // When the pictures that are on their way into the socket were made.
    let mut made = Vec::new();
    loop {
        let item = tokio::select! {
            item = pending.queue.recv() => item,
            Some(sent) = pending.pings.recv() => {
                socket.send(Message::Ping(Bytes::new())).await?;
                sent.send(()).ok();
                continue;
            }
        };
        let Some(item) = item else { return Ok(()) };
        made.extend(feed(socket, item).await?);
        // What is there already goes out with it.
        while let Ok(item) = pending.queue.try_recv() {
            made.extend(feed(socket, item).await?);
        }
        socket.flush().await?;
        for made in made.drain(..) {
            tally.sent(made);
        }
    }
}

async fn feed(
    socket: &mut SplitSink<WebSocket, Message>,
    item: Item,
) -> Result<Option<Instant>, axum::Error> {
    socket.feed(Message::Text(item.text.into())).await?;
    let Some((image, made)) = item.image else {
        return Ok(None);
    };
    socket.feed(Message::Binary(image)).await?;
    Ok(Some(made))
}

/// Says good-bye, or answers the good-bye of a client that said it first.
pub(crate) async fn close(
    mut socket: SplitSink<WebSocket, Message>,
    code: u16,
    reason: &'static str,
) -> Result<(), axum::Error> {
    let frame = CloseFrame {
        code,
        reason: reason.into(),
    };
    // After the client's own close frame nothing is sent any more but the answer to it, which the
    // transport has ready.
    let said = socket.send(Message::Close(Some(frame))).await;
    socket.close().await.and(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn outbox(messages: usize, bytes: u32) -> (Outbox, Pending) {
        super::outbox(messages, bytes, &Outboxes::new(1 << 30))
    }

    fn error(length: usize) -> ServerMessage {
        ServerMessage::Error {
            message: "x".repeat(length),
            error: None,
        }
    }

    #[tokio::test]
    async fn a_full_outbox_makes_the_sender_wait() {
        let (outbox, mut pending) = outbox(10, 1000);
        outbox.send(&error(400)).await.unwrap();
        outbox.send(&error(400)).await.unwrap();
        let last = error(400);
        let mut third = Box::pin(outbox.send(&last));
        assert!((&mut third).now_or_never().is_none(), "no bytes are left");
        drop(pending.queue.recv().await);
        third.await.unwrap();
        // Larger than all the room: it goes alone.
        pending.queue.recv().await.unwrap();
        pending.queue.recv().await.unwrap();
        let image = Bytes::from(vec![0; 5000]);
        outbox
            .send_frame(&error(3), image, Instant::now())
            .await
            .unwrap();
        assert!(outbox.send(&error(1)).now_or_never().is_none());
        let frame = pending.queue.recv().await.unwrap();
        assert_eq!(frame.text, r#"{"type":"Error","message":"xxx"}"#);
        assert_eq!(frame.image.unwrap().0.len(), 5000);
    }

    #[tokio::test]
    async fn messages_are_counted_too() {
        let (outbox, _pending) = outbox(2, 1_000_000);
        outbox.send(&error(1)).await.unwrap();
        outbox.send(&error(1)).await.unwrap();
        assert!(outbox.send(&error(1)).now_or_never().is_none());
    }

    #[tokio::test]
    async fn who_waits_for_a_client_that_went_is_told() {
        let (outbox, pending) = outbox(10, 100);
        outbox.send(&error(90)).await.unwrap();
        let waiting = outbox.clone();
        let waiting = tokio::spawn(async move { waiting.send(&error(90)).await.is_err() });
        tokio::task::yield_now().await;
        drop(pending);
        assert!(waiting.await.unwrap());
        outbox.closed().await;
    }

    #[tokio::test]
    async fn where_much_waits_for_others_each_has_one_item_at_a_time() {
        let all = Outboxes::new(1000);
        let (first, mut taken) = super::outbox(10, 2000, &all);
        let (second, mut other) = super::outbox(10, 2000, &all);
        second.send(&error(100)).await.unwrap();
        for _ in 0..2 {
            first.send(&error(600)).await.unwrap();
        }
        let more = error(10);
        let mut waits = Box::pin(second.send(&more));
        assert!((&mut waits).now_or_never().is_none(), "it is not alone");
        drop(other.queue.recv().await);
        waits.await.unwrap();
        // What is written waits no more, for nobody.
        drop(other.queue.recv().await);
        while taken.queue.try_recv().is_ok() {}
        for _ in 0..3 {
            second.send(&error(10)).await.unwrap();
        }
        drop(other);
        assert_eq!(all.waiting.load(Ordering::Relaxed), 0);
    }
}
