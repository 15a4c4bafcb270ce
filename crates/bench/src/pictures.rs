//! What the clips show: ground that pans and turns slowly brighter and darker, things that move over
//! it, and on all of it the grain of a camera's sensor, new in each picture, without which a stream
//! is a tenth of a camera's and decodes in no time.

use testkit::{Picture, SampleFormat, watermark};

/// Side of the ground's texture and of the table of grain, powers of two.
const TEXTURE: usize = 512;
const GRAIN: usize = 1 << 18;
/// Greatest deviation of the grain from its mean, in steps of 8 bit; the standard deviation is about
/// a third of it.
const GRAIN_REACH: i32 = 12;
const THINGS: usize = 12;

/// Draws the pictures of one clip.
#[derive(Debug)]
pub(crate) struct Painter {
    format: SampleFormat,
    width: usize,
    height: usize,
    texture: Vec<u8>,
    grain: Vec<i8>,
}

impl Painter {
    /// For pictures of this format and size.
    pub(crate) fn new(format: SampleFormat, width: usize, height: usize) -> Self {
        let noise = |cell: usize, x: usize, y: usize| {
            let cells = TEXTURE / cell;
            let at = |i: usize, j: usize| {
                let id = (cell * 7919 + (j % cells) * cells + i % cells) as u32;
                (mix(id) & 0xff) as i32
            };
            let (i, j, u, v) = (x / cell, y / cell, (x % cell) as i32, (y % cell) as i32);
            let side = cell as i32;
            let row = |j: usize| at(i, j) * (side - u) + at(i + 1, j) * u;
            (row(j) * (side - v) + row(j + 1) * v) / (side * side)
        };
        let texture = (0..TEXTURE * TEXTURE)
            .map(|at| {
                let (x, y) = (at % TEXTURE, at / TEXTURE);
                let sum = 4 * noise(128, x, y) + 3 * noise(32, x, y) + noise(8, x, y);
                (32 + sum * 5 / 64) as u8
            })
            .collect();
        let grain = (0..GRAIN)
            .map(|at| {
                let bits = mix(at as u32 ^ 0x5bd1_e995);
                let sum: i32 = (0..4).map(|k| (bits >> (8 * k) & 0xff) as i32).sum();
                ((sum - 510) * GRAIN_REACH / 510) as i8
            })
            .collect();
        Self {
            format,
            width,
            height,
            texture,
            grain,
        }
    }

    /// Picture `n`, with its number burnt in, as `rawvideo` packs it.
    pub(crate) fn picture(&self, n: u32) -> Vec<u8> {
        let mut picture = Picture::zeroed(self.format, self.width, self.height);
        let (sx, sy) = self.format.chroma.shifts();
        let things: Vec<Thing> = (0..THINGS).map(|k| self.thing(n, k)).collect();
        for (component, plane) in picture.planes.iter_mut().enumerate() {
            let (sx, sy) = if component == 0 { (0, 0) } else { (sx, sy) };
            for (y, row) in plane.samples.chunks_mut(plane.width.max(1)).enumerate() {
                self.ground(row, n, component, y << sy, sx);
                for thing in &things {
                    thing.draw(row, component, y << sy, sx, &self.texture);
                }
                self.finish(row, n, component, y);
            }
        }
        watermark::draw(&mut picture, n);
        picture.to_bytes()
    }

    fn ground(&self, row: &mut [u16], n: u32, component: usize, y: usize, sx: u32) {
        if component > 0 {
            let slope = if component == 1 { y } else { 3 * y };
            row.fill(96 + (slope * 64 / (3 * self.height.max(1))) as u16);
            return;
        }
        let from = (y + n as usize) % TEXTURE * TEXTURE;
        let line = self.texture.iter().skip(from).take(TEXTURE);
        let shifted = line.cycle().skip((2 * n as usize) % TEXTURE);
        for (to, level) in row.iter_mut().zip(shifted.step_by(1 << sx)) {
            *to = u16::from(*level);
        }
    }

    /// Light, grain and depth.
    fn finish(&self, row: &mut [u16], n: u32, component: usize, y: usize) {
        let seed = mix(n.wrapping_mul(0x9e37_79b1) ^ (y as u32) << 3 ^ component as u32);
        let from = seed as usize % GRAIN;
        let light = 224 + (n % 100).abs_diff(50) as i32 * 32 / 50;
        let up = self.format.depth - 8;
        let grain = self.grain.iter().cycle().skip(from);
        for (sample, grain) in row.iter_mut().zip(grain) {
            let level = i32::from(*sample);
            let lit = if component == 0 {
                level * light / 256
            } else {
                level
            };
            // Sensors are quieter in colour, after their filters.
            let grain = i32::from(*grain) >> u32::from(component > 0);
            *sample = ((lit + grain).clamp(16, 235) as u16) << up;
        }
    }

    fn thing(&self, n: u32, k: usize) -> Thing {
        let seed = mix(k as u32 + 77);
        let side = self.height / 12 + seed as usize % (self.height / 8).max(1);
        let bounce = |limit: usize, speed: usize, start: usize| {
            let span = limit.saturating_sub(side).max(1);
            let at = (start + n as usize * speed) % (2 * span);
            at.min(2 * span - at)
        };
        // The larger the picture, the more samples the same motion is.
        let step = (self.height / 360).max(1);
        Thing {
            left: bounce(self.width, step * (1 + k % 5), seed as usize >> 8),
            top: bounce(self.height, step * (1 + k % 3), seed as usize >> 16),
            side,
            colour: [
                40 + (k * 15) as u16,
                90 + (k * 7) as u16,
                165 - (k * 6) as u16,
            ],
        }
    }
}

/// A round thing with a texture of its own.
struct Thing {
    left: usize,
    top: usize,
    side: usize,
    colour: [u16; 3],
}

impl Thing {
    fn draw(&self, row: &mut [u16], component: usize, y: usize, sx: u32, texture: &[u8]) {
        let Some(line) = y.checked_sub(self.top).filter(|l| *l < self.side) else {
            return;
        };
        // Half the width of a circle at this line.
        let radius = self.side as i64 / 2;
        let off = line as i64 - radius;
        let half = ((radius * radius - off * off).max(0) as f64).sqrt() as usize;
        let middle = self.left + self.side / 2;
        let (from, to) = (middle.saturating_sub(half) >> sx, (middle + half) >> sx);
        let level = self.colour.get(component).copied().unwrap_or(128);
        let inside = row.iter_mut().enumerate().take(to).skip(from);
        for (x, sample) in inside {
            let grown = if component == 0 {
                let at = (line % TEXTURE) * TEXTURE + ((x << sx).abs_diff(self.left)) % TEXTURE;
                texture.get(at).map_or(0, |t| u16::from(*t) / 4)
            } else {
                0
            };
            *sample = level + grown;
        }
    }
}

/// A hash of 32 bits (the finisher of MurmurHash3).
fn mix(mut value: u32) -> u32 {
    value = value.wrapping_add(0x9e37_79b9);
    value = (value ^ value >> 16).wrapping_mul(0x85eb_ca6b);
    value = (value ^ value >> 13).wrapping_mul(0xc2b2_ae35);
    value ^ value >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_of_the_size_and_range_of_their_format_and_all_differ() {
        for depth in [8, 10] {
            let format = SampleFormat {
                depth,
                ..SampleFormat::YUV420
            };
            let painter = Painter::new(format, 320, 180);
            let (a, b) = (painter.picture(0), painter.picture(1));
            let bytes = if depth > 8 { 2 } else { 1 };
            assert_eq!(a.len(), 320 * 180 * 3 / 2 * bytes);
            assert_ne!(a, b);
            assert_eq!(a, painter.picture(0));
        }
    }
}
