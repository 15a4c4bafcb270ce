//! Raw byte streams (H.265, Annex B), taken apart and put together for tests.

/// The NAL units of a byte stream, without start codes and trailing zero bytes.
pub fn nal_units(stream: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> = stream
        .windows(3)
        .enumerate()
        .filter(|(_, bytes)| *bytes == [0, 0, 1])
        .map(|(at, _)| at + 3)
        .collect();
    let ends = starts
        .iter()
        .skip(1)
        .map(|&next| next - 3)
        .chain([stream.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(&start, end)| {
            let unit = &stream[start..end];
            let zeros = unit.iter().rev().take_while(|byte| **byte == 0).count();
            &unit[..unit.len() - zeros]
        })
        .filter(|unit| unit.len() >= 2)
        .collect()
}

/// `nal_unit_type` of a NAL unit of at least one byte.
pub fn nal_unit_type(unit: &[u8]) -> u8 {
    unit[0] >> 1 & 0x3f
}

/// Whether it is a slice segment of an IRAP picture.
pub fn is_irap(unit: &[u8]) -> bool {
    (16..=23).contains(&nal_unit_type(unit))
}

/// A byte stream of NAL units, `start_code` before and `trailing` after each.
pub fn join<'a>(
    units: impl IntoIterator<Item = &'a [u8]>,
    start_code: &[u8],
    trailing: &[u8],
) -> Vec<u8> {
    units
        .into_iter()
        .flat_map(|unit| [start_code, unit, trailing].concat())
        .collect()
}

/// The stream from its second IRAP picture on, led by the parameter sets of its beginning.
pub fn from_second_irap(stream: &[u8]) -> Vec<u8> {
    let units = nal_units(stream);
    let is_first_segment = |unit: &[u8]| unit.get(2).is_some_and(|byte| byte & 0x80 != 0);
    let second = units
        .iter()
        .enumerate()
        .filter(|(_, unit)| is_irap(unit) && is_first_segment(unit))
        .map(|(at, _)| at)
        .nth(1)
        .expect("a second IRAP picture");
    let sets = units
        .iter()
        .take_while(|u| (32..=34).contains(&nal_unit_type(u)));
    join(sets.chain(&units[second..]).copied(), &[0, 0, 0, 1], &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_come_apart_whatever_their_start_codes() {
        let units: [&[u8]; 3] = [&[0x40, 1, 7], &[0x42, 1, 0, 0, 3], &[0x26, 1, 0x80]];
        for start in [&[0u8, 0, 1][..], &[0, 0, 0, 1]] {
            for trailing in [&[][..], &[0], &[0, 0, 0]] {
                assert_eq!(nal_units(&join(units, start, trailing)), units);
            }
        }
    }
}
