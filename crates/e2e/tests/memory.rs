//! The server's memory does not depend on how large a video is, nor on how many frames it has
//! served. Sizes are asserted; times are only printed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::path::Path;
use std::time::Instant;

use common::{Client, Random, memory_mib, offsets};
use testkit::long::{self, Long, MoovPlace};
use testkit::programs::Server;
use testkit::{footage, jpeg};

const MIB: u64 = 1 << 20;

/// A video of about `size` bytes with `moov` at its end and as many samples as such a file has
/// (one for every 10 KB), in a file full of holes. Returns offsets of some frames from beginning
/// to end, with the numbers that they show.
fn large_video(path: &Path, size: u64) -> Vec<(u64, u32)> {
    let rounds = (size / 10_000).div_ceil(long::frames_of_a_round().unwrap());
    let video = Long {
        rounds,
        step: Some(size / rounds),
        written: (rounds / 8).max(1),
        moov: MoovPlace::Last,
    };
    let frames = video.write(path).unwrap().frames;
    frames.into_iter().step_by(5).collect()
}

/// Sets a video of this size on a fresh server and asks for frames of it. Gives the server's
/// greatest memory after the one and after the other, in MiB, and a line that says so.
async fn cost(size: u64) -> (f64, f64, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.mp4");
    let frames = large_video(&path, size);
    let length = path.metadata().unwrap().len();
    assert!(length >= size, "{length}");
    // What caches hold is bounded by their size, and comes on top.
    let options = ["--cache-size", "0", "--local-path"].map(Path::new);
    let server = Server::start(options.into_iter().chain([folder.path()])).unwrap();
    let mut client = Client::connect(&server).await;
    let started = Instant::now();
    let set = client.set_video("large.mp4").await;
    let took = started.elapsed();
    assert_eq!(set["ok"], true, "{:?}", client.refusals);
    let after_set = memory_mib(&server, "VmHWM");
    let wanted: Vec<u64> = frames.iter().map(|(offset, _)| *offset).collect();
    let images = client.frames(&wanted).await;
    for (image, (offset, number)) in images.into_iter().zip(&frames) {
        let image = image.unwrap_or_else(|code| panic!("{offset}: {code}"));
        assert_eq!(jpeg::frame_number(&image).unwrap(), *number, "{offset}");
    }
    let after_frames = memory_mib(&server, "VmHWM");
    let line = format!(
        "{:5} MB, {} frames: VideoSet after {took:.1?}, {after_set:.1} MiB; {} frames served, \
         {after_frames:.1} MiB",
        length / 1_000_000,
        set["frame_count"],
        frames.len()
    );
    (after_set, after_frames, line)
}

#[tokio::test]
async fn a_video_of_two_gigabytes_takes_little_more_memory_than_one_of_ten_megabytes() {
    let small = cost(10 * MIB).await;
    let large = cost(2048 * MIB).await;
    println!("{}\n{}", small.2, large.2);
    assert!(large.0 < small.0 + 32.0, "{small:?} and {large:?} MiB");
    assert!(large.1 < small.1 + 32.0, "{small:?} and {large:?} MiB");
}

#[tokio::test]
async fn memory_stays_flat_over_hundreds_of_random_frames() {
    let clips = [
        "default_gop",
        "open_gop_rasl",
        "annexb",
        "bits_10",
        "fragmented",
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut videos = Vec::new();
    for name in clips {
        let path = footage::clip(name).unwrap().path;
        fs::copy(&path, folder.path().join(name)).unwrap();
        videos.push((name, offsets(&path)));
    }
    let server = Server::start([Path::new("--local-path"), folder.path()]).unwrap();
    let mut client = Client::connect(&server).await;
    let mut random = Random::new(3);
    let mut served = 0;
    let mut marks = Vec::new();
    // A first round brings every decoder and table to its size.
    for _ in 0..3 {
        for _ in 0..50 {
            let (name, offsets) = &videos[random.below(videos.len())];
            assert_eq!(client.set_video(name).await["ok"], true);
            let wanted: Vec<u64> = (0..5)
                .map(|_| offsets[random.below(offsets.len())])
                .collect();
            for image in client.frames(&wanted).await {
                jpeg::frame_number(&image.unwrap()).unwrap();
                served += 1;
            }
        }
        marks.push(memory_mib(&server, "VmRSS"));
    }
    println!("{served} frames: {marks:.1?} MiB");
    assert!(marks[2] < marks[1] + 8.0, "{marks:?} MiB");
    assert!(marks[2] < marks[0] + 24.0, "{marks:?} MiB");
}
