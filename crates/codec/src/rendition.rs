//! What a caller asks of an image: in which format, how good, how large.

use crate::format::Format;

/// How a picture becomes an image.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rendition {
    /// libjpeg's scale, 1 to 100.
    pub quality: u8,
    /// The image is at most so many pixels wide, as it is displayed; `Some(0)` is taken as 1.
    pub max_width: Option<u32>,
    /// The image is at most so many pixels high, as it is displayed; `Some(0)` is taken as 1.
    pub max_height: Option<u32>,
    /// Where both sides are limited, the image fills them: it is cut at two sides, in the middle,
    /// and not made smaller to fit. Never larger than the picture.
    pub cover: bool,
    /// How the image is stored.
    pub format: Format,
}

/// How a picture becomes an image of its size.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Layout {
    /// Columns and rows of the image.
    pub(crate) size: (usize, usize),
    /// What of the picture it shows: from the left, from above, columns, rows.
    pub(crate) source: (f64, f64, f64, f64),
}

impl Rendition {
    /// As large as the picture.
    pub fn full_size(quality: u8) -> Self {
        Self {
            quality,
            max_width: None,
            max_height: None,
            cover: false,
            format: Format::Jpeg,
        }
    }

    /// The image of a picture that is displayed in `width` × `height`.
    pub(crate) fn layout(&self, width: usize, height: usize) -> Layout {
        let whole = (0.0, 0.0, width as f64, height as f64);
        let (Some(w), Some(h), true) = (self.max_width, self.max_height, self.cover) else {
            let size = self.size(width, height);
            let source = whole;
            return Layout { size, source };
        };
        let size = (
            (w.max(1) as usize).min(width),
            (h.max(1) as usize).min(height),
        );
        // How much of the picture one pixel of the image stands for.
        let across = width as f64 / f64::from(w.max(1));
        let down = height as f64 / f64::from(h.max(1));
        let step = across.min(down).max(1.0);
        let covered = (
            (size.0 as f64 * step).min(width as f64),
            (size.1 as f64 * step).min(height as f64),
        );
        let source = (
            ((width as f64 - covered.0) / 2.0).floor(),
            ((height as f64 - covered.1) / 2.0).floor(),
            covered.0,
            covered.1,
        );
        Layout { size, source }
    }

    /// The size of the image of a picture that is displayed (cropped, turned) in `width` ×
    /// `height`: the largest that fits inside the limits with the same aspect, the other side
    /// rounded to the nearest pixel; never larger than the picture, never less than 1 × 1.
    pub fn size(&self, width: usize, height: usize) -> (usize, usize) {
        let limit =
            |max: Option<u32>, side: usize| max.map_or(side, |max| (max.max(1) as usize).min(side));
        let (most_wide, most_high) = (limit(self.max_width, width), limit(self.max_height, height));
        // No product overflows: sides are far below 2^64.
        let [w, h, mw, mh] = [width, height, most_wide, most_high].map(|v| v as u128);
        // The other side, times its limit's over this side's; rounds half up.
        let rounded = |side: u128, of: u128, to: u128| {
            let value = (2 * side * to + of).checked_div(2 * of);
            value.map_or(1, |v| v.max(1)) as usize
        };
        if mw * h <= mh * w {
            (most_wide, rounded(h, w, mw))
        } else {
            (rounded(w, h, mh), most_high)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn size(from: (usize, usize), width: Option<u32>, height: Option<u32>) -> (usize, usize) {
        let rendition = Rendition {
            quality: 80,
            max_width: width,
            max_height: height,
            ..Rendition::full_size(80)
        };
        rendition.size(from.0, from.1)
    }

    #[test]
    fn sizes() {
        let full_hd = (1920, 1080);
        assert_eq!(size(full_hd, None, None), full_hd);
        assert_eq!(size(full_hd, Some(320), None), (320, 180));
        assert_eq!(size(full_hd, None, Some(180)), (320, 180));
        assert_eq!(size(full_hd, Some(320), Some(100)), (178, 100));
        assert_eq!(size(full_hd, Some(100), Some(180)), (100, 56));
        assert_eq!(size(full_hd, Some(5000), Some(5000)), full_hd);
        assert_eq!(size(full_hd, Some(5000), None), full_hd);
        assert_eq!(size(full_hd, Some(0), Some(0)), (1, 1));
        assert_eq!(size((8192, 2), Some(16), None), (16, 1));
        assert_eq!(size((2, 8192), Some(1), None), (1, 4096));
        assert_eq!(size((1, 1), Some(1), Some(1)), (1, 1));
        // Half a pixel is rounded up.
        assert_eq!(size((2, 3), Some(1), None), (1, 2));
    }

    #[test]
    fn what_covers_is_cut_in_the_middle() {
        let layout = |width, height| {
            let rendition = Rendition {
                max_width: width,
                max_height: height,
                cover: true,
                ..Rendition::full_size(80)
            };
            let Layout { size, source } = rendition.layout(1920, 1080);
            (size, source)
        };
        let whole = (0.0, 0.0, 1920.0, 1080.0);
        assert_eq!(layout(None, None), ((1920, 1080), whole));
        assert_eq!(layout(Some(320), None), ((320, 180), whole));
        assert_eq!(
            layout(Some(100), Some(100)),
            ((100, 100), (420.0, 0.0, 1080.0, 1080.0))
        );
        assert_eq!(
            layout(Some(192), Some(54)),
            ((192, 54), (0.0, 270.0, 1920.0, 540.0))
        );
        // Never made larger: what is there is shown as it is.
        assert_eq!(
            layout(Some(4000), Some(500)),
            ((1920, 500), (0.0, 290.0, 1920.0, 500.0))
        );
        assert_eq!(layout(Some(4000), Some(4000)), ((1920, 1080), whole));
    }

    proptest! {
        #[test]
        fn the_largest_that_fits(
            w in 1usize..9000,
            h in 1usize..9000,
            max_w in proptest::option::of(0u32..9000),
            max_h in proptest::option::of(0u32..9000),
        ) {
            let (dw, dh) = size((w, h), max_w, max_h);
            let most = |max: Option<u32>, side: usize| max.map_or(side, |m| m.max(1) as usize);
            prop_assert!((1..=w.min(most(max_w, w))).contains(&dw));
            prop_assert!((1..=h.min(most(max_h, h))).contains(&dh));
            // One side is as long as it may be.
            let full = dw == w.min(most(max_w, w)) || dh == h.min(most(max_h, h));
            prop_assert!(full);
            // The aspect is that of the picture, to the nearest pixel.
            let (exact_w, exact_h) = (
                dh as f64 * w as f64 / h as f64,
                dw as f64 * h as f64 / w as f64,
            );
            let near = |side: usize, exact: f64| {
                (side as f64 - exact).abs() <= 0.5 + 1e-9 || (side == 1 && exact < 1.0)
            };
            prop_assert!(near(dw, exact_w) || near(dh, exact_h));
            // Asked again of what came out, nothing changes.
            prop_assert_eq!(size((dw, dh), max_w, max_h), (dw, dh));
        }
    }
}
