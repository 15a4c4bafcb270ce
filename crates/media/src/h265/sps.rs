//! Sequence parameter set (H.265 7.3.2.2), up to and including the VUI's timing.

use super::bits::{BitReader, HeaderError, ceil_log2};
use super::rps::ShortTermRps;
use crate::colour::ColourDescription;

/// What an SPS says, as far as it is needed: picture format, POC and reference picture sets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sps {
    /// `sps_seq_parameter_set_id`, 0 to 15.
    pub id: u8,
    /// `profile_tier_level()` of the whole stream.
    pub profile: ProfileTierLevel,
    /// `chroma_format_idc`: 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format_idc: u8,
    /// `separate_colour_plane_flag`.
    pub separate_colour_planes: bool,
    /// `pic_width_in_luma_samples`.
    pub coded_width: u32,
    /// `pic_height_in_luma_samples`.
    pub coded_height: u32,
    /// Conformance window in luma samples: left, right, top, bottom.
    pub crop: [u32; 4],
    /// `BitDepthY`.
    pub bit_depth_luma: u8,
    /// `BitDepthC`.
    pub bit_depth_chroma: u8,
    /// `log2_max_pic_order_cnt_lsb_minus4` + 4.
    pub log2_max_poc_lsb: u8,
    /// `PicWidthInCtbsY` × `PicHeightInCtbsY`.
    pub ctb_count: u32,
    /// `PicHeightInCtbsY`.
    pub ctb_rows: u32,
    /// `sample_adaptive_offset_enabled_flag`.
    pub sample_adaptive_offset: bool,
    /// `st_ref_pic_set(i)` of the SPS.
    pub short_term_sets: Vec<ShortTermRps>,
    /// `long_term_ref_pics_present_flag`.
    pub long_term_present: bool,
    /// `lt_ref_pic_poc_lsb_sps[i]` and `used_by_curr_pic_lt_sps_flag[i]`.
    pub long_term_sps: Vec<(u32, bool)>,
    /// `sps_temporal_mvp_enabled_flag`.
    pub temporal_mvp: bool,
    /// The VUI; defaults where it is absent.
    pub vui: Vui,
}

/// The parts of `vui_parameters()` (E.2.1) that matter here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Vui {
    /// Sample aspect ratio, horizontal and vertical.
    pub sample_aspect: Option<(u32, u32)>,
    /// Colour description.
    pub colour: ColourDescription,
    /// `field_seq_flag`: every picture is one field.
    pub field_seq: bool,
    /// `vui_num_units_in_tick` and `vui_time_scale`.
    pub timing: Option<(u32, u32)>,
}

/// The general part of `profile_tier_level()` (7.3.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProfileTierLevel {
    /// `general_profile_space`.
    pub space: u8,
    /// `general_tier_flag`.
    pub high_tier: bool,
    /// `general_profile_idc`.
    pub profile: u8,
    /// `general_profile_compatibility_flag[0..32]`, flag 0 in the highest bit.
    pub compatibility: u32,
    /// The 48 bits from `general_progressive_source_flag` on.
    pub constraints: [u8; 6],
    /// `general_level_idc` (30 times the level's number).
    pub level: u8,
}

impl ProfileTierLevel {
    fn parse(r: &mut BitReader<'_>, max_sub_layers_minus1: u32) -> Result<Self, HeaderError> {
        let mut p = Self {
            space: r.bits("general_profile_space", 2)? as u8,
            high_tier: r.flag("general_tier_flag")?,
            profile: r.bits("general_profile_idc", 5)? as u8,
            compatibility: r.bits("general_profile_compatibility_flag", 32)?,
            ..Self::default()
        };
        for byte in &mut p.constraints {
            *byte = r.bits("general_constraint_flags", 8)? as u8;
        }
        p.level = r.bits("general_level_idc", 8)? as u8;
        let mut present = Vec::new();
        for _ in 0..max_sub_layers_minus1 {
            let profile = r.flag("sub_layer_profile_present_flag")?;
            present.push((profile, r.flag("sub_layer_level_present_flag")?));
        }
        if max_sub_layers_minus1 > 0 {
            r.skip("reserved_zero_2bits", 2 * (8 - max_sub_layers_minus1))?;
        }
        for (profile, level) in present {
            r.skip("sub_layer_profile", if profile { 88 } else { 0 })?;
            r.skip("sub_layer_level_idc", if level { 8 } else { 0 })?;
        }
        Ok(p)
    }

    /// The profile's name in annex A, as far as `general_profile_idc` tells it.
    pub fn name(&self) -> &'static str {
        match self.profile {
            1 => "Main",
            2 => "Main 10",
            3 => "Main Still Picture",
            4 => "Range Extensions",
            5 => "High Throughput",
            6 => "Multiview Main",
            7 => "Scalable Main",
            8 => "3D Main",
            9 => "Screen Content Coding",
            10 => "Scalable Range Extensions",
            11 => "High Throughput Screen Content Coding",
            _ => "unknown profile",
        }
    }

    /// The codec string of ISO/IEC 14496-15 annex E, e.g. `hvc1.1.6.L93.B0`.
    pub fn codec_string(&self, fourcc: &str) -> String {
        let space = ["", "A", "B", "C"]
            .get(usize::from(self.space))
            .copied()
            .unwrap_or("");
        let tier = if self.high_tier { 'H' } else { 'L' };
        let mut text = format!(
            "{fourcc}.{space}{}.{:X}.{tier}{}",
            self.profile,
            self.compatibility.reverse_bits(),
            self.level
        );
        let used = self
            .constraints
            .iter()
            .rposition(|&b| b != 0)
            .map_or(0, |p| p + 1);
        for byte in self.constraints.iter().take(used) {
            text.push_str(&format!(".{byte:X}"));
        }
        text
    }
}

/// Largest side that is accepted: level 6.2 allows 8192×4320, level 8.4 in later editions 16384;
/// anything above is damage.
const MOST_SIDE: u32 = 32_768;

impl Sps {
    /// `sps_seq_parameter_set_id` alone.
    pub(super) fn read_id(nal: &[u8]) -> Result<u8, HeaderError> {
        Ok(Self::parse_head(&mut BitReader::after_nal_header(nal))?.0)
    }

    /// The identifier, the profile, and `sps_max_sub_layers_minus1`.
    fn parse_head(r: &mut BitReader<'_>) -> Result<(u8, ProfileTierLevel, u32), HeaderError> {
        r.skip("sps_video_parameter_set_id", 4)?;
        let max_sub_layers_minus1 = r.bits("sps_max_sub_layers_minus1", 3)?;
        if max_sub_layers_minus1 > 6 {
            return Err(HeaderError::OutOfRange {
                element: "sps_max_sub_layers_minus1",
                value: u64::from(max_sub_layers_minus1),
                most: 6,
            });
        }
        r.skip("sps_temporal_id_nesting_flag", 1)?;
        let profile = ProfileTierLevel::parse(r, max_sub_layers_minus1)?;
        let id = r.ue("sps_seq_parameter_set_id", 15)? as u8;
        Ok((id, profile, max_sub_layers_minus1))
    }

    /// Reads an SPS NAL unit (with its header) of the base layer.
    pub fn parse(nal: &[u8]) -> Result<Self, HeaderError> {
        let r = &mut BitReader::after_nal_header(nal);
        let (id, profile, max_sub_layers_minus1) = Self::parse_head(r)?;
        let chroma_format_idc = r.ue("chroma_format_idc", 3)? as u8;
        let separate_colour_planes =
            chroma_format_idc == 3 && r.flag("separate_colour_plane_flag")?;
        let coded_width = r.ue("pic_width_in_luma_samples", MOST_SIDE)?;
        let coded_height = r.ue("pic_height_in_luma_samples", MOST_SIDE)?;
        let mut crop = [0; 4];
        if r.flag("conformance_window_flag")? {
            let (unit_x, unit_y) = match chroma_format_idc {
                1 => (2, 2),
                2 => (2, 1),
                _ => (1, 1),
            };
            for (edge, unit) in crop.iter_mut().zip([unit_x, unit_x, unit_y, unit_y]) {
                *edge = r.ue("conf_win_offset", MOST_SIDE)? * unit;
            }
        }
        let [left, right, top, bottom] = crop;
        if left + right >= coded_width || top + bottom >= coded_height {
            return Err(HeaderError::Invalid {
                element: "conformance_window",
                what: "nothing is left of the picture",
            });
        }
        let bit_depth_luma = r.ue("bit_depth_luma_minus8", 8)? as u8 + 8;
        let bit_depth_chroma = r.ue("bit_depth_chroma_minus8", 8)? as u8 + 8;
        let log2_max_poc_lsb = r.ue("log2_max_pic_order_cnt_lsb_minus4", 12)? as u8 + 4;
        let all_layers = r.flag("sps_sub_layer_ordering_info_present_flag")?;
        for _ in if all_layers { 0 } else { max_sub_layers_minus1 }..=max_sub_layers_minus1 {
            r.ue("sps_max_dec_pic_buffering_minus1", 255)?;
            r.ue("sps_max_num_reorder_pics", 255)?;
            r.ue("sps_max_latency_increase_plus1", u32::MAX - 1)?;
        }
        let log2_min_cb = r.ue("log2_min_luma_coding_block_size_minus3", 3)? + 3;
        let log2_ctb = r.ue("log2_diff_max_min_luma_coding_block_size", 3)? + log2_min_cb;
        r.ue("log2_min_luma_transform_block_size_minus2", 3)?;
        r.ue("log2_diff_max_min_luma_transform_block_size", 3)?;
        r.ue("max_transform_hierarchy_depth_inter", 4)?;
        r.ue("max_transform_hierarchy_depth_intra", 4)?;
        if r.flag("scaling_list_enabled_flag")? && r.flag("sps_scaling_list_data_present_flag")? {
            skip_scaling_list_data(r)?;
        }
        r.skip("amp_enabled_flag", 1)?;
        let sample_adaptive_offset = r.flag("sample_adaptive_offset_enabled_flag")?;
        if r.flag("pcm_enabled_flag")? {
            r.skip("pcm_sample_bit_depth", 8)?;
            r.ue("log2_min_pcm_luma_coding_block_size_minus3", 2)?;
            r.ue("log2_diff_max_min_pcm_luma_coding_block_size", 2)?;
            r.skip("pcm_loop_filter_disabled_flag", 1)?;
        }
        let count = r.ue("num_short_term_ref_pic_sets", 64)?;
        let mut short_term_sets = Vec::new();
        for _ in 0..count {
            let set = ShortTermRps::parse(r, &short_term_sets, false)?;
            short_term_sets.push(set);
        }
        let long_term_present = r.flag("long_term_ref_pics_present_flag")?;
        let mut long_term_sps = Vec::new();
        if long_term_present {
            for _ in 0..r.ue("num_long_term_ref_pics_sps", 32)? {
                let lsb = r.bits("lt_ref_pic_poc_lsb_sps", u32::from(log2_max_poc_lsb))?;
                long_term_sps.push((lsb, r.flag("used_by_curr_pic_lt_sps_flag")?));
            }
        }
        let temporal_mvp = r.flag("sps_temporal_mvp_enabled_flag")?;
        r.skip("strong_intra_smoothing_enabled_flag", 1)?;
        // What a damaged VUI says is dropped; pictures can be decoded without it.
        let vui = match r.flag("vui_parameters_present_flag") {
            Ok(true) => Vui::parse(r).unwrap_or_default(),
            _ => Vui::default(),
        };
        let ctbs = |side: u32| side.div_ceil(1 << log2_ctb);
        Ok(Self {
            id,
            profile,
            chroma_format_idc,
            separate_colour_planes,
            coded_width,
            coded_height,
            crop,
            bit_depth_luma,
            bit_depth_chroma,
            log2_max_poc_lsb,
            ctb_count: ctbs(coded_width) * ctbs(coded_height),
            ctb_rows: ctbs(coded_height),
            sample_adaptive_offset,
            short_term_sets,
            long_term_present,
            long_term_sps,
            temporal_mvp,
            vui,
        })
    }

    /// Width after the conformance window.
    pub fn width(&self) -> u32 {
        let [left, right, ..] = self.crop;
        self.coded_width - left - right
    }

    /// Height after the conformance window (of one field in a field-coded stream).
    pub fn height(&self) -> u32 {
        let [.., top, bottom] = self.crop;
        self.coded_height - top - bottom
    }

    /// Bits of `slice_segment_address`.
    pub fn slice_address_bits(&self) -> u32 {
        ceil_log2(self.ctb_count)
    }
}

/// `scaling_list_data()` (7.3.4).
pub(super) fn skip_scaling_list_data(r: &mut BitReader<'_>) -> Result<(), HeaderError> {
    for size_id in 0..4u32 {
        for _ in 0..if size_id == 3 { 2 } else { 6 } {
            if !r.flag("scaling_list_pred_mode_flag")? {
                r.ue("scaling_list_pred_matrix_id_delta", 5)?;
            } else {
                if size_id > 1 {
                    r.se("scaling_list_dc_coef_minus8")?;
                }
                for _ in 0..64.min(1 << (4 + (size_id << 1))) {
                    r.se("scaling_list_delta_coef")?;
                }
            }
        }
    }
    Ok(())
}

/// Sample aspect ratios of table E.1, from `aspect_ratio_idc` 1 on.
const SAMPLE_ASPECTS: [(u32, u32); 16] = [
    (1, 1),
    (12, 11),
    (10, 11),
    (16, 11),
    (40, 33),
    (24, 11),
    (20, 11),
    (32, 11),
    (80, 33),
    (18, 11),
    (15, 11),
    (64, 33),
    (160, 99),
    (4, 3),
    (3, 2),
    (2, 1),
];

impl Vui {
    fn parse(r: &mut BitReader<'_>) -> Result<Self, HeaderError> {
        let mut vui = Self::default();
        if r.flag("aspect_ratio_info_present_flag")? {
            let idc = r.bits("aspect_ratio_idc", 8)? as usize;
            vui.sample_aspect = if idc == 255 {
                let width = r.bits("sar_width", 16)?;
                let height = r.bits("sar_height", 16)?;
                (width > 0 && height > 0).then_some((width, height))
            } else {
                idc.checked_sub(1)
                    .and_then(|i| SAMPLE_ASPECTS.get(i))
                    .copied()
            };
        }
        if r.flag("overscan_info_present_flag")? {
            r.skip("overscan_appropriate_flag", 1)?;
        }
        if r.flag("video_signal_type_present_flag")? {
            r.skip("video_format", 3)?;
            vui.colour.full_range = Some(r.flag("video_full_range_flag")?);
            if r.flag("colour_description_present_flag")? {
                vui.colour.primaries = r.bits("colour_primaries", 8)? as u8;
                vui.colour.transfer = r.bits("transfer_characteristics", 8)? as u8;
                vui.colour.matrix = r.bits("matrix_coeffs", 8)? as u8;
            }
        }
        // From here on what is missing costs timing only: keep the colours.
        vui.parse_rest(r).unwrap_or_default();
        Ok(vui)
    }

    fn parse_rest(&mut self, r: &mut BitReader<'_>) -> Result<(), HeaderError> {
        if r.flag("chroma_loc_info_present_flag")? {
            r.ue("chroma_sample_loc_type_top_field", 5)?;
            r.ue("chroma_sample_loc_type_bottom_field", 5)?;
        }
        r.skip("neutral_chroma_indication_flag", 1)?;
        self.field_seq = r.flag("field_seq_flag")?;
        r.skip("frame_field_info_present_flag", 1)?;
        if r.flag("default_display_window_flag")? {
            for _ in 0..4 {
                r.ue("def_disp_win_offset", u32::MAX - 1)?;
            }
        }
        if r.flag("vui_timing_info_present_flag")? {
            let units = r.bits("vui_num_units_in_tick", 32)?;
            let scale = r.bits("vui_time_scale", 32)?;
            self.timing = (units > 0 && scale > 0).then_some((units, scale));
        }
        Ok(())
    }
}
