//! Moving content: what the encoder is given to compress.
//!
//! A panning noise texture gives every block motion to find, boxes that bounce uncover ground,
//! cuts and fades make the encoder insert keyframes and weight its references. Everything follows
//! from the frame number alone, so that a clip is the same on every machine.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::picture::{Picture, SampleFormat};

/// Side of the texture, a power of two.
const TEXTURE: usize = 256;

/// How pictures look.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Scene {
    /// Sampling and depth.
    pub format: SampleFormat,
    /// Luma width.
    pub width: usize,
    /// Luma height.
    pub height: usize,
    /// Samples use the full range, not 16 to 235 (240).
    pub full_range: bool,
    /// Another texture after every so many frames.
    pub cut_every: Option<u32>,
    /// Brightness goes up and down over this many frames.
    pub fade_over: Option<u32>,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            format: SampleFormat::YUV420,
            width: 320,
            height: 180,
            full_range: false,
            cut_every: None,
            fade_over: None,
        }
    }
}

impl Scene {
    /// Frame `n`, without a mark.
    pub fn picture(&self, n: u32) -> Picture {
        let shot = self.cut_every.map_or(0, |every| n / every);
        let texture = texture(shot);
        let mut picture = Picture::zeroed(self.format, self.width, self.height);
        let gain = self.gain(n);
        let boxes = self.boxes(n, shot);
        let (sx, sy) = self.format.chroma.shifts();
        for (component, plane) in picture.planes.iter_mut().enumerate() {
            let (sx, sy) = if component == 0 { (0, 0) } else { (sx, sy) };
            for y in 0..plane.height {
                for x in 0..plane.width {
                    let (px, py) = (x << sx, y << sy);
                    let inside = boxes.iter().rev().find(|b| b.contains(px, py));
                    let value = match (component, inside) {
                        (0, None) => {
                            // Pans two samples right and one down a frame.
                            let u = (px + 2 * n as usize) % TEXTURE;
                            let v = (py + n as usize) % TEXTURE;
                            texture[v * TEXTURE + u] * gain
                        }
                        (0, Some(b)) => b.colour[0] * gain,
                        (c, Some(b)) => b.colour[c],
                        (1, None) => 0.25 + 0.5 * px as f32 / self.width as f32,
                        (_, None) => 0.75 - 0.5 * py as f32 / self.height as f32,
                    };
                    plane.samples[y * plane.width + x] = self.level(component, value);
                }
            }
        }
        picture
    }

    /// From 0..1 to a sample of the depth and range.
    fn level(&self, component: usize, value: f32) -> u16 {
        let unit = (1u32 << (self.format.depth - 8)) as f32;
        let (low, high) = match (self.full_range, component) {
            (true, _) => (0.0, 255.0),
            (false, 0) => (16.0, 235.0),
            (false, _) => (16.0, 240.0),
        };
        ((low + (high - low) * value.clamp(0.0, 1.0)) * unit).round() as u16
    }

    fn gain(&self, n: u32) -> f32 {
        self.fade_over.map_or(1.0, |over| {
            let phase = n % over;
            let distance = phase.min(over - phase) as f32 / (over as f32 / 2.0);
            0.15 + 0.85 * distance
        })
    }

    fn boxes(&self, n: u32, shot: u32) -> Vec<Box> {
        (0..4u32)
            .map(|k| {
                let seed = mix(shot * 7 + k);
                let side = 16 + (seed % 24) as usize;
                let bounce = |limit: usize, speed: u32, start: u32| {
                    let span = limit.saturating_sub(side).max(1);
                    let at = (start + n * speed) as usize % (2 * span);
                    at.min(2 * span - at)
                };
                let part = |shift: u32| (seed >> shift & 0xff) as f32 / 255.0;
                Box {
                    left: bounce(self.width, 3 + k, seed & 0xffff),
                    top: bounce(self.height, 2 + k, seed >> 16),
                    side,
                    colour: [part(0), part(8), part(16)],
                }
            })
            .collect()
    }
}

/// A square that moves.
struct Box {
    left: usize,
    top: usize,
    side: usize,
    colour: [f32; 3],
}

impl Box {
    fn contains(&self, x: usize, y: usize) -> bool {
        (self.left..self.left + self.side).contains(&x)
            && (self.top..self.top + self.side).contains(&y)
    }
}

/// The texture of a shot, computed once.
fn texture(shot: u32) -> Arc<Vec<f32>> {
    static TEXTURES: Mutex<Option<HashMap<u32, Arc<Vec<f32>>>>> = Mutex::new(None);
    let mut textures = TEXTURES.lock().unwrap_or_else(PoisonError::into_inner);
    let of_shot = textures.get_or_insert_default().entry(shot);
    Arc::clone(of_shot.or_insert_with(|| Arc::new(make_texture(shot))))
}

/// Smoothed noise of three scales, 0..1, that tiles.
fn make_texture(shot: u32) -> Vec<f32> {
    let noise = |cell: usize, x: usize, y: usize, salt: u32| {
        let cells = TEXTURE / cell;
        let at = |i: usize, j: usize| {
            let id = ((j % cells) * cells + i % cells) as u32;
            (mix(id ^ mix(salt ^ shot.wrapping_mul(0x9e37))) & 0xffff) as f32 / 65535.0
        };
        let (i, j) = (x / cell, y / cell);
        let (fx, fy) = (
            (x % cell) as f32 / cell as f32,
            (y % cell) as f32 / cell as f32,
        );
        let top = at(i, j) + (at(i + 1, j) - at(i, j)) * fx;
        let bottom = at(i, j + 1) + (at(i + 1, j + 1) - at(i, j + 1)) * fx;
        top + (bottom - top) * fy
    };
    // Every other shot is a smooth ramp: it is cheaper to code from nothing than from the noise
    // before it, and the noise after it has nothing to refer to, so that an encoder sees the cut.
    let ramp = |x: usize, y: usize| (x.min(TEXTURE - x) + y.min(TEXTURE - y)) as f32 / 256.0;
    (0..TEXTURE * TEXTURE)
        .map(|at| {
            let (x, y) = (at % TEXTURE, at / TEXTURE);
            if !shot.is_multiple_of(2) {
                return 0.1 + 0.7 * ramp(x, y);
            }
            let scales = [(64, 0.4), (16, 0.3), (4, 0.3)];
            let sum: f32 = (1u32..)
                .zip(scales)
                .map(|(salt, (cell, weight))| weight * noise(cell, x, y, salt))
                .sum();
            0.1 + 0.8 * sum
        })
        .collect()
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
    fn every_frame_differs_from_every_other_even_without_its_mark() {
        let scene = Scene {
            cut_every: Some(10),
            ..Scene::default()
        };
        let pictures: Vec<_> = (0..40).map(|n| scene.picture(n)).collect();
        for (i, a) in pictures.iter().enumerate() {
            assert_eq!(*a, scene.picture(i as u32));
            assert!(pictures[..i].iter().all(|b| a != b), "frame {i}");
        }
    }

    #[test]
    fn limited_range_is_kept_and_full_range_is_used() {
        for depth in [8, 10] {
            let format = SampleFormat {
                depth,
                ..SampleFormat::YUV420
            };
            let scene = Scene {
                format,
                ..Scene::default()
            };
            let luma = &scene.picture(5).planes[0].samples;
            let unit = 1 << (depth - 8);
            assert!(luma.iter().all(|s| (16 * unit..=235 * unit).contains(s)));
        }
    }
}
