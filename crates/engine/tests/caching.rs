//! What is kept is what it says: of this version, in this size, whole; within its bytes; and in use
//! where it saves work.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Place, ask, bytes_of, check_numbers, ends, frames, number, outcomes, request};
use engine::{
    DiskCacheConfig, Engine, EngineConfig, FrameErrorCode, FrameOutcome, FrameTarget, Output,
    RequestOptions, Video,
};
use media::DecodeIndex;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use storage::Store;
use tempfile::TempDir;
use testkit::{Recipe, footage, jpeg};

async fn ask_for(
    engine: &Engine,
    video: &Arc<Video>,
    sample: DecodeIndex,
    output: Output,
) -> FrameOutcome {
    let target = FrameTarget { sample, output };
    let options = RequestOptions::default();
    let ticket = engine.client().request(video, vec![target], options);
    outcomes(ticket, 1).await.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_request_is_a_hit_and_another_output_is_not() {
    let place = Place::with(&["closed_gop"]);
    let engine = place
        .engine(|c| {
            c.cache_bytes = 16 << 20;
            c.jpeg_quality = 77;
        })
        .await;
    let video = engine.open("closed_gop").await.unwrap();
    let sample = frames(&video)[30];
    let first = ask_for(&engine, &video, sample, Output::default()).await;
    assert_eq!(number(&first), 30);
    let (before, read) = (engine.counters(), engine.store().counters());
    // The engine's own quality said aloud is the same.
    let said = Output {
        quality: Some(77),
        ..Output::default()
    };
    for output in [Output::default(), said] {
        assert_eq!(ask_for(&engine, &video, sample, output).await, first);
    }
    let after = engine.counters();
    assert_eq!(after.cache_hits, 2);
    assert_eq!(
        (after.access_units_decoded, after.images_encoded),
        (before.access_units_decoded, 1)
    );
    assert_eq!(engine.store().counters(), read);
    // Each of these is an image of its own.
    let others = [
        (None, None, Some(76)),
        (Some(160), None, None),
        (None, Some(90), None),
        (Some(300), Some(90), None),
    ];
    let mut images = vec![first.result.unwrap().bytes];
    for (n, (width, height, quality)) in others.into_iter().enumerate() {
        let output = Output {
            width,
            height,
            quality,
            ..Output::default()
        };
        let made = ask_for(&engine, &video, sample, output).await;
        assert_eq!(number(&made), 30);
        assert_eq!(engine.counters().images_encoded, 2 + n as u64);
        assert_eq!(ask_for(&engine, &video, sample, output).await, made);
        images.push(made.result.unwrap().bytes);
    }
    images.sort();
    images.dedup();
    // 160 wide is 90 high, and 90 high is no more than 300 wide.
    assert_eq!(images.len(), 3);
    assert_eq!(engine.counters().cache_hits, 2 + 4);
    assert_eq!(engine.store().counters(), read, "the GOP's bytes were kept");
}

/// The numbers in the pictures begin here in the first version and in the second.
const VERSIONS: [u32; 2] = [0, 500];

fn version(of: u32) -> Vec<u8> {
    let recipe = Recipe {
        first_number: of,
        ..Recipe::new("version").x265("keyint=24:min-keyint=24:open-gop=0:bframes=3")
    };
    fs::read(footage::make(&recipe).unwrap().path).unwrap()
}

/// Which version these pictures are of: all of one.
fn version_of(video: &Video, samples: &[DecodeIndex], got: &[FrameOutcome]) -> Option<u32> {
    let mut of = None;
    for outcome in got {
        match &outcome.result {
            Ok(image) => {
                let shown = jpeg::frame_number(&image.bytes).unwrap();
                let rank = video.index().presentation_index(samples[outcome.position]);
                let first = shown - rank.unwrap().0;
                assert_eq!(*of.get_or_insert(first), first, "two versions in one video");
            }
            Err(e) => assert!(
                matches!(
                    e.code,
                    FrameErrorCode::VideoChanged | FrameErrorCode::StorageFailed
                ),
                "{:?}: {e}",
                e.code
            ),
        }
    }
    of
}

fn replace(path: &Path, bytes: &[u8], in_place: bool) {
    if in_place {
        fs::write(path, bytes).unwrap();
    } else {
        let beside = path.with_extension("new");
        fs::write(&beside, bytes).unwrap();
        fs::rename(&beside, path).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_replaced_is_another_one() {
    let files = VERSIONS.map(version);
    assert_ne!(files[0].len(), files[1].len());
    for in_place in [false, true] {
        let place = Place::new();
        place.write("video", &files[0]);
        let engine = place.engine(|c| c.cache_bytes = 64 << 20).await;
        let old = engine.open("video").await.unwrap();
        let samples = frames(&old);
        let some = &samples[..30];
        let got = ask(&engine, &old, some).await;
        assert_eq!(version_of(&old, some, &got), Some(VERSIONS[0]));
        // While something of it is wanted.
        let rest = request(&engine, &old, &samples[30..]);
        replace(&place.path("video"), &files[1], in_place);
        let got = outcomes(rest, samples.len() - 30).await;
        let of = version_of(&old, &samples[30..], &got);
        assert!(of.is_none_or(|of| of == VERSIONS[0]));
        // What was opened is what it was, or, once a read has shown that it is another one now, is
        // served no more; what was opened since is new.
        let changed = |o: &FrameOutcome| {
            let error = o.result.as_ref().err();
            error.is_some_and(|e| e.code == FrameErrorCode::VideoChanged)
        };
        let known = got.iter().any(changed);
        let got = ask(&engine, &old, &samples).await;
        let of = version_of(&old, &samples, &got);
        assert!(of.is_none_or(|of| of == VERSIONS[0]));
        assert!(!known || got.iter().all(changed));
        let new = engine.open("video").await.unwrap();
        let got = ask(&engine, &new, &samples).await;
        assert_eq!(version_of(&new, &samples, &got), Some(VERSIONS[1]));
        assert!(got.iter().all(|o| o.result.is_ok()));
        // The old one again, by the same name: as a file it is a third version.
        replace(&place.path("video"), &files[0], in_place);
        let third = engine.open("video").await.unwrap();
        let hits = engine.counters().cache_hits;
        let got = ask(&engine, &third, &samples).await;
        assert_eq!(version_of(&third, &samples, &got), Some(VERSIONS[0]));
        assert_eq!(engine.counters().cache_hits, hits);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_replaced_all_the_time_is_never_mixed() {
    let files = VERSIONS.map(version);
    for in_place in [false, true] {
        let place = Place::new();
        place.write("video", &files[0]);
        let disk = TempDir::new().unwrap();
        let engine = place
            .engine(|c| {
                c.cache_bytes = 8 << 20;
                c.harvest = true;
                c.disk_cache = Some(DiskCacheConfig {
                    folder: disk.path().to_owned(),
                    bytes: 64 << 20,
                });
            })
            .await;
        // How often it is to be replaced: each time while something is asked for.
        let turns = Arc::new(AtomicUsize::new(0));
        let writer = {
            let (turns, path, files) = (Arc::clone(&turns), place.path("video"), files.clone());
            std::thread::spawn(move || {
                let mut done = 0;
                loop {
                    match turns.load(Ordering::Acquire) {
                        usize::MAX => return done,
                        wanted if wanted == done => std::thread::yield_now(),
                        _ => {
                            done += 1;
                            replace(&path, &files[done % 2], in_place);
                        }
                    }
                }
            })
        };
        let mut random = StdRng::seed_from_u64(3);
        for turn in 1..=150 {
            let early = random.random_range(0..3) == 0;
            if early {
                turns.store(turn, Ordering::Release);
            }
            // A file that is half written is no video.
            let video = ends(engine.open("video")).await;
            if !early {
                turns.store(turn, Ordering::Release);
            }
            let Ok(video) = video else { continue };
            let mut samples = frames(&video);
            samples.shuffle(&mut random);
            samples.truncate(random.random_range(1..20));
            let got = ask(&engine, &video, &samples).await;
            // How much can be served is chance; that it is of one version is not.
            version_of(&video, &samples, &got);
        }
        turns.store(usize::MAX, Ordering::Release);
        writer.join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_stays_within_its_bytes() {
    const CLIPS: [&str; 8] = [
        "closed_gop",
        "open_gop_rasl",
        "default_gop",
        "b_frames_8",
        "annexb",
        "low_delay_p",
        "fragmented",
        "slices",
    ];
    let place = Place::with(&CLIPS);
    for (budget, harvest) in [
        (0, true),
        (100 << 10, false),
        (400 << 10, true),
        (3 << 20, true),
    ] {
        let engine = place
            .engine(|c| {
                c.cache_bytes = budget;
                c.harvest = harvest;
            })
            .await;
        let load = |seed: u64| {
            let engine = engine.clone();
            async move {
                let mut random = StdRng::seed_from_u64(seed);
                for _ in 0..40 {
                    let name = CLIPS[random.random_range(0..CLIPS.len())];
                    let video = engine.open(name).await.unwrap();
                    let all = frames(&video);
                    let samples: Vec<DecodeIndex> = (0..random.random_range(1..6))
                        .map(|_| all[random.random_range(0..all.len())])
                        .collect();
                    check_numbers(&video, &samples, &ask(&engine, &video, &samples).await);
                    // Tables that grow are made room for when the insertion returns.
                    let kept = engine.cached_bytes();
                    assert!(kept <= budget + budget / 32, "{kept} of {budget}");
                }
            }
        };
        let running: Vec<_> = (0..4).map(|seed| tokio::spawn(load(seed))).collect();
        for one in running {
            ends(one).await.unwrap();
        }
        let counters = engine.counters();
        if budget == 0 {
            assert_eq!((engine.cached_bytes(), counters.cache_hits), (0, 0));
        } else {
            assert!(engine.cached_bytes() > budget / 4);
        }
        if budget == 3 << 20 {
            assert!(counters.cache_hits > 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_whose_index_was_evicted_goes_on() {
    let place = Place::with(&["closed_gop", "default_gop", "slices", "open_gop_rasl"]);
    let engine = place.engine(|c| c.cache_bytes = 60 << 10).await;
    let video = engine.open("closed_gop").await.unwrap();
    let samples = frames(&video);
    let ticket = request(&engine, &video, &samples);
    // More than there is room for.
    for name in ["default_gop", "slices", "open_gop_rasl"] {
        let other = engine.open(name).await.unwrap();
        let all = frames(&other);
        check_numbers(&other, &all, &ask(&engine, &other, &all).await);
    }
    check_numbers(&video, &samples, &outcomes(ticket, samples.len()).await);
    let again = engine.open("closed_gop").await.unwrap();
    assert!(!Arc::ptr_eq(&again, &video), "its index was not evicted");
    for video in [&video, &again] {
        check_numbers(video, &samples, &ask(&engine, video, &samples).await);
    }
    // Both are the same version: what one has made is there for the other.
    ask(&engine, &video, &samples[3..4]).await;
    let hits = engine.counters().cache_hits;
    ask(&engine, &again, &samples[3..4]).await;
    assert_eq!(engine.counters().cache_hits, hits + 1);
}

/// An engine with a cache on disk. The one before may still be letting go of the folder.
async fn on_disk(place: &Place, folder: &Path, memory: u64) -> Engine {
    ends(async {
        loop {
            let config = EngineConfig {
                workers: 2,
                cache_bytes: memory,
                harvest: false,
                disk_cache: Some(DiskCacheConfig {
                    folder: folder.to_owned(),
                    bytes: 64 << 20,
                }),
                ..EngineConfig::default()
            };
            let store = Store::local(&place.path("")).unwrap();
            match Engine::new(store, config).await {
                Ok(engine) => return engine,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_in(&path));
        } else if fs::metadata(&path).unwrap().len() > 100 {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_engine_serves_from_disk() {
    let place = Place::with(&["closed_gop"]);
    let folder = TempDir::new().unwrap();
    for memory in [0, 16 << 20] {
        let folder = folder.path().join(memory.to_string());
        let engine = on_disk(&place, &folder, memory).await;
        let video = engine.open("closed_gop").await.unwrap();
        let samples = frames(&video);
        let first = ask(&engine, &video, &samples[..20]).await;
        check_numbers(&video, &samples, &first);
        drop((engine, video));

        let engine = on_disk(&place, &folder, memory).await;
        let video = engine.open("closed_gop").await.unwrap();
        let opened = engine.store().counters();
        assert_eq!(ask(&engine, &video, &samples[..20]).await, first);
        let counters = engine.counters();
        assert_eq!((counters.disk_hits, counters.cache_hits), (20, 20));
        assert_eq!((counters.passes, counters.access_units_decoded), (0, 0));
        // Another picture of the GOP: its bytes are there, too.
        let other = &samples[5..6];
        let small = Output {
            width: Some(160),
            ..Output::default()
        };
        assert_eq!(number(&ask_for(&engine, &video, other[0], small).await), 5);
        assert_eq!(engine.store().counters(), opened, "nothing was read again");
        assert_eq!(engine.counters().bytes_fetched, 0);
        // What is behind what was read: only that.
        let last = samples[23];
        let end = samples[..20].iter().map(|s| s.0).max().unwrap() + 1;
        check_numbers(&video, &[last], &ask(&engine, &video, &[last]).await);
        let behind = bytes_of(&video, end..=last.0.max(end));
        assert!(engine.counters().bytes_fetched <= behind);
        // From memory, where there is some, the second time.
        let hits = engine.counters().disk_hits;
        ask(&engine, &video, &samples[..20]).await;
        let more = engine.counters().disk_hits - hits;
        assert_eq!(more, if memory == 0 { 20 } else { 0 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_of_the_cache_are_misses() {
    let place = Place::with(&["closed_gop"]);
    type Harm = fn(&Path);
    let harms: [Harm; 4] = [
        |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        },
        |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        },
        |path| fs::write(path, b"").unwrap(),
        |path| fs::remove_file(path).unwrap(),
    ];
    for (n, harm) in harms.into_iter().enumerate() {
        // Under a running engine, and before one is started.
        for running in [false, true] {
            let folder = TempDir::new().unwrap();
            let engine = on_disk(&place, folder.path(), 0).await;
            let video = engine.open("closed_gop").await.unwrap();
            let samples = frames(&video);
            let first = ask(&engine, &video, &samples).await;
            check_numbers(&video, &samples, &first);
            drop((engine, video));
            // It has the folder when all is written.
            let mut engine = on_disk(&place, folder.path(), 0).await;
            let files = files_in(folder.path());
            assert!(files.len() > samples.len(), "images, and runs");
            if running {
                files.iter().for_each(|file| harm(file));
            } else {
                drop(engine);
                files.iter().for_each(|file| harm(file));
                engine = on_disk(&place, folder.path(), 0).await;
            }
            let video = engine.open("closed_gop").await.unwrap();
            assert_eq!(ask(&engine, &video, &samples).await, first, "harm {n}");
            let counters = engine.counters();
            assert_eq!(counters.disk_hits, 0, "harm {n}");
            assert_eq!(counters.images_encoded, samples.len() as u64, "harm {n}");
        }
    }
}
