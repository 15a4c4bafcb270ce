//! Picture parameter set (H.265 7.3.2.3).

use super::bits::{BitReader, HeaderError};
use super::sps::skip_scaling_list_data;

/// What a PPS says, as far as slice segment headers need it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pps {
    /// `pps_pic_parameter_set_id`, 0 to 63.
    pub id: u8,
    /// `pps_seq_parameter_set_id`, 0 to 15.
    pub sps_id: u8,
    /// `dependent_slice_segments_enabled_flag`.
    pub dependent_slice_segments: bool,
    /// `output_flag_present_flag`.
    pub output_flag_present: bool,
    /// `num_extra_slice_header_bits`.
    pub extra_slice_header_bits: u8,
    /// `num_ref_idx_l0_default_active_minus1` + 1.
    pub default_active_l0: u8,
    /// `num_ref_idx_l1_default_active_minus1` + 1.
    pub default_active_l1: u8,
    /// `entropy_coding_sync_enabled_flag`: rows of CTBs can be decoded in parallel (WPP).
    pub wavefront: bool,
    /// `tiles_enabled_flag`.
    pub tiles: bool,
    /// `lists_modification_present_flag`.
    pub lists_modification: bool,
    /// The picture may refer to itself (`pps_curr_pic_ref_enabled_flag`), or an extension is
    /// present that is not known: what a picture refers to cannot be told from its slices.
    pub unknown_references: bool,
}

impl Pps {
    /// `pps_pic_parameter_set_id` alone.
    pub(super) fn read_id(nal: &[u8]) -> Result<u8, HeaderError> {
        let r = &mut BitReader::after_nal_header(nal);
        Ok(r.ue("pps_pic_parameter_set_id", 63)? as u8)
    }

    /// Reads a PPS NAL unit (with its header) of the base layer.
    pub fn parse(nal: &[u8]) -> Result<Self, HeaderError> {
        let r = &mut BitReader::after_nal_header(nal);
        let id = r.ue("pps_pic_parameter_set_id", 63)? as u8;
        let sps_id = r.ue("pps_seq_parameter_set_id", 15)? as u8;
        let dependent_slice_segments = r.flag("dependent_slice_segments_enabled_flag")?;
        let output_flag_present = r.flag("output_flag_present_flag")?;
        let extra_slice_header_bits = r.bits("num_extra_slice_header_bits", 3)? as u8;
        r.skip("sign_data_hiding_enabled_flag", 1)?;
        r.skip("cabac_init_present_flag", 1)?;
        let default_active_l0 = r.ue("num_ref_idx_l0_default_active_minus1", 14)? as u8 + 1;
        let default_active_l1 = r.ue("num_ref_idx_l1_default_active_minus1", 14)? as u8 + 1;
        r.se("init_qp_minus26")?;
        r.skip("constrained_intra_pred_flag", 1)?;
        let transform_skip = r.flag("transform_skip_enabled_flag")?;
        if r.flag("cu_qp_delta_enabled_flag")? {
            r.ue("diff_cu_qp_delta_depth", 3)?;
        }
        r.se("pps_cb_qp_offset")?;
        r.se("pps_cr_qp_offset")?;
        r.skip("pps_slice_chroma_qp_offsets_present_flag", 1)?;
        r.skip("weighted_pred_flag", 1)?;
        r.skip("weighted_bipred_flag", 1)?;
        r.skip("transquant_bypass_enabled_flag", 1)?;
        let tiles = r.flag("tiles_enabled_flag")?;
        let wavefront = r.flag("entropy_coding_sync_enabled_flag")?;
        if tiles {
            let columns = r.ue("num_tile_columns_minus1", 1023)?;
            let rows = r.ue("num_tile_rows_minus1", 1023)?;
            if !r.flag("uniform_spacing_flag")? {
                for _ in 0..columns {
                    r.ue("column_width_minus1", u32::from(u16::MAX))?;
                }
                for _ in 0..rows {
                    r.ue("row_height_minus1", u32::from(u16::MAX))?;
                }
            }
            r.skip("loop_filter_across_tiles_enabled_flag", 1)?;
        }
        r.skip("pps_loop_filter_across_slices_enabled_flag", 1)?;
        if r.flag("deblocking_filter_control_present_flag")? {
            r.skip("deblocking_filter_override_enabled_flag", 1)?;
            if !r.flag("pps_deblocking_filter_disabled_flag")? {
                r.se("pps_beta_offset_div2")?;
                r.se("pps_tc_offset_div2")?;
            }
        }
        if r.flag("pps_scaling_list_data_present_flag")? {
            skip_scaling_list_data(r)?;
        }
        let lists_modification = r.flag("lists_modification_present_flag")?;
        r.ue("log2_parallel_merge_level_minus2", 4)?;
        r.skip("slice_segment_header_extension_present_flag", 1)?;
        let unknown_references =
            r.flag("pps_extension_present_flag")? && refers_in_unknown_ways(r, transform_skip)?;
        Ok(Self {
            id,
            sps_id,
            dependent_slice_segments,
            output_flag_present,
            extra_slice_header_bits,
            default_active_l0,
            default_active_l1,
            wavefront,
            tiles,
            lists_modification,
            unknown_references,
        })
    }
}

/// Reads the extensions as far as `pps_curr_pic_ref_enabled_flag` (7.3.2.3.3).
fn refers_in_unknown_ways(
    r: &mut BitReader<'_>,
    transform_skip: bool,
) -> Result<bool, HeaderError> {
    let range = r.flag("pps_range_extension_flag")?;
    let multilayer = r.flag("pps_multilayer_extension_flag")?;
    let three_d = r.flag("pps_3d_extension_flag")?;
    let screen_content = r.flag("pps_scc_extension_flag")?;
    r.skip("pps_extension_4bits", 4)?;
    if range {
        if transform_skip {
            r.ue("log2_max_transform_skip_block_size_minus2", 3)?;
        }
        r.skip("cross_component_prediction_enabled_flag", 1)?;
        if r.flag("chroma_qp_offset_list_enabled_flag")? {
            r.ue("diff_cu_chroma_qp_offset_depth", 3)?;
            for _ in 0..=r.ue("chroma_qp_offset_list_len_minus1", 5)? {
                r.se("cb_qp_offset_list")?;
                r.se("cr_qp_offset_list")?;
            }
        }
        r.ue("log2_sao_offset_scale_luma", 8)?;
        r.ue("log2_sao_offset_scale_chroma", 8)?;
    }
    // Multi-layer and 3D extensions do not belong into a PPS of the base layer, and stand before
    // the one that is asked for.
    Ok(multilayer || three_d || (screen_content && r.flag("pps_curr_pic_ref_enabled_flag")?))
}
