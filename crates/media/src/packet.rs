//! From a sample to the bytes that a decoder is given: Annex B, base layer only.

use crate::h265::nal::{self, FramingError, NalHeader, NalType};
use crate::index::Framing;

/// Appends `nals` (parameter sets, with NAL header), each behind a start code.
pub fn append_nals<'a>(out: &mut Vec<u8>, nals: impl IntoIterator<Item = &'a [u8]>) {
    for nal in nals {
        out.extend_from_slice(&[0, 0, 0, 1]);
        out.extend_from_slice(nal);
    }
}

/// Appends a sample's NAL units, each behind a start code.
///
/// Other layers, access unit delimiters, filler and end-of-sequence marks are left out: a decoder
/// that is given a selection of access units must not take the end of one sequence for that of
/// its own. `keep_ends` keeps the marks, for decoding everything as it lies.
///
/// # Errors
/// The sample's framing is broken; what came before the broken place has been appended.
pub fn append_sample(
    out: &mut Vec<u8>,
    sample: &[u8],
    framing: Framing,
    keep_ends: bool,
) -> Result<(), FramingError> {
    out.reserve(sample.len() + 16);
    for unit in nal::units(sample, framing) {
        let unit = unit?;
        let Some(header) = NalHeader::parse(unit) else {
            continue;
        };
        let dropped = match header.nal_type {
            NalType::AUD | NalType::FILLER => true,
            NalType::EOS | NalType::EOB => !keep_ends || header.layer_id != 0,
            _ => header.layer_id != 0,
        };
        if !dropped {
            append_nals(out, [unit]);
        }
    }
    Ok(())
}
