//! Sets of numbers as intervals: a million tasks that wait are one interval.

mod text;

use alloc::collections::BTreeMap;
use bincode::{Decode, Encode};
use core::ops::{Add, AddAssign, Sub, SubAssign};

/// A number that an [`IntervalSet`] can hold.
pub trait Number:
    Copy + Default + Ord + Add<Output = Self> + AddAssign + Sub<Output = Self> + SubAssign
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
}

impl Number for u32 {
    const ZERO: u32 = 0;
    const ONE: u32 = 1;
}

impl Number for u64 {
    const ZERO: u64 = 0;
    const ONE: u64 = 1;
}

/// A set of numbers, kept as intervals that do not touch. Equal sets have equal bytes. The largest number of
/// the type is never in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct IntervalSet<N: Number> {
    /// From the first number of each interval to one past its last.
    intervals: BTreeMap<N, N>,
    len: N,
}

impl<N: Number> IntervalSet<N> {
    /// The numbers from `first` to one before `end`.
    pub fn from_range(first: N, end: N) -> Self {
        let mut set = IntervalSet::default();
        set.insert_range(first, end);
        set
    }

    /// How many numbers are in the set.
    pub fn len(&self) -> N {
        self.len
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.len == N::ZERO
    }

    /// How many intervals the set takes.
    pub fn interval_count(&self) -> usize {
        self.intervals.len()
    }

    /// The intervals, ascending: the first number of each, and one past its last.
    pub fn intervals(&self) -> impl Iterator<Item = (N, N)> + '_ {
        self.intervals.iter().map(|(first, end)| (*first, *end))
    }

    /// The smallest number.
    pub fn first(&self) -> Option<N> {
        self.intervals.first_key_value().map(|(first, _)| *first)
    }

    /// Whether `number` is in the set.
    pub fn contains(&self, number: N) -> bool {
        self.intervals.range(..=number).next_back().is_some_and(|(_, end)| number < *end)
    }

    /// Adds `number`. Returns whether it was missing.
    pub fn insert(&mut self, number: N) -> bool {
        if self.contains(number) {
            return false;
        }
        let before = self
            .intervals
            .range(..number)
            .next_back()
            .filter(|(_, end)| **end == number)
            .map(|(first, _)| *first);
        let after = number + N::ONE;
        let end = self.intervals.remove(&after).unwrap_or(after);
        self.intervals.insert(before.unwrap_or(number), end);
        self.len += N::ONE;
        true
    }

    /// Adds `first .. end`, in time that grows with the number of intervals that it touches.
    pub fn insert_range(&mut self, first: N, end: N) {
        if first >= end {
            return;
        }
        let (mut low, mut high) = (first, end);
        if let Some((start, stop)) = self.intervals.range(..=first).next_back().map(|(a, b)| (*a, *b))
            && stop >= first
        {
            low = start;
            high = high.max(stop);
            self.drop_interval(start);
        }
        while let Some((start, stop)) = self.intervals.range(low..=high).next().map(|(a, b)| (*a, *b)) {
            high = high.max(stop);
            self.drop_interval(start);
        }
        self.intervals.insert(low, high);
        self.len += high - low;
    }

    fn drop_interval(&mut self, first: N) {
        if let Some(end) = self.intervals.remove(&first) {
            self.len -= end - first;
        }
    }

    /// Removes `number`. Returns whether it was there.
    pub fn remove(&mut self, number: N) -> bool {
        let before = self.intervals.range(..=number).next_back().map(|(first, end)| (*first, *end));
        let Some((first, end)) = before.filter(|(_, end)| number < *end) else { return false };
        if first == number {
            self.intervals.remove(&first);
        } else {
            self.intervals.insert(first, number);
        }
        let after = number + N::ONE;
        if after < end {
            self.intervals.insert(after, end);
        }
        self.len -= N::ONE;
        true
    }

    /// Adds all numbers of `other`.
    pub fn union_with(&mut self, other: IntervalSet<N>) {
        for (first, end) in other.intervals {
            self.insert_range(first, end);
        }
    }

    /// The numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = N> + '_ {
        self.intervals().flat_map(|(first, end)| {
            core::iter::successors(Some(first), |number| Some(*number + N::ONE))
                .take_while(move |number| *number < end)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;

    #[test]
    fn it_is_a_set() {
        let (mut set, mut model) = (IntervalSet::<u32>::default(), BTreeSet::new());
        let mut seed: u64 = 7;
        for step in 0..20_000_u32 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = (seed >> 40) as u32 % 200;
            match (seed >> 33) % 5 {
                0 | 1 => assert_eq!(set.insert(number), model.insert(number)),
                2 | 3 => assert_eq!(set.remove(number), model.remove(&number)),
                _ => {
                    let end = number + (seed >> 20) as u32 % 10;
                    set.insert_range(number, end);
                    model.extend(number..end);
                }
            }
            assert_eq!(set.len() as usize, model.len());
            if step % 50 == 0 {
                assert_eq!(set.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
                assert!((0..210).all(|n| set.contains(n) == model.contains(&n)));
                let mut again = IntervalSet::<u32>::default();
                model.iter().rev().for_each(|n| assert!(again.insert(*n)));
                assert_eq!(set, again, "equal sets are kept the same way");
                assert_eq!(set.first(), model.first().copied());
            }
        }
    }
}
