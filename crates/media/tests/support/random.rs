//! Parameter sets and slices of any shape, drawn from a tape.

use media::h265::rps::{RpsEntry, ShortTermRps};
use media::h265::slice::SliceType;
use media::h265::sps::ProfileTierLevel;

use super::sets::{PpsSpec, RangeExtension, RpsCoding, ScalingLists, SpsSpec, VuiSpec};
use super::slice::{Lt, ShortTerm, SliceSpec};
use super::tape::Tape;

pub fn plain_set(t: &mut Tape) -> ShortTermRps {
    let mut half = |sign: i32| -> Vec<RpsEntry> {
        let mut delta_poc = 0;
        (0..t.below(6))
            .map(|_| {
                let step = if t.one_in(20) { 32768 } else { 1 + t.below(9) };
                delta_poc += sign * step as i32;
                RpsEntry {
                    delta_poc,
                    used: t.flag(),
                }
            })
            .collect()
    };
    ShortTermRps {
        negative: half(-1),
        positive: half(1),
    }
}

/// A coding of any set: a prediction keeps and shifts what it likes.
pub fn rps(t: &mut Tape, earlier: &[ShortTermRps], in_slice: bool) -> RpsCoding {
    if earlier.is_empty() || t.flag() {
        return RpsCoding::Explicit(plain_set(t));
    }
    let back = if in_slice {
        1 + t.below(earlier.len() as u32) as usize
    } else {
        1
    };
    let reference = &earlier[earlier.len() - back];
    let count = reference.negative.len() + reference.positive.len();
    let mut delta_rps = t.range(-9, 9);
    if delta_rps == 0 {
        delta_rps = 1 + t.below(32768) as i32;
    }
    let flags = (0..=count).map(|_| (t.flag(), t.flag())).collect();
    RpsCoding::Predicted {
        back,
        delta_rps,
        flags,
    }
}

fn scaling_lists(t: &mut Tape) -> ScalingLists {
    let lists = 1 + t.below(7);
    let list = |t: &mut Tape| {
        if t.flag() {
            Ok(t.below(2))
        } else {
            Err(t.range(-7, 60))
        }
    };
    ScalingLists((0..lists).map(|_| list(t)).collect())
}

fn vui(t: &mut Tape) -> VuiSpec {
    VuiSpec {
        aspect: t.flag().then(|| {
            let idc = *t.pick(&[1, 4, 16, 255, 0]);
            (idc, 1 + t.below(300) as u16, 1 + t.below(300) as u16)
        }),
        overscan: t.flag().then(|| t.flag()),
        signal: t.flag().then(|| {
            let colour = t
                .flag()
                .then(|| [t.word() as u8, t.word() as u8, t.word() as u8]);
            (t.flag(), colour)
        }),
        chroma_location: t.flag().then(|| (t.below(6), t.below(6))),
        field_seq: t.one_in(3),
        display_window: t.one_in(3).then(|| [t.below(9), 1, 2, 3]),
        timing: t.flag().then(|| (1 + t.below(1001), t.word().max(1))),
        hrd: t.flag(),
        bitstream_restriction: t.flag(),
    }
}

pub fn sps(t: &mut Tape) -> SpsSpec {
    let chroma_format_idc = t.below(4) as u8;
    let log2_max_poc_lsb = t.range(4, 16) as u8;
    let log2_min_cb = 3 + t.below(2);
    let mut spec = SpsSpec {
        vps_id: t.below(16) as u8,
        id: t.below(16) as u8,
        profile: ProfileTierLevel {
            space: t.below(4) as u8,
            high_tier: t.flag(),
            profile: t.below(32) as u8,
            compatibility: t.word(),
            constraints: std::array::from_fn(|_| t.word() as u8),
            level: t.word() as u8,
        },
        sub_layers: (0..t.below(7)).map(|_| (t.flag(), t.flag())).collect(),
        chroma_format_idc,
        separate_colour_planes: chroma_format_idc == 3 && t.flag(),
        width: 8 * (2 + t.below(600)),
        height: 8 * (2 + t.below(400)),
        window: t.flag().then(|| std::array::from_fn(|_| t.below(4))),
        bit_depth_luma: 8 + t.below(9) as u8,
        bit_depth_chroma: 8 + t.below(9) as u8,
        log2_max_poc_lsb,
        ordering_of_all_sub_layers: t.flag(),
        log2_min_cb,
        log2_ctb: log2_min_cb.max(4) + t.below(3),
        scaling: t.flag().then(|| t.flag().then(|| scaling_lists(t))),
        sao: t.flag(),
        pcm: t.flag(),
        short_term: Vec::new(),
        long_term: t.flag().then(|| {
            let lsb = |t: &mut Tape| (t.below(1 << log2_max_poc_lsb), t.flag());
            (0..t.below(8)).map(|_| lsb(t)).collect()
        }),
        temporal_mvp: t.flag(),
        vui: t.flag().then(|| vui(t)),
        extension: t.one_in(4).then(|| t.word() as u8),
    };
    let count = *t.pick(&[0, 1, 2, 3, 8, 64]);
    let mut sets = Vec::new();
    for _ in 0..count {
        let mut coding = rps(t, &sets, false);
        let mut set = coding.derive(&sets);
        if set.negative.len().max(set.positive.len()) > 15 {
            set = ShortTermRps::default();
            coding = RpsCoding::Explicit(set.clone());
        }
        sets.push(set);
        spec.short_term.push(coding);
    }
    spec
}

pub fn pps(t: &mut Tape, sps_id: u8) -> PpsSpec {
    PpsSpec {
        id: t.below(64) as u8,
        sps_id,
        dependent_slices: t.flag(),
        output_flag_present: t.flag(),
        extra_bits: t.below(8) as u8,
        default_l0: 1 + t.below(15),
        default_l1: 1 + t.below(15),
        init_qp: t.range(-26, 25),
        transform_skip: t.flag(),
        cu_qp_delta_depth: t.flag().then(|| t.below(4)),
        tiles: t.flag().then(|| (t.below(20), 1 + t.below(20), t.flag())),
        wavefront: t.flag(),
        deblocking: t
            .flag()
            .then(|| t.flag().then(|| (t.range(-6, 6), t.range(-6, 6)))),
        scaling: t.flag().then(|| scaling_lists(t)),
        lists_modification: t.flag(),
        range: t.flag().then(|| RangeExtension {
            chroma_qp_offsets: t
                .flag()
                .then(|| (0..=t.below(6)).map(|i| (i as i32 - 3, 3)).collect()),
            sao_scale: (t.below(3), t.below(3)),
        }),
        multilayer: t.one_in(6),
        screen_content: t.one_in(3).then(|| t.flag()),
        more_extensions: if t.one_in(5) { t.below(16) as u8 } else { 0 },
    }
}

/// A slice against its sets; `pps` must not call for references that are not known.
pub fn slice(t: &mut Tape, sps: &SpsSpec, pps: &PpsSpec) -> SliceSpec {
    let nal_type = *t.pick(&[1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 18, 19, 20, 21]);
    let irap = nal_type >= 16;
    let address = if sps.ctb_count() > 1 && t.flag() {
        1 + t.below(sps.ctb_count() - 1)
    } else {
        0
    };
    let slice_type = match t.below(3) {
        _ if irap => SliceType::I,
        0 => SliceType::B,
        1 => SliceType::P,
        _ => SliceType::I,
    };
    let idr = matches!(nal_type, 19 | 20);
    let max_lsb = 1u32 << sps.log2_max_poc_lsb;
    let sets = sps.sets();
    let mut spec = SliceSpec {
        nal_type,
        temporal_id: t.below(7) as u8,
        address,
        dependent: address != 0 && pps.dependent_slices && t.one_in(3),
        slice_type,
        output: !pps.output_flag_present || t.flag(),
        data: t.below(40) as usize,
        ..SliceSpec::default()
    };
    if !idr {
        spec.poc_lsb = t.below(max_lsb);
        spec.short_term = if !sets.is_empty() && t.flag() {
            ShortTerm::Sps(t.below(sets.len() as u32) as usize)
        } else {
            ShortTerm::Own(rps(t, &sets, true))
        };
        if let Some(in_sps) = &sps.long_term {
            let coded = |t: &mut Tape| t.flag().then(|| t.below(40));
            if !in_sps.is_empty() {
                for _ in 0..t.below(1 + in_sps.len() as u32).min(4) {
                    spec.long_term.push(Lt {
                        from: Ok(t.below(in_sps.len() as u32)),
                        coded_cycle: coded(t),
                    });
                }
            }
            for _ in 0..t.below(5) {
                spec.long_term.push(Lt {
                    from: Err((t.below(max_lsb), t.flag())),
                    coded_cycle: coded(t),
                });
            }
        }
    }
    if slice_type != SliceType::I {
        spec.num_ref_idx = t.flag().then(|| (1 + t.below(15), 1 + t.below(15)));
        let (l0, l1) = spec.active(pps);
        let total = spec.total_curr(sps);
        if pps.lists_modification && total > 1 {
            for (list, active) in spec.lists.iter_mut().zip([l0, l1]) {
                if active > 0 && t.flag() {
                    *list = Some((0..active).map(|_| t.below(total)).collect());
                }
            }
        }
    }
    spec
}
