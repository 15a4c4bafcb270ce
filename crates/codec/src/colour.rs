//! What the code points of ITU-T H.273 mean, and the affine map that they lead to.
//!
//! `E'` values are normalised: R', G', B' and Y' from 0 to 1, colour differences from −½ to ½.

use media::ColourDescription;

use crate::Chroma;

/// 3×3, row by row.
pub(crate) type Matrix3 = [[f64; 3]; 3];

/// A colour description with every question answered.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Resolved {
    pub(crate) matrix: Matrix,
    pub(crate) full_range: bool,
    pub(crate) transfer: Transfer,
    pub(crate) primaries: Primaries,
}

/// `matrix_coefficients` (H.273, table 4), by the way that it is computed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Matrix {
    /// Non-constant luminance, with these weights of red and blue.
    Weights { kr: f64, kb: f64 },
    /// 0: the planes are G, B, R.
    Gbr,
    /// 8: YCgCo.
    YCgCo,
    /// 10 and 13: constant luminance, with these weights.
    ConstantLuminance { kr: f64, kb: f64 },
    /// 14: ICtCp.
    ICtCp,
}

/// `transfer_characteristics` (H.273, table 3), as far as they are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Transfer {
    /// Everything for SDR: passed through.
    Sdr,
    /// 16: SMPTE ST 2084.
    Pq,
    /// 18: ARIB STD-B67.
    Hlg,
}

/// CIE 1931 x, y of red, green, blue and white.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Primaries {
    pub(crate) r: (f64, f64),
    pub(crate) g: (f64, f64),
    pub(crate) b: (f64, f64),
    pub(crate) w: (f64, f64),
}

const D65: (f64, f64) = (0.3127, 0.3290);
const C: (f64, f64) = (0.310, 0.316);

pub(crate) const BT709: Primaries = Primaries {
    r: (0.640, 0.330),
    g: (0.300, 0.600),
    b: (0.150, 0.060),
    w: D65,
};
pub(crate) const BT2020: Primaries = Primaries {
    r: (0.708, 0.292),
    g: (0.170, 0.797),
    b: (0.131, 0.046),
    w: D65,
};

impl Primaries {
    /// `colour_primaries` (H.273, table 2); `None` for unspecified and reserved ones.
    fn from_code_point(code: u8) -> Option<Self> {
        Some(match code {
            1 => BT709,
            4 => Self {
                r: (0.67, 0.33),
                g: (0.21, 0.71),
                b: (0.14, 0.08),
                w: C,
            },
            5 => Self {
                r: (0.64, 0.33),
                g: (0.29, 0.60),
                b: (0.15, 0.06),
                w: D65,
            },
            6 | 7 => Self {
                r: (0.630, 0.340),
                g: (0.310, 0.595),
                b: (0.155, 0.070),
                w: D65,
            },
            8 => Self {
                r: (0.681, 0.319),
                g: (0.243, 0.692),
                b: (0.145, 0.049),
                w: C,
            },
            9 => BT2020,
            11 => Self {
                r: (0.680, 0.320),
                g: (0.265, 0.690),
                b: (0.150, 0.060),
                w: (0.314, 0.351),
            },
            12 => Self {
                r: (0.680, 0.320),
                g: (0.265, 0.690),
                b: (0.150, 0.060),
                w: D65,
            },
            22 => Self {
                r: (0.630, 0.340),
                g: (0.295, 0.605),
                b: (0.155, 0.077),
                w: D65,
            },
            // 10 is XYZ itself: no colours of a camera, and a matrix with no weights.
            _ => return None,
        })
    }

    /// Linear R, G, B to CIE X, Y, Z with Y of white 1.
    pub(crate) fn to_xyz(self) -> Matrix3 {
        let xyz = |(x, y): (f64, f64)| [x / y, 1.0, (1.0 - x - y) / y];
        let (r, g, b, w) = (xyz(self.r), xyz(self.g), xyz(self.b), xyz(self.w));
        let columns = [[r[0], g[0], b[0]], [r[1], g[1], b[1]], [r[2], g[2], b[2]]];
        let scale = apply(&invert(&columns), w);
        columns.map(|row| [row[0] * scale[0], row[1] * scale[1], row[2] * scale[2]])
    }

    /// Weights of red and blue in luminance (H.273, equations 39 to 44).
    fn luminance_weights(self) -> (f64, f64) {
        let [_, y, _] = self.to_xyz();
        (y[0], y[2])
    }
}

const BT601_WEIGHTS: Matrix = Matrix::Weights {
    kr: 0.299,
    kb: 0.114,
};
const BT709_WEIGHTS: Matrix = Matrix::Weights {
    kr: 0.2126,
    kb: 0.0722,
};
const BT2020_WEIGHTS: Matrix = Matrix::Weights {
    kr: 0.2627,
    kb: 0.0593,
};

/// Answers what the description leaves open.
///
/// Unspecified or reserved matrix: BT.2020 with an HDR transfer; else BT.709 from 720 lines up,
/// else BT.601. Unspecified range: limited. Unspecified primaries matter for HDR only, and are
/// BT.2020 there. `gbr`: the decoder says that the planes are G, B, R.
pub(crate) fn resolve(
    colour: ColourDescription,
    chroma: Chroma,
    lines: usize,
    gbr: bool,
) -> Resolved {
    let transfer = match colour.transfer {
        16 => Transfer::Pq,
        18 => Transfer::Hlg,
        _ => Transfer::Sdr,
    };
    let hdr = transfer != Transfer::Sdr;
    let known_primaries = Primaries::from_code_point(colour.primaries);
    let by_default = if hdr {
        BT2020_WEIGHTS
    } else if lines >= 720 {
        BT709_WEIGHTS
    } else {
        BT601_WEIGHTS
    };
    let derived = |constant_luminance: bool| {
        known_primaries.map(|p| {
            let (kr, kb) = p.luminance_weights();
            if constant_luminance {
                Matrix::ConstantLuminance { kr, kb }
            } else {
                Matrix::Weights { kr, kb }
            }
        })
    };
    let matrix = match colour.matrix {
        _ if gbr => Some(Matrix::Gbr),
        // H.273 allows it with 4:4:4 only.
        0 if chroma == Chroma::C444 => Some(Matrix::Gbr),
        1 => Some(BT709_WEIGHTS),
        4 => Some(Matrix::Weights { kr: 0.30, kb: 0.11 }),
        5 | 6 => Some(BT601_WEIGHTS),
        7 => Some(Matrix::Weights {
            kr: 0.212,
            kb: 0.087,
        }),
        8 => Some(Matrix::YCgCo),
        9 => Some(BT2020_WEIGHTS),
        10 => Some(Matrix::ConstantLuminance {
            kr: 0.2627,
            kb: 0.0593,
        }),
        12 => derived(false),
        13 => derived(true),
        // H.273 defines ICtCp with PQ and HLG only.
        14 if hdr => Some(Matrix::ICtCp),
        _ => None,
    };
    Resolved {
        matrix: matrix.unwrap_or(by_default),
        full_range: colour.full_range.unwrap_or(false),
        transfer,
        primaries: known_primaries.unwrap_or(if hdr { BT2020 } else { BT709 }),
    }
}

impl Resolved {
    /// Offsets and scales of the three planes: `E' = (sample − offset) / scale`, for samples
    /// multiplied by 2^(8 − bit depth) (H.273, equations 20 to 37).
    pub(crate) fn quantisation(&self, bit_depth: u8) -> ([f64; 3], [f64; 3]) {
        // The largest sample value, in units of 8-bit steps: 255 at 8 bit, 255.75 at 10.
        let full = 256.0 - 256.0 / f64::from(1u32 << bit_depth);
        let (black, luma, chroma) = if self.full_range {
            (0.0, full, full)
        } else {
            (16.0, 219.0, 224.0)
        };
        match self.matrix {
            Matrix::Gbr => ([black; 3], [luma; 3]),
            // Made from quantised R, G, B, so that chroma has their scale.
            Matrix::YCgCo => ([black, 128.0, 128.0], [luma; 3]),
            _ => ([black, 128.0, 128.0], [luma, chroma, chroma]),
        }
    }

    /// The matrix from normalised planes to R', G', B'; `None` where it is not linear.
    pub(crate) fn to_rgb(self) -> Option<Matrix3> {
        match self.matrix {
            Matrix::Weights { kr, kb } => Some(ycbcr_to_rgb(kr, kb)),
            Matrix::Gbr => Some([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
            Matrix::YCgCo => Some([[1.0, -1.0, 1.0], [1.0, 1.0, 0.0], [1.0, -1.0, -1.0]]),
            Matrix::ConstantLuminance { .. } | Matrix::ICtCp => None,
        }
    }

    /// The map to the JPEG's planes where it is affine: neither HDR nor constant luminance.
    pub(crate) fn affine(&self, bit_depth: u8) -> Option<Affine> {
        if self.transfer != Transfer::Sdr {
            return None;
        }
        let to_jpeg = multiply(&rgb_to_jpeg(), &self.to_rgb()?);
        let (offset, scale) = self.quantisation(bit_depth);
        let mut factor = to_jpeg;
        for row in &mut factor {
            for (value, scale) in row.iter_mut().zip(scale) {
                *value *= 255.0 / scale;
            }
        }
        let shift = apply(&factor, offset);
        let add = [-shift[0], 128.0 - shift[1], 128.0 - shift[2]];
        Some(Affine { factor, add })
    }
}

/// `out = factor · in + add`; `in` are samples multiplied by 2^(8 − bit depth), `out` the JPEG's
/// samples from 0 to 255.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Affine {
    pub(crate) factor: Matrix3,
    pub(crate) add: [f64; 3],
}

impl Affine {
    /// Whether it changes nothing that an 8-bit result could show.
    pub(crate) fn is_identity(&self) -> bool {
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        self.add.iter().all(|&a| near(a, 0.0))
            && self.factor.iter().enumerate().all(|(r, row)| {
                row.iter()
                    .enumerate()
                    .all(|(c, &v)| near(v, if r == c { 1.0 } else { 0.0 }))
            })
    }

    /// Whether the chroma planes do not depend on luma, as with every matrix that maps grey to
    /// grey.
    pub(crate) fn keeps_grey(&self) -> bool {
        self.factor[1][0].abs() < 1e-9 && self.factor[2][0].abs() < 1e-9
    }
}

fn ycbcr_to_rgb(kr: f64, kb: f64) -> Matrix3 {
    let kg = 1.0 - kr - kb;
    let (r, b) = (2.0 * (1.0 - kr), 2.0 * (1.0 - kb));
    [
        [1.0, 0.0, r],
        [1.0, -b * kb / kg, -r * kr / kg],
        [1.0, b, 0.0],
    ]
}

/// R', G', B' to the normalised Y', Cb, Cr of JFIF (BT.601).
pub(crate) fn rgb_to_jpeg() -> Matrix3 {
    let (kr, kg, kb) = (0.299, 0.587, 0.114);
    let (b, r) = (2.0 * (1.0 - kb), 2.0 * (1.0 - kr));
    [
        [kr, kg, kb],
        [-kr / b, -kg / b, (1.0 - kb) / b],
        [(1.0 - kr) / r, -kg / r, -kb / r],
    ]
}

pub(crate) fn apply(m: &Matrix3, v: [f64; 3]) -> [f64; 3] {
    m.map(|row| row[0] * v[0] + row[1] * v[1] + row[2] * v[2])
}

pub(crate) fn multiply(a: &Matrix3, b: &Matrix3) -> Matrix3 {
    let [[b00, b01, b02], [b10, b11, b12], [b20, b21, b22]] = *b;
    a.map(|[x, y, z]| {
        [
            x * b00 + y * b10 + z * b20,
            x * b01 + y * b11 + z * b21,
            x * b02 + y * b12 + z * b22,
        ]
    })
}

/// The inverse; the matrices here are those of primaries that span a triangle.
pub(crate) fn invert(m: &Matrix3) -> Matrix3 {
    let [[a, b, c], [d, e, f], [g, h, i]] = *m;
    let det = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
    let adjugate = [
        [e * i - f * h, c * h - b * i, b * f - c * e],
        [f * g - d * i, a * i - c * g, c * d - a * f],
        [d * h - e * g, b * g - a * h, a * e - b * d],
    ];
    adjugate.map(|row| row.map(|v| v / det))
}
