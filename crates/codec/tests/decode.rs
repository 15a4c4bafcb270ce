//! Decoded planes against those of the `ffmpeg` program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod support;

use std::num::NonZero;
use std::path::PathBuf;

use codec::{Chroma, CodecError, HevcDecoder, Threading};
use support::{access_units, assert_equals_oracle, clip, decode_all};

const SOURCE: &str = "testsrc2=size=416x240:rate=25:duration=1";

fn threadings() -> [Threading; 3] {
    let three = NonZero::new(3).unwrap();
    [
        Threading::Single,
        Threading::Slices(three),
        Threading::Frames(three),
    ]
}

/// x265 without sample adaptive offset: with it, slice threads are not exact.
fn without_sao(x265: &str) -> String {
    format!("no-sao=1:{x265}")
}

/// Decodes with every kind of threading, twice with each decoder, and compares with ffmpeg.
fn check(path: &PathBuf) -> Vec<codec::Picture> {
    let stream = std::fs::read(path).unwrap();
    let units = access_units(&stream);
    let mut last = Vec::new();
    for threading in threadings() {
        let mut decoder = HevcDecoder::new(threading).unwrap();
        for pass in 0..2 {
            let pictures = decode_all(&mut decoder, &units)
                .unwrap_or_else(|e| panic!("{threading:?} pass {pass}: {e}"));
            assert_equals_oracle(path, &pictures);
            last = pictures;
        }
    }
    last
}

#[test]
fn every_depth_and_subsampling() {
    let formats = [
        ("gray", Chroma::Mono, 8),
        ("gray10le", Chroma::Mono, 10),
        ("gray12le", Chroma::Mono, 12),
        ("yuv420p", Chroma::C420, 8),
        ("yuv420p10le", Chroma::C420, 10),
        ("yuv420p12le", Chroma::C420, 12),
        ("yuv422p", Chroma::C422, 8),
        ("yuv422p10le", Chroma::C422, 10),
        ("yuv422p12le", Chroma::C422, 12),
        ("yuv444p", Chroma::C444, 8),
        ("yuv444p10le", Chroma::C444, 10),
        ("yuv444p12le", Chroma::C444, 12),
    ];
    for (pix_fmt, chroma, depth) in formats {
        let path = clip(
            pix_fmt,
            &["-f", "lavfi", "-i", SOURCE],
            pix_fmt,
            &without_sao("keyint=12"),
        );
        let pictures = check(&path);
        let p = &pictures[0];
        assert_eq!(
            (p.width(), p.height(), p.chroma(), p.bit_depth()),
            (416, 240, chroma, depth)
        );
    }
}

#[test]
fn structures_are_decoded_alike_with_any_threading() {
    for (name, x265) in [
        ("wpp", "wpp=1:keyint=12"),
        ("no-wpp", "wpp=0:keyint=12"),
        ("slices", "slices=3:wpp=1:ctu=16:keyint=12"),
        ("pyramid", "bframes=8:b-pyramid=1:keyint=25"),
        (
            "open-gop",
            "open-gop=1:keyint=8:min-keyint=8:bframes=4:scenecut=0",
        ),
        ("low-delay", "bframes=0:keyint=12"),
    ] {
        let x265 = without_sao(x265);
        check(&clip(
            name,
            &["-f", "lavfi", "-i", SOURCE],
            "yuv420p",
            &x265,
        ));
    }
}

/// A conformance window that begins at an odd multiple of the chroma unit, away from any
/// alignment that a vector unit would like, and has odd sides where the format allows them.
#[test]
fn the_conformance_window_is_cut_out_exactly() {
    for (pix_fmt, step_x, step_y) in [
        ("yuv420p", 2, 2),
        ("yuv420p10le", 2, 2),
        ("yuv422p", 2, 1),
        ("yuv444p", 1, 1),
        ("gray", 1, 1),
    ] {
        let path = clip(
            pix_fmt,
            &["-f", "lavfi", "-i", SOURCE],
            pix_fmt,
            &without_sao("keyint=12"),
        );
        let (left, right) = (3 * step_x, 2 * step_x);
        let (top, bottom) = (5 * step_y, 4 * step_y);
        let cropped = support::with_window(&path, [left, right, top, bottom]);
        let from = path.to_str().unwrap();
        let (width, height) = (416 - left - right, 240 - top - bottom);
        let crop = format!("crop={width}:{height}:{left}:{top}:exact=1");
        let theirs = support::ffmpeg(&["-i", from, "-vf", &crop, "-f", "rawvideo", "-"]);
        let stream = std::fs::read(&cropped).unwrap();
        let shown: Vec<i64> = support::oracle(&cropped).iter().map(|f| f.0).collect();
        for threading in threadings() {
            let mut decoder = HevcDecoder::new(threading).unwrap();
            let pictures = decode_all(&mut decoder, &access_units(&stream)).unwrap();
            assert_eq!((pictures[0].width(), pictures[0].height()), (width, height));
            let mine = shown
                .iter()
                .flat_map(|&at| support::raw(&pictures[at as usize]));
            assert!(mine.eq(theirs.iter().copied()), "{pix_fmt} {threading:?}");
        }
    }
}

/// A size that is no multiple of the coding block: x265 codes more and says so.
#[test]
fn a_size_between_coding_blocks() {
    let source = "testsrc2=size=178x102:rate=25:duration=0.4";
    let pictures = check(&clip(
        "between",
        &["-f", "lavfi", "-i", source],
        "yuv420p",
        &without_sao("keyint=12"),
    ));
    assert_eq!((pictures[0].width(), pictures[0].height()), (178, 102));
}

fn default_clip() -> (PathBuf, Vec<u8>) {
    let path = clip(
        "yuv420p",
        &["-f", "lavfi", "-i", SOURCE],
        "yuv420p",
        &without_sao("keyint=12"),
    );
    let stream = std::fs::read(&path).unwrap();
    (path, stream)
}

/// Pictures come out when they are decoded, not when they are due.
#[test]
fn pictures_come_in_the_order_of_their_access_units() {
    let (path, stream) = default_clip();
    let units = access_units(&stream);
    let shown: Vec<i64> = support::oracle(&path).iter().map(|f| f.0).collect();
    assert!(!shown.is_sorted(), "the clip has B-pictures");
    for threading in threadings() {
        let delay = match threading {
            Threading::Frames(n) => n.get() - 1,
            _ => 0,
        };
        let mut decoder = HevcDecoder::new(threading).unwrap();
        let mut ids = Vec::new();
        for (id, unit) in units.iter().enumerate() {
            decoder
                .send(unit, id as i64, &mut |p| ids.push(p.id()))
                .unwrap();
            assert_eq!(ids.len(), (id + 1).saturating_sub(delay), "{threading:?}");
        }
        decoder.finish(&mut |p| ids.push(p.id())).unwrap();
        assert!(ids.iter().copied().eq(0..units.len() as i64));
    }
}

/// An identity is the caller's; nothing is read into it.
#[test]
fn any_identities() {
    let (path, stream) = default_clip();
    let units = access_units(&stream);
    let mut oracle = support::oracle(&path);
    oracle.sort_by_key(|f| f.0);
    let ids = [i64::MAX, 7, 7, -1, 0, i64::MIN + 1, i64::MIN, 7];
    for threading in threadings() {
        let mut decoder = HevcDecoder::new(threading).unwrap();
        let mut out = Vec::new();
        for (unit, id) in units.iter().zip(ids) {
            decoder.send(unit, id, &mut |p| out.push(p)).unwrap();
        }
        decoder.finish(&mut |p| out.push(p)).unwrap();
        assert!(out.iter().map(codec::Picture::id).eq(ids));
        for (picture, (_, frame)) in out.iter().zip(&oracle) {
            support::assert_equals("any identity", picture, frame);
        }
    }
}

#[test]
fn pictures_outlive_their_decoder() {
    let (path, stream) = default_clip();
    for threading in threadings() {
        let mut decoder = HevcDecoder::new(threading).unwrap();
        let pictures = decode_all(&mut decoder, &access_units(&stream)).unwrap();
        drop(decoder);
        let shared = pictures.clone();
        drop(pictures);
        let path = path.clone();
        std::thread::spawn(move || assert_equals_oracle(&path, &shared))
            .join()
            .unwrap();
    }
}

/// Byte patterns that are no access unit, and broken ones.
fn garbage(unit: &[u8]) -> Vec<Vec<u8>> {
    let mut out = vec![
        vec![0],
        vec![0; 5000],
        vec![0xff; 5000],
        vec![0, 0, 1],
        vec![0, 0, 0, 1, 0x26, 0x01],
        // Slice NAL unit with no parameter sets.
        [&[0, 0, 0, 1, 0x26, 0x01][..], &[0xaf; 200]].concat(),
        // Lengths in place of start codes.
        [&[0, 0, 0, 200][..], &unit[4..]].concat(),
    ];
    // Bytes changed in one place or in many, by a fixed recipe.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize
    };
    for round in 0..200 {
        let mut bad = unit.to_vec();
        for _ in 0..=round % 20 {
            let at = random() % bad.len();
            bad[at] = random() as u8;
        }
        if round % 3 == 0 {
            bad.truncate(random() % bad.len() + 1);
        }
        out.push(bad);
    }
    out
}

#[test]
fn garbage_is_refused_or_survived_and_leaves_the_decoder_as_new() {
    let (path, stream) = default_clip();
    let units = access_units(&stream);
    for threading in threadings() {
        let mut decoder = HevcDecoder::new(threading).unwrap();
        let mut refused = 0;
        for (i, bad) in garbage(units[0]).iter().enumerate() {
            let sent = decoder.send(bad, i as i64, &mut drop);
            let next = decoder.send(units[1], 1000, &mut drop);
            let finished = decoder.finish(&mut drop);
            decoder.flush();
            refused += usize::from(sent.is_err() || next.is_err() || finished.is_err());
            if i % 50 == 0 {
                let pictures = decode_all(&mut decoder, &units)
                    .unwrap_or_else(|e| panic!("{threading:?}, after {i}: {e}"));
                assert_equals_oracle(&path, &pictures);
            }
        }
        println!(
            "{threading:?}: {refused} of {} refused",
            garbage(units[0]).len()
        );
        assert!(refused > 20);
        let pictures = decode_all(&mut decoder, &units).unwrap();
        assert_equals_oracle(&path, &pictures);
    }
}

#[test]
fn an_empty_access_unit_is_refused_and_the_decoder_begins_anew() {
    let (path, stream) = default_clip();
    let units = access_units(&stream);
    for threading in threadings() {
        let mut decoder = HevcDecoder::new(threading).unwrap();
        for (id, unit) in units.iter().take(5).enumerate() {
            decoder.send(unit, id as i64, &mut drop).unwrap();
        }
        let mut out = 0;
        let empty = decoder.send(&[], 99, &mut |_| out += 1);
        assert_eq!(empty, Err(CodecError::AccessUnitSize { bytes: 0 }));
        decoder.finish(&mut |_| out += 1).unwrap();
        assert_eq!(out, 0);
        assert_equals_oracle(&path, &decode_all(&mut decoder, &units).unwrap());
    }
}

/// A slice that names a picture parameter set that is not there.
fn bad_slice() -> Vec<u8> {
    [&[0, 0, 0, 1, 0x02, 0x01][..], &[0x80 | 0x40 | 0x01; 60]].concat()
}

#[test]
fn what_was_complete_before_an_error_is_out_by_then_and_nothing_comes_after_it() {
    let (path, stream) = default_clip();
    let units = access_units(&stream);
    let mut oracle = support::oracle(&path);
    oracle.sort_by_key(|f| f.0);
    for threading in threadings() {
        let mut decoder = HevcDecoder::new(threading).unwrap();
        let mut out = Vec::new();
        let mut error = None;
        for (id, unit) in units.iter().take(8).enumerate() {
            decoder.send(unit, id as i64, &mut |p| out.push(p)).unwrap();
        }
        let before = out.len();
        // With frame threads, the error shows when its turn has come.
        let bad = bad_slice();
        for (id, unit) in [&bad, units[8], units[9], units[10]]
            .into_iter()
            .enumerate()
        {
            let sent = decoder.send(unit, 77 + id as i64, &mut |p| out.push(p));
            if let Err(e) = sent {
                error = Some(e);
                break;
            }
        }
        let (error, came) = (error.unwrap(), out.len());
        decoder.finish(&mut |p| out.push(p)).unwrap();
        assert_eq!(out.len(), came, "{threading:?}: after the error");
        match threading {
            Threading::Frames(_) => {
                assert!(matches!(error, CodecError::Decode { id: None, .. }));
            }
            _ => {
                assert!(matches!(error, CodecError::Decode { id: Some(77), .. }));
                assert!(error.to_string().contains("77"));
                assert_eq!(before, 8);
            }
        }
        assert_eq!(out.len(), 8);
        for (picture, (unit, frame)) in out.iter().zip(&oracle) {
            assert_eq!(picture.id(), *unit);
            support::assert_equals("before an error", picture, frame);
        }
        // The next send starts anew.
        assert_equals_oracle(&path, &decode_all(&mut decoder, &units).unwrap());
    }
}

#[test]
fn a_flush_in_the_middle_forgets_everything() {
    let (path, stream) = default_clip();
    let units = access_units(&stream);
    for threading in threadings() {
        let mut decoder = HevcDecoder::new(threading).unwrap();
        for stop in [1, 5, 13] {
            for (id, unit) in units.iter().take(stop).enumerate() {
                decoder.send(unit, id as i64, &mut drop).unwrap();
            }
            decoder.flush();
            let mut left = 0;
            decoder.finish(&mut |_| left += 1).unwrap();
            assert_eq!(left, 0);
            assert_equals_oracle(&path, &decode_all(&mut decoder, &units).unwrap());
        }
    }
}

#[test]
fn pictures_beyond_the_limit_are_refused() {
    let (path, stream) = default_clip();
    let units = access_units(&stream);
    for threading in threadings() {
        let mut decoder = HevcDecoder::new(threading).unwrap();
        decoder.set_max_pixels(416 * 240 - 1).unwrap();
        assert!(decode_all(&mut decoder, &units).is_err(), "{threading:?}");
        decoder.set_max_pixels(8192 * 8192).unwrap();
        assert_equals_oracle(&path, &decode_all(&mut decoder, &units).unwrap());
    }
}

/// Slice data that end early are concealed by libavcodec, unless the stream carries hashes.
#[test]
fn a_picture_that_is_not_what_its_hash_says_is_refused() {
    let path = clip(
        "hashed",
        &["-f", "lavfi", "-i", SOURCE],
        "yuv420p",
        "keyint=12:hash=1:wpp=0:no-sao=1",
    );
    check(&path);
    let stream = std::fs::read(&path).unwrap();
    let units = access_units(&stream);
    // The hash follows the slices: cut inside the slice, before its start code.
    let hash = support::nal_starts(units[0]).last().unwrap().0;
    let cut = [&units[0][..hash - 40], &units[0][hash..]].concat();
    for threading in threadings() {
        let mut decoder = HevcDecoder::new(threading).unwrap();
        let mut out = 0;
        let sent = decoder.send(&cut, 0, &mut |_| out += 1);
        let finished = decoder.finish(&mut |_| out += 1);
        let error = sent.and(finished).unwrap_err();
        assert!(matches!(error, CodecError::Decode { .. }), "{error:?}");
        assert_eq!(out, 0);
        assert_equals_oracle(&path, &decode_all(&mut decoder, &units).unwrap());
    }
}

/// What a decoder gives for damaged data must not depend on what it decoded before: blocks that
/// were not decoded would show another picture, maybe of another video.
#[test]
fn blocks_that_were_not_decoded_are_never_shown() {
    let source = "testsrc2=s=416x240:r=25:d=1";
    let mut early = 0;
    for (name, x265) in [
        (
            "rows",
            "no-sao=1:wpp=1:ctu=16:min-cu-size=8:keyint=8:bframes=0",
        ),
        (
            "no-rows",
            "no-sao=1:wpp=0:ctu=16:min-cu-size=8:keyint=8:bframes=0",
        ),
        ("cut-slices", "no-sao=1:slices=2:keyint=8:bframes=0"),
    ] {
        let path = support::clip(name, &["-f", "lavfi", "-i", source], "yuv420p", x265);
        let stream = std::fs::read(&path).unwrap();
        let units = access_units(&stream);
        let noise = support::clip(
            "noise",
            &[
                "-f",
                "lavfi",
                "-i",
                "nullsrc=s=416x240:d=0.4,geq=random(1)*255:128:128",
            ],
            "yuv420p",
            "bframes=0",
        );
        let noise = std::fs::read(&noise).unwrap();
        let noise = access_units(&noise);
        let mut random = 0x1234_5678_9abc_def1_u64;
        let mut decoders: Vec<HevcDecoder> = threadings()
            .map(|t| HevcDecoder::new(t).unwrap())
            .into_iter()
            .collect();
        for _ in 0..25 {
            let mut bad = units[1].to_vec();
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(99);
            let at = 40 + (random >> 33) as usize % (bad.len() - 40);
            bad[at] ^= 1 << (random >> 30 & 7);
            // With threads, rows are found by entry points, without them where the row before
            // ends: damage looks different, so each decoder is compared with itself.
            for (kind, decoder) in decoders.iter_mut().enumerate() {
                let mut seen: Vec<Vec<u8>> = Vec::new();
                for primer in [&noise, &units] {
                    for (id, unit) in primer.iter().take(8).enumerate() {
                        decoder.send(unit, id as i64, &mut drop).unwrap();
                    }
                    decoder.flush();
                    let mut out = Vec::new();
                    let sent = [units[0], &bad, units[2]].into_iter().zip(0..);
                    let sent = sent.map(|(u, id)| decoder.send(u, id, &mut |p| out.push(p)));
                    let sent: Result<Vec<()>, CodecError> = sent.collect();
                    let finished = decoder.finish(&mut |p| out.push(p));
                    decoder.flush();
                    // What refers to a picture that was refused does not come, either.
                    if sent.is_err() || finished.is_err() {
                        assert!(out.iter().all(|p| p.id() == 0));
                    }
                    for result in [sent.map(drop), finished] {
                        early += usize::from(
                            result.is_err_and(|e| e.to_string().contains("slice data end")),
                        );
                    }
                    seen.extend(out.iter().filter(|p| p.id() == 1).map(support::raw));
                }
                assert!(
                    seen.windows(2).all(|w| w[0] == w[1]),
                    "{name}, decoder {kind}: byte {at} of {}",
                    bad.len()
                );
            }
        }
    }
    println!("{early} pictures ended early");
    assert!(early > 0, "no picture ended early: this test shows nothing");
}
