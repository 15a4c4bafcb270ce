//! What is no H.265 video is refused, in words that say what it is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use media::demux::DemuxError;
use support::{PpsSpec, SpsSpec, index};

fn refused(object: &[u8]) -> String {
    index(object).unwrap_err().to_string()
}

/// The beginning of a file, and more behind it that says nothing.
fn file(magic: &[u8]) -> Vec<u8> {
    let mut file = magic.to_vec();
    file.resize(4000, 0xa7);
    file
}

#[track_caller]
fn check(magic: &[u8], found: &str) {
    let expected = format!("not an H.265 video: {found}");
    assert_eq!(refused(&file(magic)), expected);
}

#[test]
fn an_empty_file() {
    assert_eq!(refused(&[]), "not an H.265 video: an empty file");
}

#[test]
fn matroska() {
    check(
        &[0x1a, 0x45, 0xdf, 0xa3, 0x9f],
        "a Matroska or WebM file; convert it with `repo-cli convert --copy`",
    );
}

fn transport_stream(packet: usize, prefix: usize, packets: usize) -> Vec<u8> {
    let mut file = vec![0x11; packet * packets];
    for p in 0..packets {
        file[p * packet + prefix] = 0x47;
    }
    file
}

#[test]
fn mpeg_transport_stream() {
    let text = "not an H.265 video: an MPEG transport stream; convert it with \
                `repo-cli convert --copy`";
    assert_eq!(refused(&transport_stream(188, 0, 20)), text);
    assert_eq!(refused(&transport_stream(192, 4, 20)), text);
    assert_eq!(refused(&transport_stream(188, 0, 2)), text);
}

#[test]
fn the_letter_g_is_no_transport_stream() {
    assert_eq!(
        refused(b"Good morning, this is a short note.\n"),
        "not an H.265 video: a text file"
    );
    let mut text = b"Good morning. ".repeat(100);
    assert_eq!(refused(&text), "not an H.265 video: a text file");
    text[188] = 0x47;
    assert_eq!(refused(&text), "not an H.265 video: a text file");
}

#[test]
fn avi() {
    check(
        b"RIFF\x10\0\0\0AVI LIST",
        "an AVI file; convert it with `repo-cli convert`",
    );
}

#[test]
fn wave() {
    check(
        b"RIFF\x10\0\0\0WAVEfmt ",
        "neither an MP4/MOV container nor an H.265 byte stream",
    );
}

#[test]
fn pictures() {
    check(&[0xff, 0xd8, 0xff, 0xe0], "a JPEG picture");
    check(b"\x89PNG\r\n\x1a\n", "a PNG picture");
}

#[test]
fn flash() {
    check(b"FLV\x01\x05", "a Flash video");
}

#[test]
fn ivf() {
    check(b"DKIF\0\0\x20\0AV01", "an IVF file");
}

#[test]
fn ogg() {
    check(b"OggS\0\x02", "an Ogg file");
}

#[test]
fn mpeg_program_stream() {
    check(&[0, 0, 1, 0xba, 0x44], "an MPEG program stream");
}

#[test]
fn archives() {
    check(&[0x1f, 0x8b, 8], "a gzip archive");
    check(b"PK\x03\x04\x14", "a zip archive");
}

#[test]
fn zeros() {
    let text = "not an H.265 video: only zero bytes at the start";
    assert_eq!(refused(&[0; 3]), text);
    assert_eq!(refused(&vec![0; 300_000]), text);
}

#[test]
fn text() {
    assert_eq!(
        refused(b"{\"frames\": []}\n"),
        "not an H.265 video: a text file"
    );
}

#[test]
fn anything_else() {
    check(
        &[0x7f, b'E', b'L', b'F', 2, 1],
        "neither an MP4/MOV container nor an H.265 byte stream",
    );
}

fn stream(nals: &[&[u8]]) -> Vec<u8> {
    let mut stream = Vec::new();
    for nal in nals {
        stream.extend([0, 0, 0, 1]);
        stream.extend(*nal);
        stream.extend([0x5a; 300]);
    }
    stream
}

#[test]
fn h264() {
    // SPS of the Baseline, Main, Extended, High and High 10 profiles, then PPS and an IDR picture.
    for profile in [66u8, 77, 88, 100, 110] {
        for header in [0x67u8, 0x27] {
            let sps = [header, profile, 0, 31];
            let object = stream(&[&sps, &[0x68, 0xce], &[0x65, 0x88]]);
            assert_eq!(
                refused(&object),
                "the video is H.264, not H.265",
                "{profile}"
            );
            let object = stream(&[&[9, 0xf0], &sps, &[0x68, 0xce], &[0x65, 0x88]]);
            assert_eq!(
                refused(&object),
                "the video is H.264, not H.265",
                "{profile}"
            );
        }
    }
}

#[test]
fn mpeg_2_and_mpeg_4() {
    let object = stream(&[&[0xb3, 0x14], &[0xb5, 0x14], &[0xb8, 0], &[0, 0x10]]);
    assert_eq!(
        refused(&object),
        "the video is MPEG-1 or MPEG-2 video, not H.265"
    );
    let object = stream(&[&[0xb0, 1], &[0xb5, 9], &[0, 1], &[0x20, 2]]);
    assert_eq!(refused(&object), "the video is MPEG-4 Visual, not H.265");
}

#[test]
fn start_codes_and_nothing_known() {
    let object = stream(&[&[0x02, 0x01], &[0x02, 0x01]]);
    assert_eq!(
        refused(&object),
        "not an H.265 video: a stream with start codes, but without H.265 parameter sets"
    );
    // Long enough that it must be told before the end.
    let mut long = stream(&[&[0x02, 0x01]]);
    long.resize(5 * 1024 * 1024, 0x5a);
    assert!(refused(&long).contains("without H.265 parameter sets"));
}

#[test]
fn parameter_sets_and_no_picture() {
    let (vps, sps, pps) = (
        support::vps(0, 0),
        SpsSpec::default().nal(),
        PpsSpec::default().nal(),
    );
    let mut object = Vec::new();
    for nal in [vps, sps, pps] {
        object.extend([0, 0, 0, 1]);
        object.extend(nal);
    }
    assert_eq!(
        index(&object),
        Err(DemuxError::CutShort {
            what: "the stream has parameter sets, but no picture".into()
        })
    );
}
