//! How much memory an index takes, by the process's own peak (Linux).
//!
//! One test alone in its program, so that no other test's memory is counted.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod isobmff_support;

use std::io::Write;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use isobmff_support::boxes::*;
use isobmff_support::build_from;
use media::bsidx::{self, Facts};
use media::demux::{HEAD_BYTES, TAIL_BYTES};
use media::heads::HeadsBuilder;
use media::{DecodeIndex, VideoIndex};

const SAMPLES: u32 = 2_000_000;
const MIB: u64 = 1024 * 1024;

fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with(field)).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

/// Sets the peak back to what is resident now.
fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// `ftyp` and the header of an `mdat` of so many bytes.
fn head(media: u64) -> Vec<u8> {
    let mut head = ftyp();
    head.extend(words(&[1]));
    head.extend_from_slice(b"mdat");
    head.extend_from_slice(&(media + 16).to_be_bytes());
    head
}

/// Writes a `moov` of ten hours at 60 pictures a second: B-frames, ten samples a chunk. To a
/// file, bit by bit, so that making it leaves no memory behind that would hide what is measured.
fn write_moov(file: &std::fs::File) -> u64 {
    let mut out = std::io::BufWriter::new(file);
    let mut track = Track::hevc(vec![]);
    track.tables = vec![
        table(b"stts", 2, &[SAMPLES, 40]),
        table(b"stsc", 3, &[1, 10, 1]),
    ];
    let mut front = moov(&[track], &[]);
    let (chunks, keys) = (SAMPLES / 10, SAMPLES.div_ceil(60));
    let tables: [(&[u8; 4], u32, Vec<u32>); 4] = [
        (b"ctts", 16 + 8 * SAMPLES, vec![SAMPLES]),
        (b"stsz", 20 + 4 * SAMPLES, vec![0, SAMPLES]),
        (b"stco", 16 + 4 * chunks, vec![chunks]),
        (b"stss", 16 + 4 * keys, vec![keys]),
    ];
    let more: u32 = tables.iter().map(|t| t.1).sum();
    for container in [b"moov", b"trak", b"mdia", b"minf", b"stbl"] {
        let at = front.windows(4).position(|w| w == container).unwrap() - 4;
        let size = u32::from_be_bytes(front[at..at + 4].try_into().unwrap()) + more;
        front[at..at + 4].copy_from_slice(&size.to_be_bytes());
    }
    let total = front.len() as u64 + u64::from(more);
    out.write_all(&front).unwrap();
    for (fourcc, size, start) in tables {
        out.write_all(&size.to_be_bytes()).unwrap();
        out.write_all(fourcc).unwrap();
        out.write_all(&words(&[0])).unwrap();
        out.write_all(&words(&start)).unwrap();
        let mut put = |v: u32| out.write_all(&v.to_be_bytes()).unwrap();
        match fourcc {
            b"ctts" => (0..SAMPLES).for_each(|i| {
                put(1);
                put([40, 120, 40, 0][i as usize % 4]);
            }),
            b"stsz" => (0..SAMPLES).for_each(|i| put(100 + i % 7)),
            b"stco" => (0..chunks).for_each(|i| put(36 + i * 1030)),
            _ => (0..keys).for_each(|i| put(i * 60 + 1)),
        }
    }
    out.flush().unwrap();
    total
}

/// Its index file, with heads as a usual stream has them, and what that takes in memory.
fn check_file(index: &VideoIndex) {
    let mut heads = HeadsBuilder::new(index);
    for i in 0..SAMPLES {
        let sample = index.sample(DecodeIndex(i)).unwrap();
        // A slice of eight bytes: not longer than its header.
        let mut data = vec![0, 0, 0, 8, 2, 1];
        data.extend(i.to_be_bytes());
        data.extend([0xd0, 0x80]);
        heads.push(index, &sample, &data);
    }
    let facts = Facts {
        size: index.object_size(),
        head: Bytes::new(),
        tail: Bytes::new(),
        etag: None,
    };
    let heads = heads.finish();
    let plain = bsidx::write(index, None, &facts, &[]);
    let file = bsidx::write(index, Some(&heads), &facts, &[]);
    drop(heads);
    let started = std::time::Instant::now();
    let (_, read) = bsidx::read(&file).unwrap();
    let took = started.elapsed();
    let heads = read.heads.unwrap().heap_bytes();
    println!(
        "as a file {} KiB, with heads {} KiB, read in {took:?}; in memory {} KiB and {} KiB",
        plain.len() / 1024,
        file.len() / 1024,
        read.index.heap_bytes() / 1024,
        heads / 1024,
    );
    assert_eq!(read.index, *index);
    assert!(((read.index.heap_bytes() + heads) as u64) < 64 * MIB);
    // The cache on disk keeps no larger values.
    assert!(plain.len() as u64 <= 16 * MIB, "{} bytes", plain.len());
}

#[test]
fn memory_follows_the_samples_and_not_the_counts_that_a_file_claims() {
    let media = 300_000_000;
    let head = head(media);
    let path = std::env::temp_dir().join(format!("isobmff-memory-{}", std::process::id()));
    let file = std::fs::File::create_new(&path).unwrap();
    let moov_len = write_moov(&file);
    let file = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let moov_at = head.len() as u64 + media;
    let size = moov_at + moov_len;
    let read = |from: u64, to: u64| {
        let mut out = vec![0; (to - from) as usize];
        if from < moov_at {
            let end = to.min(head.len() as u64).max(from) as usize;
            let piece = &head[(from as usize).min(end)..end];
            out[..piece.len()].copy_from_slice(piece);
        }
        if to > moov_at {
            let start = from.max(moov_at);
            file.read_exact_at(&mut out[(start - from) as usize..], start - moov_at)
                .unwrap();
        }
        Bytes::from(out)
    };

    forget_peak();
    let before = status("VmRSS");
    let started = std::time::Instant::now();
    let built = build_from(size, HEAD_BYTES, TAIL_BYTES, read).unwrap();
    let took = started.elapsed();
    let (peak, kept) = (status("VmHWM") - before, status("VmRSS") - before);
    assert_eq!(built.index.frame_count(), SAMPLES);
    println!(
        "{SAMPLES} samples, moov {} MiB: {took:?}, index {} MiB, peak {} MiB",
        moov_len / MIB,
        kept / MIB,
        peak / MIB
    );
    // Packed, a sample takes about 10 bytes. The peak comes while the columns are not packed yet,
    // 32 bytes a sample, and `moov` is held twice, once as it was read and once in one piece.
    let packed = built.index.heap_bytes() as u64;
    assert!(packed <= 24 * MIB, "{packed} bytes of columns");
    // With what the allocator did not give back.
    assert!(kept <= 64 * MIB, "{kept} bytes kept");
    let unpacked = 32 * u64::from(SAMPLES);
    assert!(peak <= unpacked + 2 * moov_len, "{peak} bytes at the peak");
    check_file(&built.index);
    drop(built);

    // Counts of four billion in every table, over a large object: refused before anything of
    // that size is allocated.
    forget_peak();
    let before = status("VmRSS");
    let tables = |count: [u32; 6], size: u32| {
        let mut moov = [
            ftyp(),
            moov(
                &[Track::hevc(vec![
                    full(b"stts", 0, 0, words(&[count[0], u32::MAX, 40])),
                    full(b"ctts", 0, 0, words(&[count[1], u32::MAX, 40])),
                    full(b"stsc", 0, 0, words(&[count[2], 1, u32::MAX, 1])),
                    full(b"stsz", 0, 0, words(&[size, count[3], 100])),
                    full(b"stco", 0, 0, words(&[count[4], 100])),
                    full(b"stss", 0, 0, words(&[count[5], 1])),
                ])],
                &[],
            ),
        ]
        .concat();
        moov.resize(4096, 0);
        moov
    };
    let refused = |object: &[u8], size: u64| {
        let result = build_from(size, HEAD_BYTES, TAIL_BYTES, |from, to| {
            let mut out = vec![0; (to - from) as usize];
            let end = (object.len() as u64).min(to);
            if from < end {
                let piece = &object[from as usize..end as usize];
                out[..piece.len()].copy_from_slice(piece);
            }
            Bytes::from(out)
        });
        assert!(result.is_err(), "an index from {:?}", &object[..40]);
    };
    for which in 0..6 {
        let mut counts = [1; 6];
        counts[which] = u32::MAX;
        refused(&tables(counts, 0), 1 << 40);
    }
    // One size for all samples needs no table: then the object's own size bounds their number.
    for size in [1, 1000] {
        for count in [10_000, 15_000_000, u32::MAX] {
            refused(&tables([1, 1, 1, count, 1, 1], size), 4096);
        }
    }
    let peak = status("VmHWM").saturating_sub(before);
    assert!(peak <= 4 * MIB, "{peak} bytes for refused files");
}
