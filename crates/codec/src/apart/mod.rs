//! Decoders in processes of their own.
//!
//! libavcodec is a large C library that reads strangers' files. So it works where a defect of it
//! reaches nothing: in a process without files, network or any right to get them, that a limit keeps
//! from growing, and that is replaced when it ends. Access units go in and pictures come out through
//! memory that both processes map; what is to be done, and what came of it, are short messages on a
//! socket.
//!
//! ```text
//!   IsolatedDecoder ── Order ──►  socket  ──► worker: HevcDecoder
//!        │ access unit ────────►  memory, first part  ──┘  │
//!        ◄── Answer ───────────   socket  ◄────────────────┤
//!     Picture ◄────────────────   memory, second part ◄────┘ (libavcodec decodes into it)
//! ```
//!
//! Whatever comes from the other process is taken for a stranger's word: where a picture lies is held
//! against the memory before anything is read there, what is no answer ends the process, and one that
//! does not answer in time is ended, too. That the samples of a picture could change while they are
//! read is borne: they are numbers, and nothing is indexed by them without a look.

mod decoder;
mod launcher;
#[allow(unsafe_code)]
mod memory;
mod process;
mod sandbox;
mod wire;
mod worker;

pub use decoder::IsolatedDecoder;
pub use launcher::{Confinement, Launcher, LauncherConfig};
pub(crate) use memory::{Lease, Shared};
pub(crate) use wire::{PictureAt, PlaneAt};
pub use worker::decode_worker;
