//! Images in other formats than JPEG, read back by ffmpeg.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use codec::{Format, HevcDecoder, ImageEncoder, Picture, Rendition, Threading};
use media::{ColourDescription, Orientation};

const WIDTH: usize = 176;
const HEIGHT: usize = 98;
const BT709: ColourDescription = ColourDescription {
    primaries: 1,
    transfer: 1,
    matrix: 1,
    full_range: Some(false),
};

/// R'G'B', 8 bit.
struct Rgb {
    width: usize,
    bytes: Vec<u8>,
}

impl Rgb {
    fn pixel(&self, x: usize, y: usize) -> &[u8] {
        let at = (y * self.width + x) * 3;
        &self.bytes[at..at + 3]
    }
}

/// One picture, and what ffmpeg makes of it.
fn source(pix_fmt: &str) -> (Picture, Rgb) {
    let input = format!("testsrc2=size={WIDTH}x{HEIGHT}:rate=1:duration=1");
    let name = format!("formats-{pix_fmt}");
    let path = support::clip(&name, &["-f", "lavfi", "-i", &input], pix_fmt, "crf=10");
    let stream = std::fs::read(&path).unwrap();
    let units = support::access_units(&stream);
    let mut decoder = HevcDecoder::new(Threading::Single).unwrap();
    let picture = support::decode_all(&mut decoder, &units).unwrap().remove(0);
    // By zimg: swscale puts chroma elsewhere.
    let scale = "zscale=matrixin=709:rangein=limited:chromalin=left:filter=bilinear:\
                 matrix=gbr:range=full,format=gbrp";
    let path = path.to_str().unwrap();
    let bytes = support::ffmpeg(&[
        "-i",
        path,
        "-frames:v",
        "1",
        "-vf",
        scale,
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-",
    ]);
    let width = WIDTH;
    (picture, Rgb { width, bytes })
}

fn encode(picture: &Picture, orientation: Orientation, rendition: Rendition) -> Vec<u8> {
    let mut encoder = ImageEncoder::new().unwrap();
    encoder
        .encode(picture, BT709, orientation, rendition)
        .unwrap()
}

fn decode(file: &[u8], (width, height): (usize, usize)) -> Rgb {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    std::fs::write(&path, file).unwrap();
    let path = path.to_str().unwrap();
    let bytes = support::ffmpeg(&["-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]);
    assert_eq!(bytes.len(), width * height * 3);
    Rgb { width, bytes }
}

fn of(format: Format) -> Rendition {
    Rendition {
        format,
        ..Rendition::full_size(95)
    }
}

/// The mean and the greatest difference.
fn difference(a: &Rgb, b: &Rgb) -> (f64, u8) {
    let each = a.bytes.iter().zip(&b.bytes).map(|(a, b)| a.abs_diff(*b));
    let sum: u64 = each.clone().map(u64::from).sum();
    (sum as f64 / a.bytes.len() as f64, each.max().unwrap())
}

#[test]
fn png_is_what_was_decoded() {
    for (pix_fmt, mean, most) in [
        ("yuv420p", 0.01, 1),
        ("yuv422p", 0.01, 1),
        ("yuv444p", 0.01, 1),
        // Down to 8 bits, each in its own way.
        ("yuv420p10le", 0.6, 2),
        ("yuv444p10le", 0.6, 2),
    ] {
        let (picture, expected) = source(pix_fmt);
        let file = encode(&picture, Orientation::IDENTITY, of(Format::Png));
        assert!(file.starts_with(b"\x89PNG\r\n"));
        // Bits of a sample (PNG, 11.2.2).
        assert_eq!(file[24], if pix_fmt.contains("10") { 16 } else { 8 });
        let made = decode(&file, (WIDTH, HEIGHT));
        let (found, greatest) = difference(&made, &expected);
        assert!(
            found <= mean && greatest <= most,
            "{pix_fmt}: {found}, {greatest}"
        );
    }
}

#[test]
fn lossy_formats_look_like_the_picture() {
    for pix_fmt in ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"] {
        let (picture, expected) = source(pix_fmt);
        for format in [Format::Webp, Format::Avif] {
            assert!(format.is_available());
            let file = encode(&picture, Orientation::IDENTITY, of(format));
            let made = decode(&file, (WIDTH, HEIGHT));
            let (found, _) = difference(&made, &expected);
            assert!(found < 8.0, "{pix_fmt} {format:?}: {found}");
        }
    }
}

#[test]
fn every_format_is_turned_scaled_and_cut() {
    let (picture, _) = source("yuv420p");
    let plain = encode(&picture, Orientation::IDENTITY, of(Format::Png));
    let plain = decode(&plain, (WIDTH, HEIGHT));
    let turned = Orientation {
        mirrored: true,
        quarter_turns: 1,
    };
    let file = encode(&picture, turned, of(Format::Png));
    let made = decode(&file, (HEIGHT, WIDTH));
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            // Mirrored, then a quarter clockwise.
            let (column, row) = (HEIGHT - 1 - y, WIDTH - 1 - x);
            assert_eq!(made.pixel(column, row), plain.pixel(x, y));
        }
    }
    // As large as it is, and cut left and right.
    let cut = Rendition {
        max_width: Some(100),
        max_height: Some(HEIGHT as u32),
        cover: true,
        ..of(Format::Png)
    };
    let made = decode(&encode(&picture, Orientation::IDENTITY, cut), (100, HEIGHT));
    for y in 0..HEIGHT {
        for x in 0..100 {
            let other = plain.pixel(x + (WIDTH - 100) / 2, y);
            let near = made.pixel(x, y).iter().zip(other);
            assert!(near.clone().all(|(a, b)| a.abs_diff(*b) <= 1), "{x} {y}");
        }
    }
    for format in [Format::Jpeg, Format::Webp, Format::Avif, Format::Png] {
        let small = Rendition {
            max_width: Some(60),
            max_height: Some(60),
            cover: true,
            ..of(format)
        };
        let made = decode(&encode(&picture, turned, small), (60, 60));
        // The middle of the picture, as PNG shows it.
        let png = Rendition {
            format: Format::Png,
            ..small
        };
        let expected = decode(&encode(&picture, turned, png), (60, 60));
        let (found, _) = difference(&made, &expected);
        assert!(found < 8.0, "{format:?}: {found}");
        let inside = Rendition {
            cover: false,
            ..small
        };
        decode(&encode(&picture, Orientation::IDENTITY, inside), (60, 33));
    }
}
