//! Hundreds of damaged files through the running server: each request is answered once, and the
//! server stays healthy and small.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use std::path::Path;

use common::{Client, Random, health, memory_mib, offsets};
use testkit::programs::Server;
use testkit::{boxes, directories, footage, jpeg};

const CLIPS: [&str; 7] = [
    "moov_last",
    "moov_first",
    "fragmented",
    "fragmented_dash_sidx",
    "open_gop_rasl",
    "annexb_open_gop",
    "audio_first",
];

/// Positions of the size fields of all boxes, those inside `moov` and `moof` included.
fn box_sizes(file: &[u8]) -> Vec<usize> {
    const CONTAINERS: [&[u8; 4]; 8] = [
        b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"edts",
    ];
    let whole = 0..file.len();
    let mut open = Vec::from_iter([whole]);
    let mut found = Vec::new();
    while let Some(range) = open.pop() {
        let mut at = range.start;
        for (kind, payload) in boxes::children(file, range) {
            found.push(at);
            at = payload.end;
            if CONTAINERS.contains(&&kind) {
                open.push(payload);
            }
        }
    }
    found
}

/// One of the ways in which a file comes to harm.
fn mutate(file: &[u8], way: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = file.to_vec();
    match way % 5 {
        // Random bytes everywhere.
        0 => {
            for _ in 0..1 + random.below(200) {
                let at = random.below(bytes.len());
                bytes[at] = random.next() as u8;
            }
        }
        // Cut off.
        1 => bytes.truncate(random.below(bytes.len())),
        // A box lies about its length.
        2 => {
            let sizes = box_sizes(&bytes);
            if !sizes.is_empty() {
                let at = sizes[random.below(sizes.len())];
                let lies = [0, 1, 7, 8, 0x7fff_ffff, 0xffff_ffff, random.next() as u32];
                let lie = lies[random.below(lies.len())];
                bytes[at..at + 4].copy_from_slice(&lie.to_be_bytes());
            }
        }
        // Random bytes in the tables alone, or at the beginning of a raw stream.
        3 => {
            let tables = boxes::find(&bytes, "moov").unwrap_or(0..bytes.len().min(400));
            for _ in 0..1 + random.below(30) {
                let at = tables.start + random.below(tables.len());
                bytes[at] ^= 1 << random.below(8);
            }
        }
        // A hole that was never written.
        _ => {
            let from = random.below(bytes.len());
            let to = (from + 1 + random.below(8000)).min(bytes.len());
            bytes[from..to].fill(0);
        }
    }
    bytes
}

#[tokio::test]
async fn hundreds_of_damaged_files_are_answered_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start([Path::new("--local-path"), folder.path()]).unwrap();
    let clips: Vec<(Vec<u8>, Vec<u64>)> = CLIPS
        .iter()
        .map(|name| {
            let path = footage::clip(name).unwrap().path;
            (std::fs::read(&path).unwrap(), offsets(&path))
        })
        .collect();
    let good = folder.path().join("good");
    std::fs::write(&good, &clips[0].0).unwrap();

    let mut random = Random::new(1);
    let mut client = Client::connect(&server).await;
    let (mut set, mut served, mut refused) = (0, 0, 0);
    let mut half = 0.0;
    const FILES: usize = 210;
    for n in 0..FILES {
        let (file, offsets) = &clips[n % clips.len()];
        let bytes = mutate(file, n / clips.len(), &mut random);
        std::fs::write(folder.path().join("bad"), bytes).unwrap();
        let video = client.set_video("bad").await;
        set += usize::from(video["ok"] == true);
        // What was there before, and what never was.
        let mut wanted: Vec<u64> = offsets.clone();
        wanted.extend([
            0,
            1,
            u64::from(u32::MAX),
            (1 << 53) - 1,
            offsets[0],
            offsets[0],
        ]);
        for answer in client.frames(&wanted).await {
            match answer {
                Ok(image) => {
                    jpeg::decode(&image).unwrap();
                    served += 1;
                }
                Err(code) => {
                    assert!(!code.is_empty());
                    refused += 1;
                }
            }
        }
        if n % 20 == 19 {
            let reply = health(&server);
            assert!(
                reply.starts_with("HTTP/1.1 200") && reply.ends_with("ok"),
                "{reply}"
            );
            // Nothing is left over in what serves the next one.
            assert_eq!(client.set_video("good").await["ok"], true);
            let at = random.below(clips[0].1.len());
            let image = client.frames(&clips[0].1[at..=at]).await.remove(0);
            jpeg::frame_number(&image.unwrap()).unwrap();
        }
        if n == FILES / 2 {
            half = memory_mib(&server, "VmRSS");
        }
        if n % 50 == 49 {
            client = Client::connect(&server).await;
        }
    }
    let end = memory_mib(&server, "VmRSS");
    println!("{set} of {FILES} set, {served} frames, {refused} errors, {half:.0} to {end:.0} MiB");
    assert!(set > 40 && set < FILES && served > 1000 && refused > 1000);
    assert!(
        end < half + 48.0,
        "{half} MiB after half of the files, {end} MiB after all"
    );
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// Camera files that are no H.265 video, cut, or damaged on purpose: an answer for each.
#[tokio::test]
async fn camera_files_in_pieces_are_answered() {
    let Some(files) = directories::camera_files() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start([Path::new("--local-path"), folder.path()]).unwrap();
    let mut client = Client::connect(&server).await;
    let mut random = Random::new(2);
    for path in files {
        let file = std::fs::read(&path).unwrap();
        // Large pictures take long, and show nothing that small ones do not.
        if file.len() > 1_000_000 {
            continue;
        }
        for way in 0..5 {
            std::fs::write(folder.path().join("bad"), mutate(&file, way, &mut random)).unwrap();
            client.set_video("bad").await;
            let wanted: Vec<u64> = (0..8).map(|_| random.below(file.len()) as u64).collect();
            client.frames(&wanted).await;
        }
    }
    assert!(health(&server).ends_with("ok"));
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
