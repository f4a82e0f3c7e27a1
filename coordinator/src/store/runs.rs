//! Which indices are there, as runs without a gap.

use std::collections::BTreeMap;

/// A set of indices, as inclusive runs that do not touch each other.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    last_by_first: BTreeMap<u64, u64>,
}

impl Runs {
    /// Adds the indices `first..=last`.
    pub fn insert(&mut self, mut first: u64, mut last: u64) {
        // Every run that begins before the end of the new one and reaches it is taken in.
        while let Some((&start, &end)) = self.last_by_first.range(..=last.saturating_add(1)).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            first = first.min(start);
            last = last.max(end);
            self.last_by_first.remove(&start);
        }
        self.last_by_first.insert(first, last);
    }

    /// Whether the index is there.
    pub fn contains(&self, index: u64) -> bool {
        self.last_by_first.range(..=index).next_back().is_some_and(|(_, &last)| index <= last)
    }

    /// The runs, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.last_by_first.iter().map(|(&first, &last)| (first, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_replica::disk::LedgerSpan;

    #[test]
    fn runs_join_and_show_their_gaps() {
        let mut runs = Runs::default();
        assert!(LedgerSpan::from_runs(runs.iter()).is_empty());
        for (first, last, expected) in [
            (5, 6, vec![(5, 6)]),
            (9, 9, vec![(5, 6), (9, 9)]),
            (1, 2, vec![(1, 2), (5, 6), (9, 9)]),
            (3, 3, vec![(1, 3), (5, 6), (9, 9)]),
            (6, 8, vec![(1, 3), (5, 9)]),
        ] {
            runs.insert(first, last);
            assert_eq!(runs.iter().collect::<Vec<_>>(), expected, "after {first}..={last}");
        }
        assert_eq!(
            LedgerSpan::from_runs(runs.iter()),
            LedgerSpan { first: 5, last: 9, missing: vec![(4, 5)] }
        );
        assert!(runs.contains(3) && !runs.contains(4) && runs.contains(9) && !runs.contains(10));
        runs.insert(4, 4);
        assert_eq!(LedgerSpan::from_runs(runs.iter()), LedgerSpan { first: 1, last: 9, missing: vec![] });
    }
}
