//! Slice segment header (H.265 7.3.6.1), from its first bit to the reference picture lists.

use std::sync::Arc;

use super::bits::{BitReader, HeaderError, ceil_log2};
use super::nal::NalType;
use super::parameter_sets::ParameterSets;
use super::pps::Pps;
use super::rps::ShortTermRps;
use super::sps::Sps;

/// `slice_type` (table 7-7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SliceType {
    /// Intra only.
    I,
    /// One reference picture list.
    P,
    /// Two reference picture lists.
    B,
}

/// One long-term entry of a slice's RPS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LongTermEntry {
    /// `PocLsbLt`.
    pub poc_lsb: u32,
    /// `UsedByCurrPicLt`.
    pub used: bool,
    /// `DeltaPocMsbCycleLt`, where `delta_poc_msb_present_flag` is set.
    pub delta_msb_cycle: Option<u32>,
}

/// A reference picture list as the slice asks for it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ListRequest {
    /// `num_ref_idx_lX_active_minus1` + 1.
    pub active: u32,
    /// `list_entry_lX`, where the list is modified; then as long as `active`.
    pub entries: Option<Vec<u32>>,
}

/// The header of an independent slice segment, or the start of a dependent one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SliceHeader {
    /// `first_slice_segment_in_pic_flag`.
    pub first_in_picture: bool,
    /// The PPS it names.
    pub pps: Arc<Pps>,
    /// The SPS in force.
    pub sps: Arc<Sps>,
    /// What an independent slice segment says; `None` for a dependent one, which takes it over
    /// from the independent one before it.
    pub independent: Option<IndependentPart>,
}

/// The part of the header that dependent slice segments leave out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IndependentPart {
    /// `slice_type`.
    pub slice_type: SliceType,
    /// `pic_output_flag`.
    pub output: bool,
    /// `slice_pic_order_cnt_lsb`; 0 for IDR pictures.
    pub poc_lsb: u32,
    /// Short-term part of the RPS; empty for IDR pictures.
    pub short_term: ShortTermRps,
    /// Long-term part of the RPS.
    pub long_term: Vec<LongTermEntry>,
    /// Reference picture list 0; nothing active for I slices.
    pub list0: ListRequest,
    /// Reference picture list 1; nothing active for I and P slices.
    pub list1: ListRequest,
}

impl IndependentPart {
    /// `NumPicTotalCurr` (7-55) without the current picture itself.
    pub fn used_entries(&self) -> u32 {
        let short = self
            .short_term
            .negative
            .iter()
            .chain(&self.short_term.positive);
        let used =
            short.filter(|e| e.used).count() + self.long_term.iter().filter(|e| e.used).count();
        used as u32
    }
}

impl SliceHeader {
    /// Reads the header of a slice segment NAL unit (with its NAL header; its payload may be cut
    /// after the header) of the base layer.
    pub fn parse(nal: &[u8], nal_type: NalType, sets: &ParameterSets) -> Result<Self, HeaderError> {
        Self::read(&mut BitReader::after_nal_header(nal), nal_type, sets)
    }

    /// As [`SliceHeader::parse`], with how many of the NAL unit's bytes that took: the same comes
    /// out of these bytes alone, since no others were looked at.
    pub fn measure(
        nal: &[u8],
        nal_type: NalType,
        sets: &ParameterSets,
    ) -> Result<(Self, usize), HeaderError> {
        let r = &mut BitReader::after_nal_header(nal);
        let header = Self::read(r, nal_type, sets)?;
        Ok((header, r.consumed()))
    }

    fn read(
        r: &mut BitReader<'_>,
        nal_type: NalType,
        sets: &ParameterSets,
    ) -> Result<Self, HeaderError> {
        let first_in_picture = r.flag("first_slice_segment_in_pic_flag")?;
        if nal_type.is_irap() {
            r.skip("no_output_of_prior_pics_flag", 1)?;
        }
        let pps_id = r.ue("slice_pic_parameter_set_id", 63)? as u8;
        let (pps, sps) = sets.lookup(pps_id)?;
        let (pps, sps) = (Arc::clone(pps), Arc::clone(sps));
        let mut dependent = false;
        if !first_in_picture {
            dependent = pps.dependent_slice_segments && r.flag("dependent_slice_segment_flag")?;
            let address = r.bits("slice_segment_address", sps.slice_address_bits())?;
            if address == 0 || address >= sps.ctb_count {
                return Err(HeaderError::Invalid {
                    element: "slice_segment_address",
                    what: "not inside the picture",
                });
            }
        }
        let independent = if dependent {
            None
        } else {
            Some(IndependentPart::parse(r, nal_type, &pps, &sps)?)
        };
        Ok(Self {
            first_in_picture,
            pps,
            sps,
            independent,
        })
    }
}

impl IndependentPart {
    fn parse(
        r: &mut BitReader<'_>,
        nal_type: NalType,
        pps: &Pps,
        sps: &Sps,
    ) -> Result<Self, HeaderError> {
        r.skip(
            "slice_reserved_flag",
            u32::from(pps.extra_slice_header_bits),
        )?;
        let slice_type = match r.ue("slice_type", 2)? {
            0 => SliceType::B,
            1 => SliceType::P,
            _ => SliceType::I,
        };
        if nal_type.is_irap() && slice_type != SliceType::I && !pps.unknown_references {
            return Err(HeaderError::Invalid {
                element: "slice_type",
                what: "an IRAP picture with P or B slices",
            });
        }
        let output = !pps.output_flag_present || r.flag("pic_output_flag")?;
        if sps.separate_colour_planes {
            r.skip("colour_plane_id", 2)?;
        }
        let mut part = Self {
            slice_type,
            output,
            poc_lsb: 0,
            short_term: ShortTermRps::default(),
            long_term: Vec::new(),
            list0: ListRequest::default(),
            list1: ListRequest::default(),
        };
        if !nal_type.is_idr() {
            part.poc_lsb = r.bits("slice_pic_order_cnt_lsb", u32::from(sps.log2_max_poc_lsb))?;
            part.short_term = if r.flag("short_term_ref_pic_set_sps_flag")? {
                let count = sps.short_term_sets.len() as u32;
                let index = r.bits("short_term_ref_pic_set_idx", ceil_log2(count))?;
                sps.short_term_sets
                    .get(index as usize)
                    .cloned()
                    .ok_or(HeaderError::OutOfRange {
                        element: "short_term_ref_pic_set_idx",
                        value: u64::from(index),
                        most: u64::from(count.saturating_sub(1)),
                    })?
            } else {
                ShortTermRps::parse(r, &sps.short_term_sets, true)?
            };
            if sps.long_term_present {
                part.long_term = parse_long_term(r, sps)?;
            }
            if sps.temporal_mvp {
                r.skip("slice_temporal_mvp_enabled_flag", 1)?;
            }
        }
        if sps.sample_adaptive_offset {
            r.skip("slice_sao_luma_flag", 1)?;
            if sps.chroma_format_idc != 0 && !sps.separate_colour_planes {
                r.skip("slice_sao_chroma_flag", 1)?;
            }
        }
        if slice_type == SliceType::I {
            return Ok(part);
        }
        let bidirectional = slice_type == SliceType::B;
        part.list0.active = u32::from(pps.default_active_l0);
        part.list1.active = if bidirectional {
            u32::from(pps.default_active_l1)
        } else {
            0
        };
        if r.flag("num_ref_idx_active_override_flag")? {
            part.list0.active = r.ue("num_ref_idx_l0_active_minus1", 14)? + 1;
            if bidirectional {
                part.list1.active = r.ue("num_ref_idx_l1_active_minus1", 14)? + 1;
            }
        }
        let total = part.used_entries();
        if pps.lists_modification && total > 1 {
            let bits = ceil_log2(total);
            let lists = if bidirectional { 2 } else { 1 };
            for list in [&mut part.list0, &mut part.list1].into_iter().take(lists) {
                if r.flag("ref_pic_list_modification_flag")? {
                    let entries: Result<Vec<u32>, HeaderError> = (0..list.active)
                        .map(|_| r.bits("list_entry", bits))
                        .collect();
                    list.entries = Some(entries?);
                }
            }
        }
        Ok(part)
    }
}

fn parse_long_term(r: &mut BitReader<'_>, sps: &Sps) -> Result<Vec<LongTermEntry>, HeaderError> {
    let in_sps = sps.long_term_sps.len() as u32;
    let from_sps = if in_sps > 0 {
        r.ue("num_long_term_sps", in_sps)?
    } else {
        0
    };
    let own = r.ue("num_long_term_pics", 33)?;
    let mut entries = Vec::new();
    let mut cycle = 0u32;
    for i in 0..from_sps + own {
        let (poc_lsb, used) = if i < from_sps {
            let index = r.bits("lt_idx_sps", ceil_log2(in_sps))?;
            sps.long_term_sps
                .get(index as usize)
                .copied()
                .ok_or(HeaderError::OutOfRange {
                    element: "lt_idx_sps",
                    value: u64::from(index),
                    most: u64::from(in_sps.saturating_sub(1)),
                })?
        } else {
            let lsb = r.bits("poc_lsb_lt", u32::from(sps.log2_max_poc_lsb))?;
            (lsb, r.flag("used_by_curr_pic_lt_flag")?)
        };
        // 7-52: cycles add up, separately for both kinds of entries.
        if i == 0 || i == from_sps {
            cycle = 0;
        }
        let present = r.flag("delta_poc_msb_present_flag")?;
        if present {
            let most = u32::MAX >> sps.log2_max_poc_lsb.min(16);
            let delta = r.ue("delta_poc_msb_cycle_lt", most)?;
            cycle = cycle.saturating_add(delta);
        }
        entries.push(LongTermEntry {
            poc_lsb,
            used,
            delta_msb_cycle: present.then_some(cycle),
        });
    }
    Ok(entries)
}
