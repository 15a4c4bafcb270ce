//! Which reads several ranges become.
//!
//! A request costs a round trip and money, but those sent together cost one round trip. So ranges
//! with a gap between them are read as one only where that reads little more than was asked for.

use std::ops::Range;

/// What a store's requests are like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Costs {
    /// A gap of no more than this is always read.
    pub(crate) free_gap: u64,
    /// One of more than this never is.
    pub(crate) longest_gap: u64,
    /// Of all that is wanted, what may be read in addition: one part in so many.
    pub(crate) surplus: u64,
    /// As many requests may be sent together; beyond, smaller gaps are read in spite of `surplus`.
    pub(crate) together: usize,
}

/// A file: the system reads ahead, and a request costs microseconds.
pub(crate) const LOCAL: Costs = Costs {
    free_gap: 32 << 10,
    longest_gap: 32 << 10,
    surplus: 1,
    together: usize::MAX,
};

/// Over the network.
pub(crate) const REMOTE: Costs = Costs {
    free_gap: 0,
    longest_gap: 1 << 20,
    // 4 %, so that with what else there is, it stays below 5 %.
    surplus: 25,
    together: 16,
};

/// The reads to make: ascending, apart from each other, and each range within one of them.
pub(crate) fn reads(ranges: &[Range<u64>], costs: Costs) -> Vec<Range<u64>> {
    let mut sorted: Vec<Range<u64>> = ranges.iter().filter(|r| !r.is_empty()).cloned().collect();
    sorted.sort_unstable_by_key(|r| r.start);
    let mut reads: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match reads.last_mut() {
            Some(last) if range.start.saturating_sub(last.end) <= costs.free_gap => {
                last.end = last.end.max(range.end);
            }
            _ => reads.push(range),
        }
    }
    let wanted: u64 = reads.iter().map(|r| r.end - r.start).sum();
    let mut gaps: Vec<(u64, usize)> = (reads.iter().zip(reads.iter().skip(1)).enumerate())
        .map(|(at, (a, b))| (b.start.saturating_sub(a.end), at))
        .filter(|(gap, _)| *gap <= costs.longest_gap)
        .collect();
    gaps.sort_unstable();
    let (mut surplus, mut left) = (wanted / costs.surplus, reads.len());
    let mut closed = vec![false; reads.len()];
    for (gap, at) in gaps {
        let affordable = gap <= surplus;
        if !affordable && left <= costs.together {
            break;
        }
        surplus = surplus.saturating_sub(gap);
        left -= 1;
        if let Some(closed) = closed.get_mut(at) {
            *closed = true;
        }
    }
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(left);
    let mut joins = false;
    for (read, closed) in reads.into_iter().zip(closed) {
        match joined.last_mut() {
            Some(last) if joins => last.end = read.end,
            _ => joined.push(read),
        }
        joins = closed;
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One range in a list, which is no list of numbers.
    fn one(range: Range<u64>) -> Vec<Range<u64>> {
        vec![range]
    }

    fn remote(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
        reads(ranges, REMOTE)
    }

    #[test]
    fn what_touches_is_one_read() {
        assert_eq!(remote(&[20..30, 0..10, 10..20, 5..12]), one(0..30));
        assert_eq!(remote(&[]), []);
        assert_eq!(remote(&one(5..5)), []);
        assert_eq!(remote(&[0..100, 20..30]), one(0..100));
    }

    #[test]
    fn gaps_are_read_as_long_as_they_are_a_small_part() {
        // The smallest first: 10 and 20 of 1000 are 3 %, 30 more would be too much.
        let ranges = [0..400, 430..700, 710..1000, 1020..1040];
        assert_eq!(remote(&ranges), [0..400, 430..1040]);
        let far = [0..100 << 20, (101 << 20) + 1..200 << 20];
        assert_eq!(remote(&far), far);
    }

    #[test]
    fn many_small_pieces_become_a_few_reads() {
        // As much audio as video between them.
        let pieces: Vec<Range<u64>> = (0..100).map(|n| n * 2000..n * 2000 + 1000).collect();
        assert_eq!(remote(&pieces).len(), REMOTE.together);
        // Far apart, they stay pieces.
        let apart: Vec<Range<u64>> = (0..100).map(|n| n << 24..(n << 24) + 1000).collect();
        assert_eq!(remote(&apart).len(), 100);
    }

    #[test]
    fn of_a_file_near_ranges_are_one_read() {
        let ranges = [0..10, 20..30, 900_000..900_010];
        assert_eq!(reads(&ranges, LOCAL), [0..30, 900_000..900_010]);
    }

    proptest! {
        #[test]
        fn each_range_lies_within_one_read(
            ranges in prop::collection::vec((0u64..5_000_000, 0u64..50_000), 0..60),
            local: bool,
        ) {
            let costs = if local { LOCAL } else { REMOTE };
            let ranges: Vec<_> = ranges.into_iter().map(|(at, n)| at..at + n).collect();
            let planned = reads(&ranges, costs);
            for pair in planned.windows(2) {
                prop_assert!(pair[0].end < pair[1].start);
            }
            for range in ranges.iter().filter(|r| !r.is_empty()) {
                let holds = |r: &&Range<u64>| r.start <= range.start && range.end <= r.end;
                prop_assert_eq!(planned.iter().filter(holds).count(), 1);
            }
            let read: u64 = planned.iter().map(|r| r.end - r.start).sum();
            let exactly = Costs { free_gap: 0, longest_gap: 0, ..costs };
            let wanted: u64 = reads(&ranges, exactly).iter().map(|r| r.end - r.start).sum();
            if planned.len() > REMOTE.together && !local {
                prop_assert!(read <= wanted + wanted / 20);
            }
            prop_assert!(read >= wanted);
        }
    }
}
