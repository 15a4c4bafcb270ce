//! Pure parsing and planning: containers, H.265 headers, the reference graph, decode plans.
//!
//! Nothing in this crate opens a file, reads a clock, spawns a thread or is `unsafe`. Parsers are
//! *push* parsers: they say which byte ranges they want, and are given bytes.
//!
//! Two orders exist and are never mixed: [`DecodeIndex`] counts samples as they lie in the
//! bitstream, [`PresentationIndex`] counts pictures as a person sees them.

pub mod bsidx;
pub mod closure;
pub mod colour;
pub mod demux;
mod disjoint_sets;
pub mod graph;
pub mod h265;
pub mod heads;
pub mod index;
pub mod order;
pub mod orientation;
mod packed;
pub mod packet;
pub mod planner;
mod poc_anchors;
mod prelude;
pub mod sidecar;
pub mod survey;
mod varint;

pub use closure::{Refusal, Standing};
pub use colour::ColourDescription;
pub use index::{Sample, VideoIndex};
pub use order::{DecodeIndex, PresentationIndex};
pub use orientation::Orientation;
pub use planner::{Planner, Way};
