//! H.265 headers: what a writer of its own puts in is what the parser gets out, and no bytes
//! make the parser panic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use bytes::Bytes;
use media::h265::bits::HeaderError;
use media::h265::nal::{self, NalHeader, NalType};
use media::h265::rps::{RpsEntry, ShortTermRps};
use media::h265::slice::{LongTermEntry, SliceType};
use media::h265::sps::Vui;
use media::h265::{ParameterSets, Pps, SliceHeader, Sps};
use media::index::Framing;
use proptest::prelude::*;
use support::sets::RangeExtension;
use support::{Lt, PpsSpec, RpsCoding, ShortTerm, SliceSpec, SpsSpec, Tape, random};

fn tape(most: usize) -> impl Strategy<Value = Tape> {
    prop::collection::vec(any::<u32>(), 0..most).prop_map(Tape::new)
}

const ASPECTS: [(u8, (u32, u32)); 3] = [(1, (1, 1)), (4, (16, 11)), (16, (2, 1))];

fn expected_vui(spec: &SpsSpec) -> Vui {
    let mut vui = Vui::default();
    let Some(v) = &spec.vui else { return vui };
    vui.sample_aspect = v.aspect.and_then(|(idc, w, h)| match idc {
        255 => Some((w.into(), h.into())),
        _ => ASPECTS.iter().find(|a| a.0 == idc).map(|a| a.1),
    });
    if let Some((full_range, colour)) = v.signal {
        vui.colour.full_range = Some(full_range);
        if let Some([primaries, transfer, matrix]) = colour {
            vui.colour.primaries = primaries;
            vui.colour.transfer = transfer;
            vui.colour.matrix = matrix;
        }
    }
    vui.field_seq = v.field_seq;
    vui.timing = v.timing;
    vui
}

fn sps_as_written(spec: &SpsSpec) -> Sps {
    let (x, y) = match spec.chroma_format_idc {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let [left, right, top, bottom] = spec.window.unwrap_or_default();
    Sps {
        id: spec.id,
        profile: spec.profile,
        chroma_format_idc: spec.chroma_format_idc,
        separate_colour_planes: spec.separate_colour_planes,
        coded_width: spec.width,
        coded_height: spec.height,
        crop: [left * x, right * x, top * y, bottom * y],
        bit_depth_luma: spec.bit_depth_luma,
        bit_depth_chroma: spec.bit_depth_chroma,
        log2_max_poc_lsb: spec.log2_max_poc_lsb,
        ctb_count: spec.ctb_count(),
        ctb_rows: spec.ctb_rows(),
        sample_adaptive_offset: spec.sao,
        short_term_sets: spec.sets(),
        long_term_present: spec.long_term.is_some(),
        long_term_sps: spec.long_term.clone().unwrap_or_default(),
        temporal_mvp: spec.temporal_mvp,
        vui: expected_vui(spec),
    }
}

fn pps_as_written(spec: &PpsSpec) -> Pps {
    Pps {
        id: spec.id,
        sps_id: spec.sps_id,
        dependent_slice_segments: spec.dependent_slices,
        output_flag_present: spec.output_flag_present,
        extra_slice_header_bits: spec.extra_bits,
        default_active_l0: spec.default_l0 as u8,
        default_active_l1: spec.default_l1 as u8,
        wavefront: spec.wavefront,
        tiles: spec.tiles.is_some(),
        lists_modification: spec.lists_modification,
        unknown_references: spec.multilayer || spec.screen_content == Some(true),
    }
}

fn long_term_as_written(spec: &SliceSpec, sps: &SpsSpec) -> Vec<LongTermEntry> {
    let from_sps = spec.long_term.iter().filter(|l| l.from.is_ok()).count();
    let mut cycles: Vec<u32> = Vec::new();
    for (i, lt) in spec.long_term.iter().enumerate() {
        // 7-52.
        let coded = lt.coded_cycle.unwrap_or(0);
        let before = if i == 0 || i == from_sps {
            0
        } else {
            cycles[i - 1]
        };
        cycles.push(coded + before);
    }
    let entries = spec.long_term.iter().zip(cycles);
    entries
        .map(|(lt, cycle)| {
            let (poc_lsb, used) = match lt.from {
                Ok(i) => sps.long_term.as_ref().unwrap()[i as usize],
                Err(own) => own,
            };
            LongTermEntry {
                poc_lsb,
                used,
                delta_msb_cycle: lt.coded_cycle.map(|_| cycle),
            }
        })
        .collect()
}

fn sets_of(sps: &SpsSpec, pps: &PpsSpec) -> ParameterSets {
    let mut sets = ParameterSets::default();
    assert_eq!(sets.push(&sps.nal().into()), Ok(true));
    assert_eq!(sets.push(&pps.nal().into()), Ok(true));
    sets
}

fn check_slice(spec: &SliceSpec, sps: &SpsSpec, pps: &PpsSpec) {
    let sets = sets_of(sps, pps);
    let nal = spec.nal(sps, pps);
    let header = NalHeader::parse(&nal).unwrap();
    assert_eq!(header.nal_type, NalType(spec.nal_type));
    assert_eq!((header.layer_id, header.temporal_id), (0, spec.temporal_id));
    let got = SliceHeader::parse(&nal, header.nal_type, &sets).unwrap();
    assert_eq!(got.first_in_picture, spec.address == 0);
    assert_eq!(*got.pps, pps_as_written(pps));
    assert_eq!(*got.sps, sps_as_written(sps));
    assert_eq!(got.independent.is_none(), spec.dependent);
    let Some(part) = got.independent else { return };
    assert_eq!(part.slice_type, spec.slice_type);
    assert_eq!(part.output, spec.output);
    assert_eq!(part.poc_lsb, spec.poc_lsb);
    assert_eq!(part.short_term, spec.short_term_set(sps));
    assert_eq!(part.long_term, long_term_as_written(spec, sps));
    assert_eq!(part.used_entries(), spec.total_curr(sps));
    let (l0, l1) = spec.active(pps);
    assert_eq!((part.list0.active, part.list1.active), (l0, l1));
    assert_eq!(part.list0.entries, spec.lists[0]);
    assert_eq!(part.list1.entries, spec.lists[1]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn an_sps_comes_out_as_it_went_in(mut t in tape(900)) {
        let spec = random::sps(&mut t);
        prop_assert_eq!(Sps::parse(&spec.nal()), Ok(sps_as_written(&spec)));
    }

    #[test]
    fn a_pps_comes_out_as_it_went_in(mut t in tape(80)) {
        let sps_id = t.below(16) as u8;
        let spec = random::pps(&mut t, sps_id);
        prop_assert_eq!(Pps::parse(&spec.nal()), Ok(pps_as_written(&spec)));
    }

    #[test]
    fn a_slice_comes_out_as_it_went_in(mut t in tape(1200)) {
        let sps = random::sps(&mut t);
        let pps = random::pps(&mut t, sps.id);
        check_slice(&random::slice(&mut t, &sps, &pps), &sps, &pps);
    }

    /// What a set says does not depend on how it is coded.
    #[test]
    fn a_predicted_set_is_the_set_that_was_meant(mut t in tape(100)) {
        let earlier: Vec<_> = (0..1 + t.below(4)).map(|_| random::plain_set(&mut t)).collect();
        let wanted = random::plain_set(&mut t);
        let back = 1 + t.below(earlier.len() as u32) as usize;
        let Some(coding) = RpsCoding::predict(&wanted, &earlier, back) else {
            return Ok(());
        };
        let sps = SpsSpec {
            short_term: earlier.into_iter().map(RpsCoding::Explicit).collect(),
            ..SpsSpec::default()
        };
        let slice = SliceSpec { short_term: ShortTerm::Own(coding), ..SliceSpec::default() };
        check_slice(&slice, &sps, &PpsSpec::default());
        prop_assert_eq!(slice.short_term_set(&sps), wanted);
    }

    /// A header that is cut anywhere is an error, or (behind what is read of it) the same.
    #[test]
    fn a_cut_header_is_told(mut t in tape(300), cut in 0usize..200) {
        let sps = random::sps(&mut t);
        let pps = random::pps(&mut t, sps.id);
        let sets = sets_of(&sps, &pps);
        let (sps_nal, pps_nal) = (sps.nal(), pps.nal());
        let slice = random::slice(&mut t, &sps, &pps);
        let slice_nal = slice.nal(&sps, &pps);
        let short = |n: &[u8]| n[..cut.min(n.len())].to_vec();
        if let Ok(got) = Sps::parse(&short(&sps_nal)) {
            let mut whole = sps_as_written(&sps);
            // Colours and times are given up first.
            whole.vui = got.vui.clone();
            prop_assert_eq!(got, whole);
        }
        if let Ok(got) = Pps::parse(&short(&pps_nal)) {
            prop_assert_eq!(got, pps_as_written(&pps));
        }
        let nal_type = NalType(slice.nal_type);
        if let Ok(got) = SliceHeader::parse(&short(&slice_nal), nal_type, &sets) {
            prop_assert_eq!(Ok(got), SliceHeader::parse(&slice_nal, nal_type, &sets));
        }
    }

    /// One flipped bit gives some answer, quickly.
    #[test]
    fn a_flipped_bit_is_survived(mut t in tape(600), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let sps = random::sps(&mut t);
        let pps = random::pps(&mut t, sps.id);
        let sets = sets_of(&sps, &pps);
        let slice = random::slice(&mut t, &sps, &pps);
        for nal in [sps.nal(), pps.nal(), slice.nal(&sps, &pps)] {
            let mut nal = nal;
            let at = at.index(nal.len());
            nal[at] ^= 1 << bit;
            parse_everything(&nal, &sets);
            let mut damaged = sets.clone();
            damaged.push(&nal.into()).ok();
            for nal_type in [1, 19, 21] {
                SliceHeader::parse(&slice.nal(&sps, &pps), NalType(nal_type), &damaged).ok();
            }
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400), mut t in tape(300)) {
        let sps = random::sps(&mut t);
        let pps = random::pps(&mut t, sps.id);
        parse_everything(&bytes, &sets_of(&sps, &pps));
    }

    /// Many zero bits are long codes; many one bits are short ones.
    #[test]
    fn runs_of_equal_bytes_are_survived(
        runs in prop::collection::vec((prop_oneof![Just(0u8), Just(0xff), Just(0x80), any::<u8>()], 1usize..60), 0..12),
    ) {
        let mut bytes = vec![0x42, 1];
        for (byte, times) in runs {
            bytes.extend(std::iter::repeat_n(byte, times));
        }
        parse_everything(&bytes, &sets_of(&SpsSpec::default(), &PpsSpec::default()));
    }

    /// Framing gives back what was framed, whatever it is.
    #[test]
    fn units_come_out_as_they_were_framed(
        nals in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 0..8),
        prefix in prop_oneof![Just(1u8), Just(2), Just(4)],
        codes in prop::collection::vec((any::<bool>(), 0usize..4), 8),
    ) {
        let mut framed = Vec::new();
        for nal in &nals {
            let length = (nal.len() as u32).to_be_bytes();
            framed.extend(&length[4 - usize::from(prefix)..]);
            framed.extend(nal);
        }
        let got: Result<Vec<&[u8]>, _> = nal::units(&framed, Framing::LengthPrefixed(prefix)).collect();
        prop_assert_eq!(got.unwrap(), nals.iter().map(Vec::as_slice).collect::<Vec<_>>());

        let escaped: Vec<Vec<u8>> = nals.iter().map(|n| support::nal(1, 0, 0, n)).collect();
        let mut stream = Vec::new();
        for (nal, &(long, trailing)) in escaped.iter().zip(&codes) {
            stream.extend(if long { &[0, 0, 0, 1][..] } else { &[0, 0, 1] });
            stream.extend(nal);
            stream.extend(std::iter::repeat_n(0, trailing));
        }
        let got: Result<Vec<&[u8]>, _> = nal::units(&stream, Framing::StartCodes).collect();
        prop_assert_eq!(got.unwrap(), escaped.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }
}

fn parse_everything(bytes: &[u8], sets: &ParameterSets) {
    Sps::parse(bytes).ok();
    Pps::parse(bytes).ok();
    NalHeader::parse(bytes);
    for nal_type in 0..64 {
        SliceHeader::parse(bytes, NalType(nal_type), sets).ok();
    }
    for framing in [1, 2, 3, 4, 8, 255]
        .map(Framing::LengthPrefixed)
        .into_iter()
        .chain([Framing::StartCodes])
    {
        let count = nal::units(bytes, framing).count();
        assert!(count <= bytes.len() + 1);
    }
}

fn entries(half: &[(i32, bool)]) -> Vec<RpsEntry> {
    let entry = |&(delta_poc, used): &(i32, bool)| RpsEntry { delta_poc, used };
    half.iter().map(entry).collect()
}

/// The random-access configuration of the reference encoder: sets as its encoder log has them.
#[test]
fn a_chain_of_predicted_sets() {
    let set = |n: &[(i32, bool)], p: &[(i32, bool)]| ShortTermRps {
        negative: entries(n),
        positive: entries(p),
    };
    let wanted = [
        set(&[(-8, true), (-10, true), (-12, true), (-16, true)], &[]),
        set(&[(-4, true), (-6, true)], &[(4, true)]),
        set(&[(-2, true), (-4, true)], &[(2, true), (6, true)]),
        set(&[(-1, true)], &[(1, true), (3, true), (7, true)]),
    ];
    let mut coded: Vec<RpsCoding> = vec![RpsCoding::Explicit(wanted[0].clone())];
    for i in 1..wanted.len() {
        coded.push(RpsCoding::predict(&wanted[i], &wanted[..i], 1).expect("can be predicted"));
    }
    let sps = SpsSpec {
        short_term: coded,
        ..SpsSpec::default()
    };
    assert_eq!(Sps::parse(&sps.nal()).unwrap().short_term_sets, wanted);
}

#[test]
fn every_kind_of_extension_of_a_pps() {
    let with = |change: fn(&mut PpsSpec)| {
        let mut spec = PpsSpec::default();
        change(&mut spec);
        Pps::parse(&spec.nal()).unwrap().unknown_references
    };
    assert!(!with(|_| ()));
    assert!(!with(|p| p.range = Some(RangeExtension {
        chroma_qp_offsets: Some(vec![(-12, 12); 6]),
        sao_scale: (2, 1),
    })));
    assert!(!with(|p| p.screen_content = Some(false)));
    assert!(with(|p| p.screen_content = Some(true)));
    assert!(with(|p| p.multilayer = true));
    assert!(!with(|p| p.more_extensions = 15));
}

/// A picture hours before the current one is named by a large `delta_poc_msb_cycle_lt`.
#[test]
fn a_long_term_picture_may_be_far_away() {
    let sps = SpsSpec {
        log2_max_poc_lsb: 4,
        long_term: Some(Vec::new()),
        ..SpsSpec::default()
    };
    let slice = SliceSpec {
        slice_type: SliceType::P,
        long_term: vec![Lt {
            from: Err((3, true)),
            coded_cycle: Some(2_000_000),
        }],
        ..SliceSpec::default()
    };
    check_slice(&slice, &sps, &PpsSpec::default());
}

#[test]
fn what_no_stream_may_say_is_told_by_name() {
    let (sps, pps) = (SpsSpec::default(), PpsSpec::default());
    let sets = sets_of(&sps, &pps);
    let slice = |spec: SliceSpec| {
        let nal = spec.nal(&sps, &pps);
        SliceHeader::parse(&nal, NalType(spec.nal_type), &sets)
            .unwrap_err()
            .to_string()
    };
    let text = slice(SliceSpec {
        nal_type: 21,
        slice_type: SliceType::P,
        ..SliceSpec::default()
    });
    assert_eq!(text, "slice_type: an IRAP picture with P or B slices");
    let text = slice(SliceSpec {
        address: 30,
        ..SliceSpec::default()
    });
    assert_eq!(text, "slice_segment_address: not inside the picture");
    let other = PpsSpec {
        id: 7,
        ..PpsSpec::default()
    };
    let nal = SliceSpec::default().nal(&sps, &other);
    assert_eq!(
        SliceHeader::parse(&nal, NalType(1), &sets),
        Err(HeaderError::MissingParameterSet { kind: "PPS", id: 7 })
    );
    let cropped = SpsSpec {
        window: Some([104, 104, 0, 0]),
        ..SpsSpec::default()
    };
    let text = Sps::parse(&cropped.nal()).unwrap_err().to_string();
    assert_eq!(text, "conformance_window: nothing is left of the picture");
}

fn stored(sets: &ParameterSets) -> Vec<Bytes> {
    sets.nals().cloned().collect()
}

/// libavcodec forgets the SPSs of a VPS whose content changes, and the PPSs of such an SPS: what
/// is kept for a decoder must be what it takes, in an order in which it takes it.
#[test]
fn what_hangs_on_a_new_vps_or_sps_has_to_be_said_again() {
    let vps = |marker| Bytes::from(support::vps(0, marker));
    let sps = |level| {
        let mut spec = SpsSpec::default();
        spec.profile.level = level;
        Bytes::from(spec.nal())
    };
    let pps = Bytes::from(PpsSpec::default().nal());
    let mut sets = ParameterSets::default();
    for nal in [&vps(0), &sps(93), &pps] {
        assert_eq!(sets.push(nal), Ok(true));
    }
    for nal in [&vps(0), &sps(93), &pps] {
        assert_eq!(sets.push(nal), Ok(false), "repeated, nothing changes");
    }
    assert_eq!(sets.push(&sps(120)), Ok(true));
    assert!(sets.lookup(0).is_err());
    assert_eq!(stored(&sets), [vps(0), sps(120)]);
    assert_eq!(sets.push(&pps), Ok(true));
    assert!(sets.lookup(0).is_ok());
    assert_eq!(sets.push(&vps(1)), Ok(true));
    assert!(sets.lookup(0).is_ok());
    assert_eq!(stored(&sets), [vps(1), sps(120), pps.clone()]);
    // A decoder has forgotten them: equal content is news, once.
    for changed in [true, false] {
        assert_eq!(sets.push(&sps(120)), Ok(changed));
        assert_eq!(sets.push(&pps), Ok(changed));
    }
    assert_eq!(stored(&sets), [vps(1), sps(120), pps]);
}

/// `hvcC` may list its arrays in any order; a decoder takes them in one order only.
#[test]
fn sets_of_a_sample_description_are_put_in_order() {
    let nals = [
        Bytes::from(support::vps(0, 0)),
        SpsSpec::default().nal().into(),
        PpsSpec::default().nal().into(),
    ];
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let sets = ParameterSets::from_nals(order.map(|i| &nals[i]));
        assert_eq!(stored(&sets), nals, "{order:?}");
        assert!(sets.lookup(0).is_ok());
    }
}

/// A set that replaces another one and cannot be read must not leave the old one in force: its
/// slices would be read by the wrong rules. A decoder may know better, and is given it.
#[test]
fn a_set_that_cannot_be_read_takes_the_old_one_out_of_force() {
    let sps = Bytes::from(SpsSpec::default().nal());
    let pps = Bytes::from(PpsSpec::default().nal());
    let odd = PpsSpec {
        default_l0: 16,
        ..PpsSpec::default()
    };
    let odd = Bytes::from(odd.nal());
    let mut sets = ParameterSets::from_nals([&sps, &pps]);
    assert!(sets.push(&odd).is_err());
    assert!(sets.lookup(0).is_err());
    assert_eq!(stored(&sets), [&sps, &pps, &odd]);
    // Repeated: nothing changes.
    assert!(!sets.push(&odd).unwrap_or(false));
    assert_eq!(stored(&sets).len(), 3);
    // Even the content of before is a change now.
    assert_eq!(sets.push(&pps), Ok(true));
    assert!(sets.lookup(0).is_ok());
    assert_eq!(stored(&sets), [&sps, &pps]);
}
