//! Containers and byte streams: from an object's bytes to its index.

use std::ops::Range;

use bytes::Bytes;
use media::demux::{DemuxError, HEAD_BYTES, IndexBuilder, Step, TAIL_BYTES};
use media::sidecar::OffsetsFile;
use media::{DecodeIndex, PresentationIndex, VideoIndex};

/// Bytes of the heads and tails that are read without being asked for, in several ways.
const ENDS: [(u64, u64); 3] = [(HEAD_BYTES, TAIL_BYTES), (16, 0), (600, 90)];

pub(crate) fn run(data: &[u8]) {
    let data = Bytes::copy_from_slice(data);
    let mut first: Option<Result<VideoIndex, DemuxError>> = None;
    for (head, tail) in ENDS {
        let built = build(&data, head, tail);
        match (&built, &first) {
            (Ok(index), None) => check(index, data.len() as u64),
            (Ok(index), Some(Ok(known))) => assert!(index == known, "it depends on the reads"),
            (Err(error), _) => assert!(!error.to_string().is_empty()),
            _ => {}
        }
        first.get_or_insert(built);
    }
}

/// The index of an object in memory, if it has one.
pub(crate) fn index_of(data: &Bytes) -> Option<VideoIndex> {
    build(data, HEAD_BYTES, TAIL_BYTES).ok()
}

fn build(data: &Bytes, head: u64, tail: u64) -> Result<VideoIndex, DemuxError> {
    let size = data.len() as u64;
    let part = |range: Range<u64>| data.slice(range.start as usize..range.end as usize);
    let mut builder = IndexBuilder::new(size);
    if size > 0 {
        builder.push(0, part(0..head.min(size)));
        let from = size - tail.min(size);
        builder.push(from, part(from..size));
    }
    let (mut rounds, mut read) = (0, 0);
    loop {
        let ranges = match builder.step()? {
            Step::Finished(index) => return Ok(*index),
            Step::NeedsData(ranges) => ranges,
        };
        rounds += 1;
        assert!(rounds <= 16 + size / 16, "more rounds than there can be");
        assert!(!ranges.is_empty(), "a round without a range never ends");
        for range in ranges {
            assert!(range.start < range.end && range.end <= size, "{range:?}");
            read += range.end - range.start;
            builder.push(range.start, part(range));
        }
        assert!(read <= 16 * size + 100_000, "{read} bytes of {size} read");
    }
}

/// What an index says of itself is so.
fn check(index: &VideoIndex, size: u64) {
    let samples = index.sample_count();
    assert!(u64::from(samples) <= size && index.frame_count() <= samples);
    assert_eq!(index.object_size(), size);
    for at in (0..samples).map(DecodeIndex) {
        let sample = index.sample(at).unwrap();
        assert!(sample.range().end <= size && sample.index == at);
        index.composition_time(at);
        assert!(index.sync_at_or_before(at).is_none_or(|sync| sync <= at));
        assert!(index.sync_after(at).is_none_or(|sync| sync > at));
        if let Some(frame) = index.presentation_index(at) {
            assert_eq!(index.decode_index(frame), Some(at));
        }
    }
    assert!(index.sample(DecodeIndex(samples)).is_none());
    let mut last = i64::MIN;
    for frame in (0..index.frame_count()).map(PresentationIndex) {
        let at = index.decode_index(frame).unwrap();
        assert_eq!(index.presentation_index(at), Some(frame));
        let time = index.presentation_time(frame).unwrap();
        assert!(time >= last, "frames are in the order of their times");
        last = time;
        OffsetsFile::frame(index, frame).unwrap();
    }
    for seconds in [0.0, -1.0, 1e-9, 0.5, 1e300, f64::NAN, f64::INFINITY] {
        let frame = index.frame_at_time(seconds);
        assert!(frame.is_none_or(|frame| frame.0 < index.frame_count()));
    }
    index.duration();
    for range in index.declared() {
        assert!(range.start <= range.end && range.end <= size);
    }
    OffsetsFile::new(String::new(), index);
}
