//! Raw byte streams.
use super::{DemuxError, Step};
use bytes::Bytes;
/// Builds the index of a raw byte stream.
#[derive(Debug)]
pub(super) struct Builder {
    size: u64,
}
impl Builder {
    pub(super) fn new(size: u64) -> Self {
        Self { size }
    }
    pub(super) fn push(&mut self, _offset: u64, _data: Bytes) {}
    pub(super) fn step(&mut self) -> Result<Step, DemuxError> {
        Err(DemuxError::Unsupported {
            what: format!("{}", self.size),
        })
    }
}
pub(super) fn looks_like_annexb(head: &[u8]) -> bool {
    head.starts_with(&[0, 0, 1]) || head.starts_with(&[0, 0, 0, 1])
}
