//! The oracle: a full, plain decode by the ffmpeg program, and ffprobe's tables.
//!
//! ffmpeg's frames come in presentation order; ffprobe's frame table, made by the same decoder,
//! says which packet each came from. Nothing is scaled, turned, duplicated or dropped, and
//! cropping is exact to the sample.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::command::{Run, ffmpeg_version};
use crate::footage;
use crate::picture::{Picture, SampleFormat};

/// How the file is read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Options {
    /// Give the pictures that an edit list hides, too.
    pub ignore_edit_list: bool,
    /// Only the first so many pictures.
    pub limit: Option<usize>,
}

/// One decoded picture, in presentation order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReferenceFrame {
    /// XXH3-128 of the planes Y, Cb, Cr, rows without padding, more than 8 bits as little-endian
    /// words: what [`PlaneHasher`] gives.
    pub hash: u128,
    /// Luma width after cropping.
    pub width: usize,
    /// Luma height after cropping.
    pub height: usize,
    /// Presentation time in the stream's time base; raw streams have none.
    pub pts: Option<i64>,
    /// File position of its packet (ffprobe's `pkt_pos`): the sample's identity.
    pub position: Option<u64>,
    /// ffprobe's `pict_type`: `I`, `P` or `B`.
    pub picture_type: char,
    /// Of an IRAP picture (ffprobe's `key_frame`).
    pub key: bool,
}

/// Hashes planes as [`ReferenceFrame::hash`] does: row by row, without padding.
#[derive(Default)]
pub struct PlaneHasher(Xxh3);

impl PlaneHasher {
    /// Adds one row, as it lies in memory (little-endian words above 8 bits).
    pub fn row(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all rows so far.
    pub fn finish(&self) -> u128 {
        self.0.digest128()
    }
}

/// Decodes the first video stream and hashes every picture. The result is kept beside the
/// footage under a hash of the file's content, of the options and of ffmpeg's version.
pub fn decode(path: &Path, options: Options) -> Result<Vec<ReferenceFrame>> {
    let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let key = format!(
        "{GENERATION} {:032x} {options:?} {}",
        xxh3_128(&content),
        ffmpeg_version()
    );
    let name = format!("reference-{:032x}.txt", xxh3_128(key.as_bytes()));
    let table = footage::kept(&name, |unfinished| {
        let mut lines = String::new();
        for_each(path, options, |frame, _| {
            lines.push_str(&frame.to_line());
            lines.push('\n');
            Ok(())
        })?;
        Ok(fs::write(unfinished, lines)?)
    })?;
    let frames: Option<Vec<ReferenceFrame>> = fs::read_to_string(&table)?
        .lines()
        .map(ReferenceFrame::from_line)
        .collect();
    frames.with_context(|| format!("{} is damaged: remove it", table.display()))
}

/// Part of every kept table's key: raise it when a table's content changes.
const GENERATION: u32 = 1;

impl ReferenceFrame {
    fn to_line(&self) -> String {
        let Self {
            hash,
            width,
            height,
            pts,
            position,
            picture_type,
            key,
        } = self;
        let pts = pts.map_or("-".to_owned(), |pts| pts.to_string());
        let position = position.map_or("-".to_owned(), |position| position.to_string());
        format!("{hash:032x} {width} {height} {pts} {position} {picture_type} {key}")
    }

    fn from_line(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(' ').collect();
        let [hash, width, height, pts, position, picture_type, key] = fields[..] else {
            return None;
        };
        Some(Self {
            hash: u128::from_str_radix(hash, 16).ok()?,
            width: width.parse().ok()?,
            height: height.parse().ok()?,
            pts: if pts == "-" {
                None
            } else {
                Some(pts.parse().ok()?)
            },
            position: if position == "-" {
                None
            } else {
                Some(position.parse().ok()?)
            },
            picture_type: picture_type.chars().next()?,
            key: key.parse().ok()?,
        })
    }
}

/// Decodes the first video stream and keeps every picture's samples.
pub fn pictures(path: &Path, options: Options) -> Result<Vec<(ReferenceFrame, Picture)>> {
    let mut all = Vec::new();
    for_each(path, options, |frame, picture| {
        all.push((frame.clone(), picture()));
        Ok(())
    })?;
    Ok(all)
}

/// Decodes the first video stream and shows each picture to `visit`, with a closure that unpacks
/// its samples.
pub fn for_each(
    path: &Path,
    options: Options,
    mut visit: impl FnMut(&ReferenceFrame, &dyn Fn() -> Picture) -> Result<()>,
) -> Result<()> {
    let table = frame_table(path, options)?;
    let Some(first) = table.first() else {
        bail!("{}: ffprobe sees no frame", path.display())
    };
    let (format, width, height) = (first.format, first.width, first.height);
    let uniform = |f: &&FrameRow| (f.format, f.width, f.height) != (format, width, height);
    ensure!(
        table.iter().find(uniform).is_none(),
        "{}: the format changes",
        path.display()
    );
    let bytes = format.picture_bytes(width, height);
    let mut run = Run::ffmpeg().args(["-noautorotate", "-flags", "unaligned"]);
    if options.ignore_edit_list && is_isobmff(path)? {
        run = run.args(["-ignore_editlist", "1"]);
    }
    run = run
        .arg("-i")
        .arg(path)
        .args(["-map", "0:v:0", "-fps_mode", "passthrough"]);
    run = run.args(["-autoscale", "0", "-f", "rawvideo"]);
    if let Some(limit) = options.limit {
        run = run.args(["-frames:v", &limit.to_string()]);
    }
    let mut count = 0;
    run.arg("pipe:1").stream(
        |_| Ok(()),
        |output| {
            let mut buffer = vec![0; bytes];
            while fill(output, &mut buffer)? {
                let row = table
                    .get(count)
                    .context("ffmpeg gives more frames than ffprobe")?;
                let frame = ReferenceFrame {
                    hash: xxh3_128(&buffer),
                    width,
                    height,
                    pts: row.pts,
                    position: row.position,
                    picture_type: row.picture_type,
                    key: row.key,
                };
                visit(&frame, &|| {
                    Picture::from_bytes(format, width, height, &buffer)
                })?;
                count += 1;
            }
            Ok(())
        },
    )?;
    let expected = options.limit.unwrap_or(usize::MAX).min(table.len());
    ensure!(
        count == expected,
        "{}: {count} of {expected} frames",
        path.display()
    );
    Ok(())
}

/// Fills the buffer; false at the end of the output; fails on a part of a picture.
fn fill(output: &mut dyn Read, buffer: &mut [u8]) -> Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        match output.read(&mut buffer[filled..])? {
            0 if filled == 0 => return Ok(false),
            0 => bail!("the output ends inside a picture"),
            n => filled += n,
        }
    }
    Ok(true)
}

/// One packet of the first video stream, in decode order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// File position.
    pub position: u64,
    /// Bytes.
    pub size: u64,
    /// Presentation time in the stream's time base.
    pub pts: Option<i64>,
    /// Decode time in the stream's time base.
    pub dts: Option<i64>,
    /// Flag `K`: decoding can start here.
    pub key: bool,
    /// Flag `D`: decoded, but not shown (an edit list hides it).
    pub discard: bool,
}

/// ffprobe's packet table of the first video stream.
pub fn packets(path: &Path, options: Options) -> Result<Vec<Packet>> {
    let rows = probe(
        path,
        options,
        "-show_packets",
        "packet=pos,size,pts,dts,flags",
        "packet",
    )?;
    rows.iter()
        .map(|row| {
            let flags = row.get("flags").map_or("", String::as_str);
            Ok(Packet {
                position: number(row, "pos").context("a packet without position")? as u64,
                size: number(row, "size").context("a packet without size")? as u64,
                pts: number(row, "pts"),
                dts: number(row, "dts"),
                key: flags.contains('K'),
                discard: flags.contains('D'),
            })
        })
        .collect()
}

/// What ffprobe says of the first video stream, by its own keys (`width`, `pix_fmt`,
/// `color_space`, `time_base`, `nb_frames` …); keys it does not know are absent.
pub fn stream(path: &Path) -> Result<HashMap<String, String>> {
    let rows = probe(
        path,
        Options::default(),
        "-show_streams",
        "stream",
        "stream",
    )?;
    rows.into_iter()
        .next()
        .with_context(|| format!("{}: no video stream", path.display()))
}

struct FrameRow {
    format: SampleFormat,
    width: usize,
    height: usize,
    pts: Option<i64>,
    position: Option<u64>,
    picture_type: char,
    key: bool,
}

fn frame_table(path: &Path, options: Options) -> Result<Vec<FrameRow>> {
    let entries = "frame=pts,pkt_pos,width,height,pix_fmt,pict_type,key_frame";
    let rows = probe(path, options, "-show_frames", entries, "frame")?;
    rows.iter()
        .map(|row| {
            let text = |key: &str| row.get(key).map_or("", String::as_str);
            Ok(FrameRow {
                format: SampleFormat::from_ffmpeg_name(text("pix_fmt"))?,
                width: text("width").parse()?,
                height: text("height").parse()?,
                pts: number(row, "pts"),
                position: number(row, "pkt_pos").map(|n| n as u64),
                picture_type: text("pict_type").chars().next().unwrap_or('?'),
                key: text("key_frame") == "1",
            })
        })
        .collect()
}

fn number(row: &HashMap<String, String>, key: &str) -> Option<i64> {
    row.get(key)?.parse().ok()
}

/// Rows of one section of ffprobe's output, as keys and values.
fn probe(
    path: &Path,
    options: Options,
    show: &str,
    entries: &str,
    section: &str,
) -> Result<Vec<HashMap<String, String>>> {
    // Without this flag libavcodec rounds the left edge of the conformance window down, and the
    // pictures come out wider than the stream says.
    let mut run = Run::ffprobe().args(["-flags", "unaligned"]);
    if options.ignore_edit_list && is_isobmff(path)? {
        run = run.args(["-ignore_editlist", "1"]);
    }
    let run = run.args([show, "-show_entries", entries, "-select_streams", "v:0"]);
    let output = run
        .args(["-of", "compact=escape=none"])
        .arg(path)
        .output()?;
    let text = String::from_utf8_lossy(&output);
    let of_section = text.lines().filter_map(|line| {
        line.strip_prefix(section)
            .and_then(|rest| rest.strip_prefix('|'))
    });
    Ok(of_section
        .map(|line| {
            // Side data sections follow their row on the same line, without keys of interest.
            line.split('|')
                .filter_map(|pair| pair.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect()
        })
        .collect())
}

/// Whether ffmpeg's mov demuxer, which alone knows `-ignore_editlist`, will read it.
fn is_isobmff(path: &Path) -> Result<bool> {
    let mut head = [0; 8];
    let mut file = std::fs::File::open(path)?;
    Ok(file.read_exact(&mut head).is_ok()
        && [b"ftyp", b"moov", b"mdat", b"wide", b"free"]
            .iter()
            .any(|kind| head[4..] == **kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_line_gives_the_frame_back() {
        for (pts, position) in [(None, None), (Some(-512), Some(1 << 40))] {
            let frame = ReferenceFrame {
                hash: 0x0123 << 100,
                width: 319,
                height: 179,
                pts,
                position,
                picture_type: 'B',
                key: pts.is_none(),
            };
            assert_eq!(ReferenceFrame::from_line(&frame.to_line()), Some(frame));
        }
        assert_eq!(ReferenceFrame::from_line("cut sho"), None);
    }

    #[test]
    fn a_hasher_fed_by_rows_gives_the_hash_of_the_packed_picture() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let mut hasher = PlaneHasher::default();
        bytes.chunks(37).for_each(|row| hasher.row(row));
        assert_eq!(hasher.finish(), xxh3_128(&bytes));
    }
}
