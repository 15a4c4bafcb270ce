//! `repo-cli convert` as a program, on clips that ffmpeg makes here; results are judged by
//! ffprobe and ffmpeg, which know nothing of this repository.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A folder of its own for one test, emptied first.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../target/footage-clis")
        .join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    fs::canonicalize(path).unwrap()
}

/// Makes a clip: `ffmpeg ARGS FILE`.
fn ffmpeg(folder: &Path, args: &str) {
    let out = Command::new("ffmpeg")
        .current_dir(folder)
        .args(["-hide_banner", "-nostdin", "-y", "-loglevel", "error"])
        .args(args.split_whitespace())
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{args}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

fn ffprobe(file: &Path, entries: &str) -> Value {
    let out = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-select_streams",
            "v:0",
            "-of",
            "json",
            "-show_entries",
            entries,
        ])
        .arg(file)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    serde_json::from_slice(&out.stdout).unwrap()
}

fn stream(file: &Path) -> Value {
    ffprobe(file, "stream")["streams"][0].clone()
}

/// Presentation times of all pictures.
fn times(file: &Path) -> Vec<f64> {
    let frames = ffprobe(file, "frame=pts_time")["frames"].clone();
    let time = |f: &Value| f["pts_time"].as_str().unwrap().parse().unwrap();
    frames.as_array().unwrap().iter().map(time).collect()
}

/// Checksums of the pictures as a player shows them (rotation applied).
fn shown(file: &Path) -> Vec<String> {
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(file)
        .args([
            "-map",
            "0:v:0",
            "-fps_mode",
            "passthrough",
            "-f",
            "framemd5",
            "-",
        ])
        .output()
        .unwrap();
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).unwrap();
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    lines
        .map(|l| l.rsplit(',').next().unwrap().trim().to_owned())
        .collect()
}

/// Luma of the picture at `place`, as a player shows it, cut to 2x2 means.
fn quarters(file: &Path, place: u32) -> Vec<u8> {
    let filter = format!("select=eq(n\\,{place}),scale=2:2:flags=area,format=gray");
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(file)
        .args(["-vf", &filter, "-frames:v", "1", "-f", "rawvideo", "-"])
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    out.stdout
}

fn program(args: &[&str], here: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_repo-cli"));
    command.current_dir(here).arg("convert").args(args);
    command
}

/// Runs a conversion at the lowest effort.
fn convert(args: &[&str], here: &Path) -> Output {
    let mut all = args.to_vec();
    if !args.contains(&"--copy") {
        all.extend(["--preset", "ultrafast"]);
    }
    program(&all, here).stdin(Stdio::null()).output().unwrap()
}

fn converted(args: &[&str], here: &Path) -> String {
    let out = convert(args, here);
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}

fn refused(args: &[&str], here: &Path, reason: &str) {
    let before = names(here);
    let out = convert(args, here);
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success(), "{args:?}");
    assert!(
        stderr.starts_with("error: ") && stderr.contains(reason),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert_eq!(names(here), before);
}

/// Everything below a folder, hidden files too.
fn names(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        all.push(path.display().to_string());
        if path.is_dir() {
            all.extend(names(&path));
        }
    }
    all.sort();
    all
}

const CLIP: &str = "-f lavfi -i testsrc2=s=320x240:r=25:d=1.2 -c:v libx264 -preset ultrafast";

/// Positions as ffprobe's packet table gives them, in presentation order: each picture's, and that
/// of the keyframe to start from. That is the last one at or before it in decode order, or, for a
/// picture shown before that one, the keyframe before it.
fn packets(file: &Path) -> Vec<(u64, u64)> {
    let all = ffprobe(file, "packet=pts,pos,flags")["packets"].clone();
    let mut keys: Vec<(i64, u64)> = Vec::new();
    let mut rows: Vec<(i64, u64, u64)> = Vec::new();
    for p in all.as_array().unwrap() {
        let pos = p["pos"].as_str().unwrap().parse().unwrap();
        let pts = p["pts"].as_i64().unwrap();
        if p["flags"].as_str().unwrap().starts_with('K') {
            keys.push((pts, pos));
        }
        let (key_pts, key) = keys[keys.len() - 1];
        let start = if pts < key_pts && keys.len() > 1 {
            keys[keys.len() - 2].1
        } else {
            key
        };
        rows.push((pts, pos, start));
    }
    rows.sort();
    rows.into_iter().map(|(_, pos, key)| (pos, key)).collect()
}

fn offsets(file: &Path) -> (String, Vec<(u64, u64)>) {
    let json: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let number = |f: &Value, key: &str| f[key].as_u64().unwrap();
    let frames = json["frames"].as_array().unwrap();
    let frames = frames
        .iter()
        .map(|f| (number(f, "offset"), number(f, "irap_offset")))
        .collect();
    (json["video_url"].as_str().unwrap().to_owned(), frames)
}

#[test]
fn a_video_becomes_h265_beside_it_with_the_offsets_of_its_frames() {
    let here = folder("plain");
    ffmpeg(
        &here,
        &format!("-f lavfi -i sine {CLIP} -shortest -c:a aac a.mp4"),
    );
    let said = converted(&["--input", "a.mp4", "--extract-offsets"], &here);
    assert!(said.starts_with("a.h265: 30 frames, "), "{said}");
    let result = here.join("a.h265");
    let s = stream(&result);
    assert_eq!(
        (s["codec_name"].as_str(), s["codec_tag_string"].as_str()),
        (Some("hevc"), Some("hvc1"))
    );
    assert_eq!(times(&result), times(&here.join("a.mp4")));
    let (url, frames) = offsets(&here.join("a.h265.offsets.json"));
    assert_eq!(url, format!("fs://{}", result.display()));
    assert_eq!(frames, packets(&result));
    let file = fs::read(here.join("a.h265.bsidx")).unwrap();
    let (_, content) = media::bsidx::read(&file).unwrap();
    assert_eq!(
        content.index.object_size(),
        fs::metadata(&result).unwrap().len()
    );
    assert_eq!(content.heads.unwrap().sample_count(), 30);
    let tracks = ffprobe(&result, "format=nb_streams")["format"]["nb_streams"].clone();
    assert_eq!(tracks, 1, "only the video is kept");
}

#[test]
fn gops_are_closed_and_short() {
    let here = folder("gops");
    ffmpeg(
        &here,
        "-f lavfi -i testsrc2=s=128x96:r=30:d=5 -c:v libx264 -preset ultrafast a.mp4",
    );
    let said = converted(&["--input", "a.mp4"], &here);
    let cost = said
        .lines()
        .find_map(|l| l.strip_prefix("A frame costs "))
        .unwrap();
    let mean: f64 = cost.split(' ').next().unwrap().parse().unwrap();
    assert!((1.0..=6.0).contains(&mean), "{said}");
    let all = ffprobe(&here.join("a.h265"), "packet=pts,flags")["packets"].clone();
    let all = all.as_array().unwrap();
    let keys: Vec<usize> = (0..all.len())
        .filter(|&i| all[i]["flags"].as_str().unwrap().starts_with('K'))
        .collect();
    assert!(
        keys.windows(2).all(|w| w[1] - w[0] <= 86) && keys.len() >= 2,
        "{keys:?}"
    );
    for &key in &keys {
        // Closed: nothing that is decoded later is shown before the keyframe.
        let pts = all[key]["pts"].as_i64().unwrap();
        assert!(all[key..].iter().all(|p| p["pts"].as_i64().unwrap() >= pts));
    }
}

#[test]
fn the_storage_url_is_taken_as_given() {
    let here = folder("url");
    ffmpeg(&here, &format!("{CLIP} a.mp4"));
    let url = |given: &str| {
        converted(
            &[
                "--input",
                "a.mp4",
                "--force",
                "--extract-offsets",
                "--storage-url",
                given,
            ],
            &here,
        );
        offsets(&here.join("a.h265.offsets.json")).0
    };
    assert_eq!(url("s3://bucket/some key"), "s3://bucket/some key");
    assert_eq!(url("s3://bucket/dir/"), "s3://bucket/dir/a.h265");
}

#[test]
fn nothing_is_overwritten_without_force() {
    let here = folder("force");
    ffmpeg(&here, &format!("{CLIP} a.mp4"));
    fs::write(here.join("a.h265"), "precious").unwrap();
    refused(
        &["--input", "a.mp4"],
        &here,
        "a.h265 exists already (--force overwrites it)",
    );
    assert_eq!(fs::read(here.join("a.h265")).unwrap(), b"precious");
    converted(&["--input", "a.mp4", "--force", "--extract-offsets"], &here);
    assert_eq!(stream(&here.join("a.h265"))["codec_name"], "hevc");
    // Files that a new video makes wrong do not stay.
    assert!(here.join("a.h265.bsidx").exists());
    converted(&["--input", "a.mp4", "--force", "--crf", "30"], &here);
    assert!(!here.join("a.h265.offsets.json").exists());
    assert!(!here.join("a.h265.bsidx").exists());
    // An offsets file alone is not overwritten either.
    fs::remove_file(here.join("a.h265")).unwrap();
    fs::write(here.join("a.h265.offsets.json"), "precious").unwrap();
    let args = ["--input", "a.mp4", "--extract-offsets"];
    refused(&args, &here, "a.h265.offsets.json exists already");
}

#[test]
fn a_source_is_never_its_own_result() {
    let here = folder("self");
    ffmpeg(&here, &format!("{CLIP} -f mp4 a.h265"));
    let source = fs::read(here.join("a.h265")).unwrap();
    refused(
        &["--input", "a.h265", "--force"],
        &here,
        "would overwrite its source",
    );
    refused(
        &["--input", "a.h265", "--output", "./a.h265", "--force"],
        &here,
        "overwrite its source",
    );
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("a.h265", here.join("link.mp4")).unwrap();
        let args = ["--input", "link.mp4", "--output", "a.h265", "--force"];
        refused(&args, &here, "would overwrite its source");
    }
    assert_eq!(fs::read(here.join("a.h265")).unwrap(), source);
}

#[test]
fn bad_input_is_one_clear_line() {
    let here = folder("bad");
    ffmpeg(&here, &format!("{CLIP} good.mp4"));
    ffmpeg(&here, "-f lavfi -i sine=d=0.2 sound.mp4");
    fs::write(
        here.join("text.mp4"),
        "this is no video, however long it may be\n".repeat(99),
    )
    .unwrap();
    fs::write(here.join("empty.mp4"), "").unwrap();
    let good = fs::read(here.join("good.mp4")).unwrap();
    fs::write(here.join("cut.mp4"), &good[..good.len() / 2]).unwrap();
    refused(
        &["--input", "nowhere.mp4"],
        &here,
        "cannot open nowhere.mp4",
    );
    refused(
        &["--input", "text.mp4"],
        &here,
        "cannot convert text.mp4: not a video that FFmpeg can read",
    );
    refused(
        &["--input", "empty.mp4"],
        &here,
        "not a video that FFmpeg can read",
    );
    refused(
        &["--input", "cut.mp4"],
        &here,
        "not a video that FFmpeg can read",
    );
    refused(&["--input", "sound.mp4"], &here, "it holds no video");
    refused(
        &["--input", "good.mp4", "--copy"],
        &here,
        "its video is h264, and --copy only takes H.265",
    );
}

#[test]
fn names_that_look_like_options_patterns_or_protocols_are_only_names() {
    let here = folder("names");
    ffmpeg(&here, &format!("{CLIP} plain.mp4"));
    for name in [
        "-y.mp4",
        "a %03d b.mp4",
        "http:x.mp4",
        "ünï cödé'\".mp4",
        "pipe:0.mp4",
    ] {
        fs::copy(here.join("plain.mp4"), here.join(name)).unwrap();
        converted(&[&format!("--input={name}"), "--extract-offsets"], &here);
        let result = here.join(name.replace(".mp4", ".h265"));
        assert_eq!(times(&result).len(), 30, "{name}");
    }
}

#[test]
fn fps_drops_frames_and_downscale_divides() {
    let here = folder("less");
    ffmpeg(
        &here,
        "-f lavfi -i testsrc2=s=1366x770:r=30000/1001:d=1 -c:v libx264 -preset ultrafast a.mp4",
    );
    converted(
        &["--input", "a.mp4", "--fps", "10", "--downscale", "2"],
        &here,
    );
    let s = stream(&here.join("a.h265"));
    assert_eq!(
        (s["width"].as_u64(), s["height"].as_u64()),
        (Some(682), Some(384))
    );
    assert_eq!(s["sample_aspect_ratio"], "1:1");
    assert_eq!(
        (s["r_frame_rate"].as_str(), s["nb_frames"].as_str()),
        (Some("10/1"), Some("10"))
    );
    refused(
        &["--input", "a.mp4", "--force", "--fps", "30"],
        &here,
        "above the source's 29.970",
    );
    refused(
        &["--input", "a.mp4", "--force", "--fps", "0"],
        &here,
        "positive number",
    );
    refused(
        &["--input", "a.mp4", "--force", "--downscale", "16"],
        &here,
        "makes 84x48 of 1366x770",
    );
    refused(
        &["--input", "a.mp4", "--force", "--downscale", "6"],
        &here,
        "not a power of two",
    );
}

#[test]
fn a_source_of_odd_size_loses_its_odd_edge() {
    let here = folder("odd");
    ffmpeg(
        &here,
        "-f lavfi -i testsrc=s=319x179:r=10:d=0.5 -pix_fmt yuv420p -c:v ffv1 a.mkv",
    );
    converted(&["--input", "a.mkv"], &here);
    let s = stream(&here.join("a.h265"));
    assert_eq!(
        (s["width"].as_u64(), s["height"].as_u64()),
        (Some(318), Some(178))
    );
    assert_eq!(s["nb_frames"], "5");
}

#[test]
fn rotation_and_mirroring_survive() {
    let here = folder("rotation");
    // Four quarters of different brightness; FFmpeg 5.1 writes a matrix from the rotate tag.
    let quarters_source =
        "nullsrc=s=128x96:r=25:d=0.2,geq=lum=40+(gt(X\\,63)+2*gt(Y\\,47))*60:cb=128:cr=128";
    ffmpeg(
        &here,
        &format!("-f lavfi -i {quarters_source} -c:v libx264 -pix_fmt yuv420p up.mp4"),
    );
    for degrees in [90, 180, 270] {
        let name = format!("r{degrees}.mp4");
        ffmpeg(
            &here,
            &format!("-i up.mp4 -c copy -metadata:s:v rotate={degrees} {name}"),
        );
    }
    // Mirrored: `a` of the track's matrix (ISO/IEC 14496-12, 8.3.2) becomes -1.
    let mut bytes = fs::read(here.join("up.mp4")).unwrap();
    let tkhd = bytes.windows(4).position(|w| w == b"tkhd").unwrap();
    bytes[tkhd + 44..tkhd + 48].copy_from_slice(&(-65536i32).to_be_bytes());
    fs::write(here.join("mirrored.mp4"), bytes).unwrap();
    for clip in ["r90", "r180", "r270", "mirrored"] {
        let name = format!("{clip}.mp4");
        let source = here.join(&name);
        let rotation = |s: &Value| s["side_data_list"][0]["displaymatrix"].clone();
        assert!(
            rotation(&stream(&source)).is_string(),
            "the clip is not rotated"
        );
        converted(&["--input", &name], &here);
        let result = here.join(format!("{clip}.h265"));
        assert_eq!(rotation(&stream(&result)), rotation(&stream(&source)));
        assert_eq!(
            stream(&result)["width"],
            128,
            "pictures are stored as they were"
        );
        let (a, b) = (quarters(&source, 0), quarters(&result, 0));
        assert!(
            a.iter().zip(&b).all(|(a, b)| a.abs_diff(*b) <= 3),
            "{a:?} {b:?}"
        );
        let mut sorted = a.clone();
        sorted.dedup();
        assert_eq!(sorted.len(), 4, "the quarters differ: {a:?}");
    }
}

#[test]
fn colour_tags_depth_and_chroma_format_survive() {
    let here = folder("colour");
    // Format, colour range, primaries, transfer, matrix.
    for (format, range, primaries, transfer, matrix) in [
        ("yuv420p", "tv", "bt709", "bt709", "bt709"),
        ("yuv420p", "pc", "bt470bg", "smpte170m", "bt470bg"),
        ("yuv422p", "tv", "smpte170m", "smpte170m", "smpte170m"),
        ("yuv420p10le", "tv", "bt2020", "arib-std-b67", "bt2020nc"),
        ("yuv420p10le", "tv", "bt2020", "smpte2084", "bt2020nc"),
        ("yuv422p10le", "pc", "bt709", "iec61966-2-1", "bt709"),
        ("yuv444p12le", "tv", "smpte432", "bt709", "bt709"),
        ("gray", "pc", "bt709", "bt709", "bt709"),
        ("gray10le", "tv", "bt709", "bt709", "bt709"),
    ] {
        let tags = format!(
            "-color_range {range} -color_primaries {primaries} -color_trc {transfer} -colorspace {matrix}"
        );
        let codec = "-c:v ffv1";
        ffmpeg(
            &here,
            &format!(
                "-f lavfi -i testsrc2=s=128x96:r=25:d=0.2 -pix_fmt {format} {codec} {tags} a.mkv"
            ),
        );
        let source = stream(&here.join("a.mkv"));
        converted(&["--input", "a.mkv", "--force"], &here);
        let result = stream(&here.join("a.h265"));
        for key in [
            "color_range",
            "color_primaries",
            "color_transfer",
            "color_space",
        ] {
            assert_eq!(result[key], source[key], "{key} of {format}");
        }
        let name = result["pix_fmt"].as_str().unwrap().replace("yuvj", "yuv");
        assert_eq!(name, format);
    }
}

#[test]
fn samples_survive_conversions_of_layout_in_full_range() {
    let here = folder("layout");
    let source = "color=white:s=128x96:r=25:d=0.2,format=yuv422p,scale=out_range=full";
    ffmpeg(
        &here,
        &format!("-f lavfi -i {source},format=nv12 -c:v rawvideo -color_range pc a.mkv"),
    );
    let level = |name: &str| {
        let out = Command::new("ffmpeg")
            .args(["-v", "error", "-i"])
            .arg(here.join(name))
            .args(["-frames:v", "1", "-f", "rawvideo", "-"])
            .output()
            .unwrap();
        out.stdout[0]
    };
    converted(
        &["--input", "a.mkv", "--output", "a.h265", "--crf", "5"],
        &here,
    );
    assert_eq!(stream(&here.join("a.h265"))["color_range"], "pc");
    assert!(
        level("a.mkv").abs_diff(level("a.h265")) <= 1,
        "{} {}",
        level("a.mkv"),
        level("a.h265")
    );
}

#[test]
fn static_hdr_metadata_survives() {
    let here = folder("hdr");
    let params = "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:max-cll=1000,400:\
                  chromaloc=2:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)";
    ffmpeg(
        &here,
        &format!(
            "-f lavfi -i testsrc2=s=128x96:r=25:d=0.2 -pix_fmt yuv420p10le -c:v libx265 -x265-params {params} a.mp4"
        ),
    );
    converted(&["--input", "a.mp4"], &here);
    let first = |file: &str| {
        let out = Command::new("ffprobe")
            .args([
                "-v",
                "error",
                "-show_frames",
                "-read_intervals",
                "%+#1",
                "-of",
                "json",
            ])
            .arg(here.join(file))
            .output()
            .unwrap();
        serde_json::from_slice::<Value>(&out.stdout).unwrap()["frames"][0].clone()
    };
    let side_data = |frame: &Value| {
        let all = frame["side_data_list"].as_array().unwrap();
        let kinds = ["Mastering display metadata", "Content light level metadata"];
        let wanted = |d: &&Value| kinds.iter().any(|k| d["side_data_type"] == *k);
        all.iter().filter(wanted).cloned().collect::<Vec<_>>()
    };
    let (source, result) = (first("a.mp4"), first("a.h265"));
    assert_eq!(side_data(&source).len(), 2);
    assert_eq!(side_data(&result), side_data(&source));
    assert_eq!(result["chroma_location"], "topleft");
}

#[test]
fn variable_frame_times_survive() {
    let here = folder("vfr");
    // Times that no constant rate has: 0, 1, 4, 9, 16 … of 1/90 s.
    ffmpeg(
        &here,
        "-f lavfi -i testsrc2=s=128x96:r=25:d=0.8 -vf settb=1/90000,setpts=N*N*1000 \
                   -fps_mode passthrough -enc_time_base 1/90000 -c:v libx264 -video_track_timescale 90000 a.mp4",
    );
    converted(&["--input", "a.mp4"], &here);
    let (source, result) = (times(&here.join("a.mp4")), times(&here.join("a.h265")));
    assert_eq!(source.len(), 20);
    assert!((source[5] - 25.0 / 90.0).abs() < 1e-5, "{source:?}");
    assert_eq!(result, source);
}

#[test]
fn copying_keeps_every_picture_and_the_sample_entry() {
    let here = folder("copy");
    let x265 = "-f lavfi -i testsrc2=s=128x96:r=25:d=1 -pix_fmt yuv420p -c:v libx265 -preset fast -x265-params log-level=none:bframes=4";
    for tag in ["hvc1", "hev1"] {
        ffmpeg(&here, &format!("{x265} -tag:v {tag} {tag}.mp4"));
        converted(&["--input", &format!("{tag}.mp4"), "--copy"], &here);
        let (source, result) = (
            here.join(format!("{tag}.mp4")),
            here.join(format!("{tag}.h265")),
        );
        assert_eq!(shown(&result), shown(&source));
        assert_eq!(times(&result), times(&source));
        assert_eq!(stream(&result)["codec_tag_string"], tag);
    }
}

#[test]
fn copying_a_raw_stream_shows_its_pictures_in_their_order() {
    let here = folder("raw");
    ffmpeg(
        &here,
        "-f lavfi -i testsrc2=s=128x96:r=30000/1001:d=2 -pix_fmt yuv420p -c:v libx265 -preset fast \
                   -x265-params log-level=none:bframes=4:keyint=20 a.265",
    );
    converted(&["--input", "a.265", "--copy", "--extract-offsets"], &here);
    let result = here.join("a.h265");
    assert_eq!(shown(&result), shown(&here.join("a.265")));
    let expected: Vec<f64> = (0..60).map(|i| f64::from(i) * 1001.0 / 30000.0).collect();
    let times = times(&result);
    assert_eq!(times.len(), 60);
    assert!(
        times
            .iter()
            .zip(&expected)
            .all(|(a, b)| (a - b).abs() < 1e-4),
        "{times:?}"
    );
    assert_eq!(
        offsets(&here.join("a.h265.offsets.json")).1,
        packets(&result)
    );
    // Encoding a raw stream anew keeps all pictures too.
    converted(&["--input", "a.265", "--force"], &here);
    assert_eq!(stream(&result)["nb_frames"], "60");
}

#[test]
fn a_folder_goes_on_after_a_failure_and_skips_what_exists() {
    let here = folder("batch");
    let videos = here.join("videos");
    fs::create_dir_all(videos.join("sub")).unwrap();
    ffmpeg(&videos, &format!("{CLIP} a.mp4"));
    for copy in ["c.MOV", "d.mp4", "d.mov", "sub/e.mkv"] {
        fs::copy(videos.join("a.mp4"), videos.join(copy)).unwrap();
    }
    fs::write(videos.join("b.mp4"), "no video").unwrap();
    fs::write(videos.join("notes.txt"), "").unwrap();
    let out = convert(
        &[
            "--input",
            "videos",
            "--output",
            "out",
            "-R",
            "--extract-offsets",
        ],
        &here,
    );
    let table = String::from_utf8(out.stdout).unwrap();
    assert!(!out.status.success());
    let row = |file: &str| {
        table
            .lines()
            .find(|l| l.starts_with(file))
            .unwrap()
            .to_owned()
    };
    assert!(row("videos/a.mp4").contains("converted"), "{table}");
    assert!(row("videos/b.mp4").contains("failed"), "{table}");
    assert!(row("videos/d.mp4").contains("failed"), "{table}");
    assert!(
        row("videos/d.mp4").contains("videos/d.mov gives a result of the same name"),
        "{table}"
    );
    assert!(
        table.ends_with("\n4 converted, 0 skipped, 2 failed\n"),
        "{table}"
    );
    let (url, frames) = offsets(&here.join("out/sub/e.h265.offsets.json"));
    assert_eq!(
        url,
        format!("fs://{}", here.join("out/sub/e.h265").display())
    );
    assert_eq!(frames.len(), 30);
    assert_eq!(names(&here.join("out")).len(), 13);

    fs::remove_file(videos.join("b.mp4")).unwrap();
    fs::remove_file(videos.join("d.mp4")).unwrap();
    let out = convert(&["--input", "videos", "--output", "out", "-R"], &here);
    let table = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success());
    assert!(
        table.ends_with("\n0 converted, 4 skipped, 0 failed\n"),
        "{table}"
    );
    // Without -R the subfolder is not looked into; results lie beside their inputs.
    let args = [
        "--input",
        "videos",
        "--extract-offsets",
        "--storage-url",
        "s3://b/v/",
    ];
    let table = converted(&args, &here);
    assert!(
        table.ends_with("\n3 converted, 0 skipped, 0 failed\n"),
        "{table}"
    );
    assert_eq!(
        offsets(&videos.join("a.h265.offsets.json")).0,
        "s3://b/v/a.h265"
    );
    assert!(!videos.join("sub/e.h265").exists());
    let args = [
        "--input",
        "videos",
        "--extract-offsets",
        "--storage-url",
        "s3://b/one.h265",
    ];
    refused(&args, &here, "has to end in /");
    fs::create_dir(here.join("none")).unwrap();
    refused(&["--input", "none"], &here, "no videos in none");
}

#[test]
fn without_a_working_gpu_the_cpu_encodes_and_says_so() {
    let here = folder("gpu");
    ffmpeg(&here, &format!("{CLIP} a.mp4"));
    let out = convert(&["--input", "a.mp4", "--gpu"], &here);
    assert!(out.status.success());
    assert_eq!(stream(&here.join("a.h265"))["codec_name"], "hevc");
    let trial = "-f lavfi -i color=gray:s=320x240:d=0.04 -c:v hevc_nvenc -frames:v 1 -f null -";
    let works = Command::new("ffmpeg")
        .args(trial.split(' '))
        .output()
        .unwrap()
        .status
        .success();
    let said = String::from_utf8_lossy(&out.stderr).contains("--gpu: used libx265 instead: ");
    assert_eq!(said, !works);
}

#[cfg(unix)]
#[test]
fn a_stopped_run_leaves_nothing() {
    use std::io::{BufRead as _, BufReader};
    let here = folder("stopped");
    ffmpeg(
        &here,
        "-f lavfi -i testsrc2=s=1280x720:r=30:d=20 -c:v libx264 -preset ultrafast a.mp4",
    );
    // A script stands before the real ffmpeg in PATH and tells when an encode starts.
    let tools = here.join("tools");
    fs::create_dir(&tools).unwrap();
    let real = Command::new("sh")
        .args(["-c", "command -v ffmpeg"])
        .output()
        .unwrap()
        .stdout;
    let real = String::from_utf8(real).unwrap();
    let fifo = here.join("started");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *libx265*) echo $$ > '{}' ;; esac\nexec {} \"$@\"\n",
        fifo.display(),
        real.trim()
    );
    fs::write(tools.join("ffmpeg"), script).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(tools.join("ffmpeg"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let before = names(&here);
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let child = program(
            &[
                "--input",
                "a.mp4",
                "--preset",
                "placebo",
                "--extract-offsets",
            ],
            &here,
        )
        .env("PATH", &path)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
        let mut line = String::new();
        BufReader::new(fs::File::open(&fifo).unwrap())
            .read_line(&mut line)
            .unwrap();
        let encoder: u32 = line.trim().parse().unwrap();
        // The temporary file stands there by now; the signal comes in the middle of the encode.
        assert_eq!(names(&here).len(), before.len() + 1);
        let kill = |args: &[&str]| {
            Command::new("kill")
                .args(args)
                .output()
                .unwrap()
                .status
                .success()
        };
        assert!(kill(&[&format!("-{signal}"), &child.id().to_string()]));
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(code));
        assert_eq!(
            String::from_utf8_lossy(&out.stderr),
            "stopped; nothing half-written was left\n"
        );
        assert_eq!(names(&here), before);
        assert!(
            !kill(&["-0", &encoder.to_string()]),
            "the encoder still runs"
        );
    }
}

#[test]
fn a_missing_ffmpeg_is_told_with_how_to_install_it() {
    let here = folder("no-ffmpeg");
    fs::write(here.join("a.mp4"), "").unwrap();
    let out = program(&["--input", "a.mp4"], &here)
        .env("PATH", "")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success());
    assert!(
        stderr.contains("ffmpeg was not found: install FFmpeg (Debian"),
        "{stderr}"
    );
}
