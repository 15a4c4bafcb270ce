//! Who is served next, and with what.
//!
//! A state machine without threads, clocks and I/O: it is told what is wanted, fetched, decoded
//! and spent, and says what to fetch and what to decode next.
//!
//! An *order* is one wanted image; whoever wants the same image waits for the same order. Orders
//! belong to *GOPs*, runs of samples that begin at one sync sample; a *pass* is a worker's visit
//! to a GOP and has claimed some of its orders.
//!
//! Which order is next: first the client, then the order among its own.
//! - Clients with few images due (*interactive*) come before those with many (*bulk*), as long as
//!   they have not spent [`clients::BULK_PATIENCE`] more than these; among equals, who has spent the least
//!   decoding time. What is made without being asked for (*harvest*) comes last, and rests while
//!   one request has all cores.
//! - A client's newest ticket comes first, unless it said that order of arrival counts; inside a
//!   ticket, previews, then the order of its positions.

mod clients;
mod fetching;
mod passes;
#[cfg(test)]
mod tests;
mod types;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use clients::{Client, INTERACTIVE, Place};
use fetching::Fetching;
use passes::Pass;
pub(crate) use types::{
    Claim, ClientId, ClientKind, Fetch, FetchLimits, GopKey, Held, ImageKey, OrderId, PassId,
    Picked, Purpose, Signal, TicketId, VideoKey, Waiter, Wish,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The bytes are not there.
    Lacking,
    /// The bytes are there, but not those of all that its ticket wants of the GOP. These are read
    /// first, so that one pass has everything: two would decode what both depend on twice.
    Gathering,
    Runnable,
    /// By a pass that runs, or has ended and left the picture to be encoded.
    Claimed(PassId),
}

#[derive(Debug)]
struct Order<S> {
    image: ImageKey,
    start: u32,
    stage: Stage,
    waiters: Vec<Waiter<S>>,
}

#[derive(Debug)]
struct Gop<V, R> {
    video: V,
    /// What was read: the samples from the start up to `end`, and maybe some behind.
    run: Option<R>,
    end: u32,
    bytes: u64,
    fetching: Option<Fetching>,
    orders: BTreeSet<OrderId>,
    /// Those of them that no pass has claimed.
    unclaimed: BTreeSet<OrderId>,
    /// Those of these that are [`Stage::Gathering`].
    gathering: BTreeSet<OrderId>,
    passes: BTreeSet<PassId>,
}

impl<V, R> Gop<V, R> {
    fn of(video: V) -> Self {
        Self {
            video,
            run: None,
            end: 0,
            bytes: 0,
            fetching: None,
            orders: BTreeSet::new(),
            unclaimed: BTreeSet::new(),
            gathering: BTreeSet::new(),
            passes: BTreeSet::new(),
        }
    }
}

/// See the [module](self). `V` is a video, `R` the bytes of a run, `S` where outcomes go.
#[derive(Debug)]
pub(crate) struct Schedule<V, R, S> {
    clients: BTreeMap<ClientId, Client>,
    orders: HashMap<OrderId, Order<S>>,
    by_image: HashMap<ImageKey, OrderId>,
    by_ticket: HashMap<TicketId, BTreeSet<(usize, Purpose, OrderId)>>,
    gops: HashMap<GopKey, Gop<V, R>>,
    /// Reads under way.
    fetching: usize,
    /// Compressed bytes that GOPs hold, and that are being read.
    held: u64,
    coming: u64,
    passes: HashMap<PassId, Pass>,
    /// What was spent by who was served last: those who come back begin here.
    clock: u64,
    /// Workers that wait for work.
    idle: usize,
    last_id: u64,
}

impl<V: Clone, R: Clone + Held, S: Clone> Schedule<V, R, S> {
    pub(crate) fn new() -> Self {
        Self {
            clients: BTreeMap::new(),
            orders: HashMap::new(),
            by_image: HashMap::new(),
            by_ticket: HashMap::new(),
            gops: HashMap::new(),
            fetching: 0,
            held: 0,
            coming: 0,
            passes: HashMap::new(),
            clock: 0,
            idle: 0,
            last_id: 0,
        }
    }

    fn id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Wants an image. True if it joined an order that was there already.
    pub(crate) fn submit(&mut self, wish: Wish<V, S>, rank: i64) -> bool {
        let Some(client) = self.clients.get_mut(&wish.client) else {
            return false;
        };
        if client.due == 0 {
            client.spent = client.spent.max(self.clock);
        }
        let waiter = Waiter {
            client: wish.client,
            ticket: wish.ticket,
            position: wish.position,
            purpose: wish.purpose,
            sink: wish.sink,
            rank,
        };
        if let Some(&id) = self.by_image.get(&wish.image) {
            self.attach(id, waiter);
            self.announce(id);
            return true;
        }
        let id = OrderId(self.id());
        let order = Order {
            image: wish.image.clone(),
            start: wish.start,
            stage: Stage::Lacking,
            waiters: Vec::new(),
        };
        self.orders.insert(id, order);
        self.by_image.insert(wish.image, id);
        self.attach(id, waiter);
        self.settle_in_gop(id, wish.video);
        false
    }

    fn attach(&mut self, id: OrderId, waiter: Waiter<S>) {
        let Some(order) = self.orders.get_mut(&id) else {
            return;
        };
        let mut turned = false;
        if let Some(client) = self.clients.get_mut(&waiter.client) {
            client.due += 1;
            client.tickets.insert(waiter.ticket);
            client.put(place_of(&waiter, id), order.stage, self.clock);
            turned = client.due == INTERACTIVE + 1;
        }
        let entry = (waiter.position, waiter.purpose, id);
        self.by_ticket
            .entry(waiter.ticket)
            .or_default()
            .insert(entry);
        order.waiters.push(waiter);
        if order.stage == Stage::Gathering {
            // Somebody else wants it.
            self.restage(id, Stage::Runnable);
        }
        if turned {
            self.stir();
        }
    }

    /// All that a ticket wants for now was submitted: what of it could be decoded waits until
    /// everything of its GOP can, unless somebody else wants it, too. Previews wait for nothing.
    pub(crate) fn gather(&mut self, ticket: TicketId) {
        let orders: BTreeSet<OrderId> = (self.by_ticket.get(&ticket).into_iter().flatten())
            .filter(|(_, purpose, _)| *purpose == Purpose::Exact)
            .map(|(_, _, id)| *id)
            .collect();
        let lacking: HashSet<GopKey> = (orders.iter())
            .filter_map(|id| self.orders.get(id))
            .filter(|o| o.stage == Stage::Lacking)
            .map(Order::gop)
            .collect();
        for id in orders {
            let own = |w: &Waiter<S>| w.ticket == ticket && w.purpose == Purpose::Exact;
            let gathers = self.orders.get(&id).is_some_and(|o| {
                o.stage == Stage::Runnable
                    && o.waiters.iter().all(own)
                    && lacking.contains(&o.gop())
            });
            if gathers {
                self.restage(id, Stage::Gathering);
            }
        }
    }

    /// What gathers no more can be decoded: its ticket lacks nothing of the GOP.
    fn release_gathered(&mut self, key: &GopKey) {
        let Some(gop) = self.gops.get(key).filter(|g| !g.gathering.is_empty()) else {
            return;
        };
        let lacking: HashSet<TicketId> = (gop.unclaimed.iter())
            .filter_map(|id| self.orders.get(id))
            .filter(|o| o.stage == Stage::Lacking)
            .flat_map(|o| o.waiters.iter().map(|w| w.ticket))
            .collect();
        let complete = |id: &OrderId| {
            let order = self.orders.get(id);
            order.is_some_and(|o| !o.waiters.iter().any(|w| lacking.contains(&w.ticket)))
        };
        let complete: Vec<OrderId> = gop.gathering.iter().copied().filter(complete).collect();
        for id in complete {
            self.restage(id, Stage::Runnable);
            self.announce(id);
        }
    }

    fn restage(&mut self, id: OrderId, stage: Stage) {
        let Some(order) = self.orders.get_mut(&id) else {
            return;
        };
        for waiter in &order.waiters {
            if let Some(client) = self.clients.get_mut(&waiter.client) {
                client.put(place_of(waiter, id), stage, self.clock);
            }
        }
        order.stage = stage;
        if let Some(gop) = self.gops.get_mut(&order.gop()) {
            match stage {
                Stage::Claimed(_) => gop.unclaimed.remove(&id),
                Stage::Lacking | Stage::Gathering | Stage::Runnable => gop.unclaimed.insert(id),
            };
            match stage {
                Stage::Gathering => gop.gathering.insert(id),
                _ => gop.gathering.remove(&id),
            };
        }
    }

    /// Forgets what a ticket waits for, all or one position.
    pub(crate) fn cancel(&mut self, ticket: TicketId, position: Option<usize>) {
        let Some(entries) = self.by_ticket.get(&ticket) else {
            return;
        };
        let from = (position.unwrap_or(0), Purpose::Preview, OrderId(0));
        let chosen = |p: usize| position.is_none_or(|wanted| wanted == p);
        let orders: Vec<OrderId> = (entries.range(from..))
            .take_while(|(p, _, _)| chosen(*p))
            .map(|(_, _, id)| *id)
            .collect();
        for id in orders {
            self.drop_waiters(id, |w| w.ticket == ticket && chosen(w.position));
        }
    }

    /// A preview is not needed any more: the picture itself is there.
    pub(crate) fn cancel_preview(&mut self, ticket: TicketId, position: usize) {
        let Some(entries) = self.by_ticket.get(&ticket) else {
            return;
        };
        let previews = entries.range((position, Purpose::Preview, OrderId(0))..);
        let previews: Vec<OrderId> = previews
            .take_while(|(p, purpose, _)| *p == position && *purpose == Purpose::Preview)
            .map(|(_, _, id)| *id)
            .collect();
        for id in previews {
            self.drop_waiters(id, |w| {
                w.ticket == ticket && w.position == position && w.purpose == Purpose::Preview
            });
        }
    }

    fn drop_waiters(&mut self, id: OrderId, which: impl Fn(&Waiter<S>) -> bool) {
        let Some(order) = self.orders.get_mut(&id) else {
            return;
        };
        let (gone, left): (Vec<_>, Vec<_>) = order.waiters.drain(..).partition(which);
        let unwanted = left.is_empty();
        order.waiters = left;
        if gone.is_empty() {
            return;
        }
        let (stage, key) = (order.stage, order.gop());
        for waiter in &gone {
            self.release(waiter, id);
        }
        if unwanted {
            self.remove_order(id);
        } else if let Stage::Claimed(pass) = stage {
            self.stir_pass(pass);
        } else {
            self.release_gathered(&key);
            // Those who are left may not take what is ready.
            self.let_go_of_bytes(&key);
        }
    }

    fn release(&mut self, waiter: &Waiter<S>, id: OrderId) {
        let mut entries_left = false;
        if let Some(entries) = self.by_ticket.get_mut(&waiter.ticket) {
            entries.remove(&(waiter.position, waiter.purpose, id));
            entries_left = !entries.is_empty();
            if !entries_left {
                self.by_ticket.remove(&waiter.ticket);
            }
        }
        if let Some(client) = self.clients.get_mut(&waiter.client) {
            let place = place_of(waiter, id);
            client.lacking.remove(&place);
            client.runnable.remove(&place);
            client.due = client.due.saturating_sub(1);
            if !entries_left {
                client.tickets.remove(&waiter.ticket);
            }
            if client.due == INTERACTIVE {
                self.stir();
            }
        }
    }

    fn remove_order(&mut self, id: OrderId) {
        let Some(order) = self.orders.remove(&id) else {
            return;
        };
        let key = order.gop();
        self.by_image.remove(&order.image);
        if let Stage::Claimed(pass) = order.stage
            && let Some(pass) = self.passes.get_mut(&pass)
            && pass.claimed.remove(&id)
        {
            pass.dropped.push(id);
            pass.signal.set();
        }
        self.leave_gop(id, &key);
    }

    /// Whether somebody waits for it who takes what is ready.
    fn is_servable(&self, order: &Order<S>) -> bool {
        let open = |w: &Waiter<S>| self.clients.get(&w.client).is_some_and(|c| !c.blocked);
        order.waiters.iter().any(open)
    }

    /// Whether nothing is wanted by anybody.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }
}

fn place_of<S>(waiter: &Waiter<S>, order: OrderId) -> Place {
    Place {
        rank: waiter.rank,
        purpose: waiter.purpose,
        position: waiter.position,
        ticket: waiter.ticket,
        order,
    }
}
