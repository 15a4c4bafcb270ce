//! A group of targets: its bytes, and what is done when they do not suffice.

use std::collections::BTreeMap;
use std::sync::Arc;

use media::{DecodeIndex, Sample};
use tokio::sync::oneshot;

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
    pub(crate) fn last_target(&self) -> Option<DecodeIndex> {
        self.targets.last_key_value().map(|(&sample, _)| sample)
    }

    fn refuse(&self, outcomes: &Outcomes, error: &FrameError) {
        for &position in self.targets.values().flatten() {
            outcomes.send(position, Err(error.clone()));
        }
    }
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
        let earlier = match serve_once(&inner, &video, &group, &outcomes).await {
            Ok(earlier) => earlier,
            Err(error) => return group.refuse(&outcomes, &error),
        };
        if earlier.is_empty() {
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
        group.targets.retain(|sample, _| earlier.contains(sample));
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

/// One try from the group's start. Returns the targets that need an earlier one.
async fn serve_once(
    inner: &Arc<Inner>,
    video: &Arc<Video>,
    group: &Group,
    outcomes: &Outcomes,
) -> Result<Vec<DecodeIndex>, FrameError> {
    let index = video.index();
    let last = group.last_target().unwrap_or(group.start);
    let samples: Vec<Sample> = (group.start.0..=last.0)
        .filter_map(|i| index.sample(DecodeIndex(i)))
        .collect();
    let total: u64 = samples.iter().map(|s| u64::from(s.size)).sum();
    let most = inner.config.max_group_bytes;
    if total > most {
        let message = format!(
            "the frame needs {} MiB from its IRAP on, more than the limit of {} MiB",
            total >> 20,
            most >> 20
        );
        return Err(FrameError::new(FrameErrorCode::GopTooLarge, message));
    }
    let kib = u32::try_from(total / 1024 + 1).unwrap_or(u32::MAX);
    let permit = Arc::clone(&inner.bytes_in_flight)
        .acquire_many_owned(kib)
        .await;
    let Ok(_permit) = permit else {
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
    let samples = Samples { samples, data };
    let mut job = Job::new(
        Arc::clone(video),
        samples,
        group.targets.clone(),
        outcomes.clone(),
    );
    loop {
        let (reply, end) = oneshot::channel();
        inner.pool.submit(job, reply);
        match end.await {
            Ok(JobEnd::Finished { needs_earlier }) => return Ok(needs_earlier),
            Ok(JobEnd::PutAside(rest)) => {
                outcomes.shared.room().await;
                job = *rest;
            }
            // The worker lost it; the ticket answers what is left.
            Err(_) => return Ok(Vec::new()),
        }
    }
}
