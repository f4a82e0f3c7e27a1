//! Which samples a step reads: a pure function of the seed and of a counter over the run's samples.
//!
//! Each pass (epoch) takes every sample once, in its own order. There is no state, so a run can start at any
//! number, on any number of ranks. Samples that a guard has decided to skip are left out.

use muster_protocol::interval_set::IntervalSet;
use std::ops::Range;

/// The order of one run.
#[derive(Clone, Copy, Debug)]
pub struct SampleOrder {
    seed: u64,
    samples: u64,
}

/// Rounds of the Feistel network. Four give an order that looks random.
const ROUNDS: u64 = 4;

impl SampleOrder {
    /// An order of `samples` samples; `None` when there are no samples.
    #[must_use]
    pub fn new(seed: u64, samples: u64) -> Option<Self> {
        (samples > 0).then_some(Self { seed, samples })
    }

    /// The place in the data set of the run's `number`th sample.
    #[must_use]
    pub fn place(&self, number: u64) -> u64 {
        let (pass, place) = (number / self.samples, number % self.samples);
        self.permuted(pass, place)
    }

    /// The places of the samples with these numbers.
    #[must_use]
    pub fn places(&self, numbers: &[Range<u64>]) -> Vec<u64> {
        numbers.iter().cloned().flatten().map(|number| self.place(number)).collect()
    }

    /// A permutation of the samples: a Feistel network over a power of two, repeated until the result is a
    /// sample (cycle walking; Black and Rogaway 2002).
    fn permuted(&self, pass: u64, place: u64) -> u64 {
        let half = u64::BITS.saturating_sub((self.samples - 1).leading_zeros()).div_ceil(2).max(1);
        let mask = (1 << half) - 1;
        let mut value = place;
        loop {
            let (mut left, mut right) = (value >> half, value & mask);
            for round in 0..ROUNDS {
                let key = mix(mix(mix(self.seed) ^ pass) ^ round);
                (left, right) = (right, left ^ (mix(key ^ right) & mask));
            }
            value = left << half | right;
            // The cycle of a permutation returns to its start, which is a sample, so this ends.
            if value < self.samples {
                return value;
            }
        }
    }
}

/// splitmix64: a hash of one number.
pub(super) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The next `count` numbers from `cursor` on, without those that are skipped (disjoint, in order).
#[must_use]
pub fn take(mut cursor: u64, mut count: u64, skipped: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut taken = Vec::new();
    for skip in skipped {
        if skip.end <= cursor {
            continue;
        }
        let room = skip.start.saturating_sub(cursor).min(count);
        if room > 0 {
            taken.push(cursor..cursor + room);
        }
        count -= room;
        if count == 0 {
            return taken;
        }
        cursor = skip.end;
    }
    if count > 0 {
        taken.push(cursor..cursor.saturating_add(count));
    }
    taken
}

/// Of the numbers in `ranges`, `count` from the `first`th on.
#[must_use]
pub fn part(ranges: &[Range<u64>], mut first: u64, mut count: u64) -> Vec<Range<u64>> {
    let mut found = Vec::new();
    for range in ranges {
        let len = range.end - range.start;
        if first < len && count > 0 {
            let start = range.start + first;
            let end = range.end.min(start + count);
            count -= end - start;
            found.push(start..end);
        }
        first = first.saturating_sub(len);
    }
    found
}

/// Adds a range to the skipped ones, and joins ranges that touch.
pub fn skip(skipped: &mut Vec<Range<u64>>, range: Range<u64>) {
    let mut set = IntervalSet::default();
    for range in skipped.drain(..).chain([range]) {
        set.insert_range(range.start, range.end);
    }
    *skipped = set.ranges().collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_pass_takes_each_sample_once_in_its_own_order() {
        for samples in [1u64, 2, 12, 100, 125, 512] {
            let order = SampleOrder::new(3, samples).expect("has samples");
            let pass = |pass: u64| (0..samples).map(|i| order.place(pass * samples + i)).collect::<Vec<_>>();
            let (first, second) = (pass(0), pass(1));
            let every: BTreeSet<_> = (0..samples).collect();
            assert_eq!(first.iter().copied().collect::<BTreeSet<_>>(), every);
            assert_eq!(second.iter().copied().collect::<BTreeSet<_>>(), every);
            if samples > 20 {
                assert_ne!(first, second);
                assert!(!first.is_sorted());
                let other = SampleOrder::new(4, samples).expect("has samples");
                assert_ne!(first, (0..samples).map(|i| other.place(i)).collect::<Vec<_>>());
            }
        }
        assert!(SampleOrder::new(0, 0).is_none());
    }

    fn ranges(pairs: &[(u64, u64)]) -> Vec<Range<u64>> {
        pairs.iter().map(|(start, end)| *start..*end).collect()
    }

    /// (first, count, found)
    type Part<'a> = (u64, u64, &'a [(u64, u64)]);
    /// (cursor, count, skipped, taken)
    type Taken<'a> = (u64, u64, &'a [(u64, u64)], &'a [(u64, u64)]);

    #[test]
    fn what_is_skipped_is_left_out_and_nothing_else() {
        let table: [Taken<'_>; 8] = [
            (0, 4, &[], &[(0, 4)]),
            (8, 4, &[(0, 8)], &[(8, 12)]),
            (8, 4, &[(8, 16)], &[(16, 20)]),
            (8, 4, &[(10, 16)], &[(8, 10), (16, 18)]),
            (8, 4, &[(12, 16)], &[(8, 12)]),
            (8, 6, &[(9, 10), (11, 12)], &[(8, 9), (10, 11), (12, 16)]),
            (9, 2, &[(8, 10)], &[(10, 12)]),
            (8, 0, &[(8, 10)], &[]),
        ];
        for (cursor, count, skipped, expected) in table {
            assert_eq!(
                take(cursor, count, &ranges(skipped)),
                ranges(expected),
                "{cursor} {count} {skipped:?}"
            );
        }
        let whole = ranges(&[(8, 10), (16, 18), (30, 31)]);
        let parts: [Part<'_>; 5] = [
            (0, 2, &[(8, 10)]),
            (1, 2, &[(9, 10), (16, 17)]),
            (3, 2, &[(17, 18), (30, 31)]),
            (4, 9, &[(30, 31)]),
            (5, 1, &[]),
        ];
        for (first, count, expected) in parts {
            assert_eq!(part(&whole, first, count), ranges(expected), "{first} {count}");
        }
        let mut skipped = Vec::new();
        for (start, end) in [(20, 24), (4, 8), (8, 12), (22, 30), (3, 3)] {
            skip(&mut skipped, start..end);
        }
        assert_eq!(skipped, ranges(&[(4, 12), (20, 30)]));
    }
}
