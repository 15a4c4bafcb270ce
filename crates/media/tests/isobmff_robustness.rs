//! However the bytes arrive, the index is the same; whatever they are, the builder ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod isobmff_support;

use std::sync::LazyLock;

use bytes::Bytes;
use isobmff_support::boxes::*;
use isobmff_support::{build, build_with};
use media::demux::{DemuxError, IndexBuilder, Step};
use media::{DecodeIndex, VideoIndex};
use proptest::prelude::*;

const SAMPLES: u32 = 40;

fn size_of(sample: u32) -> u32 {
    60 + sample * 7 % 31
}

/// A sample with its parameter sets in-band, of a length.
fn sample(len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for nal in SETS {
        out.extend((nal.len() as u32).to_be_bytes());
        out.extend(nal);
    }
    out.extend(((len - out.len() - 4) as u32).to_be_bytes());
    out.resize(len, 0x26);
    out
}

fn media() -> Vec<u8> {
    (0..SAMPLES)
        .flat_map(|i| sample(size_of(i) as usize))
        .collect()
}

fn video(at: u32, edits: &[(u32, i32, u32)]) -> Track {
    let mut sizes = vec![0, SAMPLES];
    sizes.extend((0..SAMPLES).map(size_of));
    let half: u32 = (0..SAMPLES / 2).map(size_of).sum();
    let ctts: Vec<u32> = (0..SAMPLES)
        .flat_map(|i| [1, [40, 120, 40, 0][i as usize % 4]])
        .collect();
    let mut track = Track::hevc(vec![
        table(b"stts", 2, &[10, 40, SAMPLES - 10, 50]),
        table(b"ctts", 2, &ctts),
        table(b"stsc", 3, &[1, SAMPLES / 2, 1]),
        full(b"stsz", 0, 0, words(&sizes)),
        table(b"stco", 1, &[at, at + half]),
        table(b"stss", 1, &[1, 13, 25]),
    ]);
    track.edits = edits.to_vec();
    track.entries = vec![hevc_entry(b"hev1", 4, &[])];
    track
}

fn sound() -> Track {
    let mut track = video(0, &[]);
    (track.id, track.handler) = (2, *b"soun");
    track.entries = vec![bx(b"mp4a", [0; 28])];
    track
}

fn moov_last() -> Vec<u8> {
    let at = ftyp().len() as u32 + 8 + 8;
    let edits = [(100, -1, 65536), (900, 200, 65536), (300, 40, 65536)];
    let tracks = [sound(), video(at, &edits)];
    [
        ftyp(),
        bx(b"wide", []),
        bx(b"mdat", media()),
        moov(&tracks, &[]),
    ]
    .concat()
}

fn moov_first() -> Vec<u8> {
    let length = ftyp().len() + moov(&[video(0, &[]), sound()], &[]).len();
    let tracks = [video(length as u32 + 8, &[]), sound()];
    [ftyp(), moov(&tracks, &[]), bx(b"mdat", media())].concat()
}

/// `moov` with samples of its own, then fragments with `sidx` before and `mfra` after them.
fn fragmented() -> Vec<u8> {
    let trex = full(b"trex", 0, 0, words(&[1, 1, 40, 0, 0x1_0000]));
    let mvex = bx(b"mvex", trex);
    let edits = [(0, 40, 65536)];
    let length = ftyp().len() + moov(&[video(0, &edits)], &mvex).len();
    let mut out = [
        ftyp(),
        moov(&[video(length as u32 + 8, &edits)], &mvex),
        bx(b"mdat", media()),
    ]
    .concat();
    let fragment = |time: u32| {
        let moof = |offset: u32| {
            let mut run = words(&[SAMPLES, offset, 0x200_0000]);
            run.extend(
                (0..SAMPLES).flat_map(|i| words(&[size_of(i), [40, 120, 40, 0][i as usize % 4]])),
            );
            let parts = [
                full(b"tfhd", 0, 0x2_0000, words(&[1])),
                full(b"tfdt", 0, 0, words(&[time])),
                full(b"trun", 0, 0xa05, run),
            ];
            bx(b"moof", bx(b"traf", parts.concat()))
        };
        [moof(moof(0).len() as u32 + 8), bx(b"mdat", media())].concat()
    };
    let each = fragment(0).len() as u32;
    let mut sidx = words(&[1, 1000, 0, 0, 4]);
    sidx.extend((0..4).flat_map(|_| words(&[each, 1600, 0])));
    out.extend(full(b"sidx", 0, 0, sidx));
    let first = out.len() as u32;
    let mut tfra = words(&[1, 0, 4]);
    for i in 0..4 {
        out.extend(fragment(2000 + i * 1600));
        tfra.extend(words(&[2000 + i * 1600, first + i * each]));
        tfra.extend([1, 1, 1]);
    }
    let tfra = full(b"tfra", 0, 0, tfra);
    let mfro = full(b"mfro", 0, 0, words(&[tfra.len() as u32 + 24]));
    out.extend(bx(b"mfra", [tfra, mfro].concat()));
    out
}

/// Each kind of file, with the index that it has.
static FILES: LazyLock<Vec<(Bytes, VideoIndex)>> = LazyLock::new(|| {
    [moov_last(), moov_first(), fragmented()]
        .into_iter()
        .map(|object| {
            let index = build(&object).unwrap().index;
            (Bytes::from(object), index)
        })
        .collect()
});

#[test]
fn the_files_are_what_the_properties_need() {
    assert_eq!(FILES[0].1.tracks().len(), 2);
    assert!(
        FILES[0].1.frame_count() < SAMPLES,
        "an edit list hides some"
    );
    assert_eq!(FILES[1].1.sample_count(), SAMPLES);
    assert_eq!(FILES[2].1.sample_count(), 5 * SAMPLES);
    for (_, index) in FILES.iter() {
        assert_eq!(index.parameter_sets().count(), 3);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Any head and tail, and requested ranges in any pieces and any order.
    #[test]
    fn any_chunking_gives_the_same_index(
        file in 0usize..3,
        head in 1u64..6000,
        tail in 0u64..6000,
        unasked in prop::collection::vec((0u64..20_000, 1u64..3000), 0..8),
        seed in any::<u64>(),
    ) {
        let (object, expected) = &FILES[file];
        let size = object.len() as u64;
        let mut random = seed | 1;
        let mut next = move |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below.max(1)
        };
        let mut builder = IndexBuilder::new(size);
        let mut ranges = vec![0..head.min(size), size - tail.min(size)..size];
        ranges.extend(unasked.into_iter().map(|(at, len)| {
            at.min(size)..(at + len).min(size)
        }));
        // The head decides what the object is, so it comes as one piece.
        builder.push(0, object.slice(0..head.clamp(16, size) as usize));
        for _round in 0..10_000 {
            let mut pieces = Vec::new();
            for range in ranges {
                let mut at = range.start;
                while at < range.end {
                    let end = (at + 1 + next(1500)).min(range.end);
                    pieces.push(at..end);
                    at = end;
                }
            }
            while !pieces.is_empty() {
                let piece = pieces.swap_remove(next(pieces.len() as u64) as usize);
                // A piece may come with more around it than was asked for.
                let start = piece.start - next(40).min(piece.start);
                let end = (piece.end + next(40)).min(size);
                builder.push(start, object.slice(start as usize..end as usize));
            }
            match builder.step().unwrap() {
                Step::Finished(index) => {
                    prop_assert_eq!(&*index, expected);
                    return Ok(());
                }
                Step::NeedsData(more) => ranges = more,
            }
        }
        prop_assert!(false, "no end");
    }

    /// A few false bytes anywhere: an index or an error, and no read outside the object (the
    /// driver checks that and the number of rounds).
    #[test]
    fn false_bytes_never_break_the_builder(
        file in 0usize..3,
        // Positions in parts per million; most of a file is media, so near structure is likelier.
        changes in prop::collection::vec((0u32..1_000_000, any::<u8>()), 1..6),
        window in prop::option::of((0u32..1_000_000, 1usize..400)),
        head in 1u64..6000,
    ) {
        let mut object = FILES[file].0.to_vec();
        let size = object.len();
        let (from, len) = window.map_or((0, size), |(at, len)| {
            let from = at as usize * size / 1_000_000;
            (from, len.min(size - from))
        });
        for (at, value) in changes {
            object[from + at as usize * len / 1_000_000] = value;
        }
        check_bounded(&object, head);
    }

    /// 32-bit fields with values that lie about lengths.
    #[test]
    fn false_counts_never_break_the_builder(
        file in 0usize..3,
        at in 0u32..1_000_000,
        value in prop::sample::select(vec![
            0u32, 1, 2, 7, 8, 9, 15, 16, 255, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_ffff,
        ]),
    ) {
        let mut object = FILES[file].0.to_vec();
        let at = at as usize * (object.len() / 4) / 1_000_000 * 4;
        object[at..at + 4].copy_from_slice(&value.to_be_bytes());
        check_bounded(&object, 1000);
    }
}

/// The builder ends with an index that is within the object, or an error.
fn check_bounded(object: &[u8], head: u64) {
    match build_with(object, head.max(16), 500) {
        Ok(built) => {
            let size = object.len() as u64;
            assert!(
                built.bytes_read <= 4 * size + 100_000,
                "{} bytes read",
                built.bytes_read
            );
            assert!(u64::from(built.index.sample_count()) <= size);
            assert!(u64::from(built.index.frame_count()) <= size);
            for i in 0..built.index.sample_count() {
                assert!(built.index.sample(DecodeIndex(i)).unwrap().range().end <= size);
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

#[test]
fn every_32_bit_field_of_the_structure_may_lie() {
    for (object, _) in FILES.iter() {
        for at in 0..object.len() - 4 {
            // Media bytes change nothing.
            if object[at..at + 4] == [0x26; 4] {
                continue;
            }
            for value in [0u32, 1, 0xffff_ffff] {
                let mut object = object.to_vec();
                object[at..at + 4].copy_from_slice(&value.to_be_bytes());
                check_bounded(&object, 4000);
            }
        }
    }
}

/// An object that ends anywhere before its last sample or its `moov` does is an error that says
/// so; after that, what is missing is not needed.
#[test]
fn an_object_cut_short_anywhere_is_an_error() {
    let needed = |object: &[u8], index: &VideoIndex| {
        let samples = (0..index.sample_count()).map(|i| index.sample(DecodeIndex(i)).unwrap());
        let last = samples.map(|s| s.range().end as usize).max().unwrap();
        let moov = object.windows(4).position(|w| w == b"moov").unwrap() - 4;
        let len = u32::from_be_bytes(object[moov..moov + 4].try_into().unwrap());
        last.max(moov + len as usize)
    };
    for (object, index) in FILES.iter() {
        let needed = needed(object, index);
        for end in 1..object.len() {
            let result = build(&object[..end]);
            if end >= needed {
                // `mfra` that is cut off is a box that is cut off.
                if let Ok(built) = result {
                    assert_eq!(built.index.sample_count(), index.sample_count());
                }
                continue;
            }
            // A file with fragments that ends between boxes is a whole, shorter file, unless its
            // segment index was read before.
            let sidx = object.windows(4).position(|w| w == b"sidx");
            if sidx.is_some_and(|at| (at - 4..at + 4).contains(&end)) {
                assert_eq!(result.unwrap().index.sample_count(), SAMPLES);
                continue;
            }
            let Err(error) = result else {
                panic!("an index of {end} of {} bytes", object.len())
            };
            let short = matches!(error, DemuxError::CutShort { .. });
            // The first bytes alone are no file yet.
            assert!(
                short || end < ftyp().len() + 16,
                "at {end} of {}: {error}",
                object.len()
            );
        }
    }
}

#[test]
fn real_files_with_false_bytes_never_break_the_builder() {
    let Some(folder) = isobmff_support::footage() else {
        return;
    };
    for name in [
        "pytorch__h265_video.mp4",
        "androidx__fragmented_captions_h265.mp4",
        "mozilla__hevc_white_frame.mp4",
        "androidx__sample_unrecognized_hevc_sei.mp4",
    ] {
        let object = std::fs::read(folder.join(name)).unwrap();
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..3000 {
            let mut changed = object.clone();
            for _ in 0..3 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let at = (random >> 8) as usize % changed.len();
                changed[at] = random as u8;
            }
            check_bounded(&changed, 4000);
        }
        for end in (1..object.len()).step_by(37) {
            let _ = build(&object[..end]);
        }
    }
}
