//! The eight orientations against ffmpeg's filters.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod support;

use codec::{
    HevcDecoder, ImageEncoder, PlanesBuf, Rendition, Subsampling, Threading, to_jpeg_planes,
};
use media::{ColourDescription, Orientation};
use support::{access_units, clip, decode_all, ffmpeg};

/// Full-range BT.601: the planes that ffmpeg decodes are those of the JPEG.
const AS_IT_IS: ColourDescription = ColourDescription {
    primaries: 6,
    transfer: 6,
    matrix: 6,
    full_range: Some(true),
};
/// Through the tone map.
const HDR: ColourDescription = ColourDescription {
    primaries: 9,
    transfer: 16,
    matrix: 9,
    full_range: Some(false),
};
const CONVERTED: ColourDescription = ColourDescription {
    primaries: 1,
    transfer: 1,
    matrix: 1,
    full_range: Some(false),
};

fn orientations() -> impl Iterator<Item = Orientation> {
    [false, true].into_iter().flat_map(|mirrored| {
        (0..4).map(move |quarter_turns| Orientation {
            mirrored,
            quarter_turns,
        })
    })
}

fn filter(o: Orientation) -> String {
    let turn = ["null", "transpose=clock", "hflip,vflip", "transpose=cclock"];
    let mirror = if o.mirrored { "hflip" } else { "null" };
    format!("{mirror},{}", turn[usize::from(o.quarter_turns)])
}

fn rows(planes: &PlanesBuf, plane: usize) -> Vec<Vec<u8>> {
    (0..planes.plane_size(plane).1)
        .map(|y| planes.row(plane, y).to_vec())
        .collect()
}

fn flat(planes: &PlanesBuf) -> Vec<u8> {
    (0..3).flat_map(|p| rows(planes, p).concat()).collect()
}

/// One plane, mirrored and turned by the definition.
fn by_hand(rows: &[Vec<u8>], o: Orientation) -> Vec<Vec<u8>> {
    let mut rows = rows.to_vec();
    if o.mirrored {
        rows.iter_mut().for_each(|r| r.reverse());
    }
    for _ in 0..o.quarter_turns {
        let (w, h) = (rows[0].len(), rows.len());
        rows = (0..w)
            .map(|x| (0..h).map(|y| rows[h - 1 - y][x]).collect())
            .collect();
    }
    rows
}

#[test]
fn planes_are_turned_and_mirrored() {
    for (pix_fmt, size, window) in [
        ("yuv420p", "176x144", [0, 0, 0, 0]),
        ("yuv420p", "178x102", [0, 0, 0, 0]),
        // Odd sides, where the format has them: 177x101 and 178x99.
        ("yuv422p", "178x100", [0, 0, 0, 1]),
        ("yuv444p", "178x102", [1, 0, 1, 0]),
        ("gray", "178x102", [1, 0, 1, 0]),
    ] {
        let source = format!("testsrc2=size={size}:rate=1:duration=1");
        let name = format!("turn-{pix_fmt}-{size}");
        let whole = clip(&name, &["-f", "lavfi", "-i", &source], pix_fmt, "crf=20");
        let path = support::with_window(&whole, window);
        let stream = std::fs::read(&path).unwrap();
        let mut decoder = HevcDecoder::new(Threading::Single).unwrap();
        let picture = decode_all(&mut decoder, &access_units(&stream))
            .unwrap()
            .remove(0);
        let mut planes = PlanesBuf::new();
        // Conversions in the same pass, against the upright result.
        let upright = [CONVERTED, HDR].map(|colour| {
            to_jpeg_planes(&picture, colour, Orientation::IDENTITY, &mut planes);
            let planes: Vec<Vec<Vec<u8>>> = (0..3).map(|p| rows(&planes, p)).collect();
            (colour, planes)
        });
        for o in orientations() {
            to_jpeg_planes(&picture, AS_IT_IS, o, &mut planes);
            // ffmpeg's `transpose` does not take 4:2:2.
            if !(pix_fmt == "yuv422p" && o.swaps_axes()) {
                let theirs = ffmpeg(&[
                    "-flags",
                    "unaligned",
                    "-i",
                    path.to_str().unwrap(),
                    "-vf",
                    &filter(o),
                    "-pix_fmt",
                    pix_fmt,
                    "-f",
                    "rawvideo",
                    "-",
                ]);
                assert!(flat(&planes) == theirs, "{pix_fmt} {size} {o:?}");
            }
            if pix_fmt == "yuv422p" {
                let expected = if o.swaps_axes() {
                    Subsampling::S440
                } else {
                    Subsampling::S422
                };
                assert_eq!(planes.subsampling(), expected);
            }
            for (colour, upright) in &upright {
                to_jpeg_planes(&picture, *colour, o, &mut planes);
                for (p, upright) in upright
                    .iter()
                    .enumerate()
                    .filter(|(_, rows)| !rows.is_empty())
                {
                    let same = rows(&planes, p) == by_hand(upright, o);
                    assert!(same, "{pix_fmt} {size} {o:?} plane {p} {colour:?}");
                }
            }
        }
    }
}

/// The image as a whole, by ffmpeg's decoder: size, subsampling and place of things.
#[test]
fn images_are_turned_and_mirrored() {
    let mut encoder = ImageEncoder::new().unwrap();
    for (pix_fmt, turned) in [
        ("yuv420p", "yuvj420p"),
        ("yuv422p", "yuvj440p"),
        ("yuv444p", "yuvj444p"),
        ("gray", "gray"),
    ] {
        let source = "testsrc2=size=178x100:rate=1:duration=1";
        let name = format!("image-{pix_fmt}");
        let path = clip(&name, &["-f", "lavfi", "-i", source], pix_fmt, "crf=20");
        let stream = std::fs::read(&path).unwrap();
        let mut decoder = HevcDecoder::new(Threading::Single).unwrap();
        let picture = decode_all(&mut decoder, &access_units(&stream))
            .unwrap()
            .remove(0);
        for o in orientations() {
            let jpeg = encoder
                .encode(&picture, AS_IT_IS, o, Rendition::full_size(97))
                .unwrap();
            // JFIF, no pixel aspect of its own: 1:1.
            assert_eq!(&jpeg[..4], [0xff, 0xd8, 0xff, 0xe0]);
            assert_eq!(&jpeg[6..18], b"JFIF\0\x01\x01\0\0\x01\0\x01");
            let image = path.with_extension(format!("{}.jpg", std::process::id()));
            std::fs::write(&image, jpeg).unwrap();
            let from = image.to_str().unwrap();
            let mine = ffmpeg(&["-i", from, "-f", "rawvideo", "-"]);
            if o.swaps_axes() {
                let stream = std::process::Command::new("ffprobe")
                    .args([
                        "-v",
                        "error",
                        "-show_entries",
                        "stream=width,height,pix_fmt",
                    ])
                    .args(["-of", "csv=p=0", from])
                    .output()
                    .unwrap();
                let stream = String::from_utf8(stream.stdout).unwrap();
                assert_eq!(stream.trim(), format!("100,178,{turned}"));
            }
            std::fs::remove_file(&image).unwrap();
            if pix_fmt == "yuv422p" && o.swaps_axes() {
                continue;
            }
            let theirs = ffmpeg(&[
                "-i",
                path.to_str().unwrap(),
                "-vf",
                &filter(o),
                "-pix_fmt",
                pix_fmt,
                "-f",
                "rawvideo",
                "-",
            ]);
            assert_eq!(mine.len(), theirs.len());
            let error: u64 = mine
                .iter()
                .zip(&theirs)
                .map(|(a, b)| u64::from(a.abs_diff(*b)))
                .sum();
            let mean = error as f64 / mine.len() as f64;
            assert!(mean < 1.0, "{pix_fmt} {o:?}: mean error {mean}");
        }
    }
}

#[test]
fn a_quality_outside_the_scale_is_refused() {
    let path = clip(
        "quality",
        &["-f", "lavfi", "-i", "testsrc2=size=64x64:rate=1:duration=1"],
        "yuv420p",
        "crf=20",
    );
    let stream = std::fs::read(&path).unwrap();
    let mut decoder = HevcDecoder::new(Threading::Single).unwrap();
    let picture = decode_all(&mut decoder, &access_units(&stream))
        .unwrap()
        .remove(0);
    let mut encoder = ImageEncoder::new().unwrap();
    for quality in [0, 101, 255] {
        let result = encoder.encode(
            &picture,
            CONVERTED,
            Orientation::IDENTITY,
            Rendition::full_size(quality),
        );
        assert_eq!(result, Err(codec::CodecError::Quality { quality }));
    }
    let sizes = [1, 50, 100].map(|q| {
        encoder
            .encode(
                &picture,
                CONVERTED,
                Orientation::IDENTITY,
                Rendition::full_size(q),
            )
            .unwrap()
            .len()
    });
    assert!(sizes.is_sorted() && sizes[0] < sizes[2]);
}
