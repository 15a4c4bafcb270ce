//! Numbers in as few bytes as they need: unsigned LEB128, signed ones folded (0, −1, 1, −2, …).

/// Appends a number.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a number that may be negative.
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, (value << 1 ^ value >> 63) as u64);
}

/// Appends signed numbers; each 0 is followed by how many more zeros follow it.
pub(crate) fn put_column(out: &mut Vec<u8>, values: impl Iterator<Item = i64>) {
    let mut zeros = 0u64;
    for value in values {
        if value == 0 {
            zeros += 1;
            continue;
        }
        end_zeros(out, &mut zeros);
        put_signed(out, value);
    }
    end_zeros(out, &mut zeros);
}

fn end_zeros(out: &mut Vec<u8>, zeros: &mut u64) {
    if let Some(more) = zeros.checked_sub(1) {
        put_signed(out, 0);
        put(out, more);
        *zeros = 0;
    }
}

/// Bytes that are read from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    /// A number, in its shortest form only.
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let low = u64::from(byte & 0x7f);
            let part = low << shift;
            if part >> shift != low {
                return None;
            }
            value |= part;
            if byte & 0x80 == 0 {
                return (byte != 0 || shift == 0).then_some(value);
            }
        }
        None
    }

    pub(crate) fn signed(&mut self) -> Option<i64> {
        let folded = self.varint()?;
        Some((folded >> 1) as i64 ^ -((folded & 1) as i64))
    }

    /// A number of 32 bits.
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.varint()?.try_into().ok()
    }

    /// A number of things that take at least a byte each.
    pub(crate) fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.varint()?).ok()?;
        (count <= self.0.len()).then_some(count)
    }

    /// A length and as many bytes.
    pub(crate) fn block(&mut self) -> Option<&'a [u8]> {
        let length = self.count()?;
        self.bytes(length)
    }

    /// `count` numbers that [`put_column`] has written; `None` from `each` ends it.
    pub(crate) fn column(
        &mut self,
        count: usize,
        mut each: impl FnMut(i64) -> Option<()>,
    ) -> Option<()> {
        let mut left = count as u64;
        while left > 0 {
            let value = self.signed()?;
            let times = match value {
                0 => self.varint()?.checked_add(1)?,
                _ => 1,
            };
            left = left.checked_sub(times)?;
            for _ in 0..times {
                each(value)?;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_column_comes_back(
            values in proptest::collection::vec(prop_oneof![Just(0), any::<i64>(), -2..3i64], 0..99),
        ) {
            let mut out = Vec::new();
            put_column(&mut out, values.iter().copied());
            let mut fields = Fields(&out);
            let mut back = Vec::new();
            fields.column(values.len(), |v| { back.push(v); Some(()) }).unwrap();
            prop_assert_eq!(back, values);
            prop_assert!(fields.0.is_empty());
        }

        #[test]
        fn anything_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut fields = Fields(&bytes);
            if let Some(value) = fields.varint() {
                let mut again = Vec::new();
                put(&mut again, value);
                prop_assert!(bytes.starts_with(&again) && again.len() + fields.0.len() == bytes.len());
            }
            Fields(&bytes).column(1000, |_| Some(()));
        }
    }

    #[test]
    fn small_numbers_take_a_byte() {
        let signed = |value| {
            let mut out = Vec::new();
            put_signed(&mut out, value);
            out
        };
        assert_eq!(
            [0, -1, 1, -2, 63, -64].map(signed),
            [[0], [1], [2], [3], [126], [127]].map(Vec::from)
        );
        assert_eq!(signed(i64::MIN).len(), 10);
    }
}
