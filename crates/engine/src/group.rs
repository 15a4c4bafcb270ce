//! A group of targets: its bytes, and what is done when they do not suffice.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use media::{DecodeIndex, Sample, VideoIndex};
use tokio::sync::oneshot;

use crate::counters::add;
use crate::error::{FrameError, FrameErrorCode};
use crate::pass::{Job, JobEnd, Samples};
use crate::request::Inner;
use crate::ticket::Outcomes;
use crate::video::Video;

/// Targets of one request that share a run of samples.
#[derive(Debug)]
pub(crate) struct Group {
    /// The IRAP to start from, as the container knows it.
    pub(crate) start: DecodeIndex,
    /// The wanted samples, each with its places in the request.
    pub(crate) targets: BTreeMap<DecodeIndex, Vec<usize>>,
}

impl Group {
    /// The decode index behind the run of samples.
    pub(crate) fn end(&self) -> u32 {
        self.targets
            .last_key_value()
            .map_or(self.start.0, |(last, _)| last.0.saturating_add(1))
    }

    fn refuse(&self, outcomes: &Outcomes, error: &FrameError) {
        for &position in self.targets.values().flatten() {
            outcomes.send(position, Err(error.clone()));
        }
    }

    /// Refuses the targets that need more than `most` bytes from the start on.
    fn refuse_beyond(&mut self, index: &VideoIndex, most: u64, outcomes: &Outcomes) {
        let mut total = 0u64;
        let mut run = (self.start.0..self.end()).map(DecodeIndex);
        let first_beyond = run.find(|&sample| {
            total = total.saturating_add(index.sample(sample).map_or(0, |s| u64::from(s.size)));
            total > most
        });
        let Some(first) = first_beyond else { return };
        let refused = Self {
            start: self.start,
            targets: self.targets.split_off(&first),
        };
        let message = format!(
            "the frame needs more than {} bytes from its IRAP on, which is the limit",
            most
        );
        refused.refuse(
            outcomes,
            &FrameError::new(FrameErrorCode::GopTooLarge, message),
        );
    }
}

/// Bytes of a run of samples; not counted any further once they are more than `most`.
pub(crate) fn run_bytes(index: &VideoIndex, run: Range<u32>, most: u64) -> u64 {
    let mut total = 0u64;
    for sample in run.map(DecodeIndex) {
        if total > most {
            break;
        }
        total = total.saturating_add(index.sample(sample).map_or(0, |s| u64::from(s.size)));
    }
    total
}

/// What one try left without an answer.
enum Rest {
    /// These targets depend on samples before the group's start (none: all is answered).
    NeedsEarlier(Vec<DecodeIndex>),
    /// The pass was given up in favour of others; these are to be decoded from the same start.
    GivenUp(Vec<DecodeIndex>),
}

/// Fetches, decodes, and where it turns out that targets depend on earlier samples than the
/// container says, does so again for these from further back.
pub(crate) async fn serve_group(
    inner: Arc<Inner>,
    video: Arc<Video>,
    mut group: Group,
    outcomes: Outcomes,
) {
    let mut step_back = 1u32;
    loop {
        group.refuse_beyond(video.index(), inner.config.max_group_bytes, &outcomes);
        if group.targets.is_empty() {
            return;
        }
        let earlier = match serve_once(&inner, &video, &group, &outcomes).await {
            Ok(Rest::NeedsEarlier(earlier)) => earlier,
            Ok(Rest::GivenUp(again)) => {
                group.targets.retain(|sample, _| again.contains(sample));
                outcomes.shared.room().await;
                continue;
            }
            Err(error) => return group.refuse(&outcomes, &error),
        };
        group.targets.retain(|sample, _| earlier.contains(sample));
        if group.targets.is_empty() {
            return;
        }
        // A container that marks samples as sync that are none would make many small steps.
        let before = DecodeIndex(group.start.0.saturating_sub(step_back));
        step_back = step_back.saturating_mul(2);
        let start = if group.start.0 == 0 {
            None
        } else {
            video.index().sync_at_or_before(before)
        };
        match start {
            Some(start) => group.start = start,
            None => {
                let why = "no IRAP comes before the picture: there is nothing to decode it from";
                let error = FrameError::new(FrameErrorCode::NotDecodable, why);
                return group.refuse(&outcomes, &error);
            }
        }
    }
}

/// One try from the group's start.
async fn serve_once(
    inner: &Arc<Inner>,
    video: &Arc<Video>,
    group: &Group,
    outcomes: &Outcomes,
) -> Result<Rest, FrameError> {
    let index = video.index();
    let samples: Vec<Sample> = (group.start.0..group.end())
        .filter_map(|i| index.sample(DecodeIndex(i)))
        .collect();
    let total: u64 = samples.iter().map(|s| u64::from(s.size)).sum();
    let kib = u32::try_from(total / 1024 + 1).unwrap_or(u32::MAX);
    let permit = Arc::clone(&inner.bytes_in_flight)
        .acquire_many_owned(kib)
        .await;
    let Ok(permit) = permit else {
        return Err(FrameError::new(
            FrameErrorCode::Cancelled,
            "the server is stopping",
        ));
    };
    let ranges: Vec<_> = samples.iter().map(Sample::range).collect();
    let data = video
        .object()
        .read_ranges(&ranges)
        .await
        .map_err(|e| FrameError::from(&e))?;
    let samples = Samples {
        samples,
        data,
        _permit: permit,
    };
    let mut job = Job::new(
        Arc::clone(video),
        samples,
        group.targets.clone(),
        outcomes.clone(),
    );
    let held = kib.saturating_add(video.decoder_kib());
    loop {
        let (reply, end) = oneshot::channel();
        inner.pool.submit(job, reply);
        match end.await {
            Ok(JobEnd::Finished { needs_earlier }) => {
                return Ok(Rest::NeedsEarlier(needs_earlier));
            }
            Ok(JobEnd::PutAside(rest)) => {
                let place = Arc::clone(&inner.put_aside).try_acquire_many_owned(held);
                if place.is_err() {
                    add(&inner.counters.passes_given_up, 1);
                    return Ok(Rest::GivenUp(rest.give_up()));
                }
                outcomes.shared.room().await;
                job = *rest;
            }
            // The worker lost it; the ticket answers what is left.
            Err(_) => return Ok(Rest::NeedsEarlier(Vec::new())),
        }
    }
}
