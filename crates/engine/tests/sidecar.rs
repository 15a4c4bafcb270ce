//! Videos with an index file beside them: the same pictures from fewer bytes, and a file that is
//! stale, damaged or wrong changes no picture.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{
    Place, ask, ask_as, bytes_of, check_numbers, clip_bytes, ends, frames, gop_of_250, outcomes,
    request_of, union,
};
use engine::catalog::{self, IndexedObject};
use engine::{DiskCacheConfig, Engine, FrameErrorCode, FrameOutcome, Video};
use media::bsidx;
use media::heads::HeadsBuilder;
use media::{DecodeIndex, VideoIndex};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use storage::{Opened, Store};
use tempfile::TempDir;
use testkit::footage;

/// The index file of a video in a folder.
async fn index_file(place: &Place, name: &str) -> Vec<u8> {
    let store = Store::local(place.path("").as_path()).unwrap();
    let video = catalog::open(&store, name).await.unwrap();
    catalog::index_file(&video).await.unwrap()
}

/// Writes the index file of a video beside it.
async fn put_beside(place: &Place, name: &str) {
    let file = index_file(place, name).await;
    place.write(&format!("{name}.bsidx"), &file);
}

/// Results in the order of their positions.
fn results(mut outcomes: Vec<FrameOutcome>) -> Vec<Result<Bytes, FrameErrorCode>> {
    outcomes.sort_by_key(|o| o.position);
    let result = |o: FrameOutcome| o.result.map(|i| i.bytes).map_err(|e| e.code);
    outcomes.into_iter().map(result).collect()
}

/// An engine that reads nothing along.
async fn sparse(place: &Place, cache: u64) -> Engine {
    let change = |c: &mut engine::EngineConfig| (c.read_gap, c.cache_bytes) = (0, cache);
    place.engine(change).await
}

/// Every clip: each frame alone, and sets of frames, with and without an index file.
#[tokio::test(flavor = "multi_thread")]
async fn frames_are_the_same_with_an_index_file() {
    let mut random = StdRng::seed_from_u64(4);
    let clips = footage::all().unwrap();
    let (mut fewer, mut tried) = (0, 0);
    for clip in &clips {
        let place = Place::new();
        place.write("a", &std::fs::read(&clip.path).unwrap());
        place.write("b", &std::fs::read(&clip.path).unwrap());
        put_beside(&place, "b").await;
        // What is kept in one of them makes runs grow, and decoders go on.
        for cache in [0, 64 << 20] {
            let (plain, with) = (sparse(&place, cache).await, sparse(&place, cache).await);
            let (a, b) = (
                plain.open("a").await.unwrap(),
                with.open("b").await.unwrap(),
            );
            assert!(!a.has_sidecar() && b.has_sidecar(), "{}", clip.name);
            assert_eq!(a.index(), b.index(), "{}", clip.name);
            let mut samples: Vec<DecodeIndex> =
                (0..a.index().sample_count()).map(DecodeIndex).collect();
            samples.shuffle(&mut random);
            if cache == 0 {
                // One by one, of every third.
                samples.truncate(samples.len().div_ceil(3));
            }
            let mut rest = &samples[..];
            while !rest.is_empty() {
                let count = match cache {
                    0 => 1,
                    _ => random.random_range(1..12).min(rest.len()),
                };
                let (set, others) = rest.split_at(count);
                rest = others;
                let expected = results(ask(&plain, &a, set).await);
                let got = results(ask(&with, &b, set).await);
                for ((sample, expected), got) in set.iter().zip(expected).zip(got) {
                    assert!(expected == got, "{}: {sample}: {got:?}", clip.name);
                }
            }
            let read = |e: &Engine| e.counters().bytes_fetched;
            let (more, less) = (read(&plain), read(&with));
            assert!(less <= more, "{}: {less} bytes for {more}", clip.name);
            tried += 1;
            fewer += u32::from(less < more);
            let known = |e: &Engine| e.counters().fallback_passes;
            assert_eq!(known(&plain), known(&with), "{}", clip.name);
        }
    }
    println!(
        "{tried} runs over {} clips, fewer bytes in {fewer}",
        clips.len()
    );
    assert!(fewer * 2 > tried, "{fewer} of {tried}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_frame_reads_its_closure_and_nothing_else() {
    let place = Place::new();
    let clip = gop_of_250();
    place.write("a", &clip);
    put_beside(&place, "a").await;
    let (mut fewer, mut read_in_all, mut prefixes) = (0, 0, 0);
    for at in [0, 1, 17, 100, 101, 102, 103, 200, 249] {
        // One each, so that nothing of the frame before is there.
        let engine = sparse(&place, 0).await;
        let video = engine.open("a").await.unwrap();
        let sample = frames(&video)[at];
        let closures = common::closures(&video, &clip, &[sample]);
        let before = engine.store().counters();
        let got = ask(&engine, &video, &[sample]).await;
        check_numbers(&video, &[sample], &got);
        let after = engine.store().counters();
        let closure = bytes_of(&video, closures[0].iter().map(|s| s.0));
        let prefix = bytes_of(&video, 0..=sample.0);
        let read = after.bytes - before.bytes;
        // At most sixteen reads are made at once: what lies between is read along then.
        assert!(
            read >= closure && read <= prefix,
            "{at}: {read} of {closure} to {prefix}"
        );
        assert!(after.requests - before.requests <= 16);
        fewer += u32::from(read < prefix);
        read_in_all += read;
        prefixes += prefix;
    }
    println!("{read_in_all} bytes, {prefixes} from the IRAP on");
    assert!(fewer >= 6, "{fewer}");
}

/// Ten clients, all frames of one GOP, in any order: no byte twice.
#[tokio::test(flavor = "multi_thread")]
async fn no_byte_is_read_twice() {
    let place = Place::new();
    place.write("a", &gop_of_250());
    put_beside(&place, "a").await;
    let engine = sparse(&place, 256 << 20).await;
    let video = engine.open("a").await.unwrap();
    let samples = frames(&video);
    let before = engine.store().counters().bytes;
    let clients = (0..10).map(|seed| {
        let (engine, video, mut order) = (engine.clone(), Arc::clone(&video), samples.clone());
        tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            order.shuffle(&mut random);
            let client = engine.client();
            let mut rest = &order[..];
            while !rest.is_empty() {
                let (set, others) = rest.split_at(random.random_range(1..=25).min(rest.len()));
                rest = others;
                let got = ask_as(&client, &video, set).await;
                check_numbers(&video, set, &got);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        ends(client).await.unwrap();
    }
    let read = engine.store().counters().bytes - before;
    assert_eq!(read, bytes_of(&video, 0..video.index().sample_count()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_sparsely_is_kept_on_disk() {
    let (place, folder) = (Place::new(), TempDir::new().unwrap());
    place.write("a", &gop_of_250());
    put_beside(&place, "a").await;
    let restart = || async {
        let engine = place.engine(|c| {
            (c.read_gap, c.cache_bytes) = (0, 64 << 20);
            c.disk_cache = Some(DiskCacheConfig {
                folder: folder.path().to_owned(),
                bytes: 256 << 20,
            });
        });
        let engine = engine.await;
        let video = engine.open("a").await.unwrap();
        (engine, video)
    };
    let (engine, video) = restart().await;
    let samples = frames(&video);
    let got = ask(&engine, &video, &[samples[120]]).await;
    check_numbers(&video, &[samples[120]], &got);
    let fetched = engine.counters().bytes_fetched;
    assert!(fetched < bytes_of(&video, 0..=samples[120].0));
    drop((engine, video));
    // Others of that closure cost nothing then.
    let (engine, video) = restart().await;
    let closures = common::closures(&video, &gop_of_250(), &[samples[120]]);
    let others: Vec<DecodeIndex> = union(&closures)
        .into_iter()
        .filter(|s| *s != samples[120])
        .collect();
    // Who wants many more at once is given everything up to the last.
    for set in others.chunks(16) {
        let got = ask(&engine, &video, set).await;
        check_numbers(&video, set, &got);
    }
    assert_eq!(engine.counters().bytes_fetched, 0);
}

/// The same clip with 600 KB more at the end of its `moov`, which ends the file.
fn with_large_moov(clip: &[u8]) -> Vec<u8> {
    let mut clip = clip.to_vec();
    let at = clip.windows(4).rposition(|w| w == b"moov").unwrap() - 4;
    let size = u32::from_be_bytes(clip[at..at + 4].try_into().unwrap());
    assert_eq!(at + size as usize, clip.len(), "it ends the file");
    let more = 600_000u32;
    clip[at..at + 4].copy_from_slice(&(size + more).to_be_bytes());
    clip.extend(more.to_be_bytes());
    clip.extend(b"free");
    clip.resize(clip.len() + more as usize - 8, 0);
    clip
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_are_not_read() {
    let (place, folder) = (Place::new(), TempDir::new().unwrap());
    let clip = with_large_moov(&clip_bytes("closed_gop"));
    place.write("a", &clip);
    place.write("b", &clip);
    put_beside(&place, "b").await;
    let open = |name: &'static str, disk: bool| {
        let folder = folder.path().to_owned();
        let engine = place.engine(move |c| {
            c.cache_bytes = 1 << 20;
            c.disk_cache = disk.then_some(DiskCacheConfig {
                folder,
                bytes: 64 << 20,
            });
        });
        async {
            let engine = engine.await;
            let video = engine.open(name).await.unwrap();
            let read = engine.store().counters();
            let sample = frames(&video)[30];
            let got = ask(&engine, &video, &[sample]).await;
            check_numbers(&video, &[sample], &got);
            // From memory: both ends again, and nothing else but maybe the file beside it.
            let again = engine.open(name).await.unwrap();
            assert!(Arc::ptr_eq(&again, &video));
            (read.bytes, video.index().clone())
        }
    };
    let ends = 256 * 1024;
    let file = std::fs::metadata(place.path("b.bsidx")).unwrap().len();
    let (whole, index) = open("a", false).await;
    assert!(whole > ends + 300_000, "{whole}");
    let (read, by_file) = open("b", false).await;
    assert!(read <= ends + file + 10_000, "{read}");
    assert_eq!(by_file, index);
    // And with a cache on disk from the second start on.
    let (first, _) = open("a", true).await;
    assert_eq!(first, whole);
    let (second, from_disk) = open("a", true).await;
    assert_eq!((second, from_disk), (ends, index));
}

async fn check_frames(engine: &Engine, video: &Arc<Video>) {
    let samples: Vec<DecodeIndex> = frames(video).into_iter().step_by(7).collect();
    let got = ask(engine, video, &samples).await;
    check_numbers(video, &samples, &got);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_or_damaged_file_is_ignored() {
    let place = Place::with(&["closed_gop", "open_gop_rasl"]);
    let own = index_file(&place, "closed_gop").await;
    let other = index_file(&place, "open_gop_rasl").await;
    let mut flipped = own.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let longer = [&own[..], &[0]].concat();
    let cases: [&[u8]; 7] = [
        &other,
        &flipped,
        &own[..own.len() - 1],
        &own[..50],
        &longer,
        b"no index file",
        b"",
    ];
    for case in cases {
        place.write("closed_gop.bsidx", case);
        let engine = place.engine(|_| {}).await;
        let video = engine.open("closed_gop").await.unwrap();
        assert!(!video.has_sidecar());
        check_frames(&engine, &video).await;
    }
    // Of the version before.
    place.write("closed_gop.bsidx", &own);
    place.write("closed_gop", &clip_bytes("open_gop_rasl"));
    let engine = place.engine(|_| {}).await;
    let video = engine.open("closed_gop").await.unwrap();
    assert!(!video.has_sidecar());
    check_frames(&engine, &video).await;
}

/// An index file for the object `name` with this index, and heads of these samples.
async fn forged(
    place: &Place,
    name: &str,
    index: &VideoIndex,
    data: impl Fn(DecodeIndex) -> Vec<u8>,
) -> Vec<u8> {
    let store = Store::local(place.path("").as_path()).unwrap();
    let opened: Opened = store.open(name, 128 << 10, 128 << 10).await.unwrap();
    let facts = catalog::facts(&opened);
    let ranges = index.declared();
    let declared = catalog::read_beside(&opened.object, &facts, ranges)
        .await
        .unwrap();
    let mut heads = HeadsBuilder::new(index);
    for i in 0..index.sample_count() {
        let sample = index.sample(DecodeIndex(i)).unwrap();
        heads.push(index, &sample, &data(sample.index));
    }
    bsidx::write(index, Some(&heads.finish()), &facts, &declared)
}

/// A sample of a clip that lies in memory.
fn sample_of(clip: &[u8], index: &VideoIndex, sample: DecodeIndex) -> Vec<u8> {
    let range = index.sample(sample).unwrap().range();
    clip[range.start as usize..range.end as usize].to_vec()
}

async fn index_of(place: &Place, name: &str) -> IndexedObject {
    let store = Store::local(place.path("").as_path()).unwrap();
    catalog::open(&store, name).await.unwrap()
}

/// A file that fits its video in all but what it says of one sample's references.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_references_are_found_out_and_planned_without() {
    let place = Place::with(&["default_gop"]);
    let clip = clip_bytes("default_gop");
    let index = index_of(&place, "default_gop").await.index;
    let wrong = |sample: DecodeIndex| {
        let mut data = sample_of(&clip, &index, sample);
        if sample.0 == 40 {
            // Into the slice header, behind the NAL unit header and the first flags.
            data[8] ^= 0x08;
        }
        data
    };
    let file = forged(&place, "default_gop", &index, wrong).await;
    place.write("default_gop.bsidx", &file);
    for cache in [0, 64 << 20] {
        let engine = sparse(&place, cache).await;
        let video = engine.open("default_gop").await.unwrap();
        assert!(video.has_sidecar());
        // Others before it as well as it and what follows, at the same time and afterwards.
        let samples = frames(&video);
        for _ in 0..2 {
            let got = ask(&engine, &video, &samples).await;
            check_numbers(&video, &samples, &got);
        }
        let alone = ask(&engine, &video, &[DecodeIndex(40)]).await;
        check_numbers(&video, &[DecodeIndex(40)], &alone);
        // The next one who opens it is not told the same again.
        let engine_counters = engine.counters();
        assert!(engine_counters.bytes_fetched > 0);
    }
}

/// A file whose places are wrong gives an error and no picture; who opens the video again is
/// served by the container's own tables.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_index_is_found_out() {
    let place = Place::with(&["closed_gop", "b_without_pyramid"]);
    let mut longer = clip_bytes("closed_gop");
    let other = clip_bytes("b_without_pyramid");
    // Of one size, so that the index of one may pass for that of the other.
    let mut shorter = other.clone();
    let free = |clip: &mut Vec<u8>, size: usize| {
        let more = size - clip.len();
        clip.extend((more as u32).to_be_bytes());
        clip.extend(b"free");
        clip.resize(size, 0);
    };
    let size = longer.len().max(shorter.len()) + 8;
    free(&mut longer, size);
    free(&mut shorter, size);
    place.write("a", &longer);
    place.write("b", &shorter);
    let index = index_of(&place, "b").await.index;
    let file = forged(&place, "a", &index, |s| sample_of(&shorter, &index, s)).await;
    place.write("a.bsidx", &file);
    let engine = sparse(&place, 64 << 20).await;
    let video = engine.open("a").await.unwrap();
    assert!(video.has_sidecar());
    let samples = frames(&video);
    for set in [&samples[..1], &samples[..]] {
        let client = engine.client();
        let got = outcomes(request_of(&client, &video, set), set.len()).await;
        for result in results(got) {
            assert_eq!(result.unwrap_err(), FrameErrorCode::VideoChanged);
        }
    }
    let video = engine.open("a").await.unwrap();
    assert!(!video.has_sidecar());
    let all = frames(&video);
    let got = ask(&engine, &video, &all).await;
    check_numbers(&video, &all, &got);
}
