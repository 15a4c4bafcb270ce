//! A small MP4 writer (ISO/IEC 14496-12 and -15) for what ffmpeg cannot be asked for: 1- and
//! 2-byte NAL lengths, `co64`, `largesize`, several sample descriptions, chunks in any order.

/// One access unit to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Its NAL units, without framing.
    pub nal_units: Vec<Vec<u8>>,
    /// Decode time in ticks.
    pub dts: i64,
    /// Presentation time in ticks.
    pub pts: i64,
    /// Decoding can start here.
    pub sync: bool,
    /// Which sample description, from 0.
    pub description: usize,
}

/// How the file is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Layout {
    /// Bytes of a NAL unit's length: 1, 2 or 4.
    pub nal_length_bytes: u8,
    /// `moov` before `mdat`.
    pub moov_first: bool,
    /// `co64` in place of `stco`.
    pub co64: bool,
    /// `mdat` with a 64-bit size.
    pub largesize: bool,
    /// `ctts` version 1 with signed offsets, so that the first picture is shown at time 0 without
    /// an edit list; else version 0 and an edit list.
    pub signed_composition_offsets: bool,
    /// Samples in one chunk.
    pub samples_per_chunk: usize,
    /// Chunks lie in the file from the last to the first.
    pub chunks_reversed: bool,
    /// A second track, of handler `meta` and entry `mett`, with one sample, before the video's.
    pub metadata_track_first: bool,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            nal_length_bytes: 4,
            moov_first: false,
            co64: false,
            largesize: false,
            signed_composition_offsets: false,
            samples_per_chunk: 8,
            chunks_reversed: false,
            metadata_track_first: false,
        }
    }
}

/// Writes a file. `descriptions` are payloads of `hvcC`, one for each sample description; their
/// length size is replaced by the layout's.
///
/// Panics where a NAL unit is too long for its length field.
pub fn mp4(
    layout: Layout,
    timescale: u32,
    (width, height): (u16, u16),
    descriptions: &[Vec<u8>],
    units: &[Unit],
) -> Vec<u8> {
    let samples: Vec<Vec<u8>> = units
        .iter()
        .map(|unit| framed(&unit.nal_units, layout.nal_length_bytes))
        .collect();
    let metadata = b"a sample of metadata".to_vec();
    // A chunk holds neighbours of one description.
    let mut chunks: Vec<(usize, usize)> = Vec::new();
    for (at, unit) in units.iter().enumerate() {
        match chunks.last_mut() {
            Some((first, count))
                if *count < layout.samples_per_chunk
                    && units[*first].description == unit.description =>
            {
                *count += 1;
            }
            _ => chunks.push((at, 1)),
        }
    }
    let mut order: Vec<usize> = (0..chunks.len()).collect();
    if layout.chunks_reversed {
        order.reverse();
    }
    let mut data = metadata.clone();
    let mut offsets = vec![0u64; chunks.len()];
    for chunk in order {
        offsets[chunk] = data.len() as u64;
        let (first, count) = chunks[chunk];
        data.extend(samples[first..first + count].iter().flatten());
    }
    let ftyp = boxed(
        b"ftyp",
        &[b"isom", &512u32.to_be_bytes()[..], b"isomiso2mp41"],
    );
    let track = Track {
        layout,
        timescale,
        width,
        height,
        descriptions,
        units,
        samples: &samples,
    };
    // The size of moov does not depend on the offsets in it.
    let moov = |base: u64| {
        let offsets: Vec<u64> = offsets.iter().map(|offset| offset + base).collect();
        track.moov(&chunks, &offsets, base, metadata.len() as u32)
    };
    let mdat_header = if layout.largesize {
        let size = (data.len() as u64 + 16).to_be_bytes();
        [&1u32.to_be_bytes()[..], b"mdat", &size].concat()
    } else {
        [&(data.len() as u32 + 8).to_be_bytes()[..], b"mdat"].concat()
    };
    let before = ftyp.len() + mdat_header.len();
    if layout.moov_first {
        let base = (before + moov(0).len()) as u64;
        [ftyp, moov(base), mdat_header, data].concat()
    } else {
        [ftyp, mdat_header, data, moov(before as u64)].concat()
    }
}

/// NAL units, each after its length.
fn framed(nal_units: &[Vec<u8>], length_bytes: u8) -> Vec<u8> {
    let mut sample = Vec::new();
    for unit in nal_units {
        let length = (unit.len() as u32).to_be_bytes();
        let (high, low) = length.split_at(4 - usize::from(length_bytes));
        assert!(
            high.iter().all(|byte| *byte == 0),
            "{} bytes in one NAL unit",
            unit.len()
        );
        sample.extend_from_slice(low);
        sample.extend_from_slice(unit);
    }
    sample
}

fn boxed(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let payload = parts.concat();
    [
        &(payload.len() as u32 + 8).to_be_bytes()[..],
        kind,
        &payload,
    ]
    .concat()
}

fn full(kind: &[u8; 4], version: u8, flags: u32, parts: &[&[u8]]) -> Vec<u8> {
    let head = (u32::from(version) << 24 | flags).to_be_bytes();
    boxed(kind, &[&[&head[..]], parts].concat())
}

fn words(values: impl IntoIterator<Item = u32>) -> Vec<u8> {
    values.into_iter().flat_map(u32::to_be_bytes).collect()
}

/// Entry count, then the entries.
fn table(entries: &[Vec<u8>]) -> Vec<u8> {
    [words([entries.len() as u32]), entries.concat()].concat()
}

/// Equal neighbours as (count, value).
fn runs<T: PartialEq + Copy>(values: impl IntoIterator<Item = T>) -> Vec<(u32, T)> {
    let mut runs: Vec<(u32, T)> = Vec::new();
    for value in values {
        match runs.last_mut() {
            Some((count, last)) if *last == value => *count += 1,
            _ => runs.push((1, value)),
        }
    }
    runs
}

const MATRIX: [u32; 9] = [1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30];

struct Track<'a> {
    layout: Layout,
    timescale: u32,
    width: u16,
    height: u16,
    descriptions: &'a [Vec<u8>],
    units: &'a [Unit],
    samples: &'a [Vec<u8>],
}

impl Track<'_> {
    fn moov(
        &self,
        chunks: &[(usize, usize)],
        offsets: &[u64],
        metadata_at: u64,
        metadata_size: u32,
    ) -> Vec<u8> {
        let duration = self.durations().iter().sum();
        let mvhd = full(
            b"mvhd",
            0,
            0,
            &[
                &words([0, 0, self.timescale, duration, 1 << 16, 0x0100_0000, 0, 0]),
                &words(MATRIX),
                &words([0, 0, 0, 0, 0, 0, 3]),
            ],
        );
        let video = self.video(chunks, offsets, duration);
        let mut tracks = Vec::new();
        if self.layout.metadata_track_first {
            tracks = self.metadata(duration, metadata_at, metadata_size);
        }
        boxed(b"moov", &[&mvhd, &tracks, &video])
    }

    fn durations(&self) -> Vec<u32> {
        let steps = self
            .units
            .windows(2)
            .map(|pair| (pair[1].dts - pair[0].dts) as u32);
        let mut durations: Vec<u32> = steps.collect();
        durations.push(durations.last().copied().unwrap_or(1));
        durations
    }

    fn video(&self, chunks: &[(usize, usize)], offsets: &[u64], duration: u32) -> Vec<u8> {
        let start = self.units.iter().map(|unit| unit.pts).min().unwrap_or(0);
        let first_dts = self.units.first().map_or(0, |unit| unit.dts);
        // Composition offsets from a decode time that begins at 0.
        let shift = if self.layout.signed_composition_offsets {
            start
        } else {
            first_dts
        };
        let composed: Vec<i64> = self
            .units
            .iter()
            .map(|unit| unit.pts - shift - (unit.dts - first_dts))
            .collect();
        let mut edits = Vec::new();
        if !self.layout.signed_composition_offsets {
            let media_time = (start - first_dts) as u32;
            let elst = full(b"elst", 0, 0, &[&words([1, duration, media_time, 1 << 16])]);
            edits = boxed(b"edts", &[&elst]);
        }
        let entries: Vec<Vec<u8>> = self.descriptions.iter().map(|d| self.entry(d)).collect();
        let stsd = full(b"stsd", 0, 0, &[&table(&entries)]);
        let stts = runs(self.durations())
            .into_iter()
            .map(|(n, d)| words([n, d]))
            .collect::<Vec<_>>();
        let stts = full(b"stts", 0, 0, &[&table(&stts)]);
        let ctts: Vec<_> = runs(composed)
            .into_iter()
            .map(|(n, offset)| words([n, offset as i32 as u32]))
            .collect();
        let version = u8::from(self.layout.signed_composition_offsets);
        let ctts = full(b"ctts", version, 0, &[&table(&ctts)]);
        let stss: Vec<_> = (1u32..)
            .zip(self.units)
            .filter(|(_, unit)| unit.sync)
            .map(|(number, _)| words([number]))
            .collect();
        let stss = full(b"stss", 0, 0, &[&table(&stss)]);
        let kinds = chunks
            .iter()
            .map(|&(first, n)| (n as u32, self.units[first].description as u32 + 1));
        let mut number = 1;
        let mut stsc = Vec::new();
        for (count, (samples, description)) in runs(kinds) {
            stsc.push(words([number, samples, description]));
            number += count;
        }
        let stsc = full(b"stsc", 0, 0, &[&table(&stsc)]);
        let sizes = self.samples.iter().map(|sample| sample.len() as u32);
        let stsz = full(
            b"stsz",
            0,
            0,
            &[&words([0, self.samples.len() as u32]), &words(sizes)],
        );
        let chunk_offsets = self.chunk_offsets(offsets);
        let stbl = boxed(
            b"stbl",
            &[&stsd, &stts, &ctts, &stss, &stsc, &stsz, &chunk_offsets],
        );
        let header = full(b"vmhd", 0, 1, &[&[0; 8]]);
        self.track(2, b"vide", duration, &edits, &header, &stbl)
    }

    fn chunk_offsets(&self, offsets: &[u64]) -> Vec<u8> {
        if self.layout.co64 {
            let entries: Vec<_> = offsets.iter().map(|o| o.to_be_bytes().to_vec()).collect();
            full(b"co64", 0, 0, &[&table(&entries)])
        } else {
            let entries: Vec<_> = offsets.iter().map(|o| words([*o as u32])).collect();
            full(b"stco", 0, 0, &[&table(&entries)])
        }
    }

    fn metadata(&self, duration: u32, at: u64, size: u32) -> Vec<u8> {
        let mett = boxed(
            b"mett",
            &[&[0, 0, 0, 0, 0, 0, 0, 1], b"\0application/x-test\0"],
        );
        let stbl = boxed(
            b"stbl",
            &[
                &full(b"stsd", 0, 0, &[&table(&[mett])]),
                &full(b"stts", 0, 0, &[&table(&[words([1, duration])])]),
                &full(b"stsc", 0, 0, &[&table(&[words([1, 1, 1])])]),
                &full(b"stsz", 0, 0, &[&words([0, 1, size])]),
                &self.chunk_offsets(&[at]),
            ],
        );
        self.track(1, b"meta", duration, &[], &full(b"nmhd", 0, 0, &[]), &stbl)
    }

    fn track(
        &self,
        id: u32,
        handler: &[u8; 4],
        duration: u32,
        edits: &[u8],
        media_header: &[u8],
        stbl: &[u8],
    ) -> Vec<u8> {
        let (width, height) = match handler {
            b"vide" => (u32::from(self.width) << 16, u32::from(self.height) << 16),
            _ => (0, 0),
        };
        let tkhd = full(
            b"tkhd",
            0,
            3,
            &[
                &words([0, 0, id, 0, duration, 0, 0, 0, 0]),
                &words(MATRIX),
                &words([width, height]),
            ],
        );
        let mdhd = full(
            b"mdhd",
            0,
            0,
            &[&words([0, 0, self.timescale, duration, 0x55c4_0000])],
        );
        let hdlr = full(b"hdlr", 0, 0, &[&[0; 4], handler, &[0; 13]]);
        let url = full(b"url ", 0, 1, &[]);
        let dinf = boxed(b"dinf", &[&full(b"dref", 0, 0, &[&table(&[url])])]);
        let minf = boxed(b"minf", &[media_header, &dinf, stbl]);
        let mdia = boxed(b"mdia", &[&mdhd, &hdlr, &minf]);
        boxed(b"trak", &[&tkhd, edits, &mdia])
    }

    /// `VisualSampleEntry` with `hvcC`.
    fn entry(&self, hvcc: &[u8]) -> Vec<u8> {
        let mut hvcc = hvcc.to_vec();
        hvcc[21] = hvcc[21] & !3 | (self.layout.nal_length_bytes - 1);
        let mut fields = vec![0; 78];
        fields[7] = 1;
        fields[24..26].copy_from_slice(&self.width.to_be_bytes());
        fields[26..28].copy_from_slice(&self.height.to_be_bytes());
        // 72 dots per inch, one frame per sample, depth 24, no colour table.
        fields[28..36].copy_from_slice(&words([0x0048_0000, 0x0048_0000]));
        fields[41] = 1;
        fields[74..78].copy_from_slice(&[0, 24, 0xff, 0xff]);
        boxed(b"hvc1", &[&fields, &boxed(b"hvcC", &[&hvcc])])
    }
}
