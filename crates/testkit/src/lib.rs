//! For tests and benchmarks only: footage with burnt-in frame numbers, the reference decode by
//! ffmpeg, JPEG reading, and the programs of this workspace as child processes.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! for clip in testkit::footage::all()? {
//!     let reference = testkit::reference::decode(&clip.path, Default::default())?;
//!     for frame in &reference {
//!         println!("{} {:?} {:032x}", clip.name, frame.position, frame.hash);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

// A panic here is a failing test, and the data is our own.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

pub mod annexb;
pub mod boxes;
pub mod browser;
pub mod bucket;
pub mod command;
pub mod directories;
pub mod footage;
pub mod garage;
pub mod jpeg;
pub mod long;
pub mod mob;
pub mod mux;
pub mod picture;
pub mod programs;
pub mod prometheus;
pub mod proxy;
pub mod recipe;
pub mod reference;
pub mod scene;
pub mod watermark;

pub use footage::Clip;
pub use picture::{Chroma, Picture, SampleFormat};
pub use recipe::Recipe;
