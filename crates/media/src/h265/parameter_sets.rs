//! The parameter sets that are in force at one place of a stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::bits::HeaderError;
use super::nal::{NalHeader, NalType};
use super::pps::Pps;
use super::sps::Sps;

/// The parameter sets in force, parsed where they could be, and their NAL units as they are.
#[derive(Clone, Debug, Default)]
pub struct ParameterSets {
    /// In the order in which a decoder must be given them.
    nals: Vec<Stored>,
    sps: BTreeMap<u8, Arc<Sps>>,
    pps: BTreeMap<u8, Arc<Pps>>,
}

#[derive(Clone, Debug)]
struct Stored {
    nal_type: NalType,
    id: u8,
    nal: Bytes,
    readable: bool,
    /// The set that it hangs on has changed since: libavcodec has forgotten it, so that the same
    /// content once more is news.
    stale: bool,
}

impl ParameterSets {
    /// Takes a VPS, SPS or PPS NAL unit (with its header). Other NAL units, and sets of other
    /// layers, are ignored. Returns whether a decoder has to be told.
    ///
    /// At most two NAL units are kept for each kind and identifier, so that the memory is bounded
    /// by the size of 192 of them.
    ///
    /// # Errors
    /// A set that cannot be read. Where its identifier can, the set of before is out of force,
    /// since slices may mean the new one: those that name it are told that it is not there. A
    /// decoder that may know better is given both.
    pub fn push(&mut self, nal: &Bytes) -> Result<bool, HeaderError> {
        let Some(header) = NalHeader::parse(nal) else {
            return Ok(false);
        };
        if header.layer_id != 0 || !header.nal_type.is_parameter_set() {
            return Ok(false);
        }
        let nal_type = header.nal_type;
        if self.is_in_force(nal_type, nal) {
            return Ok(false);
        }
        let read = match nal_type {
            NalType::SPS => Sps::parse(nal).map(|sps| {
                let (id, known) = (sps.id, self.holds(NalType::SPS, sps.id));
                self.sps.insert(id, Arc::new(sps));
                if known {
                    // A PPS is read against its SPS: with another SPS it has to be sent again.
                    self.forget_pps_of(id);
                }
                id
            }),
            NalType::PPS => Pps::parse(nal).map(|pps| {
                let id = pps.id;
                self.pps.insert(id, Arc::new(pps));
                id
            }),
            _ => read_vps_id(nal),
        };
        match read {
            Ok(id) => {
                self.store(nal_type, id, nal);
                Ok(true)
            }
            Err(error) => {
                self.store_unreadable(nal_type, nal);
                Err(error)
            }
        }
    }

    /// 7.4.2.4.4: equal content repeated changes nothing.
    fn is_in_force(&self, nal_type: NalType, nal: &Bytes) -> bool {
        let same = |s: &&Stored| s.nal_type == nal_type && s.nal == *nal;
        let Some(found) = self.nals.iter().rev().find(same) else {
            return false;
        };
        let mut of_this_id = self.nals.iter().rev();
        let last = of_this_id.find(|s| (s.nal_type, s.id) == (nal_type, found.id));
        last.is_some_and(|s| s.nal == *nal && !s.stale)
    }

    fn holds(&self, nal_type: NalType, id: u8) -> bool {
        let mut stored = self.nals.iter();
        stored.any(|s| (s.nal_type, s.id) == (nal_type, id))
    }

    fn forget_pps_of(&mut self, sps_id: u8) {
        let of_it = self.pps.values().filter(|p| p.sps_id == sps_id);
        let stale: Vec<u8> = of_it.map(|p| p.id).collect();
        for pps in stale {
            self.pps.remove(&pps);
            self.nals
                .retain(|s| (s.nal_type, s.id) != (NalType::PPS, pps));
        }
    }

    /// Keeps a set that was read, where a decoder can take it: behind what it hangs on, before
    /// what hangs on it.
    fn store(&mut self, nal_type: NalType, id: u8, nal: &Bytes) {
        let known = self.holds(nal_type, id);
        self.nals.retain(|s| (s.nal_type, s.id) != (nal_type, id));
        let of_it = |s: &Stored| match nal_type {
            NalType::VPS => s.nal_type != NalType::VPS,
            NalType::SPS if !known => {
                let pps = self.pps.get(&s.id).filter(|_| s.nal_type == NalType::PPS);
                pps.is_some_and(|p| p.sps_id == id)
            }
            _ => false,
        };
        let place = self.nals.iter().position(of_it);
        let stored = Stored {
            nal_type,
            id,
            nal: nal.clone(),
            readable: true,
            stale: false,
        };
        self.nals.insert(place.unwrap_or(self.nals.len()), stored);
        if nal_type == NalType::VPS && known {
            // sps_video_parameter_set_id stands in the same bits as vps_video_parameter_set_id.
            let of_vps = |s: &Stored| {
                s.nal_type == NalType::SPS && s.nal.get(2).is_some_and(|b| b >> 4 == id)
            };
            let sps: Vec<u8> = self
                .nals
                .iter()
                .filter(|s| of_vps(s))
                .map(|s| s.id)
                .collect();
            for id in sps {
                self.mark_stale(id);
            }
        }
    }

    /// What was said of an SPS, and the PPSs that name it, has to be said again.
    fn mark_stale(&mut self, sps_id: u8) {
        for s in &mut self.nals {
            let pps = self.pps.get(&s.id).filter(|_| s.nal_type == NalType::PPS);
            s.stale |= (s.nal_type, s.id) == (NalType::SPS, sps_id)
                || pps.is_some_and(|p| p.sps_id == sps_id);
        }
    }

    fn store_unreadable(&mut self, nal_type: NalType, nal: &Bytes) {
        let id = match nal_type {
            NalType::SPS => Sps::read_id(nal),
            NalType::PPS => Pps::read_id(nal),
            // What is wrong with a VPS is wrong for a decoder too.
            _ => return,
        };
        let Ok(id) = id else { return };
        if nal_type == NalType::SPS {
            self.mark_stale(id);
            self.sps.remove(&id);
        } else {
            self.pps.remove(&id);
        }
        // Behind the one of before, which stays in force for a decoder that refuses this one.
        self.nals
            .retain(|s| s.readable || (s.nal_type, s.id) != (nal_type, id));
        self.nals.push(Stored {
            nal_type,
            id,
            nal: nal.clone(),
            readable: false,
            stale: false,
        });
    }

    /// Takes several NAL units, dropping those that cannot be read.
    pub fn from_nals<'a>(nals: impl IntoIterator<Item = &'a Bytes>) -> Self {
        let mut sets = Self::default();
        for nal in nals {
            // A set that cannot be read is missed where a slice names it.
            sets.push(nal).ok();
        }
        sets
    }

    /// The PPS of that identifier and its SPS.
    pub fn lookup(&self, pps_id: u8) -> Result<(&Arc<Pps>, &Arc<Sps>), HeaderError> {
        let pps = self
            .pps
            .get(&pps_id)
            .ok_or(HeaderError::MissingParameterSet {
                kind: "PPS",
                id: pps_id,
            })?;
        let sps = self
            .sps
            .get(&pps.sps_id)
            .ok_or(HeaderError::MissingParameterSet {
                kind: "SPS",
                id: pps.sps_id,
            })?;
        Ok((pps, sps))
    }

    /// Any SPS: the one of the lowest identifier.
    pub fn first_sps(&self) -> Option<&Arc<Sps>> {
        self.sps.values().next()
    }

    /// All SPS, by identifier.
    pub fn all_sps(&self) -> impl Iterator<Item = &Arc<Sps>> {
        self.sps.values()
    }

    /// All PPS, by identifier.
    pub fn all_pps(&self) -> impl Iterator<Item = &Arc<Pps>> {
        self.pps.values()
    }

    /// The NAL units, in the order in which a decoder must be given them.
    pub fn nals(&self) -> impl Iterator<Item = &Bytes> {
        self.nals.iter().map(|s| &s.nal)
    }

    /// Whether there are no sets at all.
    pub fn is_empty(&self) -> bool {
        self.nals.is_empty()
    }
}

/// `vps_video_parameter_set_id`, of a VPS that a decoder does not refuse at once (7.3.2.1):
/// `vps_reserved_0xffff_16bits` is what it says.
fn read_vps_id(nal: &[u8]) -> Result<u8, HeaderError> {
    match nal {
        [_, _, first, _, 0xff, 0xff, ..] => Ok(first >> 4),
        [_, _, _, _, _, _, ..] => Err(HeaderError::Invalid {
            element: "vps_reserved_0xffff_16bits",
            what: "not 0xffff",
        }),
        _ => Err(HeaderError::EndOfData {
            element: "vps_reserved_0xffff_16bits",
        }),
    }
}
