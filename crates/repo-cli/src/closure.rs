//! What the frames of a video cost: a walk over its GOPs.

use engine::catalog::IndexedObject;
use media::Sample;
use media::survey::{self, FrameReport, Totals, Window};

/// Access units that the server decodes for one frame, over all frames of a video.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct ClosureReport {
    /// Mean over all frames.
    pub(crate) mean: f64,
    /// The most expensive frame.
    pub(crate) max: u32,
}

/// Measures the reference closure of each frame; `None` where the headers of none can be read.
pub(crate) async fn closure_report(opened: &IndexedObject) -> Option<ClosureReport> {
    let mut totals = Totals::default();
    for window in survey::windows(&opened.index) {
        for report in read_window(opened, &window).await.ok()? {
            totals.add(&report);
        }
    }
    (totals.frames > 0).then(|| ClosureReport {
        mean: totals.closure_mean(),
        max: totals.closure_max,
    })
}

/// Reads a window's samples and reports those of its GOP.
pub(crate) async fn read_window(
    opened: &IndexedObject,
    window: &Window,
) -> anyhow::Result<Vec<FrameReport>> {
    let samples = window.samples(&opened.index);
    let ranges: Vec<_> = samples.iter().map(Sample::range).collect();
    let data = opened.object.read_ranges(&ranges).await?;
    Ok(survey::report(
        &opened.index,
        window,
        data.iter().map(AsRef::as_ref),
    ))
}
