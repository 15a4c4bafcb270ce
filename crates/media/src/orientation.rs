//! How a decoded picture is to be turned and mirrored for display.

/// The eight orientations that a track matrix (ISO/IEC 14496-12, 6.2.2) can ask for without
/// scaling or shear: first an optional horizontal mirroring, then a clockwise rotation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Orientation {
    /// Mirror left–right before rotating.
    pub mirrored: bool,
    /// Quarter turns clockwise, 0 to 3.
    pub quarter_turns: u8,
}

impl Orientation {
    /// As coded.
    pub const IDENTITY: Self = Self {
        mirrored: false,
        quarter_turns: 0,
    };

    /// Whether width and height change places.
    pub fn swaps_axes(self) -> bool {
        self.quarter_turns % 2 == 1
    }

    /// Reads the 2×2 part of a track matrix, 16.16 fixed point, in file order `a b c d`
    /// (x' = a·x + c·y, y' = b·x + d·y, y downwards). Anything but a quarter turn with or
    /// without mirroring (shear, free angles, zero matrices) is taken as identity, as players do.
    pub fn from_matrix(a: i32, b: i32, c: i32, d: i32) -> Self {
        let sign = |v: i32| v.signum();
        match (sign(a), sign(b), sign(c), sign(d)) {
            (1, 0, 0, 1) => Self {
                mirrored: false,
                quarter_turns: 0,
            },
            (0, 1, -1, 0) => Self {
                mirrored: false,
                quarter_turns: 1,
            },
            (-1, 0, 0, -1) => Self {
                mirrored: false,
                quarter_turns: 2,
            },
            (0, -1, 1, 0) => Self {
                mirrored: false,
                quarter_turns: 3,
            },
            (-1, 0, 0, 1) => Self {
                mirrored: true,
                quarter_turns: 0,
            },
            // Mirror left–right (x → −x), then turn: the columns' signs follow.
            (0, -1, -1, 0) => Self {
                mirrored: true,
                quarter_turns: 1,
            },
            (1, 0, 0, -1) => Self {
                mirrored: true,
                quarter_turns: 2,
            },
            (0, 1, 1, 0) => Self {
                mirrored: true,
                quarter_turns: 3,
            },
            _ => Self::IDENTITY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The matrix of "mirror, then turn clockwise", built from its two parts.
    fn matrix(o: Orientation) -> (i32, i32, i32, i32) {
        // Clockwise on a y-down raster: (x, y) → (−y, x), i.e. a=0 b=1 c=−1 d=0.
        let (mut a, mut b, mut c, mut d) = (if o.mirrored { -1 } else { 1 }, 0, 0, 1);
        for _ in 0..o.quarter_turns {
            (a, b, c, d) = (-b, a, -d, c);
        }
        (a * 65536, b * 65536, c * 65536, d * 65536)
    }

    #[test]
    fn every_orientation_is_read_from_its_own_matrix() {
        for mirrored in [false, true] {
            for quarter_turns in 0..4 {
                let o = Orientation {
                    mirrored,
                    quarter_turns,
                };
                let (a, b, c, d) = matrix(o);
                assert_eq!(Orientation::from_matrix(a, b, c, d), o);
            }
        }
    }

    #[test]
    fn shear_is_taken_as_identity() {
        assert_eq!(
            Orientation::from_matrix(65536, 65536, 0, 65536),
            Orientation::IDENTITY
        );
        assert_eq!(Orientation::from_matrix(0, 0, 0, 0), Orientation::IDENTITY);
    }
}
