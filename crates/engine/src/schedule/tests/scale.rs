//! How long it takes with as many clients and orders as there may be. Nothing is asserted of
//! times: they are printed (`--nocapture`).

use std::time::{Duration, Instant};

use super::world::{Bytes, GOP, NO_LIMITS, Tested, name, size_between};
use crate::schedule::{
    ClientId, ClientKind, FetchLimits, GopKey, ImageKey, Purpose, Schedule, TicketId, Wish,
};
use crate::ticket::{Output, Priority};

#[derive(Default)]
struct Times {
    all: Duration,
    longest: Duration,
    count: u32,
}

impl Times {
    fn of<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = call();
        let took = began.elapsed();
        self.all += took;
        self.longest = self.longest.max(took);
        self.count += 1;
        result
    }

    fn print(&self, what: &str) {
        let mean = self.all / self.count.max(1);
        let Self { longest, count, .. } = self;
        println!("{what:>14}: mean {mean:>9.1?}, longest {longest:>9.1?} of {count}");
    }
}

struct Crowd {
    schedule: Tested,
    clients: Vec<ClientId>,
    tickets: Vec<TicketId>,
}

/// Each client wants as many images, and shares its video with 15 others.
fn crowd(clients: usize, orders: u32) -> Crowd {
    let mut crowd = Crowd {
        schedule: Schedule::new(),
        clients: Vec::new(),
        tickets: Vec::new(),
    };
    let mut times = Times::default();
    for number in 0..clients {
        let client = crowd.schedule.add_client(ClientKind::Session);
        let (ticket, rank) = crowd.schedule.add_ticket(client, Priority::Newest);
        let video = (number / 16) as u8;
        let key: std::sync::Arc<str> = name(video).into();
        for position in 0..orders {
            let sample = position * 16 + number as u32 % 16;
            let wish = Wish {
                client,
                ticket,
                position: position as usize,
                purpose: Purpose::Exact,
                image: ImageKey {
                    video: key.clone(),
                    sample,
                    output: Output::default(),
                },
                start: sample / GOP * GOP,
                video,
                sink: 0,
            };
            times.of(|| crowd.schedule.submit(wish, rank));
        }
        crowd.clients.push(client);
        crowd.tickets.push(ticket);
    }
    times.print("submit");
    crowd
}

fn measure(clients: usize, orders: u32) {
    println!("{clients} clients with {orders} orders each");
    let Crowd {
        mut schedule,
        clients,
        tickets,
    } = crowd(clients, orders);
    let limits = FetchLimits {
        concurrent: 4,
        ..NO_LIMITS
    };
    let [mut fetch, mut fetched, mut pick, mut look] = <[Times; 4]>::default();
    let [mut complete, mut end, mut cancel, mut remove] = <[Times; 4]>::default();
    for _ in 0..2000 {
        let read = fetch.of(|| schedule.next_fetch(limits, size_between));
        let read = read.expect("somebody lacks bytes");
        let (end_of, bytes) = (read.to, size_between(&0, read.from, read.to));
        fetched.of(|| schedule.fetched(&read.gop, Bytes { end: end_of }, end_of, bytes));
    }
    for _ in 0..1000 {
        let picked = pick.of(|| schedule.pick()).expect("there is work");
        let ahead: Vec<u32> = picked.claims.iter().map(|c| c.sample).collect();
        look.of(|| schedule.look(picked.pass, &ahead));
        for order in schedule.claimed(picked.pass) {
            complete.of(|| schedule.complete(order));
        }
        schedule.charge(picked.pass, 1_000_000);
        end.of(|| schedule.end_pass(picked.pass, &Default::default()));
    }
    for (at, ticket) in tickets.iter().enumerate().skip(1).step_by(2) {
        cancel.of(|| schedule.cancel(*ticket, Some(at)));
    }
    for client in clients {
        remove.of(|| schedule.remove_client(client));
    }
    assert!(schedule.is_empty() && schedule.held_bytes() == 0);
    for (times, what) in [
        (fetch, "next_fetch"),
        (fetched, "fetched"),
        (pick, "pick"),
        (look, "look"),
        (complete, "complete"),
        (end, "end_pass"),
        (cancel, "cancel one"),
        (remove, "remove_client"),
    ] {
        times.print(what);
    }
}

#[test]
fn a_thousand_clients() {
    measure(1024, 128);
}

/// All that one client may want, of one GOP without end.
#[test]
fn one_gop_without_end() {
    let mut schedule: Tested = Schedule::new();
    let client = schedule.add_client(ClientKind::Session);
    let (ticket, rank) = schedule.add_ticket(client, Priority::Fifo);
    let key: std::sync::Arc<str> = name(0).into();
    let [mut submit, mut look, mut complete] = <[Times; 3]>::default();
    for position in 0..4096 {
        let wish = Wish {
            client,
            ticket,
            position: position as usize,
            purpose: Purpose::Exact,
            image: ImageKey {
                video: key.clone(),
                sample: position,
                output: Output::default(),
            },
            start: 0,
            video: 0,
            sink: 0,
        };
        submit.of(|| schedule.submit(wish, rank));
    }
    let gop = GopKey {
        video: key,
        start: 0,
    };
    schedule.next_fetch(NO_LIMITS, size_between);
    schedule.fetched(&gop, Bytes { end: 4096 }, 4096, 1);
    let picked = schedule.pick().expect("there is work");
    for claim in &picked.claims {
        complete.of(|| schedule.complete(claim.order));
        if picked.signal.take() {
            look.of(|| schedule.look(picked.pass, &[]));
        }
    }
    assert!(schedule.orders.is_empty());
    println!("4096 orders in one GOP");
    submit.print("submit");
    complete.print("complete");
    look.print("look");
}
