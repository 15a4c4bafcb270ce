//! The two orders of pictures, each with its own type.

use std::fmt;

/// Position of a sample (access unit) in decode order, from 0: the order of the bitstream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DecodeIndex(pub u32);

/// Position of a picture in presentation order, from 0: what a person calls frame 0, 1, 2 …
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PresentationIndex(pub u32);

impl DecodeIndex {
    /// As an index into a slice that is in decode order.
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl PresentationIndex {
    /// As an index into a slice that is in presentation order.
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for DecodeIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sample {}", self.0)
    }
}

impl fmt::Display for PresentationIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame {}", self.0)
    }
}
