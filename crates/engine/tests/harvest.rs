//! What idle workers make before anybody asks: what, in which order, and that it costs nobody
//! anything.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;

use common::{
    Place, ask, ask_as, bytes_of, cached, check_numbers, clip_bytes, closures, frames, gop_of_250,
    many_iraps, next, number, request_of, slow_clip, union, until,
};
use engine::{Engine, EngineConfig, FrameTarget, Output, RequestOptions, Video};
use media::DecodeIndex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

async fn harvesting(place: &Place, change: impl FnOnce(&mut EngineConfig)) -> Engine {
    place
        .engine(|c| {
            c.workers = 1;
            c.cache_bytes = 256 << 20;
            c.harvest = true;
            change(c);
        })
        .await
}

/// Asks for everything and says that nothing had to be decoded or read for it.
async fn all_is_there(engine: &Engine, video: &Arc<Video>, samples: &[DecodeIndex]) {
    let client = engine.client();
    check_numbers(video, samples, &ask_as(&client, video, samples).await);
    let stats = client.stats();
    assert_eq!(stats.cache_hits, samples.len() as u64);
    assert_eq!((stats.access_units_decoded, stats.bytes_fetched), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_iraps_of_an_opened_video_are_made_coarse_to_fine() {
    let place = Place::new();
    place.write("iraps", &many_iraps());
    for workers in [1, 2] {
        let engine = harvesting(&place, |c| c.workers = workers).await;
        let video = engine.open("iraps").await.unwrap();
        let samples = frames(&video);
        assert_eq!(video.index().sync_samples().count(), samples.len());
        until(|| engine.counters().images_harvested >= 8).await;
        let mut there = cached(&engine.client(), &video, &samples).await;
        assert!(there.len() >= 8);
        // As far apart as so many can be, but for powers of two.
        let even = samples.len() >> there.len().ilog2();
        there.push(samples.len());
        let gap = there.windows(2).map(|w| w[1] - w[0]).max().unwrap();
        assert!(there[0] == 0 && gap <= even, "{there:?}");

        until(|| engine.counters().images_encoded >= samples.len() as u64).await;
        all_is_there(&engine, &video, &samples).await;
        let counters = engine.counters();
        // But for those that were in the making when they were looked for.
        let asked = |all: u64, harvested: u64| (all - harvested) as usize <= workers;
        assert!(asked(counters.images_encoded, counters.images_harvested));
        assert!(asked(
            counters.access_units_decoded,
            counters.access_units_harvested
        ));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gop_under_the_cursor_is_made_in_the_direction_of_travel() {
    let place = Place::new();
    place.write("slow", &slow_clip());

    // Forward.
    let engine = harvesting(&place, |_| {}).await;
    let video = engine.open("slow").await.unwrap();
    let samples = frames(&video);
    let client = engine.client();
    ask_as(&client, &video, &samples[40..41]).await;
    ask_as(&client, &video, &samples[41..42]).await;
    until(|| engine.counters().images_harvested >= 20).await;
    let there = cached(&client, &video, &samples).await;
    let behind: Vec<usize> = there.iter().copied().filter(|&n| n < 42).collect();
    assert_eq!(behind, [0, 40, 41], "the IRAP, and what was asked for");
    let ahead: Vec<usize> = there.iter().copied().filter(|&n| n >= 42).collect();
    assert_eq!(ahead, (42..42 + ahead.len()).collect::<Vec<_>>());
    assert!(ahead.len() >= 15);

    // Backward: what was begun ahead is not finished first.
    let engine = harvesting(&place, |_| {}).await;
    let video = engine.open("slow").await.unwrap();
    let client = engine.client();
    ask_as(&client, &video, &samples[60..61]).await;
    let turned = request_of(&client, &video, &samples[59..60]);
    let ahead_by_then = engine.counters().images_harvested;
    common::outcomes(turned, 1).await;
    let by_then = engine.counters().images_harvested;
    // The IRAP may be among them, and one ahead that was in flight.
    until(|| engine.counters().images_harvested >= by_then + 11).await;
    let there = cached(&client, &video, &samples).await;
    for near in 51..59 {
        assert!(there.contains(&near), "{there:?}");
    }
    let ahead = there.iter().filter(|&&n| n > 60).count() as u64;
    assert!(ahead <= ahead_by_then + 2, "{ahead_by_then}: {there:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_the_gop_is_made_and_the_next_ones_bytes_are_read() {
    let place = Place::with(&["closed_gop"]);
    for backward in [false, true] {
        let engine = harvesting(&place, |c| c.workers = 2).await;
        let video = engine.open("closed_gop").await.unwrap();
        let index = video.index();
        let starts: Vec<u32> = index.sync_samples().map(|s| s.0).collect();
        assert_eq!(starts, [0, 24, 48]);
        let samples = frames(&video);
        let gop = |n: usize| &samples[n * 24..(n + 1) * 24];
        let client = engine.client();
        let (here, next) = if backward { (2, 1) } else { (0, 1) };
        ask_as(&client, &video, &gop(here)[9..10]).await;
        let step = if backward { 8..9 } else { 10..11 };
        ask_as(&client, &video, &gop(here)[step]).await;
        // Every picture of this GOP, and two more IRAPs.
        until(|| engine.counters().images_encoded == 24 + 2).await;
        // Its bytes, all of the next one's, and the last one's IRAP.
        let last = if backward { 0 } else { 48 };
        let whole = |n: usize| bytes_of(&video, starts[n]..starts[n] + 24);
        let read = whole(here) + whole(next) + bytes_of(&video, [last]);
        until(|| engine.counters().bytes_fetched == read).await;
        all_is_there(&engine, &video, gop(here)).await;
        let before = engine.store().counters();
        check_numbers(
            &video,
            &gop(next)[5..6],
            &ask_as(&client, &video, &gop(next)[5..6]).await,
        );
        let counters = engine.counters();
        assert!(counters.images_harvested >= 24 && counters.access_units_harvested > 0);
        assert!(counters.access_units_harvested < counters.access_units_decoded);
        // That GOP's bytes were there; what is read now is for what comes after it.
        let after = engine.store().counters();
        assert!(after.bytes - before.bytes <= bytes_of(&video, last..last + 24));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_stops_it_within_an_access_unit() {
    let place = Place::new();
    place.write("long", &gop_of_250());
    place.write("slow", &slow_clip());
    for workers in [1, 2] {
        let engine = harvesting(&place, |c| c.workers = workers).await;
        let other = engine.open("long").await.unwrap();
        let asked = frames(&other);
        let client = engine.client();
        ask_as(&client, &other, &asked[20..21]).await;
        // All there is to do about it: its GOP.
        until(|| engine.counters().images_encoded == 250).await;
        let slow = engine.open("slow").await.unwrap();
        let samples = frames(&slow);
        let base = engine.counters().images_encoded;
        let made = || (engine.counters().images_encoded - base) as usize;
        ask_as(&client, &slow, &samples[..1]).await;
        until(|| made() >= 10).await;
        // Of bytes that are there, an image that is not. What is harvested after that is around it
        // for a while, and not of the slow one.
        let target = FrameTarget {
            sample: asked[7],
            output: Output {
                width: Some(160),
                ..Output::default()
            },
        };
        let options = RequestOptions::default();
        let mut ticket = engine.client().request(&other, vec![target], options);
        let at_request = made();
        assert_eq!(number(&next(&mut ticket).await.unwrap()), 7);
        let there = cached(&engine.client(), &slow, &samples).await.len();
        assert!(at_request < samples.len() / 2);
        // What was in flight.
        assert!(
            there <= at_request + 1 + workers,
            "{there} pictures of the slow one, {at_request} at the request"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_it_nothing_is_decoded_unasked() {
    let clips = ["closed_gop", "b_frames_8"];
    let place = Place::with(&clips);
    let off: [fn(&mut EngineConfig); 2] = [
        |c| c.harvest = false,
        // What could not be kept is not made.
        |c| c.cache_bytes = 0,
    ];
    for change in off {
        let engine = harvesting(&place, |c| {
            c.workers = 2;
            change(c);
        })
        .await;
        let mut needed = 0;
        for name in clips {
            let video = engine.open(name).await.unwrap();
            let samples = frames(&video);
            let wanted = [samples[30]];
            check_numbers(&video, &wanted, &ask(&engine, &video, &wanted).await);
            needed += union(&closures(&video, &clip_bytes(name), &wanted)).len() as u64;
        }
        // While one worker is at work, the other one is idle.
        let video = engine.open("b_frames_8").await.unwrap();
        let all = frames(&video);
        let wanted = &all[all.len() - 1..];
        check_numbers(&video, wanted, &ask(&engine, &video, wanted).await);
        needed += union(&closures(&video, &clip_bytes("b_frames_8"), wanted)).len() as u64;
        let counters = engine.counters();
        assert!(counters.access_units_decoded <= needed, "{counters:?}");
        assert_eq!(counters.images_encoded, 3);
        assert_eq!(
            (counters.images_harvested, counters.access_units_harvested),
            (0, 0)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_video_does_not_hold_it_up() {
    let place = Place::new();
    place.write("good", &many_iraps());
    let mut file = clip_bytes("closed_gop");
    let probe = Place::with(&["closed_gop"]);
    let video = probe.engine(|_| {}).await.open("closed_gop").await.unwrap();
    let mut random = StdRng::seed_from_u64(4);
    let (video, samples) = loop {
        for damaged in [24, 48] {
            let range = video.index().sample(DecodeIndex(damaged)).unwrap().range();
            let middle = (range.start as usize + range.end as usize) / 2;
            let rest = &mut file[middle..range.end as usize];
            rest.iter_mut()
                .for_each(|b| *b = random.random_range(1..=255));
        }
        place.write("damaged", &file);
        let plain = place.engine(|_| {}).await;
        let video = plain.open("damaged").await.unwrap();
        let samples = frames(&video);
        let got = ask(&plain, &video, &samples).await;
        let sound = got.iter().filter(|o| o.result.is_ok());
        let sound: Vec<usize> = sound.map(|o| o.position).collect();
        // A decoder does not find all damage: until it finds this.
        if sound == (0..24).collect::<Vec<_>>() {
            break (video, samples);
        }
    };
    drop(video);

    let engine = harvesting(&place, |_| {}).await;
    let good = engine.open("good").await.unwrap();
    let video = engine.open("damaged").await.unwrap();
    // Into the GOP whose IRAP is damaged, then where it can be decoded.
    for place in [30, 70, 10] {
        ask(&engine, &video, &samples[place..=place]).await;
    }
    // All that can be made of it, and the other video, which is looked at last.
    until(|| engine.counters().images_encoded == 24 + 64).await;
    all_is_there(&engine, &good, &frames(&good)).await;
    all_is_there(&engine, &video, &samples[..24]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_irap_is_left_out_when_the_cursor_moves() {
    let place = Place::new();
    place.write("iraps", &many_iraps());
    let engine = harvesting(&place, |_| {}).await;
    let video = engine.open("iraps").await.unwrap();
    let samples = frames(&video);
    let client = engine.client();
    // Each in a GOP of its own, while the IRAPs are being made.
    for place in [63, 5, 60, 21, 1, 47, 30, 9, 55] {
        let wanted = [samples[place]];
        check_numbers(&video, &wanted, &ask_as(&client, &video, &wanted).await);
    }
    until(|| engine.counters().images_encoded == 64).await;
    all_is_there(&engine, &video, &samples).await;
}
