//! Exact deduplication over all splits: of documents with one hash, one is kept.

use super::documents::{Entry, Tally};
use serde::{Deserialize, Serialize};

/// Which documents of each split are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// For each split, in order, the positions of the documents kept, ascending.
    pub keep: Vec<Vec<u32>>,
    /// For each split, what is dropped as a duplicate.
    pub duplicates: Vec<Tally>,
}

/// Decides for the entries of all splits (position in `splits` = split index).
///
/// The first path in order wins, so the answer does not depend on how the files were split, and the
/// same text is never both trained on and held out.
#[must_use]
pub fn choose(splits: &[Vec<Entry>]) -> Choice {
    let _ = splits;
    todo!()
}
