//! The index against ffprobe's packet table, for real camera files and for every layout that
//! ffmpeg writes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod isobmff_support;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use isobmff_support::boxes::{Node, bx, full, parse, table, top, words, write};
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
    check_times(&index, &name);
    index
}

/// Each frame is found by its time in seconds, to the sixth decimal as ffprobe writes it.
fn check_times(index: &VideoIndex, name: &str) {
    let time = |f: u32| index.presentation_time(PresentationIndex(f));
    for f in 0..index.frame_count() {
        // Of frames at one time the last is seen.
        if time(f) == time(f + 1) {
            continue;
        }
        let ticks = time(f).unwrap() - time(0).unwrap();
        let seconds = ticks as f64 / f64::from(index.timescale());
        let written: f64 = format!("{seconds:.6}").parse().unwrap();
        let found = index.frame_at_time(written);
        assert_eq!(found, Some(PresentationIndex(f)), "{name}: {written} s");
    }
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

/// Where generated clips are kept between runs.
fn folder() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/footage-isobmff");
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// A clip that ffmpeg makes; made once for each list of arguments: all between `ffmpeg` and the
/// output.
fn clip(name: &str, arguments: &[&str]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    arguments.hash(&mut hasher);
    let path = folder().join(format!("{:016x}-{name}", hasher.finish()));
    if path.exists() {
        return path;
    }
    // Written beside it and renamed: another test may want the same clip at the same time.
    let unique = format!("{:?}", std::thread::current().id());
    let unique: String = unique.chars().filter(char::is_ascii_digit).collect();
    let temporary = folder().join(format!("part-{}-{unique}-{name}", std::process::id()));
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(arguments)
        .arg(&temporary)
        .output()
        .expect("ffmpeg runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "ffmpeg for {name}: {said}");
    std::fs::rename(&temporary, &path).unwrap();
    path
}

/// A file for one check, gone after it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = folder().join(format!("scratch-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const X265: &str = "log-level=error:keyint=25:min-keyint=25:scenecut=0:bframes=3:b-pyramid=1";

/// Three seconds with B-frames, and sound.
fn base() -> PathBuf {
    #[rustfmt::skip]
    let arguments = [
        "-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=3",
        "-f", "lavfi", "-i", "sine=r=44100:d=3",
        "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", X265,
        "-c:a", "aac", "-b:a", "48k",
    ];
    clip("base.mp4", &arguments)
}

/// The base remuxed with options.
fn remux(name: &str, before: &[&str], after: &[&str]) -> PathBuf {
    let base = base();
    let mut arguments = before.to_vec();
    arguments.extend(["-i", base.to_str().unwrap(), "-c", "copy"]);
    arguments.extend(after);
    clip(name, &arguments)
}

#[test]
fn every_layout_that_ffmpeg_writes_is_indexed_as_ffprobe_lists_it() {
    let progressive = |moov_first| Layout::Progressive { moov_first };
    let fragmented = Layout::Fragmented;
    #[rustfmt::skip]
    let cases: &[(&str, &[&str], &[&str], Layout)] = &[
        ("moov-last.mp4", &[], &["-map", "0"], progressive(false)),
        ("faststart.mp4", &[], &["-movflags", "+faststart"], progressive(true)),
        ("hvc1.mp4", &[], &["-tag:v", "hvc1"], progressive(false)),
        ("quicktime.mov", &[], &["-tag:v", "hvc1", "-timecode", "00:00:00:00"], progressive(false)),
        ("audio-first.mp4", &[], &["-map", "0:a", "-map", "0:v"], progressive(false)),
        ("no-edit-list.mp4", &[], &["-use_editlist", "0"], progressive(false)),
        ("negative-offsets.mp4", &[], &["-movflags", "+negative_cts_offsets"], progressive(false)),
        ("trimmed.mp4", &["-ss", "0.9"], &[], progressive(false)),
        ("trimmed-end.mp4", &["-ss", "1.3", "-t", "0.9"], &[], progressive(false)),
        ("late.mp4", &["-itsoffset", "1.5"], &[], progressive(false)),
        ("frag-keyframe.mp4", &[], &["-movflags", "frag_keyframe+empty_moov"], fragmented),
        ("frag-base-moof.mp4", &[], &["-movflags", "frag_keyframe+empty_moov+default_base_moof"],
            fragmented),
        ("frag-every-frame.mp4", &[], &["-movflags", "frag_every_frame+empty_moov"], fragmented),
        ("frag-dash.mp4", &[], &["-movflags", "frag_keyframe+empty_moov+default_base_moof+dash"],
            fragmented),
        ("frag-sidx.mp4", &[], &["-movflags",
            "frag_keyframe+empty_moov+default_base_moof+dash+global_sidx"], fragmented),
        ("frag-hybrid.mp4", &[], &["-movflags", "frag_keyframe"], fragmented),
        ("frag-delay-moov.mp4", &[], &["-movflags", "frag_keyframe+delay_moov"], fragmented),
        ("frag-separate.mp4", &[], &["-movflags", "frag_keyframe+empty_moov+separate_moof"],
            fragmented),
        ("frag-no-offset.mp4", &[], &["-movflags",
            "frag_keyframe+empty_moov+omit_tfhd_offset"], fragmented),
        ("frag-trimmed.mp4", &["-ss", "0.9"], &["-movflags", "frag_keyframe+delay_moov"],
            fragmented),
        ("frag-audio-first.mp4", &[], &["-map", "0:a", "-map", "0:v", "-movflags",
            "frag_keyframe+empty_moov+omit_tfhd_offset"], fragmented),
    ];
    for (name, before, after, layout) in cases {
        let index = check(&remux(name, before, after));
        assert_eq!(index.layout(), *layout, "{name}");
    }
}

#[test]
fn every_structure_that_x265_writes_is_indexed_as_ffprobe_lists_it() {
    let x265 = |more: &str| format!("{X265}:{more}");
    #[rustfmt::skip]
    let cases: &[(&str, &str, String)] = &[
        ("open-gop.mp4", "null", x265("open-gop=1")),
        ("eight-b.mp4", "null", x265("bframes=8:keyint=60:rc-lookahead=20")),
        ("no-b.mp4", "null", x265("bframes=0")),
        ("vfr.mp4", "select='not(eq(mod(n,7),3))+eq(mod(n,5),1)',setpts=PTS+mod(N\\,3)/(50*TB)",
            x265("open-gop=0")),
    ];
    for (name, filter, params) in cases {
        #[rustfmt::skip]
        let arguments = [
            "-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=3", "-vf", filter,
            "-vsync", "vfr", "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", params,
        ];
        check(&clip(name, &arguments));
    }
}

/// The MD5 of a file's first picture, through a filter.
fn first_picture(file: &Path, options: &[&str], filter: &str) -> String {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin"])
        .args(options)
        .arg("-i")
        .arg(file)
        .args(["-vf", filter, "-frames:v", "1", "-f", "md5", "-"])
        .output()
        .expect("ffmpeg runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Every quarter turn and mirroring, in the track's matrix and in the movie's: turning the coded
/// picture by what the index says must give what ffmpeg shows.
#[test]
fn orientation_turns_pictures_as_ffmpeg_does() {
    let one = 0x1_0000u32;
    let minus = one.wrapping_neg();
    let mut matrices = Vec::new();
    for (x, y) in [(one, one), (one, minus), (minus, one), (minus, minus)] {
        matrices.extend([[x, 0, 0, y], [0, x, y, 0]]);
    }
    let original = std::fs::read(remux("moov-last.mp4", &[], &["-map", "0"])).unwrap();
    let mut seen = Vec::new();
    let mut try_matrices = |name: &str, track: [u32; 4], movie: [u32; 4]| {
        let mut file = parse(&original);
        let moov = top(&mut file, b"moov");
        for (path, at, [a, b, c, d]) in [
            (&[b"trak", b"tkhd"][..], 40, track),
            (&[b"mvhd"][..], 36, movie),
        ] {
            let matrix = words(&[a, b, 0, c, d, 0, 0, 0, 0x4000_0000]);
            moov.at(path).body()[at..at + 36].copy_from_slice(&matrix);
        }
        let object = write(&file);
        let scratch = Scratch::new(name, &object);
        let path = scratch.0.as_path();
        let turned = build(&object).unwrap().index.orientation();
        let mut filter = if turned.mirrored {
            "hflip".to_string()
        } else {
            "null".to_string()
        };
        for _ in 0..turned.quarter_turns {
            filter.push_str(",transpose=clock");
        }
        let ours = first_picture(path, &["-noautorotate"], &filter);
        assert_eq!(
            ours,
            first_picture(path, &[], "null"),
            "{track:x?} {movie:x?} {turned:?}"
        );
        seen.push(turned);
    };
    let identity = [one, 0, 0, one];
    for matrix in matrices {
        try_matrices("orientation-track.mp4", matrix, identity);
        try_matrices("orientation-movie.mp4", identity, matrix);
        // The order of the product matters here.
        try_matrices("orientation-both.mp4", matrix, [0, one, minus, 0]);
    }
    for mirrored in [false, true] {
        for quarter_turns in 0..4 {
            assert!(seen.contains(&Orientation {
                mirrored,
                quarter_turns
            }));
        }
    }
}

/// The base with some boxes edited: written beside the clips and checked against ffprobe.
fn check_edited(name: &str, edit: impl Fn(&mut Vec<Node>)) -> VideoIndex {
    let mut file = parse(&std::fs::read(remux("moov-last.mp4", &[], &["-map", "0"])).unwrap());
    edit(&mut file);
    check(&Scratch::new(name, &write(&file)).0)
}

const STBL: [&[u8; 4]; 4] = [b"trak", b"mdia", b"minf", b"stbl"];

fn with_edits(name: &str, edits: &[(u32, i32)]) -> VideoIndex {
    check_edited(name, |file| {
        let trak = top(file, b"moov").at(&[b"trak"]);
        let rows: Vec<u32> = edits
            .iter()
            .flat_map(|&(d, t)| [d, t as u32, 0x1_0000])
            .collect();
        *trak.at(&[b"edts", b"elst"]) = Node::of(table(b"elst", 3, &rows));
    })
}

#[test]
fn edit_lists_show_what_ffprobe_shows() {
    // 12800 ticks a second, 512 a picture, the first composed at 1024; the movie has 1000.
    with_edits("edits-whole.mp4", &[(3000, 1024)]);
    with_edits("edits-from-zero.mp4", &[(3100, 0)]);
    with_edits("edits-part.mp4", &[(1000, 1024 + 512 * 30)]);
    with_edits(
        "edits-inside-a-picture.mp4",
        &[(1000, 1024 + 512 * 30 + 100)],
    );
    with_edits("edits-delayed.mp4", &[(777, -1), (1500, 1024 + 512 * 7)]);
    with_edits(
        "edits-twice-delayed.mp4",
        &[(500, -1), (277, -1), (1500, 1024)],
    );
    let two = with_edits("edits-two.mp4", &[(1000, 1024 + 512 * 50), (1000, 1024)]);
    assert_eq!(two.frame_count(), 50);
    assert_eq!(
        two.decode_index(PresentationIndex(25)),
        Some(DecodeIndex(0))
    );
    let again = with_edits("edits-again.mp4", &[(1000, 1024), (1000, 1024)]);
    assert_eq!(again.frame_count(), 50);
    assert_eq!(
        again.decode_index(PresentationIndex(0)),
        again.decode_index(PresentationIndex(25))
    );
    assert_eq!(
        again.presentation_index(DecodeIndex(0)),
        Some(PresentationIndex(0))
    );
}

#[test]
fn long_offsets_and_sizes_are_read() {
    check_edited("co64.mp4", |file| {
        let moov = top(file, b"moov");
        let stbl = moov.at(&STBL);
        let stco = stbl.at(&[b"stco"]).body().clone();
        let mut co64 = stco[..8].to_vec();
        for row in stco[8..].as_chunks::<4>().0 {
            co64.extend_from_slice(&u64::from(u32::from_be_bytes(*row)).to_be_bytes());
        }
        *stbl.at(&[b"stco"]) = Node::leaf(b"co64", co64);
    });
}

#[test]
fn compact_sizes_are_read() {
    for bits in [8u32, 16] {
        check_edited(&format!("stz2-{bits}.mp4"), |file| {
            let stbl = top(file, b"moov").at(&STBL);
            let stsz = stbl.at(&[b"stsz"]).body().clone();
            let mut body = words(&[0, bits]);
            body.extend_from_slice(&stsz[8..12]);
            for row in stsz[12..].as_chunks::<4>().0 {
                // Sizes that do not fit are cut, which changes what the samples are but not
                // whether they are read alike.
                body.extend_from_slice(&row[4 - bits as usize / 8..]);
            }
            *stbl.at(&[b"stsz"]) = Node::leaf(b"stz2", body);
        });
    }
}

#[test]
fn partial_sync_samples_and_random_access_points_are_sync() {
    let plain = check(&remux("moov-last.mp4", &[], &["-map", "0"]));
    let plain: Vec<_> = plain.sync_samples().map(|s| s.0).collect();
    assert_eq!(plain, [0, 25, 50]);

    let partial = check_edited("stps.mov", |file| {
        let stbl = top(file, b"moov").at(&STBL);
        stbl.children().push(Node::of(table(b"stps", 1, &[11, 41])));
    });
    let partial: Vec<_> = partial.sync_samples().map(|s| s.0).collect();
    assert_eq!(partial, [0, 10, 25, 40, 50]);

    let grouped = check_edited("rap.mp4", |file| {
        let stbl = top(file, b"moov").at(&STBL);
        let mut sgpd = b"rap ".to_vec();
        sgpd.extend(words(&[1, 1]));
        sgpd.push(0x80);
        let mut sbgp = b"rap ".to_vec();
        sbgp.extend(words(&[4, 12, 0, 1, 1, 20, 0, 2, 1]));
        stbl.children().push(Node::of(full(b"sgpd", 1, 0, sgpd)));
        stbl.children().push(Node::of(full(b"sbgp", 0, 0, sbgp)));
    });
    let grouped: Vec<_> = grouped.sync_samples().map(|s| s.0).collect();
    assert_eq!(grouped, [0, 12, 25, 33, 34, 50]);
}

#[test]
fn a_time_table_that_ends_early_or_goes_back_is_repaired_as_ffmpeg_does() {
    for (name, rows) in [
        ("stts-short.mp4", &[10, 512, 20, 500][..]),
        (
            "stts-corrected.mp4",
            &[10, 512, 1, (-400i32) as u32, 2, 512, 62, 512],
        ),
        ("stts-negative.mp4", &[10, 512, 1, (-40i32) as u32, 64, 512]),
    ] {
        check_edited(name, |file| {
            let stbl = top(file, b"moov").at(&STBL);
            *stbl.at(&[b"stts"]) = Node::of(table(b"stts", 2, rows));
        });
    }
}

#[test]
fn sync_samples_that_are_counted_from_zero_are_found() {
    let index = check_edited("stss-from-zero.mp4", |file| {
        let stbl = top(file, b"moov").at(&STBL);
        *stbl.at(&[b"stss"]) = Node::of(table(b"stss", 1, &[0, 25, 50]));
    });
    let sync: Vec<_> = index.sync_samples().map(|s| s.0).collect();
    assert_eq!(sync, [0, 25, 50]);
}

#[test]
fn an_edit_list_moves_the_timeline_of_a_fragmented_file() {
    let file = remux(
        "frag-edited.mp4",
        &[],
        &["-movflags", "frag_keyframe+delay_moov"],
    );
    let mut file = parse(&std::fs::read(file).unwrap());
    let trak = top(&mut file, b"moov").at(&[b"trak"]);
    let elst = table(
        b"elst",
        3,
        &[700, u32::MAX, 0x1_0000, 0, 1024 + 512 * 3, 0x1_0000],
    );
    trak.children().retain(|n| &n.fourcc != b"edts");
    trak.children().push(Node::of(bx(b"edts", elst)));
    let index = check(&Scratch::new("frag-edited-late.mp4", &write(&file)).0);
    assert_eq!(index.frame_count(), 75);
    assert_eq!(
        index.presentation_time(PresentationIndex(0)),
        Some(700 * 12800 / 1000 - 512 * 3)
    );
}
