//! H.265 access units in, pictures and images out.
//!
//! Everything here blocks and is called from worker threads. Three stages:
//!
//! 1. [`HevcDecoder`] gives an access unit to libavcodec and hands out its [`Picture`] as soon as
//!    it is decoded, with the identity of the access unit. It can go on from there at any time.
//! 2. [`to_jpeg_planes`] turns a picture's planes into those of a JPEG image: full-range BT.601,
//!    8 bit, turned and mirrored for display, in the subsampling of the source. Range and matrix
//!    are one affine map; HDR goes through a tone map. See `docs/colour.md`.
//! 3. [`ImageEncoder`] encodes these planes with libjpeg-turbo, with no RGB in between, scaled down
//!    before where a [`Rendition`] says so; or as another [`Format`].
//!
//! [`Decoders`] opens decoders in this process or, where a defect of libavcodec should reach nothing,
//! in others.
//!
//! `unsafe` is used in the module `libav`, and for memory that processes share in `apart`.

#[cfg(target_os = "linux")]
mod apart;
mod colour;
mod convert;
mod decoders;
mod display;
mod error;
mod format;
mod grid;
mod image;
#[allow(unsafe_code)]
mod libav;
mod orient;
mod planes;
mod rendition;
mod rgb;
mod scale;
mod sheet;

#[cfg(target_os = "linux")]
pub use apart::{Confinement, IsolatedDecoder, Launcher, LauncherConfig, decode_worker};
pub use convert::to_jpeg_planes;
pub use decoders::{Decoder, Decoders};
pub use error::CodecError;
pub use format::Format;
pub use image::{Converted, ImageEncoder};
pub use libav::{
    Chroma, DEFAULT_MAX_PIXELS, HevcDecoder, Picture, PictureType, Plane, Rows, Threading,
    give_back_large_blocks,
};
pub use planes::{PlanesBuf, Subsampling};
pub use rendition::Rendition;
pub use sheet::ContactSheet;

// What tests share calls this crate by its name.
#[cfg(test)]
extern crate self as codec;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
