//! Decoders that nobody uses at the moment: some stand in a GOP and can go on there, others are
//! empty.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use codec::{Decoder, Picture, Threading};
use media::DecodeIndex;

use crate::at_hand::AtHand;
use crate::schedule::GopKey;

/// A decoder and what it has been given since it was empty.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) decoder: Decoder,
    pub(crate) threading: Threading,
    /// Ascending.
    pub(crate) given: Vec<DecodeIndex>,
    pub(crate) at_hand: AtHand,
    /// Counts it among those that are open.
    _slot: Slot,
}

/// One decoder that is open, at work or at rest.
pub(crate) type Slot = Arc<()>;

impl Standing {
    /// A decoder that was given nothing.
    pub(crate) fn empty(decoder: Decoder, threading: Threading, slot: Slot) -> Self {
        Self {
            _slot: slot,
            decoder,
            threading,
            given: Vec::new(),
            at_hand: AtHand::default(),
        }
    }

    /// Begins anew.
    pub(crate) fn flush(&mut self) {
        self.decoder.flush();
        self.given.clear();
        self.at_hand.clear();
    }
}

/// The decoders that rest. Together with those at work they are as many as there are workers, so
/// that what they hold is bounded: the one that has rested longest makes room for a new one.
#[derive(Debug)]
pub(crate) struct Rest {
    standing: Mutex<VecDeque<(Option<GopKey>, Standing)>>,
    most: usize,
    open: Slot,
}

impl Rest {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            standing: Mutex::default(),
            most: most.max(1),
            open: Slot::default(),
        }
    }

    /// A place among the decoders that are open.
    pub(crate) fn slot(&self) -> Slot {
        Arc::clone(&self.open)
    }

    /// As many are open as there may be.
    fn is_full(&self) -> bool {
        // One is its own.
        Arc::strong_count(&self.open) > self.most
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Option<GopKey>, Standing)>> {
        // A list: whole, whatever a panicking thread was doing.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The decoder that stands in a GOP, if `fit` says that it is of use.
    pub(crate) fn take(&self, gop: &GopKey, fit: impl Fn(&Standing) -> bool) -> Option<Standing> {
        let mut all = self.lock();
        let at = all
            .iter()
            .rposition(|(k, s)| k.as_ref() == Some(gop) && fit(s))?;
        all.remove(at).map(|(_, standing)| standing)
    }

    /// Those of the wanted pictures that decoders which stand in a GOP have at hand.
    pub(crate) fn at_hand(
        &self,
        gop: &GopKey,
        wanted: impl Iterator<Item = DecodeIndex>,
    ) -> Vec<(DecodeIndex, Picture)> {
        let mut all = self.lock();
        let mut found = Vec::new();
        for sample in wanted {
            let holder = all.iter().rposition(|(k, standing)| {
                k.as_ref() == Some(gop) && standing.at_hand.get(sample).is_some()
            });
            // It has been of use: it stays longest.
            if let Some(used) = holder.and_then(|at| all.remove(at)) {
                if let Some(picture) = used.1.at_hand.get(sample) {
                    found.push((sample, picture.clone()));
                }
                all.push_back(used);
            }
        }
        found
    }

    /// An empty decoder of a kind: one that rests empty, else, where no more may be opened, the one
    /// that has stood longest. `None`: a new one is to be opened, for which there is room then.
    pub(crate) fn take_empty(&self, threading: Threading) -> Option<Decoder> {
        let mut all = self.lock();
        let of_kind = |(_, s): &(Option<GopKey>, Standing)| s.threading == threading;
        let empty = all.iter().position(|e| e.0.is_none() && of_kind(e));
        let at = match empty {
            None if self.is_full() => all.iter().position(of_kind),
            empty => empty,
        };
        let Some((_, standing)) = at.and_then(|at| all.remove(at)) else {
            let closed = if self.is_full() {
                all.pop_front()
            } else {
                None
            };
            // Closing it takes a while.
            drop(all);
            drop(closed);
            return None;
        };
        drop(all);
        let mut decoder = standing.decoder;
        decoder.flush();
        Some(decoder)
    }

    /// Lays a decoder to rest where it stands; without a GOP it is empty.
    pub(crate) fn put(&self, gop: Option<GopKey>, standing: Standing) {
        let mut all = self.lock();
        all.push_back((gop, standing));
        let surplus = if all.len() > self.most {
            all.pop_front()
        } else {
            None
        };
        // Closing it takes a while.
        drop(all);
        drop(surplus);
    }
}
