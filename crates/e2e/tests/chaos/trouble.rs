//! What goes wrong: the store, the objects, the processes that decode.

use std::future::Future;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use testkit::proxy::{Fault, Part, Rule};

use super::Place;
use super::clients::Task;
use super::common::Random;

fn millis(random: &mut Random, from: usize, to: usize) -> Duration {
    Duration::from_millis((from + random.below(to - from)) as u64)
}

/// Some milliseconds, as long as it is not over.
async fn pause(place: &Place, random: &mut Random, from: usize, to: usize) {
    if !place.is_over() {
        tokio::time::sleep(millis(random, from, to)).await;
    }
}

/// The store fails in one way after the other, for a few requests or for all, and recovers.
pub(crate) fn faults(place: Arc<Place>, mut random: Random) -> Task {
    Box::pin(async move {
        while !place.is_over() {
            for _ in 0..1 + random.below(4) {
                let fault = fault(&place, &mut random);
                let times = 1 + random.below(6) as u32;
                let mut rule = Rule::new(fault).times(times);
                let videos = place.shelf.videos();
                if random.below(2) == 0 {
                    rule = rule.key(videos[random.below(videos.len())].key());
                }
                let parts = [Part::Any, Part::Any, Part::Head, Part::Tail];
                place.proxy.rule(rule.part(parts[random.below(4)].clone()));
                pause(&place, &mut random, 20, 250).await;
            }
            // It is gone altogether for a while.
            if random.below(6) == 0 {
                let gone = [
                    Fault::Reset,
                    Fault::Refused {
                        status: 503,
                        code: "ServiceUnavailable",
                    },
                    Fault::Hang,
                ];
                place.proxy.rule(Rule::new(gone[random.below(3)].clone()));
                place.figures.add("times that the store was gone", 1);
                pause(&place, &mut random, 200, 1500).await;
            }
            place.proxy.heal_all();
            pause(&place, &mut random, 50, 800).await;
        }
    })
}

fn fault(place: &Arc<Place>, random: &mut Random) -> Fault {
    let refused = |status, code| Fault::Refused { status, code };
    match random.below(15) {
        0 => Fault::Late(millis(random, 50, 600)),
        1 => refused(503, "SlowDown"),
        2 => refused(503, "ServiceUnavailable"),
        3 => refused(500, "InternalError"),
        4 => refused(403, "AccessDenied"),
        5 => refused(404, "NoSuchKey"),
        6 => Fault::Reset,
        7 => Fault::ResetMidBody,
        8 => Fault::CutShort,
        9 => Fault::HalfBody,
        10 => Fault::WrongRange,
        11 => Fault::StaleTag,
        12 => Fault::Hang,
        13 => Fault::HangMidBody,
        _ => {
            // The object is replaced between two reads.
            let (place, chance) = (Arc::clone(place), random.next());
            Fault::Meanwhile(Arc::new(move || {
                let place = Arc::clone(&place);
                let work = async move {
                    let videos = place.shelf.videos();
                    let video = &videos[chance as usize % videos.len()];
                    place.shelf.replace(video, chance >> 8).await;
                    place.figures.add("objects replaced", 1);
                };
                // To its end, even if the one who asked is gone by then.
                let work = async move { tokio::spawn(work).await.unwrap() };
                Box::pin(work) as Pin<Box<dyn Future<Output = ()> + Send>>
            }))
        }
    }
}

/// Objects become other videos.
pub(crate) fn replacer(place: Arc<Place>, mut random: Random) -> Task {
    Box::pin(async move {
        while !place.is_over() {
            let videos = place.shelf.videos();
            let video = &videos[random.below(videos.len())];
            place.shelf.replace(video, random.next()).await;
            place.figures.add("objects replaced", 1);
            pause(&place, &mut random, 100, 1200).await;
        }
    })
}

/// Processes that decode for the server die, or stop and say nothing. Does nothing where it decodes in
/// its own.
pub(crate) fn killer(place: Arc<Place>, mut random: Random) -> Task {
    Box::pin(async move {
        while !place.is_over() {
            pause(&place, &mut random, 300, 2000).await;
            let workers = decode_workers(place.server.id());
            if workers.is_empty() {
                continue;
            }
            let worker = workers[random.below(workers.len())];
            let (signal, what) = match random.below(4) {
                0 => ("-STOP", "processes stopped"),
                _ => ("-KILL", "processes killed"),
            };
            // Counted before: what comes of it may be seen at once.
            place.figures.add(what, 1);
            // It may be gone by itself.
            let _ = Command::new("kill")
                .args([signal, &worker.to_string()])
                .status();
        }
    })
}

/// The server's children that decode, by /proc.
fn decode_workers(server: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let read = |what: &str| std::fs::read(entry.path().join(what)).unwrap_or_default();
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        // After the name, which may have anything in it: the state, then the parent.
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1));
        let arguments = read("cmdline");
        let mut arguments = arguments.split(|b| *b == 0);
        if parent.and_then(|p| p.parse().ok()) == Some(server)
            && arguments.any(|argument| argument == b"decode-worker")
        {
            found.push(id);
        }
    }
    found
}
