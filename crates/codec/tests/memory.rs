//! Memory over many decoders and many passes. Alone in its program, which it measures.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod support;

use codec::{HevcDecoder, Threading};
use support::{access_units, clip, decode_all};

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        * 4096
}

#[test]
fn memory_is_flat_over_many_decoders_and_many_passes() {
    let source = "testsrc2=size=128x72:rate=25:duration=0.2";
    let path = clip(
        "small",
        &["-f", "lavfi", "-i", source],
        "yuv420p",
        "keyint=12",
    );
    let stream = std::fs::read(&path).unwrap();
    let units = access_units(&stream);
    let mut kept = HevcDecoder::new(Threading::Single).unwrap();
    let mut encoder = codec::ImageEncoder::new().unwrap();
    let mut round = |fresh: bool| {
        let mut opened;
        let decoder = if fresh {
            opened = HevcDecoder::new(Threading::Single).unwrap();
            &mut opened
        } else {
            &mut kept
        };
        let pictures = decode_all(decoder, &units).unwrap();
        decoder
            .send(&[0, 0, 1, 0x26, 1, 0xff, 0xff], 5, &mut drop)
            .unwrap_err();
        let (colour, turn) = (
            media::ColourDescription::default(),
            media::Orientation::IDENTITY,
        );
        // Of one size, then of another.
        for max_width in [None, Some(50), Some(77)] {
            let rendition = codec::Rendition {
                max_width,
                ..codec::Rendition::full_size(80)
            };
            encoder
                .encode(&pictures[0], colour, turn, rendition)
                .unwrap();
        }
    };
    for fresh in [true, false] {
        (0..200).for_each(|_| round(fresh));
        let before = resident();
        (0..2000).for_each(|_| round(fresh));
        let grown = resident().saturating_sub(before);
        // A leak of one 128x72 picture a round would be 27 MB.
        println!("fresh {fresh}: {grown} bytes more after 2000 rounds");
        assert!(grown < 16 << 20, "{grown} bytes");
    }
}
