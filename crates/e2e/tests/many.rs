//! Two hundred people, each with a video of their own in a bucket: the server's memory is that of
//! its cache, and a fixed rest.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::{Client, Random, memory_mib};
use futures::future::join_all;
use testkit::bucket::Bucket;
use testkit::proxy::{self, Proxy};
use testkit::{footage, jpeg, reference};

const SESSIONS: usize = 200;
const CACHE_MIB: f64 = 64.0;

/// The offset of each frame, in presentation order.
fn frames(clip: &footage::Clip) -> Vec<u64> {
    let mut packets = reference::packets(&clip.path, Default::default()).unwrap();
    packets.sort_by_key(|packet| packet.pts);
    packets.iter().map(|packet| packet.position).collect()
}

#[tokio::test]
async fn two_hundred_sessions_on_as_many_objects_stay_within_the_memory() {
    let bucket = Bucket::start().unwrap();
    let proxy = Proxy::before(bucket.endpoint()).unwrap();
    let mut videos = Vec::new();
    for name in ["default_gop", "closed_gop", "open_gop_rasl", "bits_10"] {
        let clip = footage::clip(name).unwrap();
        bucket.put_file(name, &clip.path).await.unwrap();
        videos.push((name, frames(&clip)));
    }
    let mut sessions = Vec::new();
    for n in 0..SESSIONS {
        let (name, frames) = &videos[n % videos.len()];
        let key = format!("{n}/{name}.mp4");
        bucket.copy(name, &key).await.unwrap();
        sessions.push((key, frames));
    }
    let cache = format!("{CACHE_MIB}MiB");
    let server = bucket.serve_by(&proxy.endpoint(), &["--cache-size", &cache]);
    let server = server.unwrap();
    let work = sessions.iter().enumerate().map(|(n, (key, frames))| {
        let server = &server;
        async move {
            let mut client = Client::connect(server).await;
            assert_eq!(client.set_video(key).await["ok"], true, "{key}");
            let mut random = Random::new(n as u64);
            for _ in 0..3 {
                let wanted: Vec<usize> = (0..4).map(|_| random.below(frames.len())).collect();
                let offsets: Vec<u64> = wanted.iter().map(|n| frames[*n]).collect();
                for (image, number) in client.frames(&offsets).await.into_iter().zip(wanted) {
                    let shown = jpeg::frame_number(&image.unwrap()).unwrap();
                    assert_eq!(shown as usize, number, "{key}");
                }
            }
            // It stays, with what it has open, until all have theirs.
            client
        }
    });
    let clients = join_all(work).await;
    let peak = memory_mib(&server, "VmHWM");
    let seen = proxy.since(0);
    println!(
        "{} sessions, {} frames: at most {peak:.1} MiB with a cache of {CACHE_MIB} MiB; {} requests \
         for {:.1} MiB, at most {} at once over {} connections",
        clients.len(),
        SESSIONS * 12,
        seen.len(),
        proxy::bytes(&seen) as f64 / (1 << 20) as f64,
        proxy.most_at_once(),
        proxy.connections()
    );
    assert!(peak < CACHE_MIB + 100.0, "{peak} MiB");
    // As many at once as docs/configuration.md says, whoever asks; what the server has read to its
    // end, the proxy notices a little later.
    assert!(proxy.most_at_once() <= 64 + 16, "{}", proxy.most_at_once());
}
