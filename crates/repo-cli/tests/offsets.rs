//! `repo-cli offsets` as a program: the offsets of videos that exist already.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../target/footage-clis")
        .join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    fs::canonicalize(path).unwrap()
}

fn clip(here: &Path, name: &str) {
    let args = "-y -loglevel error -f lavfi -i testsrc2=s=128x96:r=25:d=1 -pix_fmt yuv420p \
                -c:v libx265 -preset ultrafast -x265-params log-level=none:bframes=3";
    let mut command = Command::new("ffmpeg");
    let status = command
        .current_dir(here)
        .args(args.split_whitespace())
        .arg(name)
        .status();
    assert!(status.unwrap().success());
}

fn offsets(here: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_repo-cli"));
    command
        .current_dir(here)
        .arg("offsets")
        .args(args)
        .output()
        .unwrap()
}

fn refused(here: &Path, args: &[&str], reason: &str) {
    let out = offsets(here, args);
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && out.stdout.is_empty());
    assert!(
        stderr.starts_with("error: ") && stderr.contains(reason),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

/// Positions of all packets by presentation time, as ffprobe gives them.
fn positions(file: &Path) -> Vec<u64> {
    let out = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-of",
            "json",
            "-show_entries",
            "packet=pts,pos",
        ])
        .arg(file)
        .output()
        .unwrap();
    let json: Value = serde_json::from_slice(&out.stdout).unwrap();
    let mut rows: Vec<(i64, u64)> = json["packets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| {
            (
                p["pts"].as_i64().unwrap(),
                p["pos"].as_str().unwrap().parse().unwrap(),
            )
        })
        .collect();
    rows.sort();
    rows.into_iter().map(|r| r.1).collect()
}

fn frames(json: &[u8]) -> (String, Vec<u64>) {
    let json: Value = serde_json::from_slice(json).unwrap();
    let all = json["frames"].as_array().unwrap();
    let offsets = all.iter().map(|f| f["offset"].as_u64().unwrap()).collect();
    (json["video_url"].as_str().unwrap().to_owned(), offsets)
}

#[test]
fn the_offsets_of_a_local_video_stand_beside_it() {
    let here = folder("offsets-local");
    clip(&here, "a.mp4");
    let out = offsets(&here, &["a.mp4"]);
    assert_eq!(
        String::from_utf8_lossy(&out.stdout),
        "a.mp4.offsets.json: 25 frames\n"
    );
    let (url, found) = frames(&fs::read(here.join("a.mp4.offsets.json")).unwrap());
    assert_eq!(url, format!("fs://{}/a.mp4", here.display()));
    assert_eq!(found, positions(&here.join("a.mp4")));
    refused(&here, &["a.mp4"], "a.mp4.offsets.json exists already");
    assert!(offsets(&here, &["a.mp4", "--force"]).status.success());
    let out = offsets(
        &here,
        &["a.mp4", "--output", "-", "--storage-url", "s3://b/c/"],
    );
    assert_eq!(frames(&out.stdout), ("s3://b/c/a.mp4".to_owned(), found));
}

#[test]
fn the_index_file_stands_beside_the_offsets() {
    let here = folder("offsets-graph");
    clip(&here, "a.mp4");
    let out = offsets(&here, &["a.mp4", "--graph"]);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let file = fs::read(here.join("a.mp4.bsidx")).unwrap();
    assert_eq!(
        said,
        format!(
            "a.mp4.offsets.json: 25 frames\na.mp4.bsidx: {} bytes\n",
            file.len()
        )
    );
    let (header, content) = media::bsidx::read(&file).unwrap();
    assert_eq!(content.index.frame_count(), 25);
    assert_eq!(content.heads.unwrap().sample_count(), 25);
    let video = bytes::Bytes::from(fs::read(here.join("a.mp4")).unwrap());
    let mut facts = media::bsidx::Facts {
        size: video.len() as u64,
        head: video.clone(),
        tail: video,
        etag: Some("\"whatever a store gives it\"".into()),
    };
    assert_eq!(header.check(&facts), Ok(()));
    facts.size += 1;
    assert!(header.check(&facts).is_err());

    // Neither is written where one is there.
    fs::remove_file(here.join("a.mp4.offsets.json")).unwrap();
    refused(&here, &["a.mp4", "--graph"], "a.mp4.bsidx exists already");
    assert!(!here.join("a.mp4.offsets.json").exists());
    assert!(
        offsets(&here, &["a.mp4", "--graph", "--force"])
            .status
            .success()
    );

    // To where the offsets go; and beside the video where these go nowhere.
    let elsewhere = ["a.mp4", "--graph", "--output", "out/b.json"];
    assert!(offsets(&here, &elsewhere).status.success());
    assert_eq!(fs::read(here.join("out/a.mp4.bsidx")).unwrap(), file);
    fs::remove_file(here.join("a.mp4.bsidx")).unwrap();
    let out = offsets(&here, &["a.mp4", "--graph", "--output", "-"]);
    assert_eq!(frames(&out.stdout).1.len(), 25);
    assert_eq!(fs::read(here.join("a.mp4.bsidx")).unwrap(), file);
}

#[test]
fn a_raw_stream_has_offsets_too() {
    let here = folder("offsets-raw");
    clip(&here, "a.hevc");
    let out = offsets(&here, &["a.hevc", "--output", "-"]);
    let (_, found) = frames(&out.stdout);
    assert_eq!(found.len(), 25);
    let bytes = fs::read(here.join("a.hevc")).unwrap();
    for offset in found {
        let at = usize::try_from(offset).unwrap();
        let start = bytes[at..].iter().position(|&b| b != 0).unwrap();
        assert!(
            start >= 2 && bytes[at + start] == 1,
            "no start code at {offset}"
        );
    }
}

#[test]
fn what_is_no_h265_video_is_refused_in_one_line() {
    let here = folder("offsets-bad");
    fs::write(here.join("a.txt"), "no video\n".repeat(99)).unwrap();
    refused(&here, &["a.txt"], "a.txt: not an H.265 video");
    refused(&here, &["b.mp4"], "cannot open b.mp4");
    refused(&here, &["."], "no file name");
    refused(&here, &["s3://bucket"], "does not name a bucket and a key");
}

#[test]
fn an_unreachable_bucket_is_told() {
    let here = folder("offsets-s3");
    // Port 1 is not listened on.
    let out = offsets(
        &here,
        &["s3://bucket/a.mp4", "--s3-endpoint", "http://127.0.0.1:1"],
    );
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success());
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert_eq!(fs::read_dir(&here).unwrap().count(), 0);
}
