//! Joins equal documents and near pairs to components, and keeps one document of each.
//!
//! The one kept is the first by path and place, so the answer depends on neither the splits nor who found the
//! pairs. Likeness is passed on: what is like a document that is like another falls into one component with
//! it, as in dolma and datatrove.

use super::exact::Selection;
use crate::Error;
use crate::documents::{Entry, Place, Tally};

/// Decides for the entries of all splits. The numbers in `pairs` are those of [`super::bands::Pairs`].
///
/// # Errors
/// When a pair names a document that there is not.
pub fn select(
    splits: &[Vec<Entry>],
    pairs: impl IntoIterator<Item = (u32, u32)>,
) -> Result<Selection, Error> {
    let documents: Vec<&Entry> = splits.iter().flatten().collect();
    let mut groups = UnionFind::new(documents.len());
    let mut by_hash: Vec<usize> = (0..documents.len()).collect();
    // Of equal documents the first by path and place stands for all.
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

/// The same path and place twice (two roots of one name) falls to the first split.
fn order<'a>(documents: &[&'a Entry], number: usize) -> (&'a str, Place, usize) {
    (&documents[number].path, documents[number].place, number)
}

/// UnionFind that are joined two by two (Tarjan 1975), by size, with paths halved.
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
