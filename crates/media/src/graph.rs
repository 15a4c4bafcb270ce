//! The reference graph of a run of access units: what each picture depends on.
//!
//! Built from headers alone (parameter sets and slice segment headers). Two depths of dependency
//! are kept for each picture:
//!
//! - *RPS*: everything that its reference picture set marks as used by it;
//! - *active*: only what its active reference picture lists really name (8.3.4). Never larger.
//!
//! The decoded picture buffer is followed as the standard does (8.3.2): a picture that an RPS in
//! between has dropped is not found again, so a damaged stream cannot make a wrong edge.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::h265::nal::{self, NalHeader, NalType};
use crate::h265::parameter_sets::ParameterSets;
use crate::h265::poc::PocState;
use crate::h265::slice::{IndependentPart, ListRequest, SliceHeader, SliceType};
use crate::h265::{HeaderError, Sps};
use crate::index::{Framing, Sample, VideoIndex};
use crate::order::DecodeIndex;

/// The graph of consecutive samples, beginning where decoding is to begin.
#[derive(Clone, Debug)]
pub struct ReferenceGraph {
    first: DecodeIndex,
    /// Nothing lies before `first`: its leading pictures can never be decoded.
    at_stream_start: bool,
    initial_sets: ParameterSets,
    units: Vec<Unit>,
    state: DpbState,
}

/// One access unit of the graph.
#[derive(Clone, Debug)]
pub struct Unit {
    /// What it holds.
    pub content: UnitContent,
    /// `nal_unit_type` of its first slice segment of the base layer, readable or not.
    pub nal_type: Option<NalType>,
    /// Parameter sets that a decoder must know before this unit's slices and that are not inside
    /// the unit itself (a change of sample description).
    pub sets_before: Vec<Bytes>,
    /// Parameter sets inside the unit.
    pub sets_inside: Vec<Bytes>,
}

/// What an access unit holds.
#[derive(Clone, Debug)]
pub enum UnitContent {
    /// A coded picture whose headers are understood.
    Picture(Box<Picture>),
    /// No slice of the base layer.
    Empty,
    /// Headers that cannot be read or say what this parser does not know.
    Unreadable(Unreadable),
}

/// Why the headers of a unit are of no use.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unreadable {
    /// A header cannot be read.
    #[error("{0}")]
    Header(#[from] HeaderError),
    /// The framing is broken.
    #[error("{0}")]
    Framing(#[from] nal::FramingError),
    /// References outside the known syntax (screen content, multi-layer).
    #[error("the stream uses references that are not known (multi-layer or screen content coding)")]
    UnknownReferences,
    /// More than one picture begins in the unit.
    #[error("more than one picture in one sample")]
    SeveralPictures,
    /// The first slice of the picture is missing.
    #[error("the picture's first slice is missing")]
    NoFirstSlice,
    /// Two pictures of one sequence claim the same picture order count.
    #[error("two pictures with the same picture order count")]
    DuplicatePoc,
}

/// A place in [`ReferenceGraph::units`].
pub type UnitIndex = u32;

/// A picture's headers, and its edges.
#[derive(Clone, Debug)]
pub struct Picture {
    /// `nal_unit_type` of its slices.
    pub nal_type: NalType,
    /// `TemporalId`.
    pub temporal_id: u8,
    /// The most demanding slice type: B over P over I.
    pub slice_type: SliceType,
    /// Slice segments, dependent ones included.
    pub slice_segments: u32,
    /// `PicOrderCntVal`, counted as if the graph's first IRAP began its sequence.
    pub poc: i32,
    /// `slice_pic_order_cnt_lsb`.
    pub poc_lsb: u32,
    /// It is an IRAP with `NoRaslOutputFlag`: nothing after it depends on anything before it.
    pub starts_sequence: bool,
    /// The IRAP it is associated with (itself, for an IRAP).
    pub irap: Option<UnitIndex>,
    /// `pic_output_flag`.
    pub output: bool,
    /// Entries of the RPS that are used by this picture and present.
    pub rps_references: Vec<UnitIndex>,
    /// What its active lists name. Subset of `rps_references`.
    pub active_references: Vec<UnitIndex>,
    /// An active list names a picture that is not there.
    pub active_missing: bool,
    /// Headers before it, back to its IRAP, could not all be read: its edges are not reliable.
    pub uncertain: bool,
    /// Its RPS names a long-term picture by the least significant bits of its POC alone, and other
    /// pictures of the sequence had the same. The one that is meant is known by what the pictures
    /// before have dropped: a decoder must be given the picture right before this one.
    pub needs_previous: bool,
    /// CTB rows can be decoded in parallel (WPP).
    pub wavefront: bool,
    /// The SPS in force.
    pub sps: Arc<Sps>,
}

/// What is carried from picture to picture in decode order.
#[derive(Clone, Debug, Default)]
struct DpbState {
    sets: ParameterSets,
    poc: PocState,
    /// Reference pictures in the DPB, with their POC.
    present: Vec<(UnitIndex, i32)>,
    /// By `PicOrderCntVal` & (`MaxPicOrderCntLsb` − 1), where there are long-term pictures: a POC
    /// that was decoded or named in this sequence, and whether there was another one.
    counts: HashMap<i32, (i32, bool)>,
    irap: Option<UnitIndex>,
    /// An end-of-sequence NAL unit stood before the next picture, or nothing did.
    sequence_ended: bool,
    /// A unit since the last IRAP could not be read.
    uncertain: bool,
    /// The last IRAP was met while uncertain: its leading pictures are uncertain too.
    irap_uncertain: bool,
}

impl ReferenceGraph {
    /// An empty graph that begins with the sample `first`. `initial_sets` are the parameter sets
    /// in force before it; `at_stream_start` says that no sample lies before it.
    pub fn new(first: DecodeIndex, initial_sets: ParameterSets, at_stream_start: bool) -> Self {
        let state = DpbState {
            sets: initial_sets.clone(),
            sequence_ended: true,
            ..DpbState::default()
        };
        Self {
            first,
            at_stream_start,
            initial_sets,
            units: Vec::new(),
            state,
        }
    }

    /// The graph of consecutive samples of an index, given with their bytes in decode order.
    /// Parameter sets of the sample descriptions are put in where they change.
    pub fn of_samples<'a>(
        index: &VideoIndex,
        samples: impl IntoIterator<Item = (Sample, &'a [u8])>,
    ) -> Self {
        let framed = samples
            .into_iter()
            .map(|(sample, data)| (sample, data, index.framing(&sample)));
        Self::of_framed(index, framed)
    }

    /// As [`ReferenceGraph::of_samples`], from bytes that are framed in another way than in the
    /// object.
    pub(crate) fn of_framed<D: AsRef<[u8]>>(
        index: &VideoIndex,
        samples: impl IntoIterator<Item = (Sample, D, Framing)>,
    ) -> Self {
        let mut graph: Option<(Self, u16)> = None;
        for (sample, data, framing) in samples {
            let (graph, description) = graph.get_or_insert_with(|| {
                let sets = ParameterSets::from_nals(&index.parameter_sets_before(sample.index));
                let at_stream_start = sample.index.0 == 0;
                (
                    Self::new(sample.index, sets, at_stream_start),
                    sample.description,
                )
            });
            let changed = std::mem::replace(description, sample.description) != sample.description;
            let sets: &[Bytes] = match index.descriptions().get(usize::from(sample.description)) {
                Some(d) if changed => &d.parameter_sets,
                _ => &[],
            };
            graph.push(data.as_ref(), framing, sets);
        }
        match graph {
            Some((graph, _)) => graph,
            None => Self::new(DecodeIndex(0), ParameterSets::default(), true),
        }
    }

    /// Appends the next sample in decode order. `description_sets`: the parameter sets of its
    /// sample description, where that is not the one of the sample before it.
    pub fn push(&mut self, sample: &[u8], framing: Framing, description_sets: &[Bytes]) {
        for set in description_sets {
            // A set that cannot be read is missed where a slice names it.
            self.state.sets.push(set).ok();
        }
        let mut sets_inside = Vec::new();
        let mut nal_type = None;
        let content = match self.read_unit(sample, framing, &mut sets_inside, &mut nal_type) {
            Ok(Some(picture)) => UnitContent::Picture(Box::new(picture)),
            Ok(None) => UnitContent::Empty,
            Err(why) => {
                self.state.uncertain = true;
                UnitContent::Unreadable(why)
            }
        };
        self.units.push(Unit {
            content,
            nal_type,
            sets_before: description_sets.to_vec(),
            sets_inside,
        });
    }

    /// The sample that the graph begins with.
    pub fn first(&self) -> DecodeIndex {
        self.first
    }

    /// Nothing lies before the graph's first sample.
    pub fn at_stream_start(&self) -> bool {
        self.at_stream_start
    }

    /// Parameter sets in force before the first unit.
    pub fn initial_sets(&self) -> &ParameterSets {
        &self.initial_sets
    }

    /// The units in decode order, the first being [`ReferenceGraph::first`].
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// `nal_unit_type` of a unit's slices, readable or not; `None` without slices.
    pub fn nal_type(&self, unit: UnitIndex) -> Option<NalType> {
        self.units.get(unit as usize)?.nal_type
    }

    /// The unit of a sample.
    pub fn unit_of(&self, sample: DecodeIndex) -> Option<UnitIndex> {
        let unit = sample.0.checked_sub(self.first.0)?;
        ((unit as usize) < self.units.len()).then_some(unit)
    }

    /// The sample of a unit.
    pub fn sample_of(&self, unit: UnitIndex) -> DecodeIndex {
        DecodeIndex(self.first.0.saturating_add(unit))
    }

    /// The picture of a unit, if its headers are understood.
    pub fn picture(&self, unit: UnitIndex) -> Option<&Picture> {
        match &self.units.get(unit as usize)?.content {
            UnitContent::Picture(p) => Some(p),
            _ => None,
        }
    }

    fn read_unit(
        &mut self,
        sample: &[u8],
        framing: Framing,
        sets_inside: &mut Vec<Bytes>,
        first_type: &mut Option<NalType>,
    ) -> Result<Option<Picture>, Unreadable> {
        let mut first: Option<(NalHeader, SliceHeader)> = None;
        let mut parts: Vec<IndependentPart> = Vec::new();
        let mut slice_segments = 0u32;
        let mut ends_sequence = false;
        for unit in nal::units(sample, framing) {
            let unit = unit?;
            let Some(header) = NalHeader::parse(unit) else {
                continue;
            };
            if header.layer_id != 0 {
                continue;
            }
            let nal_type = header.nal_type;
            if nal_type.is_parameter_set() {
                let set = Bytes::copy_from_slice(unit);
                self.state.sets.push(&set).ok();
                sets_inside.push(set);
            } else if nal_type == NalType::EOS || nal_type == NalType::EOB {
                if slice_segments == 0 {
                    self.state.sequence_ended = true;
                } else {
                    ends_sequence = true;
                }
            } else if nal_type.is_slice() {
                first_type.get_or_insert(nal_type);
                let slice = SliceHeader::parse(unit, nal_type, &self.state.sets)?;
                slice_segments += 1;
                if slice.pps.unknown_references {
                    return Err(Unreadable::UnknownReferences);
                }
                if first.is_none() && !slice.first_in_picture {
                    return Err(Unreadable::NoFirstSlice);
                }
                if first.is_some() && slice.first_in_picture {
                    return Err(Unreadable::SeveralPictures);
                }
                parts.extend(slice.independent.clone());
                if first.is_none() {
                    first = Some((header, slice));
                }
            }
        }
        let picture = match (first, parts.split_first()) {
            (Some((header, slice)), Some((part, others))) => {
                Some(self.enter(header, &slice, part, others, slice_segments)?)
            }
            _ => None,
        };
        if ends_sequence {
            self.state.sequence_ended = true;
        }
        Ok(picture)
    }

    /// Decodes POC and RPS of a picture (8.3.1, 8.3.2) and makes it present.
    fn enter(
        &mut self,
        header: NalHeader,
        slice: &SliceHeader,
        part: &IndependentPart,
        others: &[IndependentPart],
        slice_segments: u32,
    ) -> Result<Picture, Unreadable> {
        let NalHeader {
            nal_type,
            temporal_id,
            ..
        } = header;
        let unit = self.units.len() as UnitIndex;
        let state = &mut self.state;
        let irap = nal_type.is_irap();
        // What comes before the first IRAP cannot be decoded, so that this one is a start. After
        // damage, an IRAP that could be a start is taken as one: POC begins anew there.
        let starts_sequence = irap
            && (nal_type.is_idr()
                || nal_type.is_bla()
                || state.sequence_ended
                || state.irap.is_none()
                || state.uncertain);
        if irap {
            state.irap_uncertain = state.uncertain && nal_type.is_cra();
            state.uncertain = false;
            state.irap = Some(unit);
        }
        if starts_sequence {
            state.present.clear();
            state.counts.clear();
        }
        let log2_max = slice.sps.log2_max_poc_lsb;
        let poc = state.poc.next(
            nal_type,
            temporal_id,
            part.poc_lsb,
            log2_max,
            starts_sequence,
        );

        let find_poc = |present: &[(UnitIndex, i32)], wanted: i32| {
            present.iter().rev().find(|(_, p)| *p == wanted).copied()
        };
        let mut kept: Vec<(UnitIndex, i32)> = Vec::new();
        // The POCs that the RPS names, and those that it names by their lowest bits.
        let mut names = vec![poc];
        let mut by_lsb = Vec::new();
        // PocStCurrBefore, PocStCurrAfter, PocLtCurr: present entry or None where it is missing.
        let mut before = Vec::new();
        let mut after = Vec::new();
        let mut long = Vec::new();
        for (entries, current) in [
            (&part.short_term.negative, &mut before),
            (&part.short_term.positive, &mut after),
        ] {
            for entry in entries {
                let named = poc.wrapping_add(entry.delta_poc);
                names.push(named);
                let found = find_poc(&state.present, named);
                kept.extend(found);
                if entry.used {
                    current.push(found.map(|f| f.0));
                }
            }
        }
        let mask = (1i32 << log2_max.min(16)) - 1;
        for entry in &part.long_term {
            let found = match entry.delta_msb_cycle {
                Some(cycle) => {
                    let msb = (cycle as i32).wrapping_mul(mask.wrapping_add(1));
                    let full = poc
                        .wrapping_sub(msb)
                        .wrapping_sub((poc & mask).wrapping_sub(entry.poc_lsb as i32));
                    names.push(full);
                    find_poc(&state.present, full)
                }
                None => {
                    let lsb = entry.poc_lsb as i32;
                    by_lsb.push(lsb);
                    state
                        .present
                        .iter()
                        .rev()
                        .find(|(_, p)| p & mask == lsb)
                        .copied()
                }
            };
            kept.extend(found);
            if entry.used {
                long.push(found.map(|f| f.0));
            }
        }
        // Where a header before was not read, POC may be wrong; the edges are known not to count.
        if !state.uncertain && kept.iter().any(|&(_, p)| p == poc) {
            return Err(Unreadable::DuplicatePoc);
        }

        if slice.sps.long_term_present {
            for named in names {
                let (first, others) = state.counts.entry(named & mask).or_insert((named, false));
                *others |= *first != named;
            }
        }
        let several = |lsb: &i32| state.counts.get(lsb).is_some_and(|c| c.1);
        // Nothing is left of what lies before a sequence.
        let needs_previous = !starts_sequence && by_lsb.iter().any(several);

        let mut active = Vec::new();
        let mut slice_type = part.slice_type;
        for part in std::iter::once(part).chain(others) {
            slice_type = slice_type.max(part.slice_type);
            list(&part.list0, [&before, &after, &long], &mut active);
            list(&part.list1, [&after, &before, &long], &mut active);
        }
        let active_missing = active.contains(&None);
        let mut active_references: Vec<UnitIndex> = active.into_iter().flatten().collect();
        active_references.sort_unstable();
        active_references.dedup();
        let mut rps_references: Vec<UnitIndex> = before
            .into_iter()
            .chain(after)
            .chain(long)
            .flatten()
            .collect();
        rps_references.sort_unstable();
        rps_references.dedup();

        kept.push((unit, poc));
        kept.sort_unstable();
        kept.dedup();
        state.present = kept;
        state.sequence_ended = false;
        let leading_of_uncertain = nal_type.is_rasl() && state.irap_uncertain;
        Ok(Picture {
            nal_type,
            temporal_id,
            slice_type,
            slice_segments,
            poc,
            poc_lsb: part.poc_lsb,
            starts_sequence,
            irap: state.irap,
            output: part.output,
            rps_references,
            active_references,
            active_missing,
            uncertain: state.uncertain || leading_of_uncertain,
            needs_previous,
            wavefront: slice.pps.wavefront,
            sps: Arc::clone(&slice.sps),
        })
    }
}

/// Appends what a reference picture list names (8.3.4): the subsets in their order, repeated
/// until the list is full, or the entries that the slice picks from that.
fn list(
    request: &ListRequest,
    subsets: [&Vec<Option<UnitIndex>>; 3],
    active: &mut Vec<Option<UnitIndex>>,
) {
    if request.active == 0 {
        return;
    }
    let candidates: Vec<Option<UnitIndex>> = subsets.into_iter().flatten().copied().collect();
    if candidates.is_empty() {
        // A P or B slice without any reference: nothing can be predicted from.
        active.push(None);
        return;
    }
    match &request.entries {
        Some(entries) => active.extend(
            entries
                .iter()
                .map(|&e| candidates.get(e as usize).copied().flatten()),
        ),
        None => active.extend(candidates.iter().take(request.active as usize)),
    }
}
