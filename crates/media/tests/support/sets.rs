//! VPS, SPS and PPS (7.3.2), reference picture sets (7.3.7), scaling lists (7.3.4), VUI (E.2).

use media::h265::rps::{RpsEntry, ShortTermRps};
use media::h265::sps::ProfileTierLevel;

use super::bits::{BitWriter, nal};

/// How an `st_ref_pic_set()` is coded.
#[derive(Clone, Debug)]
pub enum RpsCoding {
    Explicit(ShortTermRps),
    Predicted {
        /// `delta_idx_minus1` + 1; 1 in an SPS.
        back: usize,
        delta_rps: i32,
        /// `used_by_curr_pic_flag` and `use_delta_flag`.
        flags: Vec<(bool, bool)>,
    },
}

impl RpsCoding {
    /// What it says, by equations 7-61 to 7-64, written as the standard writes them.
    pub fn derive(&self, earlier: &[ShortTermRps]) -> ShortTermRps {
        let (back, delta_rps, flags) = match self {
            Self::Explicit(set) => return set.clone(),
            Self::Predicted {
                back,
                delta_rps,
                flags,
            } => (*back, *delta_rps, flags),
        };
        let reference = &earlier[earlier.len() - back];
        let (num_negative, num_positive) = (reference.negative.len(), reference.positive.len());
        let num_delta = num_negative + num_positive;
        assert_eq!(flags.len(), num_delta + 1);
        let use_delta = |j: usize| flags[j].0 || flags[j].1;
        let entry = |delta_poc: i32, j: usize| RpsEntry {
            delta_poc,
            used: flags[j].0,
        };
        let mut set = ShortTermRps::default();
        for j in (0..num_positive).rev() {
            let d_poc = reference.positive[j].delta_poc + delta_rps;
            if d_poc < 0 && use_delta(num_negative + j) {
                set.negative.push(entry(d_poc, num_negative + j));
            }
        }
        if delta_rps < 0 && use_delta(num_delta) {
            set.negative.push(entry(delta_rps, num_delta));
        }
        for j in 0..num_negative {
            let d_poc = reference.negative[j].delta_poc + delta_rps;
            if d_poc < 0 && use_delta(j) {
                set.negative.push(entry(d_poc, j));
            }
        }
        for j in (0..num_negative).rev() {
            let d_poc = reference.negative[j].delta_poc + delta_rps;
            if d_poc > 0 && use_delta(j) {
                set.positive.push(entry(d_poc, j));
            }
        }
        if delta_rps > 0 && use_delta(num_delta) {
            set.positive.push(entry(delta_rps, num_delta));
        }
        for j in 0..num_positive {
            let d_poc = reference.positive[j].delta_poc + delta_rps;
            if d_poc > 0 && use_delta(num_negative + j) {
                set.positive.push(entry(d_poc, num_negative + j));
            }
        }
        set
    }

    /// A prediction of `wanted` from the set `back` places before, if there is one.
    pub fn predict(wanted: &ShortTermRps, earlier: &[ShortTermRps], back: usize) -> Option<Self> {
        let reference = &earlier[earlier.len().checked_sub(back)?];
        let all = |s: &ShortTermRps| -> Vec<RpsEntry> {
            s.negative.iter().chain(&s.positive).copied().collect()
        };
        let (from, to) = (all(reference), all(wanted));
        let mut deltas: Vec<i32> = vec![-1, 1];
        for t in &to {
            deltas.push(t.delta_poc);
            deltas.extend(from.iter().map(|f| t.delta_poc - f.delta_poc));
        }
        let fits = |d: &i32| (1..=32768).contains(&d.abs());
        deltas.into_iter().filter(fits).find_map(|delta_rps| {
            let bases = from.iter().map(|e| e.delta_poc).chain([0]);
            let flags = bases.map(|b| {
                let hit = to.iter().find(|t| t.delta_poc == b + delta_rps);
                hit.map_or((false, false), |t| (t.used, true))
            });
            let coding = Self::Predicted {
                back,
                delta_rps,
                flags: flags.collect(),
            };
            (coding.derive(earlier) == *wanted).then_some(coding)
        })
    }

    /// `st_ref_pic_set()`.
    pub fn write(&self, w: &mut BitWriter, index: usize, in_slice: bool) {
        match self {
            Self::Explicit(set) => {
                if index != 0 {
                    w.flag(false);
                }
                w.ue(set.negative.len() as u32);
                w.ue(set.positive.len() as u32);
                for half in [&set.negative, &set.positive] {
                    let mut before = 0;
                    for e in half {
                        w.ue((e.delta_poc - before).unsigned_abs() - 1);
                        w.flag(e.used);
                        before = e.delta_poc;
                    }
                }
            }
            Self::Predicted {
                back,
                delta_rps,
                flags,
            } => {
                w.flag(true);
                if in_slice {
                    w.ue(*back as u32 - 1);
                } else {
                    assert_eq!(*back, 1);
                }
                w.flag(*delta_rps < 0);
                w.ue(delta_rps.unsigned_abs() - 1);
                for &(used, use_delta) in flags {
                    w.flag(used);
                    if !used {
                        w.flag(use_delta);
                    }
                }
            }
        }
    }
}

fn profile_tier_level(w: &mut BitWriter, p: &ProfileTierLevel, sub_layers: &[(bool, bool)]) {
    w.u(2, p.space.into());
    w.flag(p.high_tier);
    w.u(5, p.profile.into());
    w.u(32, p.compatibility.into());
    for byte in p.constraints {
        w.u(8, byte.into());
    }
    w.u(8, p.level.into());
    for &(profile, level) in sub_layers {
        w.flag(profile);
        w.flag(level);
    }
    if !sub_layers.is_empty() {
        for _ in sub_layers.len()..8 {
            w.u(2, 0);
        }
    }
    for &(profile, level) in sub_layers {
        if profile {
            w.u(44, 0xa5a_5a5a_5a5a);
            w.u(44, 0x5a5_a5a5_a5a5);
        }
        if level {
            w.u(8, 93);
        }
    }
}

/// A VPS; `marker` makes its content differ.
pub fn vps(id: u8, marker: u8) -> Vec<u8> {
    let mut w = BitWriter::default();
    w.u(4, id.into());
    w.u(2, 3);
    w.u(6, 0);
    w.u(3, 0);
    w.flag(true);
    w.u(16, 0xffff);
    let p = ProfileTierLevel {
        profile: 1,
        compatibility: 0x6000_0000,
        level: 90,
        ..ProfileTierLevel::default()
    };
    profile_tier_level(&mut w, &p, &[]);
    w.flag(true);
    w.ue(15);
    w.ue(0);
    w.ue(marker.into());
    w.u(6, 0);
    w.ue(0);
    w.flag(false);
    w.flag(false);
    nal(32, 0, 0, &w.rbsp())
}

/// `scaling_list_data()`: for each list, the `pred_matrix_id_delta` or coefficients' seed.
#[derive(Clone, Debug)]
pub struct ScalingLists(pub Vec<Result<u32, i32>>);

impl ScalingLists {
    fn write(&self, w: &mut BitWriter) {
        let mut lists = self.0.iter().cycle();
        for size_id in 0..4 {
            for _ in (0..6).step_by(if size_id == 3 { 3 } else { 1 }) {
                match lists.next().unwrap() {
                    Ok(delta) => {
                        w.flag(false);
                        w.ue(*delta);
                    }
                    Err(seed) => {
                        w.flag(true);
                        if size_id > 1 {
                            w.se(*seed);
                        }
                        for i in 0..64.min(1 << (4 + (size_id << 1))) {
                            w.se((seed + i) % 9 - 4);
                        }
                    }
                }
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct VuiSpec {
    /// `aspect_ratio_idc`, and width and height for 255.
    pub aspect: Option<(u8, u16, u16)>,
    pub overscan: Option<bool>,
    /// `video_full_range_flag`, and the colour description.
    pub signal: Option<(bool, Option<[u8; 3]>)>,
    pub chroma_location: Option<(u32, u32)>,
    pub field_seq: bool,
    pub display_window: Option<[u32; 4]>,
    pub timing: Option<(u32, u32)>,
    /// With timing: `hrd_parameters_present_flag` and a small `hrd_parameters()`.
    pub hrd: bool,
    pub bitstream_restriction: bool,
}

impl VuiSpec {
    fn write(&self, w: &mut BitWriter, max_sub_layers_minus1: usize) {
        w.flag(self.aspect.is_some());
        if let Some((idc, width, height)) = self.aspect {
            w.u(8, idc.into());
            if idc == 255 {
                w.u(16, width.into());
                w.u(16, height.into());
            }
        }
        w.flag(self.overscan.is_some());
        self.overscan.iter().for_each(|&o| w.flag(o));
        w.flag(self.signal.is_some());
        if let Some((full_range, colour)) = self.signal {
            w.u(3, 5);
            w.flag(full_range);
            w.flag(colour.is_some());
            colour.iter().flatten().for_each(|&c| w.u(8, c.into()));
        }
        w.flag(self.chroma_location.is_some());
        if let Some((top, bottom)) = self.chroma_location {
            w.ue(top);
            w.ue(bottom);
        }
        w.flag(false);
        w.flag(self.field_seq);
        w.flag(self.field_seq);
        w.flag(self.display_window.is_some());
        self.display_window.iter().flatten().for_each(|&o| w.ue(o));
        w.flag(self.timing.is_some());
        if let Some((units, scale)) = self.timing {
            w.u(32, units.into());
            w.u(32, scale.into());
            w.flag(true);
            w.ue(0);
            w.flag(self.hrd);
            if self.hrd {
                w.flag(false);
                w.flag(false);
                for _ in 0..=max_sub_layers_minus1 {
                    w.flag(true);
                    w.ue(0);
                    w.ue(0);
                }
            }
        }
        w.flag(self.bitstream_restriction);
        if self.bitstream_restriction {
            w.flag(false);
            w.flag(true);
            w.flag(true);
            for value in [0, 0, 0, 15, 15] {
                w.ue(value);
            }
        }
    }
}

#[derive(Clone, Debug)]
pub struct SpsSpec {
    pub vps_id: u8,
    pub id: u8,
    pub profile: ProfileTierLevel,
    /// `sub_layer_profile_present_flag` and `sub_layer_level_present_flag`; as many as
    /// `sps_max_sub_layers_minus1`.
    pub sub_layers: Vec<(bool, bool)>,
    pub chroma_format_idc: u8,
    pub separate_colour_planes: bool,
    pub width: u32,
    pub height: u32,
    /// `conf_win_*_offset`, in chroma units.
    pub window: Option<[u32; 4]>,
    pub bit_depth_luma: u8,
    pub bit_depth_chroma: u8,
    pub log2_max_poc_lsb: u8,
    pub ordering_of_all_sub_layers: bool,
    pub log2_min_cb: u32,
    pub log2_ctb: u32,
    /// `scaling_list_enabled_flag`, and `sps_scaling_list_data`.
    pub scaling: Option<Option<ScalingLists>>,
    pub sao: bool,
    pub pcm: bool,
    pub short_term: Vec<RpsCoding>,
    pub long_term: Option<Vec<(u32, bool)>>,
    pub temporal_mvp: bool,
    pub vui: Option<VuiSpec>,
    /// Range, multi-layer, 3D, SCC, and four more extension bits.
    pub extension: Option<u8>,
}

impl Default for SpsSpec {
    fn default() -> Self {
        Self {
            vps_id: 0,
            id: 0,
            profile: ProfileTierLevel {
                profile: 1,
                compatibility: 0x6000_0000,
                constraints: [0x90, 0, 0, 0, 0, 0],
                level: 93,
                ..ProfileTierLevel::default()
            },
            sub_layers: Vec::new(),
            chroma_format_idc: 1,
            separate_colour_planes: false,
            width: 416,
            height: 240,
            window: None,
            bit_depth_luma: 8,
            bit_depth_chroma: 8,
            log2_max_poc_lsb: 8,
            ordering_of_all_sub_layers: true,
            log2_min_cb: 3,
            log2_ctb: 6,
            scaling: None,
            sao: true,
            pcm: false,
            short_term: Vec::new(),
            long_term: None,
            temporal_mvp: true,
            vui: None,
            extension: None,
        }
    }
}

impl SpsSpec {
    /// The short-term sets, decoded.
    pub fn sets(&self) -> Vec<ShortTermRps> {
        let mut sets = Vec::new();
        for coding in &self.short_term {
            let set = coding.derive(&sets);
            sets.push(set);
        }
        sets
    }

    pub fn ctb_count(&self) -> u32 {
        self.width.div_ceil(1 << self.log2_ctb) * self.ctb_rows()
    }

    pub fn ctb_rows(&self) -> u32 {
        self.height.div_ceil(1 << self.log2_ctb)
    }

    pub fn nal(&self) -> Vec<u8> {
        let mut w = BitWriter::default();
        w.u(4, self.vps_id.into());
        w.u(3, self.sub_layers.len() as u64);
        w.flag(true);
        profile_tier_level(&mut w, &self.profile, &self.sub_layers);
        w.ue(self.id.into());
        w.ue(self.chroma_format_idc.into());
        if self.chroma_format_idc == 3 {
            w.flag(self.separate_colour_planes);
        }
        w.ue(self.width);
        w.ue(self.height);
        w.flag(self.window.is_some());
        self.window.iter().flatten().for_each(|&o| w.ue(o));
        w.ue(u32::from(self.bit_depth_luma) - 8);
        w.ue(u32::from(self.bit_depth_chroma) - 8);
        w.ue(u32::from(self.log2_max_poc_lsb) - 4);
        w.flag(self.ordering_of_all_sub_layers);
        let first = if self.ordering_of_all_sub_layers {
            0
        } else {
            self.sub_layers.len()
        };
        for _ in first..=self.sub_layers.len() {
            w.ue(15);
            w.ue(3);
            w.ue(0);
        }
        w.ue(self.log2_min_cb - 3);
        w.ue(self.log2_ctb - self.log2_min_cb);
        w.ue(0);
        w.ue(3);
        w.ue(1);
        w.ue(2);
        w.flag(self.scaling.is_some());
        if let Some(data) = &self.scaling {
            w.flag(data.is_some());
            data.iter().for_each(|d| d.write(&mut w));
        }
        w.flag(true);
        w.flag(self.sao);
        w.flag(self.pcm);
        if self.pcm {
            w.u(4, 7);
            w.u(4, 7);
            w.ue(0);
            w.ue(2);
            w.flag(true);
        }
        w.ue(self.short_term.len() as u32);
        for (i, set) in self.short_term.iter().enumerate() {
            set.write(&mut w, i, false);
        }
        w.flag(self.long_term.is_some());
        if let Some(entries) = &self.long_term {
            w.ue(entries.len() as u32);
            for &(lsb, used) in entries {
                w.u(self.log2_max_poc_lsb.into(), lsb.into());
                w.flag(used);
            }
        }
        w.flag(self.temporal_mvp);
        w.flag(true);
        w.flag(self.vui.is_some());
        if let Some(vui) = &self.vui {
            vui.write(&mut w, self.sub_layers.len());
        }
        w.flag(self.extension.is_some());
        if let Some(bits) = self.extension {
            w.u(8, bits.into());
            w.u(16, 0xbeef);
        }
        nal(33, 0, 0, &w.rbsp())
    }
}

/// `pps_range_extension()`.
#[derive(Clone, Debug)]
pub struct RangeExtension {
    pub chroma_qp_offsets: Option<Vec<(i32, i32)>>,
    pub sao_scale: (u32, u32),
}

#[derive(Clone, Debug)]
pub struct PpsSpec {
    pub id: u8,
    pub sps_id: u8,
    pub dependent_slices: bool,
    pub output_flag_present: bool,
    pub extra_bits: u8,
    pub default_l0: u32,
    pub default_l1: u32,
    /// Makes the content differ and nothing else.
    pub init_qp: i32,
    pub transform_skip: bool,
    pub cu_qp_delta_depth: Option<u32>,
    /// Column widths and row heights; uniform where both are empty.
    pub tiles: Option<(u32, u32, bool)>,
    pub wavefront: bool,
    pub deblocking: Option<Option<(i32, i32)>>,
    pub scaling: Option<ScalingLists>,
    pub lists_modification: bool,
    pub range: Option<RangeExtension>,
    pub multilayer: bool,
    /// `pps_scc_extension_flag` with `pps_curr_pic_ref_enabled_flag`.
    pub screen_content: Option<bool>,
    /// `pps_extension_4bits`, where another one calls for extensions or this is not 0.
    pub more_extensions: u8,
}

impl Default for PpsSpec {
    fn default() -> Self {
        Self {
            id: 0,
            sps_id: 0,
            dependent_slices: false,
            output_flag_present: false,
            extra_bits: 0,
            default_l0: 1,
            default_l1: 1,
            init_qp: 0,
            transform_skip: false,
            cu_qp_delta_depth: None,
            tiles: None,
            wavefront: false,
            deblocking: None,
            scaling: None,
            lists_modification: false,
            range: None,
            multilayer: false,
            screen_content: None,
            more_extensions: 0,
        }
    }
}

impl PpsSpec {
    pub fn nal(&self) -> Vec<u8> {
        let mut w = BitWriter::default();
        w.ue(self.id.into());
        w.ue(self.sps_id.into());
        w.flag(self.dependent_slices);
        w.flag(self.output_flag_present);
        w.u(3, self.extra_bits.into());
        w.flag(true);
        w.flag(false);
        w.ue(self.default_l0 - 1);
        w.ue(self.default_l1 - 1);
        w.se(self.init_qp);
        w.flag(false);
        w.flag(self.transform_skip);
        w.flag(self.cu_qp_delta_depth.is_some());
        self.cu_qp_delta_depth.iter().for_each(|&d| w.ue(d));
        w.se(-3);
        w.se(4);
        w.flag(false);
        w.flag(true);
        w.flag(false);
        w.flag(false);
        w.flag(self.tiles.is_some());
        w.flag(self.wavefront);
        if let Some((columns, rows, uniform)) = self.tiles {
            w.ue(columns);
            w.ue(rows);
            w.flag(uniform);
            if !uniform {
                (0..columns + rows).for_each(|i| w.ue(i));
            }
            w.flag(true);
        }
        w.flag(true);
        w.flag(self.deblocking.is_some());
        if let Some(offsets) = self.deblocking {
            w.flag(true);
            w.flag(offsets.is_none());
            if let Some((beta, tc)) = offsets {
                w.se(beta);
                w.se(tc);
            }
        }
        w.flag(self.scaling.is_some());
        self.scaling.iter().for_each(|s| s.write(&mut w));
        w.flag(self.lists_modification);
        w.ue(2);
        w.flag(false);
        let extended = self.range.is_some()
            || self.multilayer
            || self.screen_content.is_some()
            || self.more_extensions != 0;
        w.flag(extended);
        if extended {
            w.flag(self.range.is_some());
            w.flag(self.multilayer);
            w.flag(false);
            w.flag(self.screen_content.is_some());
            w.u(4, self.more_extensions.into());
            if let Some(range) = &self.range {
                if self.transform_skip {
                    w.ue(3);
                }
                w.flag(false);
                w.flag(range.chroma_qp_offsets.is_some());
                if let Some(offsets) = &range.chroma_qp_offsets {
                    w.ue(1);
                    w.ue(offsets.len() as u32 - 1);
                    for &(cb, cr) in offsets {
                        w.se(cb);
                        w.se(cr);
                    }
                }
                w.ue(range.sao_scale.0);
                w.ue(range.sao_scale.1);
            }
            if self.multilayer {
                w.u(7, 0);
            }
            if let Some(curr_pic_ref) = self.screen_content {
                w.flag(curr_pic_ref);
                w.u(2, 0);
            }
        }
        nal(34, 0, 0, &w.rbsp())
    }
}
