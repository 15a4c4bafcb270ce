//! What every frame of a video costs: a walk over its GOPs.
//!
//! The walk is made of windows. A window is read whole by the caller (its samples' bytes), and
//! reports the samples of one GOP; it begins one GOP earlier, since leading pictures may depend on
//! that.

use crate::closure::{Closures, Depth};
use crate::graph::UnitContent;
use crate::graph::{Picture, ReferenceGraph, Unreadable};
use crate::index::{Sample, VideoIndex};
use crate::order::DecodeIndex;
use crate::sidecar::plain_start;

/// Samples of one GOP that are looked at. The cost of closures grows with the square of the
/// GOP's length; what lies behind is left out, and [`Window::cut`] says so.
pub const MOST_GOP_SAMPLES: u32 = 4096;

/// A part of the walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// First sample to be read.
    pub first: DecodeIndex,
    /// First sample that is reported: the sync sample of the GOP, or the first sample of all.
    pub gop: DecodeIndex,
    /// Behind the last sample to be read and reported.
    pub end: DecodeIndex,
    /// Samples of the GOP that are left out, since it is longer than [`MOST_GOP_SAMPLES`].
    pub cut: u32,
}

/// The windows of a video, in decode order. Samples before the first sync sample have a window
/// too: they are reported, though nothing can be decoded there.
pub fn windows(index: &VideoIndex) -> Vec<Window> {
    let count = index.sample_count();
    let mut starts: Vec<DecodeIndex> = index.sync_samples().collect();
    if count > 0 && starts.first() != Some(&DecodeIndex(0)) {
        starts.insert(0, DecodeIndex(0));
    }
    let mut windows = Vec::with_capacity(starts.len());
    let mut before: Option<DecodeIndex> = None;
    for (place, &gop) in starts.iter().enumerate() {
        let next = starts.get(place.saturating_add(1)).map_or(count, |n| n.0);
        let end = next.min(gop.0.saturating_add(MOST_GOP_SAMPLES));
        // A GOP before that is too long itself is not read again for leading pictures.
        let first = before.filter(|b| end.saturating_sub(b.0) <= 2 * MOST_GOP_SAMPLES);
        windows.push(Window {
            first: first.unwrap_or(gop),
            gop,
            end: DecodeIndex(end),
            cut: next.saturating_sub(end),
        });
        before = Some(gop);
    }
    windows
}

impl Window {
    /// The samples to be read, in decode order.
    pub fn samples(&self, index: &VideoIndex) -> Vec<Sample> {
        (self.first.0..self.end.0)
            .filter_map(|i| index.sample(DecodeIndex(i)))
            .collect()
    }
}

/// One sample's report.
#[derive(Clone, Debug)]
pub struct FrameReport {
    /// The sample.
    pub sample: Sample,
    /// Its picture's headers, or why they are of no use.
    pub content: Content,
    /// Access units that are decoded for it, following active reference lists; `None` where it
    /// cannot be had, or only by decoding everything from its IRAP.
    pub closure: Option<u32>,
    /// The same, following whole reference picture sets.
    pub rps_closure: Option<u32>,
    /// Access units from where a plain decoder has to start, to the sample.
    pub prefix: u32,
}

/// What a sample holds.
#[derive(Clone, Debug)]
pub enum Content {
    /// A picture.
    Picture {
        /// Its headers.
        picture: Box<Picture>,
        /// The samples that its active reference lists name.
        references: Vec<DecodeIndex>,
    },
    /// No picture.
    Empty,
    /// Headers that cannot be read.
    Unreadable(Unreadable),
}

/// Reports the samples of a window's GOP. `data`: the bytes of [`Window::samples`], in order.
pub fn report<'a>(
    index: &VideoIndex,
    window: &Window,
    data: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<FrameReport> {
    let samples = window.samples(index);
    let graph = ReferenceGraph::of_samples(index, samples.iter().copied().zip(data));
    let active = Closures::new(&graph, Depth::Active);
    let rps = Closures::new(&graph, Depth::Rps);
    let size =
        |closures: &Closures<'_>, sample| closures.of(sample).map(|units| units.len() as u32);
    samples
        .into_iter()
        .filter(|s| s.index >= window.gop)
        .map(|sample| {
            let unit = graph.unit_of(sample.index);
            let unit = unit.and_then(|u| graph.units().get(u as usize));
            let content = match unit.map(|u| &u.content) {
                Some(UnitContent::Picture(p)) => Content::Picture {
                    references: p
                        .active_references
                        .iter()
                        .map(|&u| graph.sample_of(u))
                        .collect(),
                    picture: p.clone(),
                },
                Some(UnitContent::Unreadable(why)) => Content::Unreadable(why.clone()),
                Some(UnitContent::Empty) | None => Content::Empty,
            };
            let start = plain_start(index, sample.index).unwrap_or(sample.index);
            FrameReport {
                content,
                closure: size(&active, sample.index),
                rps_closure: size(&rps, sample.index),
                prefix: sample.index.0.saturating_sub(start.0).saturating_add(1),
                sample,
            }
        })
        .collect()
}

/// Sums over reports.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Totals {
    /// Samples.
    pub samples: u32,
    /// Samples with a closure.
    pub frames: u32,
    /// Sum of [`FrameReport::closure`].
    pub closure_sum: u64,
    /// Greatest closure.
    pub closure_max: u32,
    /// Sum of [`FrameReport::rps_closure`].
    pub rps_sum: u64,
    /// Sum of the prefixes of samples with a closure.
    pub prefix_sum: u64,
}

impl Totals {
    /// Adds one report.
    pub fn add(&mut self, report: &FrameReport) {
        self.samples = self.samples.saturating_add(1);
        if let Some(closure) = report.closure {
            self.frames = self.frames.saturating_add(1);
            self.closure_sum += u64::from(closure);
            self.closure_max = self.closure_max.max(closure);
            self.rps_sum += u64::from(report.rps_closure.unwrap_or(closure));
            self.prefix_sum += u64::from(report.prefix);
        }
    }

    fn mean(&self, sum: u64) -> f64 {
        sum as f64 / f64::from(self.frames.max(1))
    }

    /// Mean access units for a random frame.
    pub fn closure_mean(&self) -> f64 {
        self.mean(self.closure_sum)
    }

    /// The same, following whole reference picture sets.
    pub fn rps_mean(&self) -> f64 {
        self.mean(self.rps_sum)
    }

    /// Mean access units for a random frame when everything from the IRAP on is decoded.
    pub fn prefix_mean(&self) -> f64 {
        self.mean(self.prefix_sum)
    }
}
