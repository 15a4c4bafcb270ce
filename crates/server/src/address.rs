//! From the name of a frame in a request to its sample.

use media::{DecodeIndex, PresentationIndex, VideoIndex};
use protocol::{FrameAddress, FrameErrorCode};

/// Where a picture lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// The first byte of its sample, or the position by which the client named it.
    pub(crate) offset: u64,
    /// Its place in presentation order, unless it is hidden.
    pub(crate) frame: Option<u64>,
}

/// A name that names nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Unknown {
    /// For programs.
    pub(crate) code: FrameErrorCode,
    /// For people.
    pub(crate) message: String,
}

/// Where a sample lies.
pub(crate) fn place(index: &VideoIndex, sample: DecodeIndex) -> Place {
    let shown = index.presentation_index(sample);
    Place {
        offset: index.sample(sample).map_or(0, |s| s.offset),
        frame: shown.map(|p| u64::from(p.0)),
    }
}

/// The sample that is meant, and what its answer calls it.
pub(crate) fn find(
    index: &VideoIndex,
    address: FrameAddress,
) -> Result<(DecodeIndex, Place), Unknown> {
    let frame = match address {
        FrameAddress::Offset(offset) => {
            let Some(sample) = index.sample_at_offset(offset) else {
                return Err(Unknown {
                    code: FrameErrorCode::UnknownOffset,
                    message: format!("No frame of this video starts at byte {offset}"),
                });
            };
            // In a byte stream, several positions name one sample: a client knows its own.
            let place = Place {
                offset,
                ..place(index, sample)
            };
            return Ok((sample, place));
        }
        FrameAddress::Frame(frame) => u32::try_from(frame).ok().map(PresentationIndex),
        FrameAddress::Time(seconds) => index.frame_at_time(seconds),
    };
    match frame.and_then(|frame| Some((frame, index.decode_index(frame)?))) {
        Some((frame, sample)) => {
            // An edit list may show a sample twice: the place that was meant counts.
            let place = Place {
                frame: Some(frame.0.into()),
                ..place(index, sample)
            };
            Ok((sample, place))
        }
        None => Err(Unknown {
            code: FrameErrorCode::UnknownFrame,
            message: unknown_frame(index, address),
        }),
    }
}

fn unknown_frame(index: &VideoIndex, address: FrameAddress) -> String {
    let Some(last) = index.frame_count().checked_sub(1) else {
        return "The video shows no frames".into();
    };
    match address {
        FrameAddress::Time(seconds) => {
            let end = index.duration() as f64 / f64::from(index.timescale().max(1));
            format!("The video shows nothing at {seconds} s: it lasts from 0 to {end:.3} s")
        }
        FrameAddress::Frame(n) | FrameAddress::Offset(n) => {
            format!("The video has no frame {n}: its frames are 0 to {last}")
        }
    }
}
