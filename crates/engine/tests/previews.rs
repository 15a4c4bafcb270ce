//! Something to look at meanwhile: what it is, when it comes, and that the exact frame follows.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{Place, ask, check_numbers, ends, frames, ready, slow_clip, until};
use engine::{
    Client, FrameEvent, FrameOutcome, FrameTarget, FrameTicket, Output, Preview, RequestOptions,
    Video,
};
use media::DecodeIndex;
use testkit::jpeg;

fn with_preview(
    client: &Client,
    video: &Arc<Video>,
    samples: &[DecodeIndex],
    output: Output,
) -> FrameTicket {
    let targets = samples.iter().map(|&sample| FrameTarget { sample, output });
    let options = RequestOptions {
        preview: true,
        ..RequestOptions::default()
    };
    client.request(video, targets.collect(), options)
}

/// All that comes: at most one preview for each target, before its outcome, and exactly one outcome,
/// all with the right numbers.
async fn all(
    mut ticket: FrameTicket,
    video: &Video,
    samples: &[DecodeIndex],
) -> (BTreeMap<usize, Preview>, Vec<FrameOutcome>) {
    let mut previews = BTreeMap::new();
    let mut outcomes: Vec<FrameOutcome> = Vec::new();
    while let Some(event) = ends(ticket.next()).await {
        match event {
            FrameEvent::Preview(preview) => {
                let answered = outcomes.iter().any(|o| o.position == preview.position);
                assert!(!answered, "a preview after the outcome");
                let shown = jpeg::frame_number(&preview.image.bytes).unwrap();
                let rank = video.index().presentation_index(preview.sample).unwrap();
                assert_eq!(shown, rank.0, "it shows what it says");
                assert_ne!(preview.sample, samples[preview.position]);
                let position = preview.position;
                let before = previews.insert(position, preview);
                assert!(before.is_none(), "two previews of {position}");
            }
            FrameEvent::Outcome(outcome) => outcomes.push(outcome),
        }
    }
    assert!(ready(&mut ticket).is_none());
    let positions: Vec<usize> = outcomes.iter().map(|o| o.position).collect();
    assert_eq!(positions, (0..samples.len()).collect::<Vec<_>>());
    check_numbers(video, samples, &outcomes);
    (previews, outcomes)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_irap_is_shown_before_a_far_frame() {
    let place = Place::new();
    place.write("slow", &slow_clip());
    for (workers, cache_bytes) in [(1, 0), (2, 0), (2, 64 << 20)] {
        let engine = place
            .engine(|c| {
                c.workers = workers;
                c.cache_bytes = cache_bytes;
            })
            .await;
        let video = engine.open("slow").await.unwrap();
        let samples = frames(&video);
        let client = engine.client();
        let far = [samples[119]];
        let ticket = with_preview(&client, &video, &far, Output::default());
        let (previews, _) = all(ticket, &video, &far).await;
        assert_eq!(previews[&0].sample, DecodeIndex(0));
        let counters = engine.counters();
        // On the way: nothing was decoded twice for it, unless by a worker that was idle.
        let again = counters.access_units_decoded - 120;
        assert!(again < workers as u64, "{again}");
        assert_eq!(counters.images_encoded, 2);
        assert_eq!((client.stats().previews, client.stats().frames), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nearest_picture_in_the_cache_is_shown() {
    let place = Place::new();
    place.write("slow", &slow_clip());
    let engine = place.engine(|c| c.cache_bytes = 64 << 20).await;
    let video = engine.open("slow").await.unwrap();
    let samples = frames(&video);
    // Those in another size do not count.
    let small = Output {
        width: Some(320),
        ..Output::default()
    };
    let client = engine.client();
    let in_small = [samples[100]];
    let options = RequestOptions::default();
    let target = FrameTarget {
        sample: in_small[0],
        output: small,
    };
    let ticket = client.request(&video, vec![target], options);
    common::outcomes(ticket, 1).await;
    for near in [10, 50, 60] {
        ask(&engine, &video, &samples[near..=near]).await;
    }
    // None of them among the last that a decoder has made on its way to those.
    let wanted = [samples[90], samples[30], samples[29], samples[40]];
    let ticket = with_preview(&client, &video, &wanted, Output::default());
    let (previews, _) = all(ticket, &video, &wanted).await;
    let shown: BTreeMap<usize, DecodeIndex> =
        previews.iter().map(|(&at, p)| (at, p.sample)).collect();
    assert_eq!(shown[&0], samples[60]);
    // As far from 10 as from 50, and nearer to 10.
    assert!(shown[&1] == samples[10] || shown[&1] == samples[50]);
    assert_eq!(shown[&2], samples[10]);
    assert_eq!(shown[&3], samples[50]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_and_what_did_not_ask_for_it_gets_none() {
    let place = Place::new();
    place.write("slow", &slow_clip());
    let engine = place.engine(|c| c.cache_bytes = 64 << 20).await;
    let video = engine.open("slow").await.unwrap();
    let samples = frames(&video);
    let client = engine.client();
    // Not asked for.
    let far = [samples[80]];
    let mut ticket = common::request_of(&client, &video, &far);
    match ends(ticket.next()).await {
        Some(FrameEvent::Outcome(outcome)) => check_numbers(&video, &far, &[outcome]),
        other => panic!("{other:?}"),
    }
    // In the cache.
    let ticket = with_preview(&client, &video, &far, Output::default());
    assert!(all(ticket, &video, &far).await.0.is_empty());
    // Among others that are not.
    let both = [samples[80], samples[119]];
    let ticket = with_preview(&client, &video, &both, Output::default());
    let (previews, _) = all(ticket, &video, &both).await;
    assert!(!previews.contains_key(&0));
    assert_eq!(previews[&1].sample, samples[80]);
    assert_eq!(client.stats().previews, 1);

    // The IRAP itself, while the only worker is busy for longer than a preview takes.
    let engine = place.engine(|c| c.workers = 1).await;
    let video = engine.open("slow").await.unwrap();
    let client = engine.client();
    let other = engine.client();
    let busy = common::request_of(&other, &video, &far);
    until(|| engine.counters().access_units_decoded > 0).await;
    let irap = [DecodeIndex(0)];
    let ticket = with_preview(&client, &video, &irap, Output::default());
    assert!(all(ticket, &video, &irap).await.0.is_empty());
    common::outcomes(busy, 1).await;
    assert_eq!(client.stats().previews, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_has_the_size_and_quality_that_were_asked_for() {
    let place = Place::new();
    place.write("slow", &slow_clip());
    let engine = place.engine(|c| c.cache_bytes = 64 << 20).await;
    let video = engine.open("slow").await.unwrap();
    let samples = frames(&video);
    let client = engine.client();
    // The IRAP is there in full size.
    ask(&engine, &video, &samples[..1]).await;
    let output = Output {
        width: Some(320),
        height: None,
        quality: Some(60),
        ..Output::default()
    };
    let far = [samples[119]];
    let ticket = with_preview(&client, &video, &far, output);
    let (previews, outcomes) = all(ticket, &video, &far).await;
    assert_eq!(previews[&0].sample, DecodeIndex(0));
    let exact = outcomes[0].result.as_ref().unwrap();
    for image in [&previews[&0].image, exact] {
        let image = jpeg::decode(&image.bytes).unwrap();
        assert_eq!((image.width, image.height), (320, 180));
    }
    // It is kept as any other image.
    let options = RequestOptions::default();
    let target = FrameTarget {
        sample: DecodeIndex(0),
        output,
    };
    let again = common::outcomes(client.request(&video, vec![target], options), 1).await;
    assert_eq!(again[0].result.as_ref().unwrap(), &previews[&0].image);
    assert_eq!(client.stats().cache_hits, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_and_some_who_leave() {
    let place = Place::with(&["default_gop", "open_gop_rasl", "b_frames_8"]);
    place.write("slow", &slow_clip());
    for (workers, cache_bytes, harvest) in [(1, 0, false), (2, 4 << 20, true)] {
        let engine = place
            .engine(|c| {
                c.workers = workers;
                c.cache_bytes = cache_bytes;
                c.harvest = harvest;
                c.max_waiting_image_bytes = 100 << 10;
            })
            .await;
        let mut running = Vec::new();
        for n in 0..16_usize {
            let engine = engine.clone();
            running.push(tokio::spawn(async move {
                let name = ["default_gop", "open_gop_rasl", "b_frames_8", "slow"][n % 4];
                let video = engine.open(name).await.unwrap();
                let samples = frames(&video);
                let wanted: Vec<DecodeIndex> = (0..9)
                    .map(|i| samples[(n * 17 + i * 23) % samples.len()])
                    .collect();
                let client = engine.client();
                let output = Output {
                    width: (n % 3 == 0).then_some(300),
                    ..Output::default()
                };
                let mut ticket = with_preview(&client, &video, &wanted, output);
                match n % 5 {
                    0 => drop(ticket),
                    1 => {
                        ends(ticket.next()).await;
                        ticket.cancel_all();
                        let mut outcomes = 0;
                        while let Some(event) = ends(ticket.next()).await {
                            outcomes += usize::from(matches!(event, FrameEvent::Outcome(_)));
                        }
                        assert!(outcomes >= wanted.len() - 1);
                    }
                    _ => {
                        let mut seen = Vec::new();
                        while let Some(event) = ends(ticket.next()).await {
                            if let FrameEvent::Outcome(outcome) = event {
                                check_numbers(&video, &wanted, std::slice::from_ref(&outcome));
                                seen.push(outcome.position);
                            }
                        }
                        seen.sort_unstable();
                        assert_eq!(seen, (0..wanted.len()).collect::<Vec<_>>());
                    }
                }
            }));
        }
        for one in running {
            ends(one).await.unwrap();
        }
        let video = engine.open("default_gop").await.unwrap();
        let samples = frames(&video);
        check_numbers(&video, &samples, &ask(&engine, &video, &samples).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_that_nobody_waits_for_is_not_made() {
    let place = Place::with(&["closed_gop"]);
    place.write("slow", &slow_clip());
    let engine = place.engine(|c| c.workers = 1).await;
    let slow = engine.open("slow").await.unwrap();
    let samples = frames(&slow);
    let video = engine.open("closed_gop").await.unwrap();
    let other = engine.client();
    let busy = common::request_of(&other, &slow, &samples[110..111]);
    until(|| engine.counters().access_units_decoded > 0).await;
    let client = engine.client();
    let wanted = [frames(&video)[20]];
    let mut left = with_preview(&client, &video, &wanted, Output::default());
    assert!(ready(&mut left).is_none());
    drop(left);
    let mut cancelled = with_preview(&client, &video, &wanted, Output::default());
    cancelled.cancel_all();
    assert_eq!(common::outcomes(cancelled, 1).await.len(), 1);
    common::outcomes(busy, 1).await;
    ask(&engine, &video, &[DecodeIndex(0)]).await;
    let counters = engine.counters();
    assert_eq!(counters.access_units_decoded, 111 + 1, "{counters:?}");
    assert_eq!(counters.images_encoded, 2);
    assert_eq!(client.stats().previews, 0);
}
