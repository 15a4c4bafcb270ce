//! Inside one client: which wish comes first, and what is decoded with it.

use proptest::prelude::*;

use super::check;
use super::world::{GOP, NO_LIMITS, World};
use crate::schedule::{Claim, Purpose};
use crate::ticket::Priority::{Fifo, Newest};

proptest! {
    /// Each wish is in a GOP of its own, so that each is answered when it is its turn.
    #[test]
    fn newest_tickets_come_first_and_fifo_ones_last_in_order_of_arrival(
        tickets in prop::collection::vec((any::<bool>(), 1..5_usize), 1..9),
    ) {
        let mut world = World::new(1, NO_LIMITS);
        let client = world.client();
        let (mut newest, mut fifo, mut gop) = (Vec::new(), Vec::new(), 0);
        for (is_fifo, count) in tickets {
            let first = world.asked.len();
            let gops = (gop..).map(|g| g * GOP).take(count);
            world.request(client, if is_fifo { Fifo } else { Newest }, 0, gops);
            gop += count as u32;
            let tokens = first..world.asked.len();
            if is_fifo {
                fifo.extend(tokens);
            } else {
                newest.splice(0..0, tokens);
            }
        }
        world.read_all();
        world.settle();
        newest.extend(fifo);
        prop_assert_eq!(world.answers, newest);
    }
}

fn samples(claims: &[Claim]) -> Vec<u32> {
    claims.iter().map(|c| c.sample).collect()
}

#[test]
fn a_preview_comes_before_the_pictures_of_its_ticket() {
    let mut world = World::new(1, NO_LIMITS);
    let client = world.client();
    let ticket = world.request(client, Newest, 0, [2 * GOP, GOP + 8]);
    let previews = [(1, GOP + 8)];
    world.wish(client, ticket, (0, Purpose::Preview), previews);
    world.read_all();
    let picked = world.schedule.pick().expect("there is work");
    assert_eq!(samples(&picked.claims), [GOP, GOP + 8]);
}

#[test]
fn what_was_asked_for_last_is_not_kept_waiting_by_what_was_asked_for_before() {
    let mut world = World::new(1, NO_LIMITS);
    let client = world.client();
    // Many are due, all of one GOP, each in a ticket of its own.
    for sample in 0..24 {
        world.request(client, Newest, 0, [sample + GOP]);
    }
    world.read_all();
    let last = world.schedule.pick().expect("there is work");
    assert_eq!(samples(&last.claims), [GOP + 23]);
    // The newest is on its way: all others together.
    world.schedule.complete(last.claims[0].order);
    world.schedule.end_pass(last.pass, &Default::default());
    let rest = world.schedule.pick().expect("there is work");
    assert_eq!(rest.claims.len(), 11);
}

#[test]
fn who_wants_much_in_order_of_arrival_gets_a_gop_at_a_time() {
    let mut world = World::new(1, NO_LIMITS);
    let client = world.client();
    for sample in 0..2 * GOP {
        world.request(client, Fifo, 0, [sample]);
    }
    world.read_all();
    let first = world.schedule.pick().expect("there is work");
    assert_eq!(samples(&first.claims), (0..GOP).collect::<Vec<_>>());
}

#[test]
fn equal_wishes_are_one_order() {
    let mut world = World::new(1, NO_LIMITS);
    let (one, other) = (world.client(), world.client());
    world.request(one, Newest, 0, [8, 8]);
    world.request(other, Fifo, 0, [8]);
    assert_eq!(world.schedule.orders.len(), 1);
    world.request(other, Fifo, 1, [8]);
    assert_eq!(world.schedule.orders.len(), 2);
    check::all(&world);
    world.settle();
    assert_eq!(world.answers.len(), 4);
}
