//! Long videos have the tables that they are to have, and ffprobe reads them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::ops::Range;
use std::path::Path;

use testkit::long::{self, Long, MoovPlace};
use testkit::{boxes, reference};

#[test]
fn the_long_videos_are_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    for moov in [
        MoovPlace::First,
        MoovPlace::Last,
        MoovPlace::Before(3 << 20),
    ] {
        let path = folder.path().join("long.mp4");
        let long = Long {
            rounds: 5,
            step: Some(1 << 20),
            written: 2,
            moov,
        };
        let video = long.write(&path).unwrap();
        check_long(&path, video.moov, video.media);
        let packets = reference::packets(&path, Default::default()).unwrap();
        let count = long::frames_of_a_round().unwrap() as usize;
        assert_eq!(packets.len(), 5 * count);
        let written: Vec<u64> = video.frames.iter().map(|f| f.0).collect();
        let round = |n: usize| packets[n * count..][..count].iter().map(|p| p.position);
        let expected: Vec<u64> = round(0).chain(round(2)).chain(round(4)).collect();
        assert_eq!(written, expected);
    }
}

fn check_long(path: &Path, moov: Range<u64>, media: Range<u64>) {
    let bytes = std::fs::read(path).unwrap();
    let all = boxes::children(&bytes, 0..bytes.len());
    let last = all.last().unwrap();
    assert_eq!(last.1.end, bytes.len());
    let range = |kind: &[u8; 4]| {
        let found = all.iter().find(|(k, _)| k == kind).unwrap();
        found.1.start as u64..found.1.end as u64
    };
    assert_eq!(range(b"mdat"), media);
    assert_eq!(range(b"moov"), moov.start + 8..moov.end);
}
