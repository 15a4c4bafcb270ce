//! A writer of H.265 headers: parameter sets and slice segment headers without slice data, so
//! that tests can make streams of any structure. It follows the syntax tables of clause 7.3 and
//! shares no code with the parser.

// Each test program uses a part of it.
#![allow(dead_code, unused_imports, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

pub mod bits;
pub mod random;
pub mod sets;
pub mod slice;
pub mod stream;
pub mod tape;
pub mod view;

pub use bits::{BitWriter, nal};
pub use sets::{PpsSpec, RpsCoding, SpsSpec, VuiSpec, vps};
pub use slice::{Lt, ShortTerm, SliceSpec};
pub use tape::Tape;

use media::demux::{DemuxError, IndexBuilder, Step};
use media::{DecodeIndex, VideoIndex};

/// Indexes an object that lies in memory, read in the ranges that are asked for.
pub fn index(object: &[u8]) -> Result<VideoIndex, DemuxError> {
    let mut builder = IndexBuilder::new(object.len() as u64);
    for _ in 0..1_000_000 {
        match builder.step()? {
            Step::Finished(index) => return Ok(*index),
            Step::NeedsData(ranges) => {
                assert!(!ranges.is_empty(), "asks for nothing");
                for r in ranges {
                    assert!(r.start < r.end && r.end <= object.len() as u64, "{r:?}");
                    let piece = object[r.start as usize..r.end as usize].to_vec();
                    builder.push(r.start, piece.into());
                }
            }
        }
    }
    panic!("the builder never finishes");
}

/// A sample's place, as a number.
pub fn d(sample: usize) -> DecodeIndex {
    DecodeIndex(sample as u32)
}
