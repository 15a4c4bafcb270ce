//! Real clips, whole, against ffmpeg's decode. Skipped with a note where they are not at hand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod support;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use codec::{HevcDecoder, JpegEncoder, Picture, Threading};
use media::{ColourDescription, Orientation};
use support::{access_units, ffmpeg};

/// `BUCKET_STREAMER_FOOTAGE`, else `../shared/footage` beside the repository.
fn footage() -> Vec<PathBuf> {
    let folder = std::env::var_os("BUCKET_STREAMER_FOOTAGE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/footage"),
        PathBuf::from,
    );
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("no footage in {}", folder.display());
        return Vec::new();
    };
    let known = ["mp4", "mov", "h265", "hevc", "265", "ts"];
    let mut files: Vec<PathBuf> = entries
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| known.iter().any(|k| e == *k)))
        .collect();
    files.sort();
    files
}

/// The first H.265 track as a raw stream.
fn raw_stream(path: &Path) -> Vec<u8> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("h265" | "hevc" | "265") => std::fs::read(path).unwrap(),
        _ => ffmpeg(&[
            "-i",
            path.to_str().unwrap(),
            "-map",
            "0:v:0",
            "-c",
            "copy",
            "-f",
            "hevc",
            "-",
        ]),
    }
}

#[test]
fn real_clips_decode_as_with_ffmpeg() {
    for path in footage() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let stream = raw_stream(&path);
        let units = access_units(&stream);
        let mut decoder = HevcDecoder::new(Threading::Single).unwrap();
        if name.contains("fuzz") {
            // Damaged on purpose: any answer but a crash will do.
            for (id, unit) in units.iter().enumerate() {
                let _ = decoder.send(unit, id as i64, &mut drop);
            }
            let _ = decoder.drain(&mut drop);
            continue;
        }
        let mut oracle = Command::new("ffmpeg")
            .args([
                "-v",
                "quiet",
                "-flags",
                "unaligned",
                "-f",
                "hevc",
                "-i",
                "-",
            ])
            .args(["-fps_mode", "passthrough", "-f", "rawvideo", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = oracle.stdin.take().unwrap();
        let mut output = oracle.stdout.take().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                use std::io::Write;
                // ffmpeg may stop reading early.
                let _ = input.write_all(&stream);
                drop(input);
            });
            let mut refused = false;
            let mut count = 0;
            let mut encoder = JpegEncoder::new().unwrap();
            let mut check = |picture: Picture| {
                let mine = support::raw(&picture);
                let mut theirs = vec![0; mine.len()];
                output.read_exact(&mut theirs).unwrap();
                assert!(mine == theirs, "{name}: picture {count} differs");
                assert!(!picture.is_damaged(), "{name}: picture {count}");
                if count == 0 {
                    let colour = ColourDescription::default();
                    encoder
                        .encode(&picture, colour, Orientation::IDENTITY, 80)
                        .unwrap();
                }
                count += 1;
            };
            for (id, unit) in units.iter().enumerate() {
                refused |= decoder
                    .send(unit, id as i64, &mut check)
                    .inspect_err(|e| println!("{name}: {e}"))
                    .is_err();
            }
            decoder.drain(&mut check).unwrap();
            assert_eq!(
                output.read(&mut [0]).unwrap(),
                0,
                "{name}: ffmpeg has more than {count}"
            );
            // A profile that this libavcodec does not know gives nothing there, either.
            assert!(
                count == 0 || !refused,
                "{name}: refused after {count} pictures"
            );
            println!("{name}: {count} pictures");
        });
        oracle.wait().unwrap();
    }
}
