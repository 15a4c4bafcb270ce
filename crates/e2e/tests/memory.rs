//! The server's memory does not depend on how large a video is, nor on how many frames it has
//! served. Sizes are asserted; times are only printed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Instant;

use common::{Client, Random, memory_mib, offsets};
use testkit::programs::Server;
use testkit::{boxes, footage, jpeg};

const MIB: u64 = 1 << 20;

/// A video of about `size` bytes with `moov` at its end and as many samples as such a file has
/// (one for every 10 KB): the frames of a small clip again and again, in a file full of holes.
/// Returns offsets of some frames from beginning to end, with the numbers that they show.
fn large_video(path: &Path, size: u64) -> Vec<(u64, u32)> {
    let clip = footage::clip("offsets_64_bit").unwrap();
    let small = fs::read(&clip.path).unwrap();
    let packets = testkit::reference::packets(&clip.path, Default::default()).unwrap();
    let count = packets.len() as u64;
    let rounds = (size / 10_000).div_ceil(count);
    let step = size / rounds;
    let mdat = boxes::find(&small, "mdat").unwrap();
    assert!(
        (mdat.len() as u64) < step,
        "a clip of less than 10 KB a frame"
    );

    let mut file = File::create(path).unwrap();
    // Everything before mdat's payload; its size (largesize, 64 bits) is that of all rounds.
    let head = mdat.start;
    let mut bytes = small[..head].to_vec();
    bytes[head - 8..].copy_from_slice(&(16 + rounds * step).to_be_bytes());
    file.write_all(&bytes).unwrap();
    for round in 0..rounds {
        // Frames are asked for in some rounds only: the others need not be there.
        if round % (rounds / 8).max(1) == 0 {
            let at = head as u64 + round * step;
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&small[mdat.clone()]).unwrap();
        }
    }

    // moov, with each table of samples repeated.
    let base = "moov/trak/mdia/minf/stbl";
    let table = |name: &str| {
        let payload = boxes::find(&small, &format!("{base}/{name}"));
        let payload = payload.unwrap_or_else(|| panic!("no {name}"));
        // Found behind its first fields, to enter it.
        let before = if name == "stsd" { 8 } else { 0 };
        small[payload.start - before..payload.end].to_vec()
    };
    let again = |name: &str, entry: usize, change: &dyn Fn(u64, &[u8]) -> Vec<u8>| {
        let payload = table(name);
        let mut out = payload[..4].to_vec();
        out.extend((((payload.len() - 8) / entry) as u64 * rounds).to_be_bytes()[4..].iter());
        for round in 0..rounds {
            for row in payload[8..].chunks_exact(entry) {
                out.extend(change(round, row));
            }
        }
        full(name, out)
    };
    let same = |_: u64, row: &[u8]| row.to_vec();
    let number = |row: &[u8]| u32::from_be_bytes(row[..4].try_into().unwrap());
    let chunks = (table("co64").len() as u64 - 8) / 8;
    let sizes = table("stsz");
    assert_eq!(sizes[4..8], [0; 4], "sizes one by one");
    let mut stsz = sizes[..8].to_vec();
    stsz.extend(&((rounds * count) as u32).to_be_bytes());
    (0..rounds).for_each(|_| stsz.extend(&sizes[12..]));
    let stbl = [
        full("stsd", table("stsd")),
        again("stts", 8, &same),
        again("ctts", 8, &same),
        again("stss", 4, &|round, row| {
            let sample = u64::from(number(row)) + round * count;
            (sample as u32).to_be_bytes().to_vec()
        }),
        again("stsc", 12, &|round, row| {
            let chunk = u64::from(number(row)) + round * chunks;
            [&(chunk as u32).to_be_bytes()[..], &row[4..]].concat()
        }),
        full("stsz", stsz),
        again("co64", 8, &|round, row| {
            let offset = u64::from_be_bytes(row.try_into().unwrap());
            (offset + round * step).to_be_bytes().to_vec()
        }),
    ]
    .concat();
    let mut inner = full("stbl", stbl);
    for name in base.rsplit('/').skip(1) {
        // The siblings of what is replaced; edit lists hide what is repeated.
        let parent: Vec<&str> = base.split('/').take_while(|part| *part != name).collect();
        let own = [&parent[..], &[name]].concat().join("/");
        let range = boxes::find(&small, &own).unwrap();
        let replaced = base.split('/').nth(parent.len() + 1).unwrap();
        let mut content = Vec::new();
        for (kind, payload) in boxes::children(&small, range) {
            if kind == replaced.as_bytes() {
                content.extend(&inner);
            } else if &kind != b"edts" {
                content.extend(full(
                    std::str::from_utf8(&kind).unwrap(),
                    small[payload].to_vec(),
                ));
            }
        }
        inner = full(name, content);
    }
    file.seek(SeekFrom::Start(head as u64 + rounds * step))
        .unwrap();
    file.write_all(&inner).unwrap();

    let mut shown: Vec<i64> = packets.iter().map(|p| p.pts.unwrap()).collect();
    shown.sort_unstable();
    let written = (0..rounds).step_by((rounds / 8).max(1) as usize);
    written
        .flat_map(|round| {
            let shown = &shown;
            packets.iter().step_by(5).map(move |packet| {
                let frame = shown.binary_search(&packet.pts.unwrap()).unwrap();
                (packet.position + round * step, frame as u32)
            })
        })
        .collect()
}

/// A box.
fn full(kind: &str, payload: Vec<u8>) -> Vec<u8> {
    let size = (payload.len() as u32 + 8).to_be_bytes();
    [&size[..], kind.as_bytes(), &payload].concat()
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
