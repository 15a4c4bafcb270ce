//! The limit: what libavcodec alone, conversion and libjpeg-turbo take for the same pictures, in
//! this process, with everything read and planned before the clock runs.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::num::NonZero;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use codec::{HevcDecoder, ImageEncoder, Picture, Rendition, Threading};
use media::demux::{IndexBuilder, Step};
use media::graph::ReferenceGraph;
use media::sidecar::plain_start;
use media::{
    ColourDescription, DecodeIndex, Planner, PresentationIndex, Sample, VideoIndex, packet,
};

/// The quality of all images that are measured.
pub(crate) const QUALITY: u8 = 80;

/// One frame of a clip as clients and players name it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    /// Its place in presentation order, from 0, which is also the number in its mark.
    pub(crate) number: u32,
    /// Position of its sample in the file.
    pub(crate) offset: u64,
    /// Position of the sync sample where a player starts.
    pub(crate) irap_offset: u64,
}

/// A file in memory, with its index.
#[derive(Debug)]
pub(crate) struct Source {
    bytes: Bytes,
    index: VideoIndex,
    frames: Vec<Frame>,
}

/// What a decoder is given for one frame.
#[derive(Debug)]
pub(crate) struct Closure {
    /// Identity and bytes of each access unit.
    units: Vec<(i64, Vec<u8>)>,
    target: i64,
    colour: ColourDescription,
    rows_in_parallel: bool,
    ctb_rows: u32,
    /// Access units from the IRAP to the frame, which a player decodes.
    pub(crate) from_irap: usize,
}

impl Closure {
    /// Access units that the frame depends on, itself among them.
    pub(crate) fn len(&self) -> usize {
        self.units.len()
    }
}

impl Source {
    /// Reads the file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let bytes = Bytes::from(fs::read(path)?);
        let mut builder = IndexBuilder::new(bytes.len() as u64);
        builder.push(0, bytes.clone());
        let index = loop {
            match builder.step()? {
                Step::Finished(index) => break *index,
                Step::NeedsData(ranges) => {
                    for range in ranges {
                        builder.push(range.start, cut(&bytes, range)?);
                    }
                }
            }
        };
        let frames = (0..index.frame_count())
            .map(|number| frame(&index, number).context("a frame outside the index"))
            .collect::<Result<_>>()?;
        Ok(Self {
            bytes,
            index,
            frames,
        })
    }

    /// All frames in presentation order.
    pub(crate) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// What the frame depends on.
    pub(crate) fn closure(&self, number: u32) -> Result<Closure> {
        let target = self.sample_of(number)?;
        let start = plain_start(&self.index, target).context("no sync sample")?;
        let samples = self.samples(start.0..target.0 + 1)?;
        let graph =
            ReferenceGraph::of_samples(&self.index, samples.iter().map(|(s, d)| (*s, d.as_ref())));
        let planner = Planner::new(graph);
        let way = planner.way(&[], &[target]);
        ensure!(way.reached == [target], "frame {number} is not reached");
        let mut units = Vec::new();
        for (sample, sets) in way.next.iter().zip(planner.preludes(&[], &way.next)) {
            let at = samples.iter().find(|(s, _)| s.index == *sample);
            let (sample, data) = at.context("a sample before the IRAP")?;
            units.push(self.unit(sample, data, &sets)?);
        }
        let graph = planner.graph();
        let picture = graph.unit_of(target).and_then(|unit| graph.picture(unit));
        let in_stream = picture
            .context("a sample without a picture")?
            .sps
            .vui
            .colour;
        Ok(Closure {
            units,
            target: i64::from(target.0),
            colour: in_stream.or(self.container_colour()),
            rows_in_parallel: way.rows_in_parallel,
            ctb_rows: way.ctb_rows,
            from_irap: samples.len(),
        })
    }

    fn sample_of(&self, number: u32) -> Result<DecodeIndex> {
        let sample = self.index.decode_index(PresentationIndex(number));
        sample.with_context(|| format!("no frame {number}"))
    }

    fn samples(&self, run: Range<u32>) -> Result<Vec<(Sample, Bytes)>> {
        run.map(|i| {
            let sample = self
                .index
                .sample(DecodeIndex(i))
                .context("no such sample")?;
            Ok((sample, cut(&self.bytes, sample.range())?))
        })
        .collect()
    }

    fn unit(&self, sample: &Sample, data: &[u8], sets: &[Bytes]) -> Result<(i64, Vec<u8>)> {
        let mut unit = Vec::new();
        packet::append_nals(&mut unit, sets.iter().map(Bytes::as_ref));
        packet::append_sample(&mut unit, data, self.index.framing(sample), false)?;
        Ok((i64::from(sample.index.0), unit))
    }

    /// The first access units, so many, as a player decodes them.
    fn first(&self, count: u32) -> Result<Vec<(i64, Vec<u8>)>> {
        let mut sets = self.index.parameter_sets_before(DecodeIndex(0));
        let samples = self.samples(0..self.index.sample_count().min(count))?;
        let units = samples.iter().map(|(sample, data)| {
            let before = std::mem::take(&mut sets);
            self.unit(sample, data, &before)
        });
        units.collect()
    }

    fn container_colour(&self) -> ColourDescription {
        let description = self.index.descriptions().first();
        description.map(|d| d.colour).unwrap_or_default()
    }
}

fn frame(index: &VideoIndex, number: u32) -> Option<Frame> {
    let sample = index.decode_index(PresentationIndex(number))?;
    let start = plain_start(index, sample)?;
    Some(Frame {
        number,
        offset: index.sample(sample)?.offset,
        irap_offset: index.sample(start)?.offset,
    })
}

fn cut(bytes: &Bytes, range: Range<u64>) -> Result<Bytes> {
    let (from, to) = (usize::try_from(range.start)?, usize::try_from(range.end)?);
    ensure!(from <= to && to <= bytes.len(), "a range outside the file");
    Ok(bytes.slice(from..to))
}

/// How many cores a frame may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cores {
    /// One.
    One,
    /// All that this process may use.
    All,
}

/// Decoders and an encoder that are kept open.
#[derive(Debug)]
pub(crate) struct Limit {
    decoders: HashMap<Threading, HevcDecoder>,
    jpeg: ImageEncoder,
}

impl Limit {
    /// Opens them.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            decoders: HashMap::new(),
            jpeg: ImageEncoder::new()?,
        })
    }

    /// Decodes what the frame depends on, converts and encodes it. Threads are spread as exactness
    /// allows: over rows where the stream was coded for that, else over pictures.
    pub(crate) fn frame(
        &mut self,
        source: &Source,
        closure: &Closure,
        cores: Cores,
    ) -> Result<(Duration, Vec<u8>)> {
        let all = NonZero::new(self::cores()).unwrap_or(NonZero::<usize>::MIN);
        let threading = match cores {
            Cores::All if closure.rows_in_parallel => Threading::Slices(all),
            // One picture alone has nothing beside it.
            Cores::All if closure.len() > 1 => Threading::frames(all, closure.ctb_rows),
            _ => Threading::Single,
        };
        let decoder = match self.decoders.entry(threading) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(none) => none.insert(HevcDecoder::new(threading)?),
        };
        decoder.flush();
        let begin = Instant::now();
        let mut picture = None;
        let mut keep = |p: Picture| {
            if p.id() == closure.target {
                picture = Some(p);
            }
        };
        for (id, unit) in &closure.units {
            decoder.send(unit, *id, &mut keep)?;
        }
        decoder.finish(&mut keep)?;
        let picture = picture.context("the decoder gave no picture")?;
        let image = encode(&mut self.jpeg, source, &picture, closure.colour)?;
        Ok((begin.elapsed(), image))
    }
}

fn encode(
    jpeg: &mut ImageEncoder,
    source: &Source,
    picture: &Picture,
    colour: ColourDescription,
) -> Result<Vec<u8>> {
    let orientation = source.index.orientation();
    Ok(jpeg.encode(picture, colour, orientation, Rendition::full_size(QUALITY))?)
}

/// Frames per second of the whole machine when the first `count` frames of a clip are wanted: as
/// many threads as cores, each decoding them all from the start with a decoder of one thread,
/// converting and encoding every picture.
pub(crate) fn sequential(source: &Source, count: u32) -> Result<f64> {
    let units = source.first(count)?;
    let colour = source.closure(0)?.colour;
    let begin = Instant::now();
    let frames = on_all_cores(|| {
        let mut decoder = HevcDecoder::new(Threading::Single)?;
        let mut jpeg = ImageEncoder::new()?;
        let (mut count, mut failure) = (0usize, None);
        let mut take = |picture: Picture| match encode(&mut jpeg, source, &picture, colour) {
            Ok(_) => count += 1,
            Err(error) => failure = Some(error),
        };
        for (id, unit) in &units {
            decoder.send(unit, *id, &mut take)?;
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(count),
        }
    })?;
    Ok(frames as f64 / begin.elapsed().as_secs_f64())
}

/// Frames per second of the whole machine when random frames are wanted: as many threads as cores,
/// each taking closures one after the other, for about this long.
pub(crate) fn random(source: &Source, closures: &[Closure], time: Duration) -> Result<f64> {
    let next = AtomicUsize::new(0);
    let begin = Instant::now();
    let frames = on_all_cores(|| {
        let mut limit = Limit::new()?;
        let mut count = 0usize;
        while begin.elapsed() < time {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let closure = closures.get(at % closures.len().max(1));
            limit.frame(source, closure.context("no closures")?, Cores::One)?;
            count += 1;
        }
        Ok(count)
    })?;
    Ok(frames as f64 / begin.elapsed().as_secs_f64())
}

/// The sum of what one thread a core returns.
fn on_all_cores(one: impl Fn() -> Result<usize> + Sync) -> Result<usize> {
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores()).map(|_| scope.spawn(&one)).collect();
        let mut sum = 0;
        for worker in workers {
            match worker.join() {
                Ok(count) => sum += count?,
                Err(_) => bail!("a thread of the limit panicked"),
            }
        }
        Ok(sum)
    })
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}
