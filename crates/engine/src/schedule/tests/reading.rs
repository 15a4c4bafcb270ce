//! What is read, how much, and for whom first.

use super::check;
use super::world::{GOP, NO_LIMITS, World, size_between};
use crate::schedule::FetchLimits;
use crate::ticket::Priority::{Fifo, Newest};

#[test]
fn equal_bytes_are_read_once_and_more_is_read_behind_them() {
    let mut world = World::new(1, NO_LIMITS);
    let (one, other) = (world.client(), world.client());
    world.request(one, Newest, 0, [4]);
    world.pump();
    world.request(other, Newest, 0, [2, 8]);
    world.pump();
    let ranges = |world: &World| -> Vec<_> {
        let reads = world.reads.iter();
        reads.map(|r| (r.from, r.to)).collect()
    };
    assert_eq!(ranges(&world), [(0, 5)]);
    world.read(0, 0);
    world.pump();
    assert_eq!(ranges(&world), [(5, 9)]);
    check::all(&world);
    world.settle();
    assert_eq!(world.answers.len(), 3);
}

#[test]
fn reads_under_way_count_as_held() {
    let gop = size_between(&0, 0, GOP);
    let limits = FetchLimits {
        concurrent: 100,
        bytes: gop * 3,
    };
    let mut world = World::new(1, limits);
    let client = world.client();
    for gop in 0..10 {
        world.request(client, Newest, 0, [(gop + 1) * GOP - 1]);
    }
    world.pump();
    let coming: u64 = (world.reads.iter())
        .map(|r| size_between(&0, r.from, r.to))
        .sum();
    assert!(coming <= limits.bytes && world.reads.len() >= 2);
    world.settle();
    assert_eq!(world.answers.len(), 10);
}

#[test]
fn one_client_does_not_take_all_reads() {
    let limits = FetchLimits {
        concurrent: 4,
        ..NO_LIMITS
    };
    let mut world = World::new(1, limits);
    let clients = [world.client(), world.client()];
    for (video, client) in (0..).zip(clients) {
        world.request(client, Newest, video, (0..8).map(|i| i * GOP));
    }
    world.pump();
    let videos: Vec<u8> = world.reads.iter().map(|r| r.video).collect();
    assert_eq!(videos, [0, 1, 0, 1]);
}

#[test]
fn who_wants_much_leaves_a_read_and_memory_to_who_looks() {
    let size = size_between(&0, 0, 1);
    for limits in [
        FetchLimits {
            concurrent: 4,
            ..NO_LIMITS
        },
        FetchLimits {
            concurrent: 1000,
            bytes: size * 40,
        },
    ] {
        let mut world = World::new(1, limits);
        let (bulk, looks) = (world.client(), world.client());
        world.request(bulk, Fifo, 0, (0..100).map(|i| i * GOP));
        world.pump();
        world.request(looks, Newest, 1, [0]);
        world.pump();
        assert_eq!(world.reads.last().map(|r| r.video), Some(1));
        check::all(&world);
    }
}

#[test]
fn harvest_reads_even_where_there_is_hardly_any_memory() {
    for bytes in 0..3 {
        let limits = FetchLimits {
            concurrent: 0,
            bytes,
        };
        let mut world = World::new(1, limits);
        let harvest = world.harvest;
        world.request(harvest, Newest, 0, [0, 8, GOP]);
        world.settle();
        assert_eq!(world.answers.len(), 3);
    }
}

/// Its bytes are held for what was not read yet of the same GOP.
#[test]
fn half_a_gop_is_not_held_for_who_takes_nothing() {
    let mut world = World::new(1, NO_LIMITS);
    let (one, other) = (world.client(), world.client());
    world.request(one, Newest, 0, [4]);
    world.read_all();
    world.request(other, Newest, 0, [8]);
    world.step(0);
    world.block(other, true);
    while !world.schedule.passes.is_empty() {
        world.step(0);
    }
    assert_eq!(world.answers.len(), 1);
    assert_eq!(world.schedule.held_bytes(), 0);
    check::all(&world);
}
