//! Images that are scaled down.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod support;

use codec::{HevcDecoder, ImageEncoder, Picture, Rendition, Threading};
use media::{ColourDescription, Orientation};
use support::{access_units, clip, decode_all, made, with_window};

/// Full-range BT.601: the planes that ffmpeg decodes are those of the JPEG.
const AS_IT_IS: ColourDescription = ColourDescription {
    primaries: 6,
    transfer: 6,
    matrix: 6,
    full_range: Some(true),
};

fn pictures(path: &std::path::Path) -> Vec<Picture> {
    let stream = std::fs::read(path).unwrap();
    let mut decoder = HevcDecoder::new(Threading::Single).unwrap();
    decode_all(&mut decoder, &access_units(&stream)).unwrap()
}

fn at_most(width: Option<u32>, height: Option<u32>) -> Rendition {
    Rendition {
        max_width: width,
        max_height: height,
        ..Rendition::full_size(95)
    }
}

fn orientations() -> impl Iterator<Item = Orientation> {
    [false, true].into_iter().flat_map(|mirrored| {
        (0..4).map(move |quarter_turns| Orientation {
            mirrored,
            quarter_turns,
        })
    })
}

/// Every format, turned every way, at sizes that divide evenly and at odd ones: of the size that
/// the rule says, and with its frame number readable.
#[test]
fn frame_numbers_stay_readable() {
    let mut encoder = ImageEncoder::new().unwrap();
    for recipe in [
        "closed_gop",
        "bits_10",
        "chroma_422",
        "chroma_422_bits_10",
        "chroma_444",
        "gray",
        "gray_bits_10",
        "odd_size_444",
        "odd_size_gray",
        "cropped_left_and_top",
        "even_size",
        "pq",
    ] {
        let path = made(recipe);
        let numbers: Vec<i64> = support::oracle(&path).iter().map(|f| f.0).collect();
        let pictures = pictures(&path);
        for (shown, orientation) in [0, 3, 7, 11].into_iter().cycle().zip(orientations()) {
            let picture = &pictures[numbers[shown] as usize];
            assert_eq!(picture.id(), numbers[shown]);
            let (mut width, mut height) = (picture.width(), picture.height());
            if orientation.swaps_axes() {
                (width, height) = (height, width);
            }
            // Blocks of the mark are 8 samples wide, and of 4 pixels at the least.
            let half = (width as u32).div_ceil(2);
            let three_fifths = height as u32 * 3 / 5;
            for rendition in [
                at_most(Some(half), None),
                at_most(Some(half + 1), None),
                at_most(None, Some(three_fifths)),
                at_most(Some(half + 7), Some(three_fifths)),
            ] {
                let colour = ColourDescription::default();
                let converted = encoder
                    .convert(picture, colour, orientation, rendition)
                    .unwrap();
                let size = (converted.width(), converted.height());
                assert_eq!(size, rendition.size(width, height));
                let image = testkit::jpeg::decode(&converted.compress().unwrap()).unwrap();
                assert_eq!((image.width, image.height), size);
                let read = image.frame_number();
                assert_eq!(
                    read,
                    Some(shown as u32),
                    "{recipe} {orientation:?} {rendition:?} {size:?}"
                );
            }
        }
    }
}

/// Areas of one colour stay what they are, to the edge, in every plane.
#[test]
fn flat_areas_keep_their_colour() {
    let mut encoder = ImageEncoder::new().unwrap();
    for (pix_fmt, window) in [
        ("yuv420p", [0, 0, 0, 0]),
        ("yuv420p10le", [2, 4, 2, 0]),
        ("yuv422p", [0, 2, 0, 1]),
        ("yuv444p", [1, 0, 1, 0]),
        ("gray", [1, 0, 0, 0]),
    ] {
        for colour in ["0x205080", "0xf0d020", "black", "white"] {
            let source = format!("color=c={colour}:size=178x100:rate=1:duration=1");
            let whole = clip(
                &format!("flat-{pix_fmt}-{colour}"),
                &["-f", "lavfi", "-i", &source],
                pix_fmt,
                "lossless=1",
            );
            let picture = pictures(&with_window(&whole, window)).remove(0);
            for orientation in orientations() {
                let mut planes = |rendition| {
                    let description = ColourDescription::default();
                    let converted = encoder
                        .convert(&picture, description, orientation, rendition)
                        .unwrap();
                    (0..3)
                        .map(|plane| {
                            converted
                                .rows(plane)
                                .flat_map(<[u8]>::to_vec)
                                .collect::<Vec<u8>>()
                        })
                        .collect::<Vec<_>>()
                };
                let full = planes(Rendition::full_size(90));
                for most in [1, 2, 3, 33, 50, 77, 99] {
                    let small = planes(at_most(Some(most), None));
                    for (full, small) in full.iter().zip(&small) {
                        assert_eq!(full.is_empty(), small.is_empty());
                        let Some(&value) = full.first() else { continue };
                        let near = |v: &u8| v.abs_diff(value) <= 1;
                        assert!(full.iter().all(near), "{pix_fmt} {colour}");
                        assert!(
                            small.iter().all(near),
                            "{pix_fmt} {colour} {orientation:?} {most}: {value} became {small:?}"
                        );
                    }
                }
            }
        }
    }
}

/// Lines finer than the image can show become grey, not coarser lines.
#[test]
fn fine_patterns_do_not_alias() {
    let mut encoder = ImageEncoder::new().unwrap();
    // One column white, one black; and rows.
    for (name, axis) in [("columns", "X"), ("rows", "Y")] {
        let filter = format!("geq=lum='mod({axis}\\,2)*219+16':cb=128:cr=128");
        let source = "nullsrc=size=320x240:rate=1:duration=1";
        let path = clip(
            &format!("fine-{name}"),
            &["-f", "lavfi", "-i", source, "-vf", &filter],
            "yuv420p",
            "lossless=1",
        );
        let picture = pictures(&path).remove(0);
        for most in [159, 127, 100, 80, 77, 31] {
            let converted = encoder
                .convert(
                    &picture,
                    AS_IT_IS,
                    Orientation::IDENTITY,
                    at_most(Some(most), None),
                )
                .unwrap();
            let inner = converted.rows(0).skip(2).take(converted.height() - 4);
            let samples: Vec<u8> = inner.flat_map(|r| r[2..r.len() - 2].to_vec()).collect();
            let (low, high) = (samples.iter().min().unwrap(), samples.iter().max().unwrap());
            let swing = high - low;
            assert!(swing <= 24, "{name} {most}: {low} to {high}");
            let mean = samples.iter().map(|&v| f64::from(v)).sum::<f64>() / samples.len() as f64;
            assert!((mean - 125.5).abs() < 2.0, "{name} {most}: mean {mean}");
        }
    }
}

/// Chroma stays with its luma: a ramp that is the same in both has the same value in both at each
/// place, at odd sizes, too, and turned.
#[test]
fn chroma_stays_where_luma_is() {
    let mut encoder = ImageEncoder::new().unwrap();
    let source = "nullsrc=size=320x240:rate=1:duration=1";
    for pix_fmt in ["yuv420p", "yuv422p", "yuv444p"] {
        let (sx, sy) = match pix_fmt {
            "yuv420p" => (2, 2),
            "yuv422p" => (2, 1),
            _ => (1, 1),
        };
        // At the middle of a chroma sample, what luma is there: 40 + x/2 + y/4.
        let chroma = format!("40+(X*{sx}+{sx}/2-0.5)/2+(Y*{sy}+{sy}/2-0.5)/4");
        let filter = format!("format={pix_fmt},geq=lum='40+X/2+Y/4':cb='{chroma}':cr='{chroma}'");
        let path = clip(
            &format!("ramp-{pix_fmt}"),
            &["-f", "lavfi", "-i", source, "-vf", &filter],
            pix_fmt,
            "lossless=1",
        );
        let picture = pictures(&path).remove(0);
        for orientation in orientations() {
            for most in [160, 107, 81, 53, 21] {
                let converted = encoder
                    .convert(&picture, AS_IT_IS, orientation, at_most(Some(most), None))
                    .unwrap();
                let luma: Vec<&[u8]> = converted.rows(0).collect();
                let (rows, columns) = (converted.rows(1).count(), converted.rows(1).next());
                let columns = columns.unwrap().len();
                let (fx, fy) = (luma[0].len().div_ceil(columns), luma.len().div_ceil(rows));
                for (y, row) in converted.rows(1).enumerate() {
                    // Away from the edges, where there is nothing to filter with.
                    if y < 4 || y + 4 >= rows {
                        continue;
                    }
                    for x in 4..columns.saturating_sub(4) {
                        let covered = luma[y * fy..(y + 1) * fy]
                            .iter()
                            .flat_map(|r| &r[x * fx..(x + 1) * fx]);
                        let mean = covered.map(|&v| f64::from(v)).sum::<f64>() / (fx * fy) as f64;
                        // Ramps are rounded to whole values once before and once after scaling.
                        assert!(
                            (mean - f64::from(row[x])).abs() <= 1.3,
                            "{pix_fmt} {orientation:?} {most}: {x},{y}: {mean} {}",
                            row[x]
                        );
                    }
                }
            }
        }
    }
}

/// A size at or above the picture's changes nothing.
#[test]
fn never_up() {
    let mut encoder = ImageEncoder::new().unwrap();
    let picture = pictures(&made("even_size")).remove(0);
    let colour = ColourDescription::default();
    for orientation in orientations() {
        let plain = Rendition::full_size(80);
        let full = encoder
            .encode(&picture, colour, orientation, plain)
            .unwrap();
        for (width, height) in [
            (Some(318), Some(318)),
            (Some(9999), None),
            (None, Some(u32::MAX)),
        ] {
            let rendition = Rendition {
                max_width: width,
                max_height: height,
                ..Rendition::full_size(80)
            };
            let same = encoder
                .encode(&picture, colour, orientation, rendition)
                .unwrap();
            assert!(same == full);
        }
    }
}
