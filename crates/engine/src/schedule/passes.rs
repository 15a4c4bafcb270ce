//! What a worker decodes next, what joins it on its way, and when it stops.

use std::collections::{BTreeMap, BTreeSet};

use super::clients::{Client, Place};
use super::types::{Claim, ClientId, GopKey, Held, Look, OrderId, PassId, Picked, Signal, Waiter};
use super::{Schedule, Stage};

#[derive(Debug)]
pub(super) struct Pass {
    pub(super) gop: GopKey,
    pub(super) claimed: BTreeSet<OrderId>,
    /// What was claimed and has gone, and was not told yet.
    pub(super) dropped: Vec<OrderId>,
    /// What it does not reach.
    put_back: BTreeSet<OrderId>,
    pub(super) signal: Signal,
    /// A request that has all cores for itself.
    pub(super) alone: bool,
    /// Those for whom it was begun.
    pub(super) begun_for: BTreeSet<ClientId>,
    /// Something that it had claimed was answered.
    pub(super) answered: bool,
    /// It was told to make way for another client.
    made_way: bool,
    /// How many images it was to make, for each client.
    images: BTreeMap<ClientId, u64>,
    /// Decoding time, in nanoseconds.
    nanos: u64,
}

impl Pass {
    /// What a client owes for it.
    pub(super) fn share(&self, client: ClientId) -> u64 {
        let all: u64 = self.images.values().sum();
        let own = self.images.get(&client).copied().unwrap_or(0);
        let share = u128::from(self.nanos) * u128::from(own) / u128::from(all.max(1));
        u64::try_from(share).unwrap_or(u64::MAX)
    }
}

impl<V: Clone, R: Clone + Held, S: Clone> Schedule<V, R, S> {
    /// Work for a worker, if there is some.
    pub(crate) fn pick(&mut self) -> Option<Picked<V, R>> {
        let (client, place) = self.most_urgent()?;
        let key = self.orders.get(&place.order)?.gop();
        let gop = self.gops.get(&key)?;
        let (video, run) = (gop.video.clone(), gop.run.clone()?);
        let state = self.clients.get(&client)?;
        let harvest = state.is_harvest();
        if !harvest {
            self.clock = self.clock.max(state.spent);
        }
        // What is decoded together: the ticket's own. For who waits for much, and not for what it
        // asked for last, everything.
        let together = harvest || (state.is_bulk() && !state.is_newest(&place));
        let mut chosen = vec![place.order];
        chosen.extend(gop.unclaimed.iter().copied().filter(|&id| {
            let Some(o) = self.orders.get(&id) else {
                return false;
            };
            let mate = || o.waiters.iter().any(|w| w.ticket == place.ticket);
            id != place.order
                && o.stage == Stage::Runnable
                && (together || mate())
                && self.is_servable(o)
        }));
        let id = PassId(self.id());
        let signal = Signal::default();
        let pass = Pass {
            gop: key.clone(),
            claimed: BTreeSet::new(),
            dropped: Vec::new(),
            put_back: BTreeSet::new(),
            signal: signal.clone(),
            alone: false,
            begun_for: BTreeSet::new(),
            answered: false,
            made_way: false,
            images: BTreeMap::new(),
            nanos: 0,
        };
        self.passes.insert(id, pass);
        if let Some(gop) = self.gops.get_mut(&key) {
            gop.passes.insert(id);
        }
        let claims: Vec<Claim> = (chosen.into_iter())
            .filter_map(|order| self.claim(id, order))
            .collect();
        let alone = self.is_alone(id, client, harvest);
        if let Some(pass) = self.passes.get_mut(&id) {
            pass.alone = alone && !harvest;
            pass.begun_for = pass.images.keys().copied().collect();
            for client in &pass.begun_for {
                if let Some(client) = self.clients.get_mut(client) {
                    client.begun += 1;
                }
            }
        }
        if alone {
            // Harvest ends for it.
            self.stir_others(id);
        } else if self.idle == 0 && self.most_urgent().is_some() {
            // What was paid or taken since they looked may change who is to stop.
            self.stir();
        }
        Some(Picked {
            pass: id,
            gop: key,
            video,
            run,
            claims,
            alone,
            signal,
        })
    }

    /// Whether nothing but a pass wants the cores: harvest does not count beside a request, and
    /// what its client wants of the same GOP does not, either. That waits for bytes that the pass
    /// can decode when they come, or is being finished by who had begun it.
    fn is_alone(&self, id: PassId, client: ClientId, harvest: bool) -> bool {
        let Some(key) = self.passes.get(&id).map(|p| &p.gop) else {
            return false;
        };
        let counts = |c: ClientId| {
            let client = self.clients.get(&c);
            client.is_some_and(|c| !c.blocked && (harvest || !c.is_harvest()))
        };
        let elsewhere = |place: &Place| {
            let order = self.orders.get(&place.order);
            order.is_some_and(|o| o.gop() != *key)
        };
        let other_pass = |(other, pass): (&PassId, &Pass)| {
            *other != id
                && self
                    .waiters_of(pass)
                    .any(|w| counts(w.client) && (w.client != client || pass.gop != *key))
        };
        let other_work = |(&c, state): (&ClientId, &Client)| {
            let mut places = state.runnable.iter().chain(&state.lacking);
            counts(c) && places.any(|place| c != client || elsewhere(place))
        };
        !self.passes.iter().any(other_pass) && !self.clients.iter().any(other_work)
    }

    /// Whether a request has all cores, in another pass than this.
    pub(super) fn somebody_is_alone(&self, but: Option<PassId>) -> bool {
        let mut others = self.passes.iter().filter(|(id, _)| Some(**id) != but);
        others.any(|(_, p)| p.alone)
    }

    fn claim(&mut self, pass: PassId, id: OrderId) -> Option<Claim> {
        let order = self.orders.get(&id)?;
        let claim = Claim {
            order: id,
            sample: order.image.sample,
            output: order.image.output,
        };
        let state = self.passes.get_mut(&pass)?;
        state.claimed.insert(id);
        for waiter in &order.waiters {
            *state.images.entry(waiter.client).or_insert(0) += 1;
        }
        self.restage(id, Stage::Claimed(pass));
        Some(claim)
    }

    /// What has changed for a running pass. `ahead` are the samples that it will still decode,
    /// ascending.
    pub(crate) fn look(&mut self, pass: PassId, ahead: &[u32]) -> Look {
        let joined = self.join(pass, ahead);
        let stop = self.should_stop(pass);
        let dropped = match self.passes.get_mut(&pass) {
            Some(p) => {
                p.made_way |= stop == Some(Stop::MakeWay);
                std::mem::take(&mut p.dropped)
            }
            None => Vec::new(),
        };
        Look {
            joined,
            dropped,
            stop: stop.is_some(),
        }
    }

    /// Claims the orders of a pass's GOP whose pictures lie ahead on its way.
    pub(crate) fn join(&mut self, pass: PassId, ahead: &[u32]) -> Vec<Claim> {
        let Some(state) = self.passes.get(&pass) else {
            return Vec::new();
        };
        let Some(gop) = self.gops.get(&state.gop) else {
            return Vec::new();
        };
        let on_the_way: Vec<OrderId> = (gop.unclaimed.iter())
            .filter_map(|id| Some((*id, self.orders.get(id)?)))
            .filter(|(_, o)| matches!(o.stage, Stage::Runnable | Stage::Gathering))
            .filter(|(_, o)| self.is_servable(o))
            .filter(|(_, o)| ahead.binary_search(&o.image.sample).is_ok())
            .filter(|(id, _)| !state.put_back.contains(id))
            .map(|(id, _)| id)
            .collect();
        (on_the_way.into_iter())
            .filter_map(|id| self.claim(pass, id))
            .collect()
    }

    /// Those who wait for what a pass has claimed.
    fn waiters_of<'a>(&'a self, pass: &'a Pass) -> impl Iterator<Item = &'a Waiter<S>> {
        let claimed = pass.claimed.iter().filter_map(|o| self.orders.get(o));
        claimed.flat_map(|o| &o.waiters)
    }

    /// A pass stops only for something that is then picked before what it leaves undone.
    fn should_stop(&self, id: PassId) -> Option<Stop> {
        let Some(pass) = self.passes.get(&id) else {
            return Some(Stop::Unwanted);
        };
        let waiters = || {
            self.waiters_of(pass).filter_map(|w| {
                let client = self.clients.get(&w.client)?;
                (!client.blocked).then_some((w, client))
            })
        };
        if waiters().next().is_none() {
            return Some(Stop::Unwanted);
        }
        let harvest = waiters().all(|(_, c)| c.is_harvest());
        if harvest && self.somebody_is_alone(Some(id)) {
            return Some(Stop::MakeWay);
        }
        if self.idle > 0 {
            return None;
        }
        let next = self.most_urgent_after(pass)?;
        let newer = |c: &Client| c.runnable.first().map(|p| p.rank);
        if waiters().all(|(w, c)| newer(c).is_some_and(|rank| rank < w.rank)) {
            return Some(Stop::Outdated);
        }
        let new = self.clients.get(&next.2)?;
        let mut sessions = waiters().filter(|(_, c)| !c.is_harvest());
        if new.is_harvest() || (!harvest && (new.is_bulk() || sessions.any(|(_, c)| !c.is_bulk())))
        {
            return None;
        }
        let clients: BTreeSet<ClientId> = waiters()
            .filter(|(_, c)| !c.is_harvest())
            .map(|(w, _)| w.client)
            .collect();
        let first = (clients.iter())
            .filter_map(|&c| self.urgency_after(c, pass))
            .all(|theirs| next < theirs);
        first.then_some(Stop::MakeWay)
    }

    /// A pass does not reach this: it waits again, and does not join this pass any more. It may be
    /// what the pass is to stop for.
    pub(crate) fn unclaim(&mut self, pass: PassId, order: OrderId) {
        if !self.forget_claim(pass, order) {
            return;
        }
        self.restage(order, Stage::Runnable);
        if let Some(pass) = self.passes.get_mut(&pass) {
            pass.put_back.insert(order);
        }
        // This pass, or others for which it is more urgent than what they have.
        self.stir();
    }

    /// Whether an image is made now that its picture is there, and others of that picture have
    /// been. It is not where nobody wants it any more; and it waits again where nobody who waits
    /// for it takes what is ready, or where its pass is to stop.
    pub(crate) fn is_to_be_made_now(&mut self, id: OrderId) -> bool {
        let Some(order) = self.orders.get(&id) else {
            return false;
        };
        let Stage::Claimed(pass) = order.stage else {
            return false;
        };
        // Where the pass has ended, a worker makes it that had nothing else to do.
        let signal = self.passes.get(&pass).map(|p| &p.signal);
        let stops = || signal.is_some_and(Signal::is_set) && self.should_stop(pass).is_some();
        if self.is_servable(order) && !stops() {
            return true;
        }
        let key = order.gop();
        if self.forget_claim(pass, id)
            && let Some(pass) = self.passes.get_mut(&pass)
        {
            pass.put_back.insert(id);
            pass.signal.set();
        }
        if let Some(video) = self.gops.get(&key).map(|g| g.video.clone()) {
            self.settle_in_gop(id, video);
        }
        self.let_go_of_bytes(&key);
        false
    }

    /// Takes a claim back, and what it would cost.
    fn forget_claim(&mut self, pass: PassId, id: OrderId) -> bool {
        let Some(pass) = self.passes.get_mut(&pass) else {
            return false;
        };
        for waiter in self.orders.get(&id).iter().flat_map(|o| &o.waiters) {
            if let Some(images) = pass.images.get_mut(&waiter.client) {
                *images = images.saturating_sub(1);
            }
        }
        pass.claimed.remove(&id)
    }

    /// An order has to start from an earlier sync sample.
    pub(crate) fn move_to(&mut self, id: OrderId, start: u32) {
        let Some(order) = self.orders.get(&id) else {
            return;
        };
        let key = order.gop();
        let Some(video) = self.gops.get(&key).map(|g| g.video.clone()) else {
            return;
        };
        if let Stage::Claimed(pass) = order.stage {
            self.forget_claim(pass, id);
            self.stir_pass(pass);
        }
        self.leave_gop(id, &key);
        if let Some(order) = self.orders.get_mut(&id) {
            order.start = start;
        }
        self.settle_in_gop(id, video);
    }

    /// Takes out an order that is answered now, with all who wait for it.
    pub(crate) fn complete(&mut self, id: OrderId) -> Vec<Waiter<S>> {
        let Some(order) = self.orders.get_mut(&id) else {
            return Vec::new();
        };
        let stage = order.stage;
        let waiters = std::mem::take(&mut order.waiters);
        for waiter in &waiters {
            self.release(waiter, id);
        }
        if let Stage::Claimed(pass) = stage
            && let Some(pass) = self.passes.get_mut(&pass)
        {
            pass.claimed.remove(&id);
            pass.answered = true;
            // What is left may be for somebody who waits less, or does not take it.
            if !pass.claimed.is_empty() {
                pass.signal.set();
            }
        }
        self.remove_order(id);
        waiters
    }

    /// Who waits for an order, for accounting.
    pub(crate) fn waiters(&self, id: OrderId) -> &[Waiter<S>] {
        self.orders.get(&id).map_or(&[], |o| &o.waiters)
    }

    /// The orders that a pass has claimed.
    pub(crate) fn claimed(&self, id: PassId) -> Vec<OrderId> {
        let pass = self.passes.get(&id);
        pass.map_or_else(Vec::new, |p| p.claimed.iter().copied().collect())
    }

    /// A pass has spent so much decoding time in all: when it ends, whom it was for will pay, each
    /// for its images.
    pub(crate) fn charge(&mut self, pass: PassId, nanos: u64) {
        if let Some(pass) = self.passes.get_mut(&pass) {
            pass.nanos = nanos;
        }
    }

    /// A pass has ended. What it had claimed and not answered waits again, but for `kept`: their
    /// pictures are being encoded.
    pub(crate) fn end_pass(&mut self, id: PassId, kept: &BTreeSet<OrderId>) {
        let Some(pass) = self.passes.remove(&id) else {
            return;
        };
        // Who had to make way and got nothing for it does not pay, so that it is sooner its turn:
        // else those who are always more urgent could keep it from ever getting anything.
        let in_vain = pass.made_way && !pass.answered && kept.is_empty();
        for &client in pass.images.keys() {
            if let Some(state) = self.clients.get_mut(&client)
                && !in_vain
            {
                state.spent = state.spent.saturating_add(pass.share(client));
            }
        }
        for client in &pass.begun_for {
            if let Some(client) = self.clients.get_mut(client) {
                client.end_begun();
            }
        }
        for order in pass.claimed {
            if !kept.contains(&order) {
                self.restage(order, Stage::Runnable);
                self.announce(order);
            }
        }
        if let Some(gop) = self.gops.get_mut(&pass.gop) {
            gop.passes.remove(&id);
        }
        self.let_go_of_bytes(&pass.gop);
        self.tidy_gop(&pass.gop);
        if pass.alone {
            // Harvest counts again among what is ready.
            self.stir();
        }
    }

    /// A worker begins or ends waiting for work.
    pub(crate) fn set_idle(&mut self, idle: bool) {
        if idle {
            self.idle += 1;
            return;
        }
        self.idle = self.idle.saturating_sub(1);
        // Passes that did not stop because somebody could take what waits.
        if self.idle == 0 && self.most_urgent().is_some() {
            self.stir();
        }
    }

    /// Workers that wait for work.
    pub(crate) fn idle(&self) -> usize {
        self.idle
    }

    /// Tells running passes that an order is new or more urgent.
    pub(super) fn announce(&self, id: OrderId) {
        let order = self.orders.get(&id);
        if order.is_some_and(|o| o.stage == Stage::Runnable) {
            self.stir();
        }
    }

    /// Tells a pass that others wait for what it has claimed than before.
    pub(super) fn stir_pass(&self, id: PassId) {
        if let Some(pass) = self.passes.get(&id) {
            pass.signal.set();
        }
    }

    /// Tells all passes that something has changed.
    pub(super) fn stir(&self) {
        for pass in self.passes.values() {
            pass.signal.set();
        }
    }

    fn stir_others(&self, id: PassId) {
        for (_, pass) in self.passes.iter().filter(|(other, _)| **other != id) {
            pass.signal.set();
        }
    }
}

/// Why a pass stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stop {
    /// Nobody waits for it who takes what is ready.
    Unwanted,
    /// All who wait for it have asked for something newer.
    Outdated,
    /// Another client is more urgent.
    MakeWay,
}
