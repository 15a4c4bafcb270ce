//! From an object's bytes to a [`VideoIndex`], by bounded range reads.
//!
//! [`IndexBuilder`] is a push parser: [`IndexBuilder::step`] says which ranges it wants, the
//! caller fetches them and hands them in with [`IndexBuilder::push`], until the index is ready.
//! The extension never decides what an object is; its first bytes do.

pub mod annexb;
mod detect;
pub mod isobmff;

use std::ops::Range;

use bytes::Bytes;

use crate::index::VideoIndex;

/// Bytes that a caller should read at the start of an object before the first step.
pub const HEAD_BYTES: u64 = 128 * 1024;
/// Bytes that a caller should read at the end of an object, concurrently with the head.
pub const TAIL_BYTES: u64 = 128 * 1024;

/// What the builder needs next.
#[derive(Debug)]
pub enum Step {
    /// Read these ranges (all of them; they may be fetched concurrently), push each, step again.
    /// Ranges are within the object and never empty.
    NeedsData(Vec<Range<u64>>),
    /// The index is ready. The builder must not be stepped again.
    Finished(Box<VideoIndex>),
}

/// Why an object gives no index.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DemuxError {
    /// The object is something else; `found` says what, in words.
    #[error("not an H.265 video: {found}")]
    NotVideo {
        /// What was found instead.
        found: String,
    },
    /// A video container, but its video track has another codec.
    #[error("the video is {codec}, not H.265")]
    OtherCodec {
        /// The codec that was found, in words or as a four-character code.
        codec: String,
    },
    /// The object ends before something it announces.
    #[error("the file is cut short: {what}")]
    CutShort {
        /// What is missing, and where.
        what: String,
    },
    /// A length, count or field contradicts the object.
    #[error("the file is damaged: {what}")]
    Damaged {
        /// Which field of which box says what.
        what: String,
    },
    /// Valid, but beyond what is supported (encryption, external data, limits).
    #[error("not supported: {what}")]
    Unsupported {
        /// What is not supported.
        what: String,
    },
}

/// Builds a [`VideoIndex`] from pushed bytes.
#[derive(Debug)]
pub struct IndexBuilder {
    state: State,
}

#[derive(Debug)]
enum State {
    /// Not yet known what the object is: bytes pushed so far are kept.
    Unknown {
        size: u64,
        pushed: Vec<(u64, Bytes)>,
    },
    Isobmff(Box<isobmff::Builder>),
    AnnexB(Box<annexb::Builder>),
}

impl IndexBuilder {
    /// A builder for an object of `size` bytes. Pushing [`HEAD_BYTES`] from the start and
    /// [`TAIL_BYTES`] from the end before the first step saves a round trip.
    pub fn new(size: u64) -> Self {
        Self {
            state: State::Unknown {
                size,
                pushed: Vec::new(),
            },
        }
    }

    /// Hands in the bytes that lie at `offset` of the object.
    pub fn push(&mut self, offset: u64, data: Bytes) {
        match &mut self.state {
            State::Unknown { pushed, .. } => pushed.push((offset, data)),
            State::Isobmff(b) => b.push(offset, data),
            State::AnnexB(b) => b.push(offset, data),
        }
    }

    /// Goes on as far as the pushed bytes allow.
    pub fn step(&mut self) -> Result<Step, DemuxError> {
        if let State::Unknown { size, pushed } = &mut self.state {
            let size = *size;
            if size == 0 {
                return Err(DemuxError::NotVideo {
                    found: "an empty file".into(),
                });
            }
            let Some((_, head)) = pushed.iter().find(|(o, d)| *o == 0 && !d.is_empty()) else {
                return Ok(needs_one(0..size.min(HEAD_BYTES)));
            };
            let kind = detect::detect(head, size)?;
            let pushed = std::mem::take(pushed);
            self.state = match kind {
                detect::Kind::Isobmff => State::Isobmff(Box::new(isobmff::Builder::new(size))),
                detect::Kind::AnnexB => State::AnnexB(Box::new(annexb::Builder::new(size))),
            };
            for (offset, data) in pushed {
                self.push(offset, data);
            }
        }
        match &mut self.state {
            State::Isobmff(b) => b.step(),
            State::AnnexB(b) => b.step(),
            State::Unknown { .. } => Ok(needs_one(0..1)),
        }
    }
}

fn needs_one(range: Range<u64>) -> Step {
    Step::NeedsData(Vec::from([range]))
}
