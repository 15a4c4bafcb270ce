//! Indexing a long byte stream takes little memory, by the process's own peak (Linux): the bytes
//! are made where they are asked for, and nobody holds them all.
//!
//! One test alone in its program, so that no other test's memory is counted.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use bytes::Bytes;
use media::demux::{IndexBuilder, Step};
use media::{DecodeIndex, VideoIndex};
use support::{PpsSpec, SliceSpec, SpsSpec};

const MIB: u64 = 1024 * 1024;
/// An IDR picture of 64 KiB, again and again.
const UNIT: u64 = 64 * 1024;
const UNITS: u64 = 200 * MIB / UNIT;

fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with(field)).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

/// The bytes of one unit, start to end.
fn unit() -> Vec<u8> {
    let (sps, pps) = (SpsSpec::default(), PpsSpec::default());
    let slice = SliceSpec {
        nal_type: 19,
        ..SliceSpec::default()
    };
    let mut unit = Vec::new();
    for nal in [
        support::vps(0, 0),
        sps.nal(),
        pps.nal(),
        slice.nal(&sps, &pps),
    ] {
        unit.extend([0, 0, 0, 1]);
        unit.extend(nal);
    }
    let mut byte = 1u8;
    unit.resize_with(UNIT as usize, || {
        byte = byte.wrapping_mul(5).wrapping_add(3) | 1;
        byte
    });
    unit
}

fn bytes(unit: &[u8], range: std::ops::Range<u64>) -> Bytes {
    let from = (range.start % UNIT) as usize;
    let repeated = unit.iter().cycle().skip(from).copied();
    repeated.take((range.end - range.start) as usize).collect()
}

fn index(unit: &[u8], size: u64, most_asked: &mut u64) -> VideoIndex {
    let mut builder = IndexBuilder::new(size);
    loop {
        match builder.step().unwrap() {
            Step::Finished(index) => return *index,
            Step::NeedsData(ranges) => {
                *most_asked = (*most_asked).max(ranges.iter().map(|r| r.end - r.start).sum());
                for range in ranges {
                    builder.push(range.start, bytes(unit, range));
                }
            }
        }
    }
}

#[test]
fn two_hundred_mebibytes_in_a_few() {
    let unit = unit();
    let mut asked = 0;
    // Once small, so that what a process needs anyway is there.
    index(&unit, 8 * MIB, &mut asked);
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS");
    let index = index(&unit, UNITS * UNIT, &mut asked);
    let peak = status("VmHWM").saturating_sub(before);
    assert_eq!(u64::from(index.sample_count()), UNITS);
    let last = index.sample(DecodeIndex(UNITS as u32 - 1)).unwrap();
    assert_eq!(last.range(), (UNITS - 1) * UNIT..UNITS * UNIT);
    println!("asked for {asked} bytes at once, peak {peak} bytes");
    assert!(asked <= 4 * MIB, "asked for {asked} bytes at once");
    assert!(peak <= 16 * MIB, "{peak} bytes");
}
