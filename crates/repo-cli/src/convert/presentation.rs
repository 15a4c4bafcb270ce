//! Gives the MP4 of a copied raw stream its presentation times.
//!
//! A raw H.265 stream carries no times, and FFmpeg writes each picture's decode time as its
//! presentation time when it copies one: with B-pictures, players then show them in the wrong
//! order. The order is known from the pictures themselves (their picture order counts), so the
//! boxes that FFmpeg left out are put into its `moov`, which lies at the end of the file: `ctts`
//! (ISO/IEC 14496-12, 8.6.1.3) and an edit list that starts at the first picture (8.6.6).

use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};

/// Boxes that hold boxes, on the way to what is changed.
const CONTAINERS: &[&[u8; 4]] = &[b"moov", b"trak", b"mdia", b"minf", b"stbl"];

/// A `moov` larger than this was not written by a copy of a video.
const MOOV_LIMIT: u64 = 1 << 30;

/// Rewrites the `moov` of an MP4 with one track, whose samples have equal durations, so that the
/// sample at place `i` of decode order is shown at place `ranks[i]`, each place once.
pub(crate) fn set_order(mp4: &Path, ranks: &[u32]) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(mp4)?;
    let (start, moov) = last_box(&mut file)?;
    let mut boxes = parse(&moov)?;
    ensure!(boxes.len() == 1, "more than one box is left");
    let moov = boxes.first_mut().context("no moov")?;
    reorder(moov, ranks)?;
    let mut bytes = Vec::new();
    moov.write(&mut bytes)?;
    file.seek(SeekFrom::Start(start))?;
    file.write_all(&bytes)?;
    file.set_len(start.saturating_add(bytes.len() as u64))?;
    Ok(())
}

/// The position and the bytes of the last top-level box, which has to be `moov`.
fn last_box(file: &mut std::fs::File) -> anyhow::Result<(u64, Vec<u8>)> {
    let size = file.metadata()?.len();
    let mut at = 0u64;
    loop {
        let mut head = [0u8; 16];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut head[..8])?;
        let [s0, s1, s2, s3, kind @ ..] = *head.first_chunk::<8>().context("no header")?;
        let mut length = u64::from(u32::from_be_bytes([s0, s1, s2, s3]));
        if length == 1 {
            file.read_exact(&mut head[8..])?;
            length = u64::from_be_bytes(*head.last_chunk::<8>().context("no largesize")?);
        }
        let end = at.checked_add(length).filter(|&e| length >= 8 && e <= size);
        let end = end.context("a box reaches beyond the file")?;
        if end == size {
            ensure!(
                &kind == b"moov" && length <= MOOV_LIMIT,
                "moov is not the last box"
            );
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(at))?;
            file.take(length).read_to_end(&mut bytes)?;
            return Ok((at, bytes));
        }
        at = end;
    }
}

/// One box: either its payload or the boxes in it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Node {
    kind: [u8; 4],
    payload: Vec<u8>,
    children: Vec<Node>,
}

fn parse(mut bytes: &[u8]) -> anyhow::Result<Vec<Node>> {
    let mut nodes = Vec::new();
    while let Some((&[s0, s1, s2, s3, k0, k1, k2, k3], _)) = bytes.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
        let body = bytes
            .get(8..length)
            .context("a box reaches beyond its parent")?;
        let kind = [k0, k1, k2, k3];
        let (payload, children) = if CONTAINERS.contains(&&kind) {
            (Vec::new(), parse(body)?)
        } else {
            (body.to_vec(), Vec::new())
        };
        nodes.push(Node {
            kind,
            payload,
            children,
        });
        bytes = bytes.get(length..).unwrap_or_default();
    }
    ensure!(bytes.is_empty(), "bytes are left after the last box");
    Ok(nodes)
}

impl Node {
    fn leaf(kind: &[u8; 4], payload: Vec<u8>) -> Self {
        Self {
            kind: *kind,
            payload,
            children: Vec::new(),
        }
    }

    fn write(&self, out: &mut Vec<u8>) -> anyhow::Result<()> {
        let start = out.len();
        out.extend([0; 4]);
        out.extend(self.kind);
        out.extend(&self.payload);
        for child in &self.children {
            child.write(out)?;
        }
        let length = u32::try_from(out.len() - start).context("a box becomes too large")?;
        let place = out
            .get_mut(start..start + 4)
            .context("no place for a length")?;
        place.copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    fn child(&mut self, kind: &[u8; 4]) -> anyhow::Result<&mut Node> {
        let name = String::from_utf8_lossy(kind).into_owned();
        self.children
            .iter_mut()
            .find(|c| c.kind == *kind)
            .with_context(|| format!("no {name}"))
    }

    /// A big-endian number in the payload.
    fn u32_at(&self, at: usize) -> anyhow::Result<u32> {
        let bytes = self.payload.get(at..).and_then(|b| b.first_chunk::<4>());
        Ok(u32::from_be_bytes(*bytes.context("a box is too short")?))
    }

    /// Sets the duration of an `mvhd`, `tkhd` or `mdhd`: 32 bits in version 0 at `at`, 64 bits in
    /// version 1 at `at1`.
    fn set_duration(&mut self, duration: u64, at: usize, at1: usize) -> anyhow::Result<()> {
        let short = self.payload.first() == Some(&0);
        let bytes = if short {
            u32::try_from(duration)
                .context("too long a video")?
                .to_be_bytes()
                .to_vec()
        } else {
            duration.to_be_bytes().to_vec()
        };
        let at = if short { at } else { at1 };
        let place = self.payload.get_mut(at..at.saturating_add(bytes.len()));
        place.context("a box is too short")?.copy_from_slice(&bytes);
        Ok(())
    }

    /// `timescale` of an `mvhd` or `mdhd`.
    fn timescale(&self) -> anyhow::Result<u64> {
        let at = if self.payload.first() == Some(&0) {
            12
        } else {
            20
        };
        Ok(u64::from(self.u32_at(at)?))
    }
}

fn reorder(moov: &mut Node, ranks: &[u32]) -> anyhow::Result<()> {
    ensure!(
        moov.children.iter().filter(|c| &c.kind == b"trak").count() == 1,
        "not one track"
    );
    let count = u32::try_from(ranks.len()).context("too many pictures")?;
    let movie_scale = moov.child(b"mvhd")?.timescale()?;
    let trak = moov.child(b"trak")?;
    let mdia = trak.child(b"mdia")?;
    let media_scale = mdia.child(b"mdhd")?.timescale()?.max(1);
    let stbl = mdia.child(b"minf")?.child(b"stbl")?;
    let samples = stbl.child(b"stsz")?.u32_at(8)?;
    if samples != count {
        bail!("FFmpeg wrote {samples} samples where the stream has {count} pictures");
    }
    // `stts`: version and flags, entry_count, then sample_count and sample_delta. FFmpeg gives
    // the last sample an entry of its own where it guesses its duration.
    let delta = stbl.child(b"stts")?.u32_at(12)?;
    ensure!(delta > 0, "the pictures have no duration");
    // The earliest that decode times can lie behind so that no picture is shown before it is
    // decoded.
    let shift = ranks
        .iter()
        .zip(0u32..)
        .map(|(&rank, i)| i.saturating_sub(rank))
        .max();
    let shift = shift.unwrap_or(0);
    let mut offsets: Vec<(u32, u32)> = Vec::new();
    for (&rank, i) in ranks.iter().zip(0u32..) {
        let steps = rank.checked_add(shift).and_then(|r| r.checked_sub(i));
        let offset = steps
            .and_then(|s| s.checked_mul(delta))
            .context("a picture is too far off")?;
        match offsets.last_mut() {
            Some((run, same)) if *same == offset => *run = run.saturating_add(1),
            _ => offsets.push((1, offset)),
        }
    }
    let mut ctts = vec![0; 4];
    ctts.extend(u32::try_from(offsets.len())?.to_be_bytes());
    for (run, offset) in offsets {
        ctts.extend(run.to_be_bytes());
        ctts.extend(offset.to_be_bytes());
    }
    let mut stts = vec![0, 0, 0, 0, 0, 0, 0, 1];
    stts.extend(count.to_be_bytes());
    stts.extend(delta.to_be_bytes());
    stbl.children.retain(|c| &c.kind != b"ctts");
    let place = stbl
        .children
        .iter()
        .position(|c| &c.kind == b"stts")
        .context("no stts")?;
    if let Some(old) = stbl.children.get_mut(place) {
        *old = Node::leaf(b"stts", stts);
    }
    stbl.children.insert(place + 1, Node::leaf(b"ctts", ctts));

    let media_duration = u64::from(count) * u64::from(delta);
    let movie_duration = u64::try_from(
        u128::from(media_duration) * u128::from(movie_scale) / u128::from(media_scale),
    )?;
    mdia.child(b"mdhd")?.set_duration(media_duration, 16, 24)?;
    trak.child(b"tkhd")?.set_duration(movie_duration, 20, 28)?;
    // `elst` version 1, one entry: duration, media_time, media_rate 1.
    let mut elst = vec![1, 0, 0, 0, 0, 0, 0, 1];
    elst.extend(movie_duration.to_be_bytes());
    elst.extend((u64::from(shift) * u64::from(delta)).to_be_bytes());
    elst.extend([0, 1, 0, 0]);
    let mut edts = Vec::new();
    Node::leaf(b"elst", elst).write(&mut edts)?;
    trak.children.retain(|c| &c.kind != b"edts");
    let place = trak
        .children
        .iter()
        .position(|c| &c.kind == b"tkhd")
        .context("no tkhd")?;
    trak.children.insert(place + 1, Node::leaf(b"edts", edts));
    moov.child(b"mvhd")?.set_duration(movie_duration, 16, 24)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(kind: &[u8; 4], children: Vec<Node>) -> Node {
        Node {
            kind: *kind,
            payload: Vec::new(),
            children,
        }
    }

    /// A `moov` as small as one can be with three samples of 10 ticks; scales 1000 and 500.
    fn moov() -> Node {
        let header = |scale: u32| {
            let mut p = vec![0; 100];
            p[12..16].copy_from_slice(&scale.to_be_bytes());
            p
        };
        let mut stsz = vec![0; 12];
        stsz[11] = 3;
        let stts = [0u32, 1, 3, 10]
            .iter()
            .flat_map(|v| v.to_be_bytes())
            .collect();
        node(
            b"moov",
            vec![
                Node::leaf(b"mvhd", header(1000)),
                node(
                    b"trak",
                    vec![
                        Node::leaf(b"tkhd", vec![0; 92]),
                        node(
                            b"mdia",
                            vec![
                                Node::leaf(b"mdhd", header(500)),
                                node(
                                    b"minf",
                                    vec![node(
                                        b"stbl",
                                        vec![Node::leaf(b"stts", stts), Node::leaf(b"stsz", stsz)],
                                    )],
                                ),
                            ],
                        ),
                    ],
                ),
            ],
        )
    }

    #[test]
    fn a_tree_is_written_as_it_was_read() {
        let mut bytes = Vec::new();
        moov().write(&mut bytes).unwrap();
        assert_eq!(parse(&bytes).unwrap(), [moov()]);
        for cut in 0..bytes.len() {
            let _ = parse(&bytes[..cut]);
        }
    }

    #[test]
    fn composition_offsets_are_not_negative_and_the_edit_list_starts_at_the_first_picture() {
        let mut m = moov();
        // Decode order I P B is shown as I B P.
        reorder(&mut m, &[0, 2, 1]).unwrap();
        let trak = m.child(b"trak").unwrap();
        let elst = trak.child(b"edts").unwrap().payload[8..].to_vec();
        let words: Vec<u32> = elst
            .chunks(4)
            .map(|c| u32::from_be_bytes(c.try_into().unwrap()))
            .collect();
        // Version 1, one entry, 3 pictures of 10/500 s in 1/1000 s, from one picture on.
        assert_eq!(words, [1 << 24, 1, 0, 60, 0, 10, 0x1_0000]);
        let stbl = trak
            .child(b"mdia")
            .unwrap()
            .child(b"minf")
            .unwrap()
            .child(b"stbl")
            .unwrap();
        let ctts = stbl.child(b"ctts").unwrap();
        let words: Vec<u32> = (4..ctts.payload.len())
            .step_by(4)
            .map(|i| ctts.u32_at(i).unwrap())
            .collect();
        assert_eq!(words, [3, 1, 10, 1, 20, 1, 0]);
    }

    #[test]
    fn another_number_of_pictures_is_refused() {
        let error = reorder(&mut moov(), &[0, 1]).unwrap_err().to_string();
        assert!(
            error.contains("3 samples where the stream has 2"),
            "{error}"
        );
    }
}
