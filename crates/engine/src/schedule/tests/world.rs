//! A store, workers and decoders that do what the real ones do, in steps that a test takes one
//! by one, and that hold the schedule's answers against what was asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::check;
use crate::schedule::clients::{BULK_PATIENCE, INTERACTIVE};
use crate::schedule::{
    Claim, ClientId, ClientKind, Fetch, FetchLimits, GopKey, Held, ImageKey, OrderId, PassId,
    Picked, Purpose, Schedule, Signal, Stage, TicketId, Waiter, Wish,
};
use crate::ticket::{Output, Priority};

/// Samples of a GOP, of a video.
pub(super) const GOP: u32 = 12;
pub(super) const VIDEO: u32 = 4 * GOP;

pub(super) const MILLI: u64 = 1_000_000;

pub(super) const NO_LIMITS: FetchLimits = FetchLimits {
    concurrent: 1000,
    bytes: u64::MAX,
};

/// One wish, told from all others.
pub(super) type Token = usize;

/// What became of a wish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Waits,
    Answered,
    /// By its client, or with it.
    Cancelled,
}

#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) client: ClientId,
    pub(super) ticket: TicketId,
    pub(super) rank: i64,
    pub(super) position: usize,
    pub(super) purpose: Purpose,
    pub(super) image: ImageKey,
    pub(super) fate: Fate,
}

/// The samples of a GOP from its start up to this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bytes {
    pub(super) end: u32,
}

impl Held for Bytes {
    fn serves(&self, sample: u32) -> bool {
        sample < self.end
    }
}

pub(super) type Tested = Schedule<u8, Bytes, Token>;

#[derive(Debug)]
pub(super) struct AtWork {
    pub(super) id: PassId,
    pub(super) gop: GopKey,
    pub(super) video: u8,
    pub(super) wanted: BTreeMap<u32, Vec<Claim>>,
    /// What is still to be decoded, ascending.
    pub(super) way: VecDeque<u32>,
    /// Nothing joins, everything is decoded.
    fallback: bool,
    kept: BTreeSet<OrderId>,
    /// Further images of the picture that was decoded last.
    developing: VecDeque<OrderId>,
    /// Not reached.
    pub(super) put_back: BTreeSet<OrderId>,
    pub(super) signal: Signal,
    pub(super) alone: bool,
    pub(super) nanos: u64,
}

#[derive(Debug)]
pub(super) enum Worker {
    /// Told to the schedule.
    Idle,
    /// Between two works.
    Free,
    Pass(AtWork),
}

/// How a target can be decoded, by its place in its GOP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stands {
    Exact,
    Fallback,
    /// Depends on the GOP before its own.
    Earlier,
}

fn stands(sample: u32, start: u32) -> Stands {
    match sample % GOP {
        1 if sample - start < GOP => Stands::Earlier,
        7 => Stands::Fallback,
        _ => Stands::Exact,
    }
}

/// A sample and what it depends on: every fourth before it, and one that says not what it
/// depends on itself.
fn closure(sample: u32, start: u32) -> impl Iterator<Item = u32> {
    (start..=sample).filter(move |s| (s - start).is_multiple_of(4) || *s % GOP == 7 || *s == sample)
}

pub(super) fn name(video: u8) -> String {
    format!("video {video}")
}

pub(super) fn size_of(sample: u32) -> u64 {
    10 + u64::from(sample * 7 % 23)
}

pub(super) fn size_between(_: &u8, from: u32, to: u32) -> u64 {
    (from..to).map(size_of).sum()
}

pub(super) struct World {
    pub(super) schedule: Tested,
    pub(super) limits: FetchLimits,
    pub(super) clients: Vec<ClientId>,
    pub(super) harvest: ClientId,
    pub(super) asked: Vec<Asked>,
    pub(super) reads: Vec<Fetch<u8>>,
    pub(super) workers: Vec<Worker>,
    /// Images left to be encoded by workers that wait for work; true for a picture's first.
    pub(super) encoding: VecDeque<(OrderId, bool)>,
    /// What was answered, in this order.
    pub(super) answers: Vec<Token>,
    /// Time to decode a sample of a video; 10 ms where nothing is said.
    pub(super) cost: BTreeMap<u8, u64>,
    /// How many kinds of images are asked for, in turn.
    pub(super) outputs: usize,
    /// Time that passes took, by who was picked.
    pub(super) served: BTreeMap<ClientId, u64>,
    /// By pass.
    leads: BTreeMap<PassId, ClientId>,
    /// Orders that were left undone by a pass that was stopped, until something is picked.
    left: BTreeSet<OrderId>,
}

impl World {
    /// With a client for harvest, and workers that wait for work.
    pub(super) fn new(workers: usize, limits: FetchLimits) -> Self {
        let mut schedule = Schedule::new();
        let harvest = schedule.add_client(ClientKind::Harvest);
        for _ in 0..workers {
            schedule.set_idle(true);
        }
        Self {
            schedule,
            limits,
            clients: Vec::new(),
            harvest,
            asked: Vec::new(),
            reads: Vec::new(),
            workers: (0..workers).map(|_| Worker::Idle).collect(),
            encoding: VecDeque::new(),
            answers: Vec::new(),
            cost: BTreeMap::new(),
            outputs: 1,
            served: BTreeMap::new(),
            leads: BTreeMap::new(),
            left: BTreeSet::new(),
        }
    }

    pub(super) fn client(&mut self) -> ClientId {
        let id = self.schedule.add_client(ClientKind::Session);
        self.clients.push(id);
        id
    }

    pub(super) fn leave(&mut self, client: ClientId) {
        self.schedule.remove_client(client);
        self.clients.retain(|c| *c != client);
        self.forget(|a| a.client == client);
    }

    fn forget(&mut self, which: impl Fn(&Asked) -> bool) {
        for asked in &mut self.asked {
            if asked.fate == Fate::Waits && which(asked) {
                asked.fate = Fate::Cancelled;
            }
        }
    }

    pub(super) fn ticket(&mut self, client: ClientId, priority: Priority) -> (TicketId, i64) {
        self.schedule.add_ticket(client, priority)
    }

    /// Wishes of one ticket; `purpose` and a position for each sample.
    pub(super) fn wish(
        &mut self,
        client: ClientId,
        (ticket, rank): (TicketId, i64),
        (video, purpose): (u8, Purpose),
        samples: impl IntoIterator<Item = (usize, u32)>,
    ) {
        for (position, sample) in samples {
            let start = sample / GOP * GOP;
            let sample = match purpose {
                Purpose::Exact => sample,
                Purpose::Preview => start,
            };
            let image = ImageKey {
                video: name(video).into(),
                sample,
                output: Output {
                    quality: Some((position % self.outputs) as u8),
                    ..Output::default()
                },
            };
            let sink = self.asked.len();
            self.asked.push(Asked {
                client,
                ticket,
                rank,
                position,
                purpose,
                image: image.clone(),
                fate: Fate::Waits,
            });
            let wish = Wish {
                client,
                ticket,
                position,
                purpose,
                image,
                start,
                video,
                sink,
            };
            self.schedule.submit(wish, rank);
        }
        if purpose == Purpose::Exact {
            self.schedule.gather(ticket);
        }
    }

    /// A ticket for the exact pictures of samples.
    pub(super) fn request(
        &mut self,
        client: ClientId,
        priority: Priority,
        video: u8,
        samples: impl IntoIterator<Item = u32>,
    ) -> (TicketId, i64) {
        let ticket = self.ticket(client, priority);
        let samples = samples.into_iter().enumerate();
        self.wish(client, ticket, (video, Purpose::Exact), samples);
        ticket
    }

    pub(super) fn cancel(&mut self, ticket: TicketId, position: Option<usize>) {
        self.schedule.cancel(ticket, position);
        self.forget(|a| a.ticket == ticket && position.is_none_or(|p| p == a.position));
    }

    pub(super) fn block(&mut self, client: ClientId, blocked: bool) {
        self.schedule.set_blocked(client, blocked);
    }

    fn answer(&mut self, waiters: Vec<Waiter<Token>>) {
        for waiter in &waiters {
            let asked = &mut self.asked[waiter.sink];
            assert_eq!(
                asked.fate,
                Fate::Waits,
                "answered twice or after its end: {asked:?}"
            );
            asked.fate = Fate::Answered;
        }
        for waiter in waiters {
            self.answers.push(waiter.sink);
            if waiter.purpose == Purpose::Exact {
                let (ticket, position) = (waiter.ticket, waiter.position);
                self.schedule.cancel_preview(ticket, position);
                self.forget(|a| {
                    a.ticket == ticket && a.position == position && a.purpose == Purpose::Preview
                });
            }
        }
    }

    fn complete(&mut self, order: OrderId) {
        let waiters = self.schedule.complete(order);
        self.answer(waiters);
    }

    /// Begins all reads that may run now.
    pub(super) fn pump(&mut self) {
        loop {
            let stuck = self.reads.is_empty()
                && self.schedule.passes.is_empty()
                && self.schedule.most_urgent().is_none();
            let Some(fetch) = self.schedule.next_fetch(self.limits, size_between) else {
                check::nothing_to_read(self);
                return;
            };
            check::read(self, &fetch, stuck);
            self.reads.push(fetch);
        }
    }

    /// A read ends; `more` samples than asked for are there, too.
    pub(super) fn read(&mut self, which: usize, more: u32) {
        if self.reads.is_empty() {
            return;
        }
        let fetch = self.reads.remove(which % self.reads.len());
        let start = fetch.gop.start;
        let end = (fetch.to + more)
            .min(start + 2 * GOP)
            .min(VIDEO)
            .max(fetch.to);
        let bytes = size_between(&fetch.video, start, end);
        self.schedule.fetched(&fetch.gop, Bytes { end }, end, bytes);
    }

    pub(super) fn read_fails(&mut self, which: usize) {
        if self.reads.is_empty() {
            return;
        }
        let fetch = self.reads.remove(which % self.reads.len());
        let waiters = self.schedule.fetch_failed(&fetch.gop);
        for waiter in &waiters {
            let sample = self.asked[waiter.sink].image.sample;
            assert!((fetch.from..fetch.to).contains(&sample), "had its bytes");
        }
        self.answer(waiters);
    }

    /// One worker does what it does next.
    pub(super) fn step(&mut self, which: usize) {
        let which = which % self.workers.len();
        match std::mem::replace(&mut self.workers[which], Worker::Free) {
            Worker::Idle => {
                self.schedule.set_idle(false);
                self.take_work(which);
            }
            Worker::Free => self.take_work(which),
            Worker::Pass(pass) => self.go_on(which, pass),
        }
    }

    fn take_work(&mut self, which: usize) {
        if let Some((order, first)) = self.encoding.pop_front() {
            let stage = self.schedule.orders.get(&order).map(|o| o.stage);
            if first || self.schedule.is_to_be_made_now(order) {
                self.complete(order);
                return;
            }
            let passes = self.workers.iter_mut().filter_map(|w| match w {
                Worker::Pass(pass) => Some(pass),
                _ => None,
            });
            // Its pass does not take it back.
            for pass in passes.filter(|p| stage == Some(Stage::Claimed(p.id))) {
                pass.put_back.insert(order);
            }
            return;
        }
        let expected = check::before_pick(self);
        match self.schedule.pick() {
            None => {
                assert!(expected.is_empty(), "not picked: {expected:?}");
                self.left.clear();
                self.schedule.set_idle(true);
                self.workers[which] = Worker::Idle;
            }
            Some(picked) => {
                check::picked(self, &expected, &picked);
                let left = std::mem::take(&mut self.left);
                let lead = picked.claims[0].order;
                assert!(!left.contains(&lead), "stopped for nothing");
                self.begin(which, picked);
            }
        }
    }

    fn begin(&mut self, which: usize, picked: Picked<u8, Bytes>) {
        let lead = self.schedule.waiters(picked.claims[0].order);
        let client = lead
            .iter()
            .map(|w| w.client)
            .min_by_key(|c| *c == self.harvest);
        self.leads
            .insert(picked.pass, client.expect("somebody waits"));
        let start = picked.gop.start;
        let mut pass = AtWork {
            id: picked.pass,
            gop: picked.gop,
            video: picked.video,
            wanted: BTreeMap::new(),
            way: VecDeque::new(),
            fallback: false,
            kept: BTreeSet::new(),
            developing: VecDeque::new(),
            put_back: BTreeSet::new(),
            signal: picked.signal,
            alone: picked.alone,
            nanos: 0,
        };
        let mut fallbacks = Vec::new();
        let first = picked.claims[0].order;
        for claim in picked.claims {
            assert!(claim.sample < picked.run.end);
            match stands(claim.sample, start) {
                Stands::Exact => pass.wanted.entry(claim.sample).or_default().push(claim),
                Stands::Fallback => fallbacks.push(claim),
                Stands::Earlier if start == 0 => self.complete(claim.order),
                Stands::Earlier => self.schedule.move_to(claim.order, start - GOP),
            }
        }
        if fallbacks.first().is_some_and(|c: &Claim| c.order == first) {
            for claim in std::mem::take(&mut pass.wanted).into_values().flatten() {
                self.put_back(&mut pass, claim);
            }
        }
        pass.fallback = pass.wanted.is_empty();
        for claim in fallbacks {
            if pass.fallback {
                pass.wanted.entry(claim.sample).or_default().push(claim);
            } else {
                self.put_back(&mut pass, claim);
            }
        }
        let targets = pass.wanted.keys().copied();
        let way: BTreeSet<u32> = if pass.fallback {
            targets.flat_map(|t| start..=t).collect()
        } else {
            targets.flat_map(|t| closure(t, start)).collect()
        };
        pass.way = way.into_iter().collect();
        if !pass.fallback {
            let ahead: Vec<u32> = pass.way.iter().copied().collect();
            let joined = self.schedule.join(pass.id, &ahead);
            self.take_in(&mut pass, joined);
        }
        self.workers[which] = Worker::Pass(pass);
    }

    fn take_in(&mut self, pass: &mut AtWork, joined: Vec<Claim>) {
        for claim in joined {
            if stands(claim.sample, pass.gop.start) == Stands::Exact {
                pass.wanted.entry(claim.sample).or_default().push(claim);
            } else {
                self.put_back(pass, claim);
            }
        }
    }

    fn put_back(&mut self, pass: &mut AtWork, claim: Claim) {
        self.schedule.unclaim(pass.id, claim.order);
        pass.put_back.insert(claim.order);
    }

    fn go_on(&mut self, which: usize, mut pass: AtWork) {
        if let Some(order) = pass.developing.pop_front() {
            if self.schedule.is_to_be_made_now(order) {
                self.complete(order);
            } else {
                pass.put_back.insert(order);
            }
            self.workers[which] = Worker::Pass(pass);
            return;
        }
        if pass.signal.take() {
            let ahead: Vec<u32> = match pass.fallback {
                true => Vec::new(),
                false => pass.way.iter().copied().collect(),
            };
            self.schedule.charge(pass.id, pass.nanos);
            let look = self.schedule.look(pass.id, &ahead);
            check::joined(self, &pass, &ahead, &look.joined);
            self.take_in(&mut pass, look.joined);
            for order in look.dropped {
                assert!(!self.schedule.orders.contains_key(&order));
                pass.wanted.retain(|_, claims| {
                    claims.retain(|c| c.order != order);
                    !claims.is_empty()
                });
            }
            if look.stop {
                let wanted = pass.wanted.values().flatten();
                let open = wanted.filter(|c| check::is_servable(self, c.order));
                let left = open.map(|c| c.order).collect();
                self.end(which, pass);
                // Nothing comes in between here, so that it is seen what the stop was for.
                self.left = left;
                while matches!(self.workers[which], Worker::Free) {
                    self.take_work(which);
                }
                return;
            }
        }
        let Some(sample) = pass.way.pop_front().filter(|_| !pass.wanted.is_empty()) else {
            assert!(pass.wanted.is_empty(), "not reached: {pass:?}");
            self.end(which, pass);
            return;
        };
        pass.nanos += self.cost.get(&pass.video).copied().unwrap_or(10 * MILLI);
        let claims = pass.wanted.remove(&sample).unwrap_or_default();
        pass.kept.extend(claims.iter().map(|c| c.order));
        let mut orders = claims.iter().map(|c| c.order);
        if self.schedule.idle() > self.encoding.len() {
            let orders = orders.enumerate().map(|(n, order)| (order, n == 0));
            self.encoding.extend(orders);
        } else if let Some(first) = orders.next() {
            self.complete(first);
            pass.developing.extend(orders);
        }
        self.workers[which] = Worker::Pass(pass);
    }

    fn end(&mut self, which: usize, pass: AtWork) {
        let lead = self.leads.remove(&pass.id).expect("begun");
        *self.served.entry(lead).or_default() += pass.nanos;
        self.schedule.charge(pass.id, pass.nanos);
        self.schedule.end_pass(pass.id, &pass.kept);
        self.workers[which] = Worker::Free;
    }

    pub(super) fn passes(&self) -> impl Iterator<Item = &AtWork> {
        self.workers.iter().filter_map(|w| match w {
            Worker::Pass(pass) => Some(pass),
            _ => None,
        })
    }

    pub(super) fn waits(&self) -> impl Iterator<Item = &Asked> {
        self.asked.iter().filter(|a| a.fate == Fate::Waits)
    }

    /// All that can be done is done: whoever takes what is ready has everything.
    pub(super) fn settle(&mut self) {
        for _ in 0..200_000 {
            self.pump();
            if self.reads.is_empty()
                && self.encoding.is_empty()
                && self.workers.iter().all(|w| matches!(w, Worker::Idle))
                && self.schedule.most_urgent().is_none()
            {
                check::all(self);
                check::settled(self);
                return;
            }
            while !self.reads.is_empty() {
                self.read(0, 0);
            }
            for which in 0..self.workers.len() {
                self.step(which);
            }
        }
        panic!("it does not come to an end");
    }

    /// Reads everything that may be read.
    pub(super) fn read_all(&mut self) {
        loop {
            self.pump();
            if self.reads.is_empty() {
                return;
            }
            while !self.reads.is_empty() {
                self.read(0, 0);
            }
        }
    }

    pub(super) fn spent(&self, client: ClientId) -> u64 {
        self.schedule.clients[&client].spent
    }
}

const _: () = assert!(INTERACTIVE == 16 && BULK_PATIENCE == 500 * MILLI);
