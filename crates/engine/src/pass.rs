//! What a worker does with a group: graph, plan, passes, images.
//!
//! A job can stop between two access units and go on later, on any worker: it carries its decoder
//! with it.
//!
//! Damage: whatever depends on an access unit that a decoder refuses is answered with an error. A
//! decoder that has refused something is begun anew, so what remains is planned anew, without it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use codec::{CodecError, HevcDecoder, Picture};
use media::graph::ReferenceGraph;
use media::plan::{DecodePass, DecodePlan, Depth, Refusal, preludes};
use media::{ColourDescription, DecodeIndex, Sample, packet};
use tokio::sync::OwnedSemaphorePermit;

use crate::counters::add;
use crate::error::{FrameError, FrameErrorCode};
use crate::ticket::{EncodedImage, Outcomes};
use crate::video::Video;
use crate::worker::{Spread, Worker};

/// Consecutive samples and their bytes.
#[derive(Debug)]
pub(crate) struct Samples {
    pub(crate) samples: Vec<Sample>,
    pub(crate) data: Vec<Bytes>,
    /// Their share of the engine's bytes in flight.
    pub(crate) _permit: OwnedSemaphorePermit,
}

impl Samples {
    fn get(&self, index: DecodeIndex) -> Option<(&Sample, &Bytes)> {
        let first = self.samples.first()?.index;
        let place = index.0.checked_sub(first.0)? as usize;
        Some((self.samples.get(place)?, self.data.get(place)?))
    }
}

/// One group on its way through the workers.
#[derive(Debug)]
pub(crate) struct Job {
    video: Arc<Video>,
    samples: Samples,
    /// Targets without an answer, with their places in the request.
    waiting: BTreeMap<DecodeIndex, Vec<usize>>,
    outcomes: Outcomes,
    progress: Option<Progress>,
}

/// How a job ended on a worker.
#[derive(Debug)]
pub(crate) enum JobEnd {
    /// All targets are answered, but for these: they depend on earlier samples.
    Finished { needs_earlier: Vec<DecodeIndex> },
    /// Too many images wait: to be submitted again when there is room.
    PutAside(Box<Job>),
}

#[derive(Debug)]
struct Progress {
    graph: ReferenceGraph,
    passes: VecDeque<DecodePass>,
    needs_earlier: Vec<DecodeIndex>,
    current: Option<Run>,
    /// Samples that a decoder refused.
    broken: BTreeSet<DecodeIndex>,
    /// Damage was met: from now on, one access unit at a time, so that it is known which fails.
    careful: bool,
}

/// A pass that has begun.
#[derive(Debug)]
struct Run {
    pass: DecodePass,
    preludes: Vec<Vec<Bytes>>,
    /// The next sample to be decoded, as a place in the pass.
    place: usize,
    decoder: HevcDecoder,
    spread: Spread,
}

/// How a pass stands after some of its samples.
enum RunEnd {
    Done,
    Full,
    Cancelled,
    /// A decoder that works on several pictures at once met damage: which one is unknown.
    Unclear,
    /// The sample at this place of the pass was refused.
    Damaged {
        place: usize,
        why: String,
    },
    /// Nothing of this video can be decoded here: a format that is not read, no memory.
    Impossible {
        why: String,
    },
}

impl Job {
    pub(crate) fn new(
        video: Arc<Video>,
        samples: Samples,
        waiting: BTreeMap<DecodeIndex, Vec<usize>>,
        outcomes: Outcomes,
    ) -> Self {
        Self {
            video,
            samples,
            waiting,
            outcomes,
            progress: None,
        }
    }

    /// Drops bytes and decoder. Returns the targets that have no answer yet.
    pub(crate) fn give_up(self) -> Vec<DecodeIndex> {
        let earlier = self.progress.map(|p| p.needs_earlier).unwrap_or_default();
        self.waiting.into_keys().chain(earlier).collect()
    }

    /// Works until all is answered or something stops it. `alone`: no other job wants the cores.
    pub(crate) fn run(mut self, worker: &mut Worker, alone: bool) -> JobEnd {
        if self.outcomes.shared.is_cancelled() {
            return JobEnd::Finished {
                needs_earlier: Vec::new(),
            };
        }
        let mut progress = match self.progress.take() {
            Some(progress) => progress,
            None => self.plan(worker),
        };
        loop {
            let mut run = match progress.current.take() {
                Some(run) => run,
                None => match progress.passes.pop_front() {
                    Some(pass) => {
                        let alone = alone && !progress.careful;
                        match self.begin(worker, &progress.graph, pass, alone) {
                            Some(run) => run,
                            None => continue,
                        }
                    }
                    None => break,
                },
            };
            let end = self.go_on(worker, &progress.graph, &mut run);
            if let RunEnd::Full = end {
                add(&worker.counters.passes_put_aside, 1);
                progress.current = Some(run);
                self.progress = Some(progress);
                return JobEnd::PutAside(Box::new(self));
            }
            let Run {
                pass,
                decoder,
                spread,
                ..
            } = run;
            worker.give_back(spread, decoder);
            match end {
                RunEnd::Full => {}
                RunEnd::Done => {
                    self.fail(&pass.targets, "the decoder gave no picture for this sample");
                }
                RunEnd::Impossible { why } => self.fail(&pass.targets, &why),
                RunEnd::Cancelled => break,
                RunEnd::Unclear => self.decode_again(worker, &mut progress, &pass),
                // Nobody knows what depends on what.
                RunEnd::Damaged { why, .. } if pass.fallback => self.fail(&pass.targets, &why),
                RunEnd::Damaged { place, why } => {
                    self.fail(&dependents(&pass, place), &why);
                    progress.broken.extend(pass.samples.get(place));
                    self.decode_again(worker, &mut progress, &pass);
                }
            }
        }
        JobEnd::Finished {
            needs_earlier: progress.needs_earlier,
        }
    }

    /// After damage: plans what is left of a pass anew.
    fn decode_again(&mut self, worker: &Worker, progress: &mut Progress, pass: &DecodePass) {
        progress.careful = true;
        let left = pass.targets.iter().filter(|t| self.waiting.contains_key(t));
        let left: Vec<DecodeIndex> = left.copied().collect();
        if left.is_empty() {
            return;
        }
        add(&worker.counters.repeated_passes, 1);
        let plan = DecodePlan::new(&progress.graph, &left, Depth::Active);
        for pass in plan.passes.into_iter().rev() {
            let needed = |s: &DecodeIndex| progress.broken.contains(s);
            // Nothing refers to it, and still a decoder cannot do without it: it says where a
            // sequence begins, or how pictures are counted.
            if !pass.fallback && pass.samples.iter().any(needed) {
                self.fail(
                    &pass.targets,
                    "an access unit before the picture is damaged",
                );
            } else {
                progress.passes.push_front(pass);
            }
        }
        // Was planned before, so that nothing is refused now.
        for (sample, why) in plan.refused {
            self.fail(&[sample], &why.to_string());
        }
    }

    /// Reads the headers of all samples and decides what is decoded.
    fn plan(&mut self, worker: &Worker) -> Progress {
        let index = self.video.index();
        let run = self.samples.samples.iter().zip(&self.samples.data);
        let graph = ReferenceGraph::of_samples(index, run.map(|(s, d)| (*s, d.as_ref())));
        let targets: Vec<DecodeIndex> = self.waiting.keys().copied().collect();
        let plan = DecodePlan::new(&graph, &targets, Depth::Active);
        let mut needs_earlier = Vec::new();
        for (sample, why) in plan.refused {
            match why {
                Refusal::NeedsEarlierStart => {
                    self.waiting.remove(&sample);
                    needs_earlier.push(sample);
                }
                Refusal::NotDecodable(_) => {
                    let error = FrameError::new(FrameErrorCode::NotDecodable, why.to_string());
                    self.answer(sample, Err(error));
                }
                Refusal::NoPicture | Refusal::Outside => {
                    let error = FrameError::new(FrameErrorCode::DecodeFailed, why.to_string());
                    self.answer(sample, Err(error));
                }
            }
        }
        for pass in &plan.passes {
            add(&worker.counters.passes, 1);
            if pass.fallback {
                add(&worker.counters.fallback_passes, 1);
            }
            let reach = match (pass.samples.first(), pass.samples.last()) {
                (Some(a), Some(b)) => (b.0 - a.0) as usize + 1,
                _ => 0,
            };
            add(
                &worker.counters.access_units_skipped,
                reach - pass.samples.len().min(reach),
            );
        }
        Progress {
            graph,
            passes: plan.passes.into(),
            needs_earlier,
            current: None,
            broken: BTreeSet::new(),
            careful: false,
        }
    }

    /// Readies a decoder for a pass; answers its targets if there is none.
    fn begin(
        &mut self,
        worker: &mut Worker,
        graph: &ReferenceGraph,
        pass: DecodePass,
        alone: bool,
    ) -> Option<Run> {
        let spread = match (alone, pass.rows_in_parallel, pass.samples.len()) {
            (true, true, _) => Spread::Slices,
            (true, false, 2..) => Spread::Frames,
            _ => Spread::Single,
        };
        match worker.decoder(spread) {
            Ok(decoder) => Some(Run {
                preludes: preludes(graph, &pass.samples),
                place: 0,
                pass,
                decoder,
                spread,
            }),
            Err(e) => {
                self.fail(&pass.targets, &e.to_string());
                None
            }
        }
    }

    fn go_on(&mut self, worker: &mut Worker, graph: &ReferenceGraph, run: &mut Run) -> RunEnd {
        let mut packet = std::mem::take(&mut worker.packet);
        let end = loop {
            if self.outcomes.shared.is_cancelled() {
                break RunEnd::Cancelled;
            }
            if self.outcomes.shared.is_full() {
                break RunEnd::Full;
            }
            let Some(&index) = run.pass.samples.get(run.place) else {
                break self.finish(worker, graph, run);
            };
            packet.clear();
            let prelude = run.preludes.get(run.place).map_or(&[][..], Vec::as_slice);
            packet::append_nals(&mut packet, prelude.iter().map(Bytes::as_ref));
            let framed = match self.samples.get(index) {
                Some((sample, data)) => {
                    let framing = self.video.index().framing(sample);
                    packet::append_sample(&mut packet, data, framing, run.pass.fallback)
                        .map_err(|e| e.to_string())
                }
                None => Err("the sample was not read".into()),
            };
            let place = run.place;
            run.place += 1;
            if let Err(why) = framed {
                break self.stop_at(worker, graph, run, place, why);
            }
            add(&worker.counters.access_units_decoded, 1);
            // A sample without a picture is nothing to a decoder.
            if packet.is_empty() {
                continue;
            }
            let mut pictures = Vec::new();
            let sent = run
                .decoder
                .send(&packet, i64::from(index.0), &mut |p| pictures.push(p));
            for picture in pictures {
                self.serve(worker, graph, &picture);
            }
            match sent {
                Ok(()) => {}
                Err(_) if run.spread == Spread::Frames => break RunEnd::Unclear,
                Err(e @ (CodecError::Decode { .. } | CodecError::AccessUnitSize { .. })) => {
                    break self.stop_at(worker, graph, run, place, e.to_string());
                }
                Err(e) => break RunEnd::Impossible { why: e.to_string() },
            }
        };
        worker.packet = packet;
        end
    }

    /// Gets the pictures that are still inside the decoder.
    fn finish(&mut self, worker: &mut Worker, graph: &ReferenceGraph, run: &mut Run) -> RunEnd {
        let mut pictures = Vec::new();
        let drained = run.decoder.drain(&mut |p| pictures.push(p));
        for picture in pictures {
            self.serve(worker, graph, &picture);
        }
        match drained {
            Err(_) if run.spread == Spread::Frames => RunEnd::Unclear,
            _ => RunEnd::Done,
        }
    }

    /// The sample at `place` is damaged: what was complete before it is still served.
    fn stop_at(
        &mut self,
        worker: &mut Worker,
        graph: &ReferenceGraph,
        run: &mut Run,
        place: usize,
        why: String,
    ) -> RunEnd {
        match self.finish(worker, graph, run) {
            RunEnd::Unclear => RunEnd::Unclear,
            _ => RunEnd::Damaged { place, why },
        }
    }

    /// A picture came out of the decoder: if it is wanted, it is answered with.
    fn serve(&mut self, worker: &mut Worker, graph: &ReferenceGraph, p: &Picture) {
        let Ok(index) = u32::try_from(p.id()).map(DecodeIndex) else {
            return;
        };
        if !self.waiting.contains_key(&index) {
            return;
        }
        let result = if p.is_damaged() {
            Err(FrameError::new(
                FrameErrorCode::DecodeFailed,
                "the decoder found the picture damaged",
            ))
        } else {
            self.encode(worker, graph, index, p)
        };
        self.answer(index, result);
    }

    fn encode(
        &self,
        worker: &mut Worker,
        graph: &ReferenceGraph,
        index: DecodeIndex,
        picture: &Picture,
    ) -> Result<EncodedImage, FrameError> {
        let colour = self.colour(graph, index);
        let orientation = self.video.index().orientation();
        let quality = worker.quality;
        let encoded = worker
            .jpeg()
            .and_then(|jpeg| jpeg.encode(picture, colour, orientation, quality));
        add(&worker.counters.images_encoded, 1);
        match encoded {
            Ok(bytes) => Ok(EncodedImage {
                bytes: bytes.into(),
            }),
            Err(e) => Err(FrameError::new(FrameErrorCode::EncodeFailed, e.to_string())),
        }
    }

    /// What the stream says of this picture's colours, completed from the container.
    fn colour(&self, graph: &ReferenceGraph, index: DecodeIndex) -> ColourDescription {
        let in_stream = graph
            .unit_of(index)
            .and_then(|unit| graph.picture(unit))
            .map_or(self.video.info().colour, |p| p.sps.vui.colour);
        let description = self.samples.get(index).map_or(0, |(s, _)| s.description);
        let container = self
            .video
            .index()
            .descriptions()
            .get(usize::from(description));
        in_stream.or(container.map(|d| d.colour).unwrap_or_default())
    }

    fn answer(&mut self, index: DecodeIndex, result: Result<EncodedImage, FrameError>) {
        for position in self.waiting.remove(&index).unwrap_or_default() {
            self.outcomes.send(position, result.clone());
        }
    }

    /// Answers those of `targets` that have no answer yet.
    fn fail(&mut self, targets: &[DecodeIndex], why: &str) {
        for &target in targets {
            let error = FrameError::new(FrameErrorCode::DecodeFailed, why);
            self.answer(target, Err(error));
        }
    }
}

/// The targets of a pass that depend on the sample at `place`, itself included.
fn dependents(pass: &DecodePass, place: usize) -> Vec<DecodeIndex> {
    let mut depends = vec![false; pass.samples.len()];
    let mut targets = Vec::new();
    for (at, sample) in pass.samples.iter().enumerate().skip(place) {
        let references = pass.references.get(at).map_or(&[][..], Vec::as_slice);
        let reached = |&r: &u32| depends.get(r as usize).copied().unwrap_or(true);
        if at == place || references.iter().any(reached) {
            if let Some(slot) = depends.get_mut(at) {
                *slot = true;
            }
            if pass.targets.binary_search(sample).is_ok() {
                targets.push(*sample);
            }
        }
    }
    targets
}
