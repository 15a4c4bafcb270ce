//! Reading JPEG images back.

use anyhow::{Context, Result, ensure};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use crate::watermark;

/// A decoded JPEG.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Three bytes a pixel: red, green, blue.
    pub rgb: Vec<u8>,
}

impl Image {
    /// The pixel in column `x` of row `y`.
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.width + x) * 3;
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }

    /// The burnt-in frame number, whatever way the picture is turned.
    pub fn frame_number(&self) -> Option<u32> {
        // Green stands for luma: the mark has no colour.
        let green: Vec<u8> = self.rgb.iter().skip(1).step_by(3).copied().collect();
        watermark::read(&green, self.width, self.height, self.width)
    }
}

/// Decodes a JPEG file's bytes; fails on what is not one complete image.
pub fn decode(bytes: &[u8]) -> Result<Image> {
    ensure!(
        bytes.starts_with(&[0xff, 0xd8]),
        "no JPEG: it does not begin with SOI"
    );
    ensure!(
        bytes.ends_with(&[0xff, 0xd9]),
        "no whole JPEG: it does not end with EOI"
    );
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let rgb = decoder
        .decode()
        .map_err(|e| anyhow::anyhow!("JPEG does not decode: {e:?}"))?;
    let (width, height) = decoder.dimensions().context("JPEG without dimensions")?;
    ensure!(
        rgb.len() == width * height * 3,
        "{} bytes for {width}x{height}",
        rgb.len()
    );
    Ok(Image { width, height, rgb })
}

/// The frame number in a JPEG file's bytes.
pub fn frame_number(bytes: &[u8]) -> Result<u32> {
    decode(bytes)?
        .frame_number()
        .context("no readable frame number in the picture")
}
