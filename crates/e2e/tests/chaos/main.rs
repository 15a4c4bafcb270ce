//! A storm: clients of all kinds at a server over a real S3 server, while the store fails in every
//! way and recovers, objects are replaced by other videos, decoding processes are killed, and
//! clients vanish. No picture is wrong, no answer is lost, the memory stays within its bounds, and
//! when it is over, all is as if it had not been.
//!
//! Half a minute; `SOAK_MINUTES` makes it longer (`make soak`). What is done follows from
//! `CHAOS_SEED`; when it is done does not, since other programs have their own time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod clients;
#[path = "../common/mod.rs"]
mod common;
mod figures;
mod shelf;
mod trouble;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Client, Random, health, memory_mib};
use figures::Figures;
use futures::future::join_all;
use serde_json::json;
use shelf::Shelf;
use testkit::programs::Server;
use testkit::proxy::Proxy;
use tokio::task::JoinSet;

const CACHE_MIB: f64 = 48.0;
const SESSIONS: usize = 256;

/// The server, what it serves, and how it goes.
pub(crate) struct Place {
    pub(crate) server: Server,
    pub(crate) proxy: Proxy,
    pub(crate) shelf: Shelf,
    pub(crate) figures: Figures,
    over: AtomicBool,
}

impl Place {
    async fn start() -> Self {
        let shelf = Shelf::fill().await;
        let proxy = Proxy::before(shelf.bucket().endpoint()).unwrap();
        let (cache, sessions) = (format!("{CACHE_MIB}MiB"), SESSIONS.to_string());
        let args = [
            ["--cache-size", &cache],
            ["--max-sessions", &sessions],
            ["--storage-timeout", "3s"],
            // Each request looks at the object: what is told of it is true when it is told.
            ["--http-lifetime", "0s"],
        ];
        let server = shelf.bucket().serve_by(&proxy.endpoint(), &args.concat());
        Self {
            server: server.unwrap(),
            proxy,
            shelf,
            figures: Figures::default(),
            over: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

fn duration() -> Duration {
    let minutes = std::env::var("SOAK_MINUTES").unwrap_or_default();
    let minutes: f64 = minutes.parse().unwrap_or(0.5);
    Duration::from_secs_f64(minutes * 60.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_wrong_or_lost_in_a_storm() {
    let seed = std::env::var("CHAOS_SEED").unwrap_or_default();
    let seed: u64 = seed.parse().unwrap_or(1);
    println!("CHAOS_SEED={seed}, {:?}", duration());
    let place = Arc::new(Place::start().await);
    let mut random = Random::new(seed);
    let mut tasks = JoinSet::new();
    {
        let mut start = |kind: &'static str, count: usize, run: clients::Run| {
            for _ in 0..count {
                let (place, random) = (Arc::clone(&place), Random::new(random.next()));
                place.figures.kind(kind);
                tasks.spawn(run(place, random));
            }
        };
        start("scrubber", 6, clients::scrubber);
        start("batch", 3, clients::batch);
        start("browser", 4, clients::browser);
        start("slow reader", 2, clients::slow);
        start("vanishing", 2, clients::vanishing);
        start("rubbish", 2, clients::rubbish);
        start("faults", 1, trouble::faults);
        start("replacer", 1, trouble::replacer);
        start("killer", 1, trouble::killer);
    }
    let begun = Instant::now();
    while begun.elapsed() < duration() {
        tokio::time::sleep(Duration::from_millis(200)).await;
        // Who fails, fails the test now and not after the rest of the time.
        if let Some(ended) = tasks.try_join_next() {
            ended.unwrap();
            panic!("somebody has left early");
        }
    }
    place.over.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    place.proxy.heal_all();
    calm(&place, &mut random).await;
    let peak = memory_mib(&place.server, "VmHWM");
    println!("{}", place.figures.report(&place.proxy, peak));
    place.figures.check_that_it_was_a_storm(&place.proxy);
    assert!(peak < CACHE_MIB + 100.0, "{peak} MiB");
    assert!(!place.server.log().contains("panicked"));
}

/// Waits for what must come to be.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// All is over: every video is served as it is now, to as many as may come.
async fn calm(place: &Arc<Place>, random: &mut Random) {
    let quiet = || place.proxy.pending() == 0;
    until("requests to the store are left", quiet).await;
    for video in place.shelf.videos() {
        let mut client = Client::connect(&place.server).await;
        let version = video.settled().await;
        let begun = Instant::now();
        // A busy machine may be too slow for a read at once.
        while !is_served(place, &mut client, video, random, version).await {
            let (key, time) = (video.key(), begun.elapsed());
            assert!(
                time < Duration::from_secs(120),
                "{key} is not served when all is over"
            );
        }
    }
    assert!(health(&place.server).ends_with("ok"));
    // No session of those that are gone is left: there is room for as many as there may be.
    let mut all = Vec::new();
    let begun = Instant::now();
    while all.len() < SESSIONS {
        let time = begun.elapsed();
        assert!(time < Duration::from_secs(120), "sessions are left");
        match tokio_tungstenite::connect_async(place.server.websocket()).await {
            Ok((socket, _)) => all.push(socket),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    join_all(all.iter_mut().map(|socket| socket.close(None))).await;
    drop(all);
    // Nothing is asked of the store any more, and the server holds no descriptors of it all.
    let descriptors = Path::new("/proc")
        .join(place.server.id().to_string())
        .join("fd");
    let held = || descriptors.read_dir().unwrap().count();
    let quiet = || place.proxy.pending() == 0 && held() < 200;
    until("requests or descriptors are left", quiet).await;
}

/// Whether some frames of a video come; they are right, and of this version, if they do.
async fn is_served(
    place: &Place,
    client: &mut Client,
    video: &shelf::Video,
    random: &mut Random,
    version: u32,
) -> bool {
    let Some(mut view) = clients::View::open(place, client, video).await else {
        return false;
    };
    let wanted: Vec<u64> = (0..8).map(|_| random.below(shelf::FRAMES) as u64).collect();
    view.request(client, &wanted, json!({})).await;
    let errors = view.drain(client).await;
    assert!(view.version().is_none_or(|shown| shown == version));
    errors == 0
}
