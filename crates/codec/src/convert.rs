//! From a decoded picture's planes to those of a JPEG image, in one pass over them.
//!
//! The affine case works on 16-bit integers with 6 fraction bits, because that is what a vector
//! unit multiplies fastest. A sample `s` of `d` bits enters as `x = s·2^(15−d)`, which is 8-bit
//! units times 128. A factor `f` is split into the nearest integer and a fraction of 15 bits, and
//! `f·s` is `n·(x/2) + high half of (x·k)`, in 8-bit units times 64. Errors stay below 1/16 of an
//! 8-bit step.

use media::{ColourDescription, Orientation};

use crate::colour::{Affine, resolve};
use crate::grid;
use crate::libav::{Chroma, Picture, Plane, Rows};
use crate::orient::{RowSink, Turn};
use crate::planes::{PlanesBuf, Subsampling};

/// Fraction bits of intermediate results.
pub(crate) const FRACTION: u32 = 6;
/// Half of the last integer bit.
const HALF: i16 = 1 << (FRACTION - 1);

/// Converts `picture` to full-range BT.601 planes of 8 bit, turned and mirrored as `orientation`
/// says, in the subsampling of the source (4:2:2 turned by 90 degrees becomes 4:4:0).
///
/// `colour` is what stream and container say together. See `docs/colour.md` for what is done
/// where they say nothing, and with HDR.
pub fn to_jpeg_planes(
    picture: &Picture,
    colour: ColourDescription,
    orientation: Orientation,
    out: &mut PlanesBuf,
) {
    let resolved = resolve(colour, picture.chroma(), picture.height(), picture.is_gbr());
    let turn = Turn::new(orientation);
    let (mut width, mut height) = (picture.width(), picture.height());
    if turn.transpose {
        std::mem::swap(&mut width, &mut height);
    }
    out.reshape(width, height, subsampling(picture.chroma(), turn.transpose));
    match resolved.affine(picture.bit_depth()) {
        Some(affine) => {
            let fixed = Fixed::new(&affine, picture.bit_depth(), picture.width());
            match planes(picture) {
                Planes::U8(p) => convert_affine(&p, &fixed, turn, out),
                Planes::U16(p) => convert_affine(&p, &fixed, turn, out),
            }
        }
        None => {
            let table = grid::table(&resolved, picture.bit_depth());
            match planes(picture) {
                Planes::U8(p) => grid::convert(&p, &table, turn, out),
                Planes::U16(p) => grid::convert(&p, &table, turn, out),
            }
        }
    }
    out.pad();
}

/// The subsampling of the JPEG for that of the source.
pub(crate) fn subsampling(chroma: Chroma, transpose: bool) -> Subsampling {
    match chroma {
        Chroma::Mono => Subsampling::Grey,
        Chroma::C420 => Subsampling::S420,
        Chroma::C422 if transpose => Subsampling::S440,
        Chroma::C422 => Subsampling::S422,
        Chroma::C444 => Subsampling::S444,
    }
}

/// A picture's planes by sample type.
pub(crate) struct TypedPlanes<'a, T> {
    pub(crate) luma: Rows<'a, T>,
    pub(crate) chroma: Option<(Rows<'a, T>, Rows<'a, T>)>,
    pub(crate) subsampling: Subsampling,
}

enum Planes<'a> {
    U8(TypedPlanes<'a, u8>),
    U16(TypedPlanes<'a, u16>),
}

fn planes(picture: &Picture) -> Planes<'_> {
    let subsampling = subsampling(picture.chroma(), false);
    match (picture.plane(0), picture.plane(1), picture.plane(2)) {
        (Some(Plane::U16(luma)), Some(Plane::U16(cb)), Some(Plane::U16(cr))) => {
            Planes::U16(TypedPlanes {
                luma,
                chroma: Some((cb, cr)),
                subsampling,
            })
        }
        (Some(Plane::U8(luma)), Some(Plane::U8(cb)), Some(Plane::U8(cr))) => {
            Planes::U8(TypedPlanes {
                luma,
                chroma: Some((cb, cr)),
                subsampling,
            })
        }
        (Some(Plane::U16(luma)), ..) => Planes::U16(TypedPlanes {
            luma,
            chroma: None,
            subsampling,
        }),
        (Some(Plane::U8(luma)), ..) => Planes::U8(TypedPlanes {
            luma,
            chroma: None,
            subsampling,
        }),
        // `Picture` always has a first plane.
        (None, ..) => Planes::U8(TypedPlanes {
            luma: Rows::empty(),
            chroma: None,
            subsampling,
        }),
    }
}

/// A sample as the decoder stores it.
pub(crate) trait Sample: Copy {
    /// As 8-bit units times 128.
    fn scaled(self, shift: Shift) -> i16;
    /// As it is.
    fn value(self) -> u32;
}

/// How far a `u16` sample is shifted left, then right, so that 15 bits hold it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shift {
    left: u32,
    right: u32,
}

impl Sample for u8 {
    #[inline(always)]
    fn scaled(self, _: Shift) -> i16 {
        i16::from(self) << 7
    }

    fn value(self) -> u32 {
        u32::from(self)
    }
}

impl Sample for u16 {
    #[inline(always)]
    fn scaled(self, shift: Shift) -> i16 {
        (((self << shift.left) & 0x7fff) >> shift.right) as i16
    }

    fn value(self) -> u32 {
        u32::from(self)
    }
}

/// A factor in two parts: the nearest integer, and the rest times 2^15.
///
/// The rest is kept once for each column and not as one number: a vectoriser that finds the two
/// 16-bit operands of a product in memory uses the instruction that multiplies 16 bits by 16 and
/// keeps the high half; with one of them widened outside the loop it multiplies 32 bits by 32,
/// three times slower.
struct Factor {
    whole: i16,
    rest: Vec<i16>,
}

impl Factor {
    fn new(value: f64, columns: usize) -> Self {
        let whole = value.round();
        let rest = ((value - whole) * 32768.0).round();
        Self {
            whole: whole as i16,
            rest: vec![rest as i16; columns],
        }
    }
}

/// `x` in 8-bit units times 128, the result times 64.
#[inline(always)]
fn times(x: i16, whole: i16, rest: i16) -> i16 {
    let high = ((i32::from(x) * i32::from(rest)) >> 16) as i16;
    whole.wrapping_mul(x >> 1).wrapping_add(high)
}

/// The affine map in fixed point.
struct Fixed {
    factor: [[Factor; 3]; 3],
    /// Added to each output, times 64, without the rounding term.
    add: [i16; 3],
    /// What chroma samples are reduced by before they are multiplied, times 128.
    centre: i16,
    /// Rounding terms: row `y & 7`, column `x & 7`.
    dither: [[i16; 8]; 8],
    shift: Shift,
    /// Whether luma needs chroma.
    mixes: bool,
    keeps_grey: bool,
}

impl Fixed {
    /// For rows of at most `columns` samples.
    fn new(affine: &Affine, bit_depth: u8, columns: usize) -> Self {
        let keeps_grey = affine.keeps_grey();
        let depth = u32::from(bit_depth);
        // Colour differences are centred first, so that they stay small.
        let centre = if keeps_grey { 128.0 } else { 0.0 };
        let factor = affine
            .factor
            .map(|row| row.map(|value| Factor::new(value, columns)));
        let mut add = [0i16; 3];
        for ((add, row), value) in add.iter_mut().zip(&affine.factor).zip(affine.add) {
            let exact = value + (row[1] + row[2]) * centre;
            // Products are rounded down, and exact for zero: neutral chroma stays exactly so.
            *add = (exact * f64::from(1 << FRACTION)).round() as i16;
        }
        let dither = if bit_depth > 8 { BAYER } else { [[HALF; 8]; 8] };
        Self {
            factor,
            add,
            centre: (centre * 128.0) as i16,
            dither,
            shift: Shift {
                left: 15u32.saturating_sub(depth),
                right: depth.saturating_sub(15),
            },
            mixes: [affine.factor[0][1], affine.factor[0][2]]
                .iter()
                .any(|v| v.abs() > 1e-9),
            keeps_grey,
        }
    }

    /// The constant and the rounding terms of one plane, repeated over a row; for rows `y & 7`.
    fn bias(&self, plane: usize, width: usize) -> [Vec<i16>; 8] {
        let add = self.add.get(plane).copied().unwrap_or(0);
        // Luma and the two chroma planes take different parts of the pattern, so that their
        // errors do not add up in one place.
        std::array::from_fn(|y| {
            let row = self
                .dither
                .get((y + plane * 3) & 7)
                .copied()
                .unwrap_or([HALF; 8]);
            row.iter()
                .cycle()
                .skip(plane * 5)
                .take(width)
                .map(|d| add.wrapping_add(*d))
                .collect()
        })
    }
}

/// Ordered dither: every value from 0 to 63 once, far from its neighbours (Bayer). The mean over
/// 8×8 of the truncated sum is exactly the undithered value.
pub(crate) const BAYER: [[i16; 8]; 8] = bayer();

const fn bayer() -> [[i16; 8]; 8] {
    let mut out = [[0i16; 8]; 8];
    let mut y = 0;
    while y < 8 {
        let mut x = 0;
        while x < 8 {
            // Bits of x^y and y, interleaved, lowest first to highest place.
            let (a, b) = (x ^ y, y);
            let mut value = 0;
            let mut bit = 0;
            while bit < 3 {
                value = value * 4 + ((a >> bit) & 1) * 2 + ((b >> bit) & 1);
                bit += 1;
            }
            #[allow(clippy::indexing_slicing)]
            {
                out[y][x] = value as i16;
            }
            x += 1;
        }
        y += 1;
    }
    out
}

#[inline(always)]
fn to_byte(value: i16) -> u8 {
    (value >> FRACTION).clamp(0, 255) as u8
}

fn convert_affine<T: Sample>(
    p: &TypedPlanes<'_, T>,
    fixed: &Fixed,
    turn: Turn,
    out: &mut PlanesBuf,
) {
    match p.chroma {
        None => convert_grey(p, fixed, turn, out),
        Some((cb, cr)) if fixed.keeps_grey => convert_ycc(p, cb, cr, fixed, turn, out),
        Some((b, r)) => convert_mixed(p, b, r, fixed, turn, out),
    }
}

/// 4:0:0.
fn convert_grey<T: Sample>(p: &TypedPlanes<'_, T>, fixed: &Fixed, turn: Turn, out: &mut PlanesBuf) {
    let size = (p.luma.width(), p.luma.height());
    let bias = fixed.bias(0, size.0);
    let ([grid, ..], [strip, ..]) = (&mut out.planes, &mut out.strips);
    let mut sink = RowSink::new(grid, strip, turn, size);
    for (row, bias) in p.luma.iter().zip(bias.iter().cycle()) {
        sink.row(|to| luma_row(row, bias, fixed, to));
    }
}

/// Chroma stays at its resolution and depends on chroma alone; luma takes what chroma adds to it
/// from the same bilinear interpolation that JPEG decoders use ("fancy upsampling": chroma sits
/// between luma samples), so that it comes out of them as the source's luma.
fn convert_ycc<T: Sample>(
    p: &TypedPlanes<'_, T>,
    cb: Rows<'_, T>,
    cr: Rows<'_, T>,
    fixed: &Fixed,
    turn: Turn,
    out: &mut PlanesBuf,
) {
    let (width, height) = (p.luma.width(), p.luma.height());
    let size = (cb.width(), cb.height());
    let y_bias = fixed.bias(0, width.next_multiple_of(2));
    let (cb_bias, cr_bias) = (fixed.bias(1, size.0), fixed.bias(2, size.0));
    let [y_grid, cb_grid, cr_grid] = &mut out.planes;
    let [y_strip, cb_strip, cr_strip] = &mut out.strips;
    let mut y_sink = RowSink::new(y_grid, y_strip, turn, (width, height));
    let mut cb_sink = RowSink::new(cb_grid, cb_strip, turn, size);
    let mut cr_sink = RowSink::new(cr_grid, cr_strip, turn, size);

    // What each chroma row adds to luma; four rows are enough for the two that a luma row needs.
    let mut shares: [Vec<i16>; 4] = std::array::from_fn(|_| vec![0; size.0]);
    let mut blended = vec![0i16; size.0 + 2];
    let mut share_row = vec![0i16; width.next_multiple_of(2)];
    let (sx, sy) = p.subsampling.shifts();
    let mut next = 0;
    let mut chroma_row = |shares: &mut [Vec<i16>; 4], j: usize| {
        let (cb, cr) = (cb.row(j), cr.row(j));
        let [cb_bias, cr_bias] =
            [&cb_bias, &cr_bias].map(|b| b.get(j & 7).map_or(&[][..], Vec::as_slice));
        cb_sink.row(|to| chroma_out(cb, cr, cb_bias, 1, fixed, to));
        cr_sink.row(|to| chroma_out(cb, cr, cr_bias, 2, fixed, to));
        if fixed.mixes
            && let Some(share) = shares.get_mut(j & 3)
        {
            luma_share(cb, cr, fixed, share);
        }
    };
    for (y, (row, bias)) in p.luma.iter().zip(y_bias.iter().cycle()).enumerate() {
        let near = y >> sy;
        // The other chroma row that lies beside this luma row.
        let far = match (sy, y & 1) {
            (0, _) => near,
            (_, 0) => near.saturating_sub(1),
            _ => (near + 1).min(size.1.saturating_sub(1)),
        };
        while next <= near.max(far) {
            chroma_row(&mut shares, next);
            next += 1;
        }
        if !fixed.mixes {
            y_sink.row(|to| luma_row(row, bias, fixed, to));
            continue;
        }
        let (Some(near), Some(far)) = (shares.get(near & 3), shares.get(far & 3)) else {
            break;
        };
        if sx == 0 {
            blend_rows(near, far, &mut share_row);
        } else {
            if let Some(inner) = blended.get_mut(1..=size.0) {
                blend_rows(near, far, inner);
            }
            repeat_edges(&mut blended);
            widen(&blended, &mut share_row);
        }
        y_sink.row(|to| luma_row_mixed(row, &share_row, bias, fixed, to));
    }
}

/// G, B, R of 4:4:4: each output depends on all three inputs.
fn convert_mixed<T: Sample>(
    p: &TypedPlanes<'_, T>,
    second: Rows<'_, T>,
    third: Rows<'_, T>,
    fixed: &Fixed,
    turn: Turn,
    out: &mut PlanesBuf,
) {
    let size = (p.luma.width(), p.luma.height());
    let strips = &mut out.strips;
    for (plane, (grid, strip)) in out.planes.iter_mut().zip(strips).enumerate() {
        let bias = fixed.bias(plane, size.0);
        let Some(factors) = fixed.factor.get(plane) else {
            continue;
        };
        let mut sink = RowSink::new(grid, strip, turn, size);
        let rows = p.luma.iter().zip(second.iter()).zip(third.iter());
        for (((a, b), c), bias) in rows.zip(bias.iter().cycle()) {
            sink.row(|to| mixed_row([a, b, c], factors, bias, fixed.shift, to));
        }
    }
}

fn mixed_row<T: Sample>(
    [a, b, c]: [&[T]; 3],
    [fa, fb, fc]: &[Factor; 3],
    bias: &[i16],
    shift: Shift,
    to: &mut [u8],
) {
    let (wa, wb, wc) = (fa.whole, fb.whole, fc.whole);
    let inputs = a.iter().zip(b).zip(c);
    let rests = fa.rest.iter().zip(&fb.rest).zip(&fc.rest);
    for (((to, ((a, b), c)), ((ra, rb), rc)), bias) in
        to.iter_mut().zip(inputs).zip(rests).zip(bias)
    {
        let sum = times(a.scaled(shift), wa, *ra)
            .wrapping_add(times(b.scaled(shift), wb, *rb))
            .wrapping_add(times(c.scaled(shift), wc, *rc));
        *to = to_byte(sum.saturating_add(*bias));
    }
}

fn luma_row<T: Sample>(row: &[T], bias: &[i16], fixed: &Fixed, to: &mut [u8]) {
    let Factor { whole, rest } = &fixed.factor[0][0];
    let (whole, shift) = (*whole, fixed.shift);
    for (((to, s), rest), bias) in to.iter_mut().zip(row).zip(rest).zip(bias) {
        *to = to_byte(times(s.scaled(shift), whole, *rest).saturating_add(*bias));
    }
}

fn luma_row_mixed<T: Sample>(row: &[T], share: &[i16], bias: &[i16], fixed: &Fixed, to: &mut [u8]) {
    let Factor { whole, rest } = &fixed.factor[0][0];
    let (whole, shift) = (*whole, fixed.shift);
    let inputs = row.iter().zip(rest).zip(share);
    for ((to, ((s, rest), share)), bias) in to.iter_mut().zip(inputs).zip(bias) {
        let sum = times(s.scaled(shift), whole, *rest).wrapping_add(*bias);
        *to = to_byte(sum.saturating_add(*share));
    }
}

/// One row of an output chroma plane.
fn chroma_out<T: Sample>(
    cb: &[T],
    cr: &[T],
    bias: &[i16],
    plane: usize,
    fixed: &Fixed,
    to: &mut [u8],
) {
    let Some([_, from_cb, from_cr]) = fixed.factor.get(plane) else {
        return;
    };
    let (shift, centre) = (fixed.shift, fixed.centre);
    let (wb, wr) = (from_cb.whole, from_cr.whole);
    let inputs = cb.iter().zip(cr).zip(&from_cb.rest).zip(&from_cr.rest);
    for ((to, (((cb, cr), rb), rr)), bias) in to.iter_mut().zip(inputs).zip(bias) {
        let cb = cb.scaled(shift).wrapping_sub(centre);
        let cr = cr.scaled(shift).wrapping_sub(centre);
        let sum = times(cb, wb, *rb).wrapping_add(times(cr, wr, *rr));
        *to = to_byte(sum.saturating_add(*bias));
    }
}

/// What one chroma row adds to luma.
fn luma_share<T: Sample>(cb: &[T], cr: &[T], fixed: &Fixed, to: &mut [i16]) {
    let [_, from_cb, from_cr] = &fixed.factor[0];
    let (shift, centre) = (fixed.shift, fixed.centre);
    let (wb, wr) = (from_cb.whole, from_cr.whole);
    let inputs = cb.iter().zip(cr).zip(&from_cb.rest).zip(&from_cr.rest);
    for (to, (((cb, cr), rb), rr)) in to.iter_mut().zip(inputs) {
        let cb = cb.scaled(shift).wrapping_sub(centre);
        let cr = cr.scaled(shift).wrapping_sub(centre);
        *to = times(cb, wb, *rb).wrapping_add(times(cr, wr, *rr));
    }
}

/// Three parts of the near row, one part of the far one.
fn blend_rows(near: &[i16], far: &[i16], to: &mut [i16]) {
    for ((to, near), far) in to.iter_mut().zip(near).zip(far) {
        *to = near.wrapping_add(far.wrapping_sub(*near).wrapping_add(2) >> 2);
    }
}

/// Sets the first and last element to their neighbours.
fn repeat_edges(row: &mut [i16]) {
    if let [first, second, .., before, last] = row {
        (*first, *last) = (*second, *before);
    } else if let [first, middle, last] = row {
        (*first, *last) = (*middle, *middle);
    }
}

/// Two samples for each inner one: three parts of it, one part of its left and right neighbour.
fn widen(row: &[i16], to: &mut [i16]) {
    let (left, middle, right) = (
        row,
        row.get(1..).unwrap_or(&[]),
        row.get(2..).unwrap_or(&[]),
    );
    let pairs = to.chunks_exact_mut(2);
    for (((pair, left), middle), right) in pairs.zip(left).zip(middle).zip(right) {
        if let [even, odd] = pair {
            *even = middle.wrapping_add(left.wrapping_sub(*middle).wrapping_add(2) >> 2);
            *odd = middle.wrapping_add(right.wrapping_sub(*middle).wrapping_add(1) >> 2);
        }
    }
}
