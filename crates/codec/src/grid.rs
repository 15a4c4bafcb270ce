//! The map of [`crate::display`] on a grid of 33×65×65 points of Y, Cb, Cr, and pictures
//! interpolated between them. Grids are kept for all threads of the process.

use std::sync::{Arc, Mutex, PoisonError};

use crate::colour::Resolved;
use crate::convert::{BAYER, FRACTION, Sample, TypedPlanes};
use crate::display::Display;
use crate::libav::Rows;
use crate::orient::{RowSink, Turn};
use crate::planes::PlanesBuf;

/// Cells of the grid along Y.
const CELLS: usize = 32;
/// Points along Y.
const POINTS: usize = CELLS + 1;
/// Cells along Cb and Cr. The map bends most there; few of them are met in one picture.
const CHROMA_CELLS: usize = 64;
/// Points along Cb and Cr.
const CHROMA_POINTS: usize = CHROMA_CELLS + 1;
/// Bits of one of the three values in a point: 8, and 4 of fraction, and 8 for a weight.
const LANE: u32 = 21;

/// Y, Cb, Cr of the JPEG, times 16, at one point of the grid: side by side in one word, so that
/// one multiplication weighs all three.
type Point = u64;

/// The points along Y for one Cb and Cr.
type Line = [Point; POINTS];

/// The map on a grid.
pub(crate) struct Table {
    bit_depth: u32,
    /// By Cb (slow) and Cr.
    lines: Vec<Line>,
}

impl Table {
    fn new(resolved: &Resolved, bit_depth: u8) -> Self {
        let display = Display::new(resolved, bit_depth);
        let fixed = |v: f64| (v * 16.0).round().clamp(0.0, 255.0 * 16.0) as u64;
        let (step, chroma_step) = (256.0 / CELLS as f64, 256.0 / CHROMA_CELLS as f64);
        let places = (0..CHROMA_POINTS).flat_map(|b| (0..CHROMA_POINTS).map(move |r| (b, r)));
        let line = |(cb, cr)| {
            let (cb, cr) = (cb as f64 * chroma_step, cr as f64 * chroma_step);
            std::array::from_fn(|y| {
                let [y, cb, cr] = display.map([y as f64 * step, cb, cr]).map(fixed);
                y | cb << LANE | cr << (2 * LANE)
            })
        };
        Self {
            bit_depth: u32::from(bit_depth),
            lines: places.map(line).collect(),
        }
    }

    /// The four lines around a chroma sample.
    #[inline(always)]
    fn corner<T: Sample>(&self, cb: T, cr: T) -> Option<Corner<'_>> {
        // Cell, and way through it in 16ths.
        let place = |sample: T| {
            let v = (sample.value() << (16 - self.bit_depth)) & 0xffff;
            ((v >> 10) as usize, u64::from((v >> 6) & 15))
        };
        let ((b, fb), (r, fr)) = (place(cb), place(cr));
        let at = b * CHROMA_POINTS + r;
        let lines = self.lines.get(at..at + CHROMA_POINTS + 2)?;
        Some(Corner {
            lines: [
                lines.first()?,
                lines.get(1)?,
                lines.get(CHROMA_POINTS)?,
                lines.get(CHROMA_POINTS + 1)?,
            ],
            weights: [
                (16 - fb) * (16 - fr),
                (16 - fb) * fr,
                fb * (16 - fr),
                fb * fr,
            ],
        })
    }
}

/// The table for these colours, made on first use.
pub(crate) fn table(resolved: &Resolved, bit_depth: u8) -> Arc<Table> {
    /// More kinds of HDR than one server meets; a table takes 1.1 MB.
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

/// Four lines of the grid and their weights (sum 256).
struct Corner<'a> {
    lines: [&'a Line; 4],
    weights: [u64; 4],
}

/// The points at both ends of a cell, times 256.
#[derive(Clone, Copy)]
struct Ends {
    low: Point,
    high: Point,
}

impl Corner<'_> {
    #[inline(always)]
    fn ends(&self, cell: usize) -> Ends {
        let cell = cell & (CELLS - 1);
        let (mut low, mut high) = (0, 0);
        for (line, weight) in self.lines.iter().zip(self.weights) {
            low += line.get(cell).copied().unwrap_or(0) * weight;
            high += line.get(cell + 1).copied().unwrap_or(0) * weight;
        }
        Ends { low, high }
    }
}

impl Ends {
    /// The value of one lane, times 64, `way` 2048ths from the lower end.
    #[inline(always)]
    fn at(self, lane: u32, way: u32) -> u32 {
        let part = |point: Point| (point >> (lane * LANE)) as u32 & ((1 << LANE) - 1);
        let (low, high) = (part(self.low), part(self.high));
        // The difference may be negative; the sum is not, and is below 2^32.
        let sum = (low << 11).wrapping_add(high.wrapping_sub(low).wrapping_mul(way));
        // Of 4 + 8 + 11 bits of fraction, 6 are kept.
        sum >> 17
    }
}

/// Cell and way through it, in 2048ths, along Y, for a sample of 16 bits.
#[inline(always)]
fn split(sixteen_bits: u32) -> (usize, u32) {
    (
        (sixteen_bits >> 11) as usize & (CELLS - 1),
        sixteen_bits & 0x7ff,
    )
}

/// `value` is at most 255 times 64.
#[inline(always)]
fn quantise(value: u32, dither: u8) -> u8 {
    ((value + u32::from(dither)) >> FRACTION) as u8
}

/// The rounding terms of one row of a plane; each plane has another part of the pattern.
fn dither(y: usize, plane: usize, width: usize) -> impl Iterator<Item = u8> + Clone {
    let row = BAYER.get((y + plane * 3) & 7).copied().unwrap_or_default();
    row.into_iter()
        .cycle()
        .skip(plane * 5)
        .take(width)
        .map(|d| d as u8)
}

fn dither_rows(plane: usize, width: usize) -> [Vec<u8>; 8] {
    std::array::from_fn(|y| dither(y, plane, width).collect())
}

/// Converts all planes. Luma takes the chroma sample that covers it; chroma takes the mean of the
/// luma samples that it covers.
pub(crate) fn convert<T: Sample>(
    p: &TypedPlanes<'_, T>,
    table: &Table,
    turn: Turn,
    out: &mut PlanesBuf,
) {
    match p.chroma {
        None => convert_grey(p.luma, table, turn, out),
        Some(chroma) => match p.subsampling.shifts().0 {
            0 => convert_colour::<T, 1>(p, chroma, table, turn, out),
            _ => convert_colour::<T, 2>(p, chroma, table, turn, out),
        },
    }
}

/// 4:0:0: along the line of the grid where both differences are zero.
fn convert_grey<T: Sample>(luma: Rows<'_, T>, table: &Table, turn: Turn, out: &mut PlanesBuf) {
    let Some(line) = table.lines.get(CHROMA_CELLS / 2 * (CHROMA_POINTS + 1)) else {
        return;
    };
    let corner = Corner {
        lines: [line; 4],
        weights: [64; 4],
    };
    let widen = 16 - table.bit_depth;
    let size = (luma.width(), luma.height());
    let dithers = dither_rows(0, size.0);
    let ([grid, ..], [strip, ..]) = (&mut out.planes, &mut out.strips);
    let mut sink = RowSink::new(grid, strip, turn, size);
    for (row, dither) in luma.iter().zip(dithers.iter().cycle()) {
        sink.row(|to| {
            for ((to, s), dither) in to.iter_mut().zip(row).zip(dither) {
                let (cell, way) = split(s.value() << widen);
                *to = quantise(corner.ends(cell).at(0, way), *dither);
            }
        });
    }
}

/// `N` is the number of luma columns for each of chroma.
fn convert_colour<T: Sample, const N: usize>(
    p: &TypedPlanes<'_, T>,
    (cb_rows, cr_rows): (Rows<'_, T>, Rows<'_, T>),
    table: &Table,
    turn: Turn,
    out: &mut PlanesBuf,
) {
    let (width, height) = (p.luma.width(), p.luma.height());
    let size = (cb_rows.width(), cb_rows.height());
    let halved = p.subsampling.shifts().1 == 1;
    let [y_grid, cb_grid, cr_grid] = &mut out.planes;
    let [y_strip, cb_strip, cr_strip] = &mut out.strips;
    let mut y_sink = RowSink::new(y_grid, y_strip, turn, (width, height));
    let mut cb_sink = RowSink::new(cb_grid, cb_strip, turn, size);
    let mut cr_sink = RowSink::new(cr_grid, cr_strip, turn, size);
    let whole = size.0 * N;
    let dithers = [
        dither_rows(0, whole),
        dither_rows(1, size.0),
        dither_rows(2, size.0),
    ];
    let dither_at = |plane: usize, y: usize| {
        dithers
            .get(plane)
            .and_then(|rows| rows.get(y & 7))
            .map_or(&[][..], Vec::as_slice)
    };
    let (mut upper_out, mut lower_out) = (vec![0; whole], vec![0; whole]);
    let (mut cb_out, mut cr_out) = (vec![0; size.0], vec![0; size.0]);
    // Copies with the last sample repeated, where the width is odd and chroma is halved.
    let (mut upper_whole, mut lower_whole) = (Vec::new(), Vec::new());
    for (j, (cb, cr)) in cb_rows.iter().zip(cr_rows.iter()).enumerate() {
        let y = if halved { 2 * j } else { j };
        let has_lower = halved && y + 1 < height;
        let mut upper = p.luma.row(y);
        let mut lower = if has_lower { p.luma.row(y + 1) } else { upper };
        if whole != width {
            upper = repeat_last(upper, &mut upper_whole);
            lower = repeat_last(lower, &mut lower_whole);
        }
        let inputs = upper
            .chunks_exact(N)
            .zip(lower.chunks_exact(N))
            .zip(cb.iter().zip(cr));
        let luma_out = upper_out
            .chunks_exact_mut(N)
            .zip(lower_out.chunks_exact_mut(N));
        let outputs = luma_out.zip(cb_out.iter_mut().zip(cr_out.iter_mut()));
        let upper_dither = dither_at(0, y).chunks_exact(N);
        let luma_dither = upper_dither.zip(dither_at(0, y + 1).chunks_exact(N));
        let dither = luma_dither.zip(dither_at(1, j).iter().zip(dither_at(2, j)));
        for ((input, output), dither) in inputs.zip(outputs).zip(dither) {
            convert_block(table, input, output, dither, halved);
        }
        y_sink.row(|to| copy(&upper_out, to));
        if has_lower {
            y_sink.row(|to| copy(&lower_out, to));
        }
        cb_sink.row(|to| copy(&cb_out, to));
        cr_sink.row(|to| copy(&cr_out, to));
    }
}

/// Two rows of luma and what one chroma sample has: samples, results, or rounding terms.
type Block<L, C> = ((L, L), (C, C));

/// One chroma sample and the luma samples that it covers.
#[inline(always)]
fn convert_block<T: Sample>(
    table: &Table,
    ((upper, lower), (cb, cr)): Block<&[T], &T>,
    ((upper_out, lower_out), (cb_out, cr_out)): Block<&mut [u8], &mut u8>,
    ((upper_dither, lower_dither), (cb_dither, cr_dither)): Block<&[u8], &u8>,
    halved: bool,
) {
    let Some(corner) = table.corner(*cb, *cr) else {
        return;
    };
    let widen = 16 - table.bit_depth;
    let sum = |row: &[T]| row.iter().map(|s| s.value() << widen).sum::<u32>();
    let (total, count) = (sum(upper) + sum(lower), 2 * upper.len() as u32);
    let (cell, way) = split(total / count.max(1));
    let ends = corner.ends(cell);
    *cb_out = quantise(ends.at(1, way), *cb_dither);
    *cr_out = quantise(ends.at(2, way), *cr_dither);
    let luma = |row: &[T], dither: &[u8], out: &mut [u8]| {
        for ((to, s), dither) in out.iter_mut().zip(row).zip(dither) {
            let (its_cell, way) = split(s.value() << widen);
            // Most often all samples lie in the cell of their mean.
            let ends = if its_cell == cell {
                ends
            } else {
                corner.ends(its_cell)
            };
            *to = quantise(ends.at(0, way), *dither);
        }
    };
    luma(upper, upper_dither, upper_out);
    if halved {
        luma(lower, lower_dither, lower_out);
    }
}

fn repeat_last<'a, T: Copy>(row: &[T], whole: &'a mut Vec<T>) -> &'a [T] {
    whole.clear();
    whole.extend_from_slice(row);
    whole.extend(row.last());
    whole
}

fn copy(from: &[u8], to: &mut [u8]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}

#[cfg(test)]
mod tests {
    use media::ColourDescription;

    use super::*;
    use crate::Chroma;
    use crate::colour::{BT709, apply, invert, multiply, resolve};
    use crate::display::to_linear;

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

    /// The grid against the exact map, over colours that R', G', B' of the stream can hold.
    #[test]
    fn the_grid_is_fine_enough() {
        for transfer in [PQ, HLG] {
            let resolved = hdr(transfer, 9);
            let display = Display::new(&resolved, 10);
            let (offset, scale) = resolved.quantisation(10);
            let to_bt709 = multiply(&invert(&BT709.to_xyz()), &resolved.primaries.to_xyz());
            let table = Table::new(&resolved, 10);
            // All colours of the stream, and those well inside BT.709, as nearly all are: where a
            // colour leaves BT.709, the map has an edge.
            let (mut all, mut inside) = (Errors::default(), Errors::default());
            for y in (64..=940u16).step_by(11) {
                for cb in (100..=924u16).step_by(13) {
                    for cr in (100..=924u16).step_by(17) {
                        let samples = [y, cb, cr].map(|v| f64::from(v) / 4.0);
                        let planes: [f64; 3] =
                            std::array::from_fn(|i| (samples[i] - offset[i]) / scale[i]);
                        let rgb = apply(&resolved.to_rgb().unwrap(), planes);
                        if rgb.iter().any(|v| !(0.0..=1.0).contains(v)) {
                            continue;
                        }
                        let light = rgb.map(|v| to_linear(v, resolved.transfer));
                        let light = apply(&to_bt709, light);
                        let most = light.iter().fold(0.0f64, |a, &b| a.max(b));
                        let corner = table.corner(cb, cr).unwrap();
                        let (cell, way) = split(u32::from(y) << 6);
                        let ends = corner.ends(cell);
                        let mine = [0, 1, 2].map(|lane| f64::from(ends.at(lane, way)) / 64.0);
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
