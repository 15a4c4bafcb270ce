//! From the engine's ticket of one message to the outbox.
//!
//! Whatever the ticket does, each frame is answered exactly once: what it answers twice is
//! answered once, and what it leaves without an answer gets an error.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use engine::{FrameEvent, FrameOutcome, FrameTicket, Preview};
use media::DecodeIndex;
use protocol::{FrameErrorCode, ServerMessage};
use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument;

use crate::address::Place;
use crate::answer;
use crate::due::{Due, DueFrame, Orders};
use crate::metrics::FramesDue;
use crate::outbox::{Gone, Outbox};
use crate::tally::Tally;

/// What is needed of a [`FrameTicket`].
pub(crate) trait Ticket: Send {
    /// The next event; nothing is lost when the future is dropped.
    fn next(&mut self) -> impl Future<Output = Option<FrameEvent>> + Send;
    /// One position is no longer wanted.
    fn cancel(&mut self, position: usize);
    /// None is wanted any more.
    fn cancel_all(&mut self);
}

impl Ticket for FrameTicket {
    fn next(&mut self) -> impl Future<Output = Option<FrameEvent>> + Send {
        FrameTicket::next(self)
    }

    fn cancel(&mut self, position: usize) {
        FrameTicket::cancel(self, position);
    }

    fn cancel_all(&mut self) {
        FrameTicket::cancel_all(self);
    }
}

/// One message's answers.
pub(crate) struct Forwarder<T, P> {
    pub(crate) ticket: T,
    pub(crate) due: Arc<Due>,
    /// The share of the session's queue: one for each frame that has no answer yet.
    pub(crate) share: OwnedSemaphorePermit,
    /// Where a sample of the video lies.
    pub(crate) place: P,
    pub(crate) outbox: Outbox,
    pub(crate) tally: Arc<Tally>,
    /// When the frames were asked for.
    pub(crate) asked: Instant,
    /// Those that have no answer yet.
    pub(crate) progress: FramesDue,
    /// Those that were answered with an error.
    pub(crate) failures: Failures,
}

/// Frames of one message that were not served, for its line in the log.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    count: usize,
    first: Option<(FrameErrorCode, String)>,
}

impl Failures {
    /// What is no longer wanted has not failed.
    pub(crate) fn add(&mut self, code: FrameErrorCode, why: &str) {
        if code == FrameErrorCode::Cancelled {
            return;
        }
        self.count += 1;
        self.first.get_or_insert_with(|| (code, why.to_owned()));
    }

    /// One line for all of them.
    pub(crate) fn log(&self) {
        let Some((code, why)) = &self.first else {
            return;
        };
        let (frames, code) = (self.count, code.as_str());
        match code {
            "decode_failed" | "encode_failed" | "storage_failed" => {
                tracing::warn!(frames, code, why, "frames not served");
            }
            _ => tracing::info!(frames, code, why, "frames not served"),
        }
    }
}

impl<T: Ticket, P: Fn(DecodeIndex) -> Place + Send> Forwarder<T, P> {
    /// Forwards until every frame is answered, or nobody takes the answers.
    pub(crate) async fn run(mut self) -> Result<(), Gone> {
        loop {
            let event = tokio::select! {
                biased;
                orders = self.due.orders() => {
                    obey(&mut self.ticket, &orders);
                    continue;
                }
                event = self.ticket.next() => event,
            };
            match event {
                Some(FrameEvent::Preview(preview)) => self.preview(preview).await?,
                Some(FrameEvent::Outcome(outcome)) => self.outcome(outcome).await?,
                None => break,
            }
        }
        for position in self.due.unanswered() {
            tracing::error!(position, "a frame was left without an answer");
            if let Some((frame, _)) = self.due.answer(position) {
                let message = "The frame was lost inside the server";
                self.refuse(frame, FrameErrorCode::DecodeFailed, message)
                    .await?;
            }
        }
        self.failures.log();
        Ok(())
    }

    async fn preview(&mut self, preview: Preview) -> Result<(), Gone> {
        let made = Instant::now();
        let Some(asked) = self.due.preview(preview.position) else {
            return Ok(());
        };
        let shown = DueFrame {
            place: (self.place)(preview.sample),
            ..asked
        };
        let image = preview.image.bytes;
        let size = image.len();
        let message = answer::frame(&shown, self.due.request_id(), size, true);
        let outbox = self.outbox.clone();
        self.tally.frame(true, size);
        self.send(async move { outbox.send_frame(&message, image, made).await })
            .await
    }

    async fn outcome(&mut self, outcome: FrameOutcome) -> Result<(), Gone> {
        let made = Instant::now();
        let Some((frame, withdrawn)) = self.due.answer(outcome.position) else {
            tracing::error!(position = outcome.position, "a frame was answered twice");
            return Ok(());
        };
        match outcome.result {
            Ok(image) => {
                let size = image.bytes.len();
                let message = answer::frame(&frame, self.due.request_id(), size, false);
                let outbox = self.outbox.clone();
                self.tally.frame(false, size);
                self.tally.answered(self.asked, None);
                self.send(async move { outbox.send_frame(&message, image.bytes, made).await })
                    .await?;
                self.answered();
                Ok(())
            }
            Err(error) => {
                let code = answer::code(error.code);
                match withdrawn {
                    Some(reason) if code == FrameErrorCode::Cancelled => {
                        self.refuse(frame, code, reason.sentence()).await
                    }
                    _ => self.refuse(frame, code, &error.message).await,
                }
            }
        }
    }

    async fn refuse(
        &mut self,
        frame: DueFrame,
        error: FrameErrorCode,
        message: &str,
    ) -> Result<(), Gone> {
        self.failures.add(error, message);
        let message = ServerMessage::FrameError {
            index: frame.index,
            offset: Some(frame.place.offset),
            error,
            message: message.to_owned(),
            request_id: self.due.request_id().cloned(),
        };
        let outbox = self.outbox.clone();
        self.tally.frame_error(error);
        self.tally.answered(self.asked, Some(error));
        self.send(async move { outbox.send(&message).await })
            .await?;
        self.answered();
        Ok(())
    }

    /// Gives one place of the queue back.
    fn answered(&mut self) {
        drop(self.share.split(1));
        self.progress.answered();
    }

    /// Puts something into the outbox. What is cancelled while that is full is cancelled at once.
    async fn send(&mut self, sending: impl Future<Output = Result<(), Gone>>) -> Result<(), Gone> {
        let mut sending = std::pin::pin!(sending.instrument(tracing::debug_span!("send")));
        loop {
            tokio::select! {
                biased;
                sent = &mut sending => return sent,
                orders = self.due.orders() => obey(&mut self.ticket, &orders),
            }
        }
    }
}

fn obey(ticket: &mut impl Ticket, orders: &Orders) {
    if orders.all {
        ticket.cancel_all();
    }
    for position in &orders.positions {
        ticket.cancel(*position);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use engine::{EncodedImage, FrameError};
    use proptest::prelude::*;
    use serde_json::Value;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::due::Reason;
    use crate::outbox::{Outboxes, Pending, outbox};

    /// A ticket that does what it likes, and writes down what it is told.
    struct Unruly {
        events: VecDeque<FrameEvent>,
        told: Arc<Mutex<Vec<Option<usize>>>>,
    }

    impl Ticket for Unruly {
        async fn next(&mut self) -> Option<FrameEvent> {
            // Orders get in between.
            tokio::task::yield_now().await;
            self.events.pop_front()
        }

        fn cancel(&mut self, position: usize) {
            self.told.lock().unwrap().push(Some(position));
        }

        fn cancel_all(&mut self) {
            self.told.lock().unwrap().push(None);
        }
    }

    fn due(frames: usize) -> Arc<Due> {
        let frame = |n: usize| DueFrame {
            index: n as i64,
            place: Place {
                offset: 1000 + n as u64,
                frame: Some(n as u64),
            },
        };
        Arc::new(Due::new(None, (0..frames).map(frame).collect()))
    }

    fn image(bytes: usize) -> EncodedImage {
        EncodedImage {
            bytes: vec![0; bytes].into(),
        }
    }

    fn event(kind: u8, position: usize) -> FrameEvent {
        let outcome = |result| FrameEvent::Outcome(FrameOutcome { position, result });
        let error = |code| FrameError {
            code,
            message: "as the engine says".into(),
        };
        match kind {
            0 => FrameEvent::Preview(Preview {
                position,
                sample: DecodeIndex(7),
                image: image(3),
            }),
            1 => outcome(Err(error(engine::FrameErrorCode::Cancelled))),
            2 => outcome(Err(error(engine::FrameErrorCode::DecodeFailed))),
            _ => outcome(Ok(image(5))),
        }
    }

    struct Run {
        due: Arc<Due>,
        queue: Arc<Semaphore>,
        tally: Arc<Tally>,
        pending: Pending,
        told: Arc<Mutex<Vec<Option<usize>>>>,
        task: tokio::task::JoinHandle<Result<(), Gone>>,
    }

    /// Forwards these events of a ticket with so many frames.
    fn run(frames: usize, events: Vec<FrameEvent>, outbox_bytes: u32) -> Run {
        let (outbox, pending) = outbox(10_000, outbox_bytes, &Outboxes::new(1 << 30));
        let queue = Arc::new(Semaphore::new(frames));
        let share = Arc::clone(&queue).try_acquire_many_owned(frames as u32);
        let (due, told) = (due(frames), Arc::default());
        let tally: Arc<Tally> = Arc::default();
        let forwarder = Forwarder {
            ticket: Unruly {
                events: events.into(),
                told: Arc::clone(&told),
            },
            due: Arc::clone(&due),
            share: share.unwrap(),
            place: |sample: DecodeIndex| Place {
                offset: sample.0.into(),
                frame: None,
            },
            outbox,
            progress: tally.due(frames),
            tally: Arc::clone(&tally),
            asked: Instant::now(),
            failures: Failures::default(),
        };
        Run {
            due,
            queue,
            tally,
            pending,
            told,
            task: tokio::spawn(forwarder.run()),
        }
    }

    fn on_one_thread<T>(test: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.build().unwrap().block_on(test)
    }

    proptest! {
        /// Whatever the engine does, and whatever is taken back.
        #[test]
        fn each_frame_is_answered_once(
            frames in 1usize..6,
            events in prop::collection::vec((0u8..6, 0usize..7), 0..20),
            taken_back in prop::option::of((prop::option::of(0i64..7), 0usize..30)),
        ) {
            on_one_thread(async {
                let events = events.into_iter().map(|(kind, at)| event(kind, at)).collect();
                let mut run = run(frames, events, 1_000_000);
                if let Some((index, turns)) = taken_back {
                    for _ in 0..turns {
                        tokio::task::yield_now().await;
                    }
                    run.due.withdraw(index, Reason::Cancelled);
                }
                run.task.await.unwrap().unwrap();
                let (mut answers, mut previews) = (vec![0; frames], vec![0; frames]);
                let mut bytes = 0;
                while let Some((text, image)) = run.pending.take() {
                    let text: Value = serde_json::from_str(&text).unwrap();
                    let index = text["index"].as_u64().unwrap() as usize;
                    bytes += image.as_ref().map_or(0, |image| image.len());
                    if text["preview"] == true {
                        prop_assert_eq!(answers[index], 0, "a preview after the answer");
                        prop_assert_eq!(&text["offset"], 7);
                        previews[index] += 1;
                    } else {
                        prop_assert_eq!(&text["offset"], 1000 + index);
                        answers[index] += 1;
                    }
                }
                prop_assert!(answers.iter().all(|n| *n == 1), "{:?}", answers);
                prop_assert!(previews.iter().all(|n| *n <= 1), "{:?}", previews);
                // Every place of the queue is given back, and everything is counted.
                prop_assert_eq!(run.queue.available_permits(), frames);
                let stats = run.tally.stats(&engine::ClientStats::default());
                prop_assert_eq!(stats.frames + stats.frame_errors, frames as u64);
                prop_assert_eq!(stats.previews, previews.iter().sum::<u64>());
                prop_assert_eq!(stats.image_bytes, bytes as u64);
                Ok(())
            })?;
        }
    }

    #[test]
    fn the_ticket_is_told_what_is_taken_back_even_while_the_client_reads_nothing() {
        on_one_thread(async {
            let events = (0..4).map(|n| event(3, n)).collect();
            // Room for one answer.
            let mut run = run(4, events, 70);
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            run.due.withdraw(Some(2), Reason::Cancelled);
            tokio::task::yield_now().await;
            assert_eq!(*run.told.lock().unwrap(), [Some(2)]);
            run.due.withdraw(None, Reason::Replaced);
            tokio::task::yield_now().await;
            assert_eq!(*run.told.lock().unwrap(), [Some(2), None]);
            assert!(run.due.is_withdrawn());
            // Nothing is told twice.
            run.due.withdraw(None, Reason::Cancelled);
            tokio::task::yield_now().await;
            assert_eq!(run.told.lock().unwrap().len(), 2);
            let mut answers = 0;
            while !run.task.is_finished() {
                answers += usize::from(run.pending.take().is_some());
                tokio::task::yield_now().await;
            }
            while run.pending.take().is_some() {
                answers += 1;
            }
            assert_eq!(answers, 4);
        });
    }

    #[test]
    fn who_takes_it_back_is_told_why() {
        on_one_thread(async {
            let mut run = run(2, vec![event(1, 0), event(1, 1)], 1_000_000);
            run.due.withdraw(Some(0), Reason::OtherVideo);
            run.task.await.unwrap().unwrap();
            let mut message = || {
                let (text, _) = run.pending.take().unwrap();
                let text: Value = serde_json::from_str(&text).unwrap();
                text["message"].as_str().unwrap().to_owned()
            };
            assert_eq!(message(), "Another video was set");
            assert_eq!(message(), "as the engine says");
        });
    }
}
