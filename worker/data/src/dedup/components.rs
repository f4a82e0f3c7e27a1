//! Joins equal documents and near pairs to connected components, and keeps one document of each.
//!
//! The document kept is the first by path and place, so the result depends on neither the splits nor the
//! order of the pairs. As in dolma and datatrove, similarity is transitive: if a is like b and b like c, then
//! all three fall into one component.

use super::exact::Selection;
use crate::Error;
use crate::documents::{Entry, Place, Tally};

/// Selects one document of each component. The numbers in `pairs` are those of [`super::bands::Pairs`].
///
/// # Errors
/// [`Error::Parameters`] if a pair names a document number out of range.
pub fn select(
    splits: &[Vec<Entry>],
    pairs: impl IntoIterator<Item = (u32, u32)>,
) -> Result<Selection, Error> {
    let documents: Vec<&Entry> = splits.iter().flatten().collect();
    let mut groups = UnionFind::new(documents.len());
    let mut by_hash: Vec<usize> = (0..documents.len()).collect();
    // The first of equal documents by path and place represents them.
    by_hash.sort_by_key(|number| (&documents[*number].hash, order(&documents, *number)));
    let mut unique = vec![true; documents.len()];
    for equal in by_hash.chunk_by(|one, other| documents[*one].hash == documents[*other].hash) {
        for other in &equal[1..] {
            unique[*other] = false;
            groups.union(equal[0], *other);
        }
    }
    for (one, other) in pairs {
        let (one, other) = (one as usize, other as usize);
        if one.max(other) >= documents.len() {
            return Err(Error::Parameters(format!(
                "a pair of {one} and {other}: there are {} documents",
                documents.len()
            )));
        }
        groups.union(one, other);
    }
    let mut first: Vec<usize> = (0..documents.len()).collect();
    for number in 0..documents.len() {
        let root = groups.find(number);
        if order(&documents, number) < order(&documents, first[root]) {
            first[root] = number;
        }
    }
    let mut selection = Selection::default();
    let mut number = 0;
    for entries in splits {
        let (mut keep, mut equal, mut near) = (Vec::new(), Tally::default(), Tally::default());
        for (entry, position) in entries.iter().zip(0u32..) {
            let root = groups.find(number);
            if first[root] == number {
                keep.push(position);
            } else if unique[number] {
                near.add(entry.bytes);
            } else {
                equal.add(entry.bytes);
            }
            number += 1;
        }
        selection.keep.push(keep);
        selection.duplicates.push(equal);
        selection.near_duplicates.push(near);
    }
    Ok(selection)
}

/// The sort key of a document; equal paths and places (two roots of one name) sort by split.
fn order<'a>(documents: &[&'a Entry], number: usize) -> (&'a str, Place, usize) {
    (&documents[number].path, documents[number].place, number)
}

/// Disjoint sets: union by size, path halving (Tarjan 1975).
struct UnionFind {
    parent: Vec<u32>,
    size: Vec<u32>,
}

impl UnionFind {
    fn new(count: usize) -> Self {
        Self { parent: (0u32..).take(count).collect(), size: vec![1; count] }
    }

    fn find(&mut self, member: usize) -> usize {
        let mut at = member;
        while self.parent[at] as usize != at {
            let above = self.parent[self.parent[at] as usize];
            self.parent[at] = above;
            at = above as usize;
        }
        at
    }

    fn union(&mut self, one: usize, other: usize) {
        let (one, other) = (self.find(one), self.find(other));
        if one == other {
            return;
        }
        let (small, large) = if self.size[one] < self.size[other] { (one, other) } else { (other, one) };
        self.parent[small] = large as u32;
        self.size[large] += self.size[small];
    }
}
