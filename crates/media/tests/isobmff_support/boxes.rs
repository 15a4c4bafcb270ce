//! Writes boxes from nothing, and edits the boxes of a whole file.

/// A box of a type around a body.
pub fn bx(fourcc: &[u8; 4], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut out = ((body.len() + 8) as u32).to_be_bytes().to_vec();
    out.extend_from_slice(fourcc);
    out.extend_from_slice(body);
    out
}

/// A full box.
pub fn full(fourcc: &[u8; 4], version: u8, flags: u32, body: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = ((u32::from(version) << 24) | flags).to_be_bytes().to_vec();
    out.extend_from_slice(body.as_ref());
    bx(fourcc, out)
}

/// 32-bit values, one after another.
pub fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_be_bytes()).collect()
}

/// A full box that is a count and rows of 32-bit values.
pub fn table(fourcc: &[u8; 4], row: usize, values: &[u32]) -> Vec<u8> {
    let mut body = words(&[(values.len() / row) as u32]);
    body.extend(words(values));
    full(fourcc, 0, 0, body)
}

pub const IDENTITY: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

/// One track; public fields are what tests vary.
#[derive(Clone)]
pub struct Track {
    pub id: u32,
    pub enabled: bool,
    pub handler: [u8; 4],
    pub timescale: u32,
    pub matrix: [u32; 9],
    /// Sample entries, whole boxes.
    pub entries: Vec<Vec<u8>>,
    /// The boxes of `stbl` after `stsd`.
    pub tables: Vec<Vec<u8>>,
    /// Rows of `elst`: duration, media time, rate (16.16).
    pub edits: Vec<(u32, i32, u32)>,
}

impl Track {
    /// An H.265 track with these tables.
    pub fn hevc(tables: Vec<Vec<u8>>) -> Self {
        Self {
            id: 1,
            enabled: true,
            handler: *b"vide",
            timescale: 1000,
            matrix: IDENTITY,
            entries: vec![hevc_entry(b"hvc1", 4, &SETS)],
            tables,
            edits: vec![],
        }
    }

    pub fn write(&self) -> Vec<u8> {
        let mut tkhd = words(&[0, 0, self.id, 0, 0, 0, 0, 0, 0]);
        tkhd.extend(words(&self.matrix));
        tkhd.extend(words(&[640 << 16, 360 << 16]));
        let mdhd = full(b"mdhd", 0, 0, words(&[0, 0, self.timescale, 0, 0]));
        let mut hdlr = words(&[0]);
        hdlr.extend_from_slice(&self.handler);
        hdlr.extend(words(&[0, 0, 0, 0]));
        let mut stsd = words(&[self.entries.len() as u32]);
        stsd.extend(self.entries.concat());
        let stbl = bx(
            b"stbl",
            [full(b"stsd", 0, 0, stsd), self.tables.concat()].concat(),
        );
        let mdia = [mdhd, full(b"hdlr", 0, 0, hdlr), bx(b"minf", stbl)].concat();
        let mut trak = full(b"tkhd", 0, u32::from(self.enabled), tkhd);
        if !self.edits.is_empty() {
            let rows: Vec<u32> = self
                .edits
                .iter()
                .flat_map(|&(d, t, r)| [d, t as u32, r])
                .collect();
            trak.extend(bx(b"edts", table(b"elst", 3, &rows)));
        }
        trak.extend(bx(b"mdia", mdia));
        bx(b"trak", trak)
    }
}

/// VPS, SPS and PPS: two bytes of NAL unit header and something.
pub const SETS: [&[u8]; 3] = [&[0x40, 1, 0xaa], &[0x42, 1, 0xbb, 0xcc], &[0x44, 1, 0xdd]];

/// A visual sample entry of 640×360 with boxes inside.
pub fn visual_entry(fourcc: &[u8; 4], inside: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 78];
    body[7] = 1;
    body[24..28].copy_from_slice(&[2, 128, 1, 104]);
    body.extend_from_slice(inside);
    bx(fourcc, body)
}

/// `hvcC` with one array for each NAL unit.
pub fn hvcc(length_size: u8, sets: &[&[u8]]) -> Vec<u8> {
    let mut body = vec![0; 23];
    body[0] = 1;
    body[21] = length_size - 1;
    body[22] = sets.len() as u8;
    for set in sets {
        body.push(set[0] >> 1);
        body.extend_from_slice(&1u16.to_be_bytes());
        body.extend_from_slice(&(set.len() as u16).to_be_bytes());
        body.extend_from_slice(set);
    }
    bx(b"hvcC", body)
}

pub fn hevc_entry(fourcc: &[u8; 4], length_size: u8, sets: &[&[u8]]) -> Vec<u8> {
    visual_entry(fourcc, &hvcc(length_size, sets))
}

/// `moov` with a movie timescale of 1000 and identity matrix.
pub fn moov(tracks: &[Track], more: &[u8]) -> Vec<u8> {
    moov_with_matrix(tracks, more, IDENTITY)
}

pub fn moov_with_matrix(tracks: &[Track], more: &[u8], matrix: [u32; 9]) -> Vec<u8> {
    let mut mvhd = words(&[0, 0, 1000, 0, 0, 0, 0, 0]);
    mvhd.extend(words(&matrix));
    mvhd.extend(words(&[0; 7]));
    let mut body = full(b"mvhd", 0, 0, mvhd);
    for track in tracks {
        body.extend(track.write());
    }
    body.extend_from_slice(more);
    bx(b"moov", body)
}

pub fn ftyp() -> Vec<u8> {
    bx(b"ftyp", b"isom\0\0\0\0isom")
}

/// A box of a file, taken apart as far as tests edit it.
#[derive(Clone, Debug)]
pub struct Node {
    pub fourcc: [u8; 4],
    pub content: Content,
}

#[derive(Clone, Debug)]
pub enum Content {
    Bytes(Vec<u8>),
    Boxes(Vec<Node>),
}

/// Takes apart whole files and containers.
pub fn parse(mut data: &[u8]) -> Vec<Node> {
    const CONTAINERS: [&[u8; 4]; 6] = [b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl"];
    let mut nodes = Vec::new();
    while data.len() >= 8 {
        let size = u32::from_be_bytes(data[..4].try_into().unwrap()) as usize;
        assert!(size >= 8, "tests edit plain files only");
        let fourcc: [u8; 4] = data[4..8].try_into().unwrap();
        let body = &data[8..size];
        let content = if CONTAINERS.contains(&&fourcc) {
            Content::Boxes(parse(body))
        } else {
            Content::Bytes(body.to_vec())
        };
        nodes.push(Node { fourcc, content });
        data = &data[size..];
    }
    nodes
}

impl Node {
    pub fn leaf(fourcc: &[u8; 4], body: Vec<u8>) -> Self {
        Self {
            fourcc: *fourcc,
            content: Content::Bytes(body),
        }
    }

    /// From a whole box.
    pub fn of(whole: Vec<u8>) -> Self {
        parse(&whole).remove(0)
    }

    pub fn write(&self) -> Vec<u8> {
        match &self.content {
            Content::Bytes(body) => bx(&self.fourcc, body),
            Content::Boxes(nodes) => bx(&self.fourcc, write(nodes)),
        }
    }

    pub fn children(&mut self) -> &mut Vec<Node> {
        match &mut self.content {
            Content::Boxes(nodes) => nodes,
            Content::Bytes(_) => panic!("{:?} is a leaf", self.fourcc),
        }
    }

    pub fn body(&mut self) -> &mut Vec<u8> {
        match &mut self.content {
            Content::Bytes(body) => body,
            Content::Boxes(_) => panic!("{:?} is a container", self.fourcc),
        }
    }

    /// The box at a path below this one.
    pub fn at(&mut self, path: &[&[u8; 4]]) -> &mut Node {
        let Some((first, rest)) = path.split_first() else {
            return self;
        };
        let next = self.children().iter_mut().find(|n| n.fourcc == **first);
        next.unwrap_or_else(|| panic!("no {first:?}")).at(rest)
    }
}

pub fn write(nodes: &[Node]) -> Vec<u8> {
    nodes.iter().flat_map(Node::write).collect()
}

/// The box of a type at the top level.
pub fn top<'a>(nodes: &'a mut [Node], fourcc: &[u8; 4]) -> &'a mut Node {
    nodes.iter_mut().find(|n| &n.fourcc == fourcc).unwrap()
}

/// Adds `delta` to every 32-bit chunk offset of a `moov`.
pub fn move_chunks(moov: &mut Node, delta: i64) {
    for trak in moov.children().iter_mut().filter(|n| &n.fourcc == b"trak") {
        let stco = trak.at(&[b"mdia", b"minf", b"stbl", b"stco"]).body();
        for row in stco[8..].as_chunks_mut::<4>().0 {
            *row = ((i64::from(u32::from_be_bytes(*row)) + delta) as u32).to_be_bytes();
        }
    }
}
