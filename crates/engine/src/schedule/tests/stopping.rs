//! When a running pass is told to end, and when not.

use super::check;
use super::world::{GOP, MILLI, NO_LIMITS, Worker, World};
use crate::schedule::ClientId;
use crate::schedule::clients::BULK_PATIENCE;
use crate::ticket::Priority::{Fifo, Newest};

/// One worker, at work for a client that wants much: all of the first GOP of video 0.
fn at_work_for_bulk() -> (World, ClientId) {
    let mut world = World::new(1, NO_LIMITS);
    let bulk = world.client();
    let samples = (0..4 * GOP).filter(|s| s % 4 == 0);
    world.request(bulk, Fifo, 0, samples.cycle().take(40));
    world.read_all();
    world.step(0);
    (world, bulk)
}

/// What the first worker works on.
fn video(world: &World) -> Option<(u8, u32)> {
    match &world.workers[0] {
        Worker::Pass(pass) => Some((pass.video, pass.gop.start)),
        _ => None,
    }
}

/// A request of a client whose bytes are there.
fn asks(world: &mut World, client: ClientId, video: u8, sample: u32) {
    world.request(client, Newest, video, [sample]);
    world.read_all();
}

#[test]
fn who_wants_much_makes_way_for_who_looks() {
    let (mut world, _) = at_work_for_bulk();
    let looks = world.client();
    asks(&mut world, looks, 1, 0);
    world.step(0);
    assert_eq!(video(&world), Some((1, 0)));
    world.settle();
    assert_eq!(world.waits().count(), 0);
}

#[test]
fn nobody_makes_way_where_a_worker_waits_for_work() {
    let (mut world, _) = at_work_for_bulk();
    let looks = world.client();
    world.workers.push(Worker::Idle);
    world.schedule.set_idle(true);
    asks(&mut world, looks, 1, 0);
    world.step(0);
    assert_eq!(video(&world), Some((0, 0)));
    // But that one encodes a picture first.
    world.step(1);
    assert!(world.encoding.is_empty());
    world.step(0);
    assert_eq!(video(&world), Some((1, 0)), "it was not told again");
}

#[test]
fn nobody_makes_way_for_an_equal() {
    let (mut world, _) = at_work_for_bulk();
    let other = world.client();
    world.request(other, Fifo, 1, (0..30).map(|i| i * GOP));
    world.read_all();
    world.step(0);
    assert_eq!(video(&world), Some((0, 0)));
}

#[test]
fn nobody_makes_way_for_who_has_had_enough() {
    let (mut world, bulk) = at_work_for_bulk();
    let looks = world.client();
    world
        .schedule
        .clients
        .get_mut(&looks)
        .expect("is there")
        .spent = world.spent(bulk) + BULK_PATIENCE + MILLI;
    asks(&mut world, looks, 1, 0);
    world.step(0);
    assert_eq!(video(&world), Some((0, 0)));
}

#[test]
fn a_newer_ticket_goes_before_an_older_one_of_the_same_client() {
    let mut world = World::new(1, NO_LIMITS);
    let client = world.client();
    asks(&mut world, client, 0, 8);
    world.step(0);
    asks(&mut world, client, 1, 0);
    world.step(0);
    assert_eq!(video(&world), Some((1, 0)));
}

#[test]
fn a_newer_ticket_does_so_where_another_client_is_next() {
    let mut world = World::new(1, NO_LIMITS);
    let (client, other) = (world.client(), world.client());
    asks(&mut world, client, 0, 8);
    world.step(0);
    asks(&mut world, other, 2, 0);
    world.step(0);
    assert_eq!(video(&world), Some((0, 0)), "for an equal client");
    asks(&mut world, client, 1, 0);
    world.step(0);
    assert_eq!(video(&world), Some((2, 0)));
}

#[test]
fn an_older_ticket_does_not() {
    let mut world = World::new(1, NO_LIMITS);
    let client = world.client();
    asks(&mut world, client, 0, 8);
    world.step(0);
    world.request(client, Fifo, 1, [0]);
    world.read_all();
    world.step(0);
    assert_eq!(video(&world), Some((0, 0)));
}

#[test]
fn what_nobody_waits_for_any_more_ends_within_an_access_unit() {
    for leaves in [false, true] {
        let mut world = World::new(2, NO_LIMITS);
        let client = world.client();
        let (ticket, _) = world.request(client, Newest, 0, [8, 11]);
        world.read_all();
        world.step(0);
        world.cancel(ticket, Some(1));
        world.step(0);
        assert_eq!(video(&world), Some((0, 0)), "the other one is waited for");
        if leaves {
            world.leave(client);
        } else {
            world.cancel(ticket, None);
        }
        world.step(0);
        assert_eq!(video(&world), None);
        check::all(&world);
    }
}

#[test]
fn a_pass_for_those_who_take_nothing_ends_and_nothing_is_held_for_them() {
    let mut world = World::new(2, NO_LIMITS);
    let client = world.client();
    asks(&mut world, client, 0, 11);
    world.step(0);
    world.block(client, true);
    world.step(0);
    assert_eq!(video(&world), None);
    assert_eq!(world.schedule.held_bytes(), 0);
    world.settle();
    world.block(client, false);
    world.settle();
    assert_eq!(world.answers.len(), 1);
}

#[test]
fn harvest_makes_way_for_anybody() {
    let mut world = World::new(1, NO_LIMITS);
    let harvest = world.harvest;
    world.request(harvest, Newest, 0, [8, 11]);
    world.read_all();
    world.step(0);
    let bulk = world.client();
    world.request(bulk, Fifo, 1, (0..30).map(|i| i * GOP));
    world.read_all();
    world.step(0);
    assert_eq!(video(&world).map(|v| v.0), Some(1));
}

#[test]
fn what_is_left_when_who_looks_has_its_image_makes_way() {
    let (mut world, _) = at_work_for_bulk();
    let (one, other) = (world.client(), world.client());
    // On the way of the pass: it joins.
    asks(&mut world, one, 0, 4);
    world.step(0);
    asks(&mut world, other, 1, 0);
    world.step(0);
    assert_eq!(
        video(&world),
        Some((0, 0)),
        "one who looks waits for this one, too"
    );
    world.step(0);
    assert_eq!(video(&world), Some((1, 0)));
}

/// Decoding takes so long here that its client has had enough before the pass ends.
#[test]
fn a_long_pass_makes_way_when_it_is_the_turn_of_who_looks() {
    let (mut world, bulk) = at_work_for_bulk();
    world.cost.insert(0, 300 * MILLI);
    let looks = world.client();
    let clients = &mut world.schedule.clients;
    clients.get_mut(&looks).expect("is there").spent = BULK_PATIENCE + 400 * MILLI;
    asks(&mut world, looks, 1, 0);
    world.step(0);
    assert_eq!(world.spent(bulk), 0);
    assert_eq!(
        video(&world),
        Some((0, 0)),
        "300 ms, and it has answered something"
    );
    asks(&mut world, looks, 1, 0);
    world.step(0);
    assert_eq!(video(&world), Some((0, 0)), "600 ms");
    world.step(0);
    assert_eq!(video(&world), Some((1, 0)));
}

/// It lies on the way of the pass, which cannot serve it: it joins, and is put back.
#[test]
fn what_a_pass_puts_back_may_be_what_it_stops_for() {
    let mut world = World::new(1, NO_LIMITS);
    let client = world.client();
    asks(&mut world, client, 0, 11);
    world.step(0);
    asks(&mut world, client, 0, 7);
    for _ in 0..3 {
        world.step(0);
    }
    let wanted: Vec<u32> = world
        .passes()
        .flat_map(|p| p.wanted.keys().copied())
        .collect();
    assert_eq!(wanted, [7]);
    world.settle();
    assert_eq!(world.answers, [1, 0]);
}

#[test]
fn who_left_it_to_a_worker_that_waited_is_told_when_that_one_does_something_else() {
    let (mut world, _) = at_work_for_bulk();
    let looks = world.client();
    world.workers.push(Worker::Idle);
    world.schedule.set_idle(true);
    asks(&mut world, looks, 1, 0);
    world.step(0);
    let signal = world.passes().next().expect("at work").signal.clone();
    assert!(!signal.is_set());
    world.schedule.set_idle(false);
    assert!(signal.is_set());
}
