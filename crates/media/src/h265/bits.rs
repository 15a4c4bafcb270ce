//! Reading of syntax elements from a NAL unit's payload (H.265 clause 7.2 and 9.2).

/// A header that cannot be read: which syntax element, and what is wrong with it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeaderError {
    /// The NAL unit ends inside this syntax element.
    #[error("{element}: the NAL unit ends too early")]
    EndOfData {
        /// The syntax element's name in the standard.
        element: &'static str,
    },
    /// The value is outside what the standard allows.
    #[error("{element}: {value} is out of range (at most {most})")]
    OutOfRange {
        /// The syntax element's name in the standard.
        element: &'static str,
        /// The value that was read.
        value: u64,
        /// The largest allowed value.
        most: u64,
    },
    /// The value contradicts another one.
    #[error("{element}: {what}")]
    Invalid {
        /// The syntax element's name in the standard.
        element: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// A slice or a PPS names a parameter set that was not seen.
    #[error("{kind} {id} is not there")]
    MissingParameterSet {
        /// `SPS` or `PPS`.
        kind: &'static str,
        /// Its identifier.
        id: u8,
    },
}

/// Reads bits from a NAL unit, dropping `emulation_prevention_three_byte` on the way (7.3.1.1).
#[derive(Clone, Debug)]
pub struct BitReader<'a> {
    data: &'a [u8],
    at: usize,
    /// Zero bytes directly before `at`, counted up to 2.
    zeros: u8,
    /// The last byte that was taken, and how many of its low bits are still unread.
    byte: u8,
    left: u8,
}

impl<'a> BitReader<'a> {
    /// Starts after the two-byte NAL unit header.
    pub fn after_nal_header(nal: &'a [u8]) -> Self {
        Self {
            data: nal,
            at: 2,
            zeros: 0,
            byte: 0,
            left: 0,
        }
    }

    /// Bytes of the NAL unit that have been looked at, its header included.
    pub fn consumed(&self) -> usize {
        self.at
    }

    fn next_byte(&mut self) -> Option<u8> {
        let mut byte = *self.data.get(self.at)?;
        self.at += 1;
        if self.zeros >= 2 && byte == 3 {
            byte = *self.data.get(self.at)?;
            self.at += 1;
            self.zeros = 0;
        }
        self.zeros = if byte == 0 {
            (self.zeros + 1).min(2)
        } else {
            0
        };
        Some(byte)
    }

    /// `u(1)`.
    pub fn flag(&mut self, element: &'static str) -> Result<bool, HeaderError> {
        if self.left == 0 {
            self.byte = self.next_byte().ok_or(HeaderError::EndOfData { element })?;
            self.left = 8;
        }
        self.left -= 1;
        Ok((self.byte >> self.left) & 1 == 1)
    }

    /// `u(n)`, n at most 32.
    pub fn bits(&mut self, element: &'static str, count: u32) -> Result<u32, HeaderError> {
        let mut value: u64 = 0;
        let mut wanted = count.min(32);
        while wanted > 0 {
            if self.left == 0 {
                self.byte = self.next_byte().ok_or(HeaderError::EndOfData { element })?;
                self.left = 8;
            }
            let take = wanted.min(u32::from(self.left));
            self.left -= take as u8;
            let part = (u32::from(self.byte) >> self.left) & ((1 << take) - 1);
            value = (value << take) | u64::from(part);
            wanted -= take;
        }
        Ok(value as u32)
    }

    /// Skips `count` bits.
    pub fn skip(&mut self, element: &'static str, count: u32) -> Result<(), HeaderError> {
        let mut rest = count;
        while rest > 0 {
            let now = rest.min(32);
            self.bits(element, now)?;
            rest -= now;
        }
        Ok(())
    }

    /// `ue(v)` of at most `most` (9.2).
    pub fn ue(&mut self, element: &'static str, most: u32) -> Result<u32, HeaderError> {
        let mut zeros = 0u32;
        while !self.flag(element)? {
            zeros += 1;
            if zeros > 32 {
                return Err(HeaderError::Invalid {
                    element,
                    what: "code of more than 32 bits",
                });
            }
        }
        let value = (1u64 << zeros) - 1 + u64::from(self.bits(element, zeros)?);
        if value > u64::from(most) {
            return Err(HeaderError::OutOfRange {
                element,
                value,
                most: u64::from(most),
            });
        }
        Ok(value as u32)
    }

    /// `se(v)` (9.2.2).
    pub fn se(&mut self, element: &'static str) -> Result<i32, HeaderError> {
        let code = i64::from(self.ue(element, u32::MAX - 1)?);
        let magnitude = (code + 1) / 2;
        let value = if code % 2 == 1 { magnitude } else { -magnitude };
        i32::try_from(value).map_err(|_| HeaderError::Invalid {
            element,
            what: "does not fit 32 bits",
        })
    }
}

/// Bits that a value below `count` needs: `Ceil(Log2(count))`.
pub fn ceil_log2(count: u32) -> u32 {
    count.saturating_sub(1).checked_ilog2().map_or(0, |b| b + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes_of_the_standard() {
        // 9.2: 1 → 0, 010 → 1, 011 → 2, 00100 → 3.
        let nal = [0, 0, 0b1010_0110, 0b0100_0000];
        let mut r = BitReader::after_nal_header(&nal);
        let values: Vec<u32> = (0..4).map(|_| r.ue("x", 100).unwrap()).collect();
        assert_eq!(values, [0, 1, 2, 3]);
    }

    #[test]
    fn signed_codes_alternate() {
        let nal = [0, 0, 0b1010_0110, 0b0100_0010, 0b1000_0000];
        let mut r = BitReader::after_nal_header(&nal);
        let values: Vec<i32> = (0..5).map(|_| r.se("x").unwrap()).collect();
        assert_eq!(values, [0, 1, -1, 2, -2]);
    }

    #[test]
    fn emulation_prevention_is_dropped() {
        let nal = [0x40, 1, 0, 0, 3, 1, 0, 0, 3, 0, 0, 3, 2];
        let mut r = BitReader::after_nal_header(&nal);
        let bytes: Vec<u32> = (0..8).map(|_| r.bits("x", 8).unwrap()).collect();
        assert_eq!(bytes, [0, 0, 1, 0, 0, 0, 0, 2]);
        assert_eq!(r.bits("x", 1), Err(HeaderError::EndOfData { element: "x" }));
    }

    #[test]
    fn limits_are_told_with_the_element() {
        let nal = [0, 0, 0b0010_0000];
        let mut r = BitReader::after_nal_header(&nal);
        assert_eq!(
            r.ue("pps_id", 2).unwrap_err().to_string(),
            "pps_id: 3 is out of range (at most 2)"
        );
    }

    #[test]
    fn ceil_log2_counts_bits() {
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 8, 9].map(ceil_log2),
            [0, 0, 1, 2, 2, 3, 3, 4]
        );
    }
}
