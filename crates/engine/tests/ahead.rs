//! What is read of a video before anybody asks for a frame.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;

use common::{Place, check_numbers, ends, frames, outcomes, request, until};
use engine::{Engine, Video};
use media::DecodeIndex;

/// An engine that keeps what it reads, and reads nothing by itself.
async fn engine(place: &Place) -> Engine {
    place.engine(|config| config.cache_bytes = 64 << 20).await
}

/// Bytes of the samples from the first up to the second sync sample.
fn first_gop(video: &Video) -> (u32, u64) {
    let index = video.index();
    let end = index.sync_after(DecodeIndex(0));
    let end = end.map_or(index.sample_count(), |s| s.0);
    let sizes = (0..end).map(|i| u64::from(index.sample(DecodeIndex(i)).unwrap().size));
    (end, sizes.sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_gop_is_there_before_it_is_asked_for() {
    let place = Place::with(&["closed_gop"]);
    let engine = engine(&place).await;
    let video = engine.open("closed_gop").await.unwrap();
    let opened = engine.store().counters();
    let client = engine.client();
    let ahead = client.prefetch(&video);
    let (end, bytes) = first_gop(&video);
    until(|| engine.counters().bytes_fetched == bytes).await;
    let read = engine.store().counters();
    assert_eq!(read.bytes - opened.bytes, bytes);
    // What lies in it costs nothing more.
    let samples = frames(&video);
    let gop: Vec<DecodeIndex> = samples.iter().copied().filter(|s| s.0 < end).collect();
    let got = outcomes(request(&engine, &video, &gop), gop.len()).await;
    check_numbers(&video, &gop, &got);
    assert_eq!(engine.store().counters(), read);
    drop(ahead);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wanted_meanwhile_is_read_once() {
    let place = Place::with(&["closed_gop"]);
    let engine = engine(&place).await;
    let video = engine.open("closed_gop").await.unwrap();
    let opened = engine.store().counters();
    let (end, bytes) = first_gop(&video);
    let samples: Vec<DecodeIndex> = frames(&video).into_iter().filter(|s| s.0 < end).collect();
    let sessions = (0..10_usize).map(|n| {
        let (engine, video) = (engine.clone(), Arc::clone(&video));
        let mut wanted = samples.clone();
        wanted.rotate_left(n * 2 % samples.len());
        if n % 3 == 0 {
            wanted.reverse();
        }
        tokio::spawn(async move {
            let client = engine.client();
            let _ahead = client.prefetch(&video);
            let got = outcomes(request(&engine, &video, &wanted), wanted.len()).await;
            check_numbers(&video, &wanted, &got);
        })
    });
    for session in sessions.collect::<Vec<_>>() {
        ends(session).await.unwrap();
    }
    assert_eq!(engine.store().counters().bytes - opened.bytes, bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_read_ahead_where_nothing_is_kept_or_it_is_turned_off() {
    let place = Place::with(&["closed_gop"]);
    for (cache, prefetch) in [(0, true), (64 << 20, false)] {
        let engine = place
            .engine(|config| {
                config.cache_bytes = cache;
                config.prefetch = prefetch;
            })
            .await;
        let video = engine.open("closed_gop").await.unwrap();
        let opened = engine.store().counters();
        let client = engine.client();
        let _ahead = client.prefetch(&video);
        // Whatever was begun would be before this.
        let other = engine.open("closed_gop").await.unwrap();
        assert_eq!(other.index().frame_count(), video.index().frame_count());
        assert_eq!(engine.counters().bytes_fetched, 0);
        assert!(engine.store().counters().requests >= opened.requests);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_that_has_changed_is_told_and_not_served_any_more() {
    use engine::FrameErrorCode::VideoChanged;
    let place = Place::with(&["closed_gop"]);
    let engine = engine(&place).await;
    let video = engine.open("closed_gop").await.unwrap();
    let samples = frames(&video);
    let (end, _) = first_gop(&video);
    let known: Vec<DecodeIndex> = samples.iter().copied().filter(|s| s.0 < end).collect();
    outcomes(request(&engine, &video, &known), known.len()).await;
    place.write("closed_gop", &common::clip_bytes("default_gop"));
    let lost: Vec<DecodeIndex> = samples.iter().copied().filter(|s| s.0 >= end).collect();
    let before = engine.store().counters();
    for outcome in outcomes(request(&engine, &video, &lost), lost.len()).await {
        let error = outcome.result.unwrap_err();
        assert_eq!(error.code, VideoChanged, "{error}");
    }
    // As many reads as may run at the same time, and none after it was known.
    let asked = engine.store().counters().requests - before.requests;
    assert!(asked <= 4, "{asked}");
    // Not even what is in the cache.
    let before = engine.store().counters();
    for outcome in outcomes(request(&engine, &video, &known), known.len()).await {
        assert_eq!(outcome.result.unwrap_err().code, VideoChanged);
    }
    assert_eq!(engine.store().counters(), before);
    // Opened again, it is the new one.
    let new = engine.open("closed_gop").await.unwrap();
    assert_ne!(new.index().frame_count(), video.index().frame_count());
    let samples = frames(&new);
    let got = outcomes(request(&engine, &new, &samples[..30]), 30).await;
    check_numbers(&new, &samples[..30], &got);
}
