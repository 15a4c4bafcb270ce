//! One who asks for frames: what is there already is answered, the rest becomes orders.

use std::sync::Arc;
use std::time::Duration;

use media::sidecar::plain_start;
use media::{DecodeIndex, PresentationIndex, VideoIndex};

use crate::ahead::{self, Prefetch};
use crate::caches::Tier;
use crate::engine::Inner;
use crate::error::{FrameError, FrameErrorCode};
use crate::fetch::pump;
use crate::schedule::{ClientId, ClientKind, ImageKey, Purpose, TicketId, Wish};
use crate::stats::{ClientCells, ClientStats, add};
use crate::ticket::{FrameTarget, FrameTicket, Owner, RequestOptions, Room, Sink};
use crate::video::Video;

/// How long a picture may take before another one is shown meanwhile.
const PREVIEW_AFTER: Duration = Duration::from_millis(4);

/// One who asks for frames. What it waits for is weighed against what others wait for. Dropping
/// it takes nothing from the tickets that it still holds.
#[derive(Debug)]
pub struct Client {
    shared: Arc<ClientShared>,
}

#[derive(Debug)]
struct ClientShared {
    inner: Arc<Inner>,
    id: ClientId,
    room: Arc<Room>,
    cells: Arc<ClientCells>,
}

impl Drop for ClientShared {
    fn drop(&mut self) {
        self.inner.core.lock().schedule.remove_client(self.id);
    }
}

impl Client {
    pub(crate) fn new(inner: &Arc<Inner>) -> Self {
        let id = inner.core.lock().schedule.add_client(ClientKind::Session);
        let most = inner.core.config.max_waiting_image_bytes;
        Self {
            shared: Arc::new(ClientShared {
                inner: Arc::clone(inner),
                id,
                room: Arc::new(Room::new(most, &inner.core.rooms)),
                cells: Arc::default(),
            }),
        }
    }

    /// What was done for this client.
    pub fn stats(&self) -> ClientStats {
        self.shared.cells.read()
    }

    /// Begins to read the first GOP of a video that this client is likely to look at, until what
    /// this returns is dropped.
    pub fn prefetch(&self, video: &Arc<Video>) -> Prefetch {
        ahead::first_gop(&self.shared.inner.core, video)
    }

    /// Asks for frames. Must be called inside a tokio runtime. Dropping the ticket cancels.
    ///
    /// All tickets of a client share what may wait for being taken
    /// ([`crate::EngineConfig::max_waiting_image_bytes`]): who holds several takes from all of them
    /// as images come, or the work for all of them stops.
    pub fn request(
        &self,
        video: &Arc<Video>,
        targets: Vec<FrameTarget>,
        options: RequestOptions,
    ) -> FrameTicket {
        let shared = &self.shared;
        let core = &shared.inner.core;
        let (id, rank) = {
            let mut state = core.lock();
            if core.config.harvest
                && let Some(last) = targets.last()
            {
                state.saw(video, *last);
            }
            state.schedule.add_ticket(shared.id, options.priority)
        };
        let (mut ticket, sink) =
            FrameTicket::new(targets.len(), options, &shared.room, &shared.cells);
        let mut request = Request {
            client: Arc::clone(shared),
            video: Arc::clone(video),
            targets,
            options,
            ticket: id,
            rank,
            sink,
            next: 0,
        };
        let owner = Arc::new(TicketOwner {
            client: Arc::clone(shared),
            ticket: id,
        });
        // What can be said at once is said at once.
        let at_once = !core.caches.has_disk() || video.refusal().is_some();
        let done = at_once && request.proceed();
        let driver = (!done || options.preview).then(|| tokio::spawn(request.drive()));
        ticket.driven_by(driver.map(|d| d.abort_handle()), owner);
        ticket
    }
}

#[derive(Debug)]
struct TicketOwner {
    client: Arc<ClientShared>,
    ticket: TicketId,
}

impl Owner for TicketOwner {
    fn cancel(&self, position: Option<usize>, due: usize) {
        let core = &self.client.inner.core;
        add(&core.counters.targets_cancelled, due as u64);
        core.lock().schedule.cancel(self.ticket, position);
        // Others may now be next.
        pump(core);
        core.wake.notify_all();
    }

    fn has_room(&self) {
        let core = &self.client.inner.core;
        core.lock().schedule.set_blocked(self.client.id, false);
        pump(core);
        core.wake.notify_all();
    }
}

/// A request whose targets become orders.
struct Request {
    client: Arc<ClientShared>,
    video: Arc<Video>,
    targets: Vec<FrameTarget>,
    options: RequestOptions,
    ticket: TicketId,
    rank: i64,
    sink: Sink,
    /// The first target that is not looked at yet.
    next: usize,
}

impl Request {
    fn core(&self) -> &Arc<crate::core::Core> {
        &self.client.inner.core
    }

    fn key(&self, target: FrameTarget) -> ImageKey {
        self.core().caches.plain(ImageKey {
            video: Arc::clone(self.video.key()),
            sample: target.sample.0,
            output: target.output,
        })
    }

    /// Answers what is in memory and orders the rest, as long as images are taken. True if no
    /// target is left.
    fn proceed(&mut self) -> bool {
        if let Some(error) = self.video.refusal() {
            return self.refuse_rest(&error);
        }
        let mut missing = Vec::new();
        while let Some(&target) = self.targets.get(self.next)
            && !self.sink.room().is_full()
        {
            let position = self.next;
            self.next += 1;
            if !self.sink.is_due(position) {
                continue;
            }
            match self.core().caches.image(&self.key(target)) {
                Some(image) => self.hit(position, image, Tier::Memory),
                None => missing.push(position),
            }
        }
        self.order(missing);
        self.next >= self.targets.len()
    }

    /// Nothing more is served of the video.
    fn refuse_rest(&mut self, error: &FrameError) -> bool {
        for position in self.next..self.targets.len() {
            self.sink.answer(position, Err(error.clone()));
        }
        self.next = self.targets.len();
        true
    }

    fn hit(&self, position: usize, image: crate::EncodedImage, tier: Tier) {
        let counters = &self.core().counters;
        add(&counters.cache_hits, 1);
        if tier == Tier::Disk {
            add(&counters.disk_hits, 1);
        }
        add(&self.sink.cells().cache_hits, 1);
        self.sink.answer(position, Ok(image));
    }

    /// Orders images, all at once: what is wanted together is planned together.
    fn order(&self, positions: Vec<usize>) {
        if positions.is_empty() {
            return;
        }
        let index = self.video.index();
        let mut sums = Sums::default();
        let mut wishes = Vec::with_capacity(positions.len());
        for position in positions {
            let Some(&target) = self.targets.get(position) else {
                continue;
            };
            match self.start_of(index, &mut sums, target.sample) {
                Ok(start) => wishes.push(Wish {
                    client: self.client.id,
                    ticket: self.ticket,
                    position,
                    purpose: Purpose::Exact,
                    image: self.key(target),
                    start: start.0,
                    video: Arc::clone(&self.video),
                    sink: Some(self.sink.clone()),
                }),
                Err(error) => self.sink.answer(position, Err(error)),
            }
        }
        self.submit(wishes);
    }

    fn submit(&self, wishes: Vec<Wish<Arc<Video>, Option<Sink>>>) {
        let core = self.core();
        self.sink.is_queued();
        let mut made = Vec::new();
        {
            let mut state = core.lock();
            for wish in wishes {
                let position = wish.position;
                // Cancelled in the meantime.
                if !self.sink.is_due(position) {
                    continue;
                }
                // Made in the meantime: images are kept before their orders go, so that there is
                // now either the one or the other.
                if core.caches.is_on()
                    && let Some(image) = core.caches.image(&wish.image)
                {
                    made.push((position, image));
                    continue;
                }
                add(&core.counters.cache_misses, 1);
                if state.schedule.submit(wish, self.rank) {
                    add(&core.counters.joined, 1);
                    add(&self.sink.cells().joined, 1);
                }
            }
            state.schedule.gather(self.ticket);
        }
        for (position, image) in made {
            self.hit(position, image, Tier::Memory);
        }
        pump(core);
        core.wake.notify_all();
    }

    /// The sync sample to start from, unless there is too much between it and the target.
    fn start_of(
        &self,
        index: &VideoIndex,
        sums: &mut Sums,
        sample: DecodeIndex,
    ) -> Result<DecodeIndex, FrameError> {
        let Some(start) = plain_start(index, sample) else {
            let why = "no IRAP comes before the picture: there is nothing to decode it from";
            return Err(FrameError::new(FrameErrorCode::NotDecodable, why));
        };
        let most = self.core().config.max_group_bytes;
        if index.object_size() > most && sums.of(index, start, sample, most) > most {
            return Err(too_large(most));
        }
        Ok(start)
    }

    /// Goes on as the client takes images.
    async fn drive(mut self) {
        if self.core().caches.has_disk() {
            self.look_on_disk().await;
        }
        if self.options.preview {
            tokio::time::sleep(PREVIEW_AFTER).await;
            self.preview();
        }
        while !self.proceed() {
            self.sink.room().wait().await;
        }
    }

    /// As [`Request::proceed`], where there is a cache on disk, too. All of the first room's worth
    /// is looked up before anything is ordered.
    async fn look_on_disk(&mut self) {
        /// Targets whose files are read side by side, and then ordered together.
        const TOGETHER: usize = 256;
        while self.next < self.targets.len() && self.video.refusal().is_none() {
            self.sink.room().wait().await;
            let end = self.targets.len().min(self.next + TOGETHER);
            let mut missing = Vec::new();
            let places = self.next..end;
            let keys: Vec<ImageKey> = places
                .clone()
                .filter_map(|p| self.targets.get(p))
                .map(|t| self.key(*t))
                .collect();
            let caches = &self.core().caches;
            let found = keys.iter().map(|key| caches.find_image(key));
            let found = futures::future::join_all(found).await;
            for (position, found) in places.zip(found) {
                match found {
                    Some((image, tier)) => self.hit(position, image, tier),
                    None => missing.push(position),
                }
            }
            self.next = end;
            self.order(missing);
        }
    }

    /// Shows something for each target that is still due: the nearest picture of its GOP that is
    /// there, else the IRAP, which is the first picture that comes out on the way.
    fn preview(&self) {
        let core = self.core();
        let index = self.video.index();
        let mut wishes = Vec::new();
        for (position, &target) in self.targets.iter().enumerate() {
            if !self.sink.wants_preview(position) {
                continue;
            }
            let Some(start) = plain_start(index, target.sample) else {
                continue;
            };
            if let Some((sample, image)) = self.nearest(index, target, start) {
                self.sink.preview(position, sample, image);
                continue;
            }
            if start == target.sample {
                continue;
            }
            let irap = FrameTarget {
                sample: start,
                output: target.output,
            };
            wishes.push(Wish {
                client: self.client.id,
                ticket: self.ticket,
                position,
                purpose: Purpose::Preview,
                image: self.key(irap),
                start: start.0,
                video: Arc::clone(&self.video),
                sink: Some(self.sink.clone()),
            });
        }
        if wishes.is_empty() {
            return;
        }
        {
            let mut state = core.lock();
            for wish in wishes {
                // Answered, or not waited for any more, in the meantime.
                if self.sink.wants_preview(wish.position) {
                    state.schedule.submit(wish, self.rank);
                }
            }
        }
        pump(core);
        core.wake.notify_all();
    }

    /// The picture in memory that is shown nearest to a target, among those of its GOP.
    fn nearest(
        &self,
        index: &VideoIndex,
        target: FrameTarget,
        start: DecodeIndex,
    ) -> Option<(DecodeIndex, crate::EncodedImage)> {
        /// As far as it is looked, to both sides.
        const REACH: u32 = 150;
        let at = index.presentation_index(target.sample)?;
        let mut sides = [true, true];
        for distance in 1..=REACH {
            let places = [at.0.checked_sub(distance), at.0.checked_add(distance)];
            for (place, open) in places.into_iter().zip(&mut sides) {
                if !*open {
                    continue;
                }
                let sample = place.and_then(|p| index.decode_index(PresentationIndex(p)));
                match sample.filter(|s| plain_start(index, *s) == Some(start)) {
                    None => *open = false,
                    Some(sample) => {
                        let key = self.key(FrameTarget { sample, ..target });
                        if let Some(image) = self.core().caches.image(&key) {
                            return Some((sample, image));
                        }
                    }
                }
            }
        }
        None
    }
}

pub(crate) fn too_large(most: u64) -> FrameError {
    let message =
        format!("the frame needs more than {most} bytes from its IRAP on, which is the limit");
    FrameError::new(FrameErrorCode::GopTooLarge, message)
}

/// Bytes of runs of samples that begin alike, each counted once.
#[derive(Default)]
pub(crate) struct Sums {
    start: Option<DecodeIndex>,
    /// Bytes from the start up to and with each sample.
    upto: Vec<u64>,
}

impl Sums {
    /// Bytes from one sample up to and with another; not counted further than beyond `most`.
    pub(crate) fn of(
        &mut self,
        index: &VideoIndex,
        start: DecodeIndex,
        sample: DecodeIndex,
        most: u64,
    ) -> u64 {
        if self.start != Some(start) {
            self.start = Some(start);
            self.upto.clear();
        }
        let wanted = sample.0.saturating_sub(start.0) as usize;
        while self.upto.len() <= wanted {
            let last = self.upto.last().copied().unwrap_or(0);
            if last > most {
                return last;
            }
            let next = start.0.saturating_add(self.upto.len() as u32);
            let size = index.sample(DecodeIndex(next)).map_or(0, |s| s.size);
            self.upto.push(last.saturating_add(u64::from(size)));
        }
        self.upto.get(wanted).copied().unwrap_or(0)
    }
}
