//! A frame number that is burnt into the picture as a block code.
//!
//! The mark is a square of 8 × 8 blocks in the middle of the picture, each block black or white:
//! row 0 is white and column 0 is black (the corner is white), which tells the eight orientations
//! apart and gives the two reference levels; the other 49 blocks hold 24 bits of number, a 16-bit
//! checksum, and 9 fixed blocks. Levels are told apart by the threshold between the reference
//! blocks of the same picture, so that the colour range does not matter, and JPEG loss neither.
//!
//! ```text
//!   W W W W W W W W      W white reference, B black reference,
//!   B . . . . . . .      . number, checksum and fixed blocks, row by row
//!   B . . . . . . .
//!   …
//! ```

use crate::picture::{Chroma, Picture};

/// Blocks along each side.
const SIDE: usize = 8;
/// Bits of payload: number, checksum, fixed.
const PAYLOAD_BITS: usize = (SIDE - 1) * (SIDE - 1);
const NUMBER_BITS: usize = 24;
const CHECKSUM_BITS: usize = 16;
/// The last nine blocks.
const FIXED: u64 = 0b1_0110_0101;
/// Keeps small numbers from being large flat areas.
const WHITENING: u64 = 0x1_5a3c_96e1_b478;
/// The smallest block that a reader looks for, in pixels.
const SMALLEST_BLOCK: f32 = 3.5;

/// The greatest number that fits.
pub const MAX: u32 = (1 << NUMBER_BITS) - 1;

/// Side of one block in a fresh mark, in luma samples: the mark takes about a third of the
/// shorter side, and never less than 64 samples.
pub fn block_size(width: usize, height: usize) -> usize {
    ((width.min(height) / 24) & !7).max(8)
}

/// Burns `number` into the middle of the picture. Chroma under the mark becomes neutral.
///
/// Panics if the picture is smaller than the mark (64 × 64) or the number does not fit.
pub fn draw(picture: &mut Picture, number: u32) {
    assert!(number <= MAX, "a frame number of at most 24 bits");
    let (width, height, depth) = (picture.width(), picture.height(), picture.format.depth);
    let block = block_size(width, height);
    let side = block * SIDE;
    assert!(
        width >= side && height >= side,
        "a picture of at least {side}x{side}"
    );
    // Even, so that chroma samples lie wholly inside or outside.
    let (left, top) = (((width - side) / 2) & !1, ((height - side) / 2) & !1);
    let payload = encode(number);
    // Inside both the limited and the full range.
    let (black, white) = (32 << (depth - 8), 220 << (depth - 8));
    for y in 0..side {
        for x in 0..side {
            let level = if is_white(payload, x / block, y / block) {
                white
            } else {
                black
            };
            picture.planes[0].samples[(top + y) * width + left + x] = level;
        }
    }
    if picture.format.chroma != Chroma::Gray {
        let (sx, sy) = picture.format.chroma.shifts();
        for plane in &mut picture.planes[1..] {
            for y in (top >> sy)..((top + side) >> sy) {
                let row = y * plane.width;
                let columns = row + (left >> sx)..row + ((left + side) >> sx);
                plane.samples[columns].fill(1 << (depth - 1));
            }
        }
    }
}

/// Reads the number from luma samples of any depth, whatever way the picture is turned or
/// mirrored, cropped around the mark, or scaled (blocks of at least 4 pixels must remain).
/// `stride` counts samples. `None` where there is no readable mark.
pub fn read<S: Copy + Into<u16>>(
    luma: &[S],
    width: usize,
    height: usize,
    stride: usize,
) -> Option<u32> {
    let view = View {
        luma,
        width,
        height,
        stride,
    };
    let expected = block_size(width, height) as f32;
    // As drawn, and scaled by a power of two; in the middle.
    for scale in [1.0, 0.5, 2.0, 0.25] {
        if let Some(number) = view.near_the_middle(expected * scale) {
            return Some(number);
        }
    }
    // Anywhere, of any size. Steps of 4 % keep the far corner of the mark inside its block.
    let mut block = width.min(height) as f32 / SIDE as f32;
    while block >= SMALLEST_BLOCK {
        if let Some(number) = view.anywhere(block) {
            return Some(number);
        }
        block *= 0.96;
    }
    None
}

/// Luma of a picture.
struct View<'a, S> {
    luma: &'a [S],
    width: usize,
    height: usize,
    stride: usize,
}

impl<S: Copy + Into<u16>> View<'_, S> {
    fn near_the_middle(&self, block: f32) -> Option<u32> {
        let side = block * SIDE as f32;
        let (x, y) = (
            (self.width as f32 - side) / 2.0,
            (self.height as f32 - side) / 2.0,
        );
        // The mark lies on even samples, and cropping or scaling may round.
        let offsets = [0.0, -1.0, 1.0, -2.0, 2.0];
        offsets
            .iter()
            .flat_map(|dy| offsets.iter().map(move |dx| (dx, dy)))
            .find_map(|(dx, dy)| self.at(x + dx, y + dy, block))
    }

    fn anywhere(&self, block: f32) -> Option<u32> {
        let side = block * SIDE as f32;
        let step = (block / 4.0).max(1.0);
        let steps = |length: usize| ((length as f32 - side) / step).max(0.0) as usize;
        (0..=steps(self.height)).find_map(|j| {
            (0..=steps(self.width)).find_map(|i| self.at(i as f32 * step, j as f32 * step, block))
        })
    }

    /// The number of a mark whose top left corner and block size are known.
    fn at(&self, left: f32, top: f32, block: f32) -> Option<u32> {
        let side = block * SIDE as f32;
        if left < -0.5
            || top < -0.5
            || left + side > self.width as f32 + 0.5
            || top + side > self.height as f32 + 0.5
        {
            return None;
        }
        // Cheap refusal first: the four corners hold both levels in every orientation.
        let centre = |i: usize, j: usize| {
            let middle = |from: f32, k: usize, limit: usize| {
                ((from + (k as f32 + 0.5) * block) as usize).min(limit - 1)
            };
            let (x, y) = (middle(left, i, self.width), middle(top, j, self.height));
            self.luma[y * self.stride + x].into()
        };
        let corners = [centre(0, 0), centre(SIDE - 1, 0), centre(0, SIDE - 1)];
        let corners = [
            corners[0],
            corners[1],
            corners[2],
            centre(SIDE - 1, SIDE - 1),
        ];
        let (low, high) = (corners.iter().min()?, corners.iter().max()?);
        if high - low < 48 {
            return None;
        }
        // Then the frame of one white and one black side, still by single samples.
        let middle = low + (high - low) / 2;
        let framed = |orientation: usize| {
            (0..SIDE).all(|k| {
                let ((wx, wy), (bx, by)) = (place(orientation, k, 0), place(orientation, 0, k));
                centre(wx, wy) > middle && (k == 0 || centre(bx, by) < middle)
            })
        };
        let orientations: Vec<usize> = (0..8).filter(|o| framed(*o)).collect();
        if orientations.is_empty() {
            return None;
        }
        let mut levels = [[0f32; SIDE]; SIDE];
        for (j, row) in levels.iter_mut().enumerate() {
            for (i, level) in row.iter_mut().enumerate() {
                *level = self.mean(left + i as f32 * block, top + j as f32 * block, block);
            }
        }
        orientations
            .into_iter()
            .find_map(|orientation| decode(&levels, orientation))
    }

    /// Mean of the inner part of one block.
    fn mean(&self, left: f32, top: f32, block: f32) -> f32 {
        let span = |from: f32, limit: usize| {
            let first = ((from + block * 0.3).round().max(0.0) as usize).min(limit - 1);
            let last = ((from + block * 0.7).round() as usize).clamp(first + 1, limit);
            first..last
        };
        let (columns, rows) = (span(left, self.width), span(top, self.height));
        let count = (columns.len() * rows.len()) as f32;
        let sum: u32 = rows
            .flat_map(|y| {
                self.luma[y * self.stride + columns.start..y * self.stride + columns.end].iter()
            })
            .map(|&s| u32::from(s.into()))
            .sum();
        sum as f32 / count
    }
}

/// Where block (i, j) of the mark is found after "mirror, then turn clockwise": the inverse of
/// what was done to the picture. Bit 2 of `orientation`: mirrored; bits 0 and 1: quarter turns.
fn place(orientation: usize, i: usize, j: usize) -> (usize, usize) {
    let mut at = if orientation & 4 != 0 {
        (SIDE - 1 - i, j)
    } else {
        (i, j)
    };
    for _ in 0..orientation & 3 {
        at = (SIDE - 1 - at.1, at.0);
    }
    at
}

fn decode(levels: &[[f32; SIDE]; SIDE], orientation: usize) -> Option<u32> {
    let level = |i: usize, j: usize| {
        let (x, y) = place(orientation, i, j);
        levels[y][x]
    };
    let white: f32 = (0..SIDE).map(|i| level(i, 0)).sum::<f32>() / SIDE as f32;
    let black: f32 = (1..SIDE).map(|j| level(0, j)).sum::<f32>() / (SIDE - 1) as f32;
    let contrast = white - black;
    if contrast < 48.0 {
        return None;
    }
    // A block that is neither black nor white is no block of a mark.
    let bit = |i: usize, j: usize| {
        let position = (level(i, j) - black) / contrast;
        (!(0.35..=0.65).contains(&position)).then_some(position > 0.5)
    };
    let mut payload = 0u64;
    for j in 0..SIDE {
        for i in 0..SIDE {
            let is_white = bit(i, j)?;
            if j == 0 || i == 0 {
                if is_white != (j == 0) {
                    return None;
                }
            } else {
                payload = payload << 1 | u64::from(is_white);
            }
        }
    }
    let plain = payload ^ WHITENING;
    let number = (plain >> (PAYLOAD_BITS - NUMBER_BITS)) as u32;
    (encode(number) == payload).then_some(number)
}

/// The 49 payload bits, the first block in the highest bit.
fn encode(number: u32) -> u64 {
    let with_sum = u64::from(number) << CHECKSUM_BITS | u64::from(checksum(number));
    let fixed_bits = PAYLOAD_BITS - NUMBER_BITS - CHECKSUM_BITS;
    (with_sum << fixed_bits | FIXED) ^ WHITENING
}

fn is_white(payload: u64, i: usize, j: usize) -> bool {
    match (i, j) {
        (_, 0) => true,
        (0, _) => false,
        _ => payload >> (PAYLOAD_BITS - 1 - ((j - 1) * (SIDE - 1) + i - 1)) & 1 == 1,
    }
}

/// CRC-16/CCITT of the three bytes.
fn checksum(number: u32) -> u16 {
    let mut crc = 0xffffu16;
    for byte in &number.to_be_bytes()[1..] {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 != 0 {
                crc << 1 ^ 0x1021
            } else {
                crc << 1
            };
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::SampleFormat;
    use crate::scene::Scene;

    fn marked(chroma: Chroma, depth: u32, width: usize, height: usize, number: u32) -> Picture {
        let format = SampleFormat { chroma, depth };
        let scene = Scene {
            format,
            width,
            height,
            ..Scene::default()
        };
        let mut picture = scene.picture(number);
        draw(&mut picture, number);
        picture
    }

    #[test]
    fn reads_what_was_drawn_in_every_format_and_size() {
        for chroma in [Chroma::Gray, Chroma::C420, Chroma::C422, Chroma::C444] {
            for depth in [8, 10, 12] {
                for (width, height) in [(128, 96), (319, 179), (416, 240), (1280, 720)] {
                    for number in [0, 1, 77, 4095, 0x00ab_cdef, MAX] {
                        let p = marked(chroma, depth, width, height, number);
                        let luma = &p.planes[0];
                        let got = read(&luma.samples, luma.width, luma.height, luma.width);
                        assert_eq!(got, Some(number), "{chroma:?} {depth} {width}x{height}");
                    }
                }
            }
        }
    }

    #[test]
    fn reads_every_orientation_crop_and_halving() {
        let p = marked(Chroma::C420, 8, 320, 180, 123_456);
        let luma = &p.planes[0].samples;
        for mirrored in [false, true] {
            for turns in 0..4 {
                let (mut w, mut h) = (320usize, 180usize);
                let mut at: Vec<u16> = luma.clone();
                if mirrored {
                    at.chunks_mut(w).for_each(<[u16]>::reverse);
                }
                for _ in 0..turns {
                    let mut turned = vec![0; w * h];
                    for y in 0..h {
                        for x in 0..w {
                            turned[x * h + (h - 1 - y)] = at[y * w + x];
                        }
                    }
                    (w, h, at) = (h, w, turned);
                }
                assert_eq!(read(&at, w, h, w), Some(123_456), "{mirrored} {turns}");
                // Cropped unevenly by stride and start.
                let cropped = &at[5 * w + 17..];
                assert_eq!(read(cropped, w - 40, h - 31, w), Some(123_456));
                let half: Vec<u16> = (0..h / 2)
                    .flat_map(|y| (0..w / 2).map(move |x| (x, y)))
                    .map(|(x, y)| {
                        let at = |dx, dy| at[(2 * y + dy) * w + 2 * x + dx];
                        (at(0, 0) + at(1, 0) + at(0, 1) + at(1, 1)) / 4
                    })
                    .collect();
                assert_eq!(read(&half, w / 2, h / 2, w / 2), Some(123_456));
            }
        }
    }

    #[test]
    fn a_picture_without_a_mark_has_no_number() {
        for cut in [None, Some(3)] {
            for n in 0..4 {
                let scene = Scene {
                    cut_every: cut,
                    ..Scene::default()
                };
                let p = scene.picture(n);
                assert_eq!(
                    read(&p.planes[0].samples, p.width(), p.height(), p.width()),
                    None
                );
            }
        }
        assert_eq!(read(&[0u8; 64], 8, 8, 8), None);
    }

    #[test]
    fn a_flipped_block_is_not_read_as_another_number() {
        let p = marked(Chroma::Gray, 8, 128, 96, 42);
        let (left, top) = ((128 - 64) / 2, (96 - 64) / 2);
        for j in 0..SIDE {
            for i in 0..SIDE {
                let mut samples = p.planes[0].samples.clone();
                for y in 0..8 {
                    for x in 0..8 {
                        let s = &mut samples[(top + j * 8 + y) * 128 + left + i * 8 + x];
                        *s = 252 - *s;
                    }
                }
                assert_eq!(read(&samples, 128, 96, 128), None, "block {i},{j}");
            }
        }
    }
}
