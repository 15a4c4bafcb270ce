//! Scaling a JPEG's planes down.
//!
//! Each sample of the smaller plane is a weighted mean of all samples that it covers, and some
//! around them (Lanczos, three lobes), so that fine patterns become grey and not coarse ones. All
//! planes are scaled by the same factors from the same corner: a chroma sample stays in the middle
//! of the luma samples that it belongs to, where an odd size leaves half of them outside, too.

use fast_image_resize::images::{
    TypedCroppedImage, TypedCroppedImageMut, TypedImage, TypedImageRef,
};
use fast_image_resize::pixels::U8;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use crate::CodecError;
use crate::planes::{Grid, PlanesBuf};
use crate::rendition::Layout;

/// Scales planes down. Keeps its buffers.
#[derive(Debug, Default)]
pub(crate) struct Scaler {
    resizer: Resizer,
    /// A chroma plane that is continued to the right and below.
    continued: Grid,
}

impl Scaler {
    /// `from`, cut and scaled to the layout's size, neither side of which is zero or larger than
    /// that of `from`.
    pub(crate) fn scale(
        &mut self,
        from: &PlanesBuf,
        layout: &Layout,
        to: &mut PlanesBuf,
    ) -> Result<(), CodecError> {
        let (width, height) = layout.size;
        let (left, above, shown_width, shown_height) = layout.source;
        to.reshape(width, height, from.subsampling());
        let (across, down) = (shown_width / width as f64, shown_height / height as f64);
        for plane in 0..3 {
            let source = from.plane_size(plane);
            let target = to.plane_size(plane);
            if source.0 == 0 || target.0 == 0 {
                continue;
            }
            let (Some(grid), Some(out)) = (from.planes.get(plane), to.planes.get_mut(plane)) else {
                continue;
            };
            let (sx, sy) = match plane {
                0 => (0, 0),
                _ => from.subsampling().shifts(),
            };
            // What the target covers, in the source's samples.
            let covered = |shown: f64, shift: u32, target: usize, factor: f64| match shift {
                0 => shown,
                _ => target as f64 * factor,
            };
            let corner = (left / f64::from(1 << sx), above / f64::from(1 << sy));
            let area = (
                covered(shown_width, sx, target.0, across),
                covered(shown_height, sy, target.1, down),
            );
            let needed = (
                ((corner.0 + area.0).ceil() as usize).max(source.0),
                ((corner.1 + area.1).ceil() as usize).max(source.1),
            );
            let area = (corner, area);
            if needed == source {
                resize(&mut self.resizer, grid, source, area, out, target)?;
            } else {
                continue_edges(grid, source, needed, &mut self.continued);
                resize(
                    &mut self.resizer,
                    &self.continued,
                    needed,
                    area,
                    out,
                    target,
                )?;
            }
        }
        to.pad();
        Ok(())
    }
}

/// `area`, a corner and a size, lies in the first `source` columns and rows of `grid`.
fn resize(
    resizer: &mut Resizer,
    grid: &Grid,
    source: (usize, usize),
    (corner, area): ((f64, f64), (f64, f64)),
    out: &mut Grid,
    target: (usize, usize),
) -> Result<(), CodecError> {
    let failed = |reason: String| CodecError::Scale { reason };
    let side = |v: usize| u32::try_from(v).map_err(|e| failed(e.to_string()));
    let (stride, rows) = (side(grid.stride)?, side(grid.height)?);
    let whole = TypedImageRef::<U8>::from_buffer(stride, rows, &grid.samples);
    let whole = whole.map_err(|e| failed(e.to_string()))?;
    let view = TypedCroppedImage::new(whole, 0, 0, side(source.0)?, side(source.1)?);
    let view = view.map_err(|e| failed(e.to_string()))?;
    let (stride, rows) = (side(out.stride)?, side(out.height)?);
    let whole = TypedImage::<U8>::from_buffer(stride, rows, &mut out.samples);
    let whole = whole.map_err(|e| failed(e.to_string()))?;
    let to = TypedCroppedImageMut::new(whole, 0, 0, side(target.0)?, side(target.1)?);
    let mut to = to.map_err(|e| failed(e.to_string()))?;
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
        .crop(corner.0, corner.1, area.0, area.1);
    resizer
        .resize_typed(&view, &mut to, &options)
        .map_err(|e| failed(e.to_string()))
}

/// Copies a plane and repeats its last column and row.
fn continue_edges(
    grid: &Grid,
    (width, height): (usize, usize),
    to: (usize, usize),
    out: &mut Grid,
) {
    out.reshape(to.0, to.1);
    for y in 0..to.1 {
        let from = grid.row(y.min(height - 1)).get(..width).unwrap_or(&[]);
        let last = from.last().copied().unwrap_or(0);
        let row = out.row_mut(y);
        row.fill(last);
        if let Some(row) = row.get_mut(..from.len()) {
            row.copy_from_slice(from);
        }
    }
}
