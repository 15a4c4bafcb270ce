//! What is not affine: HDR (PQ, HLG) tone-mapped to SDR, ICtCp, constant luminance.
//!
//! [`Display`] computes the map for one colour, exactly and slowly. [`Table`] holds it on a grid
//! of 33×33×33 points of Y, Cb, Cr, and a picture is interpolated between them. Tables are kept
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
        let [y, cb, cr] = [0, 1, 2].map(|i: usize| (samples[i] - self.offset[i]) / self.scale[i]);
        let rgb = self.to_sdr([y, cb, cr]).map(|v| v.clamp(0.0, 1.0));
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

/// Cells of the grid along each axis.
const CELLS: usize = 32;
/// Points along an axis.
const POINTS: usize = CELLS + 1;

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
        let step = 256.0 / CELLS as f64;
        let (mut luma, mut chroma) = (Vec::new(), Vec::new());
        for (cb, cr) in (0..POINTS).flat_map(|cb| (0..POINTS).map(move |cr| (cb, cr))) {
            let points: [[u64; 3]; POINTS] = std::array::from_fn(|y| {
                display
                    .map([y as f64 * step, cb as f64 * step, cr as f64 * step])
                    .map(fixed)
            });
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
    /// More kinds of HDR than one server meets; a table takes 0.6 MB.
    const KEPT: usize = 16;
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

/// A place on the grid along one axis: cell and way through it, in 2048ths.
#[inline(always)]
fn place<T: Sample>(sample: T, bit_depth: u32) -> (usize, u32) {
    split(sample.value() << (16 - bit_depth))
}

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
        let ((b, fb), (r, fr)) = (place(cb, self.bit_depth), place(cr, self.bit_depth));
        let (fb, fr) = (u64::from(fb >> 6), u64::from(fr >> 6));
        let at = b * POINTS + r;
        let luma = self.luma.get(at..at + POINTS + 2)?;
        let chroma = self.chroma.get(at..at + POINTS + 2)?;
        Some(Corner {
            luma: [
                luma.first()?,
                luma.get(1)?,
                luma.get(POINTS)?,
                luma.get(POINTS + 1)?,
            ],
            chroma: [
                chroma.first()?,
                chroma.get(1)?,
                chroma.get(POINTS)?,
                chroma.get(POINTS + 1)?,
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
        Ends { low: sum as u32, high: (sum >> 32) as u32 }
    }

    #[inline(always)]
    fn chroma(&self, cell: usize) -> (Ends, Ends) {
        let (mut low, mut high) = (0, 0);
        for (curve, weight) in self.chroma.iter().zip(self.weight) {
            low += curve.get(cell).copied().unwrap_or(0) * weight;
            high += curve.get(cell + 1).copied().unwrap_or(0) * weight;
        }
        (
            Ends { low: low as u32, high: high as u32 },
            Ends { low: (low >> 32) as u32, high: (high >> 32) as u32 },
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
        let Some(curve) = table.luma.get(CELLS / 2 * POINTS + CELLS / 2) else {
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
            let Some(dither) = dithers.get(row) else { continue };
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
        let mean = if count == 4 { sum >> 2 } else { sum / count.max(1) };
        let (cell, way) = split(mean);
        let (b, r) = corner.chroma(cell);
        let (b, r) = (b.at(way), r.at(way));
        *cb_out = quantise(b, cb_dither.get(i & 7).copied().unwrap_or(0));
        *cr_out = quantise(r, cr_dither.get(i & 7).copied().unwrap_or(0));
    }
}
