//! The index file: what is written comes back, what is damaged or another video's is refused, and a
//! graph of heads is the graph of the samples.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod isobmff_support;
mod support;

use std::fmt::Write as _;

use bytes::Bytes;
use isobmff_support::boxes::*;
use media::bsidx::{self, Content, Facts, HEADER_BYTES, Header, Unfit};
use media::graph::{ReferenceGraph, UnitContent};
use media::heads::{Heads, HeadsBuilder};
use media::{DecodeIndex, VideoIndex};
use proptest::prelude::*;
use support::stream::{EOS, Stream, Wanted, make};
use support::{Tape, d, index, nal};
use xxhash_rust::xxh3::xxh3_64;

/// A whole object and what is known of it.
struct Video {
    object: Bytes,
    index: VideoIndex,
    heads: Heads,
}

impl Video {
    fn of(object: Vec<u8>) -> Self {
        let object = Bytes::from(object);
        let index = index(&object).unwrap();
        let mut heads = HeadsBuilder::new(&index);
        for i in 0..index.sample_count() {
            let sample = index.sample(DecodeIndex(i)).unwrap();
            heads.push(&index, &sample, data(&object, &index, i));
        }
        let heads = heads.finish();
        Self {
            object,
            index,
            heads,
        }
    }

    fn facts(&self, etag: Option<&str>) -> Facts {
        facts(&self.object, etag)
    }

    fn declared(&self) -> Vec<Bytes> {
        let ranges = self.index.declared().iter();
        let part = |r: &std::ops::Range<u64>| self.object.slice(r.start as usize..r.end as usize);
        ranges.map(part).collect()
    }

    fn file(&self, heads: bool, etag: Option<&str>) -> Vec<u8> {
        let heads = heads.then_some(&self.heads);
        bsidx::write(&self.index, heads, &self.facts(etag), &self.declared())
    }
}

fn facts(object: &Bytes, etag: Option<&str>) -> Facts {
    let most = object.len().min(200_000);
    Facts {
        size: object.len() as u64,
        head: object.slice(..most),
        tail: object.slice(object.len() - most..),
        etag: etag.map(str::to_owned),
    }
}

fn data<'o>(object: &'o [u8], index: &VideoIndex, sample: u32) -> &'o [u8] {
    let range = index.sample(DecodeIndex(sample)).unwrap().range();
    &object[range.start as usize..range.end as usize]
}

/// A stream as a raw byte stream.
fn annex_b(stream: &Stream) -> Vec<u8> {
    let mut out = Vec::new();
    for au in &stream.aus {
        let eos = au.eos_before.then(|| nal(EOS, 0, 0, &[]));
        for nal in eos.iter().chain(&au.nals) {
            out.extend([0, 0, 0, 1]);
            out.extend(nal);
        }
    }
    out
}

/// Four samples shown in another order than they are decoded in, from the second one on.
fn small_mp4(first: u32) -> Vec<u8> {
    let tables = |at: u32| {
        vec![
            table(b"stts", 2, &[3, 40, 1, 30]),
            table(b"ctts", 2, &[1, 40, 1, 120, 1, 40, 1, 0]),
            table(b"stsc", 3, &[1, 4, 1]),
            full(b"stsz", 0, 0, words(&[0, 4, 12, 7, 8, 9])),
            table(b"stco", 1, &[at]),
            table(b"stss", 1, &[1]),
        ]
    };
    let write = |at: u32| {
        let mut track = Track::hevc(tables(at));
        track.edits = vec![(1000, 40, 0x1_0000)];
        [ftyp(), moov(&[track], &[])].concat()
    };
    let at = write(0).len() as u32 + 8;
    let unit = |length: u8, nal: [u8; 3], rest: usize| {
        let mut sample = vec![0, 0, 0, length];
        sample.extend(nal);
        sample.resize(4 + rest, 9);
        sample
    };
    let media = [
        unit(8, [0x26, 1, first as u8], 8),
        unit(3, [2, 1, 0x80], 3),
        unit(4, [2, 1, 0x81], 4),
        unit(5, [0, 1, 0x82], 5),
    ];
    [write(at), bx(b"mdat", media.concat())].concat()
}

fn tape() -> impl Strategy<Value = Tape> {
    prop::collection::vec(any::<u32>(), 50..1500).prop_map(Tape::new)
}

fn wanted(damage: bool) -> Wanted {
    Wanted {
        units: 24,
        damage,
        missing: true,
    }
}

/// From wherever a graph begins.
fn check_graphs(video: &Video) {
    let Video {
        object,
        index,
        heads,
    } = video;
    let count = index.sample_count();
    for i in 0..count {
        let sample = index.sample(DecodeIndex(i)).unwrap();
        assert!(heads.agree(index, &sample, data(object, index, i)), "{i}");
    }
    for first in 0..count {
        let samples = (first..count).map(|i| {
            let sample = index.sample(DecodeIndex(i)).unwrap();
            (sample, data(object, index, i))
        });
        let whole = ReferenceGraph::of_samples(index, samples);
        let cut = heads.graph(index, DecodeIndex(first), count);
        assert_eq!(cut.units().len(), whole.units().len());
        assert_eq!(cut.first(), whole.first());
        assert_eq!(cut.at_stream_start(), whole.at_stream_start());
        for (n, (a, b)) in cut.units().iter().zip(whole.units()).enumerate() {
            let upto = DecodeIndex(first + n as u32);
            if !Heads::knows(&cut, upto) {
                assert!(matches!(a.content, UnitContent::Unreadable(_)));
                break;
            }
            assert_eq!(format!("{a:?}"), format!("{b:?}"), "{upto} from {first}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn heads_make_the_graph_of_the_samples(mut t in tape(), damage in any::<bool>()) {
        check_graphs(&Video::of(annex_b(&make(&mut t, wanted(damage)))));
    }

    #[test]
    fn what_is_written_comes_back(mut t in tape(), heads in any::<bool>()) {
        let video = Video::of(annex_b(&make(&mut t, wanted(true))));
        let file = video.file(heads, None);
        let (header, Content { index, heads: read }) = bsidx::read(&file).unwrap();
        prop_assert_eq!(header.file_length(), file.len() as u64);
        prop_assert_eq!(header.has_heads(), heads);
        prop_assert_eq!(&index, &video.index);
        prop_assert_eq!(read.as_ref(), heads.then_some(&video.heads));
        prop_assert_eq!(header.check(&video.facts(None)), Ok(()));
        prop_assert_eq!(header.check_declared(&video.declared()), Ok(()));
    }

    /// Other bytes under right checksums: read or refused, and what is read is an index in which
    /// everything can be asked for.
    #[test]
    fn no_content_is_trusted(
        mut t in tape(),
        mp4 in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let object = if mp4 { small_mp4(0) } else { annex_b(&make(&mut t, wanted(true))) };
        let video = Video::of(object);
        let mut file = video.file(true, Some("\"a\""));
        for (place, byte) in changes {
            let place = 16 + place.index(file.len() - 16);
            file[place] ^= byte;
        }
        if let Some(cut) = cut {
            file.truncate(HEADER_BYTES + cut.index(file.len() - HEADER_BYTES));
        }
        seal(&mut file);
        if let Ok((_, Content { index, heads: Some(heads) })) = bsidx::read(&file) {
            for i in 0..index.sample_count() {
                let sample = index.sample(DecodeIndex(i)).unwrap();
                prop_assert!(sample.range().end <= index.object_size());
                index.presentation_index(sample.index);
                index.composition_time(sample.index);
                index.sync_at_or_before(sample.index);
                index.sample_at_offset(sample.offset);
                index.parameter_sets_before(sample.index);
                heads.agree(&index, &sample, b"\0\0\0\x01\x26\x01");
            }
            index.frame_at_time(0.1);
            index.duration();
            heads.graph(&index, DecodeIndex(0), index.sample_count());
        }
    }

    #[test]
    fn any_accident_is_seen(place in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>()) {
        let mut file = Video::of(small_mp4(0)).file(true, None);
        let place = place.index(file.len());
        if cut {
            file.truncate(place);
        } else {
            file[place] ^= 1 << bit;
        }
        prop_assert!(bsidx::read(&file).is_err());
    }

    #[test]
    fn anything_else_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(bsidx::read(&bytes).is_err());
        prop_assert!(Header::read(&bytes).is_err());
    }
}

/// Makes length and checksums right.
fn seal(file: &mut [u8]) {
    let length = file.len() as u64;
    file[16..24].copy_from_slice(&length.to_le_bytes());
    let body = xxh3_64(&file[HEADER_BYTES..]);
    file[96..104].copy_from_slice(&body.to_le_bytes());
    let header = xxh3_64(&file[..104]);
    file[104..112].copy_from_slice(&header.to_le_bytes());
}

#[test]
fn counts_of_billions_take_no_memory() {
    let video = Video::of(small_mp4(0));
    let whole = video.file(true, None);
    // Every place as a huge number, in a file that says that its object has so many bytes.
    for place in HEADER_BYTES..whole.len() {
        for object_size in [video.index.object_size(), u64::MAX] {
            let mut file = whole[..place].to_vec();
            file.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
            file.extend(&whole[place..]);
            file[24..32].copy_from_slice(&object_size.to_le_bytes());
            seal(&mut file);
            bsidx::read(&file).ok();
        }
    }
}

#[test]
fn another_video_is_told_from_the_one_it_was_made_of() {
    let video = Video::of(small_mp4(0x80));
    let stale = |what: &'static str, object: &[u8], etag: Option<&str>, of: Option<&str>| {
        let header = Header::read(&video.file(true, of)).unwrap();
        let error = header.check(&facts(&Bytes::copy_from_slice(object), etag));
        assert_eq!(error, Err(Unfit::Stale(what)));
    };
    let object = video.object.to_vec();
    stale("the size", &[&object[..], &[0]].concat(), None, None);
    stale("the size", &object[1..], Some("\"a\""), Some("\"a\""));
    stale("the ETag", &object, Some("\"a\""), Some("\"b\""));
    for place in [0, object.len() / 2, object.len() - 1] {
        let mut other = object.clone();
        other[place] ^= 1;
        stale("the beginning or the end", &other, None, Some("\"b\""));
    }
    let fits = |etag, of| {
        let header = Header::read(&video.file(true, of)).unwrap();
        assert_eq!(header.check(&video.facts(etag)), Ok(()));
    };
    fits(None, None);
    fits(Some("\"a\""), None);
    fits(None, Some("\"a\""));
    fits(Some("\"a\""), Some("\"a\""));

    // What is said before the tables is looked at wherever it lies.
    let header = Header::read(&video.file(true, None)).unwrap();
    let mut declared = video.declared();
    assert!(!declared.is_empty() && declared.iter().all(|d| !d.is_empty()));
    assert_eq!(header.declared(), video.index.declared());
    assert_eq!(header.check_declared(&declared), Ok(()));
    let mut turned = declared[0].to_vec();
    let tkhd = turned.windows(4).position(|w| w == b"tkhd").unwrap();
    turned[tkhd + 44] ^= 1;
    declared[0] = turned.into();
    let stale = Err(Unfit::Stale("what the container declares"));
    assert_eq!(header.check_declared(&declared), stale);
}

#[test]
fn heads_agree_with_their_own_sample_only() {
    let video = Video::of(annex_b(&make(
        &mut Tape::new((0..900).map(|n| n * 7919 % 1013).collect()),
        wanted(false),
    )));
    let Video {
        object,
        index,
        heads,
    } = &video;
    let mut others = 0;
    for a in 0..index.sample_count() {
        let sample = index.sample(DecodeIndex(a)).unwrap();
        let own = data(object, index, a);
        for b in 0..index.sample_count() {
            let agree = heads.agree(index, &sample, data(object, index, b));
            assert!(agree || a != b);
            others += u32::from(!agree);
        }
        // Any byte of a head counts, and so does any unit.
        let mut more = own.to_vec();
        more.extend([0, 0, 1, 2, 1, 0x80]);
        assert!(!heads.agree(index, &sample, &more));
        // Of every slice of the base layer.
        let starts = own
            .windows(5)
            .enumerate()
            .filter(|(_, w)| w[..3] == [0, 0, 1]);
        let slices = starts.filter(|(_, w)| w[3] & 0x41 == 0 && w[4] >> 3 == 0);
        let places: Vec<usize> = slices.map(|(place, _)| place + 3).collect();
        assert!(!places.is_empty());
        for place in places {
            for byte in 0..3 {
                let mut changed = own.to_vec();
                changed[place + byte] ^= if byte == 1 { 1 } else { 2 };
                assert!(!heads.agree(index, &sample, &changed), "{a}: {place}");
            }
        }
        assert!(!heads.agree(index, &sample, &[]));
    }
    assert!(others > 0);
    let outside = media::Sample {
        index: d(index.sample_count() as usize),
        ..index.sample(d(0)).unwrap()
    };
    assert!(!heads.agree(index, &outside, data(object, index, 0)));
}

/// The file in words, by a reader that knows nothing but docs/sidecar.md.
fn text(file: &[u8]) -> String {
    struct Reader<'a>(&'a [u8]);
    impl Reader<'_> {
        fn take(&mut self, count: usize) -> Vec<u8> {
            let (front, rest) = self.0.split_at(count);
            self.0 = rest;
            front.to_vec()
        }
        fn number(&mut self) -> u64 {
            let mut value = 0;
            for shift in (0..).step_by(7) {
                let byte = self.take(1)[0];
                value |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            value
        }
        fn signed(&mut self) -> i64 {
            match self.number() {
                n if n % 2 == 0 => (n / 2) as i64,
                n => -1 - (n / 2) as i64,
            }
        }
        fn column(&mut self, count: u64) -> Vec<i64> {
            let mut all = Vec::new();
            while (all.len() as u64) < count {
                match self.signed() {
                    0 => {
                        let more = self.number();
                        all.extend((0..=more).map(|_| 0));
                    }
                    value => all.push(value),
                }
            }
            all
        }
        fn block(&mut self) -> String {
            let length = self.number() as usize;
            hex(&self.take(length))
        }
        fn name(&mut self) -> String {
            let there = self.take(1)[0] == 1;
            let name = String::from_utf8_lossy(&self.take(4)).into_owned();
            if there { name } else { "-".into() }
        }
    }
    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }
    let mut out = String::new();
    let mut r = Reader(file);
    assert_eq!(r.take(8), b"\x89BSIDX\r\n");
    let version = r.take(4)[0];
    let flags = r.take(4)[0];
    let mut word = || u64::from_le_bytes(r.take(8).try_into().unwrap());
    let (length, size, ..) = (word(), word(), word(), word(), word());
    assert_eq!(length, file.len() as u64);
    let declared = [(word(), word()), (word(), word())];
    word();
    let (body_hash, header_hash) = (word(), word());
    assert_eq!(header_hash, xxh3_64(&file[..104]));
    assert_eq!(body_hash, xxh3_64(&file[112..]));
    writeln!(
        out,
        "version {version} flags {flags} object {size} declared {declared:?}"
    )
    .unwrap();
    let layout = r.take(1)[0];
    writeln!(
        out,
        "layout {layout} timescale {} turned {}",
        r.number(),
        r.take(1)[0]
    )
    .unwrap();
    for _ in 0..r.number() {
        let id = r.number();
        let handler = String::from_utf8(r.take(4)).unwrap();
        writeln!(out, "track {id} {handler} {} {}", r.name(), r.take(1)[0]).unwrap();
    }
    for _ in 0..r.number() {
        writeln!(out, "description {} framing {}", r.name(), r.take(1)[0]).unwrap();
        for _ in 0..r.number() {
            writeln!(out, "  set {}", r.block()).unwrap();
        }
        let colour = hex(&r.take(4));
        let aspect = (r.take(1)[0], r.number(), r.number());
        writeln!(out, "  colour {colour} aspect {aspect:?}").unwrap();
    }
    for _ in 0..r.number() {
        writeln!(out, "in band {} {}", r.number(), r.block()).unwrap();
    }
    let (samples, frames) = (r.number(), r.number());
    let sizes: Vec<u64> = (0..samples).map(|_| r.number()).collect();
    writeln!(out, "sizes {sizes:?}").unwrap();
    writeln!(out, "offsets {:?}", r.column(samples)).unwrap();
    if r.take(1)[0] == 1 {
        writeln!(out, "composition {:?}", r.column(samples)).unwrap();
    }
    if r.take(1)[0] == 1 {
        writeln!(out, "header distance {:?}", r.take(samples as usize)).unwrap();
    }
    let sync = r.number();
    writeln!(out, "sync {:?}", r.column(sync)).unwrap();
    for _ in 0..r.number() {
        writeln!(out, "described from {} by {}", r.number(), r.number()).unwrap();
    }
    writeln!(out, "times {:?} last {}", r.column(samples), r.number()).unwrap();
    writeln!(out, "presented {:?}", r.column(frames)).unwrap();
    writeln!(out, "presentation times {:?}", r.column(frames)).unwrap();
    if flags & 1 != 0 {
        for _ in 0..r.number() {
            writeln!(out, "set {}", r.block()).unwrap();
        }
        let lengths: Vec<u64> = (0..samples).map(|_| r.number()).collect();
        let total = r.number();
        assert_eq!(total, lengths.iter().sum::<u64>());
        for length in lengths {
            writeln!(out, "heads {}", hex(&r.take(length as usize))).unwrap();
        }
    }
    assert!(r.0.is_empty());
    out
}

#[test]
fn the_format_is_what_the_document_says() {
    let video = Video::of(small_mp4(0x80));
    let file = video.file(true, Some("\"tag\""));
    assert_eq!(
        text(&file),
        "\
version 1 flags 3 object 750 declared [(20, 686), (0, 0)]
layout 1 timescale 1000 turned 0
track 1 vide hvc1 1
description hvc1 framing 4
  set 4001aa
  set 4201bbcc
  set 4401dd
  colour 02020202 aspect (0, 0, 0)
sizes [12, 7, 8, 9]
offsets [714, 0, 0, 0]
composition [40, 80, -80, -40]
sync [0]
described from 0 by 0
times [0, 40, 0, 0] last 30
presented [0, 1, 0, -3]
presentation times [0, 80, -80, 40]
heads 202601800909090909
heads 0c020180
heads 1002018109
heads 140001820909
"
    );
    let other = Video::of(annex_b(&make(&mut Tape::new(vec![3; 400]), wanted(false))));
    let text = text(&other.file(false, None));
    assert!(text.starts_with("version 1 flags 0"), "{text}");
    assert!(
        text.contains("\nlayout 3 ") && text.contains("\nin band 0 40"),
        "{text}"
    );
}
