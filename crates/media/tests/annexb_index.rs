//! Raw byte streams: positions, order, chunking, start codes of any flavour, damage.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use bytes::Bytes;
use media::demux::{DemuxError, IndexBuilder, Step};
use media::graph::ReferenceGraph;
use media::h265::ParameterSets;
use media::index::{Framing, Layout};
use media::sidecar::{OffsetsFile, plain_start};
use media::{DecodeIndex, PresentationIndex, VideoIndex};
use proptest::prelude::*;
use support::stream::{EOS, Stream, Wanted, is_irap, is_rasl, make};
use support::{PpsSpec, SliceSpec, SpsSpec, Tape, VuiSpec, d, index, nal};

/// Where an access unit must be found.
#[derive(Clone, Debug)]
struct Place {
    offset: usize,
    header: usize,
}

/// Puts start codes before NAL units: three or four bytes, with zeros after and before.
fn frame(t: &mut Tape, units: &[Vec<Vec<u8>>]) -> (Vec<u8>, Vec<Place>) {
    let mut out = vec![0; *t.pick(&[0, 0, 1, 5, 100])];
    let mut places: Vec<Place> = Vec::new();
    for unit in units {
        for (k, nal) in unit.iter().enumerate() {
            if t.one_in(3) {
                out.push(0);
            }
            out.extend([0, 0, 1]);
            if k == 0 {
                let zeros = out.iter().rev().skip(1).take_while(|&&b| b == 0).count();
                let code = if zeros >= 3 { 4 } else { 3 };
                places.push(Place {
                    offset: if places.is_empty() {
                        0
                    } else {
                        out.len() - code
                    },
                    header: out.len(),
                });
            }
            out.extend(nal);
            let trailing = *t.pick(&[0, 0, 0, 0, 1, 2, 7]);
            out.extend(std::iter::repeat_n(0, trailing));
        }
    }
    (out, places)
}

/// The NAL units of each access unit; an end-of-sequence NAL unit counts to the unit after it.
fn units(stream: &Stream) -> Vec<Vec<Vec<u8>>> {
    let of = |au: &support::stream::Au| {
        let eos = au.eos_before.then(|| nal(EOS, 0, 0, &[]));
        eos.into_iter().chain(au.nals.iter().cloned()).collect()
    };
    stream.aus.iter().map(of).collect()
}

fn sound(t: &mut Tape) -> Stream {
    let wanted = Wanted {
        units: 20,
        damage: false,
        missing: false,
    };
    make(t, wanted)
}

fn check_index(stream: &Stream, bytes: &[u8], places: &[Place], got: &VideoIndex) {
    assert_eq!(got.layout(), Layout::AnnexB);
    assert_eq!(got.object_size(), bytes.len() as u64);
    assert_eq!(got.sample_count() as usize, stream.aus.len());
    let mut shown = Vec::new();
    let mut left_out = false;
    let mut iraps = 0;
    for (u, (au, place)) in stream.aus.iter().zip(places).enumerate() {
        let sample = got.sample(d(u)).unwrap();
        assert_eq!(sample.offset as usize, place.offset, "{u}");
        let end = places.get(u + 1).map_or(bytes.len(), |p| p.offset);
        assert_eq!(sample.range().end as usize, end, "{u}");
        assert_eq!(got.framing(&sample), Framing::StartCodes);
        assert_eq!(sample.sync, is_irap(au.nal_type), "{u}");
        // Every position up to the NAL unit header names it, none behind.
        for at in place.offset..=place.header {
            assert_eq!(got.sample_at_offset(at as u64), Some(d(u)), "{at}");
        }
        assert_eq!(got.sample_at_offset(place.header as u64 + 1), None);
        if is_irap(au.nal_type) {
            left_out = au.nal_type != 21 || au.eos_before || iraps == 0;
            iraps += 1;
        }
        if au.output && !(is_rasl(au.nal_type) && left_out) {
            shown.push((au.sequence, au.poc, u));
        }
    }
    shown.sort_unstable();
    assert_eq!(got.frame_count() as usize, shown.len());
    for (frame, &(_, _, u)) in shown.iter().enumerate() {
        let frame = PresentationIndex(frame as u32);
        assert_eq!(got.decode_index(frame), Some(d(u)));
        assert_eq!(got.presentation_index(d(u)), Some(frame));
        assert_eq!(got.presentation_time(frame), Some(i64::from(frame.0)));
    }
    let hidden = stream.aus.len() - shown.len();
    let all = (0..stream.aus.len()).filter(|&u| got.presentation_index(d(u)).is_none());
    assert_eq!(all.count(), hidden);
}

/// Pushes pieces in any order and size, then what is asked for.
fn index_in_pieces(bytes: &[u8], t: &mut Tape) -> Result<VideoIndex, DemuxError> {
    let size = bytes.len();
    let mut builder = IndexBuilder::new(size as u64);
    let mut push = |from: usize, length: usize| {
        let end = (from + length).min(size);
        builder.push(from as u64, Bytes::copy_from_slice(&bytes[from..end]));
    };
    push(0, 128 + t.below(200) as usize);
    let most = *t.pick(&[1u32, 2, 3, 5, 40, 1000]);
    match t.below(4) {
        // All of it, in pieces in any order.
        0 => {
            let mut pieces = Vec::new();
            let mut at = 0;
            while at < size {
                let length = 1 + t.below(most) as usize;
                pieces.push((at, length));
                at += length;
            }
            while !pieces.is_empty() {
                let next = t.below(pieces.len() as u32) as usize;
                let (at, length) = pieces.swap_remove(next);
                push(at, length);
            }
        }
        // Some of it, with overlaps and repetitions.
        1 => {
            for _ in 0..t.below(60) {
                let at = t.below(size as u32) as usize;
                push(at, 1 + t.below(300) as usize);
            }
        }
        // The tail.
        2 => {
            let at = t.below(size as u32) as usize;
            push(at, size);
        }
        _ => {}
    }
    for _ in 0..100_000 {
        match builder.step()? {
            Step::Finished(index) => return Ok(*index),
            Step::NeedsData(ranges) => {
                assert!(!ranges.is_empty());
                for r in ranges {
                    assert!(r.start < r.end && r.end <= size as u64);
                    // A short read now and then.
                    let length = (r.end - r.start) as usize;
                    let given = if t.one_in(3) {
                        1 + t.below(length as u32) as usize
                    } else {
                        length
                    };
                    let from = r.start as usize;
                    builder.push(r.start, Bytes::copy_from_slice(&bytes[from..from + given]));
                }
            }
        }
    }
    panic!("never finished");
}

fn tape() -> impl Strategy<Value = Tape> {
    prop::collection::vec(any::<u32>(), 50..1500).prop_map(Tape::new)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn units_stand_where_they_were_put(mut t in tape()) {
        let stream = sound(&mut t);
        let (bytes, places) = frame(&mut t, &units(&stream));
        let whole = index(&bytes).unwrap();
        check_index(&stream, &bytes, &places, &whole);
        for _ in 0..4 {
            let pieced = index_in_pieces(&bytes, &mut t);
            prop_assert_eq!(pieced.as_ref(), Ok(&whole));
        }
    }

    /// What the index says of parameter sets is what stands before each unit, and graphs over it
    /// are those of the units themselves.
    #[test]
    fn graphs_of_an_index(mut t in tape()) {
        let stream = sound(&mut t);
        let (bytes, _) = frame(&mut t, &units(&stream));
        let index = index(&bytes).unwrap();
        let first = *t.pick(&index.sync_samples().collect::<Vec<_>>());
        let before = stream.aus[..first.as_usize()].iter().flat_map(|au| &au.sets);
        let expected = ParameterSets::from_nals(before.map(|s| &stream.sets[s]));
        let got = ParameterSets::from_nals(&index.parameter_sets_before(first));
        prop_assert!(got.nals().eq(expected.nals()));
        let samples = (first.0..index.sample_count()).map(|i| {
            let sample = index.sample(DecodeIndex(i)).unwrap();
            let range = sample.range();
            (sample, &bytes[range.start as usize..range.end as usize])
        });
        let of_bytes = ReferenceGraph::of_samples(&index, samples);
        let mut of_units = ReferenceGraph::new(first, expected, first.0 == 0);
        for sample in &stream.samples(true)[first.as_usize()..] {
            of_units.push(sample, Framing::LengthPrefixed(4), &[]);
        }
        prop_assert_eq!(of_bytes.at_stream_start(), of_units.at_stream_start());
        prop_assert_eq!(
            format!("{:?}", of_bytes.units()),
            format!("{:?}", of_units.units())
        );
    }

    /// The offsets file names the start of a plain decoder: a sync sample at or before the frame,
    /// and for a leading picture the one before.
    #[test]
    fn plain_starts(mut t in tape()) {
        let stream = sound(&mut t);
        let (bytes, places) = frame(&mut t, &units(&stream));
        let index = index(&bytes).unwrap();
        let file = OffsetsFile::new("v".into(), &index);
        prop_assert_eq!(file.frames.len(), index.frame_count() as usize);
        for (frame, entry) in file.frames.iter().enumerate() {
            let u = index.decode_index(PresentationIndex(frame as u32)).unwrap().as_usize();
            prop_assert_eq!(entry.offset as usize, places[u].offset);
            let sync = |v: &usize| is_irap(stream.aus[*v].nal_type);
            let Some(own) = (0..=u).rev().find(sync) else {
                prop_assert_eq!(plain_start(&index, d(u)), None);
                continue;
            };
            let rank = |v: usize| (stream.aus[v].sequence, stream.aus[v].poc);
            // Where the IRAP itself is not shown, nothing says what leads it.
            let leading = u != own && stream.aus[own].output && rank(u) < rank(own);
            let before = (0..own).rev().find(sync).filter(|_| leading);
            let start = before.unwrap_or(own);
            prop_assert_eq!(entry.irap_offset as usize, places[start].offset);
        }
    }

    #[test]
    fn a_stream_cut_anywhere_gives_its_beginning(mut t in tape(), at in any::<prop::sample::Index>()) {
        let stream = sound(&mut t);
        let (bytes, places) = frame(&mut t, &units(&stream));
        let cut = at.index(bytes.len()) + 1;
        let Ok(got) = index(&bytes[..cut]) else { return Ok(()) };
        let count = got.sample_count() as usize;
        prop_assert!(count >= 1 && count <= stream.aus.len());
        for (u, place) in places.iter().enumerate().take(count) {
            let sample = got.sample(d(u)).unwrap();
            prop_assert_eq!(sample.offset as usize, place.offset);
            prop_assert!(sample.range().end as usize <= cut);
        }
        // What lies whole before the cut is there.
        let whole = places.iter().skip(1).filter(|p| p.header + 3 <= cut).count();
        prop_assert!(count >= whole, "{} of {}", count, whole);
    }

    #[test]
    fn changed_bytes_are_survived(
        mut t in tape(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let stream = sound(&mut t);
        let (mut bytes, _) = frame(&mut t, &units(&stream));
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let whole = index(&bytes);
        if let Ok(index) = &whole {
            let mut end = 0;
            for i in 0..index.sample_count() {
                let range = index.sample(DecodeIndex(i)).unwrap().range();
                prop_assert_eq!(range.start, end, "samples follow each other");
                end = range.end;
                prop_assert!(range.start < range.end);
            }
            prop_assert_eq!(end, bytes.len() as u64);
        }
        if bytes.len() > 400 {
            prop_assert_eq!(index_in_pieces(&bytes, &mut t), whole);
        }
    }

    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 1..3000)) {
        let mut stream = vec![0, 0, 0, 1];
        stream.extend(&noise);
        for object in [noise, stream] {
            prop_assert!(index(&object).is_err());
        }
    }
}

/// A stream of a few pictures, each in one slice; `data` bytes of slice data.
fn small(vui: Option<VuiSpec>, pictures: usize) -> Vec<u8> {
    let sps = SpsSpec {
        vui,
        ..SpsSpec::default()
    };
    let pps = PpsSpec::default();
    let mut nals = vec![support::vps(0, 0), sps.nal(), pps.nal()];
    for i in 0..pictures {
        let slice = SliceSpec {
            nal_type: if i == 0 { 19 } else { 1 },
            poc_lsb: i as u32,
            ..SliceSpec::default()
        };
        nals.push(slice.nal(&sps, &pps));
    }
    nals.iter()
        .flat_map(|n| [&[0, 0, 0, 1], &n[..]].concat())
        .collect()
}

#[test]
fn times_come_from_the_vui_where_they_make_sense() {
    let with = |timing| {
        let vui = VuiSpec {
            timing,
            ..VuiSpec::default()
        };
        let index = index(&small(Some(vui), 3)).unwrap();
        (
            index.timescale(),
            index.presentation_time(PresentationIndex(2)),
        )
    };
    assert_eq!(with(Some((1001, 30000))), (30000, Some(2002)));
    assert_eq!(with(None), (25, Some(2)));
    assert_eq!(with(Some((1, 90000))), (25, Some(2)));
    assert_eq!(with(Some((0, 25))), (25, Some(2)));
}

#[test]
fn the_end_of_the_stream_belongs_to_the_last_picture() {
    let mut bytes = small(None, 2);
    bytes.extend([0, 0, 1, 72, 1, 0, 0, 1, 74, 1, 0, 0, 0]);
    let index = index(&bytes).unwrap();
    assert_eq!(index.sample_count(), 2);
    let last = index.sample(DecodeIndex(1)).unwrap();
    assert_eq!(last.range().end, bytes.len() as u64);
}

/// The IRAP's header cannot be read here, but it is an IRAP: a decoder may start there.
#[test]
fn an_irap_is_a_sync_sample_whatever_its_header_says() {
    let mut bytes = small(None, 2);
    let strange = PpsSpec {
        id: 9,
        ..PpsSpec::default()
    };
    let slice = SliceSpec {
        nal_type: 21,
        ..SliceSpec::default()
    };
    bytes.extend([0, 0, 0, 1]);
    bytes.extend(slice.nal(&SpsSpec::default(), &strange));
    let index = index(&bytes).unwrap();
    let sync: Vec<u32> = index.sync_samples().map(|s| s.0).collect();
    assert_eq!(sync, [0, 2]);
    assert_eq!(index.frame_count(), 3);
}

/// A file may end behind parameter sets that announce something else.
#[test]
fn a_new_vps_at_the_end_changes_nothing() {
    let mut bytes = small(None, 2);
    bytes.extend([0, 0, 0, 1]);
    bytes.extend(support::vps(0, 1));
    let index = index(&bytes).unwrap();
    assert_eq!(index.sample_count(), 2);
    let sets = ParameterSets::from_nals(index.parameter_sets());
    assert!(sets.first_sps().is_some());
}

/// A set that cannot be read here is given to a decoder all the same, where it stands.
#[test]
fn sets_that_cannot_be_read_are_kept_once() {
    let odd = PpsSpec {
        default_l0: 16,
        ..PpsSpec::default()
    };
    let odd = Bytes::from(odd.nal());
    let mut bytes = small(None, 2);
    for _ in 0..3 {
        bytes.extend([0, 0, 0, 1]);
        bytes.extend(&odd);
    }
    bytes.extend([0, 0, 0, 1]);
    bytes.extend(SliceSpec::default().nal(&SpsSpec::default(), &PpsSpec::default()));
    let index = index(&bytes).unwrap();
    assert_eq!(index.parameter_sets().filter(|s| **s == odd).count(), 1);
    assert_eq!(index.parameter_sets_before(DecodeIndex(2)).len(), 3);
    assert!(index.parameter_sets_before(DecodeIndex(3)).contains(&odd));
}

/// A slice that is cut short reads on into zeros that are not its own, or not, as the pieces of
/// the object fall: it must not.
#[test]
fn zeros_behind_a_cut_slice_are_none_of_it() {
    let start = small(None, 2);
    let slice = SliceSpec {
        poc_lsb: 0x91,
        ..SliceSpec::default()
    };
    let slice = slice.nal(&SpsSpec::default(), &PpsSpec::default());
    for cut in 2..slice.len() {
        let mut bytes = start.clone();
        bytes.extend([0, 0, 0, 1]);
        bytes.extend(&slice[..cut]);
        bytes.extend([0; 5]);
        bytes.extend(&start);
        let whole = index(&bytes);
        let mut without = start.clone();
        without.extend([0, 0, 0, 1]);
        without.extend(&slice[..cut]);
        without.extend(&start);
        let frames = |i: &Result<VideoIndex, _>| i.as_ref().map(VideoIndex::frame_count).ok();
        assert_eq!(frames(&whole), frames(&index(&without)), "{cut}");
        for numbers in [[100u32; 40], [0; 40], [6; 40], [3; 40]] {
            let mut t = Tape::new(numbers.to_vec());
            assert_eq!(index_in_pieces(&bytes, &mut t), whole, "{cut}");
        }
        for at in start.len()..bytes.len() {
            let mut builder = IndexBuilder::new(bytes.len() as u64);
            builder.push(0, Bytes::copy_from_slice(&bytes[..at]));
            builder.push(at as u64, Bytes::copy_from_slice(&bytes[at..]));
            let Ok(Step::Finished(got)) = builder.step() else {
                panic!("not finished");
            };
            assert_eq!(Ok(*got), whole, "{cut} {at}");
        }
    }
}
