//! Slice segment headers (7.3.6.1), up to the reference picture lists.

use media::h265::rps::ShortTermRps;
use media::h265::slice::SliceType;

use super::bits::{BitWriter, nal};
use super::sets::{PpsSpec, RpsCoding, SpsSpec};

/// Bits for a value below `count`.
pub fn bits_for(count: u32) -> u32 {
    (0..32).find(|&b| 1u64 << b >= u64::from(count)).unwrap()
}

#[derive(Clone, Debug)]
pub enum ShortTerm {
    /// `short_term_ref_pic_set_idx`.
    Sps(usize),
    Own(RpsCoding),
}

/// A long-term entry: where its `PocLsbLt` comes from, and `delta_poc_msb_cycle_lt` as coded.
#[derive(Clone, Copy, Debug)]
pub struct Lt {
    /// `lt_idx_sps`, or `poc_lsb_lt` and `used_by_curr_pic_lt_flag`.
    pub from: Result<u32, (u32, bool)>,
    pub coded_cycle: Option<u32>,
}

#[derive(Clone, Debug)]
pub struct SliceSpec {
    pub nal_type: u8,
    pub temporal_id: u8,
    /// 0 for the first slice segment of the picture.
    pub address: u32,
    pub dependent: bool,
    pub slice_type: SliceType,
    pub output: bool,
    pub poc_lsb: u32,
    pub short_term: ShortTerm,
    /// Those of the SPS first.
    pub long_term: Vec<Lt>,
    pub num_ref_idx: Option<(u32, u32)>,
    pub lists: [Option<Vec<u32>>; 2],
    /// Bytes after the header: slice data of no meaning.
    pub data: usize,
}

impl Default for SliceSpec {
    fn default() -> Self {
        Self {
            nal_type: 1,
            temporal_id: 0,
            address: 0,
            dependent: false,
            slice_type: SliceType::I,
            output: true,
            poc_lsb: 0,
            short_term: ShortTerm::Own(RpsCoding::Explicit(ShortTermRps::default())),
            long_term: Vec::new(),
            num_ref_idx: None,
            lists: [None, None],
            data: 5,
        }
    }
}

impl SliceSpec {
    pub fn short_term_set(&self, sps: &SpsSpec) -> ShortTermRps {
        let sets = sps.sets();
        match &self.short_term {
            ShortTerm::Sps(i) => sets[*i].clone(),
            ShortTerm::Own(coding) => coding.derive(&sets),
        }
    }

    /// `NumPicTotalCurr`.
    pub fn total_curr(&self, sps: &SpsSpec) -> u32 {
        let set = self.short_term_set(sps);
        let short = set.negative.iter().chain(&set.positive);
        let long = self.long_term.iter().filter(|lt| match lt.from {
            Ok(i) => sps.long_term.as_ref().unwrap()[i as usize].1,
            Err((_, used)) => used,
        });
        (short.filter(|e| e.used).count() + long.count()) as u32
    }

    pub fn nal(&self, sps: &SpsSpec, pps: &PpsSpec) -> Vec<u8> {
        let mut w = BitWriter::default();
        w.flag(self.address == 0);
        if (16..=23).contains(&self.nal_type) {
            w.flag(true);
        }
        w.ue(pps.id.into());
        if self.address != 0 {
            if pps.dependent_slices {
                w.flag(self.dependent);
            }
            w.u(bits_for(sps.ctb_count()), self.address.into());
        }
        if !self.dependent {
            self.independent(&mut w, sps, pps);
        }
        for i in 0..self.data {
            // Zeros on purpose: emulation prevention is at work in slice data too.
            w.u(8, (i as u64 * 37) & 0x83);
        }
        nal(self.nal_type, 0, self.temporal_id, &w.rbsp())
    }

    fn independent(&self, w: &mut BitWriter, sps: &SpsSpec, pps: &PpsSpec) {
        w.u(pps.extra_bits.into(), (1 << pps.extra_bits) - 1);
        w.ue(match self.slice_type {
            SliceType::B => 0,
            SliceType::P => 1,
            SliceType::I => 2,
        });
        if pps.output_flag_present {
            w.flag(self.output);
        } else {
            assert!(self.output);
        }
        if sps.separate_colour_planes {
            w.u(2, 2);
        }
        if !matches!(self.nal_type, 19 | 20) {
            w.u(sps.log2_max_poc_lsb.into(), self.poc_lsb.into());
            match &self.short_term {
                ShortTerm::Sps(i) => {
                    w.flag(true);
                    w.u(bits_for(sps.short_term.len() as u32), *i as u64);
                }
                ShortTerm::Own(coding) => {
                    w.flag(false);
                    coding.write(w, sps.short_term.len(), true);
                }
            }
            if let Some(in_sps) = &sps.long_term {
                let from_sps = self.long_term.iter().filter(|l| l.from.is_ok()).count();
                if !in_sps.is_empty() {
                    w.ue(from_sps as u32);
                }
                w.ue((self.long_term.len() - from_sps) as u32);
                for (i, lt) in self.long_term.iter().enumerate() {
                    match lt.from {
                        Ok(index) => {
                            assert!(i < from_sps);
                            w.u(bits_for(in_sps.len() as u32), index.into());
                        }
                        Err((lsb, used)) => {
                            assert!(i >= from_sps);
                            w.u(sps.log2_max_poc_lsb.into(), lsb.into());
                            w.flag(used);
                        }
                    }
                    w.flag(lt.coded_cycle.is_some());
                    lt.coded_cycle.iter().for_each(|&c| w.ue(c));
                }
            } else {
                assert!(self.long_term.is_empty());
            }
            if sps.temporal_mvp {
                w.flag(true);
            }
        }
        if sps.sao {
            w.flag(true);
            if sps.chroma_format_idc != 0 && !sps.separate_colour_planes {
                w.flag(false);
            }
        }
        if self.slice_type == SliceType::I {
            return;
        }
        let lists = if self.slice_type == SliceType::B {
            2
        } else {
            1
        };
        w.flag(self.num_ref_idx.is_some());
        if let Some((l0, l1)) = self.num_ref_idx {
            w.ue(l0 - 1);
            if lists == 2 {
                w.ue(l1 - 1);
            }
        }
        let total = self.total_curr(sps);
        if pps.lists_modification && total > 1 {
            for entries in self.lists.iter().take(lists) {
                w.flag(entries.is_some());
                for &entry in entries.iter().flatten() {
                    w.u(bits_for(total), entry.into());
                }
            }
        } else {
            assert!(self.lists.iter().all(Option::is_none));
        }
    }

    /// Active entries of both lists.
    pub fn active(&self, pps: &PpsSpec) -> (u32, u32) {
        let (l0, l1) = self.num_ref_idx.unwrap_or((pps.default_l0, pps.default_l1));
        match self.slice_type {
            SliceType::I => (0, 0),
            SliceType::P => (l0, 0),
            SliceType::B => (l0, l1),
        }
    }
}
