//! Nothing is done twice: one image for all who want it, one read for each byte, one pass for what
//! lies on its way, and decoders that go on where they stand.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{
    Place, ask_as, bytes_of, check_numbers, clip_bytes, closures, ends, frames, fresh_images,
    gop_of_250, outcomes, request_of, slow_clip, until,
};
use engine::{Engine, OpenError, Video};
use futures::FutureExt;
use media::DecodeIndex;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use storage::Counters;

#[tokio::test(flavor = "multi_thread")]
async fn one_picture_for_ten_clients_is_made_once() {
    let place = Place::new();
    place.write("slow", &slow_clip());
    let engine = place.engine(|_| {}).await;
    let video = engine.open("slow").await.unwrap();
    let wanted = [DecodeIndex(100)];
    let clients: Vec<_> = (0..10).map(|_| engine.client()).collect();
    let tickets: Vec<_> = (clients.iter())
        .map(|client| request_of(client, &video, &wanted))
        .collect();
    let mut images = Vec::new();
    for ticket in tickets {
        let got = outcomes(ticket, 1).await;
        check_numbers(&video, &wanted, &got);
        images.push(got[0].result.clone().unwrap().bytes);
    }
    images.dedup();
    assert_eq!(images.len(), 1);
    let counters = engine.counters();
    assert_eq!(counters.images_encoded, 1);
    assert_eq!(counters.access_units_decoded, 101);
    assert_eq!((counters.joined, counters.passes), (9, 1));
    assert_eq!(counters.bytes_fetched, bytes_of(&video, 0..=100));
    assert_eq!(clients[1].stats().joined, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gop_that_ten_clients_want_in_any_order_is_read_once_and_each_picture_made_once() {
    let place = Place::new();
    place.write("gop", &gop_of_250());
    for (workers, together) in [(1, 250), (2, 1), (2, 40), (5, 7)] {
        let engine = place
            .engine(|c| {
                c.workers = workers;
                c.cache_bytes = 256 << 20;
            })
            .await;
        let video = engine.open("gop").await.unwrap();
        assert_eq!(video.index().sync_samples().count(), 1);
        let opened = engine.store().counters();
        let mut running = Vec::new();
        for seed in 0..10 {
            let (engine, video) = (engine.clone(), video.clone());
            running.push(tokio::spawn(async move {
                let mut samples = frames(&video);
                samples.shuffle(&mut StdRng::seed_from_u64(seed));
                let client = engine.client();
                let tickets: Vec<_> = (samples.chunks(together))
                    .map(|chunk| (chunk, request_of(&client, &video, chunk)))
                    .collect();
                let taken = tickets.into_iter().map(|(chunk, ticket)| {
                    let video = &video;
                    async move {
                        let got = outcomes(ticket, chunk.len()).await;
                        check_numbers(video, chunk, &got);
                    }
                });
                futures::future::join_all(taken).await;
            }));
        }
        for one in running {
            ends(one).await.unwrap();
        }
        let read = engine.store().counters().bytes - opened.bytes;
        let whole = bytes_of(&video, 0..video.index().sample_count());
        println!("{workers} workers, {together} together: {read} of {whole} bytes read");
        assert_eq!(read, whole, "each byte once");
        let counters = engine.counters();
        assert_eq!(counters.bytes_fetched, whole);
        assert_eq!(counters.images_encoded, 250, "{counters:?}");
        assert_eq!(counters.joined + counters.cache_hits, 9 * 250);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_on_the_way_of_a_running_pass_joins_it() {
    let place = Place::new();
    place.write("slow", &slow_clip());
    {
        let workers = 1;
        let engine = place.engine(|c| c.workers = workers).await;
        let video = engine.open("slow").await.unwrap();
        let (first, second) = (engine.client(), engine.client());
        let far = request_of(&first, &video, &[DecodeIndex(119)]);
        until(|| engine.counters().access_units_decoded > 0).await;
        let near = [DecodeIndex(110)];
        check_numbers(&video, &near, &ask_as(&second, &video, &near).await);
        let at_near = engine.counters();
        assert_eq!(at_near.joined_passes, 1, "{at_near:?}");
        check_numbers(&video, &[DecodeIndex(119)], &outcomes(far, 1).await);
        let counters = engine.counters();
        assert_eq!((counters.passes, counters.access_units_decoded), (1, 120));
    }
}

/// Opens fifty times, all before the first is done; what was read for it. `None`: one was done
/// before the last began.
async fn at_once(
    engine: &Engine,
    name: &str,
) -> Option<(Vec<Result<Arc<Video>, OpenError>>, Counters)> {
    let before = engine.store().counters();
    let mut opening: Vec<_> = (0..50).map(|_| Box::pin(engine.open(name))).collect();
    for one in &mut opening {
        if one.now_or_never().is_some() {
            return None;
        }
    }
    let opened = ends(futures::future::join_all(opening)).await;
    let after = engine.store().counters();
    let read = Counters {
        requests: after.requests - before.requests,
        bytes: after.bytes - before.bytes,
        ..Counters::default()
    };
    Some((opened, read))
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_who_open_at_once_read_the_index_once() {
    let place = Place::with(&["closed_gop", "open_gop_rasl"]);
    let alone = place.engine(|_| {}).await;
    alone.open("closed_gop").await.unwrap();
    let once = alone.store().counters();
    for cache_bytes in [0, 16 << 20] {
        let (opened, read) = loop {
            let engine = place.engine(|c| c.cache_bytes = cache_bytes).await;
            if let Some(opened) = at_once(&engine, "closed_gop").await {
                break opened;
            }
        };
        assert_eq!(read, once);
        let first = opened[0].as_ref().unwrap();
        for video in &opened {
            assert!(Arc::ptr_eq(video.as_ref().unwrap(), first));
        }
        // What is not there is told to all, and is looked for again when it is asked for again.
        let engine = place.engine(|c| c.cache_bytes = cache_bytes).await;
        let results = loop {
            if let Some((results, _)) = at_once(&engine, "later").await {
                break results;
            }
        };
        assert!(results.iter().all(Result::is_err));
        place.write("later", &clip_bytes("all_intra"));
        engine.open("later").await.unwrap();
        std::fs::remove_file(place.path("later")).unwrap();
    }
    // As tasks of their own, some of which leave: each that stays has its video, and the index is
    // read once, however often the object was looked at.
    let engine = place.engine(|c| c.cache_bytes = 16 << 20).await;
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let engine = engine.clone();
            tokio::spawn(async move { engine.open("closed_gop").await.unwrap() })
        })
        .collect();
    for (n, task) in tasks.into_iter().enumerate() {
        if n % 7 == 0 {
            task.abort();
        } else {
            let video = ends(task).await.unwrap();
            assert_eq!(video.index().frame_count(), 72);
        }
    }
}

/// Steps as a person makes them who looks at a video.
fn walk(random: &mut StdRng, frames: usize, steps: usize) -> Vec<Vec<usize>> {
    let mut at = random.random_range(0..frames);
    let mut walk = Vec::new();
    while walk.len() < steps {
        let kind = random.random_range(0..6);
        for _ in 0..random.random_range(1..8) {
            let here = match kind {
                0 | 1 => vec![(at + 1).min(frames - 1)],
                2 => vec![at.saturating_sub(1)],
                3 => vec![random.random_range(0..frames)],
                4 => vec![(at + random.random_range(0..12)).min(frames - 1)],
                _ => (0..random.random_range(2..6))
                    .map(|_| random.random_range(0..frames))
                    .collect(),
            };
            at = here[0];
            walk.push(here);
        }
    }
    walk
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decoder_that_goes_on_gives_what_a_fresh_one_gives() {
    let clips = [
        "default_gop",
        "open_gop_rasl",
        "closed_gop",
        "closed_gop_radl",
        "low_delay_p",
        "b_frames_8",
        "b_frames_one_reference",
        "b_without_pyramid",
        "scene_cuts_open_gop",
        "intra_refresh",
        "temporal_layers",
        "fields",
        "wavefronts_without_sao",
        "annexb_open_gop",
        "bits_10",
    ];
    let place = Place::with(&clips);
    let mut random = StdRng::seed_from_u64(11);
    let mut continued = 0;
    for name in clips {
        let engines = [
            place.engine(|c| c.workers = 1).await,
            place.engine(|c| c.workers = 3).await,
            // What was made is not made again: other pictures are asked of the decoder.
            place.engine(|c| c.cache_bytes = 64 << 20).await,
        ];
        let video = engines[0].open(name).await.unwrap();
        let samples = frames(&video);
        let fresh: Vec<Bytes> = fresh_images(&place, name, &samples).await;
        for engine in engines {
            let video = engine.open(name).await.unwrap();
            let client = engine.client();
            for step in walk(&mut random, samples.len(), 80) {
                let wanted: Vec<DecodeIndex> = step.iter().map(|&f| samples[f]).collect();
                for outcome in ask_as(&client, &video, &wanted).await {
                    let frame = step[outcome.position];
                    let image = outcome.result.unwrap_or_else(|e| panic!("{name}: {e}"));
                    assert!(
                        image.bytes == fresh[frame],
                        "{name}: frame {frame} of {step:?} is not what a fresh decoder gives"
                    );
                }
            }
            let counters = engine.counters();
            assert_eq!((counters.fallback_passes, counters.repeated_passes), (0, 0));
            println!(
                "{name}: {} of {} passes went on, {} access units",
                counters.passes_continued, counters.passes, counters.access_units_decoded
            );
            continued += counters.passes_continued;
            if video.index().sync_samples().count() as u32 * 10 < video.index().sample_count() {
                assert!(counters.passes_continued > 0, "{name}");
            }
        }
    }
    assert!(continued > 500, "{continued}");
}

#[tokio::test(flavor = "multi_thread")]
async fn walking_forward_costs_about_an_access_unit_for_each_frame() {
    let place = Place::with(&["low_delay_p", "default_gop", "b_frames_8", "closed_gop"]);
    place.write("gop", &gop_of_250());
    for name in [
        "low_delay_p",
        "closed_gop",
        "default_gop",
        "b_frames_8",
        "gop",
    ] {
        for cache_bytes in [0, 64 << 20] {
            let engine = place
                .engine(|c| {
                    c.workers = 1;
                    c.cache_bytes = cache_bytes;
                })
                .await;
            let video = engine.open(name).await.unwrap();
            let samples = frames(&video);
            let client = engine.client();
            for &sample in &samples {
                let got = ask_as(&client, &video, &[sample]).await;
                check_numbers(&video, &[sample], &got);
            }
            let decoded = engine.counters().access_units_decoded as f64 / samples.len() as f64;
            let alone = if name == "gop" {
                gop_of_250()
            } else {
                clip_bytes(name)
            };
            let closures = closures(&video, &alone, &samples);
            let needed: usize = closures.iter().map(|c| c.len()).sum();
            println!(
                "{name}, cache {cache_bytes}: {decoded:.2} access units a frame forward, {:.2} from \
                 the IRAP",
                needed as f64 / samples.len() as f64
            );
            assert!(decoded <= 1.1, "{name}, cache {cache_bytes}: {decoded}");
        }
    }
}
