//! Files written box by box: structures that no encoder at hand writes, what is refused and how
//! it is said, and how much is read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod isobmff_support;

use bytes::Bytes;
use isobmff_support::boxes::*;
use isobmff_support::{Built, build, build_from, build_with};
use media::demux::{DemuxError, HEAD_BYTES, IndexBuilder, Step, TAIL_BYTES};
use media::index::{Framing, Layout};
use media::{DecodeIndex, PresentationIndex, VideoIndex};

/// The tables of samples of 10, 11, 12 … bytes, one tick of 40 ms each, in one chunk.
fn tables(samples: u32, chunk: u32) -> Vec<Vec<u8>> {
    let mut sizes = vec![0, samples];
    sizes.extend((0..samples).map(|i| 10 + i));
    vec![
        table(b"stts", 2, &[samples, 40]),
        table(b"stsc", 3, &[1, samples, 1]),
        full(b"stsz", 0, 0, words(&sizes)),
        table(b"stco", 1, &[chunk]),
        table(b"stss", 1, &[1]),
    ]
}

/// Bytes of so many samples.
fn media_len(samples: u32) -> usize {
    (0..samples).map(|i| 10 + i as usize).sum()
}

/// ftyp, mdat, moov with the tracks that are made for the place of the first media byte.
fn file(media: &[u8], tracks: impl Fn(u32) -> Vec<Track>) -> Vec<u8> {
    let mut out = ftyp();
    let at = out.len() as u32 + 8;
    out.extend(bx(b"mdat", media));
    out.extend(moov(&tracks(at), &[]));
    out
}

fn one_track(samples: u32) -> Vec<u8> {
    file(&vec![0; media_len(samples)], |at| {
        vec![Track::hevc(tables(samples, at))]
    })
}

fn index(object: &[u8]) -> VideoIndex {
    build(object).unwrap().index
}

fn places(index: &VideoIndex) -> Vec<(u64, u32)> {
    (0..index.sample_count())
        .map(|i| index.sample(DecodeIndex(i)).unwrap())
        .map(|s| (s.offset, s.size))
        .collect()
}

fn expected_places(samples: u32, mut at: u64) -> Vec<(u64, u32)> {
    (0..samples)
        .map(|i| {
            at += u64::from(10 + i);
            (at - u64::from(10 + i), 10 + i)
        })
        .collect()
}

fn error(object: &[u8]) -> DemuxError {
    build(object).map(|b| b.index).expect_err("an error")
}

/// The error's text holds a phrase.
#[track_caller]
fn refused(object: &[u8], phrase: &str) -> DemuxError {
    let error = error(object);
    assert!(error.to_string().contains(phrase), "{error}");
    error
}

#[test]
fn a_small_file_is_indexed() {
    let i = index(&one_track(5));
    assert_eq!(places(&i), expected_places(5, 28));
    assert_eq!(i.layout(), Layout::Progressive { moov_first: false });
    assert_eq!(i.timescale(), 1000);
    assert_eq!(i.presentation_time(PresentationIndex(4)), Some(160));
    assert_eq!(i.duration(), 200);
    assert_eq!(
        i.parameter_sets().map(|s| s.to_vec()).collect::<Vec<_>>(),
        SETS.map(<[u8]>::to_vec)
    );
    assert_eq!(i.descriptions()[0].fourcc, Some(*b"hvc1"));
    assert_eq!(i.descriptions()[0].framing, Framing::LengthPrefixed(4));
    assert_eq!(i.sync_at_or_before(DecodeIndex(4)), Some(DecodeIndex(0)));
}

#[test]
fn media_data_may_have_a_large_size_or_none() {
    let media = vec![0; media_len(3)];
    let mut large = ftyp();
    large.extend(words(&[1]));
    large.extend_from_slice(b"mdat");
    large.extend_from_slice(&(media.len() as u64 + 16).to_be_bytes());
    large.extend_from_slice(&media);
    large.extend(moov(&[Track::hevc(tables(3, 36))], &[]));
    assert_eq!(places(&index(&large)), expected_places(3, 36));

    let head_len = (ftyp().len() + moov(&[Track::hevc(tables(3, 0))], &[]).len()) as u32;
    let mut open = ftyp();
    open.extend(moov(&[Track::hevc(tables(3, head_len + 8))], &[]));
    open.extend(words(&[0]));
    open.extend_from_slice(b"mdat");
    open.extend_from_slice(&media);
    let i = index(&open);
    assert_eq!(places(&i), expected_places(3, u64::from(head_len) + 8));
    assert_eq!(i.layout(), Layout::Progressive { moov_first: true });
}

#[test]
fn sizes_of_four_bits_are_read() {
    let sizes = [3u32, 15, 7];
    let mut t = tables(3, 28);
    t[2] = full(b"stz2", 0, 0, [words(&[4, 3]), vec![0x3f, 0x70]].concat());
    let media = vec![0; 25];
    let i = index(&file(&media, |_| vec![Track::hevc(t.clone())]));
    assert_eq!(places(&i).iter().map(|p| p.1).collect::<Vec<_>>(), sizes);
}

#[test]
fn lengths_of_nal_units_may_have_one_or_two_bytes_but_not_three() {
    for length_size in [1, 2, 4] {
        let i = index(&file(&[0; 33], |at| {
            let mut t = Track::hevc(tables(3, at));
            t.entries = vec![hevc_entry(b"hev1", length_size, &SETS)];
            vec![t]
        }));
        assert_eq!(
            i.descriptions()[0].framing,
            Framing::LengthPrefixed(length_size)
        );
    }
    let three = file(&[0; 33], |at| {
        let mut t = Track::hevc(tables(3, at));
        t.entries = vec![hevc_entry(b"hev1", 3, &SETS)];
        vec![t]
    });
    assert!(matches!(
        refused(&three, "3 bytes"),
        DemuxError::Unsupported { .. }
    ));
}

/// `hev1` with an empty `hvcC`: the sets stand in the first sync sample, which is read.
#[test]
fn parameter_sets_in_band_are_taken_from_the_first_sync_sample() {
    for length_size in [1u8, 2, 4] {
        let mut sample = Vec::new();
        let sei: &[u8] = &[0x4e, 1, 5];
        let layer_1: &[u8] = &[0x42, 9, 0xbb];
        for nal in [SETS[0], SETS[1], sei, layer_1, SETS[2], &[0x26, 1, 0xff]] {
            sample.extend_from_slice(&(nal.len() as u32).to_be_bytes()[4 - length_size as usize..]);
            sample.extend_from_slice(nal);
        }
        let len = sample.len() as u32;
        let mut media = vec![0; 9];
        media.extend(&sample);
        // Far from head and tail, so that it takes a read of its own.
        media.resize(600_000, 0);
        let object = file(&media, |at| {
            let mut t = Track::hevc(vec![
                table(b"stts", 2, &[2, 40]),
                table(b"stsc", 3, &[1, 2, 1]),
                full(b"stsz", 0, 0, words(&[0, 2, 9, len])),
                table(b"stco", 1, &[at]),
                table(b"stss", 1, &[2]),
            ]);
            t.entries = vec![hevc_entry(b"hev1", length_size, &[])];
            vec![t]
        });
        let built = build_with(&object, 16, 4096).unwrap();
        let sets: Vec<_> = built.index.parameter_sets().map(|s| s.to_vec()).collect();
        assert_eq!(sets, SETS.map(<[u8]>::to_vec));
        assert_eq!(built.reads, 2, "the rest of the header, and the sample");
    }
    let none = file(&[0; 33], |at| {
        let mut t = Track::hevc(tables(3, at));
        t.entries = vec![hevc_entry(b"hev1", 4, &[])];
        vec![t]
    });
    assert!(matches!(
        refused(&none, "no sequence parameter set"),
        DemuxError::Damaged { .. }
    ));
}

#[test]
fn parameter_sets_of_other_layers_are_not_taken() {
    let layer_1: &[u8] = &[0x42, 9, 0xbb];
    let i = index(&file(&[0; 33], |at| {
        let mut t = Track::hevc(tables(3, at));
        t.entries = vec![hevc_entry(
            b"hvc1",
            4,
            &[SETS[0], layer_1, SETS[1], SETS[2]],
        )];
        vec![t]
    }));
    assert_eq!(i.parameter_sets().count(), 3);
}

#[test]
fn samples_of_several_descriptions_name_theirs() {
    let with = |entries: Vec<Vec<u8>>| {
        file(&[0; 60], move |at| {
            let mut t = Track::hevc(tables(5, at));
            t.tables[1] = table(b"stsc", 3, &[1, 2, 1, 2, 1, 2, 3, 2, 1]);
            t.tables[3] = table(b"stco", 1, &[at, at + 21, at + 33]);
            t.entries = entries.clone();
            vec![t]
        })
    };
    let other: [&[u8]; 3] = [&[0x40, 1, 1], &[0x42, 1, 2], &[0x44, 1, 3]];
    let i = index(&with(vec![
        hevc_entry(b"hvc1", 4, &SETS),
        hevc_entry(b"hev1", 2, &other),
    ]));
    let used: Vec<_> = (0..5)
        .map(|s| i.sample(DecodeIndex(s)).unwrap().description)
        .collect();
    assert_eq!(used, [0, 0, 1, 0, 0]);
    assert_eq!(places(&i), expected_places(5, 28));
    assert_eq!(
        i.parameter_sets_before(DecodeIndex(2))[1].to_vec(),
        other[1]
    );

    let avc = with(vec![
        hevc_entry(b"hvc1", 4, &SETS),
        visual_entry(b"avc1", &[]),
    ]);
    let e = refused(&avc, "from sample 2 on it has `avc1`");
    assert!(
        matches!(e, DemuxError::Unsupported { .. }) && e.to_string().contains("H.264"),
        "{e}"
    );
    let none = with(vec![hevc_entry(b"hvc1", 4, &SETS)]);
    assert!(matches!(
        refused(&none, "has description 2"),
        DemuxError::Damaged { .. }
    ));
    // One that no sample uses does no harm.
    let mut unused = Track::hevc(tables(3, 28));
    unused.entries = vec![visual_entry(b"avc1", &[]), hevc_entry(b"hvc1", 4, &SETS)];
    unused.tables[1] = table(b"stsc", 3, &[1, 3, 2]);
    assert_eq!(
        index(&file(&[0; 33], |_| vec![unused.clone()]))
            .descriptions()
            .len(),
        1
    );
}

#[test]
fn colour_and_pixel_aspect_are_read() {
    let with = |colr: &[u8]| {
        let inside = [
            hvcc(4, &SETS),
            bx(b"colr", b"profICC"),
            bx(b"colr", colr),
            bx(b"pasp", words(&[4, 3])),
        ];
        let object = file(&[0; 33], |at| {
            let mut t = Track::hevc(tables(3, at));
            t.entries = vec![visual_entry(b"hvc1", &inside.concat())];
            vec![t]
        });
        index(&object).descriptions()[0].clone()
    };
    let nclx = with(b"nclx\0\x09\0\x10\0\x09\x80");
    let c = nclx.colour;
    assert_eq!(
        (c.primaries, c.transfer, c.matrix, c.full_range),
        (9, 16, 9, Some(true))
    );
    assert_eq!(nclx.pixel_aspect, Some((4, 3)));
    let c = with(b"nclc\0\x01\0\x01\0\x06").colour;
    assert_eq!(
        (c.primaries, c.transfer, c.matrix, c.full_range),
        (1, 1, 6, None)
    );
}

#[test]
fn a_dwell_shows_one_picture_and_an_open_edit_the_rest() {
    let with = |edits: &[(u32, i32, u32)]| {
        let object = file(&vec![0; media_len(5)], |at| {
            let mut t = Track::hevc(tables(5, at));
            t.edits = edits.to_vec();
            vec![t]
        });
        let i = index(&object);
        (0..i.frame_count())
            .map(PresentationIndex)
            .map(|f| {
                (
                    i.decode_index(f).unwrap().0,
                    i.presentation_time(f).unwrap(),
                )
            })
            .collect::<Vec<_>>()
    };
    // Samples at 0, 40, 80, 120, 160.
    assert_eq!(
        with(&[(1000, 90, 0), (80, 0, 65536)]),
        [(2, 0), (0, 1000), (1, 1040)]
    );
    assert_eq!(with(&[(0, 120, 65536)]), [(3, 0), (4, 40)]);
    assert_eq!(
        with(&[(100, -1, 65536), (80, 80, 65536)]),
        [(2, 100), (3, 140)]
    );
    let gap = with(&[(40, 0, 65536), (500, -1, 65536), (40, 160, 65536)]);
    assert_eq!(gap, [(0, 0), (4, 540)]);
    // A list that shows nothing is not applied.
    assert_eq!(with(&[(100, 7000, 65536)]).len(), 5);
    assert_eq!(
        with(&[(100, -1, 65536)]),
        [(0, 0), (1, 40), (2, 80), (3, 120), (4, 160)]
    );
}

/// Which frame is on screen at so many ticks (of which there are 1000 a second).
fn frame_at(index: &VideoIndex, ticks: f64) -> Option<u32> {
    assert_eq!(index.timescale(), 1000);
    index.frame_at_time(ticks / 1000.0).map(|f| f.0)
}

#[test]
fn a_time_names_the_frame_that_is_on_screen() {
    let i = index(&one_track(5));
    for frame in 0..5 {
        let start = f64::from(frame * 40);
        for ticks in [start, start + 0.4, start + 20.0, start + 39.4] {
            assert_eq!(frame_at(&i, ticks), Some(frame), "{ticks}");
        }
        // Written in decimals, a time is a little off.
        if frame > 0 {
            assert_eq!(frame_at(&i, start - 0.4), Some(frame));
            assert_eq!(frame_at(&i, start - 0.6), Some(frame - 1));
        }
    }
    assert_eq!(frame_at(&i, 199.9), Some(4));
    assert_eq!(frame_at(&i, -0.0), Some(0));
    let never = [
        200.0,
        1e300,
        -0.1,
        -1e300,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ];
    for ticks in never {
        assert_eq!(frame_at(&i, ticks), None, "{ticks}");
    }
}

#[test]
fn a_time_names_a_frame_where_the_rate_varies_and_pictures_are_reordered() {
    let object = file(&vec![0; media_len(5)], |at| {
        let mut t = tables(5, at);
        // Decoded at 0, 10, 40, 140, 141; shown at 20, 141, 40, 140, 161.
        t[0] = table(b"stts", 2, &[1, 10, 1, 30, 1, 100, 1, 1, 1, 7]);
        t.push(table(b"ctts", 2, &[1, 20, 1, 131, 2, 0, 1, 20]));
        vec![Track::hevc(t)]
    });
    let i = index(&object);
    let shown: Vec<_> = (0..5)
        .map(|f| i.presentation_time(PresentationIndex(f)).unwrap())
        .collect();
    assert_eq!(shown, [20, 40, 140, 141, 161]);
    // Counted from the first.
    let expected = [
        (0.0, 0),
        (19.4, 0),
        (20.0, 1),
        (119.0, 1),
        (120.0, 2),
        (120.4, 2),
        (121.0, 3),
        (141.0, 4),
        (147.9, 4),
    ];
    for (ticks, frame) in expected {
        assert_eq!(frame_at(&i, ticks), Some(frame), "{ticks}");
    }
    assert_eq!(frame_at(&i, 148.0), None);
    // Without a duration, the last picture is shown for a tick.
    let object = file(&vec![0; media_len(1)], |at| {
        let mut t = tables(1, at);
        t[0] = table(b"stts", 2, &[1, 0]);
        vec![Track::hevc(t)]
    });
    let i = index(&object);
    assert_eq!((frame_at(&i, 0.0), frame_at(&i, 0.9)), (Some(0), Some(0)));
    assert_eq!(frame_at(&i, 1.0), None);
}

#[test]
fn a_time_counts_from_what_an_edit_list_shows_first() {
    let with = |edits: &[(u32, i32, u32)]| {
        let object = file(&vec![0; media_len(5)], |at| {
            let mut t = Track::hevc(tables(5, at));
            t.edits = edits.to_vec();
            vec![t]
        });
        index(&object)
    };
    // It appears late, and two pictures before it are hidden.
    let late = with(&[(100, -1, 65536), (80, 80, 65536)]);
    for (ticks, frame) in [
        (0.0, Some(0)),
        (40.0, Some(1)),
        (79.0, Some(1)),
        (80.0, None),
    ] {
        assert_eq!(frame_at(&late, ticks), frame, "{ticks}");
    }
    // What is on screen before a gap stays.
    let gap = with(&[(40, 0, 65536), (500, -1, 65536), (40, 160, 65536)]);
    for (ticks, frame) in [
        (0.0, Some(0)),
        (300.0, Some(0)),
        (540.0, Some(1)),
        (580.0, None),
    ] {
        assert_eq!(frame_at(&gap, ticks), frame, "{ticks}");
    }
}

#[test]
fn edits_that_repeat_without_end_are_refused() {
    let object = file(&vec![0; media_len(50)], |at| {
        let mut t = Track::hevc(tables(50, at));
        t.edits = vec![(10_000, 0, 65536); 500];
        vec![t]
    });
    assert!(matches!(
        refused(&object, "edit list"),
        DemuxError::Unsupported { .. }
    ));
}

#[test]
fn negative_offsets_reorder_and_missing_ones_are_zero() {
    let object = file(&vec![0; media_len(5)], |at| {
        let mut t = tables(5, at);
        let rows: Vec<u32> = [(1, 0), (1, 80), (2, -40i32)]
            .iter()
            .flat_map(|&(n, o)| [n, o as u32])
            .collect();
        t.push(table(b"ctts", 2, &rows));
        vec![Track::hevc(t)]
    });
    let i = index(&object);
    let order: Vec<_> = (0..5)
        .map(|f| i.decode_index(PresentationIndex(f)).unwrap().0)
        .collect();
    // 0, 40 + 80, 80 − 40, 120 − 40, 160.
    assert_eq!(order, [0, 2, 3, 1, 4]);
    assert_eq!(i.sample(DecodeIndex(2)).unwrap().composition_offset, -40);
    assert_eq!(i.sample(DecodeIndex(4)).unwrap().composition_offset, 0);
}

#[test]
fn the_track_is_chosen_by_enabled_then_length_then_area() {
    let track = |id: u32, samples: u32, width: u16, enabled: bool| {
        let mut t = Track::hevc(tables(samples, 28));
        (t.id, t.enabled) = (id, enabled);
        t.entries[0][32..34].copy_from_slice(&width.to_be_bytes());
        t
    };
    let chosen = |tracks: Vec<Track>| {
        let i = index(&file(&vec![0; media_len(60)], |_| tracks.clone()));
        i.tracks().iter().find(|t| t.selected).unwrap().id
    };
    assert_eq!(
        chosen(vec![track(1, 9, 640, true), track(2, 9, 1280, true)]),
        2
    );
    assert_eq!(
        chosen(vec![track(1, 9, 640, true), track(2, 9, 1280, false)]),
        1
    );
    // The still of a motion photo.
    assert_eq!(
        chosen(vec![track(1, 58, 640, true), track(2, 1, 1280, true)]),
        1
    );
    assert_eq!(
        chosen(vec![track(1, 9, 640, true), track(2, 9, 640, true)]),
        1
    );
    assert_eq!(
        chosen(vec![track(1, 9, 640, true), track(2, 12, 640, true)]),
        2
    );
    let mut picture = track(7, 9, 640, true);
    picture.handler = *b"pict";
    assert_eq!(chosen(vec![picture.clone()]), 7);
    assert_eq!(chosen(vec![picture, track(1, 9, 64, true)]), 1);
}

#[test]
fn what_is_no_video_is_named() {
    let other = |handler: &[u8; 4], entry: Vec<u8>| {
        let (handler, entry) = (*handler, entry);
        file(&[0; 33], move |at| {
            let mut t = Track::hevc(tables(3, at));
            t.handler = handler;
            t.entries = vec![entry.clone()];
            vec![t]
        })
    };
    for (fourcc, name) in [
        (b"avc1", "H.264 (`avc1`)"),
        (b"av01", "AV1 (`av01`)"),
        (b"vp09", "VP9 (`vp09`)"),
        (b"mp4v", "MPEG-4 part 2 (`mp4v`)"),
        (b"qq\0\x01", "`qq\\x00\\x01`"),
    ] {
        let e = refused(&other(b"vide", visual_entry(fourcc, &[])), name);
        assert!(matches!(e, DemuxError::OtherCodec { .. }), "{e:?}");
    }
    for (fourcc, name) in [
        (b"hvc2", "not supported: H.265 with extractors (`hvc2`)"),
        (
            b"lhv1",
            "not supported: layered H.265 without its base layer (`lhv1`)",
        ),
        (b"hvt1", "not supported: H.265 tiles (`hvt1`)"),
    ] {
        refused(&other(b"vide", visual_entry(fourcc, &[])), name);
    }
    let sinf = [
        bx(b"frma", b"hvc1"),
        full(
            b"schm",
            0,
            0,
            [b"cenc".to_vec(), words(&[0x1_0000])].concat(),
        ),
    ];
    let encrypted = other(b"vide", visual_entry(b"encv", &bx(b"sinf", sinf.concat())));
    let e = refused(
        &encrypted,
        "encrypted H.265 (`hvc1`) (`encv`, scheme `cenc`)",
    );
    assert!(matches!(e, DemuxError::Unsupported { .. }));

    let e = refused(&other(b"soun", bx(b"mp4a", [0; 28])), "`soun` with `mp4a`");
    assert!(matches!(e, DemuxError::NotVideo { .. }), "{e:?}");
    refused(&file(&[], |_| vec![]), "without tracks");
    refused(&one_track(0), "empty");

    let still = [
        bx(b"ftyp", b"heic\0\0\0\0mif1"),
        bx(b"meta", [0; 4]),
        bx(b"mdat", [0; 9]),
    ];
    let e = refused(&still.concat(), "a still picture in HEIF (brand `heic`)");
    assert!(matches!(e, DemuxError::NotVideo { .. }));
    let e = refused(&[ftyp(), bx(b"mdat", [0; 99])].concat(), "no `moov`");
    assert!(matches!(e, DemuxError::CutShort { .. }));
    refused(
        &[ftyp(), bx(b"moof", [0; 8])].concat(),
        "initialization segment",
    );
    refused(&[ftyp(), moov(&[], &bx(b"cmov", []))].concat(), "cmov");
}

#[test]
fn samples_in_another_file_are_refused() {
    let with = |flags: u32, place: &[u8]| {
        let mut track = Node::of(Track::hevc(tables(3, 28)).write());
        let dref = [words(&[1]), full(b"url ", 0, flags, place)].concat();
        let dinf = Node::leaf(b"dinf", full(b"dref", 0, 0, dref));
        track.at(&[b"mdia", b"minf"]).children().push(dinf);
        let mut moov = Node::of(moov(&[], &[]));
        moov.children().push(track);
        [ftyp(), bx(b"mdat", [0; 33]), moov.write()].concat()
    };
    assert_eq!(index(&with(1, b"")).sample_count(), 3);
    assert_eq!(index(&with(0, b"\0")).sample_count(), 3);
    refused(&with(0, b"file:///else.mov\0"), "in another file");
}

#[test]
fn a_missing_end_is_told_by_the_first_missing_sample() {
    let head_len = ftyp().len() + moov(&[Track::hevc(tables(20, 0))], &[]).len();
    let mut object = ftyp();
    object.extend(moov(&[Track::hevc(tables(20, head_len as u32 + 8))], &[]));
    object.extend(bx(b"mdat", vec![0; media_len(20)]));
    assert_eq!(index(&object).sample_count(), 20);
    object.truncate(head_len + 8 + media_len(7) + 3);
    let e = refused(&object, "sample 7 of the video, 17 bytes");
    assert!(matches!(e, DemuxError::CutShort { .. }), "{e:?}");
    // In a file that is whole, the same is a lie.
    let lie = file(&[0; 20], |at| vec![Track::hevc(tables(20, at + 300))]);
    assert!(matches!(
        refused(&lie, "sample"),
        DemuxError::Damaged { .. }
    ));
}

#[test]
fn tables_that_promise_more_than_they_hold_are_refused() {
    let with = |which: usize, table: Vec<u8>| {
        file(&[0; 33], |at| {
            let mut t = tables(3, at);
            t[which] = table.clone();
            vec![Track::hevc(t)]
        })
    };
    let huge = u32::MAX;
    refused(
        &with(0, full(b"stts", 0, 0, words(&[huge, 1, 1]))),
        "`stts`",
    );
    refused(
        &with(1, full(b"stsc", 0, 0, words(&[huge, 1, 3, 1]))),
        "`stsc`",
    );
    refused(
        &with(2, full(b"stsz", 0, 0, words(&[0, huge, 1]))),
        "`stsz`",
    );
    refused(
        &with(2, full(b"stsz", 0, 0, words(&[1, 10_000]))),
        "10000 samples",
    );
    refused(&with(2, full(b"stsz", 0, 0, words(&[1, huge]))), "samples");
    refused(&with(3, full(b"stco", 0, 0, words(&[huge, 28]))), "`stco`");
    refused(&with(4, full(b"stss", 0, 0, words(&[huge, 1]))), "`stss`");
    refused(&with(1, table(b"stsc", 3, &[2, 3, 1])), "chunk 1");
    refused(&with(1, table(b"stsc", 3, &[1, 1, 1, 0, 1, 1])), "ascend");
    refused(
        &with(1, table(b"stsc", 3, &[1, 2, 1])),
        "place 2 samples, but `stsz` has 3",
    );
    refused(&with(0, table(b"stts", 2, &[])), "is empty");
    refused(&with(0, vec![]), "has no `stts`");
    refused(&with(0, words(&[9_999, 0x73747473])), "its parent `stbl`");
}

// ---- Fragments ----------------------------------------------------------------------------

fn trex(track: u32) -> Vec<u8> {
    full(b"trex", 0, 0, words(&[track, 1, 40, 0, 0x1_0000]))
}

/// `ftyp` and `moov` of a fragmented file with a video track 1 and, after it, track 2.
fn fragmented_head() -> Vec<u8> {
    let empty = || {
        vec![
            table(b"stts", 2, &[]),
            table(b"stsc", 3, &[]),
            full(b"stsz", 0, 0, words(&[0, 0])),
            table(b"stco", 1, &[]),
        ]
    };
    let mut sound = Track::hevc(empty());
    (sound.id, sound.handler) = (2, *b"soun");
    sound.entries = vec![bx(b"mp4a", [0; 28])];
    let mvex = bx(b"mvex", [trex(1), trex(2)].concat());
    [ftyp(), moov(&[Track::hevc(empty()), sound], &mvex)].concat()
}

/// One fragment of samples of these sizes, the first of them sync; `len` bytes of media.
fn fragment(time: u32, sizes: &[u32], len: usize) -> Vec<u8> {
    let traf = |offset: u32| {
        let mut run = words(&[sizes.len() as u32, offset, 0x200_0000]);
        run.extend(words(sizes));
        let parts = [
            full(b"tfhd", 0, 0x2_0000, words(&[1])),
            full(b"tfdt", 0, 0, words(&[time])),
            full(b"trun", 0, 0x205, run),
        ];
        bx(b"traf", parts.concat())
    };
    let moof = |offset: u32| {
        bx(
            b"moof",
            [full(b"mfhd", 0, 0, words(&[1])), traf(offset)].concat(),
        )
    };
    let offset = moof(0).len() as u32 + 8;
    [moof(offset), bx(b"mdat", vec![0; len])].concat()
}

#[test]
fn fragments_follow_the_implicit_base_through_other_tracks() {
    // No base in `tfhd`: track 2's data first, the video's right after it, in two runs.
    let sound = [
        full(b"tfhd", 0, 0x10, words(&[2, 5])),
        full(b"trun", 0, 0x1, words(&[4, 0])),
    ];
    let video = [
        full(b"tfhd", 0, 0, words(&[1])),
        full(b"trun", 0, 0x204, words(&[2, 0, 30, 31])),
        full(b"trun", 0, 0x200, words(&[1, 32])),
    ];
    let build_moof = |offset: u32| {
        let mut sound = sound.clone();
        sound[1] = full(b"trun", 0, 0x1, words(&[4, offset]));
        let trafs = [bx(b"traf", sound.concat()), bx(b"traf", video.concat())];
        bx(b"moof", trafs.concat())
    };
    let head = fragmented_head();
    let moof = build_moof(build_moof(0).len() as u32 + 8);
    let data = (head.len() + moof.len() + 8) as u64;
    let object = [head, moof, bx(b"mdat", [0; 20 + 93])].concat();
    let i = index(&object);
    assert_eq!(i.layout(), Layout::Fragmented);
    assert_eq!(
        places(&i),
        [(data + 20, 30), (data + 50, 31), (data + 81, 32)]
    );
    assert_eq!(i.sync_samples().collect::<Vec<_>>(), [DecodeIndex(0)]);
    let times: Vec<_> = (0..3)
        .map(|s| i.sample(DecodeIndex(s)).unwrap().dts)
        .collect();
    assert_eq!(times, [0, 40, 80]);
}

#[test]
fn fragments_that_lie_or_end_early_are_refused() {
    let head = fragmented_head();
    let good = [
        head.clone(),
        fragment(0, &[10, 20], 30),
        fragment(80, &[10, 20], 30),
    ]
    .concat();
    let i = index(&good);
    assert_eq!(i.sample_count(), 4);
    assert_eq!(i.sample(DecodeIndex(3)).unwrap().dts, 120);
    assert!(matches!(
        refused(&head, "no sample of the video"),
        DemuxError::CutShort { .. }
    ));
    let cut = refused(&good[..good.len() - 15], "sample 3 of the video, 20 bytes");
    assert!(matches!(cut, DemuxError::CutShort { .. }));
    let in_moof = good.len() - 38 - 20;
    assert!(matches!(
        error(&good[..in_moof]),
        DemuxError::CutShort { .. }
    ));
    // 4 billion samples without a byte for any of them.
    for (flags, size) in [(0x10, 1), (0x10, 0)] {
        let traf = [
            full(b"tfhd", 0, flags, words(&[1, size])),
            full(b"trun", 0, 0, words(&[u32::MAX])),
        ];
        let moof = bx(b"moof", bx(b"traf", traf.concat()));
        error(&[head.clone(), moof].concat());
    }
    let few = [
        full(b"tfhd", 0, 0x10, words(&[1, 0])),
        full(b"trun", 0, 0, words(&[3])),
    ];
    refused(
        &[head.clone(), bx(b"moof", bx(b"traf", few.concat()))].concat(),
        "no size",
    );
    let long = [
        full(b"tfhd", 0, 0, words(&[1])),
        full(b"trun", 0, 0x200, words(&[3, 1, 1])),
    ];
    refused(
        &[head, bx(b"moof", bx(b"traf", long.concat()))].concat(),
        "more than fit",
    );
}

#[test]
fn a_fragment_stands_at_its_own_time() {
    let fragments = [fragment(0, &[10, 20], 30), fragment(500, &[10, 20], 30)].concat();
    let i = index(&[fragmented_head(), fragments].concat());
    let times: Vec<_> = (0..4)
        .map(|s| i.sample(DecodeIndex(s)).unwrap().dts)
        .collect();
    assert_eq!(times, [0, 40, 500, 540]);
    assert_eq!(i.presentation_time(PresentationIndex(2)), Some(500));
}

/// As ffmpeg's demuxer takes them: a sample that says that it depends on others is no place to
/// start, whatever its other flags say.
#[test]
fn a_sample_of_a_fragment_that_depends_on_others_is_not_sync() {
    let flags = [0x200_0000, 0x100_0000, 0x1_0000, 0x101_0000, 0];
    let moof = |offset: u32| {
        let mut run = words(&[5, offset]);
        run.extend(flags.iter().flat_map(|&f| words(&[10, f])));
        let parts = [
            full(b"tfhd", 0, 0x2_0000, words(&[1])),
            full(b"trun", 0, 0x601, run),
        ];
        bx(b"moof", bx(b"traf", parts.concat()))
    };
    let moof = moof(moof(0).len() as u32 + 8);
    let i = index(&[fragmented_head(), moof, bx(b"mdat", [0; 50])].concat());
    assert_eq!(i.sync_samples().map(|s| s.0).collect::<Vec<_>>(), [0, 4]);
}

#[test]
fn random_access_points_of_a_fragment_are_sync() {
    let mut object = fragmented_head();
    object.extend(fragment(0, &[10, 20], 30));
    let mut sbgp = b"rap ".to_vec();
    sbgp.extend(words(&[2, 1, 0, 1, 0x1_0001]));
    let traf = |offset: u32| {
        let parts = [
            full(b"tfhd", 0, 0x2_0000, words(&[1])),
            full(b"trun", 0, 0x201, words(&[2, offset, 10, 20])),
            full(b"sbgp", 0, 0, &sbgp),
        ];
        bx(b"moof", bx(b"traf", parts.concat()))
    };
    object.extend(traf(traf(0).len() as u32 + 8));
    object.extend(bx(b"mdat", [0; 30]));
    let i = index(&object);
    assert_eq!(i.sync_samples().map(|s| s.0).collect::<Vec<_>>(), [0, 3]);
}

/// A file of `count` fragments with `len` bytes of media each, made on demand: media is zeros.
struct LongFile {
    head: Vec<u8>,
    fragments: Vec<Vec<u8>>,
    starts: Vec<u64>,
    media: u64,
    tail: Vec<u8>,
    size: u64,
}

impl LongFile {
    fn new(count: u32, media: u64, index: &str) -> Self {
        let mut head = fragmented_head();
        let fragments: Vec<Vec<u8>> = (0..count)
            .map(|i| {
                let mut f = fragment(i * 80, &[10, 20], 0);
                let at = f.len() - 8;
                f[at..at + 4].copy_from_slice(&(media as u32 + 8).to_be_bytes());
                f
            })
            .collect();
        let each = fragments[0].len() as u64 + media;
        if index == "sidx" {
            let mut body = words(&[1, 1000, 0, 0, count]);
            body.extend((0..count).flat_map(|_| words(&[each as u32, 80, 0])));
            head.extend(full(b"sidx", 0, 0, body));
        }
        let starts: Vec<u64> = (0..u64::from(count))
            .map(|i| head.len() as u64 + i * each)
            .collect();
        let mut tail = Vec::new();
        if index == "mfra" {
            let mut body = words(&[1, 0, count]);
            for (i, &start) in starts.iter().enumerate() {
                body.extend(words(&[i as u32 * 80, start as u32]));
                body.extend([1, 1, 1]);
            }
            let tfra = full(b"tfra", 0, 0, body);
            let mfro = full(b"mfro", 0, 0, words(&[tfra.len() as u32 + 8 + 16]));
            tail = bx(b"mfra", [tfra, mfro].concat());
        }
        let size = head.len() as u64 + u64::from(count) * each + tail.len() as u64;
        Self {
            head,
            fragments,
            starts,
            media,
            tail,
            size,
        }
    }

    fn read(&self, from: u64, to: u64) -> Bytes {
        let mut out = vec![0; (to - from) as usize];
        let mut put = |at: u64, bytes: &[u8]| {
            let (start, end) = (at.max(from), (at + bytes.len() as u64).min(to));
            if start < end {
                let piece = &bytes[(start - at) as usize..(end - at) as usize];
                out[(start - from) as usize..(end - from) as usize].copy_from_slice(piece);
            }
        };
        put(0, &self.head);
        put(self.size - self.tail.len() as u64, &self.tail);
        let first = self
            .starts
            .partition_point(|&s| s + 1000 + self.media < from);
        for (fragment, &start) in self.fragments.iter().zip(&self.starts).skip(first) {
            if start >= to {
                break;
            }
            put(start, fragment);
        }
        Bytes::from(out)
    }

    fn build(&self, tail: u64) -> Built {
        build_from(self.size, HEAD_BYTES, tail, |from, to| self.read(from, to)).unwrap()
    }
}

#[test]
fn an_index_of_fragments_makes_reads_few_and_small() {
    let plain = LongFile::new(1000, 500_000, "").build(TAIL_BYTES);
    assert_eq!(plain.index.sample_count(), 2000);
    assert!(
        plain.rounds <= 1000 && plain.bytes_read <= 1000 * 4096,
        "{}",
        plain.bytes_read
    );
    for kind in ["sidx", "mfra"] {
        let built = LongFile::new(1000, 500_000, kind).build(TAIL_BYTES);
        assert_eq!(places(&built.index).len(), 2000);
        assert!(
            built.rounds <= 1000 / 32 + 2,
            "{kind}: {} rounds",
            built.rounds
        );
        assert!(
            built.bytes_read <= 1000 * 4096,
            "{kind}: {} bytes",
            built.bytes_read
        );
    }
    // `mfra` is looked for when the tail was not pushed, too.
    let built = LongFile::new(1000, 500_000, "mfra").build(0);
    assert!(built.rounds <= 1000 / 32 + 4, "{} rounds", built.rounds);
    // Small fragments are read through, not one by one.
    let close = LongFile::new(5000, 3_000, "").build(TAIL_BYTES);
    assert_eq!(close.index.sample_count(), 10_000);
    assert!(
        close.rounds <= 100,
        "{} rounds for {} bytes",
        close.rounds,
        close.bytes_read
    );
}

#[test]
fn a_false_index_of_fragments_changes_nothing() {
    let mut good = LongFile::new(50, 100_000, "mfra");
    let right = good.build(TAIL_BYTES).index;
    let count = good.tail.len();
    for byte in &mut good.tail[40..count - 20] {
        *byte = byte.wrapping_mul(31).wrapping_add(7);
    }
    assert_eq!(good.build(TAIL_BYTES).index, right);
    // A segment index that speaks of more than there is tells a missing end at once.
    let mut cut = LongFile::new(50, 100_000, "sidx");
    cut.size = cut.starts[30];
    let built = build_from(cut.size, HEAD_BYTES, TAIL_BYTES, |from, to| {
        cut.read(from, to)
    });
    assert!(matches!(built, Err(DemuxError::CutShort { .. })));
}

// ---- How much is read ---------------------------------------------------------------------

/// A file with `moov` at the end: media, then a track of so many samples.
fn long_progressive(samples: u32, media: u64) -> (u64, impl Fn(u64, u64) -> Bytes) {
    let mut head = ftyp();
    head.extend(words(&[1]));
    head.extend_from_slice(b"mdat");
    head.extend_from_slice(&(media + 16).to_be_bytes());
    let mut sizes = vec![0, samples];
    sizes.extend((0..samples).map(|i| 100 + i % 7));
    let mut chunks = vec![0; 0];
    let mut at = head.len() as u32;
    for i in 0..samples {
        if i % 10 == 0 {
            chunks.push(at);
        }
        at += 100 + i % 7;
    }
    let ctts: Vec<u32> = (0..samples)
        .flat_map(|i| [1, [40, 120, 40, 0][i as usize % 4]])
        .collect();
    let keys: Vec<u32> = (0..samples).step_by(30).map(|i| i + 1).collect();
    let track = Track::hevc(vec![
        table(b"stts", 2, &[samples, 40]),
        table(b"ctts", 2, &ctts),
        table(b"stsc", 3, &[1, 10, 1]),
        full(b"stsz", 0, 0, words(&sizes)),
        table(b"stco", 1, &chunks),
        table(b"stss", 1, &keys),
    ]);
    let tail = moov(&[track], &[]);
    let size = head.len() as u64 + media + tail.len() as u64;
    (size, move |from, to| {
        let mut out = vec![0; (to - from) as usize];
        for (at, bytes) in [(0, &head), (size - tail.len() as u64, &tail)] {
            let (start, end) = (at.max(from), (at + bytes.len() as u64).min(to));
            if start < end {
                let piece = &bytes[(start - at) as usize..(end - at) as usize];
                out[(start - from) as usize..(end - from) as usize].copy_from_slice(piece);
            }
        }
        Bytes::from(out)
    })
}

#[test]
fn moov_at_the_end_takes_one_round_at_most() {
    // 2 GB with some 10 hours of samples; then one whose `moov` lies in the tail.
    for (samples, media, rounds) in [(100_000, 2_000_000_000, 1), (3_000, 50_000_000, 0)] {
        let (size, read) = long_progressive(samples, media);
        let built = build_from(size, HEAD_BYTES, TAIL_BYTES, &read).unwrap();
        assert_eq!(built.index.sample_count(), samples);
        assert_eq!(built.rounds, rounds);
        assert_eq!(built.reads, rounds, "one range");
        // No byte but `moov`'s, and none twice.
        let moov_len = size - media - 36;
        let expected = if rounds == 0 {
            0
        } else {
            moov_len - TAIL_BYTES
        };
        assert_eq!(built.bytes_read, expected);
    }
}

#[test]
fn a_moov_in_front_that_is_longer_than_the_head_takes_one_round() {
    let object = {
        let track = |at| Track::hevc(tables(60_000, at));
        let head = (ftyp().len() + moov(&[track(0)], &[]).len()) as u32;
        [
            ftyp(),
            moov(&[track(head + 8)], &[]),
            bx(b"mdat", vec![0; 2000]),
        ]
        .concat()
    };
    let size = 10_000_000_000;
    let built = build_from(size, HEAD_BYTES, TAIL_BYTES, |from, to| {
        let mut out = vec![0; (to - from) as usize];
        let end = (object.len() as u64).min(to);
        if from < end {
            let piece = &object[from as usize..end as usize];
            out[..piece.len()].copy_from_slice(piece);
        }
        Bytes::from(out)
    });
    let built = built.unwrap();
    assert_eq!((built.rounds, built.reads), (1, 1));
    assert!(built.bytes_read < object.len() as u64 - HEAD_BYTES);
}

#[test]
fn boxes_between_are_walked_by_their_headers() {
    let media = vec![0; 3_000_000];
    let mut object = [ftyp(), bx(b"wide", [])].concat();
    let at = object.len() as u32 + 8;
    object.extend(bx(b"mdat", &media));
    object.extend(bx(b"uuid", [1; 5000]));
    object.extend(bx(b"free", []));
    object.extend(bx(b"mdat", &media));
    object.extend(bx(b"mdat", &media));
    object.extend(moov(&[Track::hevc(tables(50, at))], &[]));
    object.extend(bx(b"free", vec![0; 2_000_000]));
    let built = build(&object).unwrap();
    assert_eq!(built.index.sample_count(), 50);
    assert!(
        built.rounds <= 4 && built.bytes_read <= 224 * 1024 + 3 * 4096,
        "{built:?}"
    );
}

#[test]
fn a_short_moov_in_the_middle_takes_one_round() {
    let mut object = ftyp();
    let at = object.len() as u32 + 8;
    object.extend(bx(b"mdat", vec![0; 13_000_000]));
    object.extend(moov(&[Track::hevc(tables(5000, at))], &[]));
    object.extend(bx(b"free", vec![0; 4_000_000]));
    let built = build(&object).unwrap();
    assert_eq!(built.index.sample_count(), 5000);
    assert_eq!((built.rounds, built.reads), (1, 1));
    assert!(built.bytes_read <= 224 * 1024, "{built:?}");
}

#[test]
fn two_million_samples_take_as_many_bytes_as_their_columns() {
    let (size, read) = long_progressive(2_000_000, 300_000_000);
    let started = std::time::Instant::now();
    let built = build_from(size, HEAD_BYTES, TAIL_BYTES, read).unwrap();
    println!("2 million samples: {:?}, with the reads", started.elapsed());
    assert_eq!(built.index.frame_count(), 2_000_000);
    assert_eq!(built.rounds, 1);
}

#[test]
fn a_step_after_the_end_is_an_error() {
    let object = Bytes::from(one_track(3));
    let mut builder = IndexBuilder::new(object.len() as u64);
    builder.push(0, object);
    assert!(matches!(builder.step(), Ok(Step::Finished(_))));
    assert!(builder.step().is_err());
}
