//! Streams of any reference structure: an encoder without pictures, which keeps a decoded picture
//! buffer, chooses what each picture refers to within the rules of clause 8.3.2, and writes the
//! headers.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use media::h265::rps::{RpsEntry, ShortTermRps};
use media::h265::slice::SliceType;

use super::bits::nal;
use super::sets::{PpsSpec, RpsCoding, SpsSpec, vps};
use super::slice::{Lt, ShortTerm, SliceSpec};
use super::tape::Tape;

pub const EOS: u8 = 36;

pub fn is_irap(nal_type: u8) -> bool {
    (16..=23).contains(&nal_type)
}
pub fn is_rasl(nal_type: u8) -> bool {
    matches!(nal_type, 8 | 9)
}
pub fn is_radl(nal_type: u8) -> bool {
    matches!(nal_type, 6 | 7)
}
fn is_leading(nal_type: u8) -> bool {
    is_rasl(nal_type) || is_radl(nal_type)
}
pub fn is_non_reference(nal_type: u8) -> bool {
    nal_type < 16 && nal_type.is_multiple_of(2)
}

/// What is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub units: usize,
    /// Some units' headers are spoiled.
    pub damage: bool,
    /// Some pictures refer to what is not in the stream.
    pub missing: bool,
}

/// A parameter set by what it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Set {
    Vps(u8),
    Sps(u8),
    /// Place in the table of PPSs.
    Pps(usize),
}

/// An access unit, with what is true of it.
#[derive(Clone, Debug)]
pub struct Au {
    pub nal_type: u8,
    pub temporal_id: u8,
    /// POC in its coded video sequence.
    pub poc: i32,
    pub poc_lsb: u32,
    /// Which coded video sequence.
    pub sequence: usize,
    /// An end-of-sequence NAL unit stands before it.
    pub eos_before: bool,
    pub output: bool,
    pub damaged: bool,
    /// Units that the RPS marks as used; `None` where it is not in the stream.
    pub rps: Vec<Option<usize>>,
    /// Units that the active lists name.
    pub active: Vec<Option<usize>>,
    /// All that the RPS names, used or not, in the order of the syntax.
    pub names: Vec<Name>,
    pub sets: Vec<Set>,
    /// All NAL units, without end-of-sequence marks.
    pub nals: Vec<Vec<u8>>,
}

/// An entry of an RPS.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    pub unit: Option<usize>,
    /// POC in the coded video sequence of the picture.
    pub poc: i32,
    /// It is told by the least significant bits of its POC alone.
    pub by_lsb: bool,
}

#[derive(Clone, Debug)]
pub struct Stream {
    pub aus: Vec<Au>,
    pub log2_max_poc_lsb: u8,
    /// The parameter sets by their bytes.
    pub sets: BTreeMap<Set, Bytes>,
    pub pps: Vec<PpsSpec>,
}

#[derive(Clone, Debug)]
struct Kept {
    unit: Option<usize>,
    poc: i32,
    temporal_id: u8,
    nal_type: u8,
    long: bool,
}

#[derive(Clone, Debug)]
struct Named {
    picture: Kept,
    used: bool,
    /// Long-term: `DeltaPocMsbCycleLt`, where it is coded.
    cycle: Option<u32>,
    in_sps: Option<u32>,
}

/// A picture whose headers are not written yet.
struct Draft {
    au: Au,
    pps: usize,
    rps: ShortTermRps,
    long: Vec<Lt>,
    slices: Vec<SliceSpec>,
}

struct Encoder<'t> {
    t: &'t mut Tape,
    wanted: Wanted,
    log2: u8,
    long_in_sps: Vec<(u32, bool)>,
    dpb: Vec<Kept>,
    drafts: Vec<Draft>,
    sequence: usize,
    irap: Option<usize>,
    prev_tid0: i32,
    /// `setOfPrevPocVals` (7.4.7.1): what the lowest bits of a POC must tell apart.
    previous_pocs: BTreeSet<i32>,
    top: i32,
    /// Sets in force.
    vps: u8,
    sps: u8,
    pps: BTreeMap<u8, usize>,
    table: Vec<PpsSpec>,
    due: Vec<Set>,
}

/// Makes a stream.
pub fn make(t: &mut Tape, wanted: Wanted) -> Stream {
    let log2 = *t.pick(&[4u8, 4, 5, 8, 16]);
    let long_in_sps = (0..t.below(4))
        .map(|_| (t.below(1 << log2.min(5)), t.flag()))
        .collect();
    let mut e = Encoder {
        t,
        wanted,
        log2,
        long_in_sps,
        dpb: Vec::new(),
        drafts: Vec::new(),
        sequence: 0,
        irap: None,
        prev_tid0: 0,
        previous_pocs: BTreeSet::new(),
        top: 0,
        vps: 0,
        sps: 0,
        pps: BTreeMap::new(),
        table: Vec::new(),
        due: Vec::new(),
    };
    e.run();
    e.write()
}

impl Encoder<'_> {
    fn max(&self) -> i32 {
        1 << self.log2
    }

    fn half(&self) -> i32 {
        self.max() / 2
    }

    fn run(&mut self) {
        self.due = vec![Set::Vps(0), Set::Sps(0)];
        self.new_pps(0);
        if self.t.one_in(8) {
            // Cut out of a longer stream: pictures without an IRAP.
            self.new_sequence(20);
            for _ in 0..1 + self.t.below(3) {
                let poc = self.top + 1;
                self.picture(1, 0, poc, false);
            }
        }
        self.irap_of_new_sequence();
        while self.drafts.len() < self.wanted.units {
            match self.t.below(12) {
                0 => self.irap_of_new_sequence(),
                1 | 2 => self.cra(),
                _ => self.mini_gop(),
            }
        }
    }

    fn new_pps(&mut self, id: u8) {
        let t = &mut *self.t;
        let spec = PpsSpec {
            id,
            default_l0: 1 + t.below(3),
            default_l1: 1 + t.below(3),
            output_flag_present: t.flag(),
            extra_bits: t.below(3) as u8,
            dependent_slices: t.flag(),
            lists_modification: t.flag(),
            wavefront: t.flag(),
            init_qp: self.table.len() as i32 % 20,
            ..PpsSpec::default()
        };
        self.table.push(spec);
        let place = self.table.len() - 1;
        self.pps.insert(id, place);
        self.due.push(Set::Pps(place));
    }

    /// Says everything in force again.
    fn repeat_sets(&mut self) {
        self.due = vec![Set::Vps(self.vps), Set::Sps(self.sps)];
        self.due.extend(self.pps.values().map(|&p| Set::Pps(p)));
    }

    fn new_sequence(&mut self, nal_type: u8) -> i32 {
        self.sequence += 1;
        self.dpb.clear();
        let idr = matches!(nal_type, 19 | 20);
        let poc = if idr {
            0
        } else {
            self.t.range(0, self.max() - 1)
        };
        if !idr {
            // What lay before, where this was cut out of something longer.
            for k in 0..self.t.below(4) as i32 {
                self.dpb.push(Kept {
                    unit: None,
                    poc: poc - self.half().min(8) - k,
                    temporal_id: 0,
                    nal_type: 1,
                    long: false,
                });
            }
        }
        self.prev_tid0 = poc;
        self.previous_pocs.clear();
        self.top = poc;
        poc
    }

    fn irap_of_new_sequence(&mut self) {
        let nal_type = *self.t.pick(&[19, 20, 21, 16, 17, 18]);
        let poc = self.new_sequence(nal_type);
        // Behind pictures that no IRAP comes before, a CRA begins a sequence by itself.
        let must_end = nal_type == 21 && self.irap.is_some();
        let eos = !self.drafts.is_empty() && (must_end || self.t.one_in(4));
        if !self.drafts.is_empty() {
            match self.t.below(6) {
                0 => {
                    self.vps = (self.vps + 1) % 4;
                    self.repeat_sets();
                }
                1 => {
                    self.sps = (self.sps + 1) % 4;
                    self.repeat_sets();
                }
                2 => self.repeat_sets(),
                _ => {}
            }
        }
        self.picture(nal_type, 0, poc, eos);
        let most = self.half().min(8) - 1;
        let low = poc - self.t.range(1, most);
        self.leading(nal_type, poc, low);
    }

    fn cra(&mut self) {
        let below = self.top;
        let room = self.half() - (self.top - self.prev_tid0);
        let poc = self.top + self.t.range(1, room.min(6));
        if self.t.one_in(4) {
            self.repeat_sets();
        }
        self.picture(21, 0, poc, false);
        self.leading(21, poc, below + 1);
    }

    /// Leading pictures of an IRAP, from `low` on.
    fn leading(&mut self, irap: u8, poc: i32, low: i32) {
        let kinds: &[u8] = match irap {
            16 | 21 => &[8, 9, 6, 7, 9],
            17 | 19 => &[6, 7],
            _ => return,
        };
        for poc in self.some_of(low..poc) {
            let kind = *self.t.pick(kinds);
            let temporal_id = self.t.below(3) as u8;
            self.picture(kind, temporal_id, poc, false);
        }
    }

    /// Some numbers, in any order.
    fn some_of(&mut self, all: std::ops::Range<i32>) -> Vec<i32> {
        let mut rest: Vec<i32> = all.collect();
        let count = self.t.below(rest.len().min(6) as u32 + 1);
        (0..count)
            .map(|_| rest.remove(self.t.below(rest.len() as u32) as usize))
            .collect()
    }

    fn mini_gop(&mut self) {
        let low = self.top;
        let room = self.half() - (low - self.prev_tid0);
        let anchor = low + self.t.range(1, room.min(8));
        // Without a next tid0 picture the POC would soon be lost.
        let free = anchor - self.prev_tid0 < self.half() && self.t.one_in(4);
        let (nal_type, temporal_id) = match self.t.below(3) {
            _ if !free => (1, 0),
            0 => (0, 0),
            1 => (3, 1),
            _ => (5, 2),
        };
        self.picture(nal_type, temporal_id, anchor, false);
        for poc in self.some_of(low + 1..anchor) {
            let temporal_id = self.t.below(4) as u8;
            let kinds: &[u8] = if temporal_id == 0 {
                &[0, 1]
            } else {
                &[0, 1, 2, 3, 4, 5]
            };
            let nal_type = *self.t.pick(kinds);
            self.picture(nal_type, temporal_id, poc, false);
        }
    }

    /// Whether the rules let a picture refer to one of the DPB.
    fn may_use(&self, nal_type: u8, temporal_id: u8, from: &Kept) -> bool {
        let own_irap = from.unit.is_some() && from.unit == self.irap;
        let of_this_irap = from.unit > self.irap && from.unit.is_some();
        let layer = from.temporal_id < temporal_id
            || (from.temporal_id == temporal_id && !is_non_reference(from.nal_type));
        layer
            && match nal_type {
                n if is_irap(n) => false,
                n if is_radl(n) => own_irap || (of_this_irap && is_radl(from.nal_type)),
                n if is_rasl(n) => !is_radl(from.nal_type),
                _ => self.may_keep(nal_type, from),
            }
    }

    /// A trailing picture lets go of everything before its IRAP, and of leading pictures.
    fn may_keep(&self, nal_type: u8, from: &Kept) -> bool {
        let trailing = !is_irap(nal_type) && !is_leading(nal_type);
        !trailing
            || self.irap.is_none()
            || (from.unit >= self.irap && from.unit.is_some() && !is_leading(from.nal_type))
    }

    fn name(&mut self, nal_type: u8, temporal_id: u8, poc: i32) -> Vec<Named> {
        let dpb = self.dpb.clone();
        let mask = self.max() - 1;
        let mut named: Vec<Named> = Vec::new();
        for kept in &dpb {
            if kept.poc == poc || named.len() >= 8 || (dpb.len() > 5 && self.t.one_in(4)) {
                continue;
            }
            let stray = self.wanted.missing
                && kept.unit.is_none()
                && !is_irap(nal_type)
                && self.t.one_in(3);
            if !self.may_keep(nal_type, kept) && !stray {
                continue;
            }
            let fate = self.t.below(8);
            if fate == 7 {
                continue;
            }
            let mut picture = kept.clone();
            let used = fate < 5 && (stray || self.may_use(nal_type, temporal_id, kept));
            picture.long |= self.t.one_in(7) || (kept.poc - poc).abs() > 30000;
            let (mut cycle, mut in_sps) = (None, None);
            if picture.long {
                let lsb = kept.poc & mask;
                let steps = ((poc & !mask) - (kept.poc & !mask)) / self.max();
                // Pictures that were kept for others only may still be there in a decoder that
                // left those out.
                let pocs = dpb.iter().map(|k| k.poc);
                let all: BTreeSet<i32> = pocs.chain(self.previous_pocs.iter().copied()).collect();
                let ambiguous = all.iter().filter(|&p| p & mask == lsb).count() > 1;
                if ambiguous && steps < 0 {
                    continue;
                }
                if ambiguous || (steps >= 0 && self.t.flag()) {
                    cycle = Some(steps as u32);
                }
                // An entry of the SPS is named at most once.
                let free = |i: &usize| named.iter().all(|n| n.in_sps != Some(*i as u32));
                let mut entries = self.long_in_sps.iter();
                in_sps = entries
                    .position(|&e| e == (lsb as u32, used))
                    .filter(free)
                    .map(|i| i as u32);
            }
            named.push(Named {
                picture,
                used,
                cycle,
                in_sps,
            });
        }
        named
    }

    fn picture(&mut self, nal_type: u8, temporal_id: u8, poc: i32, eos_before: bool) {
        let unit = self.drafts.len();
        if unit > 0 && self.t.one_in(8) {
            let id = self.t.below(3) as u8;
            self.new_pps(id);
        }
        let in_force: Vec<usize> = self.pps.values().copied().collect();
        let pps = *self.t.pick(&in_force);
        let spec = self.table[pps].clone();
        if is_irap(nal_type) {
            self.irap = Some(unit);
        }
        let idr = matches!(nal_type, 19 | 20);
        let named = if idr {
            Vec::new()
        } else {
            self.name(nal_type, temporal_id, poc)
        };
        let mask = self.max() - 1;

        // The RPS as it is coded: nearest first; long-term ones of the SPS first, cycles rising.
        let mut short: Vec<&Named> = named.iter().filter(|n| !n.picture.long).collect();
        short.sort_by_key(|n| (n.picture.poc - poc).abs());
        let (before, after): (Vec<&Named>, Vec<&Named>) =
            short.into_iter().partition(|n| n.picture.poc < poc);
        let mut long: Vec<&Named> = named.iter().filter(|n| n.picture.long).collect();
        long.sort_by_key(|n| (n.in_sps.is_none(), n.cycle));
        let half = |of: &[&Named]| -> Vec<RpsEntry> {
            of.iter()
                .map(|n| RpsEntry {
                    delta_poc: n.picture.poc - poc,
                    used: n.used,
                })
                .collect()
        };
        let rps = ShortTermRps {
            negative: half(&before),
            positive: half(&after),
        };
        let mut coded_long = Vec::new();
        let mut cycle = 0;
        for (i, n) in long.iter().enumerate() {
            if i == 0 || n.in_sps.is_none() != long[i - 1].in_sps.is_none() {
                cycle = 0;
            }
            let coded_cycle = n.cycle.map(|c| c - cycle);
            cycle = n.cycle.unwrap_or(cycle);
            let lsb = (n.picture.poc & mask) as u32;
            let from = n.in_sps.ok_or((lsb, n.used));
            coded_long.push(Lt { from, coded_cycle });
        }

        let names = before.iter().chain(&after).chain(&long).map(|n| Name {
            unit: n.picture.unit,
            poc: n.picture.poc,
            by_lsb: n.picture.long && n.cycle.is_none(),
        });
        let names = names.collect();
        let used = |of: &[&Named]| -> Vec<Option<usize>> {
            of.iter()
                .filter(|n| n.used)
                .map(|n| n.picture.unit)
                .collect()
        };
        let (before, after, long) = (used(&before), used(&after), used(&long));
        let l0: Vec<_> = [&before[..], &after, &long].concat();
        let l1: Vec<_> = [&after[..], &before, &long].concat();
        let output = !spec.output_flag_present || !self.t.one_in(6);
        let mut slices = Vec::new();
        let mut active = Vec::new();
        for place in 0..*self.t.pick(&[1, 1, 1, 2, 3]) {
            let t = &mut *self.t;
            let slice_type = match t.below(5) {
                _ if is_irap(nal_type) || l0.is_empty() => SliceType::I,
                0 => SliceType::I,
                1 | 2 => SliceType::P,
                _ => SliceType::B,
            };
            let mut slice = SliceSpec {
                nal_type,
                temporal_id,
                address: 3 * place,
                dependent: place > 0 && spec.dependent_slices && t.one_in(3),
                slice_type,
                output,
                poc_lsb: (poc & mask) as u32,
                data: t.below(30) as usize,
                ..SliceSpec::default()
            };
            if slice_type != SliceType::I {
                slice.num_ref_idx = t.flag().then(|| (1 + t.below(5), 1 + t.below(5)));
            }
            let (n0, n1) = slice.active(&spec);
            let changed = spec.lists_modification && l0.len() > 1;
            for (list, (candidates, n)) in slice.lists.iter_mut().zip([(&l0, n0), (&l1, n1)]) {
                let count = candidates.len() as u32;
                let entries: Vec<u32> = if changed && n > 0 && t.flag() {
                    let entries: Vec<u32> = (0..n).map(|_| t.below(count)).collect();
                    *list = Some(entries.clone());
                    entries
                } else {
                    (0..n).map(|i| i % count).collect()
                };
                if !slice.dependent {
                    active.extend(entries.iter().map(|&e| candidates[e as usize]));
                }
            }
            slices.push(slice);
        }

        self.dpb = named.into_iter().map(|n| n.picture).collect();
        self.dpb.push(Kept {
            unit: Some(unit),
            poc,
            temporal_id,
            nal_type,
            long: false,
        });
        if temporal_id == 0 && !is_leading(nal_type) && !is_non_reference(nal_type) {
            self.prev_tid0 = poc;
            self.previous_pocs = self.dpb.iter().map(|k| k.poc).collect();
        }
        self.previous_pocs.insert(poc);
        self.top = self.top.max(poc);
        self.drafts.push(Draft {
            au: Au {
                nal_type,
                temporal_id,
                poc,
                poc_lsb: (poc & mask) as u32,
                sequence: self.sequence,
                eos_before,
                output,
                damaged: self.wanted.damage && unit > 0 && self.t.one_in(12),
                rps: l0,
                active,
                names,
                sets: std::mem::take(&mut self.due),
                nals: Vec::new(),
            },
            pps,
            rps,
            long: coded_long,
            slices,
        });
    }

    fn write(self) -> Stream {
        // Some of the sets that pictures need stand in the SPS, some of them predicted.
        let mut in_sps: Vec<ShortTermRps> = Vec::new();
        let mut coded = Vec::new();
        for draft in &self.drafts {
            if in_sps.len() < 8 && self.t.one_in(3) && !in_sps.contains(&draft.rps) {
                let predicted = RpsCoding::predict(&draft.rps, &in_sps, 1);
                coded.push(
                    predicted
                        .filter(|_| self.t.flag())
                        .unwrap_or(RpsCoding::Explicit(draft.rps.clone())),
                );
                in_sps.push(draft.rps.clone());
            }
        }
        let sps = |version: u8| {
            let mut spec = SpsSpec {
                log2_max_poc_lsb: self.log2,
                short_term: coded.clone(),
                long_term: Some(self.long_in_sps.clone()),
                ..SpsSpec::default()
            };
            spec.profile.level = 90 + version;
            spec
        };
        let mut sets = BTreeMap::new();
        for i in 0..4 {
            sets.insert(Set::Vps(i), Bytes::from(vps(0, i)));
            sets.insert(Set::Sps(i), Bytes::from(sps(i).nal()));
        }
        for (i, pps) in self.table.iter().enumerate() {
            sets.insert(Set::Pps(i), Bytes::from(pps.nal()));
        }
        let sps = sps(0);
        let mut aus = Vec::new();
        for draft in self.drafts {
            let t = &mut *self.t;
            let mut au = draft.au;
            let pps = &self.table[draft.pps];
            if t.one_in(4) {
                au.nals.push(nal(35, 0, au.temporal_id, &[0x50]));
            }
            au.nals.extend(au.sets.iter().map(|s| sets[s].to_vec()));
            if t.one_in(4) {
                au.nals
                    .push(nal(39, 0, au.temporal_id, &[1, 2, 0, 0, 0x80]));
            }
            let from_sps = in_sps.iter().position(|s| *s == draft.rps);
            for mut slice in draft.slices {
                let back = 1 + t.below(in_sps.len().max(1) as u32) as usize;
                let predicted = RpsCoding::predict(&draft.rps, &in_sps, back);
                slice.short_term = match (from_sps, predicted) {
                    (Some(i), _) if t.flag() => ShortTerm::Sps(i),
                    (_, Some(coding)) if t.flag() => ShortTerm::Own(coding),
                    _ => ShortTerm::Own(RpsCoding::Explicit(draft.rps.clone())),
                };
                slice.long_term = draft.long.clone();
                let mut bytes = slice.nal(&sps, pps);
                if au.damaged && slice.address == 0 {
                    match t.below(3) {
                        // It names a PPS that is not there.
                        0 => {
                            let strange = PpsSpec {
                                id: 60,
                                ..pps.clone()
                            };
                            bytes = slice.nal(&sps, &strange);
                        }
                        1 => bytes.truncate(2),
                        // The picture's first slice is lost.
                        _ => bytes[2] &= 0x7f,
                    }
                }
                au.nals.push(bytes);
                if t.one_in(8) {
                    // Another layer's slice.
                    au.nals.push(nal(1, 1, 0, &[0x80, 9, 9]));
                }
            }
            if t.one_in(6) {
                au.nals.push(nal(40, 0, au.temporal_id, &[132, 1, 7, 0x80]));
            }
            if t.one_in(6) {
                au.nals
                    .push(nal(38, 0, au.temporal_id, &[0xff, 0xff, 0x80]));
            }
            aus.push(au);
        }
        Stream {
            aus,
            log2_max_poc_lsb: self.log2,
            sets,
            pps: self.table,
        }
    }
}

impl Stream {
    /// Each unit as a sample with four-byte lengths; an end-of-sequence NAL unit ends the sample
    /// before, or begins the next one (`eos_first`).
    pub fn samples(&self, eos_first: bool) -> Vec<Vec<u8>> {
        let eos = nal(EOS, 0, 0, &[]);
        let mut samples = Vec::new();
        for (i, au) in self.aus.iter().enumerate() {
            let mut nals: Vec<&Vec<u8>> = Vec::new();
            if au.eos_before && eos_first {
                nals.push(&eos);
            }
            nals.extend(&au.nals);
            if !eos_first && self.aus.get(i + 1).is_some_and(|a| a.eos_before) {
                nals.push(&eos);
            }
            let mut sample = Vec::new();
            for nal in nals {
                sample.extend((nal.len() as u32).to_be_bytes());
                sample.extend(nal);
            }
            samples.push(sample);
        }
        samples
    }
}
