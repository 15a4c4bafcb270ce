//! Clips hold the structures that they are named after: an encoder that ignores an option would
//! otherwise leave a test that checks nothing.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use testkit::command::Run;
use testkit::{annexb, footage, reference};

/// `nal_unit_type` of every NAL unit, and how many slice segments begin a picture.
fn nal_types(clip: &str) -> (Vec<u8>, usize) {
    let clip = footage::clip(clip).unwrap();
    let run = Run::ffmpeg().arg("-i").arg(clip.path);
    let stream = run
        .args(["-c:v", "copy", "-f", "hevc", "pipe:1"])
        .output()
        .unwrap();
    let units = annexb::nal_units(&stream);
    let first = |unit: &&&[u8]| annexb::nal_unit_type(unit) < 32 && unit[2] & 0x80 != 0;
    let pictures = units.iter().filter(first).count();
    (
        units
            .iter()
            .map(|unit| annexb::nal_unit_type(unit))
            .collect(),
        pictures,
    )
}

#[test]
fn nal_unit_types_are_there() {
    // Table 7-1: 2 TSA_N, 6 RADL_N, 7 RADL_R, 8 RASL_N, 9 RASL_R, 19 IDR_W_RADL, 20 IDR_N_LP,
    // 21 CRA, 35 AUD.
    for (clip, wanted, unwanted) in [
        ("open_gop_rasl", &[8u8, 9, 21][..], &[][..]),
        ("closed_gop", &[20], &[8, 9, 21]),
        ("closed_gop_radl", &[6, 7, 19], &[8, 9, 21]),
        ("temporal_layers", &[2], &[]),
        ("access_unit_delimiters", &[35], &[]),
        ("annexb_repeated_sets", &[32, 33, 34, 35], &[]),
        ("annexb_begins_with_cra", &[8, 9, 21], &[]),
    ] {
        let (types, _) = nal_types(clip);
        assert!(
            wanted.iter().all(|t| types.contains(t)),
            "{clip}: {types:?}"
        );
        assert!(
            !unwanted.iter().any(|t| types.contains(t)),
            "{clip}: {types:?}"
        );
    }
}

#[test]
fn slices_divide_pictures() {
    let (types, pictures) = nal_types("slices");
    let segments = types.iter().filter(|t| **t < 32).count();
    assert!(
        segments >= 3 * pictures,
        "{segments} slice segments in {pictures} pictures"
    );
}

#[test]
fn picture_types_are_those_of_the_structure() {
    let types = |clip: &str| -> String {
        let clip = footage::clip(clip).unwrap();
        let frames = reference::decode(&clip.path, Default::default()).unwrap();
        frames.iter().map(|f| f.picture_type).collect()
    };
    assert!(types("low_delay_p")[1..].chars().all(|t| t == 'P'));
    assert!(types("all_intra").chars().all(|t| t == 'I'));
    assert!(types("b_frames_8").contains("BBBBBBBB"));
    assert_eq!(types("scene_cuts").matches('I').count(), 5);
    let intra = types("intra_pictures_without_irap").matches('I').count();
    let (units, _) = nal_types("intra_pictures_without_irap");
    let irap = units.iter().filter(|t| (16..=23).contains(*t)).count();
    assert!(
        intra >= irap + 3,
        "{intra} intra pictures, {irap} of them IRAP"
    );
    assert_eq!(types("intra_refresh").matches('I').count(), 1);
}

#[test]
fn streams_say_what_they_are() {
    for (clip, key, value) in [
        ("bits_12", "pix_fmt", "yuv420p12le"),
        ("chroma_422", "pix_fmt", "yuv422p"),
        ("gray", "pix_fmt", "gray"),
        ("odd_size_444", "width", "319"),
        ("bt709_full", "color_range", "pc"),
        ("bt709_full", "color_space", "bt709"),
        ("bt601_limited", "color_space", "smpte170m"),
        ("pq", "color_transfer", "smpte2084"),
        ("hlg", "color_transfer", "arib-std-b67"),
        ("pixel_aspect", "sample_aspect_ratio", "4:3"),
        ("hev1", "codec_tag_string", "hev1"),
        ("audio_first", "index", "1"),
        ("metadata_track_first", "index", "1"),
    ] {
        let clip = footage::clip(clip).unwrap();
        let stream = reference::stream(&clip.path).unwrap();
        assert_eq!(
            stream.get(key).map(String::as_str),
            Some(value),
            "{}",
            clip.name
        );
    }
}
