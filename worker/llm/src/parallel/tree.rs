//! Sums over logical replicas in an order that depends only on their positions.
//!
//! The tree halves `0..P`, where `P` is the number of replicas rounded up to a power of two, down to single
//! replicas, and skips those that are absent. Every rank sums its range as far as the tree allows and is left
//! with a few partial sums, each of a whole node; the remaining additions follow the same tree. So any
//! contiguous partition of the replicas gives the same bits.
//!
//! Memory: while n leaves are pushed one after the other, at most about log2(n) sums are alive (twice that
//! for a range that begins and ends inside nodes). Cost: a rank whose range is not a node passes on up to 2
//! log2(n) partial sums instead of one.

use super::Error;
use std::ops::Range;

/// The sum over one node of the tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Partial<T> {
    /// The first replica.
    pub first: usize,
    /// How many replicas, absent ones left out.
    pub len: usize,
    /// Their sum.
    pub values: T,
}

impl<T> Partial<T> {
    /// One replica alone.
    pub fn leaf(replica: usize, values: T) -> Self {
        Self { first: replica, len: 1, values }
    }

    /// The same node with other values.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Partial<U> {
        Partial { first: self.first, len: self.len, values: change(self.values) }
    }

    /// One past the last replica.
    fn end(&self) -> usize {
        self.first.saturating_add(self.len)
    }
}

/// A sum in progress: partial sums are pushed in order, and are joined as soon as the tree allows.
#[derive(Debug)]
pub struct Tree<T> {
    replicas: usize,
    stack: Vec<Partial<T>>,
}

impl<T> Tree<T> {
    /// An empty sum over `replicas` replicas.
    #[must_use]
    pub fn new(replicas: usize) -> Self {
        Self { replicas, stack: Vec::new() }
    }

    /// Pushes the node that follows the last one. `join` adds its second argument to its first.
    ///
    /// # Errors
    /// When `partial` is not a node of the tree, or does not follow what was pushed last; nothing is then
    /// changed.
    pub fn push(&mut self, mut partial: Partial<T>, mut join: impl FnMut(&mut T, T)) -> Result<(), Error> {
        let reason = match self.stack.last() {
            Some(last) if last.end() != partial.first => Some("it does not follow the part before it"),
            Some(_) | None if !is_node(partial.first, partial.len, self.replicas) => {
                Some("it is not a node of the tree")
            }
            Some(_) | None => None,
        };
        if let Some(reason) = reason {
            return Err(Error::Order {
                first: partial.first,
                end: partial.end(),
                replicas: self.replicas,
                reason,
            });
        }
        while let Some(mut left) = self.stack.pop() {
            if !siblings(&left, &partial, self.replicas) {
                self.stack.push(left);
                break;
            }
            join(&mut left.values, partial.values);
            partial = Partial { first: left.first, len: left.len + partial.len, values: left.values };
        }
        self.stack.push(partial);
        Ok(())
    }

    /// The partial sums so far: the fewest nodes, in order.
    #[must_use]
    pub fn partials(self) -> Vec<Partial<T>> {
        self.stack
    }

    /// The sum over all replicas.
    ///
    /// # Errors
    /// When some are missing.
    pub fn total(mut self) -> Result<T, Error> {
        match (self.stack.pop(), self.stack.is_empty()) {
            (Some(root), true) if root.first == 0 && root.len == self.replicas => Ok(root.values),
            (last, _) => {
                let first = self.stack.first().or(last.as_ref()).map_or(0, |partial| partial.first);
                let end = last.map_or(0, |partial| partial.end());
                Err(Error::Order {
                    first,
                    end,
                    replicas: self.replicas,
                    reason: "these are not all replicas",
                })
            }
        }
    }
}

/// Computes the leaves of `range` in order and sums them as far as the tree over `replicas` allows.
///
/// # Errors
/// When a leaf can't be made, or the range is empty or goes past the end.
pub fn sum<T, E: From<Error>>(
    range: Range<usize>,
    replicas: usize,
    mut make: impl FnMut(usize) -> Result<T, E>,
    mut join: impl FnMut(&mut T, T),
) -> Result<Vec<Partial<T>>, E> {
    if range.is_empty() || range.end > replicas {
        return Err(Error::Order {
            first: range.start,
            end: range.end,
            replicas,
            reason: "there are no such replicas",
        }
        .into());
    }
    let mut tree = Tree::new(replicas);
    for replica in range {
        tree.push(Partial::leaf(replica, make(replica)?), &mut join)?;
    }
    Ok(tree.partials())
}

/// Adds `other` to `sum`, element by element. IEEE addition commutes, so either side may be the one that is
/// kept.
pub fn add(sum: &mut [f32], other: &[f32]) {
    assert_eq!(sum.len(), other.len(), "parts of a sum have one length");
    for (sum, other) in sum.iter_mut().zip(other) {
        *sum += other;
    }
}

/// Whether `first..first + len` is a node: an aligned power of two, or what is left of one at the end.
fn is_node(first: usize, len: usize, replicas: usize) -> bool {
    let left = replicas.saturating_sub(first);
    let whole = len.is_power_of_two() && first.is_multiple_of(len);
    let rest =
        len == left && len.checked_next_power_of_two().is_some_and(|width| first.is_multiple_of(width));
    (1..=left).contains(&len) && (whole || rest)
}

/// Whether two neighbouring nodes are the halves of one. A left half is always whole; a right half may have
/// absent leaves.
fn siblings<T>(left: &Partial<T>, right: &Partial<T>, replicas: usize) -> bool {
    let Some(width) = left.len.checked_mul(2) else { return false };
    left.len.is_power_of_two()
        && left.first.is_multiple_of(width)
        && right.len == left.len.min(replicas - right.first)
}

#[cfg(test)]
mod tests;
