//! Whose turn it is, and that nothing is done for those who have left.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;

use common::{
    Place, ask, ask_as, check_numbers, ends, frames, next, number, outcomes, ready, request_of,
    slow_clip, until,
};
use engine::{
    Client, Engine, FrameErrorCode, FrameEvent, FrameTarget, FrameTicket, Output, Priority,
    RequestOptions, Video,
};
use futures::FutureExt;
use media::DecodeIndex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const CLIPS: [&str; 4] = ["closed_gop", "default_gop", "low_delay_p", "b_frames_8"];

/// One worker, and a cache, so that bytes that were read once are there at once.
async fn engine_with_one_worker(place: &Place) -> Engine {
    place
        .engine(|c| {
            c.workers = 1;
            c.cache_bytes = 64 << 20;
        })
        .await
}

/// Opens videos and reads the GOP at their beginning, up to and with sample 20.
async fn warmed(engine: &Engine) -> Vec<Arc<Video>> {
    let mut videos = Vec::new();
    for name in CLIPS {
        let video = engine.open(name).await.unwrap();
        ask(engine, &video, &[DecodeIndex(20)]).await;
        videos.push(video);
    }
    videos
}

fn request_with(
    client: &Client,
    video: &Arc<Video>,
    sample: u32,
    priority: Priority,
) -> FrameTicket {
    let target = FrameTarget {
        sample: DecodeIndex(sample),
        output: Output::default(),
    };
    let options = RequestOptions {
        priority,
        ..RequestOptions::default()
    };
    client.request(video, vec![target], options)
}

/// The order in which tickets of one target each are served, where nothing is made for a client
/// before it has taken what is ready.
async fn order_of_service(mut tickets: Vec<FrameTicket>) -> Vec<usize> {
    let mut order = Vec::new();
    let mut open: Vec<usize> = (0..tickets.len()).collect();
    ends(async {
        while !open.is_empty() {
            let mut served = Vec::new();
            for &i in &open {
                if let Some(FrameEvent::Outcome(outcome)) = ready(&mut tickets[i]) {
                    outcome.result.unwrap();
                    served.push(i);
                    break;
                }
            }
            open.retain(|i| !served.contains(i));
            order.extend(served);
            tokio::task::yield_now().await;
        }
    })
    .await;
    order
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_requests_go_first_and_fifo_ones_in_order_of_arrival() {
    use Priority::{Fifo, Newest};
    let place = Place::with(&CLIPS);
    place.write("slow", &slow_clip());
    let cases: [(&[Priority], &[usize]); 3] = [
        (&[Newest, Newest, Newest, Newest], &[3, 2, 1, 0]),
        (&[Fifo, Fifo, Fifo, Fifo], &[0, 1, 2, 3]),
        (&[Newest, Fifo, Newest, Fifo], &[2, 0, 1, 3]),
    ];
    for (priorities, expected) in cases {
        let engine = place
            .engine(|c| {
                c.workers = 1;
                c.cache_bytes = 64 << 20;
                c.max_waiting_image_bytes = 1;
            })
            .await;
        let videos = warmed(&engine).await;
        let slow = engine.open("slow").await.unwrap();
        // The worker is busy for somebody else, who need not give way.
        let before = engine.counters();
        let other = engine.client();
        let mut busy = request_of(&other, &slow, &[DecodeIndex(119)]);
        until(|| engine.counters().access_units_decoded > before.access_units_decoded).await;
        let client = engine.client();
        let tickets: Vec<FrameTicket> = (videos.iter().zip(priorities))
            .map(|(video, &priority)| request_with(&client, video, 7, priority))
            .collect();
        assert!(ready(&mut busy).is_none(), "the worker was not busy");
        assert_eq!(order_of_service(tickets).await, expected, "{priorities:?}");
        check_numbers(&slow, &[DecodeIndex(119)], &outcomes(busy, 1).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_request_stops_the_older_ones_pass_within_an_access_unit() {
    let place = Place::with(&CLIPS);
    place.write("slow", &slow_clip());
    let engine = engine_with_one_worker(&place).await;
    let videos = warmed(&engine).await;
    let slow = engine.open("slow").await.unwrap();
    let samples = frames(&slow);
    let client = engine.client();
    let mut old = request_of(&client, &slow, &samples);
    let mut got = vec![next(&mut old).await.unwrap()];
    // Of a GOP whose bytes are there.
    let mut new = request_of(&client, &videos[0], &[DecodeIndex(0)]);
    let at_request = engine.counters();
    let outcome = next(&mut new).await.unwrap();
    let at_answer = engine.counters();
    assert_eq!(number(&outcome), 0);
    // The picture that was being decoded and the new one, and what was made until the counters were
    // looked at.
    let made = at_answer.images_encoded - at_request.images_encoded;
    assert!(made <= 20, "{made} images before the newer request's");
    assert!(at_answer.images_encoded < samples.len() as u64);
    assert!(at_answer.passes_yielded > 0, "{at_answer:?}");
    // The older one still gets all of its answers, in order, and nothing is decoded twice for it.
    while let Some(outcome) = next(&mut old).await {
        got.push(outcome);
    }
    let positions: Vec<usize> = got.iter().map(|o| o.position).collect();
    assert_eq!(positions, (0..samples.len()).collect::<Vec<_>>());
    check_numbers(&slow, &samples, &got);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_request_lets_another_clients_single_frame_pass() {
    let place = Place::with(&CLIPS);
    place.write("slow", &slow_clip());
    let engine = engine_with_one_worker(&place).await;
    let slow = engine.open("slow").await.unwrap();
    // Over a thousand images: each picture in nine qualities.
    let bulk: Vec<FrameTarget> = (frames(&slow).into_iter())
        .flat_map(|sample| (50..59).map(move |quality| (sample, Some(quality))))
        .map(|(sample, quality)| FrameTarget {
            sample,
            output: Output {
                quality,
                ..Output::default()
            },
        })
        .collect();
    assert!(bulk.len() > 1000);
    let asked: Vec<DecodeIndex> = bulk.iter().map(|t| t.sample).collect();
    for priority in [Priority::Newest, Priority::Fifo] {
        let engine = engine_with_one_worker(&place).await;
        let videos = warmed(&engine).await;
        let slow = engine.open("slow").await.unwrap();
        let options = RequestOptions {
            priority,
            ..RequestOptions::default()
        };
        let many = engine.client();
        let one = engine.client();
        let mut ticket = many.request(&slow, bulk.clone(), options);
        let mut got = vec![next(&mut ticket).await.unwrap()];
        for (turn, video) in (0..4).zip(&videos) {
            let wanted = [DecodeIndex(turn)];
            let mut single = request_of(&one, video, &wanted);
            let at_request = engine.counters().images_encoded;
            let outcome = next(&mut single).await.unwrap();
            let passed = engine.counters().images_encoded - at_request;
            check_numbers(video, &wanted, &[outcome]);
            // Those of the picture that was being decoded, and those that were made until the
            // counters were looked at.
            assert!(
                passed <= 100,
                "{priority:?}: {passed} of the bulk's images came before"
            );
        }
        assert!(engine.counters().images_encoded < bulk.len() as u64);
        while let Some(outcome) = next(&mut ticket).await {
            got.push(outcome);
        }
        let positions: Vec<usize> = got.iter().map(|o| o.position).collect();
        assert_eq!(positions, (0..bulk.len()).collect::<Vec<_>>());
        let some: Vec<_> = got.into_iter().step_by(25).collect();
        check_numbers(&slow, &asked, &some);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_frame_is_answered_at_once_and_not_made() {
    let place = Place::with(&CLIPS);
    place.write("slow", &slow_clip());
    let engine = engine_with_one_worker(&place).await;
    let videos = warmed(&engine).await;
    let slow = engine.open("slow").await.unwrap();
    let before = engine.counters();
    let other = engine.client();
    let mut busy = request_of(&other, &slow, &[DecodeIndex(119)]);
    until(|| engine.counters().access_units_decoded > before.access_units_decoded).await;

    let client = engine.client();
    let wanted = [3, 9, 5].map(DecodeIndex);
    let mut ticket = request_of(&client, &videos[0], &wanted);
    assert!(ready(&mut ticket).is_none());
    ticket.cancel(1);
    ticket.cancel(1);
    ticket.cancel(99);
    // While the worker has not even begun.
    let first = match ready(&mut ticket) {
        Some(FrameEvent::Outcome(outcome)) => outcome,
        other => panic!("{other:?}"),
    };
    assert!(ready(&mut busy).is_none(), "the worker was not busy");
    assert_eq!(first.position, 1);
    assert_eq!(first.result.unwrap_err().code, FrameErrorCode::Cancelled);
    let mut rest = Vec::new();
    while let Some(outcome) = next(&mut ticket).await {
        rest.push(outcome);
    }
    assert_eq!(rest.iter().map(|o| o.position).collect::<Vec<_>>(), [0, 2]);
    check_numbers(&videos[0], &wanted, &rest);
    outcomes(busy, 1).await;
    let after = engine.counters();
    assert_eq!(after.images_encoded - before.images_encoded, 3);
    assert_eq!(after.targets_cancelled - before.targets_cancelled, 1);
    let stats = client.stats();
    assert_eq!((stats.frames, stats.cancelled, stats.dropped), (2, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_mid_pass_ends_within_an_access_unit() {
    /// How the client leaves.
    #[derive(Clone, Copy, Debug)]
    enum Leaves {
        CancelsAll,
        CancelsEach,
        DropsTicket,
        DropsClientThenTicket,
    }
    use Leaves::{CancelsAll, CancelsEach, DropsClientThenTicket, DropsTicket};
    let place = Place::with(&CLIPS);
    place.write("slow", &slow_clip());
    for leaves in [CancelsAll, CancelsEach, DropsTicket, DropsClientThenTicket] {
        let engine = engine_with_one_worker(&place).await;
        let videos = warmed(&engine).await;
        let slow = engine.open("slow").await.unwrap();
        let samples = frames(&slow);
        let before = engine.counters();
        let client = engine.client();
        let mut ticket = request_of(&client, &slow, &samples);
        next(&mut ticket).await.unwrap().result.unwrap();
        let mut client = Some(client);
        let mut kept = None;
        match leaves {
            CancelsAll => {
                ticket.cancel_all();
                kept = Some(ticket);
            }
            CancelsEach => {
                // The last ones first, so that the pass does not run out by itself.
                for position in (0..samples.len()).rev() {
                    ticket.cancel(position);
                }
                kept = Some(ticket);
            }
            DropsTicket => drop(ticket),
            DropsClientThenTicket => {
                client = None;
                drop(ticket);
            }
        }
        let left = engine.counters();
        // Who comes next gets the only worker: its picture is the IRAP of a GOP that is there.
        let other = ask(&engine, &videos[2], &[DecodeIndex(0)]).await;
        check_numbers(&videos[2], &[DecodeIndex(0)], &other);
        let ended = engine.counters();
        let decoded = ended.access_units_decoded - left.access_units_decoded;
        assert!(decoded <= 2, "{leaves:?}: {decoded} access units after it");
        assert!(
            ended.access_units_decoded - before.access_units_decoded < samples.len() as u64,
            "{leaves:?}: it was not mid-pass"
        );
        // Exactly one outcome for each, whichever came first.
        if let Some(mut ticket) = kept {
            let mut all = vec![0];
            let mut cancelled = 0;
            while let Some(outcome) = next(&mut ticket).await {
                match &outcome.result {
                    Ok(_) => assert_eq!(number(&outcome) as usize, outcome.position),
                    Err(e) => {
                        assert_eq!(e.code, FrameErrorCode::Cancelled, "{leaves:?}");
                        cancelled += 1;
                    }
                }
                all.push(outcome.position);
            }
            all.sort_unstable();
            assert_eq!(all, (0..samples.len()).collect::<Vec<_>>(), "{leaves:?}");
            assert!(cancelled > 0, "{leaves:?}");
            assert_eq!(
                ended.targets_cancelled - before.targets_cancelled,
                cancelled,
                "{leaves:?}"
            );
            let stats = client.as_ref().unwrap().stats();
            assert_eq!((stats.cancelled, stats.dropped), (cancelled, 0));
        }
        if let (DropsTicket, Some(client)) = (leaves, &client) {
            let dropped = ended.targets_cancelled - before.targets_cancelled;
            assert!(dropped > 0 && client.stats().dropped == dropped);
        }
        // And nothing goes on behind.
        ask(&engine, &videos[3], &[DecodeIndex(0)]).await;
        let later = engine.counters();
        assert_eq!(later.access_units_decoded, ended.access_units_decoded + 1);
        assert_eq!(later.targets_cancelled, ended.targets_cancelled);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_outlives_its_client() {
    let place = Place::with(&["default_gop"]);
    let engine = place.engine(|c| c.max_waiting_image_bytes = 1).await;
    let video = engine.open("default_gop").await.unwrap();
    let samples = frames(&video);
    let client = engine.client();
    let ticket = request_of(&client, &video, &samples);
    drop(client);
    check_numbers(&video, &samples, &outcomes(ticket, samples.len()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_still_want_survives_a_cancel() {
    let place = Place::new();
    place.write("slow", &slow_clip());
    let engine = place.engine(|c| c.workers = 1).await;
    let slow = engine.open("slow").await.unwrap();
    let samples = [DecodeIndex(60), DecodeIndex(80)];
    let (leaving, staying) = (engine.client(), engine.client());
    let mut left = request_of(&leaving, &slow, &samples);
    let stayed = request_of(&staying, &slow, &samples);
    until(|| engine.counters().access_units_decoded > 0).await;
    left.cancel_all();
    drop(leaving);
    check_numbers(&slow, &samples, &outcomes(stayed, 2).await);
    for outcome in outcomes(left, 2).await {
        let code = outcome.result.unwrap_err().code;
        assert_eq!(code, FrameErrorCode::Cancelled);
    }
    // The pass was not begun anew.
    assert_eq!(engine.counters().access_units_decoded, 81);
    assert_eq!(engine.counters().images_encoded, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_cancel_at_random_get_one_outcome_for_each_target() {
    let place = Place::with(&CLIPS);
    for (workers, waiting, cache) in [(1, 1, 0), (2, 20 << 10, 0), (7, 32 << 20, 1 << 20)] {
        let engine = place
            .engine(|c| {
                c.workers = workers;
                c.max_waiting_image_bytes = waiting;
                c.cache_bytes = cache;
                c.harvest = true;
            })
            .await;
        let mut running = Vec::new();
        for seed in 0..24 {
            let engine = engine.clone();
            running.push(tokio::spawn(one_who_cancels(engine, seed)));
        }
        for one in running {
            ends(one).await.unwrap();
        }
        // Nothing is stuck: somebody new is served.
        let video = engine.open("closed_gop").await.unwrap();
        let samples = frames(&video);
        check_numbers(&video, &samples, &ask(&engine, &video, &samples).await);
    }
}

/// Several requests of one client at once, taken from in turn, and cancelled now and then.
async fn one_who_cancels(engine: Engine, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let client = engine.client();
    for _ in 0..3 {
        let mut open = Vec::new();
        for _ in 0..random.random_range(1..4) {
            let video = engine
                .open(CLIPS[random.random_range(0..CLIPS.len())])
                .await
                .unwrap();
            let all = frames(&video);
            let samples: Vec<DecodeIndex> = (0..random.random_range(1..30))
                .map(|_| all[random.random_range(0..all.len())])
                .collect();
            let ticket = request_of(&client, &video, &samples);
            open.push((ticket, video, samples, Vec::new()));
        }
        while !open.is_empty() {
            let at = random.random_range(0..open.len());
            let (ticket, video, samples, seen) = &mut open[at];
            match random.random_range(0..12) {
                0 => ticket.cancel(random.random_range(0..samples.len())),
                1 if random.random_range(0..4) == 0 => ticket.cancel_all(),
                2 if random.random_range(0..8) == 0 => {
                    open.remove(at);
                }
                // From all in turn: an image that waits in one stops the work for the others.
                _ => match ticket.next().now_or_never() {
                    None => tokio::task::yield_now().await,
                    Some(Some(FrameEvent::Outcome(outcome))) => {
                        match &outcome.result {
                            Ok(_) => check_numbers(video, samples, std::slice::from_ref(&outcome)),
                            Err(error) => assert_eq!(error.code, FrameErrorCode::Cancelled),
                        }
                        seen.push(outcome.position);
                    }
                    Some(Some(FrameEvent::Preview(_))) => panic!("nobody asked for a preview"),
                    Some(None) => {
                        seen.sort_unstable();
                        assert_eq!(*seen, (0..samples.len()).collect::<Vec<_>>());
                        open.remove(at);
                    }
                },
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_request_of_a_client_with_a_full_room_is_served_when_the_newer_is_taken() {
    let place = Place::with(&["default_gop", "closed_gop"]);
    let engine = place.engine(|c| c.max_waiting_image_bytes = 1).await;
    let client = engine.client();
    let (first, second) = (
        engine.open("default_gop").await.unwrap(),
        engine.open("closed_gop").await.unwrap(),
    );
    let (of_first, of_second) = (frames(&first), frames(&second));
    let old = request_of(&client, &first, &of_first);
    let new = request_of(&client, &second, &of_second);
    let (old, new) = tokio::join!(
        outcomes(old, of_first.len()),
        outcomes(new, of_second.len())
    );
    check_numbers(&first, &of_first, &old);
    check_numbers(&second, &of_second, &new);
    // Dropping a full ticket gives its room back.
    let mut full = request_of(&client, &first, &of_first);
    next(&mut full).await.unwrap();
    let waits = request_of(&client, &second, &of_second);
    drop(full);
    check_numbers(&second, &of_second, &outcomes(waits, of_second.len()).await);
    check_numbers(
        &second,
        &of_second[..1],
        &ask_as(&client, &second, &of_second[..1]).await,
    );
}

/// One picture in so many outputs that each takes its time.
fn in_many_outputs(sample: DecodeIndex) -> Vec<FrameTarget> {
    let outputs = (50..100).flat_map(|quality| (280..320).map(move |width| (quality, width)));
    outputs
        .map(|(quality, width)| FrameTarget {
            sample,
            output: Output {
                width: Some(width),
                height: None,
                quality: Some(quality),
                ..Output::default()
            },
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wanted_of_one_picture_makes_way_between_two_images() {
    let place = Place::with(&CLIPS);
    let wanted = in_many_outputs(DecodeIndex(9));
    let asked = vec![DecodeIndex(9); wanted.len()];
    let options = RequestOptions::default();

    // For those who take nothing only so much is made as waits for them.
    let engine = place
        .engine(|c| {
            c.workers = 1;
            c.cache_bytes = 64 << 20;
            c.max_waiting_image_bytes = 1;
        })
        .await;
    let videos = warmed(&engine).await;
    let client = engine.client();
    let before = engine.counters().images_encoded;
    let some_of_them = wanted[..200].to_vec();
    let blocked = client.request(&videos[0], some_of_them, options);
    until(|| engine.counters().images_encoded > before).await;
    ask(&engine, &videos[1], &[DecodeIndex(0)]).await;
    let made = engine.counters().images_encoded - before;
    assert!(made <= 3, "{made} images that nobody takes");
    // And all the same they all come, when they are taken.
    let got = outcomes(blocked, 200).await;
    let some: Vec<_> = got.into_iter().step_by(20).collect();
    check_numbers(&videos[0], &asked, &some);

    // For those who have left nothing is.
    let engine = engine_with_one_worker(&place).await;
    let videos = warmed(&engine).await;
    let mut left = engine.client().request(&videos[0], wanted.clone(), options);
    next(&mut left).await.unwrap().result.unwrap();
    drop(left);
    let before = engine.counters().images_encoded;
    ask(&engine, &videos[1], &[DecodeIndex(0)]).await;
    let made = engine.counters().images_encoded - before;
    assert!(made <= 2, "{made} images for somebody who has left");

    // Who looks and waits comes in between, and then they go on with the picture that is there.
    let before = engine.counters();
    let mut bulk = engine.client().request(&videos[0], wanted.clone(), options);
    let mut got = vec![next(&mut bulk).await.unwrap()];
    let at_request = engine.counters().images_encoded;
    ask(&engine, &videos[2], &[DecodeIndex(1)]).await;
    let made = engine.counters().images_encoded - at_request;
    // Those that were made until the counters were looked at, too.
    assert!(made <= 500, "{made} of the bulk's images came before");
    while let Some(outcome) = next(&mut bulk).await {
        got.push(outcome);
    }
    let positions: Vec<usize> = got.iter().map(|o| o.position).collect();
    assert_eq!(positions, (0..wanted.len()).collect::<Vec<_>>());
    let some: Vec<_> = got.into_iter().step_by(100).collect();
    check_numbers(&videos[0], &asked, &some);
    // Each once: those that were made for who has left are there still.
    let after = engine.counters();
    let hits = after.cache_hits - before.cache_hits;
    assert_eq!(after.images_encoded - before.images_encoded + hits, 2001);
}
