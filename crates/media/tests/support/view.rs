//! The rules of the reference graph written out a second time, as plainly as can be, over a stream
//! of which everything is known.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use media::closure::Depth;
use media::graph::ReferenceGraph;
use media::h265::ParameterSets;
use media::index::Framing;

use super::d;
use super::stream::{Set, Stream, is_irap, is_non_reference, is_radl, is_rasl};

const LENGTHS: Framing = Framing::LengthPrefixed(4);

/// What is true of a unit, seen from a graph that begins at `View::first`.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    pub readable: bool,
    /// The IRAP it is associated with, readable or not.
    pub irap: Option<usize>,
    pub irap_before: Option<usize>,
    pub starts: bool,
    pub uncertain: bool,
    pub rps: BTreeSet<usize>,
    pub active: BTreeSet<usize>,
    pub active_missing: bool,
    pub left_out: bool,
    /// The pictures before it and before its IRAP, where a decoder needs them to tell long-term
    /// pictures from each other.
    pub previous: BTreeSet<usize>,
}

pub struct View<'s> {
    pub stream: &'s Stream,
    pub first: usize,
    pub truths: Vec<Truth>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    Exact,
    Fallback,
    NotDecodable,
    NeedsEarlierStart,
}

impl<'s> View<'s> {
    pub fn new(stream: &'s Stream, first: usize) -> Self {
        let mut truths = vec![Truth::default(); stream.aus.len()];
        let (mut irap, mut readable_irap) = (None, None);
        let (mut damaged, mut guessed) = (false, false);
        let mut sequence_from = first;
        let mut begins = false;
        let mut counts = BTreeSet::new();
        let mut before_irap = None;
        for (u, au) in stream.aus.iter().enumerate().skip(first) {
            let t = &mut truths[u];
            t.irap_before = irap;
            if is_irap(au.nal_type) {
                irap = Some(u);
            }
            t.irap = irap;
            if au.damaged {
                damaged = true;
                continue;
            }
            t.readable = true;
            if is_irap(au.nal_type) {
                t.starts = au.nal_type != 21 || au.eos_before || readable_irap.is_none() || damaged;
                guessed = damaged && au.nal_type == 21;
                damaged = false;
                readable_irap = Some(u);
                begins = t.starts;
                if t.starts {
                    sequence_from = u;
                }
            }
            t.uncertain = damaged || (guessed && is_rasl(au.nal_type));
            t.left_out = is_rasl(au.nal_type) && begins;
            let there = |r: &Option<usize>| r.filter(|&r| r >= sequence_from);
            t.rps = au.rps.iter().filter_map(there).collect();
            t.active = au.active.iter().filter_map(there).collect();
            let max = 1 << stream.log2_max_poc_lsb;
            counts.retain(|_| !t.starts);
            let by_lsb = au.names.iter().filter(|n| n.by_lsb);
            let plain = au.names.iter().filter(|n| !n.by_lsb);
            counts.extend(plain.map(|n| n.poc).chain([au.poc]));
            let lsb = |poc: i32| poc.rem_euclid(max);
            let several = |poc: i32| counts.iter().filter(|&&c| lsb(c) == lsb(poc)).count() > 1;
            let ambiguous = by_lsb.into_iter().any(|n| several(n.poc));
            t.active_missing = au.active.iter().any(|r| there(r).is_none());
            let is_rasl = is_rasl(au.nal_type);
            let mut previous = None;
            if ambiguous && !t.starts {
                let counts = |t: &Truth| !t.left_out || t.uncertain;
                previous = (first..u).rev().find(|&p| counts(&truths[p]));
            }
            if is_irap(au.nal_type) {
                before_irap = previous;
            } else {
                let of_irap = before_irap.filter(|_| is_rasl);
                truths[u].previous = previous.into_iter().chain(of_irap).collect();
            }
        }
        Self {
            stream,
            first,
            truths,
        }
    }

    pub fn edges(&self, unit: usize, depth: Depth) -> &BTreeSet<usize> {
        match depth {
            Depth::Rps => &self.truths[unit].rps,
            Depth::Active => &self.truths[unit].active,
        }
    }

    /// Everything that can be reached, by going on until nothing is new.
    pub fn reach(
        &self,
        from: impl IntoIterator<Item = usize>,
        depth: Depth,
        iraps: bool,
    ) -> BTreeSet<usize> {
        let mut all: BTreeSet<usize> = from.into_iter().collect();
        loop {
            let mut more = all.clone();
            for &u in &all {
                more.extend(self.edges(u, depth));
                more.extend(&self.truths[u].previous);
                if iraps {
                    let irap = self.truths[u].irap;
                    more.extend(irap);
                    if is_rasl(self.stream.aus[u].nal_type) {
                        more.extend(irap.and_then(|i| self.truths[i].irap_before));
                    }
                }
            }
            if more == all {
                return all;
            }
            all = more;
        }
    }

    pub fn standing(&self, unit: usize, depth: Depth) -> Standing {
        let earlier = if self.first == 0 {
            Standing::NotDecodable
        } else {
            Standing::NeedsEarlierStart
        };
        let (au, t) = (&self.stream.aus[unit], &self.truths[unit]);
        let Some(irap) = t.irap else { return earlier };
        let irap_type = self.stream.aus[irap].nal_type;
        let rasl = is_rasl(au.nal_type);
        if rasl {
            let first_of_graph = self.truths[irap].irap_before.is_none();
            match irap_type {
                21 if first_of_graph => return earlier,
                21 if t.readable && !t.uncertain && t.left_out => return Standing::NotDecodable,
                21 => {}
                _ => return Standing::NotDecodable,
            }
        }
        if !t.readable {
            return Standing::Fallback;
        }
        if !au.output {
            return Standing::NotDecodable;
        }
        let all = self.reach([unit], depth, false);
        if all
            .iter()
            .any(|&u| self.truths[u].uncertain || !self.truths[u].readable)
        {
            return Standing::Fallback;
        }
        if all
            .iter()
            .any(|&u| self.truths[u].active_missing || self.truths[u].left_out)
        {
            return if irap_type != 21 && !rasl {
                Standing::NotDecodable
            } else {
                earlier
            };
        }
        // Its POC would come out wrong, and what could be put in is not all known well enough.
        let alone = self.reach([unit], depth, true);
        let vague = |u: usize| {
            let all = self.reach([u], depth, false);
            let unknown = |u: &usize| self.truths[*u].uncertain || !self.truths[*u].readable;
            all.iter().any(unknown)
        };
        let start = match rasl {
            true => self.truths[irap].irap_before.unwrap_or(irap),
            false => irap,
        };
        if (start..=unit).any(vague) && !self.poc_is_right(alone.iter().copied()) {
            return Standing::Fallback;
        }
        Standing::Exact
    }

    /// 8.3.1 over some units alone, by a decoder that starts with them. Whether every POC differs
    /// from the true one by the same number.
    pub fn poc_is_right(&self, units: impl IntoIterator<Item = usize>) -> bool {
        let max = 1i64 << self.stream.log2_max_poc_lsb;
        let mut prev: Option<i64> = None;
        let mut shift = None;
        units.into_iter().all(|u| {
            let au = &self.stream.aus[u];
            let lsb = i64::from(au.poc_lsb);
            let poc = match prev {
                None => lsb,
                Some(_) if is_irap(au.nal_type) && au.nal_type != 21 => lsb,
                Some(prev) => {
                    let (prev_lsb, prev_msb) = (prev.rem_euclid(max), prev - prev.rem_euclid(max));
                    let msb = if lsb < prev_lsb && prev_lsb - lsb >= max / 2 {
                        prev_msb + max
                    } else if lsb > prev_lsb && lsb - prev_lsb > max / 2 {
                        prev_msb - max
                    } else {
                        prev_msb
                    };
                    msb + lsb
                }
            };
            let n = au.nal_type;
            if prev.is_none()
                || (au.temporal_id == 0 && !is_rasl(n) && !is_radl(n) && !is_non_reference(n))
            {
                prev = Some(poc);
            }
            let this = i64::from(au.poc) - poc;
            *shift.get_or_insert(this) == this
        })
    }
}

/// The parameter sets that libavcodec has: what a set hangs on must be there, and when that
/// changes the set is gone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DecoderSets {
    pub vps: Option<Set>,
    pub sps: Option<Set>,
    pub pps: BTreeMap<u8, Set>,
}

impl DecoderSets {
    pub fn take(&mut self, stream: &Stream, nal: &[u8]) {
        let known = stream.sets.iter().find(|(_, bytes)| bytes[..] == *nal);
        let set = *known.expect("a set of the stream").0;
        match set {
            Set::Vps(_) => {
                if self.vps != Some(set) {
                    *self = Self::default();
                }
                self.vps = Some(set);
            }
            Set::Sps(_) => {
                assert!(self.vps.is_some(), "an SPS before its VPS");
                if self.sps != Some(set) {
                    self.pps.clear();
                }
                self.sps = Some(set);
            }
            Set::Pps(place) => {
                assert!(self.sps.is_some(), "a PPS before its SPS");
                self.pps.insert(stream.pps[place].id, set);
            }
        }
    }
}

pub fn graph_from(stream: &Stream, first: usize, eos_first: bool) -> ReferenceGraph {
    let before = stream.aus[..first].iter().flat_map(|au| &au.sets);
    let before: Vec<&Bytes> = before.map(|s| &stream.sets[s]).collect();
    let sets = ParameterSets::from_nals(before);
    let mut graph = ReferenceGraph::new(d(first), sets, first == 0);
    for sample in &stream.samples(eos_first)[first..] {
        graph.push(sample, LENGTHS, &[]);
    }
    graph
}
