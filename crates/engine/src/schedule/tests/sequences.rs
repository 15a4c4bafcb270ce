//! Whatever happens in whatever order: every wish gets one answer, and all that must hold holds
//! after every step.

use proptest::prelude::*;

use super::check;
use super::world::{GOP, MILLI, VIDEO, World};
use crate::schedule::{ClientId, FetchLimits, Purpose, TicketId};
use crate::ticket::Priority;

#[derive(Clone, Debug)]
enum Op {
    Join,
    Leave(usize),
    Request {
        client: usize,
        fifo: bool,
        preview: bool,
        video: u8,
        samples: Vec<u32>,
    },
    Harvest {
        video: u8,
        samples: Vec<u32>,
    },
    Cancel(usize),
    CancelOne(usize, usize),
    Block(usize, bool),
    Pump,
    Read(usize, u32),
    ReadFails(usize),
    Step(usize),
}

fn samples() -> impl Strategy<Value = Vec<u32>> {
    let few = prop::collection::vec(0..VIDEO, 1..4);
    let run = (0..VIDEO, 1..=24_u32, 1..4_u32).prop_map(|(first, count, stride)| {
        let samples = (0..count).map(|i| (first + i * stride) % VIDEO);
        samples.collect()
    });
    // One picture again and again, in each kind of image.
    let one = (0..VIDEO, 1..9_usize).prop_map(|(sample, count)| vec![sample; count]);
    prop_oneof![4 => few, 2 => run, 1 => one]
}

fn op() -> impl Strategy<Value = Op> {
    let client = 0..6_usize;
    prop_oneof![
        1 => Just(Op::Join),
        1 => client.clone().prop_map(Op::Leave),
        6 => (client.clone(), any::<bool>(), any::<bool>(), 0..2_u8, samples()).prop_map(
            |(client, fifo, preview, video, samples)| Op::Request {
                client, fifo, preview, video, samples,
            }
        ),
        1 => (0..2_u8, samples()).prop_map(|(video, samples)| Op::Harvest { video, samples }),
        1 => (0..20_usize).prop_map(Op::Cancel),
        2 => (0..20_usize, 0..24_usize).prop_map(|(t, p)| Op::CancelOne(t, p)),
        3 => (client, any::<bool>()).prop_map(|(c, b)| Op::Block(c, b)),
        6 => Just(Op::Pump),
        6 => (0..4_usize, prop_oneof![3 => Just(0_u32), 1 => 1..9_u32])
            .prop_map(|(r, more)| Op::Read(r, more)),
        1 => (0..4_usize).prop_map(Op::ReadFails),
        20 => (0..3_usize).prop_map(Op::Step),
    ]
}

struct Play {
    world: World,
    /// The newest first.
    tickets: Vec<TicketId>,
}

impl Play {
    fn client(&self, at: usize) -> Option<ClientId> {
        self.world
            .clients
            .get(at % self.world.clients.len().max(1))
            .copied()
    }

    fn play(&mut self, op: Op) {
        let world = &mut self.world;
        match op {
            Op::Join => {
                world.client();
            }
            Op::Leave(at) => {
                if let Some(client) = self.client(at) {
                    self.world.leave(client);
                }
            }
            Op::Request {
                client,
                fifo,
                preview,
                video,
                samples,
            } => {
                let Some(client) = self.client(client) else {
                    return;
                };
                let priority = if fifo {
                    Priority::Fifo
                } else {
                    Priority::Newest
                };
                let ticket = self.world.request(client, priority, video, samples.clone());
                if preview {
                    // The sync sample is itself what a preview would be.
                    let samples = samples.into_iter().enumerate();
                    let samples = samples.filter(|(_, s)| s % GOP != 0);
                    let what = (video, Purpose::Preview);
                    self.world.wish(client, ticket, what, samples);
                }
                self.tickets.insert(0, ticket.0);
            }
            Op::Harvest { video, samples } => {
                let harvest = world.harvest;
                if world.schedule.due(harvest) > 0 {
                    // It asks for one thing at a time.
                    return;
                }
                let ticket = world.request(harvest, Priority::Newest, video, samples);
                self.tickets.insert(0, ticket.0);
            }
            Op::Cancel(at) => {
                if let Some(ticket) = self.tickets.get(at) {
                    world.cancel(*ticket, None);
                }
            }
            Op::CancelOne(at, position) => {
                if let Some(ticket) = self.tickets.get(at) {
                    world.cancel(*ticket, Some(position));
                }
            }
            Op::Block(at, blocked) => {
                if let Some(client) = self.client(at) {
                    self.world.block(client, blocked);
                }
            }
            Op::Pump => world.pump(),
            Op::Read(which, more) => world.read(which, more),
            Op::ReadFails(which) => world.read_fails(which),
            Op::Step(which) => world.step(which),
        }
    }
}

fn limits() -> impl Strategy<Value = FetchLimits> {
    let bytes = prop_oneof![
        Just(0_u64),
        Just(1),
        30..300_u64,
        300..3000_u64,
        Just(u64::MAX),
    ];
    (0..4_usize, bytes).prop_map(|(concurrent, bytes)| FetchLimits { concurrent, bytes })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn nothing_is_lost_and_all_that_must_hold_holds(
        workers in 1..4_usize,
        limits in limits(),
        costs in prop::collection::vec(prop_oneof![Just(10_u64), Just(200), Just(700)], 2),
        outputs in 1..4_usize,
        ops in prop::collection::vec(op(), 1..250),
    ) {
        let mut play = Play { world: World::new(workers, limits), tickets: Vec::new() };
        play.world.outputs = outputs;
        play.world.client();
        play.world.client();
        play.world.cost = (0..).zip(costs).map(|(video, cost)| (video, cost * MILLI)).collect();
        for op in ops {
            play.play(op);
            check::all(&play.world);
        }
        // Those who take nothing stay as they are, and nothing is held for them.
        play.world.settle();
        for client in play.world.clients.clone() {
            play.world.block(client, false);
        }
        play.world.settle();
        prop_assert_eq!(play.world.waits().count(), 0);
    }
}
