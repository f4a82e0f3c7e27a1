//! Exact deduplication over all splits: of documents with equal hashes, one is kept.

use crate::documents::{Entry, Place, Tally};
use crate::filters::DropReason;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which documents of each split are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// For each split, in order, the positions of the documents kept, ascending.
    pub keep: Vec<Vec<u32>>,
    /// For each split, the exact duplicates dropped.
    pub duplicates: Vec<Tally>,
    /// For each split, the near duplicates dropped; empty if there was no search for them.
    #[serde(default)]
    pub near_duplicates: Vec<Tally>,
}

impl Selection {
    /// The documents dropped from a split, by reason; reasons without documents are left out.
    #[must_use]
    pub fn dropped(&self, split: usize) -> BTreeMap<DropReason, Tally> {
        let tallies = [
            (DropReason::Duplicate, self.duplicates.get(split)),
            (DropReason::NearDuplicate, self.near_duplicates.get(split)),
        ];
        let known = tallies.into_iter().filter_map(|(reason, tally)| Some((reason, *tally?)));
        known.filter(|(_, tally)| tally.documents > 0).collect()
    }
}

/// Selects one of each group of documents with equal hashes. `splits[i]` holds the entries of split `i`.
///
/// The document with the first path is kept, so the result does not depend on how the files were split, and
/// the same text is never both trained on and held out.
#[must_use]
pub fn select(splits: &[Vec<Entry>]) -> Selection {
    // If a path occurs twice (two roots of one name), the first split keeps it.
    let mut first: BTreeMap<&str, (&str, Place, usize, usize)> = BTreeMap::new();
    for (split, entries) in splits.iter().enumerate() {
        for (position, entry) in entries.iter().enumerate() {
            let candidate = (entry.path.as_str(), entry.place, split, position);
            first.entry(&entry.hash).and_modify(|best| *best = candidate.min(*best)).or_insert(candidate);
        }
    }
    let mut selection = Selection::default();
    for (split, entries) in splits.iter().enumerate() {
        let (mut keep, mut duplicates) = (Vec::new(), Tally::default());
        for (position, (entry, number)) in entries.iter().zip(0u32..).enumerate() {
            let won =
                first.get(entry.hash.as_str()).is_some_and(|best| (best.2, best.3) == (split, position));
            if won {
                keep.push(number);
            } else {
                duplicates.add(entry.bytes);
            }
        }
        selection.keep.push(keep);
        selection.duplicates.push(duplicates);
    }
    selection
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, hash: &str) -> Entry {
        Entry { path: path.to_owned(), hash: hash.to_owned(), bytes: 10, ..Entry::default() }
    }

    #[test]
    fn the_first_path_wins_across_splits() {
        let splits = [
            vec![entry("b", "1"), entry("c", "2"), entry("d", "3")],
            vec![entry("a", "1"), entry("e", "2"), entry("f", "4"), entry("f", "4")],
            vec![],
        ];
        let selection = select(&splits);
        assert_eq!(selection.keep, [vec![1, 2], vec![0, 2], vec![]]);
        let duplicates: Vec<_> =
            selection.duplicates.iter().map(|tally| (tally.documents, tally.bytes)).collect();
        assert_eq!(duplicates, [(1, 10), (2, 20), (0, 0)]);
    }

    #[test]
    fn the_choice_does_not_depend_on_the_splits() {
        let all: Vec<_> =
            (0..60).map(|i| entry(&format!("p{}", i * 7 % 60), &format!("h{}", i % 13))).collect();
        let kept = |splits: Vec<Vec<Entry>>| {
            let selection = select(&splits);
            let positions = selection
                .keep
                .iter()
                .zip(&splits)
                .flat_map(|(keep, split)| keep.iter().map(|at| &split[*at as usize]));
            let mut paths: Vec<_> = positions.map(|entry| entry.path.clone()).collect();
            paths.sort();
            paths
        };
        let one = kept(vec![all.clone()]);
        assert_eq!(one.len(), 13);
        assert_eq!(kept(all.chunks(9).map(<[Entry]>::to_vec).collect()), one);
    }
}
