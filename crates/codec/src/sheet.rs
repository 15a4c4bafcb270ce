//! Contact sheets: many small images in one.

use turbojpeg::{Compressor, Image, OutputBuf, PixelFormat, Subsamp};

use crate::CodecError;

const PIXEL: usize = 3;

/// Small images in rows, each in a tile of the same size.
#[derive(Debug)]
pub struct ContactSheet {
    columns: usize,
    tile: (usize, usize),
    width: usize,
    height: usize,
    /// RGB. Black where there is no image.
    pixels: Vec<u8>,
}

impl ContactSheet {
    /// An empty sheet of so many columns and rows of tiles of this width and height. The caller
    /// bounds their product: the sheet takes three bytes a pixel.
    ///
    /// # Errors
    /// [`CodecError::TooLargeForJpeg`], [`CodecError::OutOfMemory`].
    pub fn new(columns: usize, rows: usize, tile: (usize, usize)) -> Result<Self, CodecError> {
        const MAX_SIDE: usize = 65_500;
        let width = columns.saturating_mul(tile.0);
        let height = rows.saturating_mul(tile.1);
        if width > MAX_SIDE || height > MAX_SIDE {
            return Err(CodecError::TooLargeForJpeg { width, height });
        }
        let mut pixels = Vec::new();
        let bytes = width * height * PIXEL;
        let room = pixels.try_reserve_exact(bytes);
        room.map_err(|_| CodecError::OutOfMemory)?;
        pixels.resize(bytes, 0);
        Ok(Self {
            columns,
            tile,
            width,
            height,
            pixels,
        })
    }

    /// Puts a JPEG image into the tile of this number, in rows from the left. What is larger than
    /// a tile is cut.
    ///
    /// # Errors
    /// [`CodecError::Encode`]: it is no JPEG image.
    pub fn put(&mut self, number: usize, jpeg: &[u8]) -> Result<(), CodecError> {
        let image = turbojpeg::decompress(jpeg, PixelFormat::RGB).map_err(failed)?;
        let (column, row) = (number % self.columns.max(1), number / self.columns.max(1));
        let wide = image.width.min(self.tile.0);
        for y in 0..image.height.min(self.tile.1) {
            let from = y * image.pitch;
            let to = ((row * self.tile.1 + y) * self.width + column * self.tile.0) * PIXEL;
            let from = image.pixels.get(from..from + wide * PIXEL);
            let to = self.pixels.get_mut(to..to + wide * PIXEL);
            if let (Some(from), Some(to)) = (from, to) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }

    /// Encodes the sheet.
    ///
    /// # Errors
    /// [`CodecError::Encode`].
    pub fn compress(&self, quality: u8) -> Result<Vec<u8>, CodecError> {
        let mut compressor = Compressor::new().map_err(failed)?;
        let quality = i32::from(quality.clamp(1, 100));
        compressor.set_quality(quality).map_err(failed)?;
        compressor.set_subsamp(Subsamp::Sub2x2).map_err(failed)?;
        let image = Image {
            pixels: self.pixels.as_slice(),
            width: self.width,
            pitch: self.width * PIXEL,
            height: self.height,
            format: PixelFormat::RGB,
        };
        let mut output = OutputBuf::new_owned();
        compressor.compress(image, &mut output).map_err(failed)?;
        Ok(output.to_vec())
    }
}

fn failed(error: turbojpeg::Error) -> CodecError {
    CodecError::Encode {
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A JPEG image of one colour.
    fn image(width: usize, height: usize, colour: [u8; 3]) -> Vec<u8> {
        let mut sheet = ContactSheet::new(1, 1, (width, height)).unwrap();
        for pixel in sheet.pixels.chunks_exact_mut(PIXEL) {
            pixel.copy_from_slice(&colour);
        }
        sheet.compress(100).unwrap()
    }

    #[test]
    fn images_lie_where_their_numbers_say() {
        let mut sheet = ContactSheet::new(3, 2, (16, 8)).unwrap();
        let colours = [[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0]];
        for (number, colour) in [0, 2, 4, 5].into_iter().zip(colours) {
            // One is too large, one too small.
            let size = [(16, 8), (20, 20), (16, 8), (8, 8)][number % 4];
            sheet.put(number, &image(size.0, size.1, colour)).unwrap();
        }
        let made = testkit::jpeg::decode(&sheet.compress(100).unwrap()).unwrap();
        assert_eq!((made.width, made.height), (48, 16));
        for (number, expected) in [
            (0, colours[0]),
            (1, [0; 3]),
            (2, colours[1]),
            (3, [0; 3]),
            (4, colours[2]),
        ] {
            let pixel = made.pixel(number % 3 * 16 + 4, number / 3 * 8 + 4);
            for (a, b) in pixel.into_iter().zip(expected) {
                assert!(a.abs_diff(b) < 12, "{number}: {pixel:?}");
            }
        }
        assert!(sheet.put(0, b"no image").is_err());
        sheet.put(99, &image(16, 8, [9; 3])).unwrap();
        assert!(ContactSheet::new(1000, 1, (1000, 1)).is_err());
    }
}
