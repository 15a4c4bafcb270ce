//! The burnt-in number survives JPEG, turning and halving.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use testkit::command::Run;
use testkit::{footage, jpeg};

/// Frames as JPEG files one after the other, as ffmpeg's own encoder writes them.
fn jpegs(clip: &str, quality: &str, filter: &str) -> Vec<u8> {
    let clip = footage::clip(clip).unwrap();
    let run = Run::ffmpeg()
        .arg("-i")
        .arg(clip.path)
        .args(["-frames:v", "20", "-vf", filter]);
    run.args([
        "-c:v",
        "mjpeg",
        "-q:v",
        quality,
        "-pix_fmt",
        "yuvj420p",
        "-f",
        "image2pipe",
    ])
    .arg("pipe:1")
    .output()
    .unwrap()
}

/// Cuts the stream before each SOI marker.
fn split(stream: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> = stream
        .windows(3)
        .enumerate()
        .filter(|(_, bytes)| *bytes == [0xff, 0xd8, 0xff])
        .map(|(at, _)| at)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([stream.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(&start, end)| &stream[start..end])
        .collect()
}

#[test]
fn numbers_are_read_from_jpegs() {
    let clips = [
        "default_gop",
        "chroma_444",
        "gray",
        "bits_10",
        "bt709_full",
        "smallest",
    ];
    let turned = [
        "turned_90",
        "turned_180",
        "turned_270",
        "mirrored_then_turned_90",
    ];
    for clip in clips.iter().chain(&turned) {
        for (quality, filter) in [("2", "null"), ("12", "null"), ("4", "scale=iw/2:ih/2")] {
            let stream = jpegs(clip, quality, filter);
            let images = split(&stream);
            assert_eq!(images.len(), 20, "{clip}");
            for (n, image) in images.iter().enumerate() {
                let number = jpeg::frame_number(image);
                assert_eq!(
                    number.ok(),
                    Some(n as u32),
                    "{clip} at {quality} through {filter}"
                );
            }
        }
    }
}

#[test]
fn what_is_no_whole_jpeg_is_refused() {
    let stream = jpegs("default_gop", "4", "null");
    let image = split(&stream)[0];
    assert!(jpeg::decode(image).is_ok());
    assert!(jpeg::decode(&image[..image.len() / 2]).is_err());
    assert!(jpeg::decode(&image[1..]).is_err());
    assert!(jpeg::decode(b"").is_err());
}
