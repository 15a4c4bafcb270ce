//! Round trips and bytes are what a far bucket costs. A proxy between the server and a real S3
//! server counts them; here they are held to the budget of ARCHITECTURE.md.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use std::ops::Range;
use std::time::{Duration, Instant};

use common::{Client, Random};
use futures::future::join_all;
use testkit::bucket::Bucket;
use testkit::long::{Long, MoovPlace};
use testkit::programs::Server;
use testkit::proxy::{self, Proxy, Seen};
use testkit::reference::{self, Packet};
use testkit::{Recipe, footage, jpeg};

/// Requests that are sent side by side come within this time. A slower machine makes these tests
/// slower, not wrong: what comes later is another wave, and at worst one too many is counted.
const QUIET: Duration = Duration::from_millis(400);

const KIB: u64 = 1024;

/// A bucket, a proxy before it, a server behind that.
struct Place {
    server: Server,
    proxy: Proxy,
    bucket: Bucket,
}

impl Place {
    fn start(args: &[&str]) -> Self {
        let bucket = Bucket::start().unwrap();
        let proxy = Proxy::before(bucket.endpoint()).unwrap();
        let server = bucket.serve_by(&proxy.endpoint(), args).unwrap();
        Self {
            server,
            proxy,
            bucket,
        }
    }

    /// Sets a video; gives the requests that were answered until then.
    async fn set_video(&self, client: &mut Client, key: &str) -> Vec<Seen> {
        let mark = self.proxy.mark();
        let set = client.set_video(key).await;
        assert_eq!(set["ok"], true, "{key}: {:?}", client.refusals);
        // What is held belongs to what comes after.
        let mut seen = self.proxy.since(mark);
        seen.retain(|s| s.status.is_some());
        seen
    }
}

/// One request at a time goes its way alone, with nothing else going on.
const ALONE: [&str; 4] = ["--harvest", "off", "--hedge", "off"];

#[tokio::test]
async fn setting_a_video_takes_two_round_trips_and_little_more_than_moov() {
    let place = Place::start(&ALONE);
    place.proxy.gather(QUIET);
    let folder = tempfile::tempdir().unwrap();
    // As many frames as an hour has at 30 a second; the frames themselves need not be there.
    let rounds = (3600 * 30_u64).div_ceil(testkit::long::frames_of_a_round().unwrap());
    let long = |rounds, moov| Long {
        rounds,
        step: None,
        written: rounds,
        moov,
    };
    let videos = [
        ("short, moov first", long(1, MoovPlace::First)),
        ("short, moov last", long(1, MoovPlace::Last)),
        ("an hour, moov first", long(rounds, MoovPlace::First)),
        ("an hour, moov last", long(rounds, MoovPlace::Last)),
        (
            "a minute, moov in the middle",
            long(rounds.div_ceil(60), MoovPlace::Before(64 << 20)),
        ),
    ];
    let mut client = Client::connect(&place.server).await;
    let mut lines = Vec::new();
    for (name, long) in videos {
        let path = folder.path().join("long.mp4");
        let video = long.write(&path).unwrap();
        let key = name.replace([' ', ','], "_");
        place.bucket.put_file(&key, &path).await.unwrap();
        let seen = place.set_video(&mut client, &key).await;
        let moov = video.moov.end - video.moov.start;
        let (trips, bytes) = (proxy::waves(&seen), proxy::bytes(&seen));
        lines.push(format!(
            "{name:30} {:4} MiB, moov {:5} KiB: {trips} round trips, {} requests, moov + {} KiB",
            path.metadata().unwrap().len() >> 20,
            moov / KIB,
            seen.len(),
            (bytes as i64 - moov as i64) / KIB as i64
        ));
        let table = proxy::table(&seen);
        assert!(trips <= 2, "{name}: {trips} round trips\n{table}");
        assert!(
            bytes <= moov + 512 * KIB,
            "{name}: {bytes} bytes for a moov of {moov}\n{table}"
        );
    }
    println!("{}", lines.join("\n"));
}

/// Where a frame's GOP begins in the file, and the frame ends. A picture that is shown before its
/// IRAP may need the GOP before.
fn needed(packets: &[Packet], target: usize) -> Range<u64> {
    let frame = &packets[target];
    let irap = |before: usize| (0..=before).rev().find(|i| packets[*i].key).unwrap();
    let mut start = irap(target);
    if frame.pts < packets[start].pts && start > 0 {
        start = irap(start - 1);
    }
    packets[start].position..frame.position + frame.size
}

/// The requests that are for some of these bytes.
fn touching(seen: Vec<Seen>, bytes: &Range<u64>) -> Vec<Seen> {
    let touches = |s: &Seen| {
        let range = s.asked.range.as_ref();
        range.is_some_and(|r| r.start < bytes.end && bytes.start < r.end)
    };
    seen.into_iter().filter(touches).collect()
}

#[tokio::test]
async fn a_cold_frame_takes_one_round_trip_and_a_warm_one_none() {
    let place = Place::start(&ALONE);
    place.proxy.gather(QUIET);
    let mut client = Client::connect(&place.server).await;
    let mut random = Random::new(11);
    let mut lines = Vec::new();
    for name in ["closed_gop", "open_gop_rasl", "hev1", "scene_cuts"] {
        let clip = footage::clip(name).unwrap();
        let packets = reference::packets(&clip.path, Default::default()).unwrap();
        let second = (1..packets.len()).find(|i| packets[*i].key).unwrap();
        for turn in 0..3 {
            // An object of its own: nothing of it was ever read.
            let key = format!("{name}-{turn}");
            place.bucket.put_file(&key, &clip.path).await.unwrap();
            place.set_video(&mut client, &key).await;
            // Not in the first GOP, which is read ahead.
            let target = second + random.below(packets.len() - second);
            let range = needed(&packets, target);
            let mark = place.proxy.mark();
            let image = client.frames(&[packets[target].position]).await.remove(0);
            jpeg::frame_number(&image.unwrap()).unwrap();
            let seen = touching(place.proxy.since(mark), &range);
            let (trips, bytes) = (proxy::waves(&seen), proxy::bytes(&seen));
            let length = range.end - range.start;
            lines.push(format!(
                "{name:14} sample {target:3}: {trips} round trips, {bytes} bytes of {length}"
            ));
            let table = proxy::table(&seen);
            assert!(trips <= 1, "{name} {target}: {trips} round trips\n{table}");
            assert!(
                bytes as f64 <= 1.05 * length as f64,
                "{name} {target}: {bytes} bytes of {length}\n{table}"
            );

            // All that was fetched, from first to last, is at hand; but for pictures that are shown
            // before their IRAP, which need the GOP before.
            let mark = place.proxy.mark();
            let held = (0..packets.len()).filter(|i| range.contains(&packets[*i].position));
            let whole = held.filter(|i| needed(&packets, *i).start >= range.start);
            let known: Vec<u64> = whole.map(|i| packets[i].position).collect();
            for image in client.frames(&known).await {
                jpeg::frame_number(&image.unwrap()).unwrap();
            }
            let seen = touching(place.proxy.since(mark), &range);
            assert!(seen.is_empty(), "{name}\n{}", proxy::table(&seen));
        }
    }
    println!("{}", lines.join("\n"));
}

/// A GOP of 250 pictures.
fn gop_of_250() -> footage::Clip {
    let recipe = Recipe::new("gop_of_250").frames(250);
    footage::make(&recipe.x265("keyint=250:min-keyint=250:scenecut=0")).unwrap()
}

#[tokio::test]
async fn ten_sessions_read_each_byte_of_a_gop_at_most_once() {
    let place = Place::start(&["--hedge", "off"]);
    let clip = gop_of_250();
    place.bucket.put_file("gop", &clip.path).await.unwrap();
    let packets = reference::packets(&clip.path, Default::default()).unwrap();
    let gop: Range<u64> = {
        let last = packets.iter().max_by_key(|p| p.position).unwrap();
        packets[0].position..last.position + last.size
    };
    let begun = Instant::now();
    let sessions = (0..10).map(|seed| {
        let (server, packets) = (&place.server, &packets);
        async move {
            let mut client = Client::connect(server).await;
            assert_eq!(client.set_video("gop").await["ok"], true);
            let mut order: Vec<u64> = packets.iter().map(|p| p.position).collect();
            let mut random = Random::new(seed);
            for end in (1..order.len()).rev() {
                order.swap(end, random.below(end + 1));
            }
            // Each its share of the 250, then a few that others asked for.
            let own = order.split_off(order.len() - 50);
            for wanted in own.chunks(5) {
                for image in client.frames(wanted).await {
                    jpeg::frame_number(&image.unwrap()).unwrap();
                }
            }
        }
    });
    join_all(sessions).await;
    // Every frame of the GOP was asked for by now, or is.
    let mut client = Client::connect(&place.server).await;
    client.set_video("gop").await;
    let all: Vec<u64> = packets.iter().map(|p| p.position).collect();
    let mut shown: Vec<u32> = Vec::new();
    for image in client.frames(&all).await {
        shown.push(jpeg::frame_number(&image.unwrap()).unwrap());
    }
    shown.sort_unstable();
    assert_eq!(shown, (0..250).collect::<Vec<u32>>());

    let mut seen = place.proxy.since(0);
    // The index is read by its own requests: from the first byte, from the end, and `moov`.
    seen.retain(|s| s.asked.range.as_ref().is_some_and(|r| r.start >= gop.start));
    let seen = touching(seen, &gop);
    let mut ranges: Vec<Range<u64>> = seen.iter().filter_map(|s| s.asked.range.clone()).collect();
    ranges.sort_by_key(|range| range.start);
    let table = proxy::table(&seen);
    for pair in ranges.windows(2) {
        assert!(pair[0].end <= pair[1].start, "read twice\n{table}");
    }
    let (bytes, length) = (proxy::bytes(&seen), gop.end - gop.start);
    println!(
        "750 frames for 11 sessions in {:.1?}: {} requests, {bytes} bytes of a GOP of {length}, \
         at most {} at once",
        begun.elapsed(),
        seen.len(),
        place.proxy.most_at_once()
    );
    assert!(bytes as f64 <= 1.05 * length as f64, "{bytes}\n{table}");
}
