//! From a sample's identity to its encoded picture.
//!
//! ```text
//! Engine::open ─► catalog: Store → IndexBuilder → Video
//! Engine::request ─► groups of targets that share a run of samples
//!    └─ each group: byte ranges → storage → hand-off 1 ─► worker: graph → plan → decoder
//!                                              picture → JPEG ─► hand-off 2 ─► FrameTicket
//! ```
//!
//! The engine knows no HTTP and no JSON. Worker threads never wait for the network or for a
//! client: a pass whose images nobody takes is put aside, with its decoder, until there is room.

pub mod catalog;
mod config;
mod counters;
mod error;
mod group;
mod pass;
mod request;
mod ticket;
mod video;
mod worker;

pub use config::{EngineConfig, usable_cores};
pub use counters::EngineCounters;
pub use error::{EngineError, FrameError, FrameErrorCode, OpenError};
pub use request::Engine;
pub use ticket::{EncodedImage, FrameOutcome, FrameTarget, FrameTicket};
pub use video::{Video, VideoInfo};
