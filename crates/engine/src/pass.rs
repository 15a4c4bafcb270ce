//! A worker's visit to a GOP: a decoder is given what the claimed orders depend on, and pictures
//! that are wanted become images.
//!
//! Damage: whatever depends on an access unit that a decoder refuses is answered with an error. A
//! decoder that has refused something is begun anew, so what remains is planned anew, without it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use codec::{CodecError, Picture, Threading};
use media::{ColourDescription, DecodeIndex, Planner, Refusal, Standing as Stands, Way, packet};

use crate::compressed::earlier_start;
use crate::core::Core;
use crate::develop::{Developing, develop};
use crate::error::{FrameError, FrameErrorCode};
use crate::fetch::pump;
use crate::run::Run;
use crate::schedule::{Claim, GopKey, OrderId, PassId, Picked, Signal};
use crate::standing::Standing;
use crate::stats::{ClientCells, add, nanos_since};
use crate::ticket::{Queue, Sink};
use crate::video::Video;
use crate::worker::Worker;

/// A pass at work.
pub(crate) struct Pass<'a> {
    core: &'a Arc<Core>,
    worker: &'a mut Worker,
    id: PassId,
    gop: GopKey,
    video: Arc<Video>,
    run: Arc<Run>,
    signal: Signal,
    alone: bool,
    /// What is to be answered, by sample.
    wanted: BTreeMap<DecodeIndex, Vec<Claim>>,
    /// Orders whose pictures are being encoded.
    kept: BTreeSet<OrderId>,
    /// Nothing of it is for anybody's request.
    harvest: bool,
    /// Images are made here, before anything else is decoded.
    at_once: bool,
    began: Instant,
    plan_nanos: u64,
    decode_nanos: u64,
    /// What of these went by since something wanted came out.
    fruitless_nanos: u64,
    decoded: u64,
}

/// Processes that a pass may lose, each with another sample, before it is laid to the sample.
const MOST_LOST: usize = 2;

/// How a run of a decoder ended.
enum End {
    Done,
    /// Something else is more urgent, or nothing is wanted any more.
    Stopped,
    /// A decoder that works on several pictures at once met damage: which one is unknown.
    Unclear,
    /// This sample was refused.
    Damaged {
        sample: DecodeIndex,
        why: String,
    },
    /// The process that decodes was lost with this sample.
    Lost {
        sample: DecodeIndex,
        why: String,
    },
    /// Nothing more can be decoded here: a format that is not read, no memory, no time left.
    Impossible {
        why: String,
    },
}

/// Makes a pass, and tells the schedule.
pub(crate) fn make(core: &Arc<Core>, worker: &mut Worker, picked: Picked<Arc<Video>, Arc<Run>>) {
    end_queues(core, &picked.claims);
    let span = tracing::debug_span!("decode", start = picked.gop.start);
    let _entered = span.enter();
    let id = picked.pass;
    // If anything in it panics, the pass must still end.
    let mut ending = Ending {
        core,
        id,
        kept: BTreeSet::new(),
        nanos: 0,
    };
    let began = Instant::now();
    let cells = payers(core, &picked.claims);
    for (cells, since) in &cells {
        cells.stages.queue.add(nanos_since(*since));
        core.counters.stages.queue.add(nanos_since(*since));
    }
    let mut pass = Pass {
        core,
        worker,
        id,
        gop: picked.gop,
        video: picked.video,
        run: picked.run,
        signal: picked.signal,
        alone: picked.alone,
        wanted: BTreeMap::new(),
        kept: BTreeSet::new(),
        harvest: cells.is_empty(),
        at_once: false,
        began,
        plan_nanos: 0,
        decode_nanos: 0,
        fruitless_nanos: 0,
        decoded: 0,
    };
    pass.work(picked.claims);
    let (decoded, nanos, planned) = (pass.decoded, pass.decode_nanos, pass.plan_nanos);
    ending.kept = std::mem::take(&mut pass.kept);
    core.counters.stages.decode.add(nanos);
    if pass.harvest {
        add(&core.counters.access_units_harvested, decoded);
    }
    for (cells, _) in &cells {
        cells.stages.plan.add(planned);
        cells.stages.decode.add(nanos);
        add(&cells.access_units_decoded, decoded);
    }
    ending.nanos = nanos_since(began);
}

struct Ending<'a> {
    core: &'a Arc<Core>,
    id: PassId,
    kept: BTreeSet<OrderId>,
    nanos: u64,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        {
            let mut state = self.core.lock();
            state.schedule.charge(self.id, self.nanos);
            if std::thread::panicking() {
                // The pictures that made it panic would do so again.
                for order in state.schedule.claimed(self.id) {
                    let waiters = state.schedule.complete(order);
                    for waiter in waiters {
                        let why = "the frame was lost inside the server";
                        let error = FrameError::new(FrameErrorCode::DecodeFailed, why);
                        if let Some(sink) = waiter.sink {
                            sink.answer(waiter.position, Err(error));
                        }
                    }
                }
            }
            state.schedule.end_pass(self.id, &self.kept);
        }
        pump(self.core);
        self.core.wake.notify_all();
    }
}

type Payer = (Arc<ClientCells>, Instant);

/// The figures of the tickets for which orders are.
fn payers(core: &Core, claims: &[Claim]) -> Vec<Payer> {
    let state = core.lock();
    let waiters = claims.iter().flat_map(|c| state.schedule.waiters(c.order));
    let tickets: BTreeMap<_, _> = waiters
        .filter_map(|w| Some((w.ticket, w.sink.as_ref()?)))
        .collect();
    let cells = tickets.into_values();
    cells.map(|s| (s.shared_cells(), s.since)).collect()
}

/// The tickets for which orders are wait no longer.
fn end_queues(core: &Core, claims: &[Claim]) {
    let ended: Vec<Queue> = {
        let state = core.lock();
        let waiters = claims.iter().flat_map(|c| state.schedule.waiters(c.order));
        let sinks = waiters.filter_map(|w| w.sink.as_ref());
        sinks.map(Sink::end_queue).collect()
    };
    // Not under the lock: the log may take its time.
    drop(ended);
}

impl Pass<'_> {
    fn work(&mut self, claims: Vec<Claim>) {
        let counters = &self.core.counters;
        add(&counters.passes, 1);
        let video = Arc::clone(&self.video);
        let suspect = || {
            let suspects = &self.core.suspects;
            suspects.refusal(video.key(), Instant::now())
        };
        if let Some(error) = video.refusal().or_else(suspect) {
            for claim in claims {
                self.answer(claim, &error);
            }
            return;
        }
        let run = Arc::clone(&self.run);
        let began = Instant::now();
        let planner = tracing::debug_span!("plan").in_scope(|| run.planner(video.index()));
        self.plan_nanos = nanos_since(began);
        counters.stages.plan.add(self.plan_nanos);
        let Some(first) = claims.first().copied() else {
            return;
        };
        let mut fallbacks = Vec::new();
        for claim in claims {
            let sample = DecodeIndex(claim.sample);
            match planner.standing(sample) {
                Stands::Exact => match self.too_many(|| planner.alone(sample)) {
                    Some(error) => self.answer(claim, &error),
                    None => self.want(claim),
                },
                Stands::Fallback => match self.too_many(|| planner.fallback(sample)) {
                    Some(error) => self.answer(claim, &error),
                    None => fallbacks.push(claim),
                },
                Stands::Refused(why) => self.refuse(claim, &why),
            }
        }
        self.refuse_broken(planner);
        if fallbacks.first().is_some_and(|c| c.order == first.order) {
            // What comes first is not kept waiting by what could be decoded without it.
            let others: Vec<DecodeIndex> = self.wanted.keys().copied().collect();
            self.put_back(&others);
        }
        if self.wanted.is_empty() {
            for claim in fallbacks {
                self.want(claim);
            }
            if !self.wanted.is_empty() {
                self.decode_everything(planner);
            }
            return;
        }
        // These are decoded in a pass of their own.
        self.give_back(fallbacks);
        self.serve_what_is_at_hand();
        if !self.wanted.is_empty() {
            self.decode_exactly(planner, DecodeIndex(first.sample));
        }
    }

    /// Makes images of pictures that were decoded on the way to others.
    fn serve_what_is_at_hand(&mut self) {
        let wanted = self.wanted.keys().copied();
        let found = self.core.rest.at_hand(&self.gop, wanted);
        if !found.is_empty() && found.len() == self.wanted.len() {
            add(&self.core.counters.passes_continued, 1);
        }
        for (sample, picture) in found {
            if let Some(claims) = self.wanted.remove(&sample) {
                self.develop(claims, sample, picture);
            }
        }
    }

    /// Why a target is refused that needs these.
    fn too_many(&self, needs: impl FnOnce() -> Option<Vec<DecodeIndex>>) -> Option<FrameError> {
        // Only looked at where there is a limit.
        let most = self.core.config.max_access_units?;
        let needed = needs().map_or(0, |needs| needs.len());
        (needed > most).then(|| {
            let why = format!(
                "the frame depends on {needed} access units; at most {most} are decoded for one"
            );
            FrameError::new(FrameErrorCode::GopTooLarge, why)
        })
    }

    fn want(&mut self, claim: Claim) {
        let sample = DecodeIndex(claim.sample);
        self.wanted.entry(sample).or_default().push(claim);
    }

    /// Answers what depends on a sample that a decoder has refused.
    fn refuse_broken(&mut self, planner: &Planner) {
        let broken = self.run.damage().broken.clone();
        if broken.is_empty() {
            return;
        }
        let spoilt: Vec<DecodeIndex> = (self.wanted.keys().copied())
            .filter(|t| {
                let needs = planner.alone(*t).unwrap_or_default();
                needs.iter().any(|s| broken.contains(s))
            })
            .collect();
        for target in spoilt {
            let why = if broken.contains(&target) {
                "the access unit is damaged"
            } else {
                "an access unit before the picture is damaged"
            };
            self.fail(target, why);
        }
    }

    fn refuse(&mut self, claim: Claim, why: &Refusal) {
        let error = match why {
            Refusal::NeedsEarlierStart => {
                return match self.earlier_start(claim) {
                    Ok(start) => {
                        self.core.lock().schedule.move_to(claim.order, start.0);
                    }
                    Err(error) => self.answer(claim, &error),
                };
            }
            Refusal::NotDecodable(_) => {
                FrameError::new(FrameErrorCode::NotDecodable, why.to_string())
            }
            Refusal::NoPicture | Refusal::Outside => {
                FrameError::new(FrameErrorCode::DecodeFailed, why.to_string())
            }
        };
        self.answer(claim, &error);
    }

    fn earlier_start(&self, claim: Claim) -> Result<DecodeIndex, FrameError> {
        let most = self.core.config.max_group_bytes;
        let sample = DecodeIndex(claim.sample);
        earlier_start(self.video.index(), self.gop.start, sample, most)
    }

    /// Decodes by reference closures until all that is wanted is answered or something stops it.
    fn decode_exactly(&mut self, planner: &Planner, first: DecodeIndex) {
        let mut first = Some(first);
        // Samples that were refused in this pass.
        let mut met = BTreeSet::new();
        // Samples with which a process was lost.
        let mut lost = BTreeSet::new();
        loop {
            let Some(&lead) = first
                .take()
                .as_ref()
                .filter(|f| self.wanted.contains_key(f))
                .or(self.wanted.keys().next())
            else {
                return;
            };
            let targets: Vec<DecodeIndex> = self.wanted.keys().copied().collect();
            let (mut standing, way) = match self.standing(planner, lead, &targets) {
                Ok(begun) => begun,
                Err(error) => return self.fail_all(&error.to_string()),
            };
            if !way.next.contains(&lead) {
                // Not for a target that stands as exact; but nothing would ever come of it.
                self.core.rest.put(Some(self.gop.clone()), standing);
                self.fail(lead, "the picture cannot be reached");
                continue;
            }
            self.put_back(&way.beyond);
            let threading = standing.threading;
            let end = self.follow(planner, &mut standing, way.next);
            let flushed = !matches!(end, End::Done | End::Stopped);
            if flushed {
                standing.flush();
            }
            let passed: BTreeSet<DecodeIndex> = standing.given.iter().copied().collect();
            let place = (!flushed).then(|| self.gop.clone());
            self.core.rest.put(place, standing);
            match end {
                End::Stopped => {
                    add(&self.core.counters.passes_yielded, 1);
                    return;
                }
                End::Done => {
                    let left = self.wanted.keys().filter(|t| passed.contains(t));
                    for target in left.copied().collect::<Vec<_>>() {
                        self.fail(target, "the decoder gave no picture for this sample");
                    }
                }
                End::Impossible { why } => return self.fail_all(&why),
                // Somebody may have ended it: once more, and it is known. Not with every sample.
                End::Lost { sample, .. } if lost.insert(sample) && lost.len() <= MOST_LOST => {
                    add(&self.core.counters.repeated_passes, 1);
                }
                End::Unclear => {
                    if !threading.is_frames() {
                        // One access unit at a time, and still it cannot be said.
                        return self.fail_all("the decoder found the data damaged");
                    }
                    add(&self.core.counters.repeated_passes, 1);
                    self.run.damage().careful = true;
                }
                End::Damaged { sample, why } | End::Lost { sample, why } => {
                    if lost.contains(&sample) {
                        self.suspect(sample, &why);
                    }
                    if !met.insert(sample) {
                        // What is wanted depends on it in a way that is not known beforehand.
                        return self.fail_all(&why);
                    }
                    {
                        let mut damage = self.run.damage();
                        damage.careful = true;
                        damage.broken.insert(sample);
                    }
                    self.fail(sample, &why);
                    self.refuse_broken(planner);
                    if !self.wanted.is_empty() {
                        add(&self.core.counters.repeated_passes, 1);
                    }
                }
            }
        }
    }

    /// A decoder for the targets, the one that stands in this GOP if it reaches the first of
    /// them, and its way.
    fn standing(
        &mut self,
        planner: &Planner,
        lead: DecodeIndex,
        targets: &[DecodeIndex],
    ) -> Result<(Standing, Way), CodecError> {
        let careful = self.run.damage().careful;
        let fresh = self.run.way(planner, &[], &lead_first(lead, targets));
        let fits = |s: &Standing| {
            !(careful && s.threading.is_frames())
                && self
                    .run
                    .way(planner, &s.given, &[lead])
                    .reached
                    .contains(&lead)
        };
        let alone = self.alone && !careful;
        if let Some(standing) = self.core.rest.take(&self.gop, fits) {
            let way = self
                .run
                .way(planner, &standing.given, &lead_first(lead, targets));
            // What it does not reach costs an empty decoder's way in addition.
            let rest = match way.beyond.as_slice() {
                [] => 0,
                beyond => self.run.way(planner, &[], beyond).next.len(),
            };
            let whole = way.next.len() + rest;
            // All cores from the IRAP on may be there sooner than one from here.
            let one_core = alone && standing.threading == Threading::Single;
            let slower =
                whole > fresh.next.len() || (one_core && way.next.len() * 5 > fresh.next.len() * 3);
            if !slower {
                add(&self.core.counters.passes_continued, 1);
                return Ok((standing, way));
            }
            self.core.rest.put(Some(self.gop.clone()), standing);
        }
        let cores = self.worker.cores;
        let threading = match (alone, fresh.rows_in_parallel) {
            (true, true) => Threading::Slices(cores),
            (true, false) if fresh.next.len() > 1 => Threading::frames(cores, fresh.ctb_rows),
            _ => Threading::Single,
        };
        let decoder = self.worker.decoder(self.core, threading)?;
        Ok((
            Standing::empty(decoder, threading, self.core.rest.slot()),
            fresh,
        ))
    }

    /// Gives a decoder the samples of a way, one by one.
    fn follow(
        &mut self,
        planner: &Planner,
        standing: &mut Standing,
        next: Vec<DecodeIndex>,
    ) -> End {
        let preludes = planner.preludes(&standing.given, &next);
        self.join(standing, &next);
        let entry_first = standing.given.is_empty() && self.may_preview();
        for (place, (sample, prelude)) in next.iter().zip(preludes).enumerate() {
            if self.signal.take() {
                let ahead = next.get(place..).unwrap_or_default();
                if self.look(standing, ahead) {
                    return self.settle(standing, End::Stopped);
                }
            }
            let framed = self.frame(*sample, &prelude, false);
            // Given, whatever comes of it.
            standing.given.push(*sample);
            let end = match framed {
                Ok(()) => self.send(standing, *sample, false),
                Err(why) => Some(End::Damaged {
                    sample: *sample,
                    why,
                }),
            };
            if let Some(end) = end {
                return end;
            }
            if place == 0
                && entry_first
                && let Some(end) = self.show_entry(standing, next.get(1..).unwrap_or_default())
            {
                return end;
            }
            if self.wanted.is_empty() && !standing.threading.is_frames() {
                return End::Done;
            }
        }
        self.settle(standing, End::Done)
    }

    /// Whether somebody may be shown the entry point before the picture that is wanted.
    fn may_preview(&self) -> bool {
        let state = self.core.lock();
        let mut waiters =
            (self.wanted.values().flatten()).flat_map(|claim| state.schedule.waiters(claim.order));
        waiters.any(|w| {
            let sink = w.sink.as_ref();
            sink.is_some_and(|s| s.previews && s.wants_preview(w.position))
        })
    }

    /// The entry point is decoded: where it is waited for by now, it is made an image before other
    /// pictures take cores from it.
    fn show_entry(&mut self, standing: &mut Standing, ahead: &[DecodeIndex]) -> Option<End> {
        if let end @ (End::Unclear | End::Impossible { .. }) = self.settle(standing, End::Done) {
            return Some(end);
        }
        self.at_once = true;
        let stop = self.signal.take() && self.look(standing, ahead);
        self.at_once = false;
        stop.then_some(End::Stopped)
    }

    /// Claims what lies on the way or is still at hand.
    fn join(&mut self, standing: &Standing, ahead: &[DecodeIndex]) {
        let path = path(standing, ahead);
        let joined = self.core.lock().schedule.join(self.id, &path);
        self.take_in(standing, joined);
    }

    fn take_in(&mut self, standing: &Standing, joined: Vec<Claim>) {
        let planner = self.run.planner(self.video.index());
        let (exact, other): (Vec<Claim>, Vec<Claim>) = joined.into_iter().partition(|c| {
            let sample = DecodeIndex(c.sample);
            matches!(planner.standing(sample), Stands::Exact)
        });
        self.give_back(other);
        add(&self.core.counters.joined_passes, exact.len() as u64);
        for claim in exact {
            let sample = DecodeIndex(claim.sample);
            match standing.at_hand.get(sample) {
                Some(picture) => self.develop(vec![claim], sample, picture.clone()),
                None => self.want(claim),
            }
        }
    }

    /// What has changed meanwhile. True if the pass is to end.
    fn look(&mut self, standing: &Standing, ahead: &[DecodeIndex]) -> bool {
        let path = path(standing, ahead);
        let look = {
            let mut state = self.core.lock();
            // So that those who have waited long enough come before the rest of it.
            state.schedule.charge(self.id, nanos_since(self.began));
            state.schedule.look(self.id, &path)
        };
        self.take_in(standing, look.joined);
        for order in look.dropped {
            self.wanted.retain(|_, claims| {
                claims.retain(|c| c.order != order);
                !claims.is_empty()
            });
        }
        if look.stop {
            // What is not answered waits again, when the pass ends.
            self.wanted.clear();
        }
        look.stop
    }

    /// `everything`: the decoder was given all that there is, so that nothing lacks that is referred
    /// to, but at an entry point.
    fn send(
        &mut self,
        standing: &mut Standing,
        sample: DecodeIndex,
        everything: bool,
    ) -> Option<End> {
        // A sample without a picture is nothing to a decoder.
        if self.worker.packet.is_empty() {
            return None;
        }
        add(&self.core.counters.access_units_decoded, 1);
        self.decoded += 1;
        let mut pictures = Vec::new();
        let packet = std::mem::take(&mut self.worker.packet);
        let began = Instant::now();
        let sent = standing
            .decoder
            .send(&packet, i64::from(sample.0), &mut |p| pictures.push(p));
        let nanos = nanos_since(began);
        self.decode_nanos = self.decode_nanos.saturating_add(nanos);
        self.fruitless_nanos = self.fruitless_nanos.saturating_add(nanos);
        self.worker.packet = packet;
        let is_entry = self.video.index().sample(sample).is_some_and(|s| s.sync);
        if everything && !is_entry && pictures.iter().any(Picture::lacks_references) {
            let why = "the picture may refer to pictures that are not in the video".into();
            return Some(End::Damaged { sample, why });
        }
        self.receive(standing, pictures);
        self.count_lost(&sent);
        let frames = standing.threading.is_frames();
        match sent {
            Ok(()) => self.out_of_time(),
            Err(_) if frames => Some(End::Unclear),
            Err(e @ (CodecError::Decode { .. } | CodecError::AccessUnitSize { .. })) => {
                let why = e.to_string();
                Some(End::Damaged { sample, why })
            }
            Err(e @ CodecError::WorkerLost { .. }) => {
                let why = e.to_string();
                Some(End::Lost { sample, why })
            }
            Err(e) => Some(End::Impossible { why: e.to_string() }),
        }
    }

    fn count_lost(&self, sent: &Result<(), CodecError>) {
        if let Err(error @ CodecError::WorkerLost { .. }) = sent {
            add(&self.core.counters.workers_lost, 1);
            tracing::warn!(video = self.video.name(), %error, "a process that decodes was lost");
        }
    }

    /// It went on for long enough, and nothing that is wanted came out.
    fn out_of_time(&self) -> Option<End> {
        let most = self.core.config.decode_time;
        if self.wanted.is_empty() || u128::from(self.fruitless_nanos) <= most.as_nanos() {
            return None;
        }
        let why = format!(
            "decoding took longer than the {} s that it may",
            most.as_secs_f64()
        );
        Some(End::Impossible { why })
    }

    /// A sample has ended two processes.
    fn suspect(&self, sample: DecodeIndex, why: &str) {
        let (video, offset) = (
            self.video.name(),
            self.run.get(sample).map(|(s, _)| s.offset),
        );
        tracing::warn!(
            video,
            offset,
            why,
            "an access unit ends processes that decode it"
        );
        if self.core.suspects.note(self.video.key(), Instant::now()) {
            add(&self.core.counters.suspects, 1);
            tracing::error!(video, "nothing more of this video is decoded for a while");
        }
    }

    /// Waits for what the decoder's threads still work on.
    fn settle(&mut self, standing: &mut Standing, end: End) -> End {
        let mut pictures = Vec::new();
        let began = Instant::now();
        let finished = standing.decoder.finish(&mut |p| pictures.push(p));
        self.count_lost(&finished);
        self.decode_nanos = self.decode_nanos.saturating_add(nanos_since(began));
        self.receive(standing, pictures);
        match finished {
            Ok(()) => end,
            Err(_) => End::Unclear,
        }
    }

    fn receive(&mut self, standing: &mut Standing, pictures: Vec<Picture>) {
        for picture in pictures {
            let Ok(sample) = u32::try_from(picture.id()).map(DecodeIndex) else {
                continue;
            };
            let is_entry = standing.given.first() == Some(&sample);
            if is_entry {
                standing.at_hand.keep_entry(sample, picture.clone());
            }
            match self.wanted.remove(&sample) {
                Some(claims) => {
                    // Some of them may be left to another pass.
                    if claims.len() > 1 && !is_entry {
                        standing.at_hand.keep(sample, picture.clone());
                    } else if !is_entry {
                        standing.at_hand.keep_wanted(sample, picture.clone());
                    }
                    self.develop(claims, sample, picture);
                }
                None if is_entry => {}
                None => standing.at_hand.keep(sample, picture),
            }
        }
    }

    /// Puts a sample's packet together.
    fn frame(
        &mut self,
        sample: DecodeIndex,
        prelude: &[Bytes],
        everything: bool,
    ) -> Result<(), String> {
        let packet = &mut self.worker.packet;
        packet.clear();
        packet::append_nals(packet, prelude.iter().map(Bytes::as_ref));
        let Some((sample, data)) = self.run.get(sample) else {
            return Err("the sample was not read".into());
        };
        let framing = self.video.index().framing(sample);
        packet::append_sample(packet, data, framing, everything).map_err(|e| e.to_string())
    }

    /// For targets whose dependencies the headers do not tell: everything from the IRAP on, by a
    /// decoder of its own, and any error spoils what follows.
    fn decode_everything(&mut self, planner: &Planner) {
        add(&self.core.counters.fallback_passes, 1);
        let targets: Vec<DecodeIndex> = self.wanted.keys().copied().collect();
        let samples: BTreeSet<DecodeIndex> = targets
            .iter()
            .filter_map(|t| planner.fallback(*t))
            .flatten()
            .collect();
        let samples: Vec<DecodeIndex> = samples.into_iter().collect();
        let mut end = self.decode_all_of(planner, &samples);
        if let End::Lost { .. } = end {
            // Somebody may have ended it.
            add(&self.core.counters.repeated_passes, 1);
            end = self.decode_all_of(planner, &samples);
        }
        match end {
            End::Stopped => add(&self.core.counters.passes_yielded, 1),
            End::Done => self.fail_all("the decoder gave no picture for this sample"),
            End::Unclear => self.fail_all("the decoder found the data damaged"),
            End::Damaged { why, .. } | End::Impossible { why } => self.fail_all(&why),
            End::Lost { sample, why } => {
                self.suspect(sample, &why);
                self.fail_all(&why);
            }
        }
    }

    /// Gives samples to an empty decoder, all that they hold.
    fn decode_all_of(&mut self, planner: &Planner, samples: &[DecodeIndex]) -> End {
        let decoder = match self.worker.decoder(self.core, Threading::Single) {
            Ok(decoder) => decoder,
            Err(e) => return End::Impossible { why: e.to_string() },
        };
        let mut standing = Standing::empty(decoder, Threading::Single, self.core.rest.slot());
        let preludes = planner.preludes(&[], samples);
        let mut end = End::Done;
        for (sample, prelude) in samples.iter().zip(preludes) {
            if self.signal.take() && self.look(&standing, &[]) {
                end = End::Stopped;
                break;
            }
            if self.wanted.is_empty() {
                break;
            }
            let sent = match self.frame(*sample, &prelude, true) {
                Ok(()) => self.send(&mut standing, *sample, true),
                Err(why) => Some(End::Damaged {
                    sample: *sample,
                    why,
                }),
            };
            if let Some(stopped) = sent {
                end = stopped;
                break;
            }
        }
        standing.flush();
        self.core.rest.put(None, standing);
        end
    }

    /// A picture that is wanted: made an image by a worker that has nothing to do, or will have
    /// nothing soon; here, where those are behind.
    fn develop(&mut self, claims: Vec<Claim>, sample: DecodeIndex, picture: Picture) {
        self.fruitless_nanos = 0;
        for claim in &claims {
            self.kept.insert(claim.order);
        }
        let planner = self.run.planner(self.video.index());
        if let Some(needed) = planner.alone(sample) {
            self.count_needed(&claims, &needed);
        }
        let work = Developing {
            video: Arc::clone(&self.video),
            colour: self.colour(planner, sample),
            claims,
            sample,
            picture,
        };
        let mut state = self.core.lock();
        let waiters = |c: &Claim| state.schedule.waiters(c.order).iter();
        let asked = (work.claims.iter().flat_map(waiters)).any(|w| w.sink.is_some());
        let idle = state.schedule.idle();
        if !self.at_once && state.developing.have_room(&work.picture, idle, asked) {
            state.developing.put(work);
            drop(state);
            self.core.wake.notify_one();
        } else {
            drop(state);
            develop(self.core, self.worker, work);
        }
    }

    fn count_needed(&self, claims: &[Claim], needed: &[DecodeIndex]) {
        let bytes = self.run.bytes_of(needed);
        let payers = payers(self.core, claims);
        add(
            &self.core.counters.access_units_needed,
            (needed.len() * claims.len()) as u64,
        );
        for (cells, _) in payers {
            add(&cells.access_units_needed, needed.len() as u64);
            add(&cells.bytes_needed, bytes);
        }
    }

    /// What the stream says of this picture's colours, completed from the container.
    fn colour(&self, planner: &Planner, sample: DecodeIndex) -> ColourDescription {
        let graph = planner.graph();
        let in_stream = graph
            .unit_of(sample)
            .and_then(|unit| graph.picture(unit))
            .map_or(self.video.info().colour, |p| p.sps.vui.colour);
        let description = self.run.get(sample).map_or(0, |(s, _)| s.description);
        let descriptions = self.video.index().descriptions();
        let container = descriptions.get(usize::from(description));
        in_stream.or(container.map(|d| d.colour).unwrap_or_default())
    }

    /// Leaves targets to another pass.
    fn put_back(&mut self, targets: &[DecodeIndex]) {
        let claims = targets.iter().filter_map(|t| self.wanted.remove(t));
        let claims = claims.flatten().collect();
        self.give_back(claims);
    }

    /// Leaves orders to another pass: to one of a worker that waits for work, if there is one. All
    /// at once, so that it plans them together.
    fn give_back(&self, claims: Vec<Claim>) {
        if claims.is_empty() {
            return;
        }
        {
            let mut state = self.core.lock();
            for claim in claims {
                state.schedule.unclaim(self.id, claim.order);
            }
        }
        self.core.wake.notify_one();
    }

    fn fail(&mut self, target: DecodeIndex, why: &str) {
        let error = FrameError::new(FrameErrorCode::DecodeFailed, why);
        for claim in self.wanted.remove(&target).unwrap_or_default() {
            self.answer(claim, &error);
        }
    }

    fn fail_all(&mut self, why: &str) {
        let targets: Vec<DecodeIndex> = self.wanted.keys().copied().collect();
        for target in targets {
            self.fail(target, why);
        }
    }

    fn answer(&self, claim: Claim, error: &FrameError) {
        let waiters = self.core.lock().schedule.complete(claim.order);
        for waiter in waiters {
            self.core.answer(&waiter, Err(error.clone()));
        }
    }
}

/// The first is what the decoder is chosen for.
fn lead_first(lead: DecodeIndex, targets: &[DecodeIndex]) -> Vec<DecodeIndex> {
    let rest = targets.iter().copied().filter(|t| *t != lead);
    std::iter::once(lead).chain(rest).collect()
}

/// Samples whose pictures can be had on the way, ascending.
fn path(standing: &Standing, ahead: &[DecodeIndex]) -> Vec<u32> {
    let behind = standing.at_hand.samples();
    behind.chain(ahead.iter().copied()).map(|s| s.0).collect()
}
