//! What the two processes tell each other: one value, one packet of the socket.

use serde::{Deserialize, Serialize};

use crate::libav::{Chroma, PictureType, Threading};
use crate::{CodecError, Confinement};

/// The longest packet. Errors hold sentences of libavutil, orders the numbers of some pictures.
pub(super) const LONGEST: usize = 64 << 10;

/// Comes first, with the memory's descriptor.
#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
pub(super) struct Greeting {
    /// Bytes of the memory's first part, for access units.
    pub(super) input: u64,
    /// Bytes of all of it.
    pub(super) whole: u64,
    /// What the process may take for itself beside it, in bytes.
    pub(super) own: u64,
}

/// Answers the greeting.
pub(super) type Ready = Result<Confinement, String>;

/// What a worker is to do, and which pictures nobody looks at any more.
#[derive(Serialize, Deserialize, Debug)]
pub(super) struct Order {
    pub(super) work: Work,
    pub(super) released: Vec<u32>,
}

#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
pub(super) enum Work {
    /// Has a decoder of this kind, in its initial state.
    Open {
        threading: Threading,
        max_pixels: u64,
    },
    /// Decodes the first so many bytes of a slot.
    Send { id: i64, slot: Slot, bytes: u64 },
    /// Completes what is in flight.
    Finish,
    /// Drops all state. Not answered.
    Flush,
}

/// Half of the memory's first part. While a worker decodes what lies in one, the server fills the
/// other.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(super) enum Slot {
    First,
    Second,
}

impl Slot {
    pub(super) fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// What came of an order.
#[derive(Serialize, Deserialize, Debug)]
pub(super) struct Answer {
    pub(super) pictures: Vec<PictureAt>,
    pub(super) result: Result<(), CodecError>,
}

/// A picture that lies in the memory's second part. It stays until its number is released.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct PictureAt {
    pub(crate) number: u32,
    pub(crate) id: i64,
    pub(crate) chroma: Chroma,
    pub(crate) bit_depth: u8,
    pub(crate) gbr: bool,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) picture_type: PictureType,
    pub(crate) damaged: bool,
    pub(crate) lacks_references: bool,
    pub(crate) planes: [Option<PlaneAt>; 3],
}

/// Where a plane lies: its first sample, in bytes from the start of the second part, and how many
/// samples on the next row is.
#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
pub(crate) struct PlaneAt {
    pub(crate) offset: u64,
    pub(crate) stride: u32,
}
