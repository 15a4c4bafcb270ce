//! The map that is not affine, for one colour: HDR (PQ, HLG) tone-mapped to SDR, ICtCp, constant
//! luminance. Exact and slow; [`crate::grid`] makes it fast.

use crate::colour::{
    BT709, Matrix, Matrix3, Resolved, Transfer, apply, invert, multiply, rgb_to_jpeg,
};
/// The brightest that is told apart from white, cd/m²; also the display that HLG is rendered for
/// (BT.2100, table 5).
const HDR_PEAK: f64 = 1000.0;
/// White of the SDR display that BT.2446 maps to, cd/m².
const SDR_PEAK: f64 = 100.0;
/// The SDR display's gamma (BT.1886): the result is the signal that an SDR camera would have
/// given for it, as every SDR stream is passed through.
const SDR_GAMMA: f64 = 2.4;

/// Maps one colour of the stream to one of the JPEG.
pub(crate) struct Display {
    resolved: Resolved,
    offset: [f64; 3],
    scale: [f64; 3],
    /// Linear light in the stream's primaries to those of BT.709.
    to_bt709: Matrix3,
    /// Luminance of linear light in the stream's primaries.
    luminance: [f64; 3],
    to_jpeg: Matrix3,
}

impl Display {
    pub(crate) fn new(resolved: &Resolved, bit_depth: u8) -> Self {
        let (offset, scale) = resolved.quantisation(bit_depth);
        let xyz = resolved.primaries.to_xyz();
        Self {
            resolved: *resolved,
            offset,
            scale,
            to_bt709: multiply(&invert(&BT709.to_xyz()), &xyz),
            luminance: xyz[1],
            to_jpeg: rgb_to_jpeg(),
        }
    }

    /// From samples, multiplied by 2^(8 − bit depth), to the JPEG's samples, not rounded.
    pub(crate) fn map(&self, samples: [f64; 3]) -> [f64; 3] {
        let mut planes = samples;
        for ((v, offset), scale) in planes.iter_mut().zip(self.offset).zip(self.scale) {
            *v = (*v - offset) / scale;
        }
        let rgb = self.to_sdr(planes).map(|v| v.clamp(0.0, 1.0));
        let [y, cb, cr] = apply(&self.to_jpeg, rgb);
        [255.0 * y, 128.0 + 255.0 * cb, 128.0 + 255.0 * cr]
    }

    /// From normalised planes to gamma-coded R', G', B' for an SDR display.
    fn to_sdr(&self, [y, c1, c2]: [f64; 3]) -> [f64; 3] {
        let transfer = self.resolved.transfer;
        let linear = match self.resolved.matrix {
            Matrix::ConstantLuminance { kr, kb } => {
                let coded = constant_luminance(y, c1, c2, kr, kb, transfer);
                if transfer == Transfer::Sdr {
                    return coded;
                }
                coded.map(|v| to_linear(v, transfer))
            }
            Matrix::ICtCp => ictcp(y, c1, c2, transfer),
            _ => {
                // The other matrices are linear.
                let coded = self
                    .resolved
                    .to_rgb()
                    .map_or([y; 3], |m| apply(&m, [y, c1, c2]));
                coded.map(|v| to_linear(v, transfer))
            }
        };
        self.tone_map(linear)
    }

    /// From linear light (PQ: 1 is 10 000 cd/m²; HLG: scene light) to the SDR display's signal.
    fn tone_map(&self, linear: [f64; 3]) -> [f64; 3] {
        let nits = match self.resolved.transfer {
            Transfer::Hlg => {
                // The OOTF of BT.2100 for a display of 1000 cd/m²: system gamma 1.2.
                let [r, g, b] = self.luminance;
                let scene = r * linear[0] + g * linear[1] + b * linear[2];
                let gain = HDR_PEAK * scene.max(0.0).powf(0.2);
                linear.map(|v| v * gain)
            }
            _ => linear.map(|v| v * 10000.0),
        };
        // The curve is applied to the largest component and all are scaled alike, so that hue and
        // saturation stay. What is more saturated than BT.709 can show is cut off at its border.
        let rgb = apply(&self.to_bt709, nits);
        let brightest = rgb.iter().fold(0.0f64, |a, &b| a.max(b));
        let gain = if brightest > 0.0 {
            compress(brightest) / brightest
        } else {
            0.0
        };
        rgb.map(|v| (v * gain).clamp(0.0, 1.0).powf(1.0 / SDR_GAMMA))
    }
}

/// The curve of ITU-R BT.2446-1, method A (3.2), from 0 … [`HDR_PEAK`] to 0 … [`SDR_PEAK`]; both
/// are linear light, in cd/m² and relative to white.
fn compress(nits: f64) -> f64 {
    let rho = |peak: f64| 1.0 + 32.0 * (peak / 10000.0).powf(1.0 / SDR_GAMMA);
    let (hdr, sdr) = (rho(HDR_PEAK), rho(SDR_PEAK));
    let y = (nits / HDR_PEAK).clamp(0.0, 1.0).powf(1.0 / SDR_GAMMA);
    let p = (1.0 + (hdr - 1.0) * y).ln() / hdr.ln();
    let c = if p <= 0.7399 {
        1.0770 * p
    } else if p < 0.9909 {
        -1.1510 * p * p + 2.7811 * p - 0.6302
    } else {
        0.5 * p + 0.5
    };
    ((sdr.powf(c) - 1.0) / (sdr - 1.0)).powf(SDR_GAMMA)
}

/// SMPTE ST 2084, signal to light; 1 is 10 000 cd/m².
fn to_linear_pq(signal: f64) -> f64 {
    let p = signal.max(0.0).powf(1.0 / PQ_M2);
    ((p - PQ_C1).max(0.0) / (PQ_C2 - PQ_C3 * p)).powf(1.0 / PQ_M1)
}

fn from_linear_pq(light: f64) -> f64 {
    let p = light.max(0.0).powf(PQ_M1);
    ((PQ_C1 + PQ_C2 * p) / (1.0 + PQ_C3 * p)).powf(PQ_M2)
}

const PQ_M1: f64 = 2610.0 / 16384.0;
const PQ_M2: f64 = 2523.0 / 4096.0 * 128.0;
const PQ_C1: f64 = 3424.0 / 4096.0;
const PQ_C2: f64 = 2413.0 / 4096.0 * 32.0;
const PQ_C3: f64 = 2392.0 / 4096.0 * 32.0;

const HLG_A: f64 = 0.178_832_77;
const HLG_B: f64 = 0.284_668_92;
const HLG_C: f64 = 0.559_910_73;

/// Signal to linear light: display light for PQ, scene light for HLG and SDR.
pub(crate) fn to_linear(signal: f64, transfer: Transfer) -> f64 {
    let v = signal.clamp(0.0, 1.0);
    match transfer {
        Transfer::Pq => to_linear_pq(v),
        Transfer::Hlg if v <= 0.5 => v * v / 3.0,
        Transfer::Hlg => (((v - HLG_C) / HLG_A).exp() + HLG_B) / 12.0,
        Transfer::Sdr if v < 4.5 * 0.018_053_968_510_807 => v / 4.5,
        Transfer::Sdr => ((v + 0.099_296_826_809_44) / 1.099_296_826_809_44).powf(1.0 / 0.45),
    }
}

/// The inverse of [`to_linear`].
fn from_linear(light: f64, transfer: Transfer) -> f64 {
    let v = light.clamp(0.0, 1.0);
    match transfer {
        Transfer::Pq => from_linear_pq(v),
        Transfer::Hlg if v <= 1.0 / 12.0 => (3.0 * v).sqrt(),
        Transfer::Hlg => HLG_A * (12.0 * v - HLG_B).ln() + HLG_C,
        Transfer::Sdr if v < 0.018_053_968_510_807 => 4.5 * v,
        Transfer::Sdr => 1.099_296_826_809_44 * v.powf(0.45) - 0.099_296_826_809_44,
    }
}

/// BT.2020 constant luminance (H.273, equations 62 to 67) to R', G', B'.
fn constant_luminance(y: f64, cb: f64, cr: f64, kr: f64, kb: f64, t: Transfer) -> [f64; 3] {
    let part = |c: f64, k: f64| {
        // The largest differences below and above zero.
        let (below, above) = (from_linear(1.0 - k, t), 1.0 - from_linear(k, t));
        y + 2.0 * c * if c < 0.0 { below } else { above }
    };
    let (b, r) = (part(cb, kb), part(cr, kr));
    let [ly, lr, lb] = [y, r, b].map(|v| to_linear(v, t));
    let g = from_linear((ly - kr * lr - kb * lb) / (1.0 - kr - kb), t);
    [r, g, b]
}

/// BT.2100 ICtCp to linear R, G, B of BT.2020.
fn ictcp(i: f64, ct: f64, cp: f64, transfer: Transfer) -> [f64; 3] {
    let from_lms = match transfer {
        Transfer::Hlg => [
            [2048.0, 2048.0, 0.0],
            [3625.0, -7465.0, 3840.0],
            [9500.0, -9212.0, -288.0],
        ],
        _ => [
            [2048.0, 2048.0, 0.0],
            [6610.0, -13613.0, 7003.0],
            [17933.0, -17390.0, -543.0],
        ],
    };
    let to_lms = [
        [1688.0, 2146.0, 262.0],
        [683.0, 2951.0, 462.0],
        [99.0, 309.0, 3688.0],
    ];
    let lms = apply(&invert(&from_lms), [i, ct, cp].map(|v| v * 4096.0));
    apply(
        &invert(&to_lms),
        lms.map(|v| to_linear(v, transfer) * 4096.0),
    )
}

#[cfg(test)]
mod tests {
    use media::ColourDescription;

    use super::*;
    use crate::Chroma;
    use crate::colour::resolve;

    const PQ: u8 = 16;
    const HLG: u8 = 18;

    fn hdr(transfer: u8, matrix: u8) -> Resolved {
        let colour = ColourDescription {
            primaries: 9,
            transfer,
            matrix,
            full_range: Some(false),
        };
        resolve(colour, Chroma::C420, 1080, false)
    }

    fn near(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() < tolerance, "{a} for {b}");
    }

    #[test]
    fn transfer_functions_by_the_values_of_the_standards() {
        // ST 2084: 0.508 is 100 cd/m², 0.581 is 203, 0.752 is 1000 (BT.2408, table 1).
        near(to_linear_pq(0.5081), 0.01, 2e-5);
        near(to_linear_pq(0.5807), 0.0203, 2e-5);
        near(to_linear_pq(0.7518), 0.1, 1e-4);
        near(to_linear_pq(1.0), 1.0, 1e-9);
        // BT.2100 HLG: half signal is a twelfth of scene light; 0.75 gives 203 of 1000 cd/m².
        near(to_linear(0.5, Transfer::Hlg), 1.0 / 12.0, 1e-9);
        near(
            1000.0 * to_linear(0.75, Transfer::Hlg).powf(1.2),
            203.0,
            1.0,
        );
        near(to_linear(1.0, Transfer::Hlg), 1.0, 1e-6);
        for transfer in [Transfer::Pq, Transfer::Hlg, Transfer::Sdr] {
            for i in 0..=100 {
                let v = f64::from(i) / 100.0;
                near(from_linear(to_linear(v, transfer), transfer), v, 1e-6);
            }
        }
    }

    #[test]
    fn the_curve_rises_from_black_to_white() {
        near(compress(0.0), 0.0, 1e-12);
        near(compress(1000.0), 1.0, 1e-9);
        near(compress(4000.0), 1.0, 1e-9);
        let curve: Vec<f64> = (0..=1000).map(|v| compress(f64::from(v))).collect();
        // The pieces of BT.2446 meet to within their four digits.
        assert!(curve.windows(2).all(|w| w[1] > w[0]));
        // Graphics white comes out between two thirds and three quarters of the signal.
        near(compress(203.0).powf(1.0 / 2.4), 0.69, 0.01);
    }

    #[test]
    fn greys_stay_grey_and_in_order() {
        for (transfer, matrix) in [(PQ, 9), (HLG, 9), (PQ, 14), (HLG, 14), (PQ, 10), (HLG, 10)] {
            let display = Display::new(&hdr(transfer, matrix), 10);
            let mut last = -1.0;
            for code in 64..=940 {
                let [y, cb, cr] = display.map([f64::from(code) / 4.0, 128.0, 128.0]);
                near(cb, 128.0, 0.05);
                near(cr, 128.0, 0.05);
                assert!(
                    y > last - 1e-6,
                    "{transfer} {matrix}: {code} is darker than the one before"
                );
                last = y;
            }
            near(last, 255.0, 0.1);
        }
    }

    /// H.273's own direction, from R, G, B to Y, Cb, Cr.
    #[test]
    fn constant_luminance_is_the_inverse_of_its_definition() {
        let (kr, kb) = (0.2627, 0.0593);
        for t in [Transfer::Sdr, Transfer::Pq, Transfer::Hlg] {
            for rgb in [
                [1.0, 0.0, 0.0],
                [0.0, 1.0, 0.0],
                [0.0, 0.0, 1.0],
                [0.2, 0.5, 0.9],
                [1.0; 3],
            ] {
                let coded = rgb.map(|v| from_linear(v, t));
                let y = from_linear(kr * rgb[0] + (1.0 - kr - kb) * rgb[1] + kb * rgb[2], t);
                let difference = |coded: f64, k: f64| {
                    let d = coded - y;
                    let (n, p) = (from_linear(1.0 - k, t), 1.0 - from_linear(k, t));
                    if d < 0.0 {
                        d / (2.0 * n)
                    } else {
                        d / (2.0 * p)
                    }
                };
                let (cb, cr) = (difference(coded[2], kb), difference(coded[0], kr));
                let back = constant_luminance(y, cb, cr, kr, kb, t);
                for (a, b) in back.into_iter().zip(coded) {
                    near(a, b, 1e-3);
                }
            }
        }
        // The numbers that BT.2020 prints for its own curve: 1.9404, 1.5816, 1.7184, 0.9936.
        let t = Transfer::Sdr;
        near(2.0 * from_linear(1.0 - kb, t), 1.9404, 5e-4);
        near(2.0 - 2.0 * from_linear(kb, t), 1.5816, 5e-4);
        near(2.0 * from_linear(1.0 - kr, t), 1.7184, 5e-4);
        near(2.0 - 2.0 * from_linear(kr, t), 0.9936, 5e-4);
    }

    /// BT.2100's own direction, from R, G, B to I, Ct, Cp.
    #[test]
    fn ictcp_is_the_inverse_of_its_definition() {
        for t in [Transfer::Pq, Transfer::Hlg] {
            for [r, g, b] in [[0.1, 0.02, 0.3], [0.05; 3], [0.9, 0.4, 0.0]] {
                let l = (1688.0 * r + 2146.0 * g + 262.0 * b) / 4096.0;
                let m = (683.0 * r + 2951.0 * g + 462.0 * b) / 4096.0;
                let s = (99.0 * r + 309.0 * g + 3688.0 * b) / 4096.0;
                let [l, m, s] = [l, m, s].map(|v: f64| from_linear(v, t));
                let (ct, cp) = if t == Transfer::Pq {
                    (
                        6610.0 * l - 13613.0 * m + 7003.0 * s,
                        17933.0 * l - 17390.0 * m - 543.0 * s,
                    )
                } else {
                    (
                        3625.0 * l - 7465.0 * m + 3840.0 * s,
                        9500.0 * l - 9212.0 * m - 288.0 * s,
                    )
                };
                let back = ictcp(0.5 * l + 0.5 * m, ct / 4096.0, cp / 4096.0, t);
                for (a, b) in back.into_iter().zip([r, g, b]) {
                    near(a, b, 1e-6);
                }
            }
        }
    }
}
