//! The wire types of the WebSocket protocol, shared by server and client.
//!
//! `docs/protocol.md` is the contract; a test of this crate holds its examples against the code.
//! Requests are text messages read by [`ClientMessage::parse`], replies are text messages written
//! by [`ServerMessage::to_json`]; the one binary message is the picture that follows a
//! [`ServerMessage::Frame`].

mod code;
mod error;
mod fields;
mod reply;
mod request;

pub use code::{FrameErrorCode, VideoErrorCode};
pub use error::MessageError;
pub use reply::{
    IndexPiece, ServerMessage, SessionStats, StageTotal, StageTotals, VideoDescription,
};
pub use request::{
    ClientMessage, FrameAddress, FrameRequest, FramesRequest, Priority, Rendition, RequestId,
};

/// The largest whole number that every JSON reader holds exactly: 2^53 − 1.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;
