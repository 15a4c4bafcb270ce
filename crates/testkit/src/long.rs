//! Long videos: the frames of a small clip again and again, as an MP4 whose tables name every one.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::{boxes, footage, reference};

/// Where `moov` lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MoovPlace {
    /// Before the media data.
    First,
    /// After it, as the last box.
    Last,
    /// After it, and before a `free` box of so many bytes.
    Before(u64),
}

/// How a long video is made.
#[derive(Clone, Copy, Debug)]
pub struct Long {
    /// How often the clip is repeated.
    pub rounds: u64,
    /// Bytes from one round to the next; what the clip does not fill stays unwritten. Without: as
    /// many as the clip has.
    pub step: Option<u64>,
    /// Only every so many rounds are written at all; the others are holes.
    pub written: u64,
    /// Where `moov` lies.
    pub moov: MoovPlace,
}

/// What was written.
#[derive(Clone, Debug)]
pub struct LongVideo {
    /// Frames of the rounds that were written: the offset of each, and the number that it shows.
    pub frames: Vec<(u64, u32)>,
    /// Where `moov` lies.
    pub moov: Range<u64>,
    /// Where the media data lie.
    pub media: Range<u64>,
}

/// The clip that is repeated: 64-bit offsets, `moov` last.
fn clip() -> Result<footage::Clip> {
    footage::clip("offsets_64_bit")
}

/// Frames of the clip that is repeated.
pub fn frames_of_a_round() -> Result<u64> {
    Ok(u64::from(clip()?.frames))
}

const TABLES: &str = "moov/trak/mdia/minf/stbl";

impl Long {
    /// Writes the file.
    pub fn write(&self, path: &Path) -> Result<LongVideo> {
        let small = fs::read(&clip()?.path)?;
        let packets = reference::packets(&clip()?.path, Default::default())?;
        let mdat = boxes::find(&small, "mdat").context("no mdat")?;
        let step = self.step.unwrap_or(mdat.len() as u64);
        ensure!(mdat.len() as u64 <= step, "the rounds do not fit");

        let before = boxes::find(&small, "ftyp").context("no ftyp")?.end;
        let length = self.moov(&small, step, 0)?.len() as u64;
        let moov_first = self.moov == MoovPlace::First;
        // `mdat` has a 64-bit size.
        let media = before as u64 + 16 + if moov_first { length } else { 0 };
        let media = media..media + self.rounds * step;
        let moved = media.start as i64 - mdat.start as i64;
        let moov = self.moov(&small, step, moved)?;

        let mut file = File::create(path)?;
        file.write_all(&small[..before])?;
        if moov_first {
            file.write_all(&moov)?;
        }
        file.write_all(&1u32.to_be_bytes())?;
        file.write_all(b"mdat")?;
        file.write_all(&(16 + self.rounds * step).to_be_bytes())?;
        for round in (0..self.rounds).step_by(self.written as usize) {
            file.seek(SeekFrom::Start(media.start + round * step))?;
            file.write_all(&small[mdat.clone()])?;
        }
        let mut end = media.end;
        file.seek(SeekFrom::Start(end))?;
        if !moov_first {
            file.write_all(&moov)?;
            end += length;
        }
        if let MoovPlace::Before(size) = self.moov {
            file.write_all(&u32::try_from(size)?.to_be_bytes())?;
            file.write_all(b"free")?;
            end += size;
        }
        file.set_len(end)?;

        let mut shown: Vec<i64> = packets.iter().filter_map(|p| p.pts).collect();
        shown.sort_unstable();
        let frames = (0..self.rounds)
            .step_by(self.written as usize)
            .flat_map(|round| {
                packets.iter().filter_map({
                    let shown = &shown;
                    move |packet| {
                        let number = shown.binary_search(&packet.pts?).ok()? as u32;
                        let offset = packet.position.checked_add_signed(moved)?;
                        Some((offset + round * step, number))
                    }
                })
            });
        let at = match self.moov {
            MoovPlace::First => before as u64,
            _ => media.end,
        };
        Ok(LongVideo {
            frames: frames.collect(),
            moov: at..at + length,
            media,
        })
    }

    /// `moov` with each table of samples repeated, for samples that lie `moved` bytes further on.
    fn moov(&self, small: &[u8], step: u64, moved: i64) -> Result<Vec<u8>> {
        let rounds = self.rounds;
        let table = |name: &str| {
            let payload = boxes::find(small, &format!("{TABLES}/{name}"));
            let payload = payload.with_context(|| format!("no {name}"))?;
            // Found behind its first fields, to enter it.
            let before = if name == "stsd" { 8 } else { 0 };
            anyhow::Ok(&small[payload.start - before..payload.end])
        };
        let again = |name: &str, entry: usize, change: &dyn Fn(u64, &[u8]) -> Vec<u8>| {
            let payload = table(name)?;
            let entries = ((payload.len() - 8) / entry) as u64;
            let mut out = payload[..4].to_vec();
            out.extend(u32::try_from(entries * rounds)?.to_be_bytes());
            for round in 0..rounds {
                for row in payload[8..].chunks_exact(entry) {
                    out.extend(change(round, row));
                }
            }
            anyhow::Ok(full(name, &out))
        };
        let same = |_: u64, row: &[u8]| row.to_vec();
        let number = |row: &[u8]| u64::from(u32::from_be_bytes(row[..4].try_into().unwrap()));
        let narrow = |n: u64| (n as u32).to_be_bytes();
        let sizes = table("stsz")?;
        ensure!(sizes[4..8] == [0; 4], "sizes one by one");
        let count = (sizes.len() as u64 - 12) / 4;
        let chunks = (table("co64")?.len() as u64 - 8) / 8;
        let mut stsz = sizes[..8].to_vec();
        stsz.extend(narrow(rounds * count));
        (0..rounds).for_each(|_| stsz.extend(&sizes[12..]));
        let stbl = [
            full("stsd", table("stsd")?),
            again("stts", 8, &same)?,
            again("ctts", 8, &same)?,
            again("stss", 4, &|round, row| {
                narrow(number(row) + round * count).to_vec()
            })?,
            again("stsc", 12, &|round, row| {
                [&narrow(number(row) + round * chunks)[..], &row[4..]].concat()
            })?,
            full("stsz", &stsz),
            again("co64", 8, &|round, row| {
                let offset = u64::from_be_bytes(row.try_into().unwrap());
                let offset = offset.wrapping_add_signed(moved) + round * step;
                offset.to_be_bytes().to_vec()
            })?,
        ]
        .concat();
        let mut inner = full("stbl", &stbl);
        for name in TABLES.rsplit('/').skip(1) {
            // The siblings of what is replaced; edit lists hide what is repeated.
            let parent: Vec<&str> = TABLES.split('/').take_while(|part| *part != name).collect();
            let own = [&parent[..], &[name]].concat().join("/");
            let range = boxes::find(small, &own).with_context(|| format!("no {own}"))?;
            let replaced = TABLES.split('/').nth(parent.len() + 1).context("a child")?;
            let mut content = Vec::new();
            for (kind, payload) in boxes::children(small, range) {
                if kind == replaced.as_bytes() {
                    content.extend(&inner);
                } else if &kind != b"edts" {
                    content.extend(full(std::str::from_utf8(&kind)?, &small[payload]));
                }
            }
            inner = full(name, &content);
        }
        Ok(inner)
    }
}

/// A box.
fn full(kind: &str, payload: &[u8]) -> Vec<u8> {
    let size = (payload.len() as u32 + 8).to_be_bytes();
    [&size[..], kind.as_bytes(), payload].concat()
}
