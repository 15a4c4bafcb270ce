//! NAL units: their header (H.265 7.3.1.2), their types (table 7-1), and how they are framed.

use crate::index::Framing;

/// `nal_unit_type`, 0 to 63.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NalType(pub u8);

impl NalType {
    /// Video parameter set.
    pub const VPS: Self = Self(32);
    /// Sequence parameter set.
    pub const SPS: Self = Self(33);
    /// Picture parameter set.
    pub const PPS: Self = Self(34);
    /// Access unit delimiter.
    pub const AUD: Self = Self(35);
    /// End of sequence.
    pub const EOS: Self = Self(36);
    /// End of bitstream.
    pub const EOB: Self = Self(37);
    /// Filler data.
    pub const FILLER: Self = Self(38);
    /// Prefix SEI.
    pub const PREFIX_SEI: Self = Self(39);

    /// A coded slice segment.
    pub fn is_slice(self) -> bool {
        self.0 <= 9 || (16..=21).contains(&self.0)
    }

    /// VCL, reserved types included.
    pub fn is_vcl(self) -> bool {
        self.0 <= 31
    }

    /// BLA, IDR or CRA (or reserved IRAP).
    pub fn is_irap(self) -> bool {
        (16..=23).contains(&self.0)
    }

    /// `IDR_W_RADL` or `IDR_N_LP`.
    pub fn is_idr(self) -> bool {
        self.0 == 19 || self.0 == 20
    }

    /// `BLA_W_LP`, `BLA_W_RADL` or `BLA_N_LP`.
    pub fn is_bla(self) -> bool {
        (16..=18).contains(&self.0)
    }

    /// `CRA_NUT`.
    pub fn is_cra(self) -> bool {
        self.0 == 21
    }

    /// `RASL_N` or `RASL_R`: may refer to what lies before its IRAP.
    pub fn is_rasl(self) -> bool {
        self.0 == 8 || self.0 == 9
    }

    /// `RADL_N` or `RADL_R`.
    pub fn is_radl(self) -> bool {
        self.0 == 6 || self.0 == 7
    }

    /// A sub-layer non-reference picture (even types below 16).
    pub fn is_sub_layer_non_reference(self) -> bool {
        self.0 < 16 && self.0.is_multiple_of(2)
    }

    /// A VPS, SPS or PPS.
    pub fn is_parameter_set(self) -> bool {
        (32..=34).contains(&self.0)
    }

    /// Non-VCL types that, after the last VCL NAL unit of a picture, begin the next access unit
    /// (7.4.2.4.4).
    pub fn begins_access_unit(self) -> bool {
        matches!(self.0, 32..=35 | 39 | 41..=44 | 48..=55)
    }

    /// The standard's name.
    pub fn name(self) -> &'static str {
        match self.0 {
            0 => "TRAIL_N",
            1 => "TRAIL_R",
            2 => "TSA_N",
            3 => "TSA_R",
            4 => "STSA_N",
            5 => "STSA_R",
            6 => "RADL_N",
            7 => "RADL_R",
            8 => "RASL_N",
            9 => "RASL_R",
            16 => "BLA_W_LP",
            17 => "BLA_W_RADL",
            18 => "BLA_N_LP",
            19 => "IDR_W_RADL",
            20 => "IDR_N_LP",
            21 => "CRA_NUT",
            32 => "VPS_NUT",
            33 => "SPS_NUT",
            34 => "PPS_NUT",
            35 => "AUD_NUT",
            36 => "EOS_NUT",
            37 => "EOB_NUT",
            38 => "FD_NUT",
            39 => "PREFIX_SEI_NUT",
            40 => "SUFFIX_SEI_NUT",
            _ => "reserved",
        }
    }
}

/// The two-byte NAL unit header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NalHeader {
    /// `nal_unit_type`.
    pub nal_type: NalType,
    /// `nuh_layer_id`; 0 is the base layer.
    pub layer_id: u8,
    /// `TemporalId` (`nuh_temporal_id_plus1` − 1).
    pub temporal_id: u8,
}

impl NalHeader {
    /// ```text
    ///  0                   1
    ///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5
    /// |F|   type    | layer_id  | tid |
    /// ```
    /// `None` if it is too short, has the forbidden bit set, or a `nuh_temporal_id_plus1` of 0.
    pub fn parse(nal: &[u8]) -> Option<Self> {
        let (&first, &second) = (nal.first()?, nal.get(1)?);
        if first & 0x80 != 0 || second & 7 == 0 {
            return None;
        }
        Some(Self {
            nal_type: NalType((first >> 1) & 0x3f),
            layer_id: ((first & 1) << 5) | (second >> 3),
            temporal_id: (second & 7) - 1,
        })
    }
}

/// The framing of a sample is broken: a NAL unit's length reaches beyond the sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a NAL unit at byte {at} of the sample announces more bytes than the sample has")]
pub struct FramingError {
    /// Byte in the sample.
    pub at: usize,
}

/// The NAL units of one sample, without framing, in order. Empty NAL units are left out.
pub fn units(sample: &[u8], framing: Framing) -> NalUnits<'_> {
    NalUnits {
        sample,
        at: 0,
        framing,
        started: false,
    }
}

/// Iterator of [`units`].
#[derive(Clone, Debug)]
pub struct NalUnits<'a> {
    sample: &'a [u8],
    at: usize,
    framing: Framing,
    /// Start codes: `at` stands behind the first start code.
    started: bool,
}

/// Position of the next `00 00 01` at or after `from`.
pub fn find_start_code(data: &[u8], from: usize) -> Option<usize> {
    let rest = data.get(from..)?;
    memchr::memmem::find(rest, &[0, 0, 1]).map(|p| p + from)
}

impl<'a> Iterator for NalUnits<'a> {
    type Item = Result<&'a [u8], FramingError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.framing {
            Framing::LengthPrefixed(bytes) => loop {
                let prefix = usize::from(bytes);
                let rest = self.sample.get(self.at..).filter(|r| !r.is_empty())?;
                let at = self.at;
                let Some((length, body)) = rest.split_at_checked(prefix) else {
                    self.at = self.sample.len();
                    return Some(Err(FramingError { at }));
                };
                let length = length
                    .iter()
                    .fold(0usize, |l, &b| (l << 8) | usize::from(b));
                let Some(unit) = body.get(..length) else {
                    self.at = self.sample.len();
                    return Some(Err(FramingError { at }));
                };
                self.at += prefix + length;
                if !unit.is_empty() {
                    return Some(Ok(unit));
                }
            },
            Framing::StartCodes => loop {
                if !self.started {
                    self.at = find_start_code(self.sample, self.at)? + 3;
                    self.started = true;
                }
                if self.at >= self.sample.len() {
                    return None;
                }
                let from = self.at;
                let end = match find_start_code(self.sample, from) {
                    Some(next) => {
                        self.at = next + 3;
                        next
                    }
                    None => {
                        self.at = self.sample.len();
                        self.sample.len()
                    }
                };
                let unit = self.sample.get(from..end)?;
                // trailing_zero_8bits and the next start code's zero_byte (B.2).
                let length = unit.iter().rposition(|&b| b != 0).map_or(0, |p| p + 1);
                if let Some(unit) = unit.get(..length).filter(|u| !u.is_empty()) {
                    return Some(Ok(unit));
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(sample: &[u8], framing: Framing) -> Vec<Result<&[u8], FramingError>> {
        units(sample, framing).collect()
    }

    #[test]
    fn start_codes_of_three_and_four_bytes() {
        let sample = [
            0, 0, 0, 1, 64, 1, 9, 0, 0, 1, 66, 1, 0, 0, 0, 0, 1, 68, 1, 0, 0,
        ];
        let expected: [&[u8]; 3] = [&[64, 1, 9], &[66, 1], &[68, 1]];
        assert_eq!(split(&sample, Framing::StartCodes), expected.map(Ok));
        assert!(split(&[1, 2, 3], Framing::StartCodes).is_empty());
        assert!(split(&[0, 0, 1], Framing::StartCodes).is_empty());
    }

    #[test]
    fn lengths_of_one_two_and_four_bytes() {
        let expected: [&[u8]; 2] = [&[7, 8], &[9]];
        let one = [2, 7, 8, 0, 1, 9];
        assert_eq!(split(&one, Framing::LengthPrefixed(1)), expected.map(Ok));
        let two = [0, 2, 7, 8, 0, 1, 9];
        assert_eq!(split(&two, Framing::LengthPrefixed(2)), expected.map(Ok));
        let four = [0, 0, 0, 2, 7, 8, 0, 0, 0, 1, 9];
        assert_eq!(split(&four, Framing::LengthPrefixed(4)), expected.map(Ok));
    }

    #[test]
    fn a_length_beyond_the_sample_is_told() {
        let four = [0, 0, 0, 1, 9, 0xff, 0xff, 0xff, 0xff, 1];
        let got = split(&four, Framing::LengthPrefixed(4));
        assert_eq!(got, [Ok(&[9u8][..]), Err(FramingError { at: 5 })]);
        assert_eq!(
            split(&[0, 0], Framing::LengthPrefixed(4)),
            [Err(FramingError { at: 0 })]
        );
    }

    #[test]
    fn the_header_is_read_bit_by_bit() {
        let h = NalHeader::parse(&[0x42, 0x01]).unwrap();
        assert_eq!(
            (h.nal_type, h.layer_id, h.temporal_id),
            (NalType::SPS, 0, 0)
        );
        let h = NalHeader::parse(&[0x03, 0x0b]).unwrap();
        assert_eq!((h.nal_type, h.layer_id, h.temporal_id), (NalType(1), 33, 2));
        assert_eq!(NalHeader::parse(&[0x80, 1]), None);
        assert_eq!(NalHeader::parse(&[0x42, 0]), None);
        assert_eq!(NalHeader::parse(&[0x42]), None);
    }
}
