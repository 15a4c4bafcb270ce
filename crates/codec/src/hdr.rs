//! What is not affine: HDR (PQ, HLG) tone-mapped to SDR, ICtCp, constant luminance.
//!
//! [`Display`] computes the map for one colour, exactly and slowly. [`Table`] holds it on a grid
//! of 33×65×65 points of Y, Cb, Cr, and a picture is interpolated between them. Tables are kept
//! for all threads of the process.

use std::sync::{Arc, Mutex, PoisonError};

use crate::colour::{
    BT709, Matrix, Matrix3, Resolved, Transfer, apply, invert, multiply, rgb_to_jpeg,
};
use crate::convert::{BAYER, FRACTION, Sample, TypedPlanes};
use crate::orient::{RowSink, Turn};
use crate::planes::PlanesBuf;

/// The brightest that is told apart from white, cd/m²; also the display that HLG is rendered for
/// (BT.2100, table 5).
const HDR_PEAK: f64 = 1000.0;
/// White of the SDR display that BT.2446 maps to, cd/m².
const SDR_PEAK: f64 = 100.0;
/// The SDR display's gamma (BT.1886): the result is the signal that an SDR camera would have
/// given for it, as every SDR stream is passed through.
const SDR_GAMMA: f64 = 2.4;

/// Maps one colour of the stream to one of the JPEG.
struct Display {
    resolved: Resolved,
    offset: [f64; 3],
    scale: [f64; 3],
    /// Linear light in the stream's primaries to those of BT.709.
    to_bt709: Matrix3,
    /// Luminance of linear light in the stream's primaries.
    luminance: [f64; 3],
    to_jpeg: Matrix3,
}

impl Display {
    fn new(resolved: &Resolved, bit_depth: u8) -> Self {
        let (offset, scale) = resolved.quantisation(bit_depth);
        let xyz = resolved.primaries.to_xyz();
        Self {
            resolved: *resolved,
            offset,
            scale,
            to_bt709: multiply(&invert(&BT709.to_xyz()), &xyz),
            luminance: xyz[1],
            to_jpeg: rgb_to_jpeg(),
        }
    }

    /// From samples, multiplied by 2^(8 − bit depth), to the JPEG's samples, not rounded.
    fn map(&self, samples: [f64; 3]) -> [f64; 3] {
        let mut planes = samples;
        for ((v, offset), scale) in planes.iter_mut().zip(self.offset).zip(self.scale) {
            *v = (*v - offset) / scale;
        }
        let rgb = self.to_sdr(planes).map(|v| v.clamp(0.0, 1.0));
        let [y, cb, cr] = apply(&self.to_jpeg, rgb);
        [255.0 * y, 128.0 + 255.0 * cb, 128.0 + 255.0 * cr]
    }

    /// From normalised planes to gamma-coded R', G', B' for an SDR display.
    fn to_sdr(&self, [y, c1, c2]: [f64; 3]) -> [f64; 3] {
        let transfer = self.resolved.transfer;
        let linear = match self.resolved.matrix {
            Matrix::ConstantLuminance { kr, kb } => {
                let coded = constant_luminance(y, c1, c2, kr, kb, transfer);
                if transfer == Transfer::Sdr {
                    return coded;
                }
                coded.map(|v| to_linear(v, transfer))
            }
            Matrix::ICtCp => ictcp(y, c1, c2, transfer),
            _ => {
                // The other matrices are linear.
                let coded = self
                    .resolved
                    .to_rgb()
                    .map_or([y; 3], |m| apply(&m, [y, c1, c2]));
                coded.map(|v| to_linear(v, transfer))
            }
        };
        self.tone_map(linear)
    }

    /// From linear light (PQ: 1 is 10 000 cd/m²; HLG: scene light) to the SDR display's signal.
    fn tone_map(&self, linear: [f64; 3]) -> [f64; 3] {
        let nits = match self.resolved.transfer {
            Transfer::Hlg => {
                // The OOTF of BT.2100 for a display of 1000 cd/m²: system gamma 1.2.
                let [r, g, b] = self.luminance;
                let scene = r * linear[0] + g * linear[1] + b * linear[2];
                let gain = HDR_PEAK * scene.max(0.0).powf(0.2);
                linear.map(|v| v * gain)
            }
            _ => linear.map(|v| v * 10000.0),
        };
        // The curve is applied to the largest component and all are scaled alike, so that hue and
        // saturation stay. What is more saturated than BT.709 can show is cut off at its border.
        let rgb = apply(&self.to_bt709, nits);
        let brightest = rgb.iter().fold(0.0f64, |a, &b| a.max(b));
        let gain = if brightest > 0.0 {
            compress(brightest) / brightest
        } else {
            0.0
        };
        rgb.map(|v| (v * gain).clamp(0.0, 1.0).powf(1.0 / SDR_GAMMA))
    }
}

/// The curve of ITU-R BT.2446-1, method A (3.2), from 0 … [`HDR_PEAK`] to 0 … [`SDR_PEAK`]; both
/// are linear light, in cd/m² and relative to white.
fn compress(nits: f64) -> f64 {
    let rho = |peak: f64| 1.0 + 32.0 * (peak / 10000.0).powf(1.0 / SDR_GAMMA);
    let (hdr, sdr) = (rho(HDR_PEAK), rho(SDR_PEAK));
    let y = (nits / HDR_PEAK).clamp(0.0, 1.0).powf(1.0 / SDR_GAMMA);
    let p = (1.0 + (hdr - 1.0) * y).ln() / hdr.ln();
    let c = if p <= 0.7399 {
        1.0770 * p
    } else if p < 0.9909 {
        -1.1510 * p * p + 2.7811 * p - 0.6302
    } else {
        0.5 * p + 0.5
    };
    ((sdr.powf(c) - 1.0) / (sdr - 1.0)).powf(SDR_GAMMA)
}

/// SMPTE ST 2084, signal to light; 1 is 10 000 cd/m².
fn to_linear_pq(signal: f64) -> f64 {
    let p = signal.max(0.0).powf(1.0 / PQ_M2);
    ((p - PQ_C1).max(0.0) / (PQ_C2 - PQ_C3 * p)).powf(1.0 / PQ_M1)
}

fn from_linear_pq(light: f64) -> f64 {
    let p = light.max(0.0).powf(PQ_M1);
    ((PQ_C1 + PQ_C2 * p) / (1.0 + PQ_C3 * p)).powf(PQ_M2)
}

const PQ_M1: f64 = 2610.0 / 16384.0;
const PQ_M2: f64 = 2523.0 / 4096.0 * 128.0;
const PQ_C1: f64 = 3424.0 / 4096.0;
const PQ_C2: f64 = 2413.0 / 4096.0 * 32.0;
const PQ_C3: f64 = 2392.0 / 4096.0 * 32.0;

const HLG_A: f64 = 0.178_832_77;
const HLG_B: f64 = 0.284_668_92;
const HLG_C: f64 = 0.559_910_73;

/// Signal to linear light: display light for PQ, scene light for HLG and SDR.
fn to_linear(signal: f64, transfer: Transfer) -> f64 {
    let v = signal.clamp(0.0, 1.0);
    match transfer {
        Transfer::Pq => to_linear_pq(v),
        Transfer::Hlg if v <= 0.5 => v * v / 3.0,
        Transfer::Hlg => (((v - HLG_C) / HLG_A).exp() + HLG_B) / 12.0,
        Transfer::Sdr if v < 4.5 * 0.018_053_968_510_807 => v / 4.5,
        Transfer::Sdr => ((v + 0.099_296_826_809_44) / 1.099_296_826_809_44).powf(1.0 / 0.45),
    }
}

/// The inverse of [`to_linear`].
fn from_linear(light: f64, transfer: Transfer) -> f64 {
    let v = light.clamp(0.0, 1.0);
    match transfer {
        Transfer::Pq => from_linear_pq(v),
        Transfer::Hlg if v <= 1.0 / 12.0 => (3.0 * v).sqrt(),
        Transfer::Hlg => HLG_A * (12.0 * v - HLG_B).ln() + HLG_C,
        Transfer::Sdr if v < 0.018_053_968_510_807 => 4.5 * v,
        Transfer::Sdr => 1.099_296_826_809_44 * v.powf(0.45) - 0.099_296_826_809_44,
    }
}

/// BT.2020 constant luminance (H.273, equations 62 to 67) to R', G', B'.
fn constant_luminance(y: f64, cb: f64, cr: f64, kr: f64, kb: f64, t: Transfer) -> [f64; 3] {
    let part = |c: f64, k: f64| {
        // The largest differences below and above zero.
        let (below, above) = (from_linear(1.0 - k, t), 1.0 - from_linear(k, t));
        y + 2.0 * c * if c < 0.0 { below } else { above }
    };
    let (b, r) = (part(cb, kb), part(cr, kr));
    let [ly, lr, lb] = [y, r, b].map(|v| to_linear(v, t));
    let g = from_linear((ly - kr * lr - kb * lb) / (1.0 - kr - kb), t);
    [r, g, b]
}

/// BT.2100 ICtCp to linear R, G, B of BT.2020.
fn ictcp(i: f64, ct: f64, cp: f64, transfer: Transfer) -> [f64; 3] {
    let from_lms = match transfer {
        Transfer::Hlg => [
            [2048.0, 2048.0, 0.0],
            [3625.0, -7465.0, 3840.0],
            [9500.0, -9212.0, -288.0],
        ],
        _ => [
            [2048.0, 2048.0, 0.0],
            [6610.0, -13613.0, 7003.0],
            [17933.0, -17390.0, -543.0],
        ],
    };
    let to_lms = [
        [1688.0, 2146.0, 262.0],
        [683.0, 2951.0, 462.0],
        [99.0, 309.0, 3688.0],
    ];
    let lms = apply(&invert(&from_lms), [i, ct, cp].map(|v| v * 4096.0));
    apply(
        &invert(&to_lms),
        lms.map(|v| to_linear(v, transfer) * 4096.0),
    )
}

/// Cells of the grid along Y.
const CELLS: usize = 32;
/// Points along Y.
const POINTS: usize = CELLS + 1;
/// Cells along Cb and Cr. The map bends most there; few of them are met in one picture.
const CHROMA_CELLS: usize = 64;
/// Points along Cb and Cr.
const CHROMA_POINTS: usize = CHROMA_CELLS + 1;

/// The map on a grid. All values are those of the JPEG times 64.
pub(crate) struct Table {
    bit_depth: u32,
    /// Luma, by Cb (slow) and Cr: for each cell along Y, its lower value in the low and its upper
    /// value in the high 32 bits.
    luma: Vec<[u64; CELLS]>,
    /// Chroma, by Cb (slow) and Cr: for each point along Y, Cb in the low and Cr in the high
    /// 32 bits.
    chroma: Vec<[u64; POINTS]>,
}

impl Table {
    fn new(resolved: &Resolved, bit_depth: u8) -> Self {
        let display = Display::new(resolved, bit_depth);
        let unit = f64::from(1u32 << FRACTION);
        let fixed = |v: f64| (v * unit).round().clamp(0.0, 255.0 * unit) as u64;
        let (step, chroma_step) = (256.0 / CELLS as f64, 256.0 / CHROMA_CELLS as f64);
        let (mut luma, mut chroma) = (Vec::new(), Vec::new());
        let places = (0..CHROMA_POINTS).flat_map(|b| (0..CHROMA_POINTS).map(move |r| (b, r)));
        for (cb, cr) in places {
            let (cb, cr) = (cb as f64 * chroma_step, cr as f64 * chroma_step);
            let points: [[u64; 3]; POINTS] =
                std::array::from_fn(|y| display.map([y as f64 * step, cb, cr]).map(fixed));
            let mut next = points.iter().skip(1);
            let mut curve = [0; CELLS];
            for (out, point) in curve.iter_mut().zip(&points) {
                *out = point[0] | next.next().map_or(0, |p| p[0]) << 32;
            }
            luma.push(curve);
            chroma.push(points.map(|p| p[1] | p[2] << 32));
        }
        Self {
            bit_depth: u32::from(bit_depth),
            luma,
            chroma,
        }
    }
}

/// The table for these colours, made on first use.
pub(crate) fn table(resolved: &Resolved, bit_depth: u8) -> Arc<Table> {
    /// More kinds of HDR than one server meets; a table takes 2.2 MB.
    const KEPT: usize = 8;
    static TABLES: Mutex<Vec<(Resolved, u8, Arc<Table>)>> = Mutex::new(Vec::new());
    let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    let known = tables
        .iter()
        .find(|(r, depth, _)| r == resolved && *depth == bit_depth);
    if let Some((_, _, table)) = known {
        return Arc::clone(table);
    }
    let table = Arc::new(Table::new(resolved, bit_depth));
    if tables.len() >= KEPT {
        tables.remove(0);
    }
    tables.push((*resolved, bit_depth, Arc::clone(&table)));
    table
}

/// Cell and way through it, in 32nds, along Cb or Cr.
#[inline(always)]
fn chroma_place<T: Sample>(sample: T, bit_depth: u32) -> (usize, u64) {
    let v = (sample.value() << (16 - bit_depth)) & 0xffff;
    ((v >> 10) as usize, u64::from((v >> 5) & 31))
}

/// Cell and way through it, in 2048ths, along Y, for a sample of 16 bits.
#[inline(always)]
fn split(sixteen_bits: u32) -> (usize, u32) {
    let v = sixteen_bits & 0xffff;
    ((v >> 11) as usize, v & 0x7ff)
}

/// The four grid lines around a chroma sample, with their weights (sum 1024).
struct Corner<'a> {
    luma: [&'a [u64; CELLS]; 4],
    chroma: [&'a [u64; POINTS]; 4],
    weight: [u64; 4],
}

impl Table {
    #[inline(always)]
    fn corner<T: Sample>(&self, cb: T, cr: T) -> Option<Corner<'_>> {
        let (b, fb) = chroma_place(cb, self.bit_depth);
        let (r, fr) = chroma_place(cr, self.bit_depth);
        let at = b * CHROMA_POINTS + r;
        let luma = self.luma.get(at..at + CHROMA_POINTS + 2)?;
        let chroma = self.chroma.get(at..at + CHROMA_POINTS + 2)?;
        Some(Corner {
            luma: [
                luma.first()?,
                luma.get(1)?,
                luma.get(CHROMA_POINTS)?,
                luma.get(CHROMA_POINTS + 1)?,
            ],
            chroma: [
                chroma.first()?,
                chroma.get(1)?,
                chroma.get(CHROMA_POINTS)?,
                chroma.get(CHROMA_POINTS + 1)?,
            ],
            weight: [
                (32 - fb) * (32 - fr),
                (32 - fb) * fr,
                fb * (32 - fr),
                fb * fr,
            ],
        })
    }
}

/// The two values between which a sample lies on its way through a cell, times 1024.
#[derive(Clone, Copy)]
struct Ends {
    low: u32,
    high: u32,
}

impl Ends {
    /// The value times 64, `way` 2048ths from the lower end.
    #[inline(always)]
    fn at(self, way: u32) -> i16 {
        (((self.low >> 6) * (2048 - way) + (self.high >> 6) * way) >> 15) as i16
    }
}

impl Corner<'_> {
    #[inline(always)]
    fn luma(&self, cell: usize) -> Ends {
        let mut sum = 0;
        for (curve, weight) in self.luma.iter().zip(self.weight) {
            // Both halves at once: each stays below 2^24.
            sum += curve.get(cell).copied().unwrap_or(0) * weight;
        }
        Ends {
            low: sum as u32,
            high: (sum >> 32) as u32,
        }
    }

    #[inline(always)]
    fn chroma(&self, cell: usize) -> (Ends, Ends) {
        let (mut low, mut high) = (0, 0);
        for (curve, weight) in self.chroma.iter().zip(self.weight) {
            low += curve.get(cell).copied().unwrap_or(0) * weight;
            high += curve.get(cell + 1).copied().unwrap_or(0) * weight;
        }
        (
            Ends {
                low: low as u32,
                high: high as u32,
            },
            Ends {
                low: (low >> 32) as u32,
                high: (high >> 32) as u32,
            },
        )
    }
}

/// Rows of the JPEG's planes for one row of chroma.
#[derive(Default)]
struct RowBuffers {
    luma: [Vec<u8>; 2],
    cb: Vec<u8>,
    cr: Vec<u8>,
}

/// Converts all planes. Luma takes the chroma sample that covers it; chroma takes the mean of the
/// luma samples that it covers.
pub(crate) fn convert<T: Sample>(
    p: &TypedPlanes<'_, T>,
    table: &Table,
    turn: Turn,
    out: &mut PlanesBuf,
) {
    let (width, height) = (p.luma.width(), p.luma.height());
    let [y_grid, cb_grid, cr_grid] = &mut out.planes;
    let [y_strip, cb_strip, cr_strip] = &mut out.strips;
    let mut y_sink = RowSink::new(y_grid, y_strip, turn, (width, height));
    let widen = 16 - table.bit_depth;
    let Some((cb_rows, cr_rows)) = p.chroma else {
        // Grey: the line of the grid where both differences are zero.
        let Some(curve) = table
            .luma
            .get(CHROMA_CELLS / 2 * CHROMA_POINTS + CHROMA_CELLS / 2)
        else {
            return;
        };
        let corner = Corner {
            luma: [curve; 4],
            chroma: [&[0; POINTS]; 4],
            weight: [256; 4],
        };
        for (y, row) in p.luma.iter().enumerate() {
            let dither = dither_row(y, 0);
            y_sink.row(|to| {
                for ((to, s), d) in to.iter_mut().zip(row).zip(dither.iter().cycle()) {
                    let (cell, way) = split(s.value() << widen);
                    *to = quantise(corner.luma(cell).at(way), *d);
                }
            });
        }
        return;
    };
    let size = (cb_rows.width(), cb_rows.height());
    let mut cb_sink = RowSink::new(cb_grid, cb_strip, turn, size);
    let mut cr_sink = RowSink::new(cr_grid, cr_strip, turn, size);
    let (sx, sy) = p.subsampling.shifts();
    let mut rows = RowBuffers {
        luma: [vec![0; width + 1], vec![0; width + 1]],
        cb: vec![0; size.0],
        cr: vec![0; size.0],
    };
    for (j, (cb, cr)) in cb_rows.iter().zip(cr_rows.iter()).enumerate() {
        let y = j << sy;
        let upper = p.luma.row(y);
        let lower = if sy == 1 && y + 1 < height {
            Some(p.luma.row(y + 1))
        } else {
            None
        };
        let dithers = [dither_row(y, 0), dither_row(y + 1, 0)];
        let chroma_dithers = [dither_row(j, 1), dither_row(j, 2)];
        if sx == 1 {
            convert_row::<T, 2>(
                table,
                [cb, cr],
                [upper, lower.unwrap_or(upper)],
                &dithers,
                &chroma_dithers,
                &mut rows,
            );
        } else {
            convert_row::<T, 1>(
                table,
                [cb, cr],
                [upper, lower.unwrap_or(upper)],
                &dithers,
                &chroma_dithers,
                &mut rows,
            );
        }
        let [first, second] = &rows.luma;
        y_sink.row(|to| copy(first, to));
        if lower.is_some() {
            y_sink.row(|to| copy(second, to));
        }
        cb_sink.row(|to| copy(&rows.cb, to));
        cr_sink.row(|to| copy(&rows.cr, to));
    }
}

fn copy(from: &[u8], to: &mut [u8]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}

fn dither_row(y: usize, plane: usize) -> [i16; 8] {
    let mut row = BAYER.get((y + plane * 3) & 7).copied().unwrap_or_default();
    row.rotate_left(plane * 5 % 8);
    row
}

#[inline(always)]
fn quantise(value: i16, dither: i16) -> u8 {
    ((value + dither) >> FRACTION).clamp(0, 255) as u8
}

/// One row of chroma with the two rows of luma beside it (the same one twice where chroma is not
/// halved vertically); `N` luma samples for each chroma sample along the row.
fn convert_row<T: Sample, const N: usize>(
    table: &Table,
    [cb, cr]: [&[T]; 2],
    [upper, lower]: [&[T]; 2],
    dithers: &[[i16; 8]; 2],
    [cb_dither, cr_dither]: &[[i16; 8]; 2],
    rows: &mut RowBuffers,
) {
    let widen = 16 - table.bit_depth;
    let [first, second] = &mut rows.luma;
    let out = first.chunks_mut(N).zip(second.chunks_mut(N));
    let outputs = out.zip(rows.cb.iter_mut().zip(rows.cr.iter_mut()));
    // The last chunk of an odd row is short.
    let inputs = upper.chunks(N).zip(lower.chunks(N)).zip(cb.iter().zip(cr));
    for (i, (((first, second), (cb_out, cr_out)), ((upper, lower), (cb, cr)))) in
        outputs.zip(inputs).enumerate()
    {
        let Some(corner) = table.corner(*cb, *cr) else {
            continue;
        };
        let (mut sum, mut count) = (0, 0);
        // Most often all samples lie in one cell.
        let (mut cell, mut ends) = (usize::MAX, Ends { low: 0, high: 0 });
        for (row, (out, samples)) in [(first, upper), (second, lower)].into_iter().enumerate() {
            let Some(dither) = dithers.get(row) else {
                continue;
            };
            for (k, (to, s)) in out.iter_mut().zip(samples).enumerate() {
                let v = s.value() << widen;
                sum += v;
                count += 1;
                let (its_cell, way) = split(v);
                if its_cell != cell {
                    (cell, ends) = (its_cell, corner.luma(its_cell));
                }
                let d = dither.get((i * N + k) & 7).copied().unwrap_or(0);
                *to = quantise(ends.at(way), d);
            }
        }
        let mean = if count == 4 {
            sum >> 2
        } else {
            sum / count.max(1)
        };
        let (cell, way) = split(mean);
        let (b, r) = corner.chroma(cell);
        let (b, r) = (b.at(way), r.at(way));
        *cb_out = quantise(b, cb_dither.get(i & 7).copied().unwrap_or(0));
        *cr_out = quantise(r, cr_dither.get(i & 7).copied().unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use media::ColourDescription;

    use super::*;
    use crate::Chroma;
    use crate::colour::resolve;

    const PQ: u8 = 16;
    const HLG: u8 = 18;

    fn hdr(transfer: u8, matrix: u8) -> Resolved {
        let colour = ColourDescription {
            primaries: 9,
            transfer,
            matrix,
            full_range: Some(false),
        };
        resolve(colour, Chroma::C420, 1080, false)
    }

    fn near(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() < tolerance, "{a} for {b}");
    }

    #[test]
    fn transfer_functions_by_the_values_of_the_standards() {
        // ST 2084: 0.508 is 100 cd/m², 0.581 is 203, 0.752 is 1000 (BT.2408, table 1).
        near(to_linear_pq(0.5081), 0.01, 2e-5);
        near(to_linear_pq(0.5807), 0.0203, 2e-5);
        near(to_linear_pq(0.7518), 0.1, 1e-4);
        near(to_linear_pq(1.0), 1.0, 1e-9);
        // BT.2100 HLG: half signal is a twelfth of scene light; 0.75 gives 203 of 1000 cd/m².
        near(to_linear(0.5, Transfer::Hlg), 1.0 / 12.0, 1e-9);
        near(
            1000.0 * to_linear(0.75, Transfer::Hlg).powf(1.2),
            203.0,
            1.0,
        );
        near(to_linear(1.0, Transfer::Hlg), 1.0, 1e-6);
        for transfer in [Transfer::Pq, Transfer::Hlg, Transfer::Sdr] {
            for i in 0..=100 {
                let v = f64::from(i) / 100.0;
                near(from_linear(to_linear(v, transfer), transfer), v, 1e-6);
            }
        }
    }

    #[test]
    fn the_curve_rises_from_black_to_white() {
        near(compress(0.0), 0.0, 1e-12);
        near(compress(1000.0), 1.0, 1e-9);
        near(compress(4000.0), 1.0, 1e-9);
        let curve: Vec<f64> = (0..=1000).map(|v| compress(f64::from(v))).collect();
        // The pieces of BT.2446 meet to within their four digits.
        assert!(curve.windows(2).all(|w| w[1] > w[0]));
        // Graphics white comes out between two thirds and three quarters of the signal.
        near(compress(203.0).powf(1.0 / 2.4), 0.69, 0.01);
    }

    #[test]
    fn greys_stay_grey_and_in_order() {
        for (transfer, matrix) in [(PQ, 9), (HLG, 9), (PQ, 14), (HLG, 14), (PQ, 10), (HLG, 10)] {
            let display = Display::new(&hdr(transfer, matrix), 10);
            let mut last = -1.0;
            for code in 64..=940 {
                let [y, cb, cr] = display.map([f64::from(code) / 4.0, 128.0, 128.0]);
                near(cb, 128.0, 0.05);
                near(cr, 128.0, 0.05);
                assert!(
                    y > last - 1e-6,
                    "{transfer} {matrix}: {code} is darker than the one before"
                );
                last = y;
            }
            near(last, 255.0, 0.1);
        }
    }

    /// H.273's own direction, from R, G, B to Y, Cb, Cr.
    #[test]
    fn constant_luminance_is_the_inverse_of_its_definition() {
        let (kr, kb) = (0.2627, 0.0593);
        for t in [Transfer::Sdr, Transfer::Pq, Transfer::Hlg] {
            for rgb in [
                [1.0, 0.0, 0.0],
                [0.0, 1.0, 0.0],
                [0.0, 0.0, 1.0],
                [0.2, 0.5, 0.9],
                [1.0; 3],
            ] {
                let coded = rgb.map(|v| from_linear(v, t));
                let y = from_linear(kr * rgb[0] + (1.0 - kr - kb) * rgb[1] + kb * rgb[2], t);
                let difference = |coded: f64, k: f64| {
                    let d = coded - y;
                    let (n, p) = (from_linear(1.0 - k, t), 1.0 - from_linear(k, t));
                    if d < 0.0 {
                        d / (2.0 * n)
                    } else {
                        d / (2.0 * p)
                    }
                };
                let (cb, cr) = (difference(coded[2], kb), difference(coded[0], kr));
                let back = constant_luminance(y, cb, cr, kr, kb, t);
                for (a, b) in back.into_iter().zip(coded) {
                    near(a, b, 1e-3);
                }
            }
        }
        // The numbers that BT.2020 prints for its own curve: 1.9404, 1.5816, 1.7184, 0.9936.
        let t = Transfer::Sdr;
        near(2.0 * from_linear(1.0 - kb, t), 1.9404, 5e-4);
        near(2.0 - 2.0 * from_linear(kb, t), 1.5816, 5e-4);
        near(2.0 * from_linear(1.0 - kr, t), 1.7184, 5e-4);
        near(2.0 - 2.0 * from_linear(kr, t), 0.9936, 5e-4);
    }

    /// BT.2100's own direction, from R, G, B to I, Ct, Cp.
    #[test]
    fn ictcp_is_the_inverse_of_its_definition() {
        for t in [Transfer::Pq, Transfer::Hlg] {
            for [r, g, b] in [[0.1, 0.02, 0.3], [0.05; 3], [0.9, 0.4, 0.0]] {
                let l = (1688.0 * r + 2146.0 * g + 262.0 * b) / 4096.0;
                let m = (683.0 * r + 2951.0 * g + 462.0 * b) / 4096.0;
                let s = (99.0 * r + 309.0 * g + 3688.0 * b) / 4096.0;
                let [l, m, s] = [l, m, s].map(|v: f64| from_linear(v, t));
                let (ct, cp) = if t == Transfer::Pq {
                    (
                        6610.0 * l - 13613.0 * m + 7003.0 * s,
                        17933.0 * l - 17390.0 * m - 543.0 * s,
                    )
                } else {
                    (
                        3625.0 * l - 7465.0 * m + 3840.0 * s,
                        9500.0 * l - 9212.0 * m - 288.0 * s,
                    )
                };
                let back = ictcp(0.5 * l + 0.5 * m, ct / 4096.0, cp / 4096.0, t);
                for (a, b) in back.into_iter().zip([r, g, b]) {
                    near(a, b, 1e-6);
                }
            }
        }
    }

    /// The grid against the exact map, over colours that R', G', B' of the stream can hold.
    #[test]
    fn the_grid_is_fine_enough() {
        for transfer in [PQ, HLG] {
            let resolved = hdr(transfer, 9);
            let display = Display::new(&resolved, 10);
            let table = Table::new(&resolved, 10);
            // All colours of the stream, and those well inside BT.709, as nearly all are: where a
            // colour leaves BT.709, the map has an edge.
            let (mut all, mut inside) = (Errors::default(), Errors::default());
            for y in (64..=940u16).step_by(11) {
                for cb in (100..=924u16).step_by(13) {
                    for cr in (100..=924u16).step_by(17) {
                        let samples = [y, cb, cr].map(|v| f64::from(v) / 4.0);
                        let planes: [f64; 3] = std::array::from_fn(|i| {
                            (samples[i] - display.offset[i]) / display.scale[i]
                        });
                        let rgb = apply(&resolved.to_rgb().unwrap(), planes);
                        if rgb.iter().any(|v| !(0.0..=1.0).contains(v)) {
                            continue;
                        }
                        let light = rgb.map(|v| to_linear(v, resolved.transfer));
                        let light = apply(&display.to_bt709, light);
                        let most = light.iter().fold(0.0f64, |a, &b| a.max(b));
                        let corner = table.corner(cb, cr).unwrap();
                        let (cell, way) = split(u32::from(y) << 6);
                        let (b, r) = corner.chroma(cell);
                        let mine = [corner.luma(cell), b, r].map(|e| f64::from(e.at(way)) / 64.0);
                        let exact = display.map(samples);
                        all.add(mine, exact);
                        if light.iter().all(|&v| v > most / 10.0) {
                            inside.add(mine, exact);
                        }
                    }
                }
            }
            println!("{transfer}: all {all:.3?}, inside {inside:.3?}");
            assert!(all.mean() < 0.8 && inside.mean() < 0.4);
            assert!(all.most < 30.0 && inside.most < 8.0);
            assert!(inside.count > 1000);
        }
    }

    #[derive(Default, Debug)]
    struct Errors {
        count: u32,
        sum: f64,
        most: f64,
    }

    impl Errors {
        fn add(&mut self, mine: [f64; 3], exact: [f64; 3]) {
            for (mine, exact) in mine.into_iter().zip(exact) {
                self.count += 1;
                self.sum += (mine - exact).abs();
                self.most = self.most.max((mine - exact).abs());
            }
        }

        fn mean(&self) -> f64 {
            self.sum / f64::from(self.count)
        }
    }

    #[test]
    fn a_table_is_made_once() {
        let (a, b) = (table(&hdr(PQ, 9), 10), table(&hdr(PQ, 9), 10));
        assert!(Arc::ptr_eq(&a, &b));
        assert!(!Arc::ptr_eq(&a, &table(&hdr(PQ, 9), 12)));
    }
}
