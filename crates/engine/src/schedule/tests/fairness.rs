//! Between clients: nobody gets more than others for long, whoever looks and waits comes first,
//! and nobody waits for ever.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::check;
use super::world::{AtWork, Fate, GOP, MILLI, NO_LIMITS, Worker, World};
use crate::schedule::ClientId;
use crate::schedule::clients::{BULK_PATIENCE, INTERACTIVE};
use crate::ticket::Priority::{Fifo, Newest};

/// What a begun pass or read counts.
const BEGUN: u64 = 50 * MILLI;

/// A client with a video of its own that keeps so many images due, each in a GOP of its own.
struct Hungry {
    client: ClientId,
    video: u8,
    due: usize,
    next: u32,
}

impl Hungry {
    fn new(world: &mut World, video: u8, due: usize) -> Self {
        Self {
            client: world.client(),
            video,
            due,
            next: 0,
        }
    }

    fn ask(&mut self, world: &mut World) {
        while world.schedule.due(self.client) < self.due {
            world.request(self.client, Fifo, self.video, [self.next]);
            self.next += GOP;
        }
    }

    fn served(&self, world: &World) -> u64 {
        world.served.get(&self.client).copied().unwrap_or(0)
    }
}

/// All ask and all is read; then each worker takes a step.
fn round(world: &mut World, all: &mut [Hungry]) {
    for worker in 0..world.workers.len() {
        for one in all.iter_mut() {
            one.ask(world);
        }
        world.read_all();
        world.step(worker);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn equal_clients_get_equal_time(
        workers in 1..4_usize,
        due in prop_oneof![8..INTERACTIVE, 30..40_usize],
        costs in prop::collection::vec(1..200_u64, 2..6),
    ) {
        let mut world = World::new(workers, NO_LIMITS);
        let mut all = Vec::new();
        for (video, cost) in (0..).zip(&costs) {
            world.cost.insert(video, cost * MILLI);
            all.push(Hungry::new(&mut world, video, due));
        }
        let pass = costs.iter().max().copied().unwrap_or(0) * MILLI;
        for _ in 0..600 {
            round(&mut world, &mut all);
            let served = || all.iter().map(|c| c.served(&world));
            let spread = served().max().unwrap_or(0) - served().min().unwrap_or(0);
            // With several workers, passes that run are not counted yet.
            let most = match workers {
                1 => pass,
                more => (pass + BEGUN) * more as u64,
            };
            prop_assert!(spread <= most, "{spread} {costs:?}");
        }
        check::all(&world);
    }

    #[test]
    fn who_looks_comes_first_and_who_wants_much_is_not_starved(
        workers in 1..4_usize,
        cost in 1..120_u64,
        bulk_cost in 1..120_u64,
        many in 1..4_usize,
    ) {
        let mut world = World::new(workers, NO_LIMITS);
        world.cost.insert(0, cost * MILLI);
        let mut all = vec![Hungry::new(&mut world, 0, workers + 1)];
        for video in 1..=many as u8 {
            world.cost.insert(video, bulk_cost * MILLI);
            all.push(Hungry::new(&mut world, video, 60));
        }
        let pass = cost.max(bulk_cost) * MILLI;
        let slack = (pass + BEGUN) * workers as u64;
        for _ in 0..1500 {
            round(&mut world, &mut all);
            let looks = all[0].served(&world);
            for bulk in all.iter().skip(1).map(|c| c.served(&world)) {
                prop_assert!(bulk <= looks + slack, "{looks} {bulk}: kept waiting");
                prop_assert!(looks <= bulk + BULK_PATIENCE + slack, "{looks} {bulk}: starved");
            }
        }
    }
}

/// Before its picture comes out somebody interrupts, each time, and what was decoded is lost.
#[test]
fn who_always_has_to_make_way_gets_there() {
    let mut world = World::new(1, NO_LIMITS);
    world.cost = BTreeMap::from([(0, 100 * MILLI), (1, 100 * MILLI)]);
    let bulk = world.client();
    // The last picture of a GOP: five access units.
    world.request(bulk, Fifo, 1, (0..2 * INTERACTIVE as u32).map(|_| GOP - 1));
    world.read_all();
    let mut looks = Hungry::new(&mut world, 0, 0);
    let mut steps = 0;
    while world.schedule.due(bulk) > 0 {
        steps += 1;
        assert!(steps < 300, "it never gets there");
        let almost = |p: &AtWork| p.video == 1 && p.nanos >= 300 * MILLI;
        looks.due = usize::from(world.passes().any(almost));
        looks.ask(&mut world);
        world.read_all();
        world.step(0);
        check::all(&world);
    }
    assert!(steps > 20, "it was not interrupted");
}

/// How a client came to have got nothing while another one worked.
#[derive(Clone, Copy, Debug)]
enum Absence {
    /// It asked for nothing.
    Idle,
    /// It did not take what was ready.
    Blocked,
    /// Its bytes did not come.
    Lacking,
    /// It was not there.
    New,
}

#[test]
fn who_was_away_has_saved_nothing() {
    for absence in [
        Absence::Idle,
        Absence::Blocked,
        Absence::Lacking,
        Absence::New,
    ] {
        let mut world = World::new(1, NO_LIMITS);
        let mut other = Hungry::new(&mut world, 0, 8);
        let mut away = Hungry::new(&mut world, 1, 8);
        other.ask(&mut world);
        world.read_all();
        match absence {
            Absence::Idle => {}
            Absence::New => world.leave(away.client),
            Absence::Blocked => {
                away.ask(&mut world);
                world.block(away.client, true);
            }
            Absence::Lacking => {
                away.ask(&mut world);
                world.pump();
            }
        }
        while world.spent(other.client) < 20_000 * MILLI {
            other.ask(&mut world);
            world.pump();
            while let Some(at) = world.reads.iter().position(|r| r.video == 0) {
                world.read(at, 0);
            }
            world.step(0);
        }
        match absence {
            Absence::Idle | Absence::Lacking => {}
            Absence::New => away.client = world.client(),
            Absence::Blocked => world.block(away.client, false),
        }
        let before = other.served(&world);
        let mut both = [away, other];
        while both[1].served(&world) < before + 1000 * MILLI {
            round(&mut world, &mut both);
        }
        let got = both[0].served(&world);
        assert!(
            got <= 1000 * MILLI + BULK_PATIENCE + BEGUN,
            "{absence:?}: {got}"
        );
        assert!(got >= 900 * MILLI, "{absence:?}: {got}");
    }
}

#[test]
fn a_lone_request_has_all_cores_even_beside_harvest() {
    let mut world = World::new(3, NO_LIMITS);
    let harvest = world.harvest;
    world.request(harvest, Newest, 0, (0..4 * GOP).filter(|s| s % GOP != 1));
    world.read_all();
    world.step(0);
    world.step(1);
    assert_eq!(world.passes().count(), 2, "harvest on two workers");
    let client = world.client();
    world.request(client, Newest, 1, [8]);
    world.read_all();
    world.step(2);
    let alone: Vec<bool> = world.passes().map(|p| p.alone).collect();
    assert_eq!(alone, [false, false, true]);
    // Within an access unit, harvest has ended, and rests until the request has its answer.
    world.step(0);
    world.step(1);
    assert_eq!(world.passes().count(), 1);
    check::all(&world);
    for _ in 0..2 {
        world.step(2);
        world.step(0);
        world.step(1);
        assert!(
            world.passes().all(|p| p.video == 1),
            "harvest beside a request"
        );
    }
    world.settle();
    assert_eq!(world.waits().count(), 0);
}

#[test]
fn a_request_is_alone_beside_what_is_made_of_its_gop_for_the_same_client() {
    let mut world = World::new(2, NO_LIMITS);
    let harvest = world.harvest;
    world.request(harvest, Newest, 0, [0]);
    world.read_all();
    world.step(0);
    // It waits for the picture that harvest has begun, too, and for bytes of others.
    let client = world.client();
    world.request(client, Newest, 0, 0..GOP);
    world.pump();
    world.step(0);
    world.read_all();
    world.step(1);
    let alone: Vec<bool> = world.passes().map(|p| p.alone).collect();
    assert!(alone.contains(&true), "{alone:?}");
    check::all(&world);
    world.settle();
    assert_eq!(world.waits().count(), 0);

    // What it wants of another GOP is work for the other core.
    let mut world = World::new(2, NO_LIMITS);
    let client = world.client();
    world.request(client, Newest, 0, [1, 2, GOP + 1, GOP + 2]);
    world.read_all();
    world.step(0);
    assert!(world.passes().all(|p| !p.alone));
}

#[test]
fn one_pass_has_all_that_a_ticket_wants_of_a_gop_even_where_some_bytes_come_late() {
    #[derive(PartialEq)]
    enum Late {
        Comes,
        Fails,
        IsCancelled,
    }
    for late in [Late::Comes, Late::Fails, Late::IsCancelled] {
        let mut world = World::new(2, NO_LIMITS);
        let (first, second) = (world.client(), world.client());
        world.request(first, Newest, 0, [5]);
        world.read_all();
        // The bytes of the second's first picture are there, those of its other are not.
        let (ticket, _) = world.request(second, Newest, 0, [4, 9]);
        world.pump();
        check::all(&world);
        let waits = |world: &World| world.schedule.clients[&second].runnable.len();
        assert_eq!(waits(&world), 0, "one of two");
        match late {
            Late::Comes => world.read(0, 0),
            Late::Fails => world.read_fails(0),
            Late::IsCancelled => world.cancel(ticket, Some(1)),
        }
        check::all(&world);
        assert_eq!(waits(&world), if late == Late::Comes { 2 } else { 1 });
        world.settle();
        assert_eq!(world.waits().count(), 0);
    }
}

#[test]
fn two_requests_have_one_core_each() {
    let mut world = World::new(2, NO_LIMITS);
    let clients = [world.client(), world.client()];
    for (video, client) in (0..).zip(clients) {
        world.request(client, Newest, video, [8]);
    }
    world.read_all();
    world.step(0);
    world.step(1);
    assert!(world.passes().all(|p| !p.alone));
}

#[test]
fn workers_are_shared_before_anybody_has_paid() {
    let mut world = World::new(2, NO_LIMITS);
    let mut all: Vec<Hungry> = (0..2).map(|v| Hungry::new(&mut world, v, 8)).collect();
    round(&mut world, &mut all);
    let videos: Vec<u8> = world.passes().map(|p| p.video).collect();
    assert_eq!(videos, [0, 1]);
}

#[test]
fn who_joins_pays_for_its_images_only() {
    let mut world = World::new(1, NO_LIMITS);
    let (bulk, looks) = (world.client(), world.client());
    world.request(
        bulk,
        Fifo,
        0,
        (0..GOP).filter(|s| s % 4 == 0).cycle().take(30),
    );
    world.request(looks, Newest, 0, [8]);
    world.block(looks, true);
    world.read_all();
    world.step(0);
    world.block(looks, false);
    while !matches!(world.workers[0], Worker::Idle) {
        world.step(0);
    }
    assert!(world.asked.iter().all(|a| a.fate == Fate::Answered));
    assert_eq!(world.spent(looks), 40 * MILLI / 31);
}
