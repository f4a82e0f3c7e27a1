//! Joins equal documents and near pairs to components, and keeps one document of each.
//!
//! The one kept is the first by path and place, so the answer depends on neither the splits nor who found the
//! pairs. Likeness is passed on: what is like a document that is like another falls into one component with
//! it, as in dolma and datatrove.

use super::exact::Choice;
use crate::Error;
use crate::documents::{Entry, Place, Tally};

/// Decides for the entries of all splits. The numbers in `pairs` are those of [`super::bands::Pairs`].
///
/// # Errors
/// When a pair names a document that there is not.
pub fn choose(splits: &[Vec<Entry>], pairs: impl IntoIterator<Item = (u32, u32)>) -> Result<Choice, Error> {
    let documents: Vec<&Entry> = splits.iter().flatten().collect();
    let mut sets = Sets::new(documents.len());
    let mut by_hash: Vec<usize> = (0..documents.len()).collect();
    // Of equal documents the first by path and place stands for all.
    by_hash.sort_by_key(|number| (&documents[*number].hash, order(&documents, *number)));
    let mut unique = vec![true; documents.len()];
    for equal in by_hash.chunk_by(|one, other| documents[*one].hash == documents[*other].hash) {
        for other in &equal[1..] {
            unique[*other] = false;
            sets.join(equal[0], *other);
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
        sets.join(one, other);
    }
    let mut first: Vec<usize> = (0..documents.len()).collect();
    for number in 0..documents.len() {
        let root = sets.root(number);
        if order(&documents, number) < order(&documents, first[root]) {
            first[root] = number;
        }
    }
    let mut choice = Choice::default();
    let mut number = 0;
    for entries in splits {
        let (mut keep, mut equal, mut near) = (Vec::new(), Tally::default(), Tally::default());
        for (entry, position) in entries.iter().zip(0u32..) {
            let root = sets.root(number);
            if first[root] == number {
                keep.push(position);
            } else if unique[number] {
                near.add(entry.bytes);
            } else {
                equal.add(entry.bytes);
            }
            number += 1;
        }
        choice.keep.push(keep);
        choice.duplicates.push(equal);
        choice.near_duplicates.push(near);
    }
    Ok(choice)
}

/// The same path and place twice (two roots of one name) falls to the first split.
fn order<'a>(documents: &[&'a Entry], number: usize) -> (&'a str, Place, usize) {
    (&documents[number].path, documents[number].place, number)
}

/// Sets that are joined two by two (Tarjan 1975), by size, with paths halved.
struct Sets {
    parent: Vec<u32>,
    size: Vec<u32>,
}

impl Sets {
    fn new(count: usize) -> Self {
        Self { parent: (0u32..).take(count).collect(), size: vec![1; count] }
    }

    fn root(&mut self, member: usize) -> usize {
        let mut at = member;
        while self.parent[at] as usize != at {
            let above = self.parent[self.parent[at] as usize];
            self.parent[at] = above;
            at = above as usize;
        }
        at
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        if one == other {
            return;
        }
        let (small, large) = if self.size[one] < self.size[other] { (one, other) } else { (other, one) };
        self.parent[small] = large as u32;
        self.size[large] += self.size[small];
    }
}
