//! A picture to an image: JPEG by libjpeg-turbo here, other formats in [`crate::format`].

use media::{ColourDescription, Orientation};
use turbojpeg::{Compressor, Image, OutputBuf, PixelFormat, Subsamp, YuvPlanesImage};

use crate::CodecError;
use crate::colour::resolve;
use crate::convert::{subsampling, to_jpeg_planes};
use crate::format::{self, Format};
use crate::libav::{Picture, Plane};
use crate::planes::{Grid, PlanesBuf, Subsampling};
use crate::rendition::Rendition;
use crate::rgb::{Rgb, to_rgb};
use crate::scale::Scaler;

/// The largest side that libjpeg takes (`JPEG_MAX_DIMENSION`).
const MAX_SIDE: usize = 65500;

/// Encodes pictures. Holds the encoder and its buffers; to be kept and used again.
pub struct ImageEncoder {
    compressor: Compressor,
    planes: PlanesBuf,
    scaler: Scaler,
    scaled: PlanesBuf,
    /// Room for the largest possible image of the size at hand. Pages that no image has touched
    /// are not resident.
    output: Vec<u8>,
}

impl std::fmt::Debug for ImageEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageEncoder").finish_non_exhaustive()
    }
}

impl ImageEncoder {
    /// An encoder.
    ///
    /// # Errors
    /// [`CodecError::Encode`] where libjpeg-turbo gives none.
    pub fn new() -> Result<Self, CodecError> {
        Ok(Self {
            compressor: Compressor::new().map_err(failed)?,
            planes: PlanesBuf::new(),
            scaler: Scaler::default(),
            scaled: PlanesBuf::new(),
            output: Vec::new(),
        })
    }

    /// Converts the picture as [`to_jpeg_planes`] does, and scales it down as `rendition` says. A
    /// picture whose planes are those of the image already (8 bit, full range, BT.601, neither
    /// turned nor scaled) is not copied.
    ///
    /// # Errors
    /// [`CodecError::Quality`], [`CodecError::TooLargeForJpeg`], [`CodecError::Scale`].
    pub fn convert<'a>(
        &'a mut self,
        picture: &'a Picture,
        colour: ColourDescription,
        orientation: Orientation,
        rendition: Rendition,
    ) -> Result<Converted<'a>, CodecError> {
        let quality = rendition.quality;
        if !(1..=100).contains(&quality) {
            return Err(CodecError::Quality { quality });
        }
        let mut displayed = (picture.width(), picture.height());
        if orientation.swaps_axes() {
            displayed = (displayed.1, displayed.0);
        }
        let layout = rendition.layout(displayed.0, displayed.1);
        let (width, height) = layout.size;
        if rendition.format == Format::Png {
            let rgb = to_rgb(picture, colour, orientation).scaled(&layout)?;
            return Ok(Converted(Kind::Rgb(rgb)));
        }
        if width > MAX_SIDE || height > MAX_SIDE {
            return Err(CodecError::TooLargeForJpeg { width, height });
        }
        let scaled = (width, height) != displayed;
        let as_they_are = (orientation == Orientation::IDENTITY && !scaled)
            .then(|| ready_planes(picture, colour))
            .flatten();
        let (subsampling, planes) = match as_they_are {
            Some(ready) => ready,
            None => {
                to_jpeg_planes(picture, colour, orientation, &mut self.planes);
                let planes = if scaled {
                    self.scaler.scale(&self.planes, &layout, &mut self.scaled)?;
                    &self.scaled
                } else {
                    &self.planes
                };
                (planes.subsampling(), views(planes))
            }
        };
        Ok(Converted(Kind::Planes(Planes {
            compressor: &mut self.compressor,
            output: &mut self.output,
            format: rendition.format,
            quality,
            width,
            height,
            subsampling,
            planes,
        })))
    }

    /// [`ImageEncoder::convert`], then [`Converted::compress`].
    ///
    /// # Errors
    /// Those of both.
    pub fn encode(
        &mut self,
        picture: &Picture,
        colour: ColourDescription,
        orientation: Orientation,
        rendition: Rendition,
    ) -> Result<Vec<u8>, CodecError> {
        self.convert(picture, colour, orientation, rendition)?
            .compress()
    }
}

/// An image, ready to be compressed.
pub struct Converted<'a>(Kind<'a>);

enum Kind<'a> {
    Planes(Planes<'a>),
    Rgb(Rgb),
}

/// The planes of an image.
struct Planes<'a> {
    compressor: &'a mut Compressor,
    output: &'a mut Vec<u8>,
    format: Format,
    quality: u8,
    width: usize,
    height: usize,
    subsampling: Subsampling,
    planes: [View<'a>; 3],
}

impl std::fmt::Debug for Converted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Converted")
            .field("width", &self.width())
            .field("height", &self.height())
            .finish_non_exhaustive()
    }
}

impl Converted<'_> {
    /// Columns of the image.
    pub fn width(&self) -> usize {
        match &self.0 {
            Kind::Planes(planes) => planes.width,
            Kind::Rgb(rgb) => rgb.width,
        }
    }

    /// Rows of the image.
    pub fn height(&self) -> usize {
        match &self.0 {
            Kind::Planes(planes) => planes.height,
            Kind::Rgb(rgb) => rgb.height,
        }
    }

    /// The rows of a plane (0 luma, 1 Cb, 2 Cr), top to bottom; none where there is no such plane.
    pub fn rows(&self, plane: usize) -> impl Iterator<Item = &[u8]> {
        let (view, (width, height)) = match &self.0 {
            Kind::Planes(planes) => planes.view(plane),
            Kind::Rgb(_) => (View::default(), (0, 0)),
        };
        (0..height).map_while(move |y| {
            let start = y * view.stride;
            view.samples.get(start..start + width)
        })
    }

    /// Encodes the image.
    ///
    /// # Errors
    /// [`CodecError::Encode`].
    pub fn compress(self) -> Result<Vec<u8>, CodecError> {
        let planes = match self.0 {
            Kind::Rgb(rgb) => return format::png(&rgb),
            Kind::Planes(planes) => planes,
        };
        let quality = planes.quality;
        match planes.format {
            Format::Webp => format::webp(&planes.source(), quality),
            Format::Avif => format::avif(&planes.source(), quality),
            Format::Jpeg | Format::Png => planes.jpeg(),
        }
    }
}

impl<'a> Planes<'a> {
    fn view(&self, plane: usize) -> (View<'a>, (usize, usize)) {
        let view = self.planes.get(plane).copied().unwrap_or_default();
        let (sx, sy) = match plane {
            0 => (0, 0),
            _ => self.subsampling.shifts(),
        };
        let size = (self.width.div_ceil(1 << sx), self.height.div_ceil(1 << sy));
        (view, size)
    }

    fn source(&self) -> format::Source<'a> {
        format::Source {
            width: self.width,
            height: self.height,
            subsampling: self.subsampling,
            planes: self.planes.map(|view| (view.samples, view.stride)),
        }
    }

    fn jpeg(self) -> Result<Vec<u8>, CodecError> {
        let Self {
            compressor,
            output: buffer,
            quality,
            width,
            height,
            subsampling,
            planes: [luma, cb, cr],
            ..
        } = self;
        compressor.set_quality(i32::from(quality)).map_err(failed)?;
        let subsamp = match subsampling {
            Subsampling::Grey => Subsamp::Gray,
            Subsampling::S420 => Subsamp::Sub2x2,
            Subsampling::S422 => Subsamp::Sub2x1,
            Subsampling::S440 => Subsamp::Sub1x2,
            Subsampling::S444 => Subsamp::None,
        };
        compressor.set_subsamp(subsamp).map_err(failed)?;
        let room = turbojpeg::compressed_buf_len(width, height, subsamp).map_err(failed)?;
        if buffer.len() < room {
            // Not `resize`, which would touch every page.
            *buffer = vec![0; room];
        }
        let mut output = OutputBuf::borrowed(buffer);
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
            compressor.compress(image, &mut output).map_err(failed)?;
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
            compressor
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
