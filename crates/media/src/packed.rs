//! A column of whole numbers in little memory.
//!
//! Columns of an index are nearly straight lines: times grow by a picture's duration, offsets by a
//! sample's mean size, places by one. So of each block of 128 values a line is kept, and of each
//! value, in as many bits as the block needs, how far above the line it lies. All arithmetic wraps:
//! whatever was put in comes out.

use std::ops::Range;

/// Values of a block; a power of two.
const BLOCK: usize = 128;

/// Numbers that are asked for by place.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Packed {
    len: usize,
    blocks: Vec<Block>,
    /// Distances from the line, each block's from a word of its own on.
    words: Vec<u64>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Block {
    base: i64,
    step: i64,
    word: u32,
    /// Bits of each distance, 0 to 64.
    width: u8,
}

impl Packed {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value at a place.
    pub(crate) fn get(&self, place: usize) -> Option<i64> {
        if place >= self.len {
            return None;
        }
        let block = self.blocks.get(place / BLOCK)?;
        let inside = place % BLOCK;
        let line = block
            .base
            .wrapping_add(block.step.wrapping_mul(inside as i64));
        Some(line.wrapping_add(self.distance(block, inside)? as i64))
    }

    fn distance(&self, block: &Block, inside: usize) -> Option<u64> {
        let width = usize::from(block.width);
        if width == 0 {
            return Some(0);
        }
        let bit = inside * width;
        let (word, shift) = (block.word as usize + bit / 64, bit % 64);
        let low = *self.words.get(word)? >> shift;
        let all = if shift + width > 64 {
            low | (*self.words.get(word + 1)? << (64 - shift))
        } else {
            low
        };
        Some(all & (u64::MAX >> (64 - width)))
    }

    /// As [`Packed::get`], for columns of 32 bits.
    pub(crate) fn get_u32(&self, place: usize) -> Option<u32> {
        self.get(place).and_then(|v| u32::try_from(v).ok())
    }

    /// All values, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        (0..self.len).map_while(|place| self.get(place))
    }

    /// The last value.
    pub(crate) fn last(&self) -> Option<i64> {
        self.get(self.len.checked_sub(1)?)
    }

    /// Of an ascending column: the first place whose value `below` does not hold for.
    pub(crate) fn partition_point(&self, below: impl Fn(i64) -> bool) -> usize {
        let Range { mut start, mut end } = 0..self.len;
        while start < end {
            let middle = start + (end - start) / 2;
            if self.get(middle).is_some_and(&below) {
                start = middle + 1;
            } else {
                end = middle;
            }
        }
        start
    }

    /// Bytes that it takes in memory.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Block>() + self.words.capacity() * size_of::<u64>()
    }
}

impl FromIterator<i64> for Packed {
    fn from_iter<I: IntoIterator<Item = i64>>(values: I) -> Self {
        let mut packer = Packer::default();
        for value in values {
            packer.push(value);
        }
        packer.finish()
    }
}

/// A column that grows.
#[derive(Debug, Default)]
pub(crate) struct Packer {
    packed: Packed,
    open: Vec<i64>,
}

impl Packer {
    /// Appends a value.
    pub(crate) fn push(&mut self, value: i64) {
        self.open.push(value);
        if self.open.len() == BLOCK {
            self.close();
        }
    }

    /// How many were appended.
    pub(crate) fn len(&self) -> usize {
        self.packed.len + self.open.len()
    }

    /// The column.
    pub(crate) fn finish(mut self) -> Packed {
        self.close();
        self.packed.blocks.shrink_to_fit();
        self.packed.words.shrink_to_fit();
        self.packed
    }

    fn close(&mut self) {
        let (Some(&first), Some(&last)) = (self.open.first(), self.open.last()) else {
            return;
        };
        let steps = (self.open.len() as i64 - 1).max(1);
        let step = last.wrapping_sub(first).wrapping_div(steps);
        for (place, value) in self.open.iter_mut().enumerate() {
            *value = value.wrapping_sub(step.wrapping_mul(place as i64));
        }
        let base = self.open.iter().copied().min().unwrap_or(0);
        // From the least value up, whatever the sign: exact in 64 bits without one.
        let distance = |value: i64| value.wrapping_sub(base) as u64;
        let most = self.open.iter().copied().map(distance).max().unwrap_or(0);
        let width = 64 - most.leading_zeros() as usize;
        let words = &mut self.packed.words;
        self.packed.blocks.push(Block {
            base,
            step,
            // 16 million samples have 2^24 words at the most.
            word: words.len() as u32,
            width: width as u8,
        });
        let (mut word, mut filled) = (0u64, 0);
        for value in self.open.iter().copied().map(distance) {
            if width == 0 {
                break;
            }
            word |= value << filled;
            filled += width;
            if filled >= 64 {
                words.push(word);
                filled -= 64;
                // What did not fit; nothing where it fitted exactly.
                word = value.checked_shr((width - filled) as u32).unwrap_or(0);
            }
        }
        if filled > 0 {
            words.push(word);
        }
        self.packed.len += self.open.len();
        self.open.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(values: &[i64]) {
        let packed: Packed = values.iter().copied().collect();
        assert_eq!(packed.len(), values.len());
        assert!(packed.iter().eq(values.iter().copied()));
        assert_eq!(packed.last(), values.last().copied());
        assert_eq!(packed.get(values.len()), None);
    }

    fn any_column() -> impl Strategy<Value = Vec<i64>> {
        let value = prop_oneof![
            any::<i64>(),
            -3..3i64,
            Just(i64::MIN),
            Just(i64::MAX),
            0..1i64 << 33
        ];
        proptest::collection::vec(value, 0..400)
    }

    proptest! {
        #[test]
        fn what_was_put_in_comes_out(values in any_column()) {
            check(&values);
        }

        #[test]
        fn so_do_lines_with_noise(
            base in any::<i64>(),
            step in any::<i32>(),
            noise in proptest::collection::vec(0u32..1000, 0..400),
        ) {
            let line = |(i, n): (usize, &u32)| {
                base.wrapping_add(i64::from(step).wrapping_mul(i as i64)).wrapping_add(i64::from(*n))
            };
            check(&noise.iter().enumerate().map(line).collect::<Vec<_>>());
        }

        #[test]
        fn a_place_in_an_ascending_column_is_found(
            mut values in proptest::collection::vec(-500..500i64, 0..300),
            at in -510..510i64,
        ) {
            values.sort_unstable();
            let packed: Packed = values.iter().copied().collect();
            prop_assert_eq!(
                packed.partition_point(|v| v < at),
                values.partition_point(|v| *v < at)
            );
        }
    }

    #[test]
    fn every_width_of_a_distance() {
        for width in 0..=64u32 {
            let top = 1u64.checked_shl(width).unwrap_or(0).wrapping_sub(1);
            check(&[0, top as i64, 0, top as i64, (top / 3) as i64, 0].repeat(40));
        }
    }

    #[test]
    fn a_straight_line_takes_nearly_nothing() {
        let packed: Packed = (0..1_000_000).map(|i| 90_000 + i * 1001).collect();
        assert!(packed.heap_bytes() < 250_000, "{}", packed.heap_bytes());
    }
}
