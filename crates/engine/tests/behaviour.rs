//! The engine's promises: one answer for each target, no work done twice, nothing held without a
//! limit, and nobody waits for another's slowness.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use std::fs::{self, OpenOptions};
use std::io::Write;

use common::{
    Place, ask, check_numbers, clip_bytes, closures, ends, frames, next, outcomes, request, union,
    until,
};
use engine::{Engine, EngineConfig, EngineError, FrameErrorCode};
use media::DecodeIndex;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use storage::Store;
use testkit::boxes;

#[tokio::test(flavor = "multi_thread")]
async fn each_target_has_one_outcome_in_the_order_of_the_request() {
    let clips = [
        "moov_last",
        "open_gop_rasl",
        "fragmented",
        "annexb_open_gop",
        "b_frames_8",
    ];
    let place = Place::with(&clips);
    let engine = place.engine(|_| {}).await;
    let mut random = StdRng::seed_from_u64(7);
    for name in clips {
        let video = engine.open(name).await.unwrap();
        // Everything, and some of it several times, across all GOPs.
        let mut samples = frames(&video);
        for _ in 0..30 {
            samples.push(samples[random.random_range(0..samples.len())]);
        }
        samples.shuffle(&mut random);
        let got = ask(&engine, &video, &samples).await;
        let positions: Vec<usize> = got.iter().map(|o| o.position).collect();
        assert!(positions.is_sorted(), "{name}: {positions:?}");
        check_numbers(&video, &samples, &got);
    }
    let nothing = engine.open("moov_last").await.unwrap();
    assert!(ask(&engine, &nothing, &[]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_decodes_no_access_unit_twice_and_encodes_only_what_is_wanted() {
    let clips = [
        "closed_gop",
        "b_frames_8",
        "temporal_layers",
        "annexb",
        "low_delay_p",
    ];
    let place = Place::with(&clips);
    let engine = place.engine(|_| {}).await;
    let mut random = StdRng::seed_from_u64(8);
    for name in clips {
        let video = engine.open(name).await.unwrap();
        let file = clip_bytes(name);
        for count in [1, 2, 9, 1000] {
            let mut samples = frames(&video);
            samples.shuffle(&mut random);
            samples.truncate(count);
            let before = engine.counters();
            let got = ask(&engine, &video, &samples).await;
            check_numbers(&video, &samples, &got);
            let after = engine.counters();
            let needed = union(&closures(&video, &file, &samples)).len() as u64;
            // Fewer where a decoder stood on the way.
            let decoded = after.access_units_decoded - before.access_units_decoded;
            // A CRA is decoded for its own GOP and for the RASL pictures of the one before.
            let shared = video.index().sync_samples().count() as u64 - 1;
            assert!(
                decoded <= needed + shared,
                "{name}: {decoded} of {needed}: {samples:?}"
            );
            assert_eq!(
                after.images_encoded - before.images_encoded,
                samples.len() as u64,
                "{name}"
            );
        }
    }
    let counters = engine.counters();
    assert_eq!((counters.fallback_passes, counters.repeated_passes), (0, 0));
    // As many are open as there are workers: another kind of decoder takes the place of one that
    // rests. Never more than one for a pass.
    assert!(counters.decoders_opened <= counters.passes, "{counters:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rasl_picture_is_decoded_from_the_irap_before_its_own() {
    let place = Place::with(&["open_gop_rasl"]);
    let engine = place.engine(|_| {}).await;
    let video = engine.open("open_gop_rasl").await.unwrap();
    let file = clip_bytes("open_gop_rasl");
    let graph = common::graph(&video, &file);
    let mut seen = 0;
    for unit in 0..graph.units().len() as u32 {
        let picture = graph.picture(unit).unwrap();
        if !picture.nal_type.is_rasl() {
            continue;
        }
        seen += 1;
        let target = graph.sample_of(unit);
        let own = graph.sample_of(picture.irap.unwrap());
        let before = video
            .index()
            .sync_at_or_before(DecodeIndex(own.0 - 1))
            .unwrap();
        let closure = union(&closures(&video, &file, &[target]));
        assert!(closure.contains(&before) && closure.contains(&own));
        let counted = engine.counters().access_units_decoded;
        let got = ask(&engine, &video, &[target]).await;
        check_numbers(&video, &[target], &got);
        let decoded = engine.counters().access_units_decoded - counted;
        // Fewer where a decoder stood on the way.
        assert!(decoded <= closure.len() as u64, "{target}");
    }
    assert!(seen > 3, "{seen} RASL pictures");
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_nobody_takes_put_passes_aside_and_still_arrive() {
    let clips = ["default_gop", "closed_gop", "open_gop_rasl"];
    let place = Place::with(&clips);
    for workers in [1, 2] {
        for name in clips {
            for reversed in [false, true] {
                let engine = place
                    .engine(|c| {
                        c.workers = workers;
                        c.max_waiting_image_bytes = 1;
                    })
                    .await;
                let video = engine.open(name).await.unwrap();
                let mut samples = frames(&video);
                if reversed {
                    samples.reverse();
                }
                let mut ticket = request(&engine, &video, &samples);
                // Taking nothing, the work stops at a few images: what one decoder holds.
                until(|| engine.counters().passes_yielded > 0).await;
                let mut got = Vec::new();
                let held = 20 * (workers as u64 + 1);
                while let Some(outcome) = next(&mut ticket).await {
                    got.push(outcome);
                    let ahead = engine.counters().images_encoded - got.len() as u64;
                    assert!(ahead <= held, "{ahead} images wait");
                }
                assert_eq!(got.len(), samples.len());
                let mut positions: Vec<usize> = got.iter().map(|o| o.position).collect();
                positions.sort_unstable();
                positions.dedup();
                assert_eq!(positions.len(), samples.len(), "{name}");
                check_numbers(&video, &samples, &got);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_ticket_ends_its_pass_within_an_access_unit() {
    let place = Place::with(&["closed_gop"]);
    place.write("slow", &common::slow_clip());
    let engine = place.engine(|c| c.workers = 1).await;
    let slow = engine.open("slow").await.unwrap();
    let samples = frames(&slow);
    let mut ticket = request(&engine, &slow, &samples);
    next(&mut ticket).await.unwrap().result.unwrap();
    drop(ticket);
    // The only worker is free again for others.
    let video = engine.open("closed_gop").await.unwrap();
    let first = [DecodeIndex(0)];
    check_numbers(&video, &first, &ask(&engine, &video, &first).await);
    let stopped = engine.counters();
    assert!(
        stopped.access_units_decoded < samples.len() as u64,
        "{stopped:?}"
    );
    assert!(stopped.targets_cancelled > 0, "{stopped:?}");
    // And nothing goes on behind.
    check_numbers(&video, &first, &ask(&engine, &video, &first).await);
    let later = engine.counters();
    assert!(later.access_units_decoded <= stopped.access_units_decoded + 1);
    assert_eq!(later.targets_cancelled, stopped.targets_cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_ticket_ends_a_pass_that_is_put_aside() {
    let place = Place::with(&["default_gop"]);
    let engine = place
        .engine(|c| {
            c.workers = 1;
            c.max_waiting_image_bytes = 1;
        })
        .await;
    let video = engine.open("default_gop").await.unwrap();
    let samples = frames(&video);
    let ticket = request(&engine, &video, &samples);
    until(|| engine.counters().passes_yielded > 0).await;
    drop(ticket);
    let before = engine.counters();
    assert!(before.targets_cancelled > 0);
    check_numbers(
        &video,
        &samples[..1],
        &ask(&engine, &video, &samples[..1]).await,
    );
    let after = engine.counters();
    assert!(after.access_units_decoded <= before.access_units_decoded + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requester_that_takes_nothing_slows_nobody_else() {
    let place = Place::with(&["default_gop"]);
    let size = clip_bytes("default_gop").len() as u64;
    // With room for the bytes of many passes, and of one.
    for in_flight in [256 << 20, size] {
        let engine = place
            .engine(|c| {
                c.workers = 1;
                c.max_waiting_image_bytes = 1;
                c.max_group_bytes = size;
                c.max_bytes_in_flight = in_flight;
            })
            .await;
        let video = engine.open("default_gop").await.unwrap();
        let samples = frames(&video);
        let idle: Vec<_> = (0..10)
            .map(|_| request(&engine, &video, &samples))
            .collect();
        until(|| engine.counters().passes_yielded > 0).await;
        for &sample in samples.iter().step_by(17) {
            check_numbers(&video, &[sample], &ask(&engine, &video, &[sample]).await);
        }
        // Those who come back to it still get everything.
        for ticket in idle {
            let got = outcomes(ticket, samples.len()).await;
            check_numbers(&video, &samples, &got);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_more_bytes_than_allowed_is_refused_and_nothing_else() {
    let place = Place::with(&["closed_gop", "open_gop_rasl"]);
    let engine = place.engine(|_| {}).await;
    for name in ["closed_gop", "open_gop_rasl"] {
        let video = engine.open(name).await.unwrap();
        let index = video.index();
        // The largest run from an IRAP to before the next one.
        let mut ends: Vec<u32> = index.sync_samples().map(|s| s.0).skip(1).collect();
        ends.push(index.sample_count());
        let mut start = 0;
        let mut runs = Vec::new();
        for end in ends {
            let size = |i| u64::from(index.sample(DecodeIndex(i)).unwrap().size);
            runs.push((start..end).map(size).sum::<u64>());
            start = end;
        }
        assert!(runs.len() >= 3, "{runs:?}");
        let largest = *runs.iter().max().unwrap();
        let samples = frames(&video);

        // No GOP fits, but frames near their IRAP do.
        let small = place
            .engine(|c| {
                c.max_group_bytes = largest / 2;
                c.max_bytes_in_flight = largest / 2;
            })
            .await;
        let got = ask(&small, &small.open(name).await.unwrap(), &samples).await;
        let mut served = Vec::new();
        for outcome in got {
            match &outcome.result {
                Ok(_) => served.push(outcome),
                Err(e) => assert_eq!(e.code, FrameErrorCode::GopTooLarge, "{e}"),
            }
        }
        assert!(
            served.len() > 3 && served.len() < samples.len(),
            "{name}: {}",
            served.len()
        );
        check_numbers(&video, &samples, &served);
        // Told for one frame alone just as in a crowd.
        let alone = small.open(name).await.unwrap();
        for (position, &sample) in samples.iter().enumerate().step_by(5) {
            let got = ask(&small, &alone, &[sample]).await;
            let crowd = served.iter().any(|o| o.position == position);
            assert_eq!(got[0].result.is_ok(), crowd, "{name}: {sample}");
        }

        // Every frame's own run fits, all together do not, even where the runs overlap.
        let whole: u64 = runs.iter().sum();
        let two = largest * 2;
        assert!(two < whole, "{runs:?}");
        let enough = place
            .engine(|c| {
                c.max_group_bytes = two;
                c.max_bytes_in_flight = two;
            })
            .await;
        let video = enough.open(name).await.unwrap();
        check_numbers(&video, &samples, &ask(&enough, &video, &samples).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requesters_with_few_bytes_in_flight_all_finish() {
    let place = Place::with(&["closed_gop", "open_gop_rasl", "annexb"]);
    let engine = place
        .engine(|c| {
            c.max_group_bytes = 200 << 10;
            c.max_bytes_in_flight = 300 << 10;
            c.max_waiting_image_bytes = 20 << 10;
        })
        .await;
    let mut random = StdRng::seed_from_u64(9);
    let mut running = Vec::new();
    for n in 0..50 {
        let name = ["closed_gop", "open_gop_rasl", "annexb"][n % 3];
        let (engine, seed) = (engine.clone(), random.random());
        running.push(tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            let video = engine.open(name).await.unwrap();
            let mut samples = frames(&video);
            samples.shuffle(&mut random);
            samples.truncate(random.random_range(1..25));
            let mut ticket = request(&engine, &video, &samples);
            if n % 5 == 0 {
                // Some leave early.
                next(&mut ticket).await;
                return;
            }
            let got = outcomes(ticket, samples.len()).await;
            check_numbers(&video, &samples, &got);
        }));
    }
    for one in running {
        ends(one).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_changes_is_an_error_and_never_another_picture() {
    let place = Place::with(&["closed_gop"]);
    let engine = place.engine(|_| {}).await;
    let path = place.path("closed_gop");
    let original = fs::read(&path).unwrap();

    // Another file under the name: what was opened is still what is served.
    let video = engine.open("closed_gop").await.unwrap();
    place.add("open_gop_rasl");
    fs::rename(place.path("open_gop_rasl"), &path).unwrap();
    let samples = frames(&video);
    let got = ask(&engine, &video, &samples).await;
    for outcome in &got {
        match &outcome.result {
            Ok(_) => assert_eq!(common::number(outcome) as usize, outcome.position),
            Err(e) => assert_eq!(e.code, FrameErrorCode::VideoChanged, "{e}"),
        }
    }

    // Written over in place, longer; cut short; gone.
    type Change = fn(&std::path::Path);
    let changes: [Change; 3] = [
        |path| {
            let mut file = OpenOptions::new().append(true).open(path).unwrap();
            file.write_all(&[0; 4096]).unwrap();
        },
        |path| {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(9000).unwrap();
        },
        |path| fs::write(path, b"something else").unwrap(),
    ];
    for change in changes {
        fs::write(&path, &original).unwrap();
        let video = engine.open("closed_gop").await.unwrap();
        change(&path);
        for outcome in ask(&engine, &video, &samples).await {
            let code = outcome.result.unwrap_err().code;
            assert!(
                matches!(
                    code,
                    FrameErrorCode::VideoChanged | FrameErrorCode::StorageFailed
                ),
                "{code:?}"
            );
        }
    }
    assert!(engine.open("closed_gop").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_calls_every_sample_sync_is_served_exactly_at_bounded_cost() {
    let place = Place::new();
    for name in ["default_gop", "open_gop_rasl"] {
        let mut file = clip_bytes(name);
        let stss = boxes::find(&file, "moov/trak/mdia/minf/stbl/stss").unwrap();
        file[stss.start - 4..stss.start].copy_from_slice(b"free");
        place.write(name, &file);
        let engine = place.engine(|_| {}).await;
        let video = engine.open(name).await.unwrap();
        assert_eq!(
            video.index().sync_samples().count() as u32,
            video.index().sample_count()
        );
        let samples = frames(&video);
        for (sample, closure) in samples.iter().zip(closures(&video, &file, &samples)) {
            let (decoded, read) = (
                engine.counters().access_units_decoded,
                engine.store().counters().bytes,
            );
            check_numbers(&video, &[*sample], &ask(&engine, &video, &[*sample]).await);
            let decoded = engine.counters().access_units_decoded - decoded;
            let read = engine.store().counters().bytes - read;
            // The closure is decoded once; steps back that double read at most the sum of a
            // doubling series.
            assert!(decoded <= closure.len() as u64, "{name}: {sample}");
            assert!(
                read <= 4 * file.len() as u64,
                "{name}: {sample}: {read} bytes"
            );
        }
        // All at once.
        let got = ask(&engine, &video, &samples).await;
        check_numbers(&video, &samples, &got);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_dropped_while_requests_run_ends_them() {
    let place = Place::with(&["default_gop"]);
    // The ticket is still wanted: it is served to its end.
    let engine = place.engine(|c| c.max_waiting_image_bytes = 1).await;
    let video = engine.open("default_gop").await.unwrap();
    let samples = frames(&video);
    let ticket = request(&engine, &video, &samples);
    drop(engine);
    check_numbers(&video, &samples, &outcomes(ticket, samples.len()).await);
    // Nobody wants anything any more.
    for taken in [0, 1] {
        let engine = place.engine(|c| c.workers = 1).await;
        let video = engine.open("default_gop").await.unwrap();
        let mut tickets: Vec<_> = (0..5).map(|_| request(&engine, &video, &samples)).collect();
        for ticket in &mut tickets {
            for _ in 0..taken {
                next(ticket).await.unwrap();
            }
        }
        drop(engine);
        drop(tickets);
    }
}

#[test]
fn a_runtime_that_ends_under_a_request_takes_it_along() {
    let place = Place::with(&["default_gop"]);
    for workers in [1, 2] {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let (engine, mut ticket) = runtime.block_on(async {
            let engine = place.engine(|c| c.workers = workers).await;
            let video = engine.open("default_gop").await.unwrap();
            let samples = frames(&video);
            let mut ticket = request(&engine, &video, &samples);
            next(&mut ticket).await.unwrap();
            (engine, ticket)
        });
        drop(runtime);
        drop(engine);
        // What is left is answered, with errors.
        let other = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let rest = other.block_on(async {
            let mut rest = 0;
            while next(&mut ticket).await.is_some() {
                rest += 1;
            }
            rest
        });
        assert_eq!(rest, 119);
    }
}

#[tokio::test]
async fn limits_that_make_no_sense_are_refused() {
    let place = Place::new();
    let changes: [fn(&mut EngineConfig); 5] = [
        |c| c.jpeg_quality = 0,
        |c| c.jpeg_quality = 101,
        |c| c.workers = 0,
        |c| c.max_waiting_image_bytes = 0,
        |c| c.max_bytes_in_flight = c.max_group_bytes - 1,
    ];
    for change in changes {
        let mut config = EngineConfig::default();
        change(&mut config);
        let store = Store::local(&place.path("")).unwrap();
        let refused = Engine::new(store, config).await;
        assert!(matches!(refused, Err(EngineError::Config(_))));
    }
}
