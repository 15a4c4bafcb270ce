//! `repo-cli inspect` as a program: what it says is held against ffprobe's frame table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use testkit::reference::{self, Options};

fn inspect(args: &[&str], video: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_repo-cli"));
    command
        .arg("inspect")
        .args(args)
        .arg(video)
        .output()
        .unwrap()
}

fn json(args: &[&str], video: &Path) -> Value {
    let output = inspect(args, video);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_frame_is_what_ffprobe_says() {
    for name in [
        "open_gop_rasl",
        "temporal_layers",
        "fragmented",
        "annexb_open_gop",
        "slices",
    ] {
        let clip = testkit::footage::clip(name).unwrap();
        let report = json(&["--json"], &clip.path);
        let frames = report["frames"].as_array().unwrap();
        let truth = reference::decode(&clip.path, Options::default()).unwrap();
        assert_eq!(frames.len(), truth.len(), "{name}");
        for (n, want) in truth.iter().enumerate() {
            let got = frames.iter().find(|f| f["frame"] == n).unwrap();
            let position = want.position.unwrap();
            let offset = got["offset"].as_u64().unwrap();
            // ffprobe versions disagree by the zero byte before a start code.
            assert!(
                offset == position || offset + 1 == position,
                "{name} frame {n}"
            );
            assert_eq!(
                got["slice_type"],
                want.picture_type.to_string(),
                "{name} frame {n}"
            );
            assert_eq!(got["sync"], want.key, "{name} frame {n}");
        }
    }
}

#[test]
fn totals_tell_what_a_random_frame_costs() {
    let clip = testkit::footage::clip("low_delay_p_one_reference").unwrap();
    let report = json(&["--json", "--summary"], &clip.path);
    // Each picture refers to the one before it: nothing can be left out.
    let mean = f64::from(clip.frames + 1) / 2.0;
    assert_eq!(report["totals"]["closure_mean"], mean);
    assert_eq!(report["totals"]["prefix_mean"], mean);
    assert_eq!(report["totals"]["closure_max"], clip.frames);
    assert_eq!(report["gops"].as_array().unwrap().len(), 1);
    assert_eq!(report.get("frames"), None);

    let clip = testkit::footage::clip("open_gop_rasl").unwrap();
    let report = json(&["--json", "--summary"], &clip.path);
    let totals = &report["totals"];
    let (closure, prefix) = (&totals["closure_mean"], &totals["prefix_mean"]);
    assert!(
        closure.as_f64().unwrap() < 0.7 * prefix.as_f64().unwrap(),
        "{totals}"
    );
    let gops = report["gops"].as_array().unwrap();
    assert!(
        gops.iter().skip(1).all(|g| g["nal_type"] == "CRA_NUT"),
        "{gops:?}"
    );
    assert!(
        gops.iter().skip(1).any(|g| g["leading"].as_u64() > Some(0)),
        "{gops:?}"
    );
}

#[test]
fn text_names_layout_tracks_and_cost() {
    let clip = testkit::footage::clip("audio_first").unwrap();
    let output = inspect(&[], &clip.path);
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "moov behind the samples",
        "handler soun",
        "handler vide",
        "A random frame costs",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

#[test]
fn what_is_no_video_is_named() {
    let output = inspect(
        &[],
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")),
    );
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("Cargo.toml: not an H.265 video: a text file"),
        "{text}"
    );
}
