//! What a random frame of a finished video costs, for the line after a conversion.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::Context as _;
use media::graph::ReferenceGraph;
use media::h265::ParameterSets;
use media::plan::{Depth, closure};
use media::{DecodeIndex, VideoIndex};

/// Samples of one GOP that are looked at; a longer one is measured by its beginning.
const GOP_LIMIT: u32 = 3000;

/// Access units that the server decodes for one frame, over all frames of a video.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct ClosureReport {
    /// Mean over all frames.
    pub(crate) mean: f64,
    /// The most expensive frame.
    pub(crate) max: u32,
}

/// Measures the reference closure of each frame of a local video; `None` where the headers of
/// none could be read.
pub(crate) fn closure_report(path: &Path, index: &VideoIndex) -> Option<ClosureReport> {
    let mut file = File::open(path).ok()?;
    let sync: Vec<DecodeIndex> = index.sync_samples().collect();
    let ends = sync
        .iter()
        .skip(1)
        .copied()
        .chain([DecodeIndex(index.sample_count())]);
    let (mut frames, mut sum, mut max) = (0u32, 0u64, 0u32);
    let mut before = None;
    for (&start, end) in sync.iter().zip(ends) {
        let end = DecodeIndex(end.0.min(start.0.saturating_add(GOP_LIMIT)));
        let own = graph(&mut file, index, start, end).ok()?;
        // Leading pictures may depend on the GOP before; its graph is only made for them.
        let mut wider = None;
        for target in (start.0..end.0).map(DecodeIndex) {
            let mut units = closure(&own, target, Depth::Active);
            if let (None, Some(before)) = (&units, before) {
                if wider.is_none() {
                    wider = graph(&mut file, index, before, end).ok();
                }
                units = wider
                    .as_ref()
                    .and_then(|g| closure(g, target, Depth::Active));
            }
            if let Some(units) = units {
                let size = u32::try_from(units.len()).unwrap_or(u32::MAX);
                frames += 1;
                sum += u64::from(size);
                max = max.max(size);
            }
        }
        before = Some(start);
    }
    (frames > 0).then(|| ClosureReport {
        mean: sum as f64 / f64::from(frames),
        max,
    })
}

/// The reference graph of the samples from `start` to before `end`.
fn graph(
    file: &mut File,
    index: &VideoIndex,
    start: DecodeIndex,
    end: DecodeIndex,
) -> anyhow::Result<ReferenceGraph> {
    let sets = ParameterSets::from_nals(&index.parameter_sets_before(start));
    let mut graph = ReferenceGraph::new(start, sets, start.0 == 0);
    for sample in (start.0..end.0).filter_map(|i| index.sample(DecodeIndex(i))) {
        let framing = index.descriptions().get(usize::from(sample.description));
        let framing = framing.context("a sample without description")?.framing;
        file.seek(SeekFrom::Start(sample.offset))?;
        let mut data = Vec::new();
        file.take(u64::from(sample.size)).read_to_end(&mut data)?;
        graph.push(&data, framing, &[]);
    }
    Ok(graph)
}
