//! Sets of numbers as ranges: a million tasks that wait are one range.

use alloc::collections::BTreeMap;
use bincode::{Decode, Encode};

/// A set of numbers, kept as ranges that do not touch. Equal sets have equal bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct RangeSet {
    /// From the first number of each range to one past its last.
    ranges: BTreeMap<u32, u32>,
    len: u32,
}

impl RangeSet {
    /// The numbers from `first` to one before `end`.
    pub fn of(first: u32, end: u32) -> Self {
        let mut set = RangeSet::default();
        set.insert_range(first, end);
        set
    }

    /// How many numbers are in it.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many ranges it takes.
    pub fn ranges(&self) -> usize {
        self.ranges.len()
    }

    /// The smallest number.
    pub fn first(&self) -> Option<u32> {
        self.ranges.first_key_value().map(|(first, _)| *first)
    }

    /// Whether `number` is in it.
    pub fn contains(&self, number: u32) -> bool {
        self.ranges.range(..=number).next_back().is_some_and(|(_, end)| number < *end)
    }

    /// Puts `number` in; whether it was not there.
    pub fn insert(&mut self, number: u32) -> bool {
        if self.contains(number) {
            return false;
        }
        let before = self
            .ranges
            .range(..number)
            .next_back()
            .filter(|(_, end)| **end == number)
            .map(|(first, _)| *first);
        let end = self.ranges.remove(&(number + 1)).unwrap_or(number + 1);
        self.ranges.insert(before.unwrap_or(number), end);
        self.len += 1;
        true
    }

    /// Puts `first .. end` in. Costs what ranges it touches.
    pub fn insert_range(&mut self, first: u32, end: u32) {
        if first >= end {
            return;
        }
        let (mut low, mut high) = (first, end);
        if let Some((start, stop)) = self.ranges.range(..=first).next_back().map(|(a, b)| (*a, *b))
            && stop >= first
        {
            low = start;
            high = high.max(stop);
            self.forget(start);
        }
        while let Some((start, stop)) = self.ranges.range(low..=high).next().map(|(a, b)| (*a, *b)) {
            high = high.max(stop);
            self.forget(start);
        }
        self.ranges.insert(low, high);
        self.len += high - low;
    }

    fn forget(&mut self, first: u32) {
        if let Some(end) = self.ranges.remove(&first) {
            self.len -= end - first;
        }
    }

    /// Takes `number` out; whether it was there.
    pub fn remove(&mut self, number: u32) -> bool {
        let Some((first, end)) =
            self.ranges.range(..=number).next_back().map(|(a, b)| (*a, *b)).filter(|(_, end)| number < *end)
        else {
            return false;
        };
        if first == number {
            self.ranges.remove(&first);
        } else {
            self.ranges.insert(first, number);
        }
        if number + 1 < end {
            self.ranges.insert(number + 1, end);
        }
        self.len -= 1;
        true
    }

    /// Puts all numbers of `other` in.
    pub fn absorb(&mut self, other: RangeSet) {
        for (first, end) in other.ranges {
            self.insert_range(first, end);
        }
    }

    /// The numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges.iter().flat_map(|(first, end)| *first..*end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;

    #[test]
    fn it_is_a_set() {
        let (mut set, mut model) = (RangeSet::default(), BTreeSet::new());
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
                let mut again = RangeSet::default();
                model.iter().rev().for_each(|n| assert!(again.insert(*n)));
                assert_eq!(set, again, "equal sets are kept the same way");
                assert_eq!(set.first(), model.first().copied());
            }
        }
    }
}
