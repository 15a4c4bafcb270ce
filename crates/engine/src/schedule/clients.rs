//! The clients, and which of them is served next.

use std::collections::BTreeSet;

use super::types::{ClientId, ClientKind, Held, OrderId, Purpose, TicketId};
use super::{Order, Pass, Schedule, Stage};
use crate::ticket::Priority;

/// A client with at most so many images due is somebody who looks and waits.
pub(super) const INTERACTIVE: usize = 16;

/// How much more decoding time, in nanoseconds, an interactive client may have spent than a bulk
/// one and still come first. Nobody who waited for bytes is further behind than that, either.
pub(super) const BULK_PATIENCE: u64 = 500_000_000;

/// What a pass or a read that has begun counts until what it took is known, in nanoseconds: so
/// one client does not get all workers because none of them has finished.
const BEGUN: u64 = 50_000_000;

/// Where something that a client waits for stands among all that it waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    pub(super) rank: i64,
    pub(super) purpose: Purpose,
    pub(super) position: usize,
    pub(super) ticket: TicketId,
    pub(super) order: OrderId,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) kind: ClientKind,
    /// Decoding time, in nanoseconds, on a scale on which those who were idle have saved nothing.
    pub(super) spent: u64,
    /// Passes and reads that were begun for it.
    pub(super) begun: usize,
    /// Nothing is made for it at the moment: it does not take what is ready.
    pub(super) blocked: bool,
    /// Images it waits for.
    pub(super) due: usize,
    pub(super) runnable: BTreeSet<Place>,
    pub(super) lacking: BTreeSet<Place>,
    /// Those of which something is due.
    pub(super) tickets: BTreeSet<TicketId>,
    /// The rank of its newest ticket.
    front: i64,
    /// The rank of its last ticket in order of arrival.
    back: i64,
}

/// How urgent a client is: the smaller, the more. Harvest is last; then counts what was spent.
pub(super) type Urgency = (bool, u64, ClientId);

impl Client {
    pub(super) fn is_harvest(&self) -> bool {
        self.kind == ClientKind::Harvest
    }

    /// Waits for so much that it does not wait for any one image.
    pub(super) fn is_bulk(&self) -> bool {
        self.due > INTERACTIVE
    }

    /// A place that no newer ticket of this client can have: it is the last thing it asked for.
    pub(super) fn is_newest(&self, place: &Place) -> bool {
        place.rank < 0 && place.rank == self.front
    }

    /// Puts a place where it belongs in a stage. Who had nothing to be decoded may have waited
    /// for bytes, and has saved a little by that, but not more: see [`BULK_PATIENCE`].
    pub(super) fn put(&mut self, place: Place, stage: Stage, clock: u64) {
        self.lacking.remove(&place);
        self.runnable.remove(&place);
        match stage {
            Stage::Lacking => {
                self.lacking.insert(place);
            }
            Stage::Runnable => {
                if self.runnable.is_empty() {
                    self.spent = self.spent.max(clock.saturating_sub(BULK_PATIENCE));
                }
                self.runnable.insert(place);
            }
            Stage::Gathering | Stage::Claimed(_) => {}
        }
    }

    pub(super) fn end_begun(&mut self) {
        self.begun = self.begun.saturating_sub(1);
    }

    /// `owed` was spent and is not paid yet; `begun` passes and reads count as something.
    fn urgency(&self, id: ClientId, owed: u64, begun: usize) -> Urgency {
        let patience = if self.is_bulk() { BULK_PATIENCE } else { 0 };
        let spent = [patience, owed, BEGUN.saturating_mul(begun as u64)];
        let spent = spent.into_iter().fold(self.spent, u64::saturating_add);
        (self.is_harvest(), spent, id)
    }
}

impl<V: Clone, R: Clone + Held, S: Clone> Schedule<V, R, S> {
    pub(crate) fn add_client(&mut self, kind: ClientKind) -> ClientId {
        let id = ClientId(self.id());
        let client = Client {
            kind,
            spent: self.clock,
            begun: 0,
            blocked: false,
            due: 0,
            runnable: BTreeSet::new(),
            lacking: BTreeSet::new(),
            tickets: BTreeSet::new(),
            front: 0,
            back: 0,
        };
        self.clients.insert(id, client);
        id
    }

    /// Forgets a client and all that it waits for.
    pub(crate) fn remove_client(&mut self, id: ClientId) {
        let tickets = self.clients.get(&id).map(|c| c.tickets.clone());
        for ticket in tickets.unwrap_or_default() {
            self.cancel(ticket, None);
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
            let waiting = client.runnable.iter().chain(&client.lacking);
            let orders: BTreeSet<OrderId> = waiting.map(|p| p.order).collect();
            let keys: BTreeSet<_> = (orders.iter())
                .filter_map(|o| self.orders.get(o).map(Order::gop))
                .collect();
            for key in keys {
                self.let_go_of_bytes(&key);
            }
        } else {
            // Who did not want anything has saved nothing.
            client.spent = client.spent.max(self.clock);
        }
        self.stir();
    }

    /// How urgent a client would be if a pass ended now.
    pub(super) fn urgency_after(&self, id: ClientId, pass: &Pass) -> Option<Urgency> {
        let client = self.clients.get(&id)?;
        let begun_here = usize::from(pass.begun_for.contains(&id));
        let begun = client.begun.saturating_sub(begun_here);
        let owed = if pass.answered { pass.share(id) } else { 0 };
        Some(client.urgency(id, owed, begun))
    }

    /// Who has something to be decoded, and is the most urgent. Harvest is none while a request
    /// has the cores for itself.
    pub(super) fn most_urgent(&self) -> Option<(ClientId, Place)> {
        let (_, _, id) = self
            .ready()
            .map(|(id, c)| c.urgency(id, 0, c.begun))
            .min()?;
        Some((id, self.clients.get(&id)?.runnable.first().copied()?))
    }

    /// Who would be the most urgent if a pass ended now, by what it waits for already.
    pub(super) fn most_urgent_after(&self, pass: &Pass) -> Option<Urgency> {
        let ready = self.ready();
        ready
            .filter_map(|(id, _)| self.urgency_after(id, pass))
            .min()
    }

    /// Whether bytes are being read for which somebody waits who looks.
    pub(crate) fn is_person_waiting_for_bytes(&self) -> bool {
        (self.clients.values())
            .any(|c| !(c.is_harvest() || c.is_bulk() || c.blocked || c.lacking.is_empty()))
    }

    fn ready(&self) -> impl Iterator<Item = (ClientId, &Client)> {
        let no_harvest = self.somebody_is_alone(None);
        let clients = self.clients.iter().map(|(&id, c)| (id, c));
        clients.filter(move |(_, c)| {
            !(c.blocked || c.runnable.is_empty() || (no_harvest && c.is_harvest()))
        })
    }

    /// Those who lack bytes, the most urgent first.
    pub(super) fn lacking_by_urgency(&self) -> Vec<ClientId> {
        let mut open: Vec<Urgency> = (self.clients.iter())
            .filter(|(_, c)| !c.blocked && !c.lacking.is_empty())
            .map(|(&id, c)| c.urgency(id, 0, c.begun))
            .collect();
        open.sort_unstable();
        open.into_iter().map(|(_, _, id)| id).collect()
    }
}
