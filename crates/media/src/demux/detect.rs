//! What an object is, by its first bytes.

use super::DemuxError;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Isobmff,
    AnnexB,
}

/// Tells the kind of object from its head (as much of it as was read, at least its first bytes).
pub(super) fn detect(head: &[u8], size: u64) -> Result<Kind, DemuxError> {
    let not = |found: &str| {
        Err(DemuxError::NotVideo {
            found: found.into(),
        })
    };
    let at = |i: usize, magic: &[u8]| head.get(i..i + magic.len()) == Some(magic);

    if let Some(fourcc) = head.get(4..8) {
        // Boxes that may stand first in ISO BMFF and QuickTime files.
        const FIRST: [&[u8; 4]; 12] = [
            b"ftyp", b"styp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"pnot",
            b"uuid", b"sidx", b"meta",
        ];
        if FIRST.iter().any(|f| fourcc == f.as_slice()) {
            return Ok(Kind::Isobmff);
        }
    }
    if at(0, &[0x1a, 0x45, 0xdf, 0xa3]) {
        return not("a Matroska or WebM file; convert it with `repo-cli convert --copy`");
    }
    // MPEG-TS: sync bytes one packet apart (188, or 192 with a 4-byte prefix). One alone is the
    // letter G.
    let ts = |start: usize, packet: usize| {
        let sync = |k: usize| head.get(start + k * packet) == Some(&0x47);
        let third = start + 2 * packet;
        sync(0) && sync(1) && (third as u64 >= size || sync(2))
    };
    if ts(0, 188) || ts(4, 192) {
        return not("an MPEG transport stream; convert it with `repo-cli convert --copy`");
    }
    if at(0, b"RIFF") && at(8, b"AVI ") {
        return not("an AVI file; convert it with `repo-cli convert`");
    }
    if at(0, &[0xff, 0xd8, 0xff]) {
        return not("a JPEG picture");
    }
    if at(0, b"\x89PNG") {
        return not("a PNG picture");
    }
    if at(0, b"FLV") {
        return not("a Flash video");
    }
    if at(0, b"DKIF") {
        return not("an IVF file");
    }
    if at(0, b"OggS") {
        return not("an Ogg file");
    }
    if at(0, &[0, 0, 1, 0xba]) {
        return not("an MPEG program stream");
    }
    if at(0, &[0x1f, 0x8b]) {
        return not("a gzip archive");
    }
    if at(0, b"PK\x03\x04") {
        return not("a zip archive");
    }
    if super::annexb::looks_like_annexb(head) {
        return Ok(Kind::AnnexB);
    }
    if head.iter().all(|&b| b == 0) {
        return not("only zero bytes at the start");
    }
    let text = head.get(..head.len().min(256)).unwrap_or(head);
    if text
        .iter()
        .all(|&b| b == b'\n' || b == b'\r' || b == b'\t' || (0x20..0x7f).contains(&b))
    {
        return not("a text file");
    }
    not("neither an MP4/MOV container nor an H.265 byte stream")
}
