//! ISO BMFF boxes (ISO/IEC 14496-12), found and changed in place for tests.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// The children of `range`, each with its type and the range of its payload. Stops where the
/// bytes are no boxes any more.
pub fn children(file: &[u8], range: Range<usize>) -> Vec<([u8; 4], Range<usize>)> {
    let mut found = Vec::new();
    let mut at = range.start;
    while at + 8 <= range.end {
        let size = u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
        let (header, size) = match size {
            0 => (8, range.end - at),
            1 if at + 16 <= range.end => (
                16,
                u64::from_be_bytes(file[at + 8..at + 16].try_into().unwrap()) as usize,
            ),
            _ => (8, size),
        };
        if size < header || size > range.end - at {
            break;
        }
        found.push((
            file[at + 4..at + 8].try_into().unwrap(),
            at + header..at + size,
        ));
        at += size;
    }
    found
}

/// Payload range of the first box at a path such as `moov/trak/tkhd`. `stsd` and sample entries
/// are entered after their fixed fields.
pub fn find(file: &[u8], path: &str) -> Option<Range<usize>> {
    let mut range = 0..file.len();
    for name in path.split('/') {
        let inside = children(file, range);
        let (_, payload) = inside
            .into_iter()
            .find(|(kind, _)| kind == name.as_bytes())?;
        // FullBox header and entry_count; VisualSampleEntry fields.
        let skip = match name {
            "stsd" => 8,
            "hvc1" | "hev1" => 78,
            _ => 0,
        };
        range = payload.start + skip..payload.end;
    }
    Some(range)
}

/// Writes the 3×3 matrix of the first track's `tkhd`: "mirror left–right, then turn clockwise".
///
/// Panics if there is no `tkhd`.
pub fn set_orientation(file: &mut [u8], mirrored: bool, quarter_turns: u8) {
    // x' = a·x + c·y, y' = b·x + d·y, y downwards; a quarter turn clockwise is (x, y) → (−y, x).
    let (mut a, mut b, mut c, mut d) = (if mirrored { -1 } else { 1 }, 0, 0, 1);
    for _ in 0..quarter_turns {
        (a, b, c, d) = (-b, a, -d, c);
    }
    let tkhd = find(file, "moov/trak/tkhd").expect("a tkhd box");
    let version = file[tkhd.start];
    // Version and flags, times, track_ID, duration; then 16 bytes up to the matrix.
    let matrix = tkhd.start + if version == 1 { 4 + 32 } else { 4 + 20 } + 16;
    // The translation brings the turned picture back to the positive quadrant.
    let size = |at: usize| i32::from_be_bytes(file[at..at + 4].try_into().unwrap());
    let (width, height) = (size(matrix + 36), size(matrix + 40));
    let x = [0, -a * width, -c * height]
        .into_iter()
        .filter(|v| *v > 0)
        .sum::<i32>();
    let y = [0, -b * width, -d * height]
        .into_iter()
        .filter(|v| *v > 0)
        .sum::<i32>();
    let one = 1 << 16;
    let values = [a * one, b * one, 0, c * one, d * one, 0, x, y, 1 << 30];
    for (k, value) in values.into_iter().enumerate() {
        file[matrix + 4 * k..matrix + 4 * k + 4].copy_from_slice(&value.to_be_bytes());
    }
}

/// Empties `hvcC` of its parameter sets and fills the room with a `free` box, so that no offset
/// changes. Panics if there is no `hvcC` with sets.
pub fn remove_parameter_sets(file: &mut [u8]) {
    let path = ["hev1", "hvc1"].map(|entry| format!("moov/trak/mdia/minf/stbl/stsd/{entry}/hvcC"));
    let hvcc = path
        .iter()
        .find_map(|p| find(file, p))
        .expect("an hvcC box");
    // Fixed part of HEVCDecoderConfigurationRecord; its last byte is numOfArrays.
    let kept = 23;
    let room = hvcc.len() - kept;
    assert!(room >= 8, "room for a free box");
    let rest = hvcc.start + kept;
    file[hvcc.start - 8..hvcc.start - 4].copy_from_slice(&((8 + kept) as u32).to_be_bytes());
    file[rest - 1] = 0;
    file[rest..rest + 4].copy_from_slice(&(room as u32).to_be_bytes());
    file[rest + 4..rest + 8].copy_from_slice(b"free");
    file[rest + 8..hvcc.end].fill(0);
}

/// Writes the file to `path` with a hole before its last top-level box, so that it is `size` bytes
/// long and yet takes little space on the disk: a `free` box that was never written (its samples
/// stay where they are).
pub fn with_hole(file: &[u8], size: u64, path: &Path) -> Result<()> {
    let all = children(file, 0..file.len());
    let (_, last) = all.last().context("no box")?;
    let start = last.start - 8;
    let (before, after) = file.split_at(start);
    let hole = size
        .checked_sub(file.len() as u64)
        .context("the file is larger than that")?;
    ensure!(hole >= 16, "no room for a box");
    let mut output = File::create(path)?;
    output.write_all(before)?;
    output.write_all(&1u32.to_be_bytes())?;
    output.write_all(b"free")?;
    output.write_all(&hole.to_be_bytes())?;
    output.seek(SeekFrom::End(hole as i64 - 16))?;
    output.write_all(after)?;
    Ok(())
}
