//! A decoder in another process, used like one in this.

use std::sync::Arc;

use super::launcher::Launcher;
use super::process::{Lost, Process};
use super::wire::{Answer, Work};
use crate::{CodecError, Picture, Threading};

/// What [`crate::HevcDecoder`] is, in a worker. A worker that is lost is replaced with the next
/// access unit, by one in its initial state.
#[derive(Debug)]
pub struct IsolatedDecoder {
    launcher: Arc<Launcher>,
    /// Has a decoder of this kind open.
    process: Option<Process>,
    kind: (Threading, u64),
    /// Something was sent since it was empty.
    used: bool,
    /// Pictures may be in flight.
    in_flight: bool,
}

impl IsolatedDecoder {
    pub(super) fn new(
        launcher: Arc<Launcher>,
        threading: Threading,
        max_pixels: u64,
    ) -> Result<Self, CodecError> {
        let mut decoder = Self {
            launcher,
            process: None,
            kind: (threading, max_pixels),
            used: false,
            in_flight: false,
        };
        decoder.open()?;
        Ok(decoder)
    }

    /// Sees to it that there is a worker.
    fn open(&mut self) -> Result<(), CodecError> {
        // One that rested may have been ended meanwhile: then a second is tried.
        for last in [false, true] {
            if self.process.is_some() {
                break;
            }
            let process = self.launcher.process(self.kind)?;
            self.process = Some(process);
            let (threading, max_pixels) = self.kind;
            let opened = self.exchange(
                Work::Open {
                    threading,
                    max_pixels,
                },
                &mut drop,
            );
            match opened {
                Ok(()) => {
                    if let Some(process) = &mut self.process {
                        process.kind = Some(self.kind);
                    }
                }
                Err(CodecError::WorkerLost { .. }) if !last => {}
                Err(error) => {
                    self.process = None;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// As [`crate::HevcDecoder::send`].
    ///
    /// # Errors
    /// As there, and [`CodecError::WorkerLost`].
    pub fn send(
        &mut self,
        access_unit: &[u8],
        id: i64,
        sink: &mut dyn FnMut(Picture),
    ) -> Result<(), CodecError> {
        self.open()?;
        self.used = true;
        self.in_flight = self.kind.0.is_frames();
        let fits = (self.process.as_ref()).is_some_and(|p| p.put(access_unit));
        if !fits || access_unit.is_empty() {
            // As a decoder does that refuses one.
            self.flush();
            let bytes = access_unit.len();
            return Err(CodecError::AccessUnitSize { bytes });
        }
        let bytes = access_unit.len() as u64;
        self.exchange(Work::Send { id, bytes }, sink)
    }

    /// As [`crate::HevcDecoder::finish`].
    ///
    /// # Errors
    /// As there, and [`CodecError::WorkerLost`].
    pub fn finish(&mut self, sink: &mut dyn FnMut(Picture)) -> Result<(), CodecError> {
        if !std::mem::take(&mut self.in_flight) || self.process.is_none() {
            return Ok(());
        }
        self.exchange(Work::Finish, sink)
    }

    /// Drops all state without output.
    pub fn flush(&mut self) {
        self.in_flight = false;
        if !std::mem::take(&mut self.used) {
            return;
        }
        let told = match &mut self.process {
            Some(process) => process.tell(Work::Flush),
            None => Ok(()),
        };
        if told.is_err() {
            self.lose();
        }
    }

    fn exchange(
        &mut self,
        work: Work,
        sink: &mut dyn FnMut(Picture),
    ) -> Result<(), CodecError> {
        let Some(process) = &mut self.process else {
            let reason = "it was not there".into();
            return Err(CodecError::WorkerLost { reason });
        };
        let ended = match process.tell(work) {
            Ok(()) => hear(process, sink),
            Err(lost) => Err(lost),
        };
        ended.unwrap_or_else(|Lost(reason)| {
            self.lose();
            Err(CodecError::WorkerLost { reason })
        })
    }

    fn lose(&mut self) {
        (self.used, self.in_flight) = (false, false);
        if self.process.take().is_some() {
            self.launcher.count_lost();
        }
    }
}

/// Hears a worker out.
fn hear(
    process: &mut Process,
    sink: &mut dyn FnMut(Picture),
) -> Result<Result<(), CodecError>, Lost> {
    loop {
        match process.answer()? {
            Answer::Picture(at) => sink(process.picture(&at)?),
            Answer::Done => return Ok(Ok(())),
            // Only this side can say so.
            Answer::Failed(CodecError::WorkerLost { .. }) => {
                return Err(Lost("spoke out of turn".into()));
            }
            Answer::Failed(error) => return Ok(Err(error)),
        }
    }
}

impl Drop for IsolatedDecoder {
    fn drop(&mut self) {
        self.flush();
        if let Some(process) = self.process.take() {
            self.launcher.put(process);
        }
    }
}
