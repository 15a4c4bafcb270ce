//! Decoded planes against those of the `ffmpeg` program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::num::NonZero;
use std::path::PathBuf;

use codec::{Chroma, HevcDecoder, Threading};
use support::{access_units, assert_equals_oracle, clip, decode_all};

const SOURCE: &str = "testsrc2=size=416x240:rate=25:duration=1";

fn threadings() -> [Threading; 3] {
    let three = NonZero::new(3).unwrap();
    [
        Threading::Single,
        Threading::Slices(three),
        Threading::Frames(three),
    ]
}

/// Decodes with every kind of threading, twice with each decoder, and compares with ffmpeg.
fn check(path: &PathBuf) -> Vec<codec::Picture> {
    let stream = std::fs::read(path).unwrap();
    let units = access_units(&stream);
    let mut last = Vec::new();
    for threading in threadings() {
        let mut decoder = HevcDecoder::new(threading).unwrap();
        for pass in 0..2 {
            let pictures = decode_all(&mut decoder, &units)
                .unwrap_or_else(|e| panic!("{threading:?} pass {pass}: {e}"));
            assert_equals_oracle(path, &pictures);
            last = pictures;
        }
    }
    last
}

#[test]
fn every_depth_and_subsampling() {
    let formats = [
        ("gray", Chroma::Mono, 8),
        ("gray10le", Chroma::Mono, 10),
        ("gray12le", Chroma::Mono, 12),
        ("yuv420p", Chroma::C420, 8),
        ("yuv420p10le", Chroma::C420, 10),
        ("yuv420p12le", Chroma::C420, 12),
        ("yuv422p", Chroma::C422, 8),
        ("yuv422p10le", Chroma::C422, 10),
        ("yuv422p12le", Chroma::C422, 12),
        ("yuv444p", Chroma::C444, 8),
        ("yuv444p10le", Chroma::C444, 10),
        ("yuv444p12le", Chroma::C444, 12),
    ];
    for (pix_fmt, chroma, depth) in formats {
        let path = clip(
            pix_fmt,
            &["-f", "lavfi", "-i", SOURCE],
            pix_fmt,
            "keyint=12",
        );
        let pictures = check(&path);
        let p = &pictures[0];
        assert_eq!(
            (p.width(), p.height(), p.chroma(), p.bit_depth()),
            (416, 240, chroma, depth)
        );
    }
}
