//! Decoders, in this process or in others.

use crate::{CodecError, HevcDecoder, Picture, Threading};

/// Opens decoders.
#[derive(Clone, Debug)]
pub enum Decoders {
    /// In this process, for pictures of at most so many luma samples.
    Here {
        /// What [`HevcDecoder::set_max_pixels`] takes.
        max_pixels: u64,
    },
    /// In processes of their own.
    #[cfg(target_os = "linux")]
    Apart(std::sync::Arc<crate::Launcher>),
}

impl Decoders {
    /// A decoder in its initial state.
    ///
    /// # Errors
    /// [`CodecError::DecoderUnavailable`], [`CodecError::OutOfMemory`], [`CodecError::WorkerLost`].
    pub fn open(&self, threading: Threading) -> Result<Decoder, CodecError> {
        match self {
            Self::Here { max_pixels } => {
                HevcDecoder::open(threading, *max_pixels, None).map(Decoder::Here)
            }
            #[cfg(target_os = "linux")]
            Self::Apart(launcher) => launcher.open(threading).map(Decoder::Apart),
        }
    }
}

/// A decoder that somebody else may have at work.
#[derive(Debug)]
pub enum Decoder {
    /// In this process.
    Here(HevcDecoder),
    /// In a process of its own.
    #[cfg(target_os = "linux")]
    Apart(crate::IsolatedDecoder),
}

impl Decoder {
    /// As [`HevcDecoder::send`].
    ///
    /// # Errors
    /// As there, and [`CodecError::WorkerLost`].
    pub fn send(
        &mut self,
        access_unit: &[u8],
        id: i64,
        sink: &mut dyn FnMut(Picture),
    ) -> Result<(), CodecError> {
        match self {
            Self::Here(decoder) => decoder.send(access_unit, id, sink),
            #[cfg(target_os = "linux")]
            Self::Apart(decoder) => decoder.send(access_unit, id, sink),
        }
    }

    /// As [`HevcDecoder::finish`].
    ///
    /// # Errors
    /// As there, and [`CodecError::WorkerLost`].
    pub fn finish(&mut self, sink: &mut dyn FnMut(Picture)) -> Result<(), CodecError> {
        match self {
            Self::Here(decoder) => decoder.finish(sink),
            #[cfg(target_os = "linux")]
            Self::Apart(decoder) => decoder.finish(sink),
        }
    }

    /// As [`HevcDecoder::flush`].
    pub fn flush(&mut self) {
        match self {
            Self::Here(decoder) => decoder.flush(),
            #[cfg(target_os = "linux")]
            Self::Apart(decoder) => decoder.flush(),
        }
    }
}
