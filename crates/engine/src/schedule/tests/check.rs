//! What must be true of the schedule, whatever has happened to it. Everything is counted anew
//! here, from what was asked for and from what is under way.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::world::{Asked, AtWork, Bytes, Fate, Worker, World, size_between};
use crate::schedule::clients::{BULK_PATIENCE, Client, INTERACTIVE};
use crate::schedule::{Claim, ClientId, Fetch, Order, OrderId, Picked, Stage};

fn is_open(world: &World, client: ClientId) -> bool {
    let client = world.schedule.clients.get(&client);
    client.is_some_and(|c| !c.blocked)
}

pub(super) fn is_servable(world: &World, order: OrderId) -> bool {
    let waiters = world.schedule.waiters(order).iter();
    waiters.map(|w| w.client).any(|c| is_open(world, c))
}

/// All of it.
pub(super) fn all(world: &World) {
    wishes(world);
    stages(world);
    bytes(world);
    begun(world);
    told_to_stop(world);
}

/// Every wish that waits is in one order, for its image, and nothing else is.
fn wishes(world: &World) {
    let schedule = &world.schedule;
    let mut due: BTreeMap<ClientId, usize> = BTreeMap::new();
    let mut images = HashSet::new();
    let mut found = BTreeSet::new();
    for (id, order) in &schedule.orders {
        assert!(!order.waiters.is_empty(), "an order that nobody wants");
        assert_eq!(schedule.by_image.get(&order.image), Some(id));
        assert!(images.insert(&order.image));
        for waiter in &order.waiters {
            let asked = &world.asked[waiter.sink];
            assert_eq!(asked.fate, Fate::Waits, "{asked:?}");
            assert_eq!(asked.image, order.image);
            assert!(found.insert(waiter.sink), "twice: {asked:?}");
            let entry = (waiter.position, waiter.purpose, *id);
            assert!(schedule.by_ticket[&waiter.ticket].contains(&entry));
            assert!(
                schedule.clients[&waiter.client]
                    .tickets
                    .contains(&waiter.ticket)
            );
            *due.entry(waiter.client).or_default() += 1;
        }
    }
    assert_eq!(schedule.by_image.len(), schedule.orders.len());
    assert_eq!(found.len(), world.waits().count(), "a wish is lost");
    for (id, client) in &schedule.clients {
        assert_eq!(client.due, due.get(id).copied().unwrap_or(0));
        assert_eq!(schedule.due(*id), client.due);
    }
    let tickets: BTreeSet<_> = world.waits().map(|a| a.ticket).collect();
    assert_eq!(schedule.by_ticket.len(), tickets.len());
    let known: usize = schedule.clients.values().map(|c| c.tickets.len()).sum();
    assert_eq!(known, tickets.len());
}

/// Orders are where their stage says.
fn stages(world: &World) {
    let schedule = &world.schedule;
    let (mut lacking, mut runnable) = (0, 0);
    for (id, order) in &schedule.orders {
        let gop = &schedule.gops[&order.gop()];
        assert!(gop.orders.contains(id));
        let claimed = matches!(order.stage, Stage::Claimed(_));
        assert_eq!(gop.unclaimed.contains(id), !claimed);
        let gathering = order.stage == Stage::Gathering;
        assert_eq!(gop.gathering.contains(id), gathering);
        let there = gop.run.is_some() && order.image.sample < gop.end;
        match order.stage {
            Stage::Lacking => assert!(!there, "its bytes are there"),
            Stage::Runnable => assert!(there, "its bytes are not there"),
            Stage::Gathering => {
                assert!(there, "its bytes are not there");
                let ticket = order.waiters[0].ticket;
                assert!(order.waiters.iter().all(|w| w.ticket == ticket));
                let lacks = |o: &OrderId| {
                    let other = &schedule.orders[o];
                    other.stage == Stage::Lacking
                        && other.waiters.iter().any(|w| w.ticket == ticket)
                };
                assert!(gop.orders.iter().any(lacks), "it waits for nothing");
            }
            Stage::Claimed(pass) => match schedule.passes.get(&pass) {
                Some(pass) => assert!(pass.claimed.contains(id)),
                None => {
                    let encoded = world.encoding.iter().any(|(order, _)| order == id);
                    assert!(encoded, "claimed by nobody");
                }
            },
        }
        for waiter in &order.waiters {
            let client = &schedule.clients[&waiter.client];
            let place = super::super::place_of(waiter, *id);
            let stage = order.stage;
            assert_eq!(client.lacking.contains(&place), stage == Stage::Lacking);
            assert_eq!(client.runnable.contains(&place), stage == Stage::Runnable);
            lacking += usize::from(stage == Stage::Lacking);
            runnable += usize::from(stage == Stage::Runnable);
        }
    }
    let all = schedule.clients.values();
    let sums = all.fold((0, 0), |s, c| {
        (s.0 + c.lacking.len(), s.1 + c.runnable.len())
    });
    assert_eq!(sums, (lacking, runnable));
    let at_work: BTreeSet<_> = world.passes().map(|p| p.id).collect();
    assert_eq!(
        schedule.passes.keys().copied().collect::<BTreeSet<_>>(),
        at_work
    );
    for (id, pass) in &schedule.passes {
        assert!(schedule.gops[&pass.gop].passes.contains(id));
        for order in &pass.claimed {
            assert_eq!(schedule.orders[order].stage, Stage::Claimed(*id));
        }
    }
    let members: usize = schedule.gops.values().map(|g| g.orders.len()).sum();
    assert_eq!(members, schedule.orders.len());
}

/// Bytes are counted, bounded, and held for somebody.
fn bytes(world: &World) {
    let schedule = &world.schedule;
    let (mut held, mut fetching) = (0, 0);
    for (key, gop) in &schedule.gops {
        let reads = world.reads.iter().filter(|r| r.gop == *key).count();
        assert_eq!(usize::from(gop.fetching.is_some()), reads);
        fetching += reads;
        held += gop.bytes;
        let size = match gop.run {
            Some(run) => size_between(&0, key.start, run.end),
            None => 0,
        };
        assert_eq!(gop.bytes, size);
        let wanted = gop.orders.iter().any(|o| {
            !matches!(schedule.orders[o].stage, Stage::Claimed(_)) && is_servable(world, *o)
        });
        let used = !gop.passes.is_empty() || gop.fetching.is_some();
        assert!(gop.run.is_none() || wanted || used, "held for nobody");
        assert!(used || !gop.orders.is_empty(), "a GOP that nobody wants");
    }
    assert_eq!(schedule.held_bytes(), held);
    assert_eq!((schedule.fetching, world.reads.len()), (fetching, fetching));
    assert!(fetching <= world.limits.concurrent.max(1));
    let coming = (world.reads.iter()).map(|r| size_between(&0, r.from, r.to));
    assert_eq!(schedule.coming, coming.sum::<u64>());
}

/// What was begun for clients is known, and ends.
fn begun(world: &World) {
    let schedule = &world.schedule;
    let passes: usize = schedule.passes.values().map(|p| p.begun_for.len()).sum();
    let known: usize = schedule.clients.values().map(|c| c.begun).sum();
    // Those who left are not counted.
    assert!(known <= passes + world.reads.len());
    if passes + world.reads.len() == 0 {
        assert_eq!(known, 0);
    }
    let idle = world.workers.iter();
    let idle = idle.filter(|w| matches!(w, Worker::Idle)).count();
    assert_eq!(schedule.idle(), idle);
}

/// What a client counts as having spent when it is compared.
fn tag(client: &Client) -> u64 {
    let bulk = if client.due > INTERACTIVE {
        BULK_PATIENCE
    } else {
        0
    };
    client.spent + bulk
}

/// Who has work that may be picked.
fn ready(world: &World) -> BTreeMap<ClientId, &Client> {
    let alone = world.schedule.passes.values().any(|p| p.alone);
    let clients = world.schedule.clients.iter();
    clients
        .filter(|(id, c)| !(c.blocked || c.runnable.is_empty() || alone && **id == world.harvest))
        .map(|(id, c)| (*id, c))
        .collect()
}

/// A pass that is to stop is told to look.
fn told_to_stop(world: &World) {
    if world.workers.iter().any(|w| matches!(w, Worker::Free)) {
        // It takes what is more urgent.
        return;
    }
    let ready = ready(world);
    let schedule = &world.schedule;
    for pass in world.passes().filter(|p| !p.signal.is_set()) {
        let state = &schedule.passes[&pass.id];
        let waiters: Vec<_> = (state.claimed.iter())
            .flat_map(|o| schedule.waiters(*o))
            .filter(|w| is_open(world, w.client))
            .collect();
        if state.claimed.is_empty() {
            // It ends by itself.
            continue;
        }
        assert!(!waiters.is_empty(), "nobody waits for it");
        let harvest = waiters.iter().all(|w| w.client == world.harvest);
        let alone = (schedule.passes.iter()).any(|(id, p)| *id != pass.id && p.alone);
        assert!(!(harvest && alone), "harvest beside one who has all cores");
        if schedule.idle() > 0 {
            continue;
        }
        let newer = |c: &ClientId, rank: i64| {
            let runnable = ready.get(c).and_then(|c| c.runnable.first());
            runnable.is_some_and(|p| p.rank < rank)
        };
        let outdated = waiters.iter().all(|w| newer(&w.client, w.rank));
        assert!(!outdated, "its clients wait for something newer");
        let sessions = ready.iter().filter(|(id, _)| **id != world.harvest);
        if harvest {
            assert_eq!(sessions.count(), 0, "harvest keeps a request waiting");
            continue;
        }
        let theirs: Vec<&Client> = (waiters.iter())
            .filter(|w| w.client != world.harvest)
            .map(|w| &schedule.clients[&w.client])
            .collect();
        if theirs.iter().all(|c| c.due > INTERACTIVE) {
            let least = theirs.iter().map(|c| tag(c)).min().unwrap_or(0);
            let others: Vec<_> = sessions.collect();
            for (id, client) in &others {
                let first = others.iter().all(|(o, c)| o == id || tag(client) < tag(c));
                let before =
                    first && client.begun == 0 && client.due <= INTERACTIVE && tag(client) < least;
                assert!(!before, "{id:?} waits for a bulk client's pass");
            }
        }
    }
}

/// One that may be picked: the client and its first order.
pub(super) fn before_pick(world: &World) -> BTreeMap<ClientId, OrderId> {
    let ready = ready(world);
    let first = |id: &ClientId, client: &Client| {
        // By what was asked for, not by the schedule's own order.
        let orders: BTreeMap<usize, OrderId> = (client.runnable.iter())
            .map(|p| p.order)
            .flat_map(|o| {
                let waiters = world.schedule.waiters(o).iter();
                waiters.map(move |w| (w.client, w.sink, o))
            })
            .filter(|(c, _, _)| c == id)
            .map(|(_, sink, o)| (sink, o))
            .collect();
        let key = |a: &Asked| (a.rank, a.purpose, a.position);
        let first = orders
            .iter()
            .min_by_key(|(sink, _)| key(&world.asked[**sink]));
        *first.expect("has something").1
    };
    ready.iter().map(|(id, c)| (*id, first(id, c))).collect()
}

/// What was picked is the first order of a client than which none is clearly more urgent, with
/// all that its ticket wants of this GOP.
pub(super) fn picked(
    world: &World,
    expected: &BTreeMap<ClientId, OrderId>,
    picked: &Picked<u8, Bytes>,
) {
    let lead = picked.claims[0].order;
    let schedule = &world.schedule;
    let clients = &schedule.clients;
    let begun_here = &schedule.passes[&picked.pass].begun_for;
    let begun = |id: ClientId| clients[&id].begun - usize::from(begun_here.contains(&id));
    let right = expected.iter().any(|(id, first)| {
        let one = &clients[id];
        *first == lead
            && expected.keys().all(|other| {
                let (own, theirs) = (*id == world.harvest, *other == world.harvest);
                let other_first = tag(&clients[other]) < tag(one) && begun(*other) <= begun(*id);
                theirs || (!own && !other_first) || other == id
            })
    });
    assert!(right, "another is more urgent: {picked:?} of {expected:?}");
    let claimed: BTreeSet<OrderId> = picked.claims.iter().map(|c| c.order).collect();
    assert_eq!(claimed.len(), picked.claims.len());
    for order in &claimed {
        let order: &Order<_> = &schedule.orders[order];
        assert_eq!(order.gop(), picked.gop);
        assert_eq!(order.stage, Stage::Claimed(picked.pass));
    }
    assert!(claimed.iter().all(|o| is_servable(world, *o)));
}

/// What joined lies on the way, and nothing that does is left.
pub(super) fn joined(world: &World, pass: &AtWork, ahead: &[u32], joined: &[Claim]) {
    for claim in joined {
        assert!(ahead.contains(&claim.sample));
        assert_eq!(world.schedule.orders[&claim.order].gop(), pass.gop);
    }
    for (id, order) in &world.schedule.orders {
        let left = order.gop() == pass.gop
            && order.stage == Stage::Runnable
            && ahead.contains(&order.image.sample)
            && !pass.put_back.contains(id)
            && is_servable(world, *id);
        assert!(!left, "did not join");
    }
}

/// A read is for somebody, of what is not there, of a GOP that is not being read, and within
/// the limits; but one goes beyond them where nothing else goes on.
pub(super) fn read(world: &World, fetch: &Fetch<u8>, stuck: bool) {
    let schedule = &world.schedule;
    let gop = &schedule.gops[&fetch.gop];
    let from = match gop.run {
        Some(run) => run.end,
        None => fetch.gop.start,
    };
    assert_eq!(fetch.from, from, "a hole, or read twice");
    assert!(fetch.from < fetch.to);
    assert!(
        world.reads.iter().all(|r| r.gop != fetch.gop),
        "twice at once"
    );
    let wanted = gop.orders.iter().any(|o| {
        let sample = schedule.orders[o].image.sample;
        (fetch.from..fetch.to).contains(&sample) && is_servable(world, *o)
    });
    assert!(wanted, "for nobody");
    let taken = schedule.held + schedule.coming;
    assert!(stuck || taken <= world.limits.bytes, "beyond the limit");
}

/// Nothing is read where somebody lacks bytes: then something else goes on.
pub(super) fn nothing_to_read(world: &World) {
    let lacks = |c: &Client| !c.blocked && !c.lacking.is_empty();
    let schedule = &world.schedule;
    if schedule.clients.values().any(lacks) {
        let goes_on = !world.reads.is_empty()
            || !schedule.passes.is_empty()
            || schedule.most_urgent().is_some();
        assert!(goes_on, "nothing is read, and nothing is done");
    }
}

/// Whoever takes what is ready has everything, and nothing is held for the others.
pub(super) fn settled(world: &World) {
    for asked in world.waits() {
        assert!(!is_open(world, asked.client), "still waits: {asked:?}");
    }
    let schedule = &world.schedule;
    assert!(schedule.passes.is_empty());
    assert_eq!((schedule.held_bytes(), schedule.coming), (0, 0));
    if world.waits().next().is_none() {
        assert!(schedule.is_empty());
        assert!(schedule.gops.is_empty() && schedule.by_ticket.is_empty());
    }
}
