//! When everything is done, nothing goes on. Alone in its program: it looks at its threads.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::time::Duration;

use common::{Place, ask, check_numbers, clip_bytes, frames, outcomes, request_of, until};
use media::DecodeIndex;

/// Ticks of the processor that the worker threads have used, and the decoders' own, which are called
/// as those who began them.
fn ticks_of_workers() -> u64 {
    let mut ticks = 0;
    let mut workers = 0;
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let Ok(stat) = fs::read_to_string(task.unwrap().path().join("stat")) else {
            continue;
        };
        let (head, tail) = stat.rsplit_once(')').unwrap();
        if !head.contains("(decode-") {
            continue;
        }
        workers += 1;
        // utime and stime, fields 14 and 15; what follows the name begins with field 3.
        let fields: Vec<&str> = tail.split_whitespace().collect();
        ticks += fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    }
    assert!(workers >= 4, "{workers}");
    ticks
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_workers_wait() {
    /// What is looked at: a loop that does not wait would use all of it.
    const WHILE: Duration = Duration::from_millis(400);
    let place = Place::with(&["closed_gop", "open_gop_rasl"]);
    let mut file = clip_bytes("closed_gop");
    let middle = file.len() / 2;
    file[middle..middle + 3000].fill(0x55);
    place.write("damaged", &file);
    let engine = place
        .engine(|c| {
            c.workers = 4;
            c.cache_bytes = 1 << 20;
            c.harvest = true;
            c.max_waiting_image_bytes = 1;
        })
        .await;
    let mut held = Vec::new();
    for name in ["closed_gop", "damaged", "open_gop_rasl"] {
        let video = engine.open(name).await.unwrap();
        let samples = frames(&video);
        for place in [3, 60, 30] {
            ask(&engine, &video, &samples[place..=place]).await;
        }
        // Takes nothing, so that work for it waits.
        let client = engine.client();
        let ticket = request_of(&client, &video, &samples);
        held.push((client, ticket));
    }
    // Somebody leaves in the middle.
    drop(held.remove(0));
    until(|| {
        let before = engine.counters();
        let ticks = ticks_of_workers();
        // A moment to look at, not to wait for: it is looked at again as long as something moves.
        std::thread::sleep(WHILE);
        engine.counters() == before && ticks_of_workers() <= ticks + 1
    })
    .await;
    // It sleeps, and wakes up.
    let video = engine.open("closed_gop").await.unwrap();
    let samples = frames(&video);
    for &sample in &samples {
        check_numbers(&video, &[sample], &ask(&engine, &video, &[sample]).await);
    }
    for (_, ticket) in held {
        outcomes(ticket, samples.len()).await;
    }
    let wanted = [DecodeIndex(0)];
    check_numbers(&video, &wanted, &ask(&engine, &video, &wanted).await);
}
