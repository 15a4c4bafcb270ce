//! The compressed samples that a frame depends on, for those who decode themselves.

use std::sync::Arc;

use bytes::Bytes;
use media::sidecar::plain_start;
use media::{DecodeIndex, Refusal, Standing, VideoIndex, packet};

use crate::client::{Sums, too_large};
use crate::core::Core;
use crate::error::{FrameError, FrameErrorCode};
use crate::fetch::read_in_time;
use crate::run::Run;
use crate::schedule::{Fetch, GopKey};
use crate::video::Video;

/// One access unit, as an empty decoder must be given it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessUnit {
    /// Its place in decode order.
    pub sample: DecodeIndex,
    /// With start codes (H.265 Annex B); parameter sets where they are due.
    pub bytes: Bytes,
}

/// The sync sample to try next for a picture that depends on more than what begins at `start`:
/// further back each time by as much as it is already, since a container may mark samples as sync
/// that are none.
pub(crate) fn earlier_start(
    index: &VideoIndex,
    start: u32,
    sample: DecodeIndex,
    most: u64,
) -> Result<DecodeIndex, FrameError> {
    let near = plain_start(index, sample);
    let back = near.map_or(0, |n| n.0.saturating_sub(start)).max(1);
    let earlier = match start {
        0 => None,
        _ => index.sync_at_or_before(DecodeIndex(start.saturating_sub(back))),
    };
    let Some(earlier) = earlier.filter(|e| e.0 < start) else {
        return Err(no_start());
    };
    if Sums::default().of(index, earlier, sample, most) > most {
        return Err(too_large(most));
    }
    Ok(earlier)
}

fn no_start() -> FrameError {
    let why = "no IRAP comes before the picture: there is nothing to decode it from";
    FrameError::new(FrameErrorCode::NotDecodable, why)
}

/// What an empty decoder must be given so that the picture of `sample` comes out, in decode order;
/// at most `most` bytes are read for it.
pub(crate) async fn closure(
    core: &Arc<Core>,
    video: &Arc<Video>,
    sample: DecodeIndex,
    most: u64,
) -> Result<Vec<AccessUnit>, FrameError> {
    let index = video.index();
    let most = most.min(core.config.max_group_bytes);
    let mut start = plain_start(index, sample).ok_or_else(no_start)?;
    if Sums::default().of(index, start, sample, most) > most {
        return Err(too_large(most));
    }
    loop {
        let fetch = Fetch {
            gop: GopKey {
                video: Arc::clone(video.key()),
                start: start.0,
            },
            video: Arc::clone(video),
            from: start.0,
            to: sample.0.saturating_add(1),
            targets: vec![sample.0],
            harvest: false,
        };
        let run = read_in_time(core, &fetch).await?;
        let of = Arc::clone(video);
        // Reads headers, and copies what may be megabytes.
        let made = tokio::task::spawn_blocking(move || assemble(&run, of.index(), sample));
        let made = made.await.map_err(|_| {
            let why = "the frame was lost inside the server";
            FrameError::new(FrameErrorCode::DecodeFailed, why)
        })?;
        match made? {
            Some(units) => return Ok(units),
            None => start = earlier_start(index, start.0, sample, most)?,
        }
    }
}

/// The units, unless they begin before this run.
fn assemble(
    run: &Run,
    index: &VideoIndex,
    sample: DecodeIndex,
) -> Result<Option<Vec<AccessUnit>>, FrameError> {
    let planner = run.planner(index);
    let failed = |why: String| FrameError::new(FrameErrorCode::DecodeFailed, why);
    let (samples, everything) = match planner.standing(sample) {
        Standing::Exact => (planner.alone(sample), false),
        Standing::Fallback => (planner.fallback(sample), true),
        Standing::Refused(Refusal::NeedsEarlierStart) => return Ok(None),
        Standing::Refused(why @ Refusal::NotDecodable(_)) => {
            return Err(FrameError::new(
                FrameErrorCode::NotDecodable,
                why.to_string(),
            ));
        }
        Standing::Refused(why) => return Err(failed(why.to_string())),
    };
    let samples = samples.ok_or_else(|| failed("the picture cannot be reached".into()))?;
    let preludes = planner.preludes(&[], &samples);
    let mut units = Vec::with_capacity(samples.len());
    for (sample, prelude) in samples.into_iter().zip(preludes) {
        let mut bytes = Vec::new();
        packet::append_nals(&mut bytes, prelude.iter().map(Bytes::as_ref));
        let Some((own, data)) = run.get(sample) else {
            return Err(failed("the sample was not read".into()));
        };
        packet::append_sample(&mut bytes, data, index.framing(own), everything)
            .map_err(|e| failed(e.to_string()))?;
        // A sample without a picture is nothing to a decoder.
        if !bytes.is_empty() {
            units.push(AccessUnit {
                sample,
                bytes: bytes.into(),
            });
        }
    }
    Ok(Some(units))
}
