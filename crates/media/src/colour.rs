//! Colour description by the code points of ITU-T H.273, as VUI and `colr` carry it.

/// Code point "unspecified" of every table of H.273.
pub const UNSPECIFIED: u8 = 2;

/// What a stream or a container says of its colours. Code points are those of ITU-T H.273.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ColourDescription {
    /// `colour_primaries` (H.273 table 2).
    pub primaries: u8,
    /// `transfer_characteristics` (H.273 table 3).
    pub transfer: u8,
    /// `matrix_coefficients` (H.273 table 4).
    pub matrix: u8,
    /// `video_full_range_flag`; `None` where nothing was said.
    pub full_range: Option<bool>,
}

impl Default for ColourDescription {
    fn default() -> Self {
        Self {
            primaries: UNSPECIFIED,
            transfer: UNSPECIFIED,
            matrix: UNSPECIFIED,
            full_range: None,
        }
    }
}

impl ColourDescription {
    /// Fills each part that `self` leaves unspecified from `other`.
    ///
    /// Used with the bitstream's VUI as `self` and the container's `colr` as `other`: containers
    /// are rewritten by editors that do not look at the stream, and FFmpeg's users expect the
    /// stream to win.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let pick = |a: u8, b: u8| if a == UNSPECIFIED { b } else { a };
        Self {
            primaries: pick(self.primaries, other.primaries),
            transfer: pick(self.transfer, other.transfer),
            matrix: pick(self.matrix, other.matrix),
            full_range: self.full_range.or(other.full_range),
        }
    }
}
