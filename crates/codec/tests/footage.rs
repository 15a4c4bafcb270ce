//! Real clips, whole, against ffmpeg's decode. Skipped with a note where they are not at hand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod support;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use codec::{HevcDecoder, ImageEncoder, Picture, Rendition, Threading};
use media::{ColourDescription, Orientation};
use support::{access_units, ffmpeg};
use testkit::reference::ReferenceFrame;

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
            let _ = decoder.finish(&mut drop);
            continue;
        }
        let kept = support::stream_file(&name, &stream);
        // A profile that this libavcodec does not know gives nothing there, either.
        let oracle = std::panic::catch_unwind(|| support::oracle(&kept)).unwrap_or_default();
        let oracle: HashMap<i64, ReferenceFrame> = oracle.into_iter().collect();
        let (mut refused, mut count) = (false, 0);
        let mut encoder = ImageEncoder::new().unwrap();
        let mut check = |picture: Picture| {
            let frame = oracle.get(&picture.id());
            support::assert_equals(&name, &picture, frame.unwrap());
            if count == 0 {
                let colour = ColourDescription::default();
                encoder
                    .encode(
                        &picture,
                        colour,
                        Orientation::IDENTITY,
                        Rendition::full_size(80),
                    )
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
        decoder.finish(&mut check).unwrap();
        assert_eq!(count, oracle.len(), "{name}");
        assert!(
            count == 0 || !refused,
            "{name}: refused after {count} pictures"
        );
        println!("{name}: {count} pictures");
    }
}
