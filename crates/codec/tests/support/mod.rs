//! Clips made by the `ffmpeg` program, which is also the oracle, and what tests do with them.

// Each test file uses its own part of this.
#![allow(dead_code, unreachable_pub)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use codec::{CodecError, HevcDecoder, Picture, Plane};
use testkit::reference::{self, PlaneHasher, ReferenceFrame};

/// Where clips are kept between runs.
fn cache() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    );
    let folder = target.join("footage-codec");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs `ffmpeg` with these arguments and gives its standard output; fails loudly.
pub fn ffmpeg(args: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the ffmpeg program is needed for tests");
    assert!(
        output.status.success(),
        "ffmpeg {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Part of the name of an unfinished file: tests run side by side, in threads and in processes.
fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{count}", std::process::id())
}

/// A raw H.265 clip made by `ffmpeg`, from the cache if the same was made before. `input` are
/// ffmpeg's arguments up to and including the filters, `x265` the encoder's parameters.
pub fn clip(name: &str, input: &[&str], pix_fmt: &str, x265: &str) -> PathBuf {
    // The recipe is part of the name, so that a changed one is made anew.
    let recipe = format!("{input:?} {pix_fmt} {x265}");
    let path = cache().join(format!("{name}-{:016x}.h265", fnv(recipe.as_bytes())));
    if !path.exists() {
        let part = cache().join(format!("{name}-{}.part.h265", unique()));
        let parameters = format!("log-level=none:pools=2:{x265}");
        let mut args = input.to_vec();
        args.extend([
            "-pix_fmt", pix_fmt, "-c:v", "libx265", "-preset", "veryfast",
        ]);
        args.extend([
            "-x265-params",
            &parameters,
            "-f",
            "hevc",
            part.to_str().unwrap(),
        ]);
        ffmpeg(&args);
        fs::rename(part, &path).unwrap();
    }
    path
}

/// The clip with a conformance window: columns and rows cut off left, right, top and bottom.
pub fn with_window(path: &Path, [left, right, top, bottom]: [usize; 4]) -> PathBuf {
    let window = path.with_extension(format!("{left}-{right}-{top}-{bottom}.h265"));
    if !window.exists() {
        let part = window.with_extension(format!("{}.part.h265", unique()));
        let bsf = format!(
            "hevc_metadata=crop_left={left}:crop_right={right}:crop_top={top}:crop_bottom={bottom}"
        );
        let (from, to) = (path.to_str().unwrap(), part.to_str().unwrap());
        ffmpeg(&["-i", from, "-c", "copy", "-bsf:v", &bsf, "-f", "hevc", to]);
        fs::rename(part, &window).unwrap();
    }
    window
}

/// A raw stream as a file, for the oracle.
pub fn stream_file(name: &str, stream: &[u8]) -> PathBuf {
    let path = cache().join(format!("{name}-{:016x}.h265", fnv(stream)));
    if !path.exists() {
        let part = cache().join(format!("{name}-{}.part.h265", unique()));
        fs::write(&part, stream).unwrap();
        fs::rename(part, &path).unwrap();
    }
    path
}

/// A clip of the test kit's recipes, as a raw stream, with parameter sets first in each access unit:
/// ffmpeg puts those of the container behind SEI that need them.
pub fn made(recipe: &str) -> PathBuf {
    let clip = testkit::footage::clip(recipe).unwrap();
    if clip.path.extension().is_some_and(|e| e == "h265") {
        return clip.path;
    }
    let from = clip.path.to_str().unwrap();
    let stream = ffmpeg(&["-i", from, "-map", "0:v:0", "-c", "copy", "-f", "hevc", "-"]);
    let mut ordered = Vec::new();
    for unit in access_units(&stream) {
        let starts = nal_starts(unit);
        let ends = starts.iter().skip(1).map(|n| n.0).chain([unit.len()]);
        let mut nals: Vec<&[u8]> = starts
            .iter()
            .zip(ends)
            .map(|(s, e)| &unit[s.0..e])
            .collect();
        let kinds = starts.iter().map(|n| unit[n.1] >> 1 & 0x3f);
        let rank = kinds.map(|kind| match kind {
            35 => 0,
            32..=34 => 1,
            _ => 2,
        });
        let mut ranked: Vec<(i32, &[u8])> = rank.zip(nals.drain(..)).collect();
        ranked.sort_by_key(|r| r.0);
        ordered.extend(ranked.iter().flat_map(|r| r.1));
    }
    stream_file(recipe, &ordered)
}

/// Numbers that look random, the same in every run (Knuth's MMIX generator).
pub struct Random(pub u64);

impl Random {
    /// Below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// FNV-1a: a hash that needs no crate; equality of planes is compared byte by byte besides.
pub fn fnv(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| {
        (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    })
}

/// The access units of a raw stream (H.265, 7.4.2.4.4), each with its start codes.
pub fn access_units(stream: &[u8]) -> Vec<&[u8]> {
    let mut starts = Vec::new();
    let mut seen_slice = false;
    for nal in nal_starts(stream) {
        let header = &stream[nal.1..];
        let kind = (header[0] >> 1) & 0x3f;
        let slice = kind < 32;
        let first_slice = slice && header.get(2).is_some_and(|b| b & 0x80 != 0);
        let opens = matches!(kind, 32..=35 | 39 | 41..=44 | 48..=55);
        if starts.is_empty() || (seen_slice && (first_slice || opens)) {
            starts.push(nal.0);
            seen_slice = false;
        }
        seen_slice |= slice;
    }
    let ends = starts.iter().skip(1).copied().chain([stream.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(&a, b)| &stream[a..b])
        .collect()
}

/// Start code and header position of each NAL unit.
pub fn nal_starts(stream: &[u8]) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let mut i = 0;
    while i + 3 < stream.len() {
        if stream[i..i + 3] == [0, 0, 1] {
            let start = if i > 0 && stream[i - 1] == 0 {
                i - 1
            } else {
                i
            };
            out.push((start, i + 3));
            i += 3;
        } else {
            i += 1;
        }
    }
    out
}

/// A picture's planes as `ffmpeg -f rawvideo` writes them.
pub fn raw(picture: &Picture) -> Vec<u8> {
    let mut out = Vec::new();
    for index in 0..3 {
        match picture.plane(index) {
            Some(Plane::U8(rows)) => rows.iter().for_each(|row| out.extend_from_slice(row)),
            Some(Plane::U16(rows)) => rows.iter().for_each(|row| {
                row.iter()
                    .for_each(|s| out.extend_from_slice(&s.to_ne_bytes()))
            }),
            None => {}
        }
    }
    out
}

/// All pictures of the access units, in decode order, each with the place of its access unit as
/// identity.
pub fn decode_all(decoder: &mut HevcDecoder, units: &[&[u8]]) -> Result<Vec<Picture>, CodecError> {
    let mut out = Vec::new();
    for (id, unit) in units.iter().enumerate() {
        decoder.send(unit, id as i64, &mut |p| out.push(p))?;
    }
    decoder.finish(&mut |p| out.push(p))?;
    Ok(out)
}

/// What `ffmpeg` decodes of a raw stream, in presentation order, each with the place of its access
/// unit.
pub fn oracle(path: &Path) -> Vec<(i64, ReferenceFrame)> {
    let stream = fs::read(path).unwrap();
    let start = stream.as_ptr() as usize;
    let starts: Vec<usize> = access_units(&stream)
        .iter()
        .map(|unit| unit.as_ptr() as usize - start)
        .collect();
    let frames = reference::decode(path, reference::Options::default()).unwrap();
    let unit = |position: u64| starts.partition_point(|&s| s as u64 <= position) - 1;
    let placed = |f: ReferenceFrame| (unit(f.position.unwrap()) as i64, f);
    frames.into_iter().map(placed).collect()
}

/// The hash by which the oracle knows a picture.
pub fn hash(picture: &Picture) -> u128 {
    let mut hasher = PlaneHasher::default();
    hasher.row(&raw(picture));
    hasher.finish()
}

/// Fails unless the picture is the oracle's.
pub fn assert_equals(what: &str, picture: &Picture, frame: &ReferenceFrame) {
    let at = picture.id();
    assert_eq!(
        (picture.width(), picture.height()),
        (frame.width, frame.height),
        "{what}: {at}"
    );
    assert!(hash(picture) == frame.hash, "{what}: picture {at} differs");
    assert!(!picture.is_damaged(), "{what}: {at}");
    let kind = match picture.picture_type() {
        codec::PictureType::I => 'I',
        codec::PictureType::P => 'P',
        codec::PictureType::B => 'B',
        codec::PictureType::Unknown => '?',
    };
    assert_eq!(kind, frame.picture_type, "{what}: {at}");
}

/// Fails unless the pictures are those of the oracle, in decode order, with the places of their
/// access units as identities.
pub fn assert_equals_oracle(path: &Path, pictures: &[Picture]) {
    let what = path.file_name().unwrap().to_string_lossy();
    let mut oracle = oracle(path);
    oracle.sort_by_key(|(unit, _)| *unit);
    let expected: Vec<i64> = oracle.iter().map(|(unit, _)| *unit).collect();
    let ids: Vec<i64> = pictures.iter().map(Picture::id).collect();
    assert_eq!(ids, expected, "{what}");
    for (picture, (_, frame)) in pictures.iter().zip(&oracle) {
        assert_equals(&what, picture, frame);
    }
}
