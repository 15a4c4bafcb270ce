//! What a worker does with a group: graph, plan, passes, images.
//!
//! A job can stop between two access units and go on later, on any worker: it carries its decoder
//! with it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use codec::{CodecError, HevcDecoder, Picture};
use media::graph::ReferenceGraph;
use media::plan::{DecodePass, DecodePlan, Depth, Refusal, preludes};
use media::{ColourDescription, DecodeIndex, Sample, packet};

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
}

/// A pass that has begun.
#[derive(Debug)]
struct Run {
    pass: DecodePass,
    preludes: Vec<Vec<Bytes>>,
    /// The next sample to be decoded, as a place in the pass.
    place: usize,
    /// Why the picture at each place decoded so far must not be served.
    spoiled: Vec<Option<Arc<str>>>,
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

    /// Works until all is answered or something stops it. `alone`: no other job wants the cores.
    pub(crate) fn run(mut self, worker: &mut Worker, alone: bool) -> JobEnd {
        let mut progress = match self.progress.take() {
            Some(progress) => progress,
            None => self.plan(worker),
        };
        loop {
            let run = match progress.current.take() {
                Some(run) => run,
                None => match progress.passes.pop_front() {
                    Some(pass) => match self.begin(worker, &progress.graph, pass, alone) {
                        Some(run) => run,
                        None => continue,
                    },
                    None => break,
                },
            };
            let mut run = run;
            match self.go_on(worker, &progress.graph, &mut run) {
                RunEnd::Done => {
                    self.answer_missing(&run);
                    worker.give_back(run.spread, run.decoder);
                }
                RunEnd::Full => {
                    add(&worker.counters.passes_put_aside, 1);
                    progress.current = Some(run);
                    self.progress = Some(progress);
                    return JobEnd::PutAside(Box::new(self));
                }
                RunEnd::Cancelled => {
                    worker.give_back(run.spread, run.decoder);
                    add(&worker.counters.targets_cancelled, self.waiting.len());
                    break;
                }
                RunEnd::Unclear => {
                    add(&worker.counters.repeated_passes, 1);
                    let Run {
                        mut pass,
                        spread,
                        decoder,
                        ..
                    } = run;
                    worker.give_back(spread, decoder);
                    pass.targets.retain(|t| self.waiting.contains_key(t));
                    if let Some(run) = self.begin(worker, &progress.graph, pass, false) {
                        progress.current = Some(run);
                    }
                }
            }
        }
        JobEnd::Finished {
            needs_earlier: progress.needs_earlier,
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
        let spread = match (alone, pass.wavefront, pass.samples.len()) {
            (true, true, _) => Spread::Slices,
            (true, false, 2..) => Spread::Frames,
            _ => Spread::Single,
        };
        match worker.decoder(spread) {
            Ok(decoder) => Some(Run {
                preludes: preludes(graph, &pass.samples),
                place: 0,
                spoiled: Vec::with_capacity(pass.samples.len()),
                pass,
                decoder,
                spread,
            }),
            Err(e) => {
                for &target in &pass.targets {
                    self.answer(target, Err(decode_failed(&e)));
                }
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
            let mut spoiled = run.inherited_spoil();
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
            if let Err(why) = framed {
                spoiled.get_or_insert_with(|| why.into());
            }
            run.spoiled.push(spoiled);
            run.place += 1;
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
                self.serve(worker, graph, run, &picture);
            }
            if let Err(e) = sent {
                if run.spread == Spread::Frames {
                    break RunEnd::Unclear;
                }
                if let Some(last) = run.spoiled.last_mut() {
                    last.get_or_insert_with(|| e.to_string().into());
                }
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
            self.serve(worker, graph, run, &picture);
        }
        match drained {
            Err(_) if run.spread == Spread::Frames => RunEnd::Unclear,
            _ => RunEnd::Done,
        }
    }

    /// A picture came out of the decoder: if it is wanted, it is answered with.
    fn serve(&mut self, worker: &mut Worker, graph: &ReferenceGraph, run: &Run, p: &Picture) {
        let Ok(index) = u32::try_from(p.id()).map(DecodeIndex) else {
            return;
        };
        if !self.waiting.contains_key(&index) {
            return;
        }
        let place = run.pass.samples.binary_search(&index).ok();
        let spoiled = place
            .and_then(|i| run.spoiled.get(i))
            .and_then(Option::clone);
        let result = match spoiled {
            Some(why) => Err(FrameError::new(FrameErrorCode::DecodeFailed, why.as_ref())),
            None if p.is_damaged() => Err(FrameError::new(
                FrameErrorCode::DecodeFailed,
                "the decoder found the picture damaged",
            )),
            None => self.encode(worker, graph, index, p),
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

    /// A target that no picture came out for.
    fn answer_missing(&mut self, run: &Run) {
        for &target in &run.pass.targets {
            let place = run.pass.samples.binary_search(&target).ok();
            let spoiled = place
                .and_then(|i| run.spoiled.get(i))
                .and_then(Option::clone);
            let why = spoiled
                .as_deref()
                .unwrap_or("the decoder gave no picture for this sample");
            self.answer(
                target,
                Err(FrameError::new(FrameErrorCode::DecodeFailed, why)),
            );
        }
    }
}

impl Run {
    /// Why the picture at `place` cannot be right, from what was decoded before it.
    fn inherited_spoil(&self) -> Option<Arc<str>> {
        if self.pass.fallback {
            return self.spoiled.last().cloned().flatten();
        }
        let references = self.pass.references.get(self.place)?;
        references
            .iter()
            .find_map(|&r| self.spoiled.get(r as usize).and_then(Option::as_ref))
            .cloned()
    }
}

fn decode_failed(e: &CodecError) -> FrameError {
    FrameError::new(FrameErrorCode::DecodeFailed, e.to_string())
}
