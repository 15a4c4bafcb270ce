//! What a requester holds while its frames are made.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use codec::Format as ImageFormat;
use media::DecodeIndex;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tracing::Span;

use crate::error::{FrameError, FrameErrorCode};
use crate::stats::{ClientCells, add};

/// A frame that is asked for: a sample of the opened video, and how it is to be shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameTarget {
    /// Its place in decode order.
    pub sample: DecodeIndex,
    /// Size and quality of the image.
    pub output: Output,
}

/// How an image is made of a picture.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Output {
    /// The image is scaled down to be at most so wide, in pixels.
    pub width: Option<u32>,
    /// The image is scaled down to be at most so high, in pixels.
    pub height: Option<u32>,
    /// 1 to 100; `None`: the engine's. Without meaning for what is lossless.
    pub quality: Option<u8>,
    /// How it is stored.
    pub format: ImageFormat,
    /// Where both sides are limited, the image fills them, cut in the middle of two sides.
    pub cover: bool,
    /// The picture is not turned or mirrored, whatever the container says.
    pub as_coded: bool,
}

/// Where a request stands among the requests of its client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Priority {
    /// Before all that came earlier.
    #[default]
    Newest,
    /// Behind all that came earlier.
    Fifo,
}

/// How a request is to be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RequestOptions {
    /// Its place among the client's requests.
    pub priority: Priority,
    /// Where a picture takes longer than a few milliseconds, one near it is shown first.
    pub preview: bool,
}

/// One image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EncodedImage {
    /// The file, whole.
    pub bytes: Bytes,
}

/// The answer to one target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrameOutcome {
    /// Its place in the request.
    pub position: usize,
    /// The picture of exactly this sample, or why there is none.
    pub result: Result<EncodedImage, FrameError>,
}

/// Another picture than the one that was asked for, to look at meanwhile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Preview {
    /// Place in the request of the target whose outcome is still to come.
    pub position: usize,
    /// What it really shows.
    pub sample: DecodeIndex,
    /// The picture.
    pub image: EncodedImage,
}

/// What a ticket hands out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FrameEvent {
    /// At most one for each target, before its outcome.
    Preview(Preview),
    /// Exactly one for each target.
    Outcome(FrameOutcome),
}

impl FrameEvent {
    fn size(&self) -> usize {
        match self {
            Self::Preview(p) => p.image.bytes.len(),
            Self::Outcome(o) => o.result.as_ref().map_or(0, |i| i.bytes.len()),
        }
    }
}

/// Encoded bytes that were made for all clients and not taken by them.
#[derive(Debug)]
pub(crate) struct Rooms {
    waiting: AtomicUsize,
    most: usize,
}

impl Rooms {
    /// So much may wait for a client in any case: others that take nothing do not keep it from
    /// what it takes.
    const LEAST: usize = 512 << 10;

    pub(crate) fn new(most: usize) -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            most,
        }
    }

    /// Bytes that wait for all clients.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// What may wait for one client: an eighth of what is free, so that there is always something
    /// left for one more.
    fn share(&self) -> usize {
        let free = self
            .most
            .saturating_sub(self.waiting.load(Ordering::SeqCst));
        (free / 8).max(Self::LEAST)
    }
}

/// Encoded bytes that were made for one client and not taken by it.
#[derive(Debug)]
pub(crate) struct Room {
    waiting: AtomicUsize,
    most: usize,
    all: Arc<Rooms>,
    /// Nothing is made for the client, until it has taken something and there is room.
    blocked: AtomicBool,
    taken: Notify,
}

impl Room {
    pub(crate) fn new(most: usize, all: &Arc<Rooms>) -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            most,
            all: Arc::clone(all),
            blocked: AtomicBool::new(false),
            taken: Notify::new(),
        }
    }

    /// More waits than should; never where nothing does.
    pub(crate) fn is_full(&self) -> bool {
        let most = self.most.min(self.all.share());
        self.waiting.load(Ordering::SeqCst) >= most
    }

    /// Whether it is full; if so, who takes is told when there is room. To be asked, and the
    /// client blocked, under the schedule's lock.
    pub(crate) fn block(&self) -> bool {
        // Said first: who takes at this moment either sees it, or is seen here.
        let before = self.blocked.swap(true, Ordering::SeqCst);
        let full = self.is_full();
        if !full && !before {
            self.blocked.store(false, Ordering::SeqCst);
        }
        full
    }

    /// Returns when there is room.
    pub(crate) async fn wait(&self) {
        loop {
            let taken = self.taken.notified();
            if !self.is_full() {
                return;
            }
            taken.await;
        }
    }

    fn put(&self, bytes: usize) {
        self.waiting.fetch_add(bytes, Ordering::SeqCst);
        self.all.waiting.fetch_add(bytes, Ordering::SeqCst);
    }

    /// True if the client is blocked and need not be any more.
    fn take(&self, bytes: usize) -> bool {
        self.all.waiting.fetch_sub(bytes, Ordering::SeqCst);
        self.waiting.fetch_sub(bytes, Ordering::SeqCst);
        if self.is_full() {
            return false;
        }
        self.taken.notify_waiters();
        self.blocked.swap(false, Ordering::SeqCst)
    }
}

/// How a target stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    Due,
    Previewed,
    Given,
}

/// From a ticket's first order to the first pass for it, for the log.
#[derive(Debug)]
pub(crate) enum Queue {
    /// Nothing is ordered.
    Before,
    Waits {
        _until_dropped: Span,
    },
    Over,
}

/// What a ticket and those who work for it share.
#[derive(Debug)]
struct Shared {
    answers: Mutex<Vec<Answer>>,
    queue: Mutex<Queue>,
    room: Arc<Room>,
    cells: Arc<ClientCells>,
}

impl Shared {
    fn answers(&self) -> MutexGuard<'_, Vec<Answer>> {
        // A list of small values: whole, whatever a panicking thread was doing.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks a target as answered. False if it was before.
    fn give(&self, position: usize) -> bool {
        give(&mut self.answers(), position)
    }
}

fn give(answers: &mut [Answer], position: usize) -> bool {
    match answers.get_mut(position) {
        Some(answer) if *answer != Answer::Given => {
            *answer = Answer::Given;
            true
        }
        _ => false,
    }
}

/// Where outcomes of one ticket are put. Never blocks: there are at most two events per target.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    shared: Arc<Shared>,
    sender: mpsc::UnboundedSender<FrameEvent>,
    /// When the request came.
    pub(crate) since: Instant,
    /// Something else may be shown meanwhile.
    pub(crate) previews: bool,
}

impl Sink {
    /// Figures of the client.
    pub(crate) fn cells(&self) -> &ClientCells {
        &self.shared.cells
    }

    pub(crate) fn shared_cells(&self) -> Arc<ClientCells> {
        Arc::clone(&self.shared.cells)
    }

    pub(crate) fn room(&self) -> &Room {
        &self.shared.room
    }

    /// Something of it waits for a pass from now on.
    pub(crate) fn is_queued(&self) {
        let mut queue = self.queue();
        if matches!(*queue, Queue::Before) {
            *queue = Queue::Waits {
                _until_dropped: tracing::debug_span!("queue"),
            };
        }
    }

    /// A pass for it begins. What is returned ends when it is dropped.
    pub(crate) fn end_queue(&self) -> Queue {
        std::mem::replace(&mut *self.queue(), Queue::Over)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // One value: whole, whatever a panicking thread was doing.
        self.shared
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a target has no answer yet.
    pub(crate) fn is_due(&self, position: usize) -> bool {
        let answers = self.shared.answers();
        answers.get(position).is_some_and(|a| *a != Answer::Given)
    }

    /// Whether a target has neither an answer nor a preview.
    pub(crate) fn wants_preview(&self, position: usize) -> bool {
        self.shared.answers().get(position) == Some(&Answer::Due)
    }

    /// Answers a target, unless it was answered before.
    pub(crate) fn answer(&self, position: usize, result: Result<EncodedImage, FrameError>) {
        let mut answers = self.shared.answers();
        if !give(&mut answers, position) {
            return;
        }
        let cells = self.cells();
        match &result {
            Ok(_) => add(&cells.frames, 1),
            Err(e) if e.code == FrameErrorCode::Cancelled => add(&cells.cancelled, 1),
            Err(_) => add(&cells.errors, 1),
        }
        let event = FrameEvent::Outcome(FrameOutcome { position, result });
        self.send(answers, event);
    }

    /// Shows something meanwhile, unless the target has a preview or its answer.
    pub(crate) fn preview(&self, position: usize, sample: DecodeIndex, image: EncodedImage) {
        let mut answers = self.shared.answers();
        match answers.get_mut(position) {
            Some(answer) if *answer == Answer::Due => *answer = Answer::Previewed,
            _ => return,
        }
        add(&self.cells().previews, 1);
        let event = FrameEvent::Preview(Preview {
            position,
            sample,
            image,
        });
        self.send(answers, event);
    }

    /// Sends while the list of answers is held: a ticket that is dropped marks all as given, and
    /// after that finds everything that was sent, so that its room is given back to the byte.
    fn send(&self, answers: MutexGuard<'_, Vec<Answer>>, event: FrameEvent) {
        let size = event.size();
        self.room().put(size);
        if self.sender.send(event).is_err() {
            // Not reached while the ticket is there.
            self.room().take(size);
        }
        drop(answers);
    }
}

/// What a ticket tells the engine.
pub(crate) trait Owner: Send + Sync + std::fmt::Debug {
    /// Nobody waits for these any more: one position, or all; `due` of them had no answer.
    fn cancel(&self, position: Option<usize>, due: usize);
    /// The client takes images again.
    fn has_room(&self);
}

/// The frames of one request, on their way. Dropping it cancels what is not done.
#[derive(Debug)]
pub struct FrameTicket {
    shared: Arc<Shared>,
    receiver: mpsc::UnboundedReceiver<FrameEvent>,
    /// Came before their turn.
    early: BTreeMap<usize, FrameOutcome>,
    /// Cancelled by the requester, and not handed out yet.
    cancelled: VecDeque<usize>,
    /// Which targets' outcomes were handed out.
    done: Vec<bool>,
    next: usize,
    driver: Option<AbortHandle>,
    owner: Option<Arc<dyn Owner>>,
}

impl FrameTicket {
    pub(crate) fn new(
        targets: usize,
        options: RequestOptions,
        room: &Arc<Room>,
        cells: &Arc<ClientCells>,
    ) -> (Self, Sink) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            answers: Mutex::new(vec![Answer::Due; targets]),
            queue: Mutex::new(Queue::Before),
            room: Arc::clone(room),
            cells: Arc::clone(cells),
        });
        let ticket = Self {
            shared: Arc::clone(&shared),
            receiver,
            early: BTreeMap::new(),
            cancelled: VecDeque::new(),
            done: vec![false; targets],
            next: 0,
            driver: None,
            owner: None,
        };
        let since = Instant::now();
        let sink = Sink {
            shared,
            sender,
            since,
            previews: options.preview,
        };
        (ticket, sink)
    }

    pub(crate) fn driven_by(&mut self, driver: Option<AbortHandle>, owner: Arc<dyn Owner>) {
        self.driver = driver;
        self.owner = Some(owner);
    }

    /// What comes next. Outcomes come in the order of the request, but for those that were
    /// cancelled, which come at once, and for those that are ready when more encoded bytes wait
    /// than [`crate::EngineConfig`] allows. Previews come as soon as they are there. `None` after
    /// the last outcome. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<FrameEvent> {
        loop {
            if let Some(position) = self.cancelled.pop_front() {
                return Some(self.hand_out(FrameOutcome {
                    position,
                    result: Err(FrameError::new(
                        FrameErrorCode::Cancelled,
                        "The request was cancelled",
                    )),
                }));
            }
            while self.done.get(self.next).copied().unwrap_or(false) {
                self.next += 1;
            }
            if self.next >= self.done.len() {
                return None;
            }
            let due = match self.early.remove(&self.next) {
                Some(outcome) => Some(outcome),
                None if self.shared.room.is_full() => self.early.pop_first().map(|(_, o)| o),
                None => None,
            };
            if let Some(outcome) = due {
                return Some(self.hand_out(outcome));
            }
            match self.receiver.recv().await {
                Some(FrameEvent::Preview(preview)) => {
                    // One that was overtaken shows nothing new.
                    let overtaken = self.early.contains_key(&preview.position)
                        || self.done.get(preview.position) == Some(&true);
                    self.took(preview.image.bytes.len());
                    if !overtaken {
                        return Some(FrameEvent::Preview(preview));
                    }
                }
                Some(FrameEvent::Outcome(outcome)) => {
                    if matches!(&outcome.result, Err(e) if e.code == FrameErrorCode::Cancelled) {
                        return Some(self.hand_out(outcome));
                    }
                    self.early.insert(outcome.position, outcome);
                }
                None => {
                    // All who could answer have gone: the server stops, or it has a defect. The
                    // client still gets an answer.
                    let position = self.next;
                    self.shared.give(position);
                    let message = "the frame was lost inside the server";
                    let error = FrameError::new(FrameErrorCode::DecodeFailed, message);
                    let result = Err(error);
                    self.early
                        .insert(position, FrameOutcome { position, result });
                }
            }
        }
    }

    fn hand_out(&mut self, outcome: FrameOutcome) -> FrameEvent {
        if let Some(slot) = self.done.get_mut(outcome.position) {
            *slot = true;
        }
        let event = FrameEvent::Outcome(outcome);
        self.took(event.size());
        event
    }

    fn took(&self, bytes: usize) {
        if self.shared.room.take(bytes)
            && let Some(owner) = &self.owner
        {
            owner.has_room();
        }
    }

    /// Nobody waits for a target any more: its outcome is an error with the code
    /// [`FrameErrorCode::Cancelled`], unless it was made already.
    pub fn cancel(&mut self, position: usize) {
        if self.shared.give(position) {
            self.cancelled.push_back(position);
            add(&self.shared.cells.cancelled, 1);
            if let Some(owner) = &self.owner {
                owner.cancel(Some(position), 1);
            }
        }
    }

    /// As [`FrameTicket::cancel`], for all targets.
    pub fn cancel_all(&mut self) {
        let mut due = 0;
        for position in 0..self.done.len() {
            if self.shared.give(position) {
                self.cancelled.push_back(position);
                add(&self.shared.cells.cancelled, 1);
                due += 1;
            }
        }
        if let Some(owner) = &self.owner {
            owner.cancel(None, due);
        }
    }
}

impl Drop for FrameTicket {
    fn drop(&mut self) {
        if let Some(driver) = &self.driver {
            driver.abort();
        }
        let due = {
            let mut answers = self.shared.answers();
            let due = answers.iter().filter(|a| **a != Answer::Given).count();
            answers.fill(Answer::Given);
            due
        };
        add(&self.shared.cells.dropped, due as u64);
        // What is made from now on finds nobody; what was made is given back.
        self.receiver.close();
        let mut waiting = 0;
        for outcome in std::mem::take(&mut self.early).into_values() {
            waiting += FrameEvent::Outcome(outcome).size();
        }
        while let Ok(event) = self.receiver.try_recv() {
            waiting += event.size();
        }
        let freed = self.shared.room.take(waiting);
        if let Some(owner) = self.owner.take() {
            owner.cancel(None, due);
            if freed {
                owner.has_room();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

    use super::*;

    const IMAGE: usize = 100 << 10;
    const MIB: usize = 1 << 20;

    fn fill(room: &Room) -> usize {
        let before = room.waiting.load(Ordering::SeqCst);
        while !room.is_full() {
            room.put(IMAGE);
        }
        room.waiting.load(Ordering::SeqCst) - before
    }

    #[test]
    fn the_more_waits_for_others_the_less_may_wait_for_one() {
        let all = Arc::new(Rooms::new(64 * MIB));
        let rooms: Vec<Room> = (0..500).map(|_| Room::new(32 * MIB, &all)).collect();
        let held: Vec<usize> = rooms.iter().map(fill).collect();
        assert!(held[0] > 7 * MIB && held[0] < 8 * MIB, "{}", held[0]);
        assert!(held.is_sorted_by(|a, b| a >= b), "{held:?}");
        // Whoever comes last has room for some.
        assert!(held[499] >= Rooms::LEAST);
        let sum: usize = held.iter().sum();
        assert!(sum <= 64 * MIB + 500 * (Rooms::LEAST + IMAGE), "{sum}");
        // Who takes has room again, and is told if it was blocked.
        assert!(rooms[0].block() && rooms[1].block());
        assert!(rooms[0].take(held[0]));
        assert!(!rooms[0].take(0), "told already");
        assert!(!rooms[0].block());
        // What others have taken makes room for who takes something, too.
        for (room, held) in rooms[2..].iter().zip(&held[2..]) {
            assert!(!room.take(*held));
        }
        assert!(rooms[1].take(IMAGE));
    }

    #[test]
    fn nobody_stays_blocked() {
        const TIMES: usize = 10_000;
        let all = Arc::new(Rooms::new(0));
        std::thread::scope(|scope| {
            for most in [1, IMAGE, 3 * IMAGE, 32 * MIB] {
                let room = Arc::new(Room::new(most, &all));
                // As the schedule knows it.
                let blocked = Arc::new(Mutex::new(false));
                let (sender, receiver) = std::sync::mpsc::channel();
                for _ in 0..2 {
                    let (making, knows) = (Arc::clone(&room), Arc::clone(&blocked));
                    let sender = sender.clone();
                    scope.spawn(move || {
                        for _ in 0..TIMES {
                            while *knows.lock().unwrap() {
                                std::thread::yield_now();
                            }
                            making.put(IMAGE);
                            sender.send(()).unwrap();
                            if making.is_full() {
                                let mut knows = knows.lock().unwrap();
                                if making.block() {
                                    *knows = true;
                                }
                            }
                        }
                    });
                }
                drop(sender);
                scope.spawn(move || {
                    for () in receiver {
                        if room.take(IMAGE) {
                            *blocked.lock().unwrap() = false;
                        }
                    }
                });
            }
        });
        assert_eq!(all.waiting.load(Ordering::SeqCst), 0);
    }
}
