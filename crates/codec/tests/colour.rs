//! Converted planes against ffmpeg's accurate conversion (`zscale`, in floating point).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod support;

use std::path::{Path, PathBuf};

use codec::{
    HevcDecoder, ImageEncoder, Picture, PlanesBuf, Rendition, Subsampling, Threading,
    to_jpeg_planes,
};
use media::{ColourDescription, Orientation};
use support::{access_units, clip, decode_all, ffmpeg};

const WIDTH: usize = 320;
const HEIGHT: usize = 240;
/// Saturated colours, gradients, sharp edges; and a plane of all hues.
const SOURCE: &str = "testsrc2=size=320x240:rate=1:duration=1";

/// H.273 code points of matrices, by the names of `zscale`; `None` where ffmpeg 5.1's does not
/// pass the matrix on to the library, and `scale` is asked instead.
const MATRICES: [(u8, Option<&str>); 6] = [
    (1, Some("709")),
    (4, Some("fcc")),
    (5, Some("470bg")),
    (6, Some("170m")),
    (7, None),
    (9, Some("2020_ncl")),
];

/// [`SOURCE`] in these colours, so that all of them lie inside the gamut of R', G', B'.
fn lossless(pix_fmt: &str, matrix: u8, full_range: bool) -> PathBuf {
    let range = if full_range { "full" } else { "limited" };
    let make = match MATRICES.iter().find(|m| m.0 == matrix) {
        Some((_, Some(name))) => format!("zscale=m={name}:r={range}:c=center"),
        Some((_, None)) => format!("scale=out_color_matrix=smpte240m:out_range={range}"),
        None => match matrix {
            8 => format!("zscale=m=ycgco:r={range}"),
            _ => "null".into(),
        },
    };
    let filter = format!("format=gbrp,{make},format={pix_fmt}");
    clip(
        &format!("colour-{pix_fmt}-{matrix}-{range}"),
        &["-f", "lavfi", "-i", SOURCE, "-vf", &filter],
        pix_fmt,
        "lossless=1",
    )
}

fn first_picture(path: &Path) -> Picture {
    let stream = std::fs::read(path).unwrap();
    let mut decoder = HevcDecoder::new(Threading::Single).unwrap();
    decode_all(&mut decoder, &access_units(&stream))
        .unwrap()
        .remove(0)
}

fn colour(matrix: u8, full_range: bool) -> ColourDescription {
    ColourDescription {
        matrix,
        full_range: Some(full_range),
        ..ColourDescription::default()
    }
}

fn convert(picture: &Picture, colour: ColourDescription) -> PlanesBuf {
    let mut planes = PlanesBuf::new();
    to_jpeg_planes(picture, colour, Orientation::IDENTITY, &mut planes);
    planes
}

/// R', G', B' from 0 to 255 of a JPEG decoder that knows no rounding: chroma interpolated
/// linearly between its places in the middle of the luma samples that it covers.
fn rgb(planes: &PlanesBuf) -> Vec<[f64; 3]> {
    let (sx, sy) = planes.subsampling().shifts();
    let chroma = |plane: usize, x: usize, y: usize| {
        let (w, h) = planes.plane_size(plane);
        let at = |v: usize, shift: u32, count: usize| {
            let place = (v as f64 + 0.5) / f64::from(1 << shift) - 0.5;
            let place = place.clamp(0.0, (count - 1) as f64);
            let low = place.floor() as usize;
            (low, (low + 1).min(count - 1), place - place.floor())
        };
        let ((x0, x1, fx), (y0, y1, fy)) = (at(x, sx, w), at(y, sy, h));
        let value = |x: usize, y: usize| f64::from(planes.row(plane, y)[x]) - 128.0;
        (value(x0, y0) * (1.0 - fx) + value(x1, y0) * fx) * (1.0 - fy)
            + (value(x0, y1) * (1.0 - fx) + value(x1, y1) * fx) * fy
    };
    let mut out = Vec::new();
    for y in 0..planes.height() {
        for x in 0..planes.width() {
            let luma = f64::from(planes.row(0, y)[x]);
            let (cb, cr) = match planes.subsampling() {
                Subsampling::Grey => (0.0, 0.0),
                _ => (chroma(1, x, y), chroma(2, x, y)),
            };
            let g = luma - (0.114 * 1.772 * cb + 0.299 * 1.402 * cr) / 0.587;
            out.push([luma + 1.402 * cr, g, luma + 1.772 * cb].map(|v| v.clamp(0.0, 255.0)));
        }
    }
    out
}

/// The same picture as a filter of ffmpeg converts it, 16 bits a channel, as 0 to 255.
fn through(path: &Path, filter: &str) -> Vec<[f64; 3]> {
    let filter = format!("{filter},format=gbrp16le");
    let raw = ffmpeg(&[
        "-i",
        path.to_str().unwrap(),
        "-frames:v",
        "1",
        "-vf",
        &filter,
        "-f",
        "rawvideo",
        "-",
    ]);
    planar16(&raw)
}

/// G, B, R planes of 16 bits to R, G, B.
fn planar16(raw: &[u8]) -> Vec<[f64; 3]> {
    let count = raw.len() / 6;
    assert_eq!(count, WIDTH * HEIGHT);
    let value = |plane: usize, i: usize| {
        let at = (plane * count + i) * 2;
        f64::from(u16::from_le_bytes([raw[at], raw[at + 1]])) / 257.0
    };
    (0..count)
        .map(|i| [value(2, i), value(0, i), value(1, i)])
        .collect()
}

/// Mean and greatest error of each channel.
fn errors(mine: &[[f64; 3]], theirs: &[[f64; 3]]) -> ([f64; 3], [f64; 3]) {
    assert_eq!(mine.len(), theirs.len());
    let (mut mean, mut most) = ([0.0; 3], [0.0f64; 3]);
    for (a, b) in mine.iter().zip(theirs) {
        for c in 0..3 {
            let e = (a[c] - b[c]).abs();
            mean[c] += e / mine.len() as f64;
            most[c] = most[c].max(e);
        }
    }
    (mean, most)
}

#[track_caller]
fn assert_close(what: &str, mine: &[[f64; 3]], theirs: &[[f64; 3]], mean_limit: f64) {
    let (mean, most) = errors(mine, theirs);
    println!("{what}: mean {mean:.3?} most {most:.2?}");
    assert!(
        mean.iter().all(|&e| e < mean_limit),
        "{what}: mean error {mean:.3?}"
    );
}

#[test]
fn every_matrix_range_depth_and_subsampling() {
    for pix_fmt in [
        "yuv420p",
        "yuv422p",
        "yuv444p",
        "yuv420p10le",
        "yuv422p10le",
        "yuv444p10le",
    ] {
        for (matrix, name) in MATRICES {
            for (full_range, range) in [(false, "limited"), (true, "full")] {
                let path = lossless(pix_fmt, matrix, full_range);
                let picture = first_picture(&path);
                let mine = rgb(&convert(&picture, colour(matrix, full_range)));
                let filter = match name {
                    Some(name) => {
                        format!("zscale=min={name}:rin={range}:cin=center:m=gbr:r=full:f=bilinear")
                    }
                    None => format!(
                        "scale=in_color_matrix=smpte240m:in_range={range}:\
                         flags=bilinear+accurate_rnd+full_chroma_int+full_chroma_inp"
                    ),
                };
                let theirs = through(&path, &filter);
                assert_close(&format!("{pix_fmt} {matrix} {range}"), &mine, &theirs, 0.9);
            }
        }
    }
}

/// Luma weights of red and blue, as H.273 lists them.
fn weights(matrix: u8) -> (f64, f64) {
    match matrix {
        1 => (0.2126, 0.0722),
        4 => (0.30, 0.11),
        5 | 6 => (0.299, 0.114),
        7 => (0.212, 0.087),
        9 => (0.2627, 0.0593),
        _ => panic!("matrix {matrix}"),
    }
}

/// With no subsampling in between, each sample is the exact one, rounded (8 bit) or between its
/// two neighbours (dithered).
#[test]
fn samples_are_the_exact_ones_rounded_or_dithered() {
    for (pix_fmt, depth) in [("yuv444p", 8u32), ("yuv444p10le", 10), ("yuv444p12le", 12)] {
        for (matrix, _) in MATRICES {
            for full_range in [false, true] {
                let picture = first_picture(&lossless(pix_fmt, matrix, full_range));
                let planes = convert(&picture, colour(matrix, full_range));
                let raw = support::raw(&picture);
                let bytes = if depth > 8 { 2 } else { 1 };
                let sample = |plane: usize, i: usize| {
                    let at = (plane * WIDTH * HEIGHT + i) * bytes;
                    let high = if bytes == 2 { raw[at + 1] } else { 0 };
                    f64::from(u16::from_le_bytes([raw[at], high]))
                };
                let most = f64::from((1u32 << depth) - 1);
                let step = f64::from(1u32 << (depth - 8));
                let (black, luma, chroma) = if full_range {
                    (0.0, most, most)
                } else {
                    (16.0 * step, 219.0 * step, 224.0 * step)
                };
                let (kr, kb) = weights(matrix);
                let limit = if depth == 8 { 0.55 } else { 1.05 };
                for i in 0..WIDTH * HEIGHT {
                    let y = (sample(0, i) - black) / luma;
                    let [cb, cr] = [1, 2].map(|p| (sample(p, i) - 128.0 * step) / chroma);
                    let (r, b) = (y + 2.0 * (1.0 - kr) * cr, y + 2.0 * (1.0 - kb) * cb);
                    let g = (y - kr * r - kb * b) / (1.0 - kr - kb);
                    let luma = 0.299 * r + 0.587 * g + 0.114 * b;
                    let exact = [
                        255.0 * luma,
                        128.0 + 255.0 * (b - luma) / 1.772,
                        128.0 + 255.0 * (r - luma) / 1.402,
                    ];
                    for (plane, exact) in exact.into_iter().enumerate() {
                        let mine = f64::from(planes.row(plane, i / WIDTH)[i % WIDTH]);
                        let exact = exact.clamp(0.0, 255.0);
                        assert!(
                            (mine - exact).abs() < limit,
                            "{pix_fmt} {matrix} {full_range} plane {plane}: {mine} for {exact}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn grey_pictures_become_grey_images() {
    for (pix_fmt, depth, limit) in [
        ("gray", 8, 0.51),
        ("gray10le", 10, 1.01),
        ("gray12le", 12, 1.01),
    ] {
        let picture = first_picture(&lossless(pix_fmt, 0, true));
        let raw = support::raw(&picture);
        for full_range in [false, true] {
            let planes = convert(&picture, colour(1, full_range));
            assert_eq!(planes.subsampling(), Subsampling::Grey);
            for i in 0..WIDTH * HEIGHT {
                let sample = match depth {
                    8 => f64::from(raw[i]),
                    _ => f64::from(u16::from_le_bytes([raw[2 * i], raw[2 * i + 1]])),
                };
                let most = f64::from((1u32 << depth) - 1);
                let step = f64::from(1u32 << (depth - 8));
                let v = if full_range {
                    sample / most
                } else {
                    (sample / step - 16.0) / 219.0
                };
                let exact = (255.0 * v).clamp(0.0, 255.0);
                let mine = f64::from(planes.row(0, i / WIDTH)[i % WIDTH]);
                assert!(
                    (mine - exact).abs() < limit,
                    "{pix_fmt} {full_range}: {mine} for {exact}"
                );
            }
        }
    }
}

#[test]
fn planes_of_red_green_and_blue() {
    for pix_fmt in ["gbrp", "gbrp10le"] {
        let path = lossless(pix_fmt, 0, true);
        let picture = first_picture(&path);
        assert!(picture.is_gbr(), "the stream's matrix_coeffs is 0");
        // Whatever the container says.
        let planes = convert(&picture, colour(1, true));
        assert_eq!(planes.subsampling(), Subsampling::S444);
        assert_close(pix_fmt, &rgb(&planes), &through(&path, "null"), 0.9);
    }
}

/// zimg scales limited-range YCgCo as it does YCbCr; H.273 makes Y, Cg, Co from quantised R, G,
/// B. So the oracle here is H.273's own equations, on the samples.
#[test]
fn ycgco_by_the_equations_of_the_standard() {
    for full_range in [false, true] {
        let picture = first_picture(&lossless("yuv444p", 8, full_range));
        let raw = support::raw(&picture);
        let theirs: Vec<[f64; 3]> = (0..WIDTH * HEIGHT)
            .map(|i| {
                let sample = |plane: usize| f64::from(raw[plane * WIDTH * HEIGHT + i]);
                let (y, cg, co) = (sample(0), sample(1) - 128.0, sample(2) - 128.0);
                let t = y - cg;
                let (black, scale) = if full_range {
                    (0.0, 255.0)
                } else {
                    (16.0, 219.0)
                };
                [t + co, y + cg, t - co].map(|v| ((v - black) / scale * 255.0).clamp(0.0, 255.0))
            })
            .collect();
        let mine = rgb(&convert(&picture, colour(8, full_range)));
        assert_close(&format!("YCgCo, full {full_range}"), &mine, &theirs, 0.9);
    }
}

#[test]
fn what_is_not_said_is_decided_by_the_number_of_lines() {
    let same = |picture: &Picture, a: ColourDescription, b: ColourDescription| {
        let (a, b) = (convert(picture, a), convert(picture, b));
        (0..3).all(|p| (0..a.height()).all(|y| a.row(p, y) == b.row(p, y)))
    };
    for (size, lines) in [("416x718", 718), ("416x720", 720)] {
        let source = format!("testsrc2=size={size}:rate=1:duration=1");
        let path = clip(size, &["-f", "lavfi", "-i", &source], "yuv420p", "crf=20");
        let picture = first_picture(&path);
        let (expected, other) = if lines < 720 { (6, 1) } else { (1, 6) };
        // Unspecified, reserved, GBR without 4:4:4, ICtCp without HDR.
        for matrix in [2, 3, 0, 14, 99, 255] {
            let said = ColourDescription {
                matrix,
                ..ColourDescription::default()
            };
            assert!(
                same(&picture, said, colour(expected, false)),
                "{size} matrix {matrix}"
            );
            assert!(!same(&picture, said, colour(other, false)));
            assert!(!same(&picture, said, colour(expected, true)));
        }
    }
}

/// A ramp of 10-bit luma over a few 8-bit steps: what the eye averages must rise evenly.
#[test]
fn ten_bit_ramps_show_no_bands() {
    // 1024 columns from code 400 to 464: 8-bit steps would be 64 columns wide and more.
    let (first, span) = (400.0, 64.0);
    let source = "nullsrc=size=1024x64:rate=1:duration=1,format=yuv420p10le,\
                  geq=lum='400+floor(X/16)':cb=512:cr=512";
    let path = clip(
        "ramp",
        &["-f", "lavfi", "-i", source],
        "yuv420p10le",
        "lossless=1",
    );
    let picture = first_picture(&path);
    for matrix in [1, 6] {
        let planes = convert(&picture, colour(matrix, false));
        let mut last = 0.0;
        for block in 0..128 {
            let mut sum = 0.0;
            for y in 24..32 {
                sum += planes.row(0, y)[block * 8..block * 8 + 8]
                    .iter()
                    .map(|&v| f64::from(v))
                    .sum::<f64>();
            }
            let mean = sum / 64.0;
            let code = first + (block * 8 / 16) as f64;
            assert!(code < first + span);
            let exact = (code - 64.0) / 876.0 * 255.0;
            assert!(
                (mean - exact).abs() < 0.06,
                "block {block}: {mean} for {exact}"
            );
            assert!(mean >= last, "block {block} is darker than the one before");
            last = mean;
        }
        // Neutral chroma stays neutral, without a pattern.
        for plane in 1..3 {
            assert!((0..32).all(|y| planes.row(plane, y).iter().all(|&v| v == 128)));
        }
    }
}

/// JPEG and all, as ffmpeg decodes it.
#[test]
fn the_encoded_image_has_the_colours() {
    let mut encoder = ImageEncoder::new().unwrap();
    for (pix_fmt, matrix, name, full_range) in [
        ("yuv444p", 1, "709", false),
        ("yuv444p10le", 9, "2020_ncl", false),
        ("yuv444p", 6, "170m", true),
        ("yuv420p", 1, "709", false),
        ("yuv420p", 6, "170m", true),
    ] {
        let path = lossless(pix_fmt, matrix, full_range);
        let picture = first_picture(&path);
        let range = if full_range { "full" } else { "limited" };
        let jpeg = encoder
            .encode(
                &picture,
                colour(matrix, full_range),
                Orientation::IDENTITY,
                Rendition::full_size(100),
            )
            .unwrap();
        let image = path.with_extension(format!("{matrix}.jpg"));
        std::fs::write(&image, jpeg).unwrap();
        let decoded = "zscale=min=170m:rin=full:cin=center:m=gbr:r=full:f=bilinear";
        let mine = through(&image, decoded);
        let theirs = through(
            &path,
            &format!("zscale=min={name}:rin={range}:cin=center:m=gbr:r=full:f=bilinear"),
        );
        std::fs::remove_file(&image).unwrap();
        assert_close(
            &format!("JPEG of {pix_fmt} {name} {range}"),
            &mine,
            &theirs,
            1.0,
        );
    }
}

/// 203 cd/m² in R, G or B is to come out at 68.7 % of the signal, and none at none. Compared as
/// light: near black a signal of some steps is next to nothing.
#[track_caller]
fn assert_light(what: &str, mean: [f64; 3], rgb_in: [f64; 3]) {
    for (mean, expected) in mean.into_iter().zip(rgb_in) {
        let light = (mean / 255.0).powf(2.4);
        let expected = expected * 0.687f64.powf(2.4);
        assert!(
            (light - expected).abs() < 0.03,
            "{what}: {light} for {expected}"
        );
    }
}

/// Colours of SDR, put into HDR by `zscale` with white at 203 cd/m²: they come back in their hue,
/// as bright as the curve says (69 %), in every depth and subsampling.
#[test]
fn hdr_is_mapped_to_sdr_with_its_hues() {
    for (colour, rgb_in) in [
        ("white", [1.0, 1.0, 1.0]),
        ("red", [1.0, 0.0, 0.0]),
        ("lime", [0.0, 1.0, 0.0]),
        ("blue", [0.0, 0.0, 1.0]),
        ("yellow", [1.0, 1.0, 0.0]),
        ("cyan", [0.0, 1.0, 1.0]),
    ] {
        for (pix_fmt, transfer, name, matrix, m) in [
            ("yuv420p10le", 16, "smpte2084", 9, "2020_ncl"),
            ("yuv444p12le", 16, "smpte2084", 9, "2020_ncl"),
            ("yuv422p10le", 16, "smpte2084", 9, "2020_ncl"),
            ("yuv444p10le", 16, "smpte2084", 14, "ictcp"),
        ] {
            let source = format!("color={colour}:size=64x64:rate=1:duration=1");
            let filter = format!(
                "format=gbrp16le,setparams=color_trc=bt709:color_primaries=bt709:range=pc,\
                 zscale=t=linear:npl=203,format=gbrpf32le,\
                 zscale=p=2020:t={name}:m={m}:r=limited:npl=203,format={pix_fmt}"
            );
            let path = clip(
                &format!("hdr-{colour}-{transfer}-{matrix}-{pix_fmt}"),
                &["-f", "lavfi", "-i", &source, "-vf", &filter],
                pix_fmt,
                "lossless=1",
            );
            let picture = first_picture(&path);
            let said = ColourDescription {
                primaries: 9,
                transfer,
                matrix,
                full_range: Some(false),
            };
            let planes = convert(&picture, said);
            let count = (planes.width() * planes.height()) as f64;
            let mut mean = [0.0; 3];
            for pixel in rgb(&planes) {
                for (mean, v) in mean.iter_mut().zip(pixel) {
                    *mean += v / count;
                }
            }
            println!("{colour} {pix_fmt} {transfer} {matrix}: {mean:.1?}");
            assert_light(&format!("{colour} {pix_fmt} {name}"), mean, rgb_in);
        }
    }
}

/// The same for HLG, coded here by the equations of BT.2100 (zimg's OOTF works on each channel for
/// itself, which is right for greys only).
#[test]
fn hlg_is_mapped_to_sdr_with_its_hues() {
    for (name, rgb_in) in [
        ("white", [1.0, 1.0, 1.0]),
        ("red", [1.0, 0.0, 0.0]),
        ("green", [0.0, 1.0, 0.0]),
        ("blue", [0.0, 0.0, 1.0]),
        ("yellow", [1.0, 1.0, 0.0]),
        ("cyan", [0.0, 1.0, 1.0]),
    ] {
        let [r, g, b] = rgb_in;
        // BT.2087: linear BT.709 in BT.2020; then light of the display, 203 of 1000 cd/m².
        let light = [
            0.6274 * r + 0.3293 * g + 0.0433 * b,
            0.0691 * r + 0.9195 * g + 0.0114 * b,
            0.0164 * r + 0.0880 * g + 0.8956 * b,
        ]
        .map(|v: f64| 0.203 * v);
        let luminance = 0.2627 * light[0] + 0.6780 * light[1] + 0.0593 * light[2];
        let signal = light
            .map(|v| v * luminance.powf((1.0 - 1.2) / 1.2))
            .map(|e: f64| {
                if e <= 1.0 / 12.0 {
                    (3.0 * e).sqrt()
                } else {
                    0.178_832_77 * (12.0 * e - 0.284_668_92).ln() + 0.559_910_73
                }
            });
        let y = 0.2627 * signal[0] + 0.6780 * signal[1] + 0.0593 * signal[2];
        let codes = [
            64.0 + 876.0 * y,
            512.0 + 896.0 * (signal[2] - y) / 1.8814,
            512.0 + 896.0 * (signal[0] - y) / 1.4746,
        ]
        .map(|v| v.round());
        let source = format!(
            "nullsrc=size=64x64:rate=1:duration=1,format=yuv420p10le,geq=lum={}:cb={}:cr={}",
            codes[0], codes[1], codes[2]
        );
        let path = clip(
            &format!("hlg-{name}"),
            &["-f", "lavfi", "-i", &source],
            "yuv420p10le",
            "lossless=1",
        );
        let said = ColourDescription {
            primaries: 9,
            transfer: 18,
            matrix: 9,
            full_range: Some(false),
        };
        let pixels = rgb(&convert(&first_picture(&path), said));
        let mean =
            [0, 1, 2].map(|c| pixels.iter().map(|p| p[c]).sum::<f64>() / pixels.len() as f64);
        println!("{name}: {mean:.1?}");
        assert_light(name, mean, rgb_in);
    }
}

/// A picture without chroma, and one with neutral chroma.
#[test]
fn hdr_greys_are_the_same_with_and_without_chroma() {
    let ramp = "nullsrc=size=256x64:rate=1:duration=1,format=gray10le,geq=lum='64+X*876/255'";
    let grey = clip(
        "hdr-grey",
        &["-f", "lavfi", "-i", ramp],
        "gray10le",
        "lossless=1",
    );
    let said = ColourDescription {
        primaries: 9,
        transfer: 16,
        matrix: 9,
        full_range: Some(false),
    };
    let grey = convert(&first_picture(&grey), said);
    assert_eq!(grey.subsampling(), Subsampling::Grey);
    for pix_fmt in ["yuv420p10le", "yuv422p10le", "yuv444p10le"] {
        let ramp = format!(
            "nullsrc=size=256x64:rate=1:duration=1,format={pix_fmt},\
             geq=lum='64+X*876/255':cb=512:cr=512"
        );
        let name = format!("hdr-{pix_fmt}");
        let path = clip(&name, &["-f", "lavfi", "-i", &ramp], pix_fmt, "lossless=1");
        let planes = convert(&first_picture(&path), said);
        assert!(
            (0..64).all(|y| planes.row(0, y) == grey.row(0, y)),
            "{pix_fmt}"
        );
        for plane in 1..3 {
            let height = planes.plane_size(plane).1;
            assert!((0..height).all(|y| planes.row(plane, y).iter().all(|&v| v == 128)));
        }
        // Black stays black and white white.
        assert_eq!((planes.row(0, 9)[0], planes.row(0, 9)[255]), (0, 255));
    }
}
