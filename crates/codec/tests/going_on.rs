//! A decoder goes on from where it stands, whatever is completed in between: pieces of a stream
//! give what the whole gives, and that is what ffmpeg's full decode gives.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod support;

use std::num::NonZero;
use std::path::PathBuf;

use codec::{HevcDecoder, Picture, Threading};
use support::{Random, access_units, assert_equals_oracle, hash, made, stream_file};

fn frames(n: usize) -> Threading {
    Threading::Frames(NonZero::new(n).unwrap())
}

fn slices(n: usize) -> Threading {
    Threading::Slices(NonZero::new(n).unwrap())
}

/// Decodes all access units, and completes what is in flight after each with a chance of one in
/// `one_in`. No picture changes after it was handed out.
fn in_pieces(
    decoder: &mut HevcDecoder,
    units: &[&[u8]],
    one_in: usize,
    random: &mut Random,
) -> Vec<Picture> {
    let mut out: Vec<(Picture, u128)> = Vec::new();
    let mut keep = |p: Picture| {
        let hash = hash(&p);
        out.push((p, hash));
    };
    for (id, unit) in units.iter().enumerate() {
        decoder.send(unit, id as i64, &mut keep).unwrap();
        for _ in 0..2 {
            if random.below(one_in) == 0 {
                decoder.finish(&mut keep).unwrap();
            }
        }
    }
    decoder.finish(&mut keep).unwrap();
    for (picture, then) in &out {
        assert!(hash(picture) == *then, "{} has changed", picture.id());
    }
    out.into_iter().map(|(picture, _)| picture).collect()
}

fn check(path: &PathBuf, threadings: &[Threading]) {
    let stream = std::fs::read(path).unwrap();
    let units = access_units(&stream);
    let mut random = Random(units.len() as u64);
    for &threading in threadings {
        let mut decoder = HevcDecoder::new(threading).unwrap();
        for one_in in [1, 3, 12] {
            let pictures = in_pieces(&mut decoder, &units, one_in, &mut random);
            assert_equals_oracle(path, &pictures);
            decoder.flush();
        }
    }
}

#[test]
fn pieces_are_the_whole_in_every_structure() {
    for recipe in [
        "default_gop",
        "open_gop_rasl",
        "closed_gop_radl",
        "low_delay_p",
        "b_frames_8",
        "b_frames_one_reference",
        "all_intra",
        "scene_cuts_open_gop",
        "weighted",
        "slices",
        "intra_refresh",
        "temporal_layers",
        "fields",
        "access_unit_delimiters",
        "tools_on",
        "bits_10",
        "chroma_422_bits_10",
        "chroma_444_bits_12",
        "gray",
        "cropped_left_and_top",
        "annexb_begins_with_cra",
        "annexb_joined",
    ] {
        println!("{recipe}");
        let all = [
            Threading::Single,
            frames(1),
            frames(2),
            frames(3),
            frames(6),
        ];
        check(&made(recipe), &all);
    }
}

#[test]
fn pieces_are_the_whole_with_slice_threads() {
    for recipe in ["wavefronts_without_sao", "tools_off"] {
        check(&made(recipe), &[slices(2), slices(4), frames(3)]);
    }
}

/// Where a sequence ends, POC is counted anew and a CRA picture has no leading pictures before it
/// that could be decoded (H.265, 8.1.3): that must not be forgotten over a packet without a
/// picture.
#[test]
fn ends_of_sequence_are_not_forgotten() {
    let stream = std::fs::read(made("open_gop_rasl")).unwrap();
    let units = access_units(&stream);
    let kind = |unit: &[u8]| {
        let slice = support::nal_starts(unit)
            .into_iter()
            .map(|nal| unit[nal.1] >> 1 & 0x3f)
            .find(|kind| *kind < 32);
        slice.unwrap()
    };
    let (cra, bla) = (21, 16);
    let cras: Vec<usize> = (1..units.len())
        .filter(|&i| kind(units[i]) == cra)
        .collect();
    assert!(cras.len() >= 2);
    // All but the RASL pictures, which lack what is before their CRA. (ffmpeg itself shows fewer: it
    // drops what waits for output when a sequence ends.)
    let mut expected = support::oracle(&made("open_gop_rasl"));
    expected.sort_by_key(|f| f.0);
    assert_eq!(expected.len(), units.len());
    expected.retain(|(at, _)| !matches!(kind(units[*at as usize]), 8 | 9));
    assert!(expected.len() < units.len());
    // Ends of sequence, of bitstream, both; before the next access unit's first NAL unit.
    let ends: [&[u8]; 3] = [
        &[0, 0, 1, 36 << 1, 1],
        &[0, 0, 0, 1, 37 << 1, 1],
        &[0, 0, 1, 36 << 1, 1, 0, 0, 1, 37 << 1, 1],
    ];
    let mut streams: Vec<Vec<u8>> = ends
        .iter()
        .map(|end| {
            let with_end = |(i, unit): (usize, &&[u8])| {
                let end = if cras.contains(&(i + 1)) { *end } else { &[] };
                [unit, end].concat()
            };
            units.iter().enumerate().flat_map(with_end).collect()
        })
        .collect();
    // The same by BLA pictures.
    streams.push(
        units
            .iter()
            .flat_map(|unit| {
                let mut unit = unit.to_vec();
                for (_, header) in support::nal_starts(&unit.clone()) {
                    if unit[header] >> 1 & 0x3f == cra {
                        unit[header] = bla << 1;
                    }
                }
                unit
            })
            .collect(),
    );
    let mut random = Random(21);
    for (which, stream) in streams.iter().enumerate() {
        let units = access_units(stream);
        for threading in [Threading::Single, frames(2), frames(3), frames(6)] {
            let mut decoder = HevcDecoder::new(threading).unwrap();
            for one_in in [1, 3, 12, 1000] {
                let pictures = in_pieces(&mut decoder, &units, one_in, &mut random);
                let ids = pictures.iter().map(Picture::id);
                assert!(
                    ids.eq(expected.iter().map(|f| f.0)),
                    "stream {which}, {threading:?}, {one_in}"
                );
                for (picture, (_, frame)) in pictures.iter().zip(&expected) {
                    assert!(hash(picture) == frame.hash, "stream {which}, {threading:?}");
                }
                decoder.flush();
            }
        }
    }
}

/// Size, sampling and depth change at an IDR picture.
#[test]
fn another_format_in_the_middle() {
    let parts = ["closed_gop", "bits_10", "even_size", "gray", "closed_gop"].map(made);
    let streams = parts.each_ref().map(|p| std::fs::read(p).unwrap());
    let mut units = Vec::new();
    let mut expected = Vec::new();
    for (path, stream) in parts.iter().zip(&streams) {
        let first = units.len() as i64;
        units.extend(access_units(stream));
        let mut frames = support::oracle(path);
        frames.sort_by_key(|f| f.0);
        expected.extend(frames.into_iter().map(|(at, frame)| (at + first, frame)));
    }
    let mut random = Random(5);
    for threading in [Threading::Single, frames(2), frames(3), frames(6)] {
        let mut decoder = HevcDecoder::new(threading).unwrap();
        for one_in in [1, 4, 1000] {
            let pictures = in_pieces(&mut decoder, &units, one_in, &mut random);
            assert_eq!(pictures.len(), expected.len());
            for (picture, (at, frame)) in pictures.iter().zip(&expected) {
                assert_eq!(picture.id(), *at);
                support::assert_equals("formats", picture, frame);
            }
        }
    }
}

/// A picture whose references were not sent comes out once, and what stands in for them never.
#[test]
fn stand_ins_for_missing_references_are_not_handed_out() {
    for recipe in ["low_delay_p", "bits_10", "default_gop"] {
        let stream = std::fs::read(made(recipe)).unwrap();
        let units = access_units(&stream);
        for threading in [Threading::Single, frames(2), frames(3)] {
            let mut decoder = HevcDecoder::new(threading).unwrap();
            let mut random = Random(9);
            for _ in 0..10 {
                decoder.flush();
                let sent: Vec<usize> = (0..units.len().min(40))
                    .filter(|&at| at == 0 || random.below(3) == 0)
                    .collect();
                let mut ids = Vec::new();
                for &at in &sent {
                    decoder
                        .send(units[at], at as i64, &mut |p| ids.push(p.id()))
                        .unwrap();
                }
                decoder.finish(&mut |p| ids.push(p.id())).unwrap();
                assert!(ids.iter().copied().eq(sent.iter().map(|&at| at as i64)));
            }
        }
    }
}

/// Pictures that are not for output (`pic_output_flag` 0) come out like others.
#[test]
fn pictures_that_are_not_for_output() {
    let path = made("no_wavefronts");
    let stream = std::fs::read(&path).unwrap();
    let units = access_units(&stream);
    let hidden = |at: usize| at % 3 == 1;
    let changed: Vec<Vec<u8>> = units
        .iter()
        .enumerate()
        .map(|(at, unit)| with_output_flag(unit, !hidden(at)))
        .collect();
    // ffmpeg shows the others, and these are what they were.
    let mut all = support::oracle(&path);
    all.sort_by_key(|f| f.0);
    let mut shown = support::oracle(&stream_file("output-flag", &changed.concat()));
    shown.sort_by_key(|f| f.0);
    let expected = all.iter().filter(|f| !hidden(f.0 as usize));
    assert!(
        shown
            .iter()
            .map(|f| f.1.hash)
            .eq(expected.map(|f| f.1.hash))
    );
    let changed: Vec<&[u8]> = changed.iter().map(Vec::as_slice).collect();
    let mut random = Random(3);
    for threading in [Threading::Single, frames(2), frames(3)] {
        let mut decoder = HevcDecoder::new(threading).unwrap();
        for one_in in [2, 1000] {
            let pictures = in_pieces(&mut decoder, &changed, one_in, &mut random);
            assert_equals_oracle(&path, &pictures);
        }
    }
}

/// The access unit with `output_flag_present_flag` 1 in its PPS (H.265, 7.3.2.3.1) and
/// `pic_output_flag` in its slice headers (7.3.6.1). Seven `slice_reserved_flag`s go with it, so
/// that what follows moves by a whole byte.
fn with_output_flag(unit: &[u8], output: bool) -> Vec<u8> {
    let starts = support::nal_starts(unit);
    let ends = starts.iter().skip(1).map(|n| n.0).chain([unit.len()]);
    let mut out = Vec::new();
    for (&(_, start), end) in starts.iter().zip(ends) {
        let nal = &unit[start..end];
        let kind = nal[0] >> 1 & 0x3f;
        let mut bits = Bits::of_nal(nal);
        match kind {
            34 => {
                let mut at = bits.skip_ue(0);
                at = bits.skip_ue(at);
                // Behind dependent_slice_segments_enabled_flag.
                assert!(!bits.0[at]);
                bits.0[at + 1] = true;
                bits.0[at + 2..at + 5].fill(true);
            }
            0..=31 => {
                assert!(bits.0[0], "one slice segment in a picture");
                let pps = if (16..=23).contains(&kind) { 2 } else { 1 };
                let reserved = bits.skip_ue(pps);
                bits.0.splice(reserved..reserved, [false; 7]);
                let flag = bits.skip_ue(reserved + 7);
                bits.0.insert(flag, output);
            }
            _ => {}
        }
        out.extend([0, 0, 0, 1]);
        out.extend(bits.to_nal(&nal[..2]));
    }
    out
}

/// A raw byte sequence payload, bit by bit.
struct Bits(Vec<bool>);

impl Bits {
    fn of_nal(nal: &[u8]) -> Self {
        let mut zeros = 0;
        let mut bits = Vec::new();
        for &byte in &nal[2..] {
            if zeros >= 2 && byte == 3 {
                zeros = 0;
                continue;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            bits.extend((0..8).rev().map(|i| byte >> i & 1 == 1));
        }
        Self(bits)
    }

    /// The place behind an Exp-Golomb code.
    fn skip_ue(&self, at: usize) -> usize {
        let zeros = self.0[at..].iter().take_while(|b| !**b).count();
        at + 2 * zeros + 1
    }

    fn to_nal(&self, header: &[u8]) -> Vec<u8> {
        let mut nal = header.to_vec();
        let mut zeros = 0;
        for byte in self.0.chunks(8) {
            let byte = byte.iter().fold(0u8, |v, b| v << 1 | u8::from(*b));
            if zeros >= 2 && byte <= 3 {
                nal.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            nal.push(byte);
        }
        nal
    }
}

/// Damage under frame threads: what comes out before the error is right, and the decoder is as new.
#[test]
fn damage_at_any_place() {
    let path = made("low_delay_p");
    let stream = std::fs::read(&path).unwrap();
    let units = access_units(&stream);
    let mut oracle = support::oracle(&path);
    oracle.sort_by_key(|f| f.0);
    let mut random = Random(77);
    for threading in [Threading::Single, frames(2), frames(4)] {
        let mut decoder = HevcDecoder::new(threading).unwrap();
        let mut errors = 0;
        for round in 0..30 {
            let broken = 1 + random.below(units.len() - 2);
            let mut bad = units[broken].to_vec();
            // Cut in the slice data.
            bad.truncate(bad.len() / 2);
            let mut out = Vec::new();
            let mut send_all = || -> Result<(), codec::CodecError> {
                for (id, unit) in units.iter().enumerate() {
                    let unit = if id == broken { &bad } else { *unit };
                    decoder.send(unit, id as i64, &mut |p| out.push(p))?;
                    if round % 3 == 0 {
                        decoder.finish(&mut |p| out.push(p))?;
                    }
                }
                decoder.finish(&mut |p| out.push(p))
            };
            if send_all().is_err() {
                errors += 1;
                // Every picture refers to the one before.
                assert_eq!(out.len(), broken);
                let mut more = 0;
                decoder.finish(&mut |_| more += 1).unwrap();
                assert_eq!(more, 0);
            }
            for (picture, (at, frame)) in out.iter().zip(&oracle).take(broken) {
                assert_eq!(picture.id(), *at);
                support::assert_equals("before damage", picture, frame);
            }
            decoder.flush();
        }
        println!("{threading:?}: {errors} of 30 noticed");
        assert!(errors > 0);
    }
}
