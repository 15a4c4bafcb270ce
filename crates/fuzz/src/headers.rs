//! Parameter sets and slice segment headers.

use bytes::Bytes;
use media::h265::ParameterSets;
use media::h265::nal::{self, NalHeader};
use media::h265::slice::SliceHeader;
use media::index::Framing;

pub(crate) fn run(data: &[u8]) {
    let mut sets = ParameterSets::default();
    let mut kept = Vec::new();
    for unit in nal::units(data, Framing::StartCodes).flatten() {
        let Some(header) = NalHeader::parse(unit) else {
            continue;
        };
        if header.nal_type.is_parameter_set() {
            let unit = Bytes::copy_from_slice(unit);
            if sets.push(&unit).is_ok() {
                kept.push(unit);
            }
        } else if header.nal_type.is_slice()
            && let Ok((slice, length)) = SliceHeader::measure(unit, header.nal_type, &sets)
        {
            // The same comes out of these bytes alone.
            assert!(length <= unit.len());
            let again = SliceHeader::measure(&unit[..length], header.nal_type, &sets);
            let (again, same) = again.unwrap();
            assert_eq!(format!("{slice:?}"), format!("{again:?}"));
            assert_eq!(length, same);
        }
    }
    // A decoder is told the sets that are in force in this way.
    let told: Vec<Bytes> = sets.nals().cloned().collect();
    let known = ParameterSets::from_nals(&told);
    assert_eq!(known.all_pps().count(), sets.all_pps().count());
    assert_eq!(known.all_sps().count(), sets.all_sps().count());
    for sps in sets.all_sps() {
        assert!(sps.width() > 0 && sps.height() > 0);
    }
}
