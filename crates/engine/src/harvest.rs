//! What idle workers make before anybody asks for it.
//!
//! For the videos that were opened or looked at last: first some IRAPs, coarse to fine over the
//! whole video, so that there is a preview everywhere; then the rest of the GOP under the cursor,
//! in the direction of travel first; the bytes of the GOP that comes next; and then the rest of
//! the IRAPs. It is asked for as any client asks, and comes after everybody.
//!
//! An access unit that was begun is decoded to its end, and an IRAP is the dearest of all. So nothing
//! is begun when somebody is about to want the cores: just after a video was opened, and while what
//! a person asked for is being read.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use media::sidecar::plain_start;
use media::{DecodeIndex, PresentationIndex, VideoIndex};

use crate::config::EngineConfig;
use crate::core::{Core, State};
use crate::schedule::{
    ClientId, ClientKind, GopKey, Held, ImageKey, Purpose, Schedule, TicketId, Wish,
};
use crate::ticket::{FrameTarget, Output, Priority};
use crate::video::Video;

/// Who opens a video asks for a frame of it at once, as a rule. This long it is waited for.
const FIRST_QUESTION: Duration = Duration::from_millis(250);
/// How soon it is looked again whether what somebody waits for was read.
const READING: Duration = Duration::from_millis(20);
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
    /// Pictures around a cursor that are being made, and of which video.
    ticket: Option<(TicketId, Weak<Video>)>,
    /// Until then nothing is begun.
    quiet_until: Option<Instant>,
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
    pub(crate) fn new<V: Clone, R: Clone + Held, S: Clone>(
        config: &EngineConfig,
        schedule: &mut Schedule<V, R, S>,
    ) -> Self {
        Self {
            client: schedule.add_client(ClientKind::Harvest),
            // What is not kept is made in vain.
            on: config.harvest && config.cache_bytes > 0,
            watched: VecDeque::new(),
            ticket: None,
            quiet_until: None,
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
            self.quiet_until = Instant::now().checked_add(FIRST_QUESTION);
        }
    }

    /// Somebody asked for this. True if what is around another cursor, or is passed by no more, is
    /// not wanted any more.
    fn saw(&mut self, video: &Arc<Video>, target: FrameTarget) -> bool {
        if !self.on {
            return false;
        }
        let place = self.place(video);
        let (mut watched, moves) = match place.and_then(|at| self.watched.remove(at)) {
            Some(mut watched) => {
                let moves = watched.go_to(video.index(), target);
                (watched, moves || place != Some(0))
            }
            None => (Watched::new(video, target), true),
        };
        if watched.around == Around::Nothing {
            watched.around = Around::Nearest;
        }
        self.watch(watched);
        self.quiet_until = None;
        moves
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
    Images {
        wanted: Vec<(Arc<Video>, FrameTarget)>,
        /// They are around the cursor.
        around: bool,
    },
    Bytes(Arc<Video>, GopKey, u32),
}

/// What was asked for.
pub(crate) enum Asked {
    Nothing,
    /// It is to be looked again then.
    Later(Instant),
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
        let now = Instant::now();
        if let Some(until) = self.harvester.quiet_until {
            if now < until {
                return Asked::Later(until);
            }
            self.harvester.quiet_until = None;
        }
        if self.schedule.is_person_waiting_for_bytes() {
            return now
                .checked_add(READING)
                .map_or(Asked::Nothing, Asked::Later);
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
            Some(Job::Images { wanted, around }) => {
                let (ticket, rank) = self.schedule.add_ticket(client, Priority::Newest);
                // An IRAP, alone, is wanted wherever the cursor goes.
                let of = wanted.first().map(|(video, _)| Arc::downgrade(video));
                self.harvester.ticket = of.filter(|_| around).map(|video| (ticket, video));
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
                self.schedule.gather(ticket);
                Asked::Images
            }
        }
    }

    /// The cursor has moved: what was begun elsewhere, or in the other direction, is not finished.
    pub(crate) fn saw(&mut self, video: &Arc<Video>, target: FrameTarget) {
        if self.harvester.saw(video, target)
            && let Some((ticket, of)) = self.harvester.ticket.take()
        {
            self.schedule.cancel(ticket, None);
            // Where it was not finished it is looked at again.
            let same = |w: &&mut Watched| Weak::ptr_eq(&w.video, &of);
            if let Some(left) = self.harvester.watched.iter_mut().find(same) {
                left.around = Around::Nearest;
            }
        }
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
            iraps: {
                let all: Vec<u32> = video.index().sync_samples().map(|s| s.0).collect();
                coarse_to_fine(&all)
            },
            next_irap: 0,
            around: Around::Nearest,
        }
    }

    /// Moves the cursor. True if that leaves the GOP, turns round, or changes the output, so that
    /// what is around it begins anew.
    fn go_to(&mut self, index: &VideoIndex, target: FrameTarget) -> bool {
        let rank = |s: DecodeIndex| index.presentation_index(s);
        let before = self.forward;
        match rank(target.sample).cmp(&rank(self.cursor.sample)) {
            std::cmp::Ordering::Less => self.forward = false,
            std::cmp::Ordering::Greater => self.forward = true,
            std::cmp::Ordering::Equal => {}
        }
        let start = |s: DecodeIndex| plain_start(index, s);
        let other_output = target.output != self.cursor.output;
        if other_output {
            self.next_irap = 0;
        }
        let moves = other_output
            || before != self.forward
            || start(target.sample) != start(self.cursor.sample);
        if moves {
            self.around = Around::Nearest;
        }
        self.cursor = target;
        moves
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
                return Some(Job::Images {
                    wanted: vec![(Arc::clone(video), target)],
                    around: false,
                });
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
        (!wanted.is_empty()).then_some(Job::Images {
            wanted,
            around: true,
        })
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

/// First those far apart, then those between.
fn coarse_to_fine(all: &[u32]) -> Vec<u32> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn at_any_time_what_was_made_lies_all_over_the_video() {
        for count in [0_u32, 1, 2, 3, 5, 64, 100, 4096] {
            let all: Vec<u32> = (0..count).map(|n| n * 10).collect();
            let order = coarse_to_fine(&all);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, all, "each once");
            for n in (1..=order.len()).step_by(1 + order.len() / 50) {
                let mut made: Vec<u32> = order[..n].iter().map(|s| s / 10).collect();
                made.sort_unstable();
                made.push(count);
                let gap = made.windows(2).map(|w| w[1] - w[0]).max().unwrap();
                // The finest even distance for which they suffice.
                let even = (0..16)
                    .map(|log| 1 << log)
                    .find(|stride| count.div_ceil(*stride) as usize <= n)
                    .unwrap();
                assert!(gap <= even, "{n} of {count}: {gap} > {even}");
            }
        }
        let many: Vec<u32> = (0..100_000).collect();
        assert_eq!(coarse_to_fine(&many).len(), MOST_IRAPS);
    }
}
