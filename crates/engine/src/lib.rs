//! From a sample's identity to its encoded picture.
//!
//! ```text
//! Engine::open ─► catalog: Store → IndexBuilder → Video
//! Client::request ─► image cache, or an order in the schedule
//!    └─ its GOP: byte ranges → storage → run ─ hand-off 1 ─► worker: planner → decoder
//!                                          picture → image ─ hand-off 2 ─► FrameTicket
//! ```
//!
//! The engine knows no HTTP and no JSON. Worker threads never wait for the network or for a
//! client: nothing is made for a client that does not take what is ready.

mod ahead;
mod at_hand;
mod beside;
pub mod cache;
mod caches;
pub mod catalog;
mod client;
mod compressed;
mod config;
mod core;
mod decoders;
mod develop;
mod engine;
mod error;
mod fetch;
mod harvest;
mod histogram;
mod joint;
mod listing;
mod memory;
mod pass;
mod run;
mod schedule;
mod standing;
mod stats;
mod suspects;
mod ticket;
mod video;
mod worker;

pub use codec::Format as ImageFormat;

pub use ahead::Prefetch;
pub use client::Client;
pub use compressed::AccessUnit;
pub use config::{DecodeWorker, DiskCacheConfig, EngineConfig, Isolation, usable_cores};
pub use decoders::decode_worker;
pub use engine::Engine;
pub use error::{EngineError, FrameError, FrameErrorCode, OpenError};
pub use histogram::{BOUNDS, Histogram, HistogramReading};
pub use listing::{ListedVideo, VideoListing};
pub use memory::usable_memory;
pub use stats::{
    ClientStats, DiskState, EngineCounters, EngineState, StageHistograms, StageStats, Stages,
};
pub use ticket::{
    EncodedImage, FrameEvent, FrameOutcome, FrameTarget, FrameTicket, Output, Preview, Priority,
    RequestOptions,
};
pub use video::{Video, VideoInfo};
