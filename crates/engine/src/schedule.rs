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
//!   they have not spent [`BULK_PATIENCE`] more than these; among equals, who has spent the least
//!   decoding time. What is made without being asked for (*harvest*) comes last.
//! - A client's newest ticket comes first, unless it said that order of arrival counts; inside a
//!   ticket, the order of its positions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::ticket::{Output, Priority};

/// A client with at most so many images due is somebody who looks and waits.
pub(crate) const INTERACTIVE: usize = 16;

/// How much more decoding time, in nanoseconds, an interactive client may have spent than a bulk
/// one and still come first.
pub(crate) const BULK_PATIENCE: u64 = 500_000_000;

macro_rules! ids {
    ($($name:ident),*) => { $(
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub(crate) struct $name(u64);
    )* };
}
ids!(ClientId, TicketId, OrderId, PassId);

/// One version of one object, as text.
pub(crate) type VideoKey = Arc<str>;

/// A run of samples that begins at a sync sample.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct GopKey {
    pub(crate) video: VideoKey,
    /// First sample, in decode order.
    pub(crate) start: u32,
}

/// One image.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ImageKey {
    pub(crate) video: VideoKey,
    /// In decode order.
    pub(crate) sample: u32,
    pub(crate) output: Output,
}

/// What a client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ClientKind {
    Session,
    /// Asks for what nobody has asked for.
    Harvest,
}

/// What a waiter gets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Purpose {
    /// A picture near the wanted one, to look at meanwhile.
    Preview,
    /// The wanted picture.
    Exact,
}

/// Somebody who waits for an order.
#[derive(Clone, Debug)]
pub(crate) struct Waiter<S> {
    pub(crate) client: ClientId,
    pub(crate) ticket: TicketId,
    pub(crate) position: usize,
    pub(crate) purpose: Purpose,
    /// Where its outcome goes.
    pub(crate) sink: S,
    rank: i64,
}

/// Something that is wanted.
#[derive(Debug)]
pub(crate) struct Wish<V, S> {
    pub(crate) client: ClientId,
    pub(crate) ticket: TicketId,
    pub(crate) position: usize,
    pub(crate) purpose: Purpose,
    pub(crate) image: ImageKey,
    /// The sync sample to start from.
    pub(crate) start: u32,
    pub(crate) video: V,
    pub(crate) sink: S,
}

/// Told to a running pass: something has changed, [`Schedule::look`] says what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signal(Arc<AtomicBool>);

impl Signal {
    /// Whether to look; only once for each change.
    pub(crate) fn take(&self) -> bool {
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::AcqRel)
    }

    fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// An order on which a pass works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Claim {
    pub(crate) order: OrderId,
    pub(crate) sample: u32,
    pub(crate) output: Output,
}

/// A pass to be made.
#[derive(Debug)]
pub(crate) struct Picked<V, R> {
    pub(crate) pass: PassId,
    pub(crate) gop: GopKey,
    pub(crate) video: V,
    pub(crate) run: R,
    /// The most urgent first.
    pub(crate) claims: Vec<Claim>,
    /// Nothing else wants the cores.
    pub(crate) alone: bool,
    pub(crate) signal: Signal,
}

/// What a running pass is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Orders whose pictures lie on the way; claimed for this pass now.
    pub(crate) joined: Vec<Claim>,
    /// Orders of this pass that nobody wants any more.
    pub(crate) dropped: Vec<OrderId>,
    /// The pass is to end: something is more urgent, or nothing is wanted of it.
    pub(crate) stop: bool,
}

/// Bytes to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetch<V> {
    pub(crate) gop: GopKey,
    pub(crate) video: V,
    /// Samples, in decode order: from, and behind the last.
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// For nobody's request.
    pub(crate) harvest: bool,
}

/// Bounds of what is fetched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FetchLimits {
    /// Reads at once.
    pub(crate) concurrent: usize,
    /// Compressed bytes that GOPs hold.
    pub(crate) bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place {
    rank: i64,
    purpose: Purpose,
    position: usize,
    ticket: TicketId,
    order: OrderId,
}

#[derive(Debug)]
struct Client {
    kind: ClientKind,
    /// Decoding time, in nanoseconds, on a scale on which those who were idle have saved nothing.
    spent: u64,
    /// Nothing is made for it at the moment: it does not take what is ready.
    blocked: bool,
    /// Images it waits for.
    due: usize,
    runnable: BTreeSet<Place>,
    lacking: BTreeSet<Place>,
    front: i64,
    back: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The bytes are not there.
    Lacking,
    Runnable,
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
    /// What was read: the samples from the start up to `end`.
    run: Option<R>,
    end: u32,
    bytes: u64,
    /// Up to where is being read.
    fetching: Option<u32>,
    orders: BTreeSet<OrderId>,
    passes: BTreeSet<PassId>,
}

#[derive(Debug)]
struct Pass {
    gop: GopKey,
    claimed: BTreeSet<OrderId>,
    dropped: Vec<OrderId>,
    signal: Signal,
}

/// How urgent a client is: the smaller, the more.
type Urgency = (bool, u64, ClientId);

/// See the [module](self). `V` is a video, `R` the bytes of a run, `S` where outcomes go.
#[derive(Debug)]
pub(crate) struct Schedule<V, R, S> {
    clients: BTreeMap<ClientId, Client>,
    orders: HashMap<OrderId, Order<S>>,
    by_image: HashMap<ImageKey, OrderId>,
    by_ticket: HashMap<TicketId, BTreeSet<(usize, Purpose, OrderId)>>,
    gops: HashMap<GopKey, Gop<V, R>>,
    passes: HashMap<PassId, Pass>,
    /// What was spent by who was served last: those who come back begin here.
    clock: u64,
    /// Workers that wait for work.
    idle: usize,
    last_id: u64,
}

impl<V: Clone, R: Clone, S: Clone> Schedule<V, R, S> {
    pub(crate) fn new() -> Self {
        Self {
            clients: BTreeMap::new(),
            orders: HashMap::new(),
            by_image: HashMap::new(),
            by_ticket: HashMap::new(),
            gops: HashMap::new(),
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

    pub(crate) fn add_client(&mut self, kind: ClientKind) -> ClientId {
        let id = ClientId(self.id());
        let client = Client {
            kind,
            spent: self.clock,
            blocked: false,
            due: 0,
            runnable: BTreeSet::new(),
            lacking: BTreeSet::new(),
            front: 0,
            back: 0,
        };
        self.clients.insert(id, client);
        id
    }

    /// Forgets a client and all that it waits for.
    pub(crate) fn remove_client(&mut self, id: ClientId) {
        let waits = |o: &Order<S>| o.waiters.iter().any(|w| w.client == id);
        let theirs: Vec<OrderId> = (self.orders.iter())
            .filter(|(_, o)| waits(o))
            .map(|(&id, _)| id)
            .collect();
        for order in theirs {
            self.drop_waiters(order, |w| w.client == id);
        }
        self.clients.remove(&id);
    }

    /// A ticket of a client, and its place among the client's tickets.
    pub(crate) fn add_ticket(&mut self, client: ClientId, priority: Priority) -> (TicketId, i64) {
        let rank = match self.clients.get_mut(&client) {
            None => 0,
            Some(c) => match priority {
                Priority::Newest => {
                    c.front -= 1;
                    c.front
                }
                Priority::Fifo => {
                    c.back += 1;
                    c.back
                }
            },
        };
        (TicketId(self.id()), rank)
    }

    /// Images that a client waits for.
    pub(crate) fn due(&self, client: ClientId) -> usize {
        self.clients.get(&client).map_or(0, |c| c.due)
    }

    /// Images that sessions wait for.
    pub(crate) fn due_to_sessions(&self) -> usize {
        let sessions = self.clients.values();
        sessions
            .filter(|c| c.kind == ClientKind::Session)
            .map(|c| c.due)
            .sum()
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

    /// Puts an order into the GOP where it starts.
    fn settle_in_gop(&mut self, id: OrderId, video: V) {
        let Some(order) = self.orders.get(&id) else {
            return;
        };
        let key = GopKey {
            video: Arc::clone(&order.image.video),
            start: order.start,
        };
        let sample = order.image.sample;
        let gop = self.gops.entry(key).or_insert_with(|| Gop {
            video,
            run: None,
            end: 0,
            bytes: 0,
            fetching: None,
            orders: BTreeSet::new(),
            passes: BTreeSet::new(),
        });
        gop.orders.insert(id);
        let stage = if gop.run.is_some() && sample < gop.end {
            Stage::Runnable
        } else {
            Stage::Lacking
        };
        self.restage(id, stage);
        self.announce(id);
    }

    fn attach(&mut self, id: OrderId, waiter: Waiter<S>) {
        let Some(order) = self.orders.get_mut(&id) else {
            return;
        };
        if let Some(client) = self.clients.get_mut(&waiter.client) {
            client.due += 1;
            let place = place_of(&waiter, id);
            match order.stage {
                Stage::Lacking => {
                    client.lacking.insert(place);
                }
                Stage::Runnable => {
                    client.runnable.insert(place);
                }
                Stage::Claimed(_) => {}
            }
        }
        let entry = (waiter.position, waiter.purpose, id);
        self.by_ticket
            .entry(waiter.ticket)
            .or_default()
            .insert(entry);
        order.waiters.push(waiter);
    }

    fn restage(&mut self, id: OrderId, stage: Stage) {
        let Some(order) = self.orders.get_mut(&id) else {
            return;
        };
        for waiter in &order.waiters {
            if let Some(client) = self.clients.get_mut(&waiter.client) {
                let place = place_of(waiter, id);
                client.lacking.remove(&place);
                client.runnable.remove(&place);
                match stage {
                    Stage::Lacking => {
                        client.lacking.insert(place);
                    }
                    Stage::Runnable => {
                        client.runnable.insert(place);
                    }
                    Stage::Claimed(_) => {}
                }
            }
        }
        order.stage = stage;
    }

    /// Tells running passes that an order is new or more urgent.
    fn announce(&self, id: OrderId) {
        let Some(order) = self.orders.get(&id) else {
            return;
        };
        if order.stage != Stage::Runnable {
            return;
        }
        for pass in self.passes.values() {
            pass.signal.set();
        }
    }

    /// Forgets what a ticket waits for, all or one position.
    pub(crate) fn cancel(&mut self, ticket: TicketId, position: Option<usize>) {
        let Some(entries) = self.by_ticket.get(&ticket) else {
            return;
        };
        let chosen = |p: usize| position.is_none_or(|wanted| wanted == p);
        let orders: Vec<OrderId> = (entries.iter())
            .filter(|(p, _, _)| chosen(*p))
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
        for waiter in &gone {
            self.release(waiter, id);
        }
        if unwanted {
            self.remove_order(id);
        }
    }

    fn release(&mut self, waiter: &Waiter<S>, id: OrderId) {
        if let Some(client) = self.clients.get_mut(&waiter.client) {
            let place = place_of(waiter, id);
            client.lacking.remove(&place);
            client.runnable.remove(&place);
            client.due = client.due.saturating_sub(1);
        }
        if let Some(entries) = self.by_ticket.get_mut(&waiter.ticket) {
            entries.remove(&(waiter.position, waiter.purpose, id));
            if entries.is_empty() {
                self.by_ticket.remove(&waiter.ticket);
            }
        }
    }

    fn remove_order(&mut self, id: OrderId) -> Option<Order<S>> {
        let order = self.orders.remove(&id)?;
        self.by_image.remove(&order.image);
        if let Stage::Claimed(pass) = order.stage
            && let Some(pass) = self.passes.get_mut(&pass)
            && pass.claimed.remove(&id)
        {
            pass.dropped.push(id);
            pass.signal.set();
        }
        self.leave_gop(id, &order);
        Some(order)
    }

    fn leave_gop(&mut self, id: OrderId, order: &Order<S>) {
        let key = GopKey {
            video: Arc::clone(&order.image.video),
            start: order.start,
        };
        if let Some(gop) = self.gops.get_mut(&key) {
            gop.orders.remove(&id);
        }
        self.tidy_gop(&key);
    }

    /// Lets go of a GOP of which nothing is wanted.
    fn tidy_gop(&mut self, key: &GopKey) {
        if let Some(gop) = self.gops.get(key)
            && gop.orders.is_empty()
            && gop.passes.is_empty()
            && gop.fetching.is_none()
        {
            self.gops.remove(key);
        }
    }

    /// Stops or resumes work for a client that does not take what is ready. What only such
    /// clients wait for does not hold bytes.
    pub(crate) fn set_blocked(&mut self, id: ClientId, blocked: bool) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if client.blocked == blocked {
            return;
        }
        client.blocked = blocked;
        if blocked {
            let runnable: BTreeSet<OrderId> = client.runnable.iter().map(|p| p.order).collect();
            let keys: BTreeSet<GopKey> = (runnable.iter())
                .filter_map(|o| self.orders.get(o))
                .map(|o| GopKey {
                    video: Arc::clone(&o.image.video),
                    start: o.start,
                })
                .collect();
            for key in keys {
                self.let_go_of_bytes(&key);
            }
        }
        for pass in self.passes.values() {
            pass.signal.set();
        }
    }

    /// Drops the bytes of a GOP for which nobody can be served at the moment.
    fn let_go_of_bytes(&mut self, key: &GopKey) {
        let Some(gop) = self.gops.get(key) else {
            return;
        };
        let wanted = |id: &OrderId| self.orders.get(id).is_some_and(|o| self.is_servable(o));
        if !gop.passes.is_empty() || gop.orders.iter().any(wanted) {
            return;
        }
        let orders: Vec<OrderId> = gop.orders.iter().copied().collect();
        for id in orders {
            self.restage(id, Stage::Lacking);
        }
        if let Some(gop) = self.gops.get_mut(key) {
            gop.run = None;
            gop.end = 0;
            gop.bytes = 0;
        }
    }

    /// Whether somebody waits for it who takes what is ready.
    fn is_servable(&self, order: &Order<S>) -> bool {
        let open = |w: &Waiter<S>| self.clients.get(&w.client).is_some_and(|c| !c.blocked);
        order.waiters.iter().any(open)
    }

    fn urgency(&self, id: ClientId, client: &Client) -> Urgency {
        let bulk = client.due > INTERACTIVE;
        let spent = client.spent + if bulk { BULK_PATIENCE } else { 0 };
        (client.kind == ClientKind::Harvest, spent, id)
    }

    /// The clients for whom something can be done, the most urgent first.
    fn by_urgency(&self, has: impl Fn(&Client) -> bool) -> Vec<ClientId> {
        let mut open: Vec<Urgency> = (self.clients.iter())
            .filter(|(_, c)| !c.blocked && has(c))
            .map(|(&id, c)| self.urgency(id, c))
            .collect();
        open.sort_unstable();
        open.into_iter().map(|(_, _, id)| id).collect()
    }

    /// What to read next, if anything may be read now.
    pub(crate) fn next_fetch(&mut self, limits: FetchLimits) -> Option<Fetch<V>> {
        let fetching = self.gops.values().filter(|g| g.fetching.is_some()).count();
        if fetching >= limits.concurrent {
            return None;
        }
        let held: u64 = self.gops.values().map(|g| g.bytes).sum();
        // What is held is let go of when it has been decoded; only where nothing can be decoded
        // more is taken than the limit.
        let waits = fetching > 0
            || !self.passes.is_empty()
            || (self.clients.values()).any(|c| !c.blocked && !c.runnable.is_empty());
        if held >= limits.bytes && waits {
            return None;
        }
        for id in self.by_urgency(|c| !c.lacking.is_empty()) {
            let Some(client) = self.clients.get(&id) else {
                continue;
            };
            let harvest = client.kind == ClientKind::Harvest;
            if harvest && (fetching > 0 || held >= limits.bytes / 2) {
                continue;
            }
            for place in &client.lacking {
                let Some(order) = self.orders.get(&place.order) else {
                    continue;
                };
                let key = GopKey {
                    video: Arc::clone(&order.image.video),
                    start: order.start,
                };
                let Some(gop) = self.gops.get(&key) else {
                    continue;
                };
                if gop.fetching.is_some() {
                    continue;
                }
                // All that the ticket wants of it.
                let mates = (gop.orders.iter())
                    .filter_map(|o| self.orders.get(o))
                    .filter(|o| o.waiters.iter().any(|w| w.ticket == place.ticket))
                    .map(|o| o.image.sample);
                let last = mates.max().unwrap_or(order.image.sample);
                let from = if gop.run.is_some() {
                    gop.end
                } else {
                    key.start
                };
                let to = last.saturating_add(1);
                let video = gop.video.clone();
                if let Some(gop) = self.gops.get_mut(&key) {
                    gop.fetching = Some(to);
                }
                return Some(Fetch {
                    gop: key,
                    video,
                    from,
                    to,
                    harvest,
                });
            }
        }
        None
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

    /// The samples of a GOP up to `end` are there.
    pub(crate) fn fetched(&mut self, key: &GopKey, run: R, end: u32, bytes: u64) {
        let Some(gop) = self.gops.get_mut(key) else {
            return;
        };
        gop.fetching = None;
        if gop.run.is_none() || end > gop.end {
            gop.run = Some(run);
            gop.end = end;
            gop.bytes = bytes;
        }
        let end = gop.end;
        let orders: Vec<OrderId> = gop.orders.iter().copied().collect();
        for id in orders {
            if let Some(order) = self.orders.get(&id)
                && order.stage == Stage::Lacking
                && order.image.sample < end
            {
                self.restage(id, Stage::Runnable);
                self.announce(id);
            }
        }
        self.let_go_of_bytes(key);
        self.tidy_gop(key);
    }

    /// Samples of a GOP could not be read: takes out the orders that wanted them.
    pub(crate) fn fetch_failed(&mut self, key: &GopKey) -> Vec<Waiter<S>> {
        let Some(gop) = self.gops.get_mut(key) else {
            return Vec::new();
        };
        let to = gop.fetching.take().unwrap_or(0);
        let orders: Vec<OrderId> = gop.orders.iter().copied().collect();
        let mut waiters = Vec::new();
        for id in orders {
            if let Some(order) = self.orders.get(&id)
                && order.stage == Stage::Lacking
                && order.image.sample < to
            {
                waiters.extend(self.complete(id));
            }
        }
        self.tidy_gop(key);
        waiters
    }

    /// Work for a worker, if there is some.
    pub(crate) fn pick(&mut self) -> Option<Picked<V, R>> {
        let (client, place) = self.most_urgent()?;
        let order = self.orders.get(&place.order)?;
        let key = GopKey {
            video: Arc::clone(&order.image.video),
            start: order.start,
        };
        let gop = self.gops.get(&key)?;
        let (video, run) = (gop.video.clone(), gop.run.clone()?);
        let state = self.clients.get(&client)?;
        let harvest = state.kind == ClientKind::Harvest;
        if !harvest {
            self.clock = self.clock.max(state.spent);
        }
        // What is decoded together: the ticket's own; for who waits for much anyway, everything.
        let together = harvest || state.due > INTERACTIVE;
        let mut chosen = vec![place.order];
        chosen.extend(gop.orders.iter().copied().filter(|&id| {
            let Some(o) = self.orders.get(&id) else {
                return false;
            };
            let mate = o.waiters.iter().any(|w| w.ticket == place.ticket);
            id != place.order
                && o.stage == Stage::Runnable
                && (together || mate)
                && self.is_servable(o)
        }));
        let pass = PassId(self.id());
        let signal = Signal::default();
        self.passes.insert(
            pass,
            Pass {
                gop: key.clone(),
                claimed: BTreeSet::new(),
                dropped: Vec::new(),
                signal: signal.clone(),
            },
        );
        if let Some(gop) = self.gops.get_mut(&key) {
            gop.passes.insert(pass);
        }
        let claims: Vec<Claim> = (chosen.into_iter())
            .filter_map(|id| self.claim(pass, id))
            .collect();
        let open = |c: &Client| !c.blocked && !(c.runnable.is_empty() && c.lacking.is_empty());
        let alone = self.passes.len() == 1 && !self.clients.values().any(open);
        Some(Picked {
            pass,
            gop: key,
            video,
            run,
            claims,
            alone,
            signal,
        })
    }

    fn most_urgent(&self) -> Option<(ClientId, Place)> {
        let clients = self.clients.iter();
        let open = clients.filter(|(_, c)| !c.blocked && !c.runnable.is_empty());
        let (_, _, id) = open.map(|(&id, c)| self.urgency(id, c)).min()?;
        Some((id, self.clients.get(&id)?.runnable.first().copied()?))
    }

    fn claim(&mut self, pass: PassId, id: OrderId) -> Option<Claim> {
        let order = self.orders.get(&id)?;
        let claim = Claim {
            order: id,
            sample: order.image.sample,
            output: order.image.output,
        };
        self.restage(id, Stage::Claimed(pass));
        self.passes.get_mut(&pass)?.claimed.insert(id);
        Some(claim)
    }

    /// What has changed for a running pass. `ahead` are the samples that it will still decode,
    /// ascending.
    pub(crate) fn look(&mut self, pass: PassId, ahead: &[u32]) -> Look {
        let joined = self.join(pass, ahead);
        let dropped = match self.passes.get_mut(&pass) {
            Some(p) => std::mem::take(&mut p.dropped),
            None => Vec::new(),
        };
        Look {
            joined,
            dropped,
            stop: self.should_stop(pass),
        }
    }

    /// Claims the orders of a pass's GOP whose pictures lie ahead on its way.
    pub(crate) fn join(&mut self, pass: PassId, ahead: &[u32]) -> Vec<Claim> {
        let Some(gop) = self.passes.get(&pass).and_then(|p| self.gops.get(&p.gop)) else {
            return Vec::new();
        };
        let on_the_way: Vec<OrderId> = (gop.orders.iter())
            .filter_map(|id| Some((*id, self.orders.get(id)?)))
            .filter(|(_, o)| o.stage == Stage::Runnable && self.is_servable(o))
            .filter(|(_, o)| ahead.binary_search(&o.image.sample).is_ok())
            .map(|(id, _)| id)
            .collect();
        (on_the_way.into_iter())
            .filter_map(|id| self.claim(pass, id))
            .collect()
    }

    fn should_stop(&self, id: PassId) -> bool {
        let Some(pass) = self.passes.get(&id) else {
            return true;
        };
        let claimed = pass.claimed.iter().filter_map(|o| self.orders.get(o));
        let mut waiters = claimed
            .flat_map(|o| &o.waiters)
            .filter(|w| self.clients.get(&w.client).is_some_and(|c| !c.blocked))
            .peekable();
        if waiters.peek().is_none() {
            return true;
        }
        if self.idle > 0 {
            return false;
        }
        let Some((client, place)) = self.most_urgent() else {
            return false;
        };
        let kind = |c: ClientId| self.clients.get(&c).map(|c| (c.kind, c.due > INTERACTIVE));
        // (harvest, bulk)
        let Some((new_kind, new_bulk)) = kind(client) else {
            return false;
        };
        let new_harvest = new_kind == ClientKind::Harvest;
        let (mut harvest, mut bulk, mut only_older) = (true, true, true);
        for waiter in waiters {
            if let Some((kind, is_bulk)) = kind(waiter.client) {
                harvest &= kind == ClientKind::Harvest;
                bulk &= is_bulk || kind == ClientKind::Harvest;
            }
            only_older &= waiter.client == client && waiter.rank > place.rank;
        }
        if harvest {
            return !new_harvest;
        }
        !new_harvest && ((bulk && !new_bulk) || only_older)
    }

    /// A pass does not reach these: they wait again.
    pub(crate) fn unclaim(&mut self, pass: PassId, order: OrderId) {
        if let Some(p) = self.passes.get_mut(&pass)
            && p.claimed.remove(&order)
        {
            self.restage(order, Stage::Runnable);
        }
    }

    /// An order has to start from an earlier sync sample.
    pub(crate) fn move_to(&mut self, id: OrderId, start: u32) {
        let Some(order) = self.orders.get(&id) else {
            return;
        };
        let key = GopKey {
            video: Arc::clone(&order.image.video),
            start: order.start,
        };
        let Some(video) = self.gops.get(&key).map(|g| g.video.clone()) else {
            return;
        };
        if let Stage::Claimed(pass) = order.stage
            && let Some(pass) = self.passes.get_mut(&pass)
        {
            pass.claimed.remove(&id);
        }
        if let Some(gop) = self.gops.get_mut(&key) {
            gop.orders.remove(&id);
        }
        self.tidy_gop(&key);
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
        let waiters = std::mem::take(&mut order.waiters);
        for waiter in &waiters {
            self.release(waiter, id);
        }
        if let Some(order) = self.orders.get(&id)
            && let Stage::Claimed(pass) = order.stage
            && let Some(pass) = self.passes.get_mut(&pass)
        {
            pass.claimed.remove(&id);
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

    /// A pass has ended. What it had claimed and not answered waits again, but for `kept`: their
    /// pictures are being encoded.
    pub(crate) fn end_pass(&mut self, id: PassId, kept: &BTreeSet<OrderId>) {
        let Some(pass) = self.passes.remove(&id) else {
            return;
        };
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
    }

    /// Decoding time was spent for these clients: each pays its share.
    pub(crate) fn charge(&mut self, clients: &BTreeSet<ClientId>, nanos: u64) {
        let share = nanos / (clients.len() as u64).max(1);
        for id in clients {
            if let Some(client) = self.clients.get_mut(id) {
                client.spent = client.spent.saturating_add(share);
            }
        }
    }

    /// A worker begins or ends waiting for work.
    pub(crate) fn set_idle(&mut self, idle: bool) {
        self.idle = if idle {
            self.idle + 1
        } else {
            self.idle.saturating_sub(1)
        };
    }

    /// Workers that wait for work.
    pub(crate) fn idle(&self) -> usize {
        self.idle
    }

    /// Whether nothing is wanted by anybody.
    pub(crate) fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }

    /// Compressed bytes that GOPs hold.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.gops.values().map(|g| g.bytes).sum()
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
