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
}

/// More sets than 16 VPS, 16 SPS and 64 PPS cannot be in force at once (7.4.3).
const MOST_SETS: usize = 96;

impl ParameterSets {
    /// Takes a VPS, SPS or PPS NAL unit (with its header). Other NAL units, and sets of other
    /// layers, are ignored. Returns whether something changed.
    ///
    /// # Errors
    /// A set that cannot be read. It replaces nothing; slices that name a set that is not there
    /// are told so.
    pub fn push(&mut self, nal: &Bytes) -> Result<bool, HeaderError> {
        let Some(header) = NalHeader::parse(nal) else {
            return Ok(false);
        };
        if header.layer_id != 0 || !header.nal_type.is_parameter_set() {
            return Ok(false);
        }
        let nal_type = header.nal_type;
        // 7.4.2.4.4: equal content repeated changes nothing.
        if self
            .nals
            .iter()
            .any(|s| s.nal_type == nal_type && s.nal == *nal)
        {
            return Ok(false);
        }
        let id = match nal_type {
            NalType::SPS => {
                let sps = Sps::parse(nal)?;
                let id = sps.id;
                self.sps.insert(id, Arc::new(sps));
                // A PPS is read against its SPS: with another SPS it has to be sent again.
                let stale: Vec<u8> = self
                    .pps
                    .values()
                    .filter(|p| p.sps_id == id)
                    .map(|p| p.id)
                    .collect();
                for pps in stale {
                    self.pps.remove(&pps);
                    self.nals
                        .retain(|s| (s.nal_type, s.id) != (NalType::PPS, pps));
                }
                id
            }
            NalType::PPS => {
                let pps = Pps::parse(nal)?;
                let id = pps.id;
                self.pps.insert(id, Arc::new(pps));
                id
            }
            _ => nal.get(2).map_or(0, |b| b >> 4),
        };
        self.nals.retain(|s| (s.nal_type, s.id) != (nal_type, id));
        if self.nals.len() >= MOST_SETS {
            return Err(HeaderError::Invalid {
                element: "parameter sets",
                what: "too many",
            });
        }
        self.nals.push(Stored {
            nal_type,
            id,
            nal: nal.clone(),
        });
        Ok(true)
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
