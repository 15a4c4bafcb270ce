//! From a decoded picture to R'G'B', for those who measure: one rounding, from the samples as they
//! were decoded. Chroma is interpolated between its samples; they lie where H.265 puts them where
//! nothing is said, beside every other luma column and halfway between two rows.
//!
//! HDR and what else is not linear is tone-mapped first, as for JPEG.

use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use media::{ColourDescription, Orientation};

use crate::CodecError;
use crate::colour::{multiply, resolve};
use crate::convert::to_jpeg_planes;
use crate::libav::{Picture, Plane, Rows};
use crate::planes::PlanesBuf;
use crate::rendition::Layout;

/// Three samples a pixel; of 16 bits, the greater byte first.
pub(crate) struct Rgb {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) sixteen_bits: bool,
    pub(crate) bytes: Vec<u8>,
}

/// Where samples come from, and what they mean.
struct Planes<F> {
    width: usize,
    height: usize,
    /// Log2 of luma samples to a chroma sample.
    shifts: (u32, u32),
    chroma_size: (usize, usize),
    /// The sample of a plane in a column and a row.
    sample: F,
    /// R'G'B' from 0 to 1 are `factor` times the samples, plus `add`.
    factor: [[f32; 3]; 3],
    add: [f32; 3],
}

pub(crate) fn to_rgb(
    picture: &Picture,
    colour: ColourDescription,
    orientation: Orientation,
) -> Rgb {
    let resolved = resolve(colour, picture.chroma(), picture.height(), picture.is_gbr());
    let depth = picture.bit_depth();
    let linear = resolved
        .to_rgb()
        .filter(|_| resolved.affine(depth).is_some());
    let Some(matrix) = linear else {
        let mut planes = PlanesBuf::new();
        to_jpeg_planes(picture, colour, Orientation::IDENTITY, &mut planes);
        return of_jpeg_planes(&planes, orientation);
    };
    let (offset, scale) = resolved.quantisation(depth);
    // A sample, as 8-bit units.
    let unit = 256.0 / f64::from(1u32 << depth);
    let size = |plane: usize| match picture.plane(plane) {
        Some(Plane::U8(rows)) => (rows.width(), rows.height()),
        Some(Plane::U16(rows)) => (rows.width(), rows.height()),
        None => (0, 0),
    };
    let (factor, add) = folded(&matrix, offset, scale, unit);
    let mut planes = Planes {
        width: picture.width(),
        height: picture.height(),
        shifts: picture.chroma().shifts(),
        chroma_size: size(1),
        sample: (),
        factor,
        add,
    };
    if planes.chroma_size.0 == 0 {
        planes.shifts = (0, 0);
    }
    // Without chroma planes it is the middle, which the map takes for no colour.
    let none = (128.0 / unit) as f32;
    let sixteen_bits = depth > 8;
    match [0, 1, 2].map(|plane| picture.plane(plane)) {
        [Some(Plane::U8(y)), cb, cr] => {
            let chroma = [cb, cr].map(|plane| match plane {
                Some(Plane::U8(rows)) => Some(rows),
                _ => None,
            });
            let sample = |plane: usize, x: usize, row: usize| {
                at(&y, &chroma, plane, x, row).map_or(none, f32::from)
            };
            planes.with(sample).turned(orientation, sixteen_bits)
        }
        [Some(Plane::U16(y)), cb, cr] => {
            let chroma = [cb, cr].map(|plane| match plane {
                Some(Plane::U16(rows)) => Some(rows),
                _ => None,
            });
            let sample = |plane: usize, x: usize, row: usize| {
                at(&y, &chroma, plane, x, row).map_or(none, f32::from)
            };
            planes.with(sample).turned(orientation, sixteen_bits)
        }
        // `Picture` always has a first plane.
        [None, ..] => planes.with(|_, _, _| 0.0).turned(orientation, sixteen_bits),
    }
}

fn at<T: Copy>(
    luma: &Rows<'_, T>,
    chroma: &[Option<Rows<'_, T>>; 2],
    plane: usize,
    x: usize,
    row: usize,
) -> Option<T> {
    let rows = match plane.checked_sub(1) {
        None => Some(luma),
        Some(c) => chroma.get(c)?.as_ref(),
    };
    rows?.row(row).get(x).copied()
}

/// Offsets, scales and the matrix as one affine map of samples.
fn folded(
    matrix: &[[f64; 3]; 3],
    offset: [f64; 3],
    scale: [f64; 3],
    unit: f64,
) -> ([[f32; 3]; 3], [f32; 3]) {
    let mut scaled = [[0.0; 3]; 3];
    for (i, row) in scaled.iter_mut().enumerate() {
        for (j, v) in row.iter_mut().enumerate() {
            if i == j {
                *v = unit / scale.get(j).copied().unwrap_or(1.0);
            }
        }
    }
    let factor = multiply(matrix, &scaled);
    let add = factor.map(|row| {
        let terms = row.into_iter().zip(offset).map(|(f, o)| -f * o / unit);
        terms.sum::<f64>() as f32
    });
    (factor.map(|row| row.map(|v| v as f32)), add)
}

fn of_jpeg_planes(planes: &PlanesBuf, orientation: Orientation) -> Rgb {
    // Full-range BT.601.
    let matrix = [
        [1.0, 0.0, 1.402],
        [1.0, -0.344_136_286, -0.714_136_286],
        [1.0, 1.772, 0.0],
    ];
    let (factor, add) = folded(&matrix, [0.0, 128.0, 128.0], [255.0; 3], 1.0);
    let planes_of = Planes {
        width: planes.width(),
        height: planes.height(),
        shifts: planes.subsampling().shifts(),
        chroma_size: planes.plane_size(1),
        sample: |plane: usize, x: usize, y: usize| {
            planes.row(plane, y).get(x).map_or(128.0, |v| f32::from(*v))
        },
        factor,
        add,
    };
    planes_of.turned(orientation, false)
}

impl Planes<()> {
    fn with<F: Fn(usize, usize, usize) -> f32>(self, sample: F) -> Planes<F> {
        Planes {
            width: self.width,
            height: self.height,
            shifts: self.shifts,
            chroma_size: self.chroma_size,
            sample,
            factor: self.factor,
            add: self.add,
        }
    }
}

impl<F: Fn(usize, usize, usize) -> f32> Planes<F> {
    /// Chroma beside a luma sample.
    fn chroma(&self, plane: usize, x: usize, y: usize) -> f32 {
        let (sx, sy) = self.shifts;
        let (cols, rows) = self.chroma_size;
        // Without a plane, the closure says what stands for it.
        let (last_col, last_row) = (cols.saturating_sub(1), rows.saturating_sub(1));
        let get = |x: usize, y: usize| (self.sample)(plane, x.min(last_col), y.min(last_row));
        let column = |y: usize| match (sx, x % 2) {
            (0, _) => get(x, y),
            (_, 0) => get(x / 2, y),
            _ => (get(x / 2, y) + get(x / 2 + 1, y)) / 2.0,
        };
        match (sy, y % 2) {
            (0, _) => column(y),
            (_, 0) => 0.75 * column(y / 2) + 0.25 * column((y / 2).saturating_sub(1)),
            _ => 0.75 * column(y / 2) + 0.25 * column(y / 2 + 1),
        }
    }

    fn turned(&self, orientation: Orientation, sixteen_bits: bool) -> Rgb {
        let (w, h) = (self.width, self.height);
        let (width, height) = match orientation.swaps_axes() {
            true => (h, w),
            false => (w, h),
        };
        let most = if sixteen_bits { 65_535.0 } else { 255.0 };
        let sample_bytes = if sixteen_bits { 2 } else { 1 };
        let mut bytes = vec![0; width * height * 3 * sample_bytes];
        for y in 0..h {
            for x in 0..w {
                let samples = [
                    (self.sample)(0, x, y),
                    self.chroma(1, x, y),
                    self.chroma(2, x, y),
                ];
                let mirrored = if orientation.mirrored { w - 1 - x } else { x };
                let (column, row) = match orientation.quarter_turns % 4 {
                    0 => (mirrored, y),
                    1 => (h - 1 - y, mirrored),
                    2 => (w - 1 - mirrored, h - 1 - y),
                    _ => (y, w - 1 - mirrored),
                };
                let start = (row * width + column) * 3 * sample_bytes;
                let pixel = bytes.get_mut(start..start + 3 * sample_bytes);
                let colours = self.factor.iter().zip(self.add);
                for (to, (factor, add)) in (pixel.unwrap_or(&mut []))
                    .chunks_exact_mut(sample_bytes)
                    .zip(colours)
                {
                    let terms = factor.iter().zip(samples).map(|(f, s)| f * s);
                    let value = (terms.sum::<f32>() + add) * most;
                    let value = value.round().clamp(0.0, most) as u16;
                    let [high, low] = value.to_be_bytes();
                    match to {
                        [only] => *only = low,
                        [first, second] => (*first, *second) = (high, low),
                        _ => {}
                    }
                }
            }
        }
        Rgb {
            width,
            height,
            sixteen_bits,
            bytes,
        }
    }
}

impl Rgb {
    /// Scaled and cut as the layout says.
    pub(crate) fn scaled(self, layout: &Layout) -> Result<Self, CodecError> {
        let (width, height) = layout.size;
        if (width, height) == (self.width, self.height) {
            return Ok(self);
        }
        let failed = |reason: String| CodecError::Scale { reason };
        let side = |v: usize| u32::try_from(v).map_err(|e| failed(e.to_string()));
        let kind = match self.sixteen_bits {
            true => PixelType::U16x3,
            false => PixelType::U8x3,
        };
        let swap = |bytes: &mut [u8]| {
            if self.sixteen_bits {
                for pair in bytes.chunks_exact_mut(2) {
                    if let Ok(own) = <[u8; 2]>::try_from(&*pair) {
                        pair.copy_from_slice(&u16::from_be_bytes(own).to_ne_bytes());
                    }
                }
            }
        };
        let mut bytes = self.bytes;
        swap(&mut bytes);
        let (from_width, from_height) = (side(self.width)?, side(self.height)?);
        // Copied where it is not aligned for samples of 16 bits.
        let mut from = Image::new(from_width, from_height, kind);
        from.buffer_mut().copy_from_slice(&bytes);
        let mut to = Image::new(side(width)?, side(height)?, kind);
        let (x, y, w, h) = layout.source;
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
            .crop(x, y, w, h);
        Resizer::new()
            .resize(&from, &mut to, &options)
            .map_err(|e| failed(e.to_string()))?;
        let mut bytes = to.into_vec();
        swap(&mut bytes);
        Ok(Self {
            width,
            height,
            sixteen_bits: self.sixteen_bits,
            bytes,
        })
    }
}
