//! From a decoded picture to the images that are wanted of it, and to those who wait for them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use codec::{CodecError, Picture, Rendition};
use media::{ColourDescription, DecodeIndex, Orientation};

use crate::core::Core;
use crate::error::{FrameError, FrameErrorCode};
use crate::fetch::pump;
use crate::schedule::{Claim, ImageKey, Purpose};
use crate::stats::{add, nanos_since};
use crate::ticket::{EncodedImage, Output};
use crate::video::Video;
use crate::worker::Worker;

/// A picture and what is wanted of it.
#[derive(Debug)]
pub(crate) struct Developing {
    pub(crate) video: Arc<Video>,
    pub(crate) colour: ColourDescription,
    pub(crate) claims: Vec<Claim>,
    pub(crate) sample: DecodeIndex,
    pub(crate) picture: Picture,
}

/// Pictures that wait for being encoded by a worker that has nothing else to do.
#[derive(Debug, Default)]
pub(crate) struct Developments {
    waiting: VecDeque<Developing>,
    /// Of the pictures that wait.
    bytes: usize,
    /// Workers that encode what others have decoded.
    at_work: usize,
}

impl Developments {
    /// What waits lets those who encode go on while a decoder is held up. More than one picture for
    /// each of them, as long as they are not larger than this: four of 1920×1080, 4:2:0, 8 bits.
    const MOST_BYTES: usize = 13 << 20;

    /// Whether a picture may be left to others, of whom `idle` have nothing to do. What nobody
    /// `asked` for makes no long queue: somebody may ask for something else.
    pub(crate) fn have_room(&self, picture: &Picture, idle: usize, asked: bool) -> bool {
        let takers = idle + self.at_work;
        let bytes = self.bytes.saturating_add(picture.byte_size());
        takers > 0 && (self.waiting.len() < takers || (asked && bytes <= Self::MOST_BYTES))
    }

    /// Leaves a picture to others.
    pub(crate) fn put(&mut self, work: Developing) {
        self.bytes = self.bytes.saturating_add(work.picture.byte_size());
        self.waiting.push_back(work);
    }

    /// A picture for a worker, who says when it is done with it.
    pub(crate) fn take(&mut self) -> Option<Developing> {
        let work = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(work.picture.byte_size());
        self.at_work += 1;
        Some(work)
    }

    /// A worker is done with what it took.
    pub(crate) fn done(&mut self) {
        self.at_work = self.at_work.saturating_sub(1);
    }
}

/// Makes the images, keeps them, and hands them out. Those who wait are answered even if making
/// an image panics.
///
/// Of one picture thousands may be wanted, each in another size or quality: before each but the
/// first it is asked whether it is still to be made now.
pub(crate) fn develop(core: &Arc<Core>, worker: &mut Worker, mut work: Developing) {
    let claims = std::mem::take(&mut work.claims);
    let answers = claims.into_iter().map(|claim| Made {
        core,
        work: &work,
        claim,
        result: Err(FrameError::new(
            FrameErrorCode::EncodeFailed,
            "the image was lost inside the server",
        )),
        nanos: (0, 0),
        left: false,
    });
    let mut answers: VecDeque<Made> = answers.collect();
    let (mut first, mut left) = (true, false);
    while let Some(mut made) = answers.pop_front() {
        if !first && !core.lock().schedule.is_to_be_made_now(made.claim.order) {
            made.left = true;
            left = true;
            continue;
        }
        first = false;
        made.result = if work.picture.is_damaged() {
            let why = "the decoder found the picture damaged";
            Err(FrameError::new(FrameErrorCode::DecodeFailed, why))
        } else {
            let image = made.encode(worker);
            image.map_err(|e| FrameError::new(FrameErrorCode::EncodeFailed, e.to_string()))
        };
    }
    if left {
        pump(core);
        core.wake.notify_all();
    }
}

struct Made<'a> {
    core: &'a Arc<Core>,
    work: &'a Developing,
    claim: Claim,
    result: Result<EncodedImage, FrameError>,
    /// Conversion and compression.
    nanos: (u64, u64),
    /// To another pass, or to nobody.
    left: bool,
}

impl Made<'_> {
    fn encode(&mut self, worker: &mut Worker) -> Result<EncodedImage, CodecError> {
        let Developing {
            video,
            colour,
            picture,
            ..
        } = self.work;
        let Output {
            width,
            height,
            quality,
            format,
            cover,
            as_coded,
        } = self.claim.output;
        let rendition = Rendition {
            quality: quality.unwrap_or(self.core.config.jpeg_quality),
            max_width: width,
            max_height: height,
            cover,
            format,
        };
        let orientation = match as_coded {
            true => Orientation::IDENTITY,
            false => video.index().orientation(),
        };
        let encoder = worker.encoder()?;
        let began = Instant::now();
        let converted = tracing::debug_span!("convert")
            .in_scope(|| encoder.convert(picture, *colour, orientation, rendition))?;
        self.nanos.0 = nanos_since(began);
        let began = Instant::now();
        let bytes = tracing::debug_span!("encode").in_scope(|| converted.compress())?;
        self.nanos.1 = nanos_since(began);
        Ok(EncodedImage {
            bytes: bytes.into(),
        })
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        let (core, work) = (self.core, self.work);
        let counters = &core.counters;
        let key = ImageKey {
            video: Arc::clone(work.video.key()),
            sample: work.sample.0,
            output: self.claim.output,
        };
        if let Ok(image) = &self.result {
            add(&counters.images_encoded, 1);
            counters.stages.convert.add(self.nanos.0);
            counters.stages.encode.add(self.nanos.1);
            // Before the order goes: who comes in between finds one or the other.
            core.caches.keep_image(&key, image);
        }
        let waiters = {
            let mut state = core.lock();
            let waiters = state.schedule.complete(self.claim.order);
            if !waiters.is_empty()
                && waiters.iter().all(|w| w.sink.is_none())
                && let Ok(image) = &self.result
            {
                add(&counters.images_harvested, 1);
                state.harvester.made(image.bytes.len());
            }
            waiters
        };
        for waiter in waiters {
            if let Some(sink) = &waiter.sink {
                let stages = &sink.cells().stages;
                stages.convert.add(self.nanos.0);
                stages.encode.add(self.nanos.1);
            }
            match (&self.result, waiter.purpose) {
                (Ok(image), Purpose::Preview) => core.preview(&waiter, work.sample, image.clone()),
                (Err(_), Purpose::Preview) => {}
                (result, Purpose::Exact) => core.answer(&waiter, result.clone()),
            }
        }
    }
}
