//! What the reference graph reads of each sample, without the rest of the sample.
//!
//! [`ReferenceGraph`] looks at little of a sample: its parameter sets, the marks for the end of a
//! sequence, and each slice segment header from its first bit to the reference picture lists. These
//! are the sample's *heads*, some ten bytes. They hold the picture's order count and what it refers
//! to, in the stream's own words.
//!
//! # Why a graph of heads is the graph
//!
//! A header is read bit by bit, from the front, and what it says follows from the bits that were
//! looked at. So where a header can be read from a prefix of its slice segment, the whole says the
//! same. Where the prefix is too short (other parameter sets are in force than when it was cut),
//! the unit is [`Unreadable`](crate::graph::UnitContent::Unreadable), and who plans by heads reads
//! everything from the IRAP on instead: see [`Heads::knows`].
//!
//! Whether heads are those of a sample is seen from the sample alone ([`Heads::agree`]): nothing is
//! decoded from bytes whose heads were not looked at.

use std::collections::HashMap;

use bytes::Bytes;

use crate::graph::{ReferenceGraph, UnitContent};
use crate::h265::nal::{self, NalHeader, NalType};
use crate::h265::{ParameterSets, SliceHeader};
use crate::index::{Framing, Sample, VideoIndex};
use crate::order::DecodeIndex;
use crate::packed::{Packed, Packer};
use crate::varint::{self, Fields};

/// Bytes that are kept of a slice segment whose header cannot be read.
const UNREADABLE: usize = 16;

/// The heads of all samples of a video.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heads {
    /// Parameter sets that samples hold, each once.
    pub(crate) sets: Vec<Bytes>,
    /// The samples' heads, one behind the other.
    pub(crate) entries: Bytes,
    /// Where each sample's end.
    pub(crate) ends: Packed,
}

/// One of a sample's heads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Head<'a> {
    /// A slice segment NAL unit, cut behind its header.
    Slice(&'a [u8]),
    /// A parameter set.
    Set(&'a [u8]),
    /// The end of a sequence or of the bitstream.
    End(NalType),
    /// Here the sample's framing is broken.
    Broken,
}

const SLICE: u64 = 0;
const SET: u64 = 1;
const END: u64 = 2;
const BROKEN: u64 = 3;

impl Heads {
    /// Number of samples.
    pub fn sample_count(&self) -> u32 {
        self.ends.len() as u32
    }

    /// Bytes that they take in memory, about.
    pub fn heap_bytes(&self) -> usize {
        let sets = self.sets.iter().map(|s| s.len() + size_of::<Bytes>());
        self.entries.len() + self.ends.heap_bytes() + sets.sum::<usize>()
    }

    /// A sample's heads, as they are kept.
    fn entries_of(&self, sample: DecodeIndex) -> Option<&[u8]> {
        let place = sample.as_usize();
        let start = match place.checked_sub(1) {
            Some(before) => usize::try_from(self.ends.get(before)?).ok()?,
            None => 0,
        };
        let end = usize::try_from(self.ends.get(place)?).ok()?;
        self.entries.get(start..end)
    }

    fn of(&self, sample: DecodeIndex) -> Option<Entries<'_>> {
        let fields = Fields(self.entries_of(sample)?);
        Some(Entries {
            fields,
            sets: &self.sets,
        })
    }

    /// Whether all heads can be taken apart. `false` for what no [`HeadsBuilder`] has made.
    pub(crate) fn are_sound(&self) -> bool {
        (0..self.sample_count()).all(|sample| {
            let mut entries = self.of(DecodeIndex(sample));
            entries.as_mut().is_some_and(|entries| {
                entries.by_ref().for_each(drop);
                entries.fields.0.is_empty()
            })
        })
    }

    /// The reference graph of the samples from one up to another (not with it).
    pub fn graph(&self, index: &VideoIndex, first: DecodeIndex, end: u32) -> ReferenceGraph {
        const FRAMING: Framing = Framing::LengthPrefixed(4);
        let samples = (first.0..end).map(DecodeIndex);
        let cut = samples.map_while(|i| Some((index.sample(i)?, self.cut_sample(i)?, FRAMING)));
        ReferenceGraph::of_framed(index, cut)
    }

    /// The sample as far as its heads tell.
    fn cut_sample(&self, sample: DecodeIndex) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(64);
        let put = |out: &mut Vec<u8>, unit: &[u8]| {
            out.extend_from_slice(&(unit.len() as u32).to_be_bytes());
            out.extend_from_slice(unit);
        };
        for head in self.of(sample)? {
            match head {
                Head::Slice(unit) | Head::Set(unit) => put(&mut out, unit),
                Head::End(nal_type) => put(&mut out, &[nal_type.0 << 1, 1]),
                // A length that reaches beyond the sample.
                Head::Broken => out.extend_from_slice(&[0xff; 4]),
            }
        }
        Some(out)
    }

    /// Whether the graph, which was made of these heads, is sure up to and with a sample: all of
    /// its units can be read.
    pub fn knows(graph: &ReferenceGraph, upto: DecodeIndex) -> bool {
        let readable = |c: &UnitContent| !matches!(c, UnitContent::Unreadable(_));
        let count = upto.0.saturating_sub(graph.first().0) as usize;
        let units = graph.units();
        count < units.len() && units.iter().take(count + 1).all(|u| readable(&u.content))
    }

    /// Whether these are the heads of the sample with these bytes.
    pub fn agree(&self, index: &VideoIndex, sample: &Sample, data: &[u8]) -> bool {
        let Some(mut heads) = self.of(sample.index) else {
            return false;
        };
        for unit in nal::units(data, index.framing(sample)) {
            let Ok(unit) = unit else {
                return heads.next() == Some(Head::Broken) && heads.next().is_none();
            };
            let agrees = match kind(unit) {
                None => continue,
                Some(Kind::Set) => heads.next() == Some(Head::Set(unit)),
                Some(Kind::End(nal_type)) => heads.next() == Some(Head::End(nal_type)),
                Some(Kind::Slice(_)) => match heads.next() {
                    Some(Head::Slice(cut)) => unit.starts_with(cut),
                    _ => false,
                },
            };
            if !agrees {
                return false;
            }
        }
        heads.next().is_none()
    }
}

/// What a NAL unit is to the graph; `None`: nothing.
enum Kind {
    Slice(NalType),
    Set,
    End(NalType),
}

fn kind(unit: &[u8]) -> Option<Kind> {
    let header = NalHeader::parse(unit).filter(|h| h.layer_id == 0)?;
    match header.nal_type {
        t if t.is_parameter_set() => Some(Kind::Set),
        t if t.is_slice() => Some(Kind::Slice(t)),
        t @ (NalType::EOS | NalType::EOB) => Some(Kind::End(t)),
        _ => None,
    }
}

/// A sample's heads, one by one. Ends early where they cannot be taken apart.
struct Entries<'a> {
    fields: Fields<'a>,
    sets: &'a [Bytes],
}

impl<'a> Iterator for Entries<'a> {
    type Item = Head<'a>;

    fn next(&mut self) -> Option<Head<'a>> {
        let before = self.fields;
        let head = self.read();
        if head.is_none() {
            // Seen by what is left.
            self.fields = before;
        }
        head
    }
}

impl<'a> Entries<'a> {
    fn read(&mut self) -> Option<Head<'a>> {
        let tag = self.fields.varint()?;
        let value = tag >> 2;
        match tag & 3 {
            SLICE => {
                let cut = self.fields.bytes(usize::try_from(value).ok()?)?;
                matches!(kind(cut), Some(Kind::Slice(_))).then_some(Head::Slice(cut))
            }
            SET => {
                let set = self.sets.get(usize::try_from(value).ok()?)?;
                matches!(kind(set), Some(Kind::Set)).then_some(Head::Set(set))
            }
            END => {
                let nal_type = NalType(u8::try_from(value).ok()?);
                let ends = nal_type == NalType::EOS || nal_type == NalType::EOB;
                ends.then_some(Head::End(nal_type))
            }
            _ => (value == 0 && self.fields.0.is_empty()).then_some(Head::Broken),
        }
    }
}

/// Cuts the heads off samples, from the first of a video to the last.
#[derive(Debug)]
pub struct HeadsBuilder {
    in_force: ParameterSets,
    description: Option<u16>,
    sets: Vec<Bytes>,
    known: HashMap<Bytes, u64>,
    entries: Vec<u8>,
    ends: Packer,
}

impl HeadsBuilder {
    /// For the samples of an index.
    pub fn new(index: &VideoIndex) -> Self {
        let before = index.parameter_sets_before(DecodeIndex(0));
        Self {
            in_force: ParameterSets::from_nals(&before),
            description: index.sample(DecodeIndex(0)).map(|s| s.description),
            sets: Vec::new(),
            known: HashMap::new(),
            entries: Vec::new(),
            ends: Packer::default(),
        }
    }

    /// Takes the next sample in decode order.
    pub fn push(&mut self, index: &VideoIndex, sample: &Sample, data: &[u8]) {
        if self.description.replace(sample.description) != Some(sample.description) {
            let descriptions = index.descriptions();
            let own = descriptions.get(usize::from(sample.description));
            for set in own.into_iter().flat_map(|d| &d.parameter_sets) {
                // A set that cannot be read is missed where a slice names it.
                self.in_force.push(set).ok();
            }
        }
        for unit in nal::units(data, index.framing(sample)) {
            let Ok(unit) = unit else {
                varint::put(&mut self.entries, BROKEN);
                break;
            };
            match kind(unit) {
                None => {}
                Some(Kind::Set) => {
                    let set = Bytes::copy_from_slice(unit);
                    self.in_force.push(&set).ok();
                    let id = self.id_of(set);
                    varint::put(&mut self.entries, id << 2 | SET);
                }
                Some(Kind::End(nal_type)) => {
                    varint::put(&mut self.entries, u64::from(nal_type.0) << 2 | END);
                }
                Some(Kind::Slice(nal_type)) => {
                    let measured = SliceHeader::measure(unit, nal_type, &self.in_force);
                    let length = measured.map_or(UNREADABLE, |(_, length)| length);
                    let cut = unit.get(..length).unwrap_or(unit);
                    varint::put(&mut self.entries, (cut.len() as u64) << 2 | SLICE);
                    self.entries.extend_from_slice(cut);
                }
            }
        }
        self.ends.push(self.entries.len() as i64);
    }

    fn id_of(&mut self, set: Bytes) -> u64 {
        if let Some(&id) = self.known.get(&set) {
            return id;
        }
        let id = self.sets.len() as u64;
        self.sets.push(set.clone());
        self.known.insert(set, id);
        id
    }

    /// All heads.
    pub fn finish(self) -> Heads {
        Heads {
            sets: self.sets,
            entries: self.entries.into(),
            ends: self.ends.finish(),
        }
    }
}
