//! Works on a session's messages, in the order in which they came, and waits for no picture.
//!
//! Each `RequestFrames` becomes a ticket of the engine with a task of its own that forwards what
//! the ticket gives; which of them is served first is the engine's matter. Only a `SetVideo` waits
//! until what came before it is answered.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Instant;

use engine::{Client, Engine, FrameTarget, Output, Prefetch, Priority, RequestOptions, Video};
use protocol::{FrameErrorCode, FrameRequest, FramesRequest, Rendition, RequestId, ServerMessage};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tracing::Instrument;

use crate::access::{Ended, Guest, Seen};
use crate::address::{self, Unknown};
use crate::answer;
use crate::due::{Due, DueFrame, Reason};
use crate::forward::{Failures, Forwarder};
use crate::limits::Limits;
use crate::listing;
use crate::outbox::{Gone, Outbox};
use crate::rates::Pace;
use crate::session::{Request, RequestKind};
use crate::tally::Tally;

pub(crate) struct Executor {
    engine: Engine,
    client: Client,
    guest: Guest,
    limits: Limits,
    pace: Pace,
    outbox: Outbox,
    tally: Arc<Tally>,
    video: Option<Arc<Video>>,
    /// What is read of the video before anybody asks.
    ahead: Option<Prefetch>,
    /// Places for frames that have no answer yet.
    queue: Arc<Semaphore>,
    /// One `GetIndex` is answered at a time.
    listing: Arc<Semaphore>,
    /// What is being answered, in the order in which it came.
    due: BTreeMap<u64, Arc<Due>>,
    messages: u64,
    /// The tasks that answer; each ends with the number of its message.
    tasks: JoinSet<Result<u64, Gone>>,
}

impl Executor {
    pub(crate) fn new(
        engine: Engine,
        guest: Guest,
        limits: Limits,
        pace: Pace,
        outbox: Outbox,
        tally: Arc<Tally>,
    ) -> Self {
        Self {
            client: engine.client(),
            engine,
            guest,
            limits,
            pace,
            outbox,
            tally,
            video: None,
            ahead: None,
            queue: Arc::new(Semaphore::new(limits.queued_frames as usize)),
            listing: Arc::new(Semaphore::new(1)),
            due: BTreeMap::new(),
            messages: 0,
            tasks: JoinSet::new(),
        }
    }

    /// Works until there are no more requests and all are answered, or nobody takes the answers, or
    /// `left` is dropped. When it returns, nothing is made for the session any more.
    pub(crate) async fn run(
        mut self,
        requests: mpsc::Receiver<Request>,
        left: oneshot::Receiver<()>,
    ) -> Result<(), Gone> {
        let done = tokio::select! {
            done = self.work(requests) => done,
            _ = left => Err(Gone),
        };
        self.tasks.shutdown().await;
        done
    }

    async fn work(&mut self, mut requests: mpsc::Receiver<Request>) -> Result<(), Gone> {
        loop {
            tokio::select! {
                Some(ended) = self.tasks.join_next() => self.ended(ended)?,
                request = requests.recv() => match request {
                    Some(request) => self.execute(request.kind).await?,
                    None => break,
                },
            }
        }
        self.all_answered().await
    }

    async fn execute(&mut self, request: RequestKind) -> Result<(), Gone> {
        if let Err(ended) = self.look_at_guest() {
            return self.refuse_guest(request, ended).await;
        }
        match request {
            RequestKind::Refused { message } => {
                tracing::info!(
                    code = "bad_request",
                    why = message,
                    "message not understood"
                );
                self.error(message).await
            }
            RequestKind::SetVideo { path } => {
                self.withdraw(None, None, Reason::OtherVideo);
                self.all_answered().await?;
                self.set_video(path).await
            }
            RequestKind::Frames(request) => {
                let span = tracing::info_span!(
                    "request",
                    request_id = request.request_id.as_ref().map(tracing::field::display),
                    frames = request.frames.len(),
                );
                let asked = Instant::now();
                let answering = async {
                    let mut refused = Failures::default();
                    let done = self.frames(request, asked, &mut refused).await;
                    refused.log();
                    done
                };
                answering.instrument(span).await
            }
            RequestKind::Cancel { index, request_id } => {
                self.withdraw(index, request_id.as_ref(), Reason::Cancelled);
                Ok(())
            }
            RequestKind::Index { from, count } => self.index(from, count).await,
            RequestKind::Stats => self.stats().await,
        }
    }

    /// Looks whether the session's token is still good, and the video one that it may see.
    fn look_at_guest(&mut self) -> Result<(), Ended> {
        self.guest.look_again()?;
        if let Some(video) = &self.video {
            let (access, caller) = (self.guest.access(), self.guest.caller());
            if access.seen(caller, video.name()) == Seen::Hidden {
                self.video = None;
                self.ahead = None;
            }
        }
        Ok(())
    }

    /// What a session whose token has ended still gets: what is due, and its figures.
    async fn refuse_guest(&mut self, request: RequestKind, _: Ended) -> Result<(), Gone> {
        match request {
            RequestKind::Refused { message } => self.error(message).await,
            RequestKind::SetVideo { path } => {
                self.all_answered().await?;
                self.video = None;
                self.ahead = None;
                for message in answer::video_not_set_for_want_of_token(path) {
                    self.outbox.send(&message).await?;
                }
                Ok(())
            }
            RequestKind::Frames(FramesRequest {
                frames, request_id, ..
            }) => {
                let ended = Unknown {
                    code: FrameErrorCode::Unauthorized,
                    message: Ended::MESSAGE.into(),
                };
                let mut refused = Failures::default();
                for frame in &frames {
                    self.refuse(frame, request_id.as_ref(), &ended, &mut refused)
                        .await?;
                }
                refused.log();
                Ok(())
            }
            RequestKind::Index { .. } => self.outbox.send(&answer::unauthorized()).await,
            RequestKind::Cancel { index, request_id } => {
                self.withdraw(index, request_id.as_ref(), Reason::Cancelled);
                Ok(())
            }
            RequestKind::Stats => self.stats().await,
        }
    }

    async fn stats(&self) -> Result<(), Gone> {
        let stats = self.tally.stats(&self.client.stats());
        self.outbox.send(&ServerMessage::Stats(stats)).await
    }

    async fn error(&self, message: String) -> Result<(), Gone> {
        self.tally.error("bad_request");
        let error = None;
        let refusal = ServerMessage::Error { message, error };
        self.outbox.send(&refusal).await
    }

    /// Marks as not wanted what is due, in all messages or in those of this name.
    fn withdraw(&self, index: Option<i64>, id: Option<&RequestId>, reason: Reason) {
        for due in self.due.values() {
            if id.is_none() || due.request_id() == id {
                due.withdraw(index, reason);
            }
        }
    }

    /// A task has ended.
    fn ended(&mut self, ended: Result<Result<u64, Gone>, JoinError>) -> Result<(), Gone> {
        match ended {
            Ok(Ok(number)) => {
                self.due.remove(&number);
                Ok(())
            }
            Ok(Err(gone)) => Err(gone),
            Err(error) => match error.try_into_panic() {
                // A defect of ours: the session ends with it.
                Ok(panic) => resume_unwind(panic),
                Err(_) => Err(Gone),
            },
        }
    }

    /// Returns when nothing is due any more.
    async fn all_answered(&mut self) -> Result<(), Gone> {
        while let Some(ended) = self.tasks.join_next().await {
            self.ended(ended)?;
        }
        Ok(())
    }

    async fn set_video(&mut self, path: String) -> Result<(), Gone> {
        self.video = None;
        self.ahead = None;
        let (access, caller) = (self.guest.access(), self.guest.caller());
        match access.open_video(&self.engine, caller, &path).await {
            Ok(video) => {
                self.ahead = Some(self.client.prefetch(&video));
                self.outbox.send(&answer::video_set(path, &video)).await?;
                self.video = Some(video);
            }
            Err(error) => {
                let (code, why) = answer::refusal(&path, &error);
                let code = code.as_str();
                self.tally.error(code);
                match code {
                    "storage_failed" => tracing::warn!(path, code, why, "video not set"),
                    _ => tracing::info!(path, code, "video not set"),
                }
                for message in answer::video_not_set(path, &error) {
                    self.outbox.send(&message).await?;
                }
            }
        }
        Ok(())
    }

    /// Answers what is known at once, and has the rest made.
    async fn frames(
        &mut self,
        request: FramesRequest,
        asked: Instant,
        refused: &mut Failures,
    ) -> Result<(), Gone> {
        if request.replace {
            self.withdraw(None, None, Reason::Replaced);
        }
        let id = request.request_id.as_ref();
        let most = self.limits.frames_per_message;
        let within = request.frames.len().min(most);
        let all = request.frames.as_slice();
        let (frames, surplus) = all.split_at_checked(within).unwrap_or((all, &[]));
        let too_many = Unknown {
            code: FrameErrorCode::TooManyFrames,
            message: format!("At most {most} frames are taken in one message"),
        };
        for frame in surplus {
            self.refuse(frame, id, &too_many, refused).await?;
        }
        let may = self.pace.frames(frames.len());
        let (frames, beyond) = frames.split_at_checked(may).unwrap_or((frames, &[]));
        if !beyond.is_empty() {
            let too_fast = Unknown {
                code: FrameErrorCode::RateLimited,
                message: self.pace.too_fast(),
            };
            for frame in beyond {
                self.refuse(frame, id, &too_fast, refused).await?;
            }
        }
        let Some(video) = self.video.clone() else {
            let no_video = Unknown {
                code: FrameErrorCode::NoVideo,
                message: "No video is set".into(),
            };
            for frame in frames {
                self.refuse(frame, id, &no_video, refused).await?;
            }
            return Ok(());
        };
        let (mut due, mut targets) = (Vec::new(), Vec::new());
        for frame in frames {
            match address::find(video.index(), frame.address) {
                Ok((sample, place)) => {
                    let index = frame.index;
                    due.push((frame, DueFrame { index, place }));
                    targets.push(FrameTarget {
                        sample,
                        output: output(frame.rendition.or(request.rendition)),
                    });
                }
                Err(unknown) => self.refuse(frame, id, &unknown, refused).await?,
            }
        }
        let room = self.room(due.len()).await?;
        let too_many = Unknown {
            code: FrameErrorCode::TooManyFrames,
            message: format!(
                "At most {} frames may be due on one connection",
                self.limits.queued_frames
            ),
        };
        targets.truncate(room);
        for (frame, _) in due.drain(room.min(due.len())..) {
            self.refuse(frame, id, &too_many, refused).await?;
        }
        if due.is_empty() {
            return Ok(());
        }
        let share = u32::try_from(due.len()).unwrap_or(u32::MAX);
        // Only this task takes places, and has seen that there are as many.
        let Ok(share) = Arc::clone(&self.queue).try_acquire_many_owned(share) else {
            return Err(Gone);
        };
        let options = RequestOptions {
            priority: match request.priority.unwrap_or_default() {
                protocol::Priority::Newest => Priority::Newest,
                protocol::Priority::Fifo => Priority::Fifo,
            },
            preview: request.preview,
        };
        let ticket = self.client.request(&video, targets, options);
        let frames: Vec<DueFrame> = due.into_iter().map(|(_, frame)| frame).collect();
        let frame_count = frames.len();
        let due = Arc::new(Due::new(request.request_id, frames));
        let number = self.next_number();
        self.due.insert(number, Arc::clone(&due));
        let forwarder = Forwarder {
            ticket,
            due,
            share,
            place: move |sample| address::place(video.index(), sample),
            outbox: self.outbox.clone(),
            progress: self.tally.due(frame_count),
            tally: Arc::clone(&self.tally),
            asked,
            failures: Failures::default(),
        };
        let task = async move { forwarder.run().await.map(|()| number) };
        self.tasks.spawn(task.in_current_span());
        Ok(())
    }

    /// How many of `wanted` places there are in the queue. What is withdrawn only waits for its
    /// answer: that is waited for.
    async fn room(&mut self, wanted: usize) -> Result<usize, Gone> {
        while self.queue.available_permits() < wanted
            && self.due.values().any(|due| due.is_withdrawn())
            && let Some(ended) = self.tasks.join_next().await
        {
            self.ended(ended)?;
        }
        Ok(self.queue.available_permits())
    }

    async fn refuse(
        &self,
        frame: &FrameRequest,
        id: Option<&RequestId>,
        unknown: &Unknown,
        refused: &mut Failures,
    ) -> Result<(), Gone> {
        self.tally.frame_error(unknown.code);
        refused.add(unknown.code, &unknown.message);
        self.outbox
            .send(&answer::unknown_frame(frame, id, unknown))
            .await
    }

    async fn index(&mut self, from: u64, count: Option<u64>) -> Result<(), Gone> {
        let Some(video) = self.video.clone() else {
            return self.error("GetIndex: no video is set".into()).await;
        };
        let alone = Arc::clone(&self.listing).acquire_owned().await;
        let (outbox, number) = (self.outbox.clone(), self.next_number());
        self.tasks.spawn(async move {
            let _alone = alone;
            listing::send(video, from, count, &outbox).await?;
            Ok(number)
        });
        Ok(())
    }

    fn next_number(&mut self) -> u64 {
        self.messages += 1;
        self.messages
    }
}

fn output(rendition: Rendition) -> Output {
    Output {
        width: rendition.width,
        height: rendition.height,
        quality: rendition.quality,
        ..Output::default()
    }
}
