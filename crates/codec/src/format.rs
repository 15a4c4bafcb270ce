//! Formats of images beside JPEG, each with the speed that suits serving (`docs/http.md` has what
//! they cost).

use std::ffi::{CStr, CString};

use crate::CodecError;
use crate::libav::{Planes420, encode, has_encoder};
use crate::planes::Subsampling;
use crate::rgb::Rgb;

/// How an image is stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Format {
    /// By libjpeg-turbo, from the planes as they are.
    #[default]
    Jpeg,
    /// Lossy, by libwebp.
    Webp,
    /// By libaom.
    Avif,
    /// Lossless R'G'B', 8 bit, or 16 where the picture has more than 8.
    Png,
}

impl Format {
    /// Whether this build can make it: what encodes WebP and AV1 is a part of libavcodec, which
    /// may be built without.
    pub fn is_available(self) -> bool {
        match self {
            Self::Jpeg | Self::Png => true,
            Self::Webp => has_encoder(WEBP),
            Self::Avif => has_encoder(AV1),
        }
    }
}

const WEBP: &CStr = c"libwebp";
const AV1: &CStr = c"libaom-av1";

/// Planes of an image: full-range BT.601, 8 bit.
pub(crate) struct Source<'a> {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) subsampling: Subsampling,
    /// Samples and stride.
    pub(crate) planes: [(&'a [u8], usize); 3],
}

/// The planes with chroma halved both ways.
struct Halved {
    luma: Vec<u8>,
    chroma: [Vec<u8>; 2],
}

impl Halved {
    /// `limited`: in the range that WebP wants, 16 to 235 and 240.
    fn of(source: &Source<'_>, limited: bool) -> Self {
        let table = |scale: f32, zero: f32, from: f32| -> Vec<u8> {
            let value = |v: u8| (f32::from(v) - from) * scale + zero;
            (0..=255).map(|v| value(v).round() as u8).collect()
        };
        let (luma, chroma) = if limited {
            (
                table(219.0 / 255.0, 16.0, 0.0),
                table(224.0 / 255.0, 128.0, 128.0),
            )
        } else {
            (table(1.0, 0.0, 0.0), table(1.0, 0.0, 0.0))
        };
        let look = |table: &[u8], v: u8| table.get(usize::from(v)).copied().unwrap_or(v);
        let (width, height) = (source.width, source.height);
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let [(samples, stride), ..] = source.planes;
        let mut out = Vec::with_capacity(width * height);
        for y in 0..height {
            let row = samples.get(y * stride..y * stride + width).unwrap_or(&[]);
            out.extend(row.iter().map(|&v| look(&luma, v)));
        }
        out.resize(width * height, 0);
        let halved = |plane: usize| {
            let (samples, stride) = source.planes.get(plane).copied().unwrap_or((&[], 0));
            if source.subsampling == Subsampling::Grey {
                return vec![128; half_width * half_height];
            }
            let (sx, sy) = source.subsampling.shifts();
            let (cols, rows) = (width.div_ceil(1 << sx), height.div_ceil(1 << sy));
            // As many samples of the plane as make one.
            let (nx, ny) = (2usize >> sx, 2usize >> sy);
            let mut out = Vec::with_capacity(half_width * half_height);
            for y in 0..half_height {
                for x in 0..half_width {
                    let mut sum = 0u32;
                    for dy in 0..ny {
                        for dx in 0..nx {
                            let at =
                                (y * ny + dy).min(rows - 1) * stride + (x * nx + dx).min(cols - 1);
                            sum += u32::from(samples.get(at).copied().unwrap_or(128));
                        }
                    }
                    let count = (nx * ny) as u32;
                    out.push(look(&chroma, ((sum + count / 2) / count) as u8));
                }
            }
            out
        };
        Self {
            chroma: [halved(1), halved(2)],
            luma: out,
        }
    }

    fn planes(&self, source: &Source<'_>, full_range: bool) -> Planes420<'_> {
        let half = source.width.div_ceil(2);
        let [cb, cr] = &self.chroma;
        Planes420 {
            width: source.width,
            height: source.height,
            planes: [(&self.luma, source.width), (cb, half), (cr, half)],
            full_range,
        }
    }
}

fn number(value: u32) -> CString {
    // Digits only.
    CString::new(value.to_string()).unwrap_or_default()
}

fn too_large(source: &Source<'_>, most: usize) -> Result<(), CodecError> {
    let (width, height) = (source.width, source.height);
    if width > most || height > most {
        return Err(CodecError::TooLargeForJpeg { width, height });
    }
    Ok(())
}

/// A WebP file, at libwebp's fastest.
pub(crate) fn webp(source: &Source<'_>, quality: u8) -> Result<Vec<u8>, CodecError> {
    /// `WEBP_MAX_DIMENSION`.
    const MAX_SIDE: usize = 16_383;
    too_large(source, MAX_SIDE)?;
    let quality = number(quality.into());
    let options = [
        (c"quality", quality.as_c_str()),
        // libwebp's method: 0 is the fastest of 7.
        (c"compression_level", c"0"),
    ];
    encode(
        WEBP,
        &options,
        &Halved::of(source, true).planes(source, false),
    )
}

/// An AVIF file, at libaom's fastest for single pictures.
pub(crate) fn avif(source: &Source<'_>, quality: u8) -> Result<Vec<u8>, CodecError> {
    /// `av1` allows 65536; more than this is no picture to look at.
    const MAX_SIDE: usize = 16_384;
    too_large(source, MAX_SIDE)?;
    // From 0, the best, to 63: so that a quality is about as good as the same of JPEG.
    let crf = number(((100 - u32::from(quality.min(100))) * 63 / 100 + 14).min(63));
    let options = [
        (c"crf", crf.as_c_str()),
        (c"b", c"0"),
        (c"usage", c"allintra"),
        (c"cpu-used", c"8"),
        (c"aom-params", c"cpu-used=9"),
        (c"still-picture", c"1"),
        (c"row-mt", c"0"),
    ];
    let data = encode(
        AV1,
        &options,
        &Halved::of(source, false).planes(source, true),
    )?;
    // A temporal delimiter, which files of one picture are to be without (AV1-ISOBMFF, 2.4).
    let data = data.strip_prefix(&[0x12, 0x00]).unwrap_or(&data);
    let side = |side: usize| u32::try_from(side).unwrap_or(0);
    Ok(avif_serialize::Aviffy::new()
        .set_chroma_subsampling((true, true))
        .set_full_color_range(true)
        .matrix_coefficients(avif_serialize::constants::MatrixCoefficients::Bt601)
        .set_seq_profile(0)
        .to_vec(data, None, side(source.width), side(source.height), 8))
}

/// A PNG file.
pub(crate) fn png(image: &Rgb) -> Result<Vec<u8>, CodecError> {
    let failed = |e: png::EncodingError| CodecError::Encode {
        reason: e.to_string(),
    };
    let side = |side: usize| u32::try_from(side).unwrap_or(0);
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side(image.width), side(image.height));
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(match image.sixteen_bits {
        true => png::BitDepth::Sixteen,
        false => png::BitDepth::Eight,
    });
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&image.bytes).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(file)
}
