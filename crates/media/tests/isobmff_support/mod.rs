//! Drives an `IndexBuilder` over bytes in memory and counts what it asks for.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]

pub mod boxes;

use std::path::PathBuf;

use bytes::Bytes;
use media::VideoIndex;
use media::demux::{DemuxError, HEAD_BYTES, IndexBuilder, Step, TAIL_BYTES};

/// An index, and what it took to make it.
#[derive(Debug)]
pub struct Built {
    pub index: VideoIndex,
    /// Rounds of reads after the first (head and tail).
    pub rounds: usize,
    /// Bytes read in those rounds.
    pub bytes_read: u64,
    /// Ranges read in those rounds.
    pub reads: usize,
}

/// Builds with head and tail pushed as a caller should.
pub fn build(object: &[u8]) -> Result<Built, DemuxError> {
    build_with(object, HEAD_BYTES, TAIL_BYTES)
}

/// Builds with other sizes of head and tail.
pub fn build_with(object: &[u8], head: u64, tail: u64) -> Result<Built, DemuxError> {
    let object = Bytes::copy_from_slice(object);
    build_from(object.len() as u64, head, tail, |from, to| {
        object.slice(from as usize..to as usize)
    })
}

/// Builds from an object that need not be in memory.
pub fn build_from(
    size: u64,
    head: u64,
    tail: u64,
    read: impl Fn(u64, u64) -> Bytes,
) -> Result<Built, DemuxError> {
    let mut builder = IndexBuilder::new(size);
    if size > 0 {
        builder.push(0, read(0, head.min(size)));
        builder.push(size - tail.min(size), read(size - tail.min(size), size));
    }
    let (mut rounds, mut bytes_read, mut reads) = (0, 0, 0);
    loop {
        match builder.step()? {
            Step::Finished(index) => {
                return Ok(Built {
                    index: *index,
                    rounds,
                    bytes_read,
                    reads,
                });
            }
            Step::NeedsData(ranges) => {
                assert!(!ranges.is_empty(), "a round without a range never ends");
                rounds += 1;
                assert!(
                    rounds as u64 <= 16 + size / 64,
                    "more rounds than the object can need"
                );
                for range in ranges {
                    assert!(
                        range.start < range.end && range.end <= size,
                        "{range:?} of {size}"
                    );
                    bytes_read += range.end - range.start;
                    reads += 1;
                    builder.push(range.start, read(range.start, range.end));
                }
            }
        }
    }
}

/// The folder of real camera files; `None`, with a note, where it is absent.
pub fn footage() -> Option<PathBuf> {
    let path = std::env::var_os("BUCKET_STREAMER_FOOTAGE").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/footage"),
        PathBuf::from,
    );
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("no footage at {}: passed over", path.display());
    None
}
