//! What idle workers make before anybody asks for it.
//!
//! For the videos that were opened or looked at last: first some IRAPs, coarse to fine over the
//! whole video, so that there is a preview everywhere; then the rest of the GOP under the cursor,
//! in the direction of travel first; the bytes of the GOP that comes next; and then the rest of
//! the IRAPs. It is asked for as any client asks, and comes after everybody.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use media::sidecar::plain_start;
use media::{DecodeIndex, PresentationIndex, VideoIndex};

use crate::config::EngineConfig;
use crate::core::{Core, State};
use crate::schedule::{ClientId, ClientKind, GopKey, ImageKey, Purpose, Schedule, TicketId, Wish};
use crate::ticket::{FrameTarget, Output, Priority};
use crate::video::Video;

/// Videos that are watched: those seen last.
const WATCHED: usize = 8;
/// IRAPs that come before the GOP under the cursor.
const FIRST_IRAPS: usize = 16;
/// Most IRAPs of one video.
const MOST_IRAPS: usize = 4096;
/// Pictures nearest to the cursor that come first when it travels backwards.
const NEAREST: usize = 8;
/// Most pictures of one GOP.
const MOST_OF_A_GOP: u32 = 512;

#[derive(Debug)]
pub(crate) struct Harvester {
    client: ClientId,
    on: bool,
    /// The one seen last first.
    watched: VecDeque<Watched>,
    /// What is being made.
    ticket: Option<TicketId>,
    /// Bytes are being read ahead: for one GOP at a time, so that what is read without being asked
    /// for is bounded.
    reading_ahead: bool,
    /// Mean size of an image, in bytes, for knowing when to stop.
    mean: u64,
}

#[derive(Debug)]
struct Watched {
    video: Weak<Video>,
    cursor: FrameTarget,
    forward: bool,
    /// IRAPs in the order in which they are made.
    iraps: Vec<u32>,
    next_irap: usize,
    /// What is left to do around the cursor.
    around: Around,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Around {
    Nearest,
    Ahead,
    NextBytes,
    Behind,
    Nothing,
}

impl Around {
    fn next(self) -> Self {
        match self {
            Self::Nearest => Self::Ahead,
            Self::Ahead => Self::NextBytes,
            Self::NextBytes => Self::Behind,
            Self::Behind | Self::Nothing => Self::Nothing,
        }
    }
}

impl Harvester {
    pub(crate) fn new<V: Clone, R: Clone, S: Clone>(
        config: &EngineConfig,
        schedule: &mut Schedule<V, R, S>,
    ) -> Self {
        Self {
            client: schedule.add_client(ClientKind::Harvest),
            // What is not kept is made in vain.
            on: config.harvest && config.cache_bytes > 0,
            watched: VecDeque::new(),
            ticket: None,
            reading_ahead: false,
            mean: 64 << 10,
        }
    }

    /// A video was opened.
    pub(crate) fn opened(&mut self, video: &Arc<Video>) {
        if self.on && self.place(video).is_none() {
            let first = video.index().decode_index(PresentationIndex(0));
            let cursor = FrameTarget {
                sample: first.unwrap_or(DecodeIndex(0)),
                output: Output::default(),
            };
            let mut watched = Watched::new(video, cursor);
            // Nobody has looked at anything.
            watched.around = Around::Nothing;
            self.watch(watched);
        }
    }

    /// Somebody asked for this.
    pub(crate) fn saw(&mut self, video: &Arc<Video>, target: FrameTarget) {
        if !self.on {
            return;
        }
        let mut watched = match self.place(video).and_then(|at| self.watched.remove(at)) {
            Some(watched) => watched,
            None => Watched::new(video, target),
        };
        watched.go_to(video.index(), target);
        self.watch(watched);
    }

    fn place(&self, video: &Arc<Video>) -> Option<usize> {
        let same = |w: &Watched| std::ptr::eq(w.video.as_ptr(), Arc::as_ptr(video));
        self.watched.iter().position(same)
    }

    fn watch(&mut self, watched: Watched) {
        self.watched.push_front(watched);
        self.watched.truncate(WATCHED);
    }

    /// The bytes that were read ahead are there.
    pub(crate) fn has_read_ahead(&mut self) {
        self.reading_ahead = false;
    }

    /// An image was made of so many bytes.
    pub(crate) fn made(&mut self, bytes: usize) {
        self.mean = (self.mean * 7 + bytes as u64) / 8;
    }
}

/// What there is to do.
enum Job {
    Images(Vec<(Arc<Video>, FrameTarget)>),
    Bytes(Arc<Video>, GopKey, u32),
}

/// What was asked for.
pub(crate) enum Asked {
    Nothing,
    /// Orders are in the schedule.
    Images,
    /// Samples of a GOP up to the last are to be read, once the state is not locked any more.
    Bytes(Arc<Video>, GopKey, u32),
}

impl State {
    /// Asks for what is likely to be wanted next.
    pub(crate) fn harvest(&mut self, core: &Core) -> Asked {
        let client = self.harvester.client;
        if !self.harvester.on || self.schedule.due(client) > 0 {
            return Asked::Nothing;
        }
        // A quarter of the cache for the IRAPs of a video, a quarter for a GOP.
        let share = core.caches.budget() / 4 / self.harvester.mean.max(1);
        let share = usize::try_from(share).unwrap_or(usize::MAX);
        self.harvester
            .watched
            .retain(|w| w.video.strong_count() > 0);
        let may_read = !self.harvester.reading_ahead;
        let job = (self.harvester.watched.iter_mut()).find_map(|w| w.next(core, share, may_read));
        match job {
            None => Asked::Nothing,
            Some(Job::Bytes(video, key, to)) => {
                self.harvester.reading_ahead = true;
                Asked::Bytes(video, key, to)
            }
            Some(Job::Images(wanted)) => {
                let (ticket, rank) = self.schedule.add_ticket(client, Priority::Newest);
                self.harvester.ticket = Some(ticket);
                for (position, (video, target)) in wanted.into_iter().enumerate() {
                    let Some(start) = plain_start(video.index(), target.sample) else {
                        continue;
                    };
                    self.schedule.submit(
                        Wish {
                            client,
                            ticket,
                            position,
                            purpose: Purpose::Exact,
                            image: key(core, &video, target),
                            start: start.0,
                            video,
                            sink: None,
                        },
                        rank,
                    );
                }
                Asked::Images
            }
        }
    }

    /// The cursor has moved: what was begun for another GOP is not finished.
    pub(crate) fn saw(&mut self, video: &Arc<Video>, target: FrameTarget) {
        let same = |w: &Watched| {
            std::ptr::eq(w.video.as_ptr(), Arc::as_ptr(video))
                && w.cursor.output == target.output
                && plain_start(video.index(), w.cursor.sample)
                    == plain_start(video.index(), target.sample)
        };
        let stays = self.harvester.watched.front().is_some_and(same);
        if !stays && let Some(ticket) = self.harvester.ticket.take() {
            self.schedule.cancel(ticket, None);
        }
        self.harvester.saw(video, target);
    }
}

fn key(core: &Core, video: &Video, target: FrameTarget) -> ImageKey {
    core.caches.plain(ImageKey {
        video: Arc::clone(video.key()),
        sample: target.sample.0,
        output: target.output,
    })
}

impl Watched {
    fn new(video: &Arc<Video>, cursor: FrameTarget) -> Self {
        Self {
            video: Arc::downgrade(video),
            cursor,
            forward: true,
            iraps: coarse_to_fine(video.index()),
            next_irap: 0,
            around: Around::Nearest,
        }
    }

    fn go_to(&mut self, index: &VideoIndex, target: FrameTarget) {
        let rank = |s: DecodeIndex| index.presentation_index(s);
        let before = self.forward;
        match rank(target.sample).cmp(&rank(self.cursor.sample)) {
            std::cmp::Ordering::Less => self.forward = false,
            std::cmp::Ordering::Greater => self.forward = true,
            std::cmp::Ordering::Equal => {}
        }
        let start = |s: DecodeIndex| plain_start(index, s);
        let another = start(target.sample) != start(self.cursor.sample);
        if target.output != self.cursor.output {
            self.next_irap = 0;
        }
        if another
            || target.output != self.cursor.output
            || before != self.forward
            || self.around == Around::Nothing
        {
            self.around = Around::Nearest;
        }
        self.cursor = target;
    }

    /// What to do next. `may_read`: nothing is being read ahead.
    fn next(&mut self, core: &Core, share: usize, may_read: bool) -> Option<Job> {
        let video = self.video.upgrade()?;
        if let Some(job) = self.irap(core, &video, share.min(FIRST_IRAPS)) {
            return Some(job);
        }
        while self.around != Around::Nothing {
            let step = self.around;
            if step == Around::NextBytes && !may_read {
                // Looked at again when these are there.
                return None;
            }
            self.around = step.next();
            if let Some(job) = self.step(core, &video, share, step) {
                return Some(job);
            }
        }
        self.irap(core, &video, share.min(MOST_IRAPS))
    }

    fn irap(&mut self, core: &Core, video: &Arc<Video>, most: usize) -> Option<Job> {
        while self.next_irap < most {
            let sample = DecodeIndex(*self.iraps.get(self.next_irap)?);
            self.next_irap += 1;
            let target = FrameTarget {
                sample,
                output: self.cursor.output,
            };
            if core.caches.image(&key(core, video, target)).is_none() {
                return Some(Job::Images(vec![(Arc::clone(video), target)]));
            }
        }
        None
    }

    fn step(&self, core: &Core, video: &Arc<Video>, share: usize, step: Around) -> Option<Job> {
        let index = video.index();
        let start = plain_start(index, self.cursor.sample)?;
        let at = index.presentation_index(self.cursor.sample)?.0;
        if step == Around::NextBytes {
            return self.next_bytes(core, video, start);
        }
        let ahead = (step != Around::Behind) == self.forward;
        if step == Around::Nearest && self.forward {
            return None;
        }
        let ranks: Box<dyn Iterator<Item = u32>> = if ahead {
            Box::new(at..at.saturating_add(MOST_OF_A_GOP))
        } else {
            Box::new((at.saturating_sub(MOST_OF_A_GOP)..at).rev())
        };
        let most = if step == Around::Nearest {
            NEAREST
        } else {
            share
        };
        let wanted: Vec<(Arc<Video>, FrameTarget)> = ranks
            .map_while(|rank| index.decode_index(PresentationIndex(rank)))
            .take_while(|s| plain_start(index, *s).is_some_and(|s| s == start))
            .map(|sample| FrameTarget {
                sample,
                output: self.cursor.output,
            })
            .take(most)
            .filter(|t| core.caches.image(&key(core, video, *t)).is_none())
            .map(|t| (Arc::clone(video), t))
            .collect();
        (!wanted.is_empty()).then_some(Job::Images(wanted))
    }

    /// The GOP behind this one, or before it.
    fn next_bytes(&self, core: &Core, video: &Arc<Video>, start: DecodeIndex) -> Option<Job> {
        let index = video.index();
        let after = |s: DecodeIndex| index.sync_after(s);
        let from = if self.forward {
            after(start)?
        } else {
            index.sync_at_or_before(DecodeIndex(start.0.checked_sub(1)?))?
        };
        let to = after(from).map_or(index.sample_count(), |s| s.0);
        let bytes: u64 = (from.0..to)
            .filter_map(|i| index.sample(DecodeIndex(i)))
            .map(|s| u64::from(s.size))
            .sum();
        let key = GopKey {
            video: Arc::clone(video.key()),
            start: from.0,
        };
        let there = core.caches.run(&key).is_some_and(|run| run.end() >= to);
        let fits = bytes <= core.caches.budget() / 8 && bytes <= core.config.max_group_bytes;
        (fits && !there).then(|| Job::Bytes(Arc::clone(video), key, to))
    }
}

/// The sync samples: first those far apart, then those between.
fn coarse_to_fine(index: &VideoIndex) -> Vec<u32> {
    let all: Vec<u32> = index.sync_samples().map(|s| s.0).collect();
    let mut order = Vec::with_capacity(all.len().min(MOST_IRAPS));
    let mut taken = vec![false; all.len()];
    let mut stride = all.len().next_power_of_two();
    while stride > 0 && order.len() < MOST_IRAPS {
        for at in (0..all.len()).step_by(stride) {
            if let (Some(taken), Some(&sample)) = (taken.get_mut(at), all.get(at))
                && !std::mem::replace(taken, true)
            {
                order.push(sample);
            }
        }
        stride /= 2;
    }
    order.truncate(MOST_IRAPS);
    order
}
