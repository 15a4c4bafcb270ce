//! Which bytes are read next, and who holds those that were read.
//!
//! Bytes are held as long as somebody can be served with them. Less urgent work leaves a part of
//! the memory and a read to more urgent work, so that who looks and waits need not wait until
//! what was read ahead for others has been decoded.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::types::{ClientId, Fetch, FetchLimits, GopKey, Held, OrderId, TicketId, Waiter};
use super::{Gop, Order, Schedule, Stage};

/// A read under way.
#[derive(Debug)]
pub(super) struct Fetching {
    /// Behind the last sample.
    pub(super) to: u32,
    pub(super) bytes: u64,
    /// For whom it was begun.
    client: ClientId,
}

/// What one kind of client may take of the limits.
struct Allowance {
    reads: usize,
    bytes: u64,
}

impl Allowance {
    fn of(limits: FetchLimits, harvest: bool, bulk: bool) -> Self {
        let reads = limits.concurrent.max(1);
        match (harvest, bulk) {
            (true, _) => Self {
                reads: 1,
                bytes: limits.bytes / 2,
            },
            (false, true) => Self {
                reads: reads.saturating_sub(1).max(1),
                bytes: limits.bytes - limits.bytes / 4,
            },
            (false, false) => Self {
                reads,
                bytes: limits.bytes,
            },
        }
    }
}

impl<V: Clone, R: Clone + Held, S: Clone> Schedule<V, R, S> {
    /// What to read next, if anything may be read now. `size` says how many bytes the samples
    /// from one up to another (not with it) have.
    pub(crate) fn next_fetch(
        &mut self,
        limits: FetchLimits,
        size: impl Fn(&V, u32, u32) -> u64,
    ) -> Option<Fetch<V>> {
        if self.fetching >= limits.concurrent.max(1) {
            return None;
        }
        // What is held is let go of when it has been decoded; only where nothing is going on that
        // could end with that, more is taken than the limit.
        let stuck = self.fetching == 0 && self.passes.is_empty() && self.most_urgent().is_none();
        let taken = self.held.saturating_add(self.coming);
        // Smaller reads do not overtake what waits for memory, unless they may take more of it.
        let mut full = None;
        for id in self.lacking_by_urgency() {
            let Some(client) = self.clients.get(&id) else {
                continue;
            };
            let harvest = client.is_harvest();
            let allowed = Allowance::of(limits, harvest, client.is_bulk());
            if !stuck && (self.fetching >= allowed.reads || full >= Some(allowed.bytes)) {
                continue;
            }
            let Some(fetch) = self.first_lacking(id) else {
                continue;
            };
            let bytes = size(&fetch.video, fetch.from, fetch.to);
            if !stuck && taken.saturating_add(bytes) > allowed.bytes {
                full = Some(allowed.bytes);
                continue;
            }
            let fetching = Fetching {
                to: fetch.to,
                bytes,
                client: id,
            };
            self.fetching += 1;
            self.coming = self.coming.saturating_add(bytes);
            if let Some(client) = self.clients.get_mut(&id) {
                client.begun += 1;
            }
            if let Some(gop) = self.gops.get_mut(&fetch.gop) {
                gop.fetching = Some(fetching);
            }
            return Some(Fetch { harvest, ..fetch });
        }
        None
    }

    /// What a client lacks most and is not being read: the samples of a GOP from one up to
    /// another.
    fn first_lacking(&self, id: ClientId) -> Option<Fetch<V>> {
        let client = self.clients.get(&id)?;
        client.lacking.iter().find_map(|place| {
            let order = self.orders.get(&place.order)?;
            let key = order.gop();
            let gop = self.gops.get(&key).filter(|g| g.fetching.is_none())?;
            // All that the ticket wants of it.
            let mates = (gop.orders.iter())
                .filter_map(|o| self.orders.get(o))
                .filter(|o| o.waiters.iter().any(|w| w.ticket == place.ticket));
            let lacking = mates.filter(|o| o.stage == Stage::Lacking);
            let mut targets: Vec<u32> = lacking.map(|o| o.image.sample).collect();
            targets.push(order.image.sample);
            targets.sort_unstable();
            targets.dedup();
            let from = if gop.run.is_some() {
                gop.end
            } else {
                key.start
            };
            let to = targets.last().map_or(from, |last| last.saturating_add(1));
            Some(Fetch {
                video: gop.video.clone(),
                from,
                // Behind what is there, where a target lies in a gap.
                to: to.max(from),
                targets,
                harvest: false,
                gop: key,
            })
        })
    }

    /// The bytes held for a GOP, so that what is read can be put behind them.
    pub(crate) fn run_of(&self, key: &GopKey) -> Option<R> {
        self.gops.get(key).and_then(|g| g.run.clone())
    }

    /// Where the outcomes of a GOP's orders go, each ticket's once.
    pub(crate) fn sinks_in(&self, key: &GopKey) -> Vec<S> {
        let orders = self.gops.get(key).map(|g| &g.orders);
        let orders = orders.into_iter().flatten();
        let waiters = orders
            .filter_map(|o| self.orders.get(o))
            .flat_map(|o| &o.waiters);
        let by_ticket: BTreeMap<TicketId, &S> = waiters.map(|w| (w.ticket, &w.sink)).collect();
        by_ticket.into_values().cloned().collect()
    }

    /// So many bytes of a GOP are there, those of the samples from its start up to `end` among
    /// them.
    pub(crate) fn fetched(&mut self, key: &GopKey, run: R, end: u32, bytes: u64) {
        self.end_fetching(key);
        let Some(gop) = self.gops.get_mut(key) else {
            return;
        };
        // What is read is put to what there was, so that the larger run is all of it.
        if gop.run.is_none() || end > gop.end || bytes >= gop.bytes {
            self.held = self.held.saturating_sub(gop.bytes).saturating_add(bytes);
            gop.run = Some(run);
            gop.end = end;
            gop.bytes = bytes;
        }
        let Some(run) = gop.run.clone() else { return };
        let orders: Vec<OrderId> = gop.unclaimed.iter().copied().collect();
        for id in orders {
            let Some(order) = self.orders.get(&id) else {
                continue;
            };
            match (order.stage, run.serves(order.image.sample)) {
                (Stage::Lacking, true) => {
                    self.restage(id, Stage::Runnable);
                    self.announce(id);
                }
                // It was planned by what turned out not to be so.
                (Stage::Runnable | Stage::Gathering, false) => self.restage(id, Stage::Lacking),
                _ => {}
            }
        }
        self.release_gathered(key);
        self.let_go_of_bytes(key);
        self.tidy_gop(key);
    }

    /// Samples of a GOP could not be read: takes out the orders that wanted them.
    pub(crate) fn fetch_failed(&mut self, key: &GopKey) -> Vec<Waiter<S>> {
        let to = self.end_fetching(key).unwrap_or(0);
        let lacks = |id: &OrderId| {
            let order = self.orders.get(id);
            order.is_some_and(|o| o.stage == Stage::Lacking && o.image.sample < to)
        };
        let orders = self.gops.get(key).map(|g| &g.unclaimed);
        let orders: Vec<OrderId> = (orders.into_iter().flatten().copied())
            .filter(lacks)
            .collect();
        let waiters = (orders.into_iter())
            .flat_map(|id| self.complete(id))
            .collect();
        self.let_go_of_bytes(key);
        self.tidy_gop(key);
        waiters
    }

    /// Up to where was read.
    fn end_fetching(&mut self, key: &GopKey) -> Option<u32> {
        let fetching = self.gops.get_mut(key)?.fetching.take()?;
        self.fetching = self.fetching.saturating_sub(1);
        self.coming = self.coming.saturating_sub(fetching.bytes);
        if let Some(client) = self.clients.get_mut(&fetching.client) {
            client.end_begun();
        }
        self.stir();
        Some(fetching.to)
    }

    /// Drops the bytes of a GOP for which nobody can be served at the moment.
    pub(super) fn let_go_of_bytes(&mut self, key: &GopKey) {
        let Some(gop) = self.gops.get(key) else {
            return;
        };
        let used = !gop.passes.is_empty() || gop.fetching.is_some();
        if gop.run.is_none() || used {
            return;
        }
        // A picture that is being encoded needs them no more.
        let waiting = gop.unclaimed.iter();
        let mut waiting = waiting.filter_map(|id| self.orders.get(id));
        if waiting.any(|o| self.is_servable(o)) {
            return;
        }
        let runnable: Vec<OrderId> = (gop.unclaimed.iter().copied())
            .filter(|id| {
                let order = self.orders.get(id);
                order.is_some_and(|o| matches!(o.stage, Stage::Runnable | Stage::Gathering))
            })
            .collect();
        for id in runnable {
            self.restage(id, Stage::Lacking);
        }
        if let Some(gop) = self.gops.get_mut(key) {
            self.held = self.held.saturating_sub(gop.bytes);
            gop.run = None;
            gop.end = 0;
            gop.bytes = 0;
        }
    }

    /// Puts an order into the GOP where it starts.
    pub(super) fn settle_in_gop(&mut self, id: OrderId, video: V) {
        let Some(order) = self.orders.get(&id) else {
            return;
        };
        let key = order.gop();
        let sample = order.image.sample;
        let gop = self.gops.entry(key).or_insert_with(|| Gop::of(video));
        gop.orders.insert(id);
        let stage = if gop.run.as_ref().is_some_and(|run| run.serves(sample)) {
            Stage::Runnable
        } else {
            Stage::Lacking
        };
        self.restage(id, stage);
        self.announce(id);
    }

    pub(super) fn leave_gop(&mut self, id: OrderId, key: &GopKey) {
        if let Some(gop) = self.gops.get_mut(key) {
            gop.orders.remove(&id);
            gop.unclaimed.remove(&id);
            gop.gathering.remove(&id);
        }
        self.release_gathered(key);
        self.let_go_of_bytes(key);
        self.tidy_gop(key);
    }

    /// Forgets a GOP of which nothing is wanted.
    pub(super) fn tidy_gop(&mut self, key: &GopKey) {
        if let Some(gop) = self.gops.get(key)
            && gop.orders.is_empty()
            && gop.passes.is_empty()
            && gop.fetching.is_none()
            && let Some(gop) = self.gops.remove(key)
        {
            self.held = self.held.saturating_sub(gop.bytes);
        }
    }

    /// Compressed bytes that GOPs hold.
    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> u64 {
        self.held
    }
}

impl<S> Order<S> {
    pub(super) fn gop(&self) -> GopKey {
        GopKey {
            video: Arc::clone(&self.image.video),
            start: self.start,
        }
    }
}
