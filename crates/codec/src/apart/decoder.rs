//! A decoder in another process, used like one in this.

use std::sync::Arc;

use super::launcher::Launcher;
use super::process::{Lost, Process};
use super::wire::{Answer, Slot, Work};
use crate::{CodecError, Picture, Threading};

/// What [`crate::HevcDecoder`] is, in a worker. A worker that is lost is replaced with the next
/// access unit, by one in its initial state.
///
/// With [`Threading::Frames`], an access unit is sent before the worker has answered for the one before
/// it, so that its threads need not wait for the way there and back: pictures come out one send later
/// than from a decoder here, or with [`IsolatedDecoder::finish`].
#[derive(Debug)]
pub struct IsolatedDecoder {
    launcher: Arc<Launcher>,
    /// Has a decoder of this kind open.
    process: Option<Process>,
    kind: (Threading, u64),
    /// Something was sent since it was empty.
    used: bool,
    /// The decoder's threads may have pictures in flight.
    in_flight: bool,
    /// Orders that were not answered yet: two at the most.
    unanswered: u32,
    /// Where the next access unit goes.
    slot: Slot,
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
            unanswered: 0,
            slot: Slot::First,
        };
        decoder.open()?;
        Ok(decoder)
    }

    /// Sees to it that there is a worker.
    fn open(&mut self) -> Result<(), CodecError> {
        while self.process.is_none() {
            let idle = self.launcher.idle(self.kind);
            let is_new = idle.is_none();
            self.process = Some(idle.map_or_else(|| self.launcher.start(), Ok)?);
            let (threading, max_pixels) = self.kind;
            let open = Work::Open {
                threading,
                max_pixels,
            };
            let opened = self.tell(open).and_then(|()| self.hear(0, &mut drop));
            match opened {
                Ok(()) => {
                    if let Some(process) = &mut self.process {
                        process.kind = Some(self.kind);
                    }
                }
                // One that rested may have been ended meanwhile: another one is tried.
                Err(CodecError::WorkerLost { .. }) if !is_new => {}
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
        let slot = self.slot;
        let fits = (self.process.as_ref()).is_some_and(|p| p.put(slot, access_unit));
        if !fits || access_unit.is_empty() {
            // As a decoder does that refuses one.
            self.flush();
            let bytes = access_unit.len();
            return Err(CodecError::AccessUnitSize { bytes });
        }
        self.used = true;
        self.in_flight = self.kind.0.is_frames();
        self.slot = slot.other();
        let bytes = access_unit.len() as u64;
        self.tell(Work::Send { id, slot, bytes })?;
        self.hear(u32::from(self.in_flight), sink)
    }

    /// As [`crate::HevcDecoder::finish`].
    ///
    /// # Errors
    /// As there, and [`CodecError::WorkerLost`].
    pub fn finish(&mut self, sink: &mut dyn FnMut(Picture)) -> Result<(), CodecError> {
        if !std::mem::take(&mut self.in_flight) || self.process.is_none() {
            return Ok(());
        }
        self.hear(0, sink)?;
        self.tell(Work::Finish)?;
        self.hear(0, sink)
    }

    /// Drops all state without output.
    pub fn flush(&mut self) {
        if std::mem::take(&mut self.used) {
            // What it says of what was sent, nobody wants to know.
            while self.process.is_some() && self.unanswered > 0 {
                self.hear(self.unanswered.saturating_sub(1), &mut drop).ok();
            }
            self.forget();
        }
    }

    /// Has the decoder empty.
    fn forget(&mut self) {
        (self.used, self.in_flight) = (false, false);
        let told = match &mut self.process {
            Some(process) => process.tell(Work::Flush),
            None => Ok(()),
        };
        if told.is_err() {
            self.lose();
        }
    }

    fn tell(&mut self, work: Work) -> Result<(), CodecError> {
        let told = match &mut self.process {
            Some(process) => process.tell(work),
            None => Err(Lost("is not there".into())),
        };
        self.unanswered = self.unanswered.saturating_add(1);
        told.map_err(|Lost(reason)| {
            self.lose();
            CodecError::WorkerLost { reason }
        })
    }

    /// Takes answers until only so many orders have none. After an error there are none such, and the
    /// decoder is empty: what it has made of orders after the one that failed is dropped.
    fn hear(&mut self, left: u32, sink: &mut dyn FnMut(Picture)) -> Result<(), CodecError> {
        let mut failed = None;
        while self.unanswered > if failed.is_some() { 0 } else { left } {
            let taken = match &mut self.process {
                Some(process) => take(process, failed.is_some(), sink),
                None => Err(Lost("is not there".into())),
            };
            self.unanswered = self.unanswered.saturating_sub(1);
            match taken {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failed = failed.or(Some(error)),
                Err(Lost(reason)) => {
                    self.lose();
                    return Err(CodecError::WorkerLost { reason });
                }
            }
        }
        match failed {
            None => Ok(()),
            Some(error) => {
                self.forget();
                Err(error)
            }
        }
    }

    fn lose(&mut self) {
        (self.used, self.in_flight, self.unanswered) = (false, false, 0);
        if self.process.take().is_some() {
            self.launcher.count_lost();
        }
    }
}

/// Takes what came of an order; its pictures only if they are not to be `dropped`.
fn take(
    process: &mut Process,
    dropped: bool,
    sink: &mut dyn FnMut(Picture),
) -> Result<Result<(), CodecError>, Lost> {
    let Answer { pictures, result } = process.answer()?;
    for at in &pictures {
        let picture = process.picture(at)?;
        if !dropped {
            sink(picture);
        }
    }
    match result {
        // Only this side can say so.
        Err(CodecError::WorkerLost { .. }) => Err(Lost("spoke out of turn".into())),
        result => Ok(result),
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
