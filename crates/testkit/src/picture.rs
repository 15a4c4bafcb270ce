//! Raw pictures: planes of samples, as ffmpeg's `rawvideo` packs them.

use anyhow::{Result, bail};

/// `chroma_format_idc` (H.265, 6.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Chroma {
    /// 4:0:0, luma only.
    Gray,
    /// 4:2:0.
    C420,
    /// 4:2:2.
    C422,
    /// 4:4:4.
    C444,
}

impl Chroma {
    /// Binary logarithms of `SubWidthC` and `SubHeightC`.
    pub fn shifts(self) -> (u32, u32) {
        match self {
            Self::C420 => (1, 1),
            Self::C422 => (1, 0),
            Self::Gray | Self::C444 => (0, 0),
        }
    }
}

/// Sampling and depth: what ffmpeg calls a pixel format.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SampleFormat {
    /// Chroma sampling.
    pub chroma: Chroma,
    /// Bits per sample, 8 to 16; more than 8 are stored as 16-bit little-endian words.
    pub depth: u32,
}

impl SampleFormat {
    /// 8-bit 4:2:0.
    pub const YUV420: Self = Self {
        chroma: Chroma::C420,
        depth: 8,
    };

    /// ffmpeg's name for it.
    pub fn ffmpeg_name(self) -> String {
        let base = match self.chroma {
            Chroma::Gray => "gray",
            Chroma::C420 => "yuv420p",
            Chroma::C422 => "yuv422p",
            Chroma::C444 => "yuv444p",
        };
        if self.depth == 8 {
            base.to_owned()
        } else {
            format!("{base}{}le", self.depth)
        }
    }

    /// Reads ffmpeg's name; `yuvj…` (full range) and `gbrp…` have the planes of their `yuv…` twin.
    pub fn from_ffmpeg_name(name: &str) -> Result<Self> {
        let (base, depth) = match name.strip_suffix("le") {
            Some(rest) if rest.len() > 2 => {
                let (base, bits) = rest.split_at(rest.len() - 2);
                (base, bits.parse()?)
            }
            _ => (name, 8),
        };
        let chroma = match base {
            "gray" => Chroma::Gray,
            "yuv420p" | "yuvj420p" => Chroma::C420,
            "yuv422p" | "yuvj422p" => Chroma::C422,
            "yuv444p" | "yuvj444p" | "gbrp" => Chroma::C444,
            _ => bail!("pixel format {name} is not one that HEVC decoders give"),
        };
        Ok(Self { chroma, depth })
    }

    /// Bytes of one stored sample: 1 or 2.
    pub fn bytes_per_sample(self) -> usize {
        if self.depth > 8 { 2 } else { 1 }
    }

    /// Width and height of each plane of a picture of this size, in samples.
    pub fn plane_sizes(self, width: usize, height: usize) -> Vec<(usize, usize)> {
        let (sx, sy) = self.chroma.shifts();
        let chroma = (width.div_ceil(1 << sx), height.div_ceil(1 << sy));
        match self.chroma {
            Chroma::Gray => vec![(width, height)],
            _ => vec![(width, height), chroma, chroma],
        }
    }

    /// Bytes of one packed picture.
    pub fn picture_bytes(self, width: usize, height: usize) -> usize {
        let samples: usize = self
            .plane_sizes(width, height)
            .iter()
            .map(|(w, h)| w * h)
            .sum();
        samples * self.bytes_per_sample()
    }
}

/// One plane, rows without padding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plane {
    /// Samples per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width * height` samples.
    pub samples: Vec<u16>,
}

/// One picture, planes in the order Y, Cb, Cr.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picture {
    /// Sampling and depth.
    pub format: SampleFormat,
    /// One plane (4:0:0) or three.
    pub planes: Vec<Plane>,
}

impl Picture {
    /// A black-less, grey-less nothing: every sample zero.
    pub fn zeroed(format: SampleFormat, width: usize, height: usize) -> Self {
        let planes = format
            .plane_sizes(width, height)
            .into_iter()
            .map(|(width, height)| Plane {
                width,
                height,
                samples: vec![0; width * height],
            })
            .collect();
        Self { format, planes }
    }

    /// Luma width.
    pub fn width(&self) -> usize {
        self.planes[0].width
    }

    /// Luma height.
    pub fn height(&self) -> usize {
        self.planes[0].height
    }

    /// Packed as ffmpeg's `rawvideo` wants it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let samples = self.planes.iter().flat_map(|p| p.samples.iter().copied());
        if self.format.bytes_per_sample() == 1 {
            samples.map(|s| s as u8).collect()
        } else {
            samples.flat_map(u16::to_le_bytes).collect()
        }
    }

    /// Unpacks what ffmpeg's `rawvideo` gave. Panics if the bytes are not exactly one picture.
    pub fn from_bytes(format: SampleFormat, width: usize, height: usize, bytes: &[u8]) -> Self {
        assert_eq!(
            bytes.len(),
            format.picture_bytes(width, height),
            "bytes of one picture"
        );
        let mut picture = Self::zeroed(format, width, height);
        let mut rest = bytes;
        for plane in &mut picture.planes {
            let (own, after) = rest.split_at(plane.samples.len() * format.bytes_per_sample());
            rest = after;
            if format.bytes_per_sample() == 1 {
                plane
                    .samples
                    .iter_mut()
                    .zip(own)
                    .for_each(|(s, b)| *s = u16::from(*b));
            } else {
                let words = own
                    .chunks_exact(2)
                    .map(|b| u16::from_le_bytes([b[0], b[1]]));
                plane
                    .samples
                    .iter_mut()
                    .zip(words)
                    .for_each(|(s, w)| *s = w);
            }
        }
        picture
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for chroma in [Chroma::Gray, Chroma::C420, Chroma::C422, Chroma::C444] {
            for depth in [8, 10, 12] {
                let format = SampleFormat { chroma, depth };
                assert_eq!(
                    SampleFormat::from_ffmpeg_name(&format.ffmpeg_name()).unwrap(),
                    format
                );
            }
        }
        assert!(SampleFormat::from_ffmpeg_name("nv12").is_err());
    }

    #[test]
    fn packing_goes_there_and_back_with_odd_sizes() {
        for chroma in [Chroma::Gray, Chroma::C420, Chroma::C422, Chroma::C444] {
            for depth in [8, 12] {
                let format = SampleFormat { chroma, depth };
                let mut picture = Picture::zeroed(format, 7, 5);
                let mut value = 0;
                for sample in picture.planes.iter_mut().flat_map(|p| &mut p.samples) {
                    value = (value * 5 + 3) % (1 << depth);
                    *sample = value;
                }
                let bytes = picture.to_bytes();
                assert_eq!(bytes.len(), format.picture_bytes(7, 5));
                assert_eq!(Picture::from_bytes(format, 7, 5, &bytes), picture);
            }
        }
    }
}
