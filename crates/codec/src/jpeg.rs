//! Planes to a JPEG image, by libjpeg-turbo.

use media::{ColourDescription, Orientation};
use turbojpeg::{Compressor, Image, OutputBuf, PixelFormat, Subsamp, YuvPlanesImage};

use crate::CodecError;
use crate::colour::resolve;
use crate::convert::{subsampling, to_jpeg_planes};
use crate::libav::{Picture, Plane};
use crate::planes::{Grid, PlanesBuf, Subsampling};

/// The largest side that libjpeg takes (`JPEG_MAX_DIMENSION`).
const MAX_SIDE: usize = 65500;

/// Encodes pictures. Holds the encoder and its buffers; to be kept and used again.
pub struct JpegEncoder {
    compressor: Compressor,
    planes: PlanesBuf,
    /// Room for the largest possible image of the size at hand. Pages that no image has touched
    /// are not resident.
    output: Vec<u8>,
}

impl std::fmt::Debug for JpegEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JpegEncoder").finish_non_exhaustive()
    }
}

impl JpegEncoder {
    /// An encoder.
    ///
    /// # Errors
    /// [`CodecError::Encode`] where libjpeg-turbo gives none.
    pub fn new() -> Result<Self, CodecError> {
        Ok(Self {
            compressor: Compressor::new().map_err(failed)?,
            planes: PlanesBuf::new(),
            output: Vec::new(),
        })
    }

    /// Converts the picture as [`to_jpeg_planes`] does, and encodes it. A picture whose planes
    /// are those of a JPEG already (8 bit, full range, BT.601, not turned) is encoded from the
    /// decoder's memory. `quality` is libjpeg's, 1 to 100.
    ///
    /// # Errors
    /// [`CodecError::Quality`], [`CodecError::TooLargeForJpeg`], [`CodecError::Encode`].
    pub fn encode(
        &mut self,
        picture: &Picture,
        colour: ColourDescription,
        orientation: Orientation,
        quality: u8,
    ) -> Result<Vec<u8>, CodecError> {
        if !(1..=100).contains(&quality) {
            return Err(CodecError::Quality { quality });
        }
        let (width, height) = (picture.width(), picture.height());
        if width > MAX_SIDE || height > MAX_SIDE {
            let (width, height) = if orientation.swaps_axes() {
                (height, width)
            } else {
                (width, height)
            };
            return Err(CodecError::TooLargeForJpeg { width, height });
        }
        self.compressor
            .set_quality(i32::from(quality))
            .map_err(failed)?;
        let as_they_are = (orientation == Orientation::IDENTITY)
            .then(|| ready_planes(picture, colour))
            .flatten();
        if let Some((subsampling, planes)) = as_they_are {
            return self.compress(width, height, subsampling, planes);
        }
        let mut planes = std::mem::take(&mut self.planes);
        to_jpeg_planes(picture, colour, orientation, &mut planes);
        let result = self.compress(
            planes.width(),
            planes.height(),
            planes.subsampling(),
            views(&planes),
        );
        self.planes = planes;
        result
    }

    fn compress(
        &mut self,
        width: usize,
        height: usize,
        subsampling: Subsampling,
        [luma, cb, cr]: [View<'_>; 3],
    ) -> Result<Vec<u8>, CodecError> {
        let subsamp = match subsampling {
            Subsampling::Grey => Subsamp::Gray,
            Subsampling::S420 => Subsamp::Sub2x2,
            Subsampling::S422 => Subsamp::Sub2x1,
            Subsampling::S440 => Subsamp::Sub1x2,
            Subsampling::S444 => Subsamp::None,
        };
        self.compressor.set_subsamp(subsamp).map_err(failed)?;
        let room = turbojpeg::compressed_buf_len(width, height, subsamp).map_err(failed)?;
        if self.output.len() < room {
            // Not `resize`, which would touch every page.
            self.output = vec![0; room];
        }
        let mut output = OutputBuf::borrowed(&mut self.output);
        if subsampling == Subsampling::Grey {
            // The crate's planar call asks libjpeg-turbo for the size of a chroma plane that grey
            // images do not have, and panics.
            let image = Image {
                pixels: luma.samples,
                width,
                height,
                pitch: luma.stride,
                format: PixelFormat::GRAY,
            };
            self.compressor
                .compress(image, &mut output)
                .map_err(failed)?;
        } else {
            let image = YuvPlanesImage {
                y_plane: luma.samples,
                u_plane: cb.samples,
                v_plane: cr.samples,
                width,
                height,
                y_stride: luma.stride,
                u_stride: cb.stride,
                v_stride: cr.stride,
                subsamp,
            };
            self.compressor
                .compress_yuv_planes(&image, &mut output)
                .map_err(failed)?;
        }
        Ok(output.to_vec())
    }
}

fn failed(error: turbojpeg::Error) -> CodecError {
    CodecError::Encode {
        reason: error.to_string(),
    }
}

/// A plane as libjpeg-turbo takes it.
#[derive(Clone, Copy, Default)]
struct View<'a> {
    samples: &'a [u8],
    stride: usize,
}

fn views(planes: &PlanesBuf) -> [View<'_>; 3] {
    planes.planes.each_ref().map(|g: &Grid| View {
        samples: &g.samples,
        stride: g.stride,
    })
}

/// The decoder's planes, where they are those of a JPEG image.
fn ready_planes(
    picture: &Picture,
    colour: ColourDescription,
) -> Option<(Subsampling, [View<'_>; 3])> {
    let chroma = picture.chroma();
    let resolved = resolve(colour, chroma, picture.height(), picture.is_gbr());
    let affine = resolved.affine(picture.bit_depth())?;
    // libjpeg-turbo reads luma up to whole chroma samples.
    let (sx, sy) = chroma.shifts();
    let whole = picture.width().is_multiple_of(1 << sx) && picture.height().is_multiple_of(1 << sy);
    if !whole || !affine.is_identity() {
        return None;
    }
    let mut views = [View::default(); 3];
    for (i, to) in views.iter_mut().enumerate() {
        match picture.plane(i) {
            Some(Plane::U8(rows)) => {
                *to = View {
                    samples: rows.as_strided(),
                    stride: rows.stride(),
                };
            }
            Some(Plane::U16(_)) => return None,
            None => {}
        }
    }
    Some((subsampling(chroma, false), views))
}
