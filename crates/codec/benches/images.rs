//! Colour conversion and JPEG encoding, one picture on one core.
//!
//! `cargo bench -p codec`. The source is ffmpeg's `testsrc2` with film-like noise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../tests/support/mod.rs"]
mod support;

use codec::{
    Format, HevcDecoder, ImageEncoder, Picture, PlanesBuf, Rendition, Threading, to_jpeg_planes,
};
use divan::{Bencher, black_box};
use media::{ColourDescription, Orientation};

fn main() {
    divan::main();
}

/// One decoded picture.
fn picture(width: u32, height: u32, pix_fmt: &str) -> Picture {
    let source = format!("testsrc2=size={width}x{height}:rate=1:duration=1,noise=alls=12:allf=t");
    let name = format!("bench-{width}x{height}-{pix_fmt}");
    let path = support::clip(&name, &["-f", "lavfi", "-i", &source], pix_fmt, "crf=18");
    let stream = std::fs::read(path).unwrap();
    let units = support::access_units(&stream);
    let mut decoder = HevcDecoder::new(Threading::Single).unwrap();
    support::decode_all(&mut decoder, &units).unwrap().remove(0)
}

fn tagged(matrix: u8, transfer: u8, full_range: bool) -> ColourDescription {
    ColourDescription {
        primaries: matrix,
        transfer,
        matrix,
        full_range: Some(full_range),
    }
}

const BT709: (u8, u8) = (1, 1);
const BT601: (u8, u8) = (6, 6);
const PQ: (u8, u8) = (9, 16);
const HLG: (u8, u8) = (9, 18);

/// Conversion alone, 1080p.
#[divan::bench(args = [
    ("8 bit 420 bt709 limited", "yuv420p", BT709, false, 0),
    ("8 bit 420 bt709 full", "yuv420p", BT709, true, 0),
    ("8 bit 420 bt601 limited", "yuv420p", BT601, false, 0),
    ("8 bit 420 bt709 limited, turned", "yuv420p", BT709, false, 1),
    ("8 bit 420 bt709 limited, upside down", "yuv420p", BT709, false, 2),
    ("8 bit 422 bt709 limited", "yuv422p", BT709, false, 0),
    ("8 bit 444 bt709 limited", "yuv444p", BT709, false, 0),
    ("10 bit 420 bt709 limited", "yuv420p10le", BT709, false, 0),
    ("10 bit 420 bt601 limited", "yuv420p10le", BT601, false, 0),
    ("10 bit 420 PQ", "yuv420p10le", PQ, false, 0),
    ("10 bit 420 HLG", "yuv420p10le", HLG, false, 0),
])]
fn convert(
    bencher: Bencher<'_, '_>,
    (_, pix_fmt, (matrix, transfer), full, quarter_turns): (&str, &str, (u8, u8), bool, u8),
) {
    let picture = picture(1920, 1080, pix_fmt);
    let colour = tagged(matrix, transfer, full);
    let orientation = Orientation {
        mirrored: false,
        quarter_turns,
    };
    let mut planes = PlanesBuf::new();
    bencher.bench_local(|| {
        to_jpeg_planes(black_box(&picture), colour, orientation, &mut planes);
    });
}

/// From picture to JPEG of quality 80, by height.
#[divan::bench(args = [("converted", false), ("as decoded", true)], consts = [480, 720, 1080, 2160])]
fn jpeg<const HEIGHT: u32>(bencher: Bencher<'_, '_>, (_, as_decoded): (&str, bool)) {
    let picture = picture(HEIGHT * 16 / 9 / 2 * 2, HEIGHT, "yuv420p");
    let colour = if as_decoded {
        tagged(6, 6, true)
    } else {
        tagged(1, 1, false)
    };
    let mut encoder = ImageEncoder::new().unwrap();
    bencher.bench_local(|| {
        encoder
            .encode(
                black_box(&picture),
                colour,
                Orientation::IDENTITY,
                Rendition::full_size(80),
            )
            .unwrap()
    });
}

/// From picture to file, 1080p, quality 80. The sizes are told on standard error.
#[divan::bench(args = [Format::Jpeg, Format::Webp, Format::Avif, Format::Png])]
fn formats(bencher: Bencher<'_, '_>, format: Format) {
    let picture = picture(1920, 1080, "yuv420p");
    let mut encoder = ImageEncoder::new().unwrap();
    let rendition = Rendition {
        format,
        ..Rendition::full_size(80)
    };
    let mut encode = || {
        let colour = tagged(1, 1, false);
        let made = encoder.encode(
            black_box(&picture),
            colour,
            Orientation::IDENTITY,
            rendition,
        );
        made.unwrap()
    };
    eprintln!("{format:?}: {} bytes", encode().len());
    bencher.bench_local(encode);
}

/// Conversion with scaling, from this height to this width.
#[divan::bench(args = [(1080, 320), (1080, 640), (2160, 320), (2160, 640), (2160, 1920)])]
fn scaled_convert(bencher: Bencher<'_, '_>, (height, max_width): (u32, u32)) {
    let picture = picture(height * 16 / 9, height, "yuv420p");
    let mut encoder = ImageEncoder::new().unwrap();
    bencher.bench_local(|| {
        let picture = black_box(&picture);
        let converted = encoder
            .convert(
                picture,
                tagged(1, 1, false),
                Orientation::IDENTITY,
                at_most(max_width),
            )
            .unwrap();
        black_box(converted.width())
    });
}

#[divan::bench(args = [(1080, 320), (1080, 640), (2160, 320), (2160, 640), (2160, 1920)])]
fn scaled_convert_and_compress(bencher: Bencher<'_, '_>, (height, max_width): (u32, u32)) {
    let picture = picture(height * 16 / 9, height, "yuv420p");
    let mut encoder = ImageEncoder::new().unwrap();
    bencher.bench_local(|| {
        encoder
            .encode(
                black_box(&picture),
                tagged(1, 1, false),
                Orientation::IDENTITY,
                at_most(max_width),
            )
            .unwrap()
    });
}

fn at_most(max_width: u32) -> Rendition {
    Rendition {
        max_width: Some(max_width),
        ..Rendition::full_size(80)
    }
}
