//! The index against ffprobe's packet table, for real camera files and for every layout that
//! ffmpeg writes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod isobmff_support;

use std::path::{Path, PathBuf};
use std::process::Command;

use isobmff_support::{build, footage};
use media::index::Layout;
use media::{DecodeIndex, Orientation, PresentationIndex, VideoIndex};

/// One packet as ffprobe tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Packet {
    offset: u64,
    size: u32,
    pts: i64,
    dts: i64,
    key: bool,
    discard: bool,
}

fn ffprobe(file: &Path, stream: usize, options: &[&str]) -> Vec<Packet> {
    let output = Command::new("ffprobe")
        .args(["-v", "error"])
        .args(options)
        .args(["-select_streams", &stream.to_string()])
        .args([
            "-show_entries",
            "packet=pts,dts,pos,size,flags",
            "-of",
            "json",
        ])
        .arg(file)
        .output()
        .expect("ffprobe runs");
    assert!(output.status.success(), "ffprobe on {}", file.display());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |v: &serde_json::Value| -> i64 {
        v.as_i64()
            .unwrap_or_else(|| v.as_str().unwrap().parse().unwrap())
    };
    json["packets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| Packet {
            offset: number(&p["pos"]) as u64,
            size: number(&p["size"]) as u32,
            pts: number(&p["pts"]),
            dts: number(&p["dts"]),
            key: p["flags"].as_str().unwrap().contains('K'),
            discard: p["flags"].as_str().unwrap().contains('D'),
        })
        .collect()
}

/// All samples in decode order, as packets.
fn samples(index: &VideoIndex) -> Vec<Packet> {
    (0..index.sample_count())
        .map(|i| {
            let s = index.sample(DecodeIndex(i)).unwrap();
            Packet {
                offset: s.offset,
                size: s.size,
                pts: s.dts + i64::from(s.composition_offset),
                dts: s.dts,
                key: s.sync,
                discard: false,
            }
        })
        .collect()
}

/// What is shown, in presentation order: time, offset, size, key.
fn shown(index: &VideoIndex) -> Vec<(i64, u64, u32, bool)> {
    (0..index.frame_count())
        .map(|f| {
            let frame = PresentationIndex(f);
            let s = index.sample(index.decode_index(frame).unwrap()).unwrap();
            (
                index.presentation_time(frame).unwrap(),
                s.offset,
                s.size,
                s.sync,
            )
        })
        .collect()
}

/// Compares the index of a file with ffprobe's tables, with and without its edit list.
fn check(file: &Path) -> VideoIndex {
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let built = build(&std::fs::read(file).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let index = built.index;
    let stream = index.tracks().iter().position(|t| t.selected).unwrap();

    let mut raw = ffprobe(file, stream, &["-ignore_editlist", "1"]);
    // With negative composition offsets libavformat moves all decode times.
    let ours = samples(&index);
    let dts_shift = ours[0].dts - raw[0].dts;
    for p in &mut raw {
        p.dts += dts_shift;
    }
    assert_eq!(ours.len(), raw.len(), "{name}: number of samples");
    for (i, (ours, theirs)) in ours.iter().zip(&raw).enumerate() {
        assert_eq!(ours, theirs, "{name}: sample {i} without edit list");
    }

    let mut theirs: Vec<_> = ffprobe(file, stream, &[])
        .into_iter()
        .filter(|p| !p.discard)
        .map(|p| (p.pts, p.offset, p.size, p.key))
        .collect();
    theirs.sort();
    assert_eq!(shown(&index), theirs, "{name}: what is shown");

    for i in 0..index.sample_count() {
        let sample = DecodeIndex(i);
        assert_eq!(
            index.sample_at_offset(ours[i as usize].offset),
            Some(sample)
        );
        if let Some(frame) = index.presentation_index(sample) {
            assert_eq!(index.decode_index(frame), Some(sample));
        }
    }
    index
}

#[test]
fn real_camera_files_are_indexed_as_ffprobe_lists_them() {
    let Some(folder) = footage() else { return };
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let extension = path
            .extension()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if ["mp4", "mov", "heic"].contains(&extension.as_str()) {
            let index = check(&path);
            assert!(index.parameter_sets().count() >= 3, "{}", path.display());
            checked += 1;
        }
    }
    assert!(checked >= 17, "only {checked} files");
}
