//! A set of numbers, changed one by one or as a whole.

use super::{Tx, UNDO_LOG_KEPT, Undo, encode_as};
use alloc::vec::Vec;
use core::mem;
use core::ops::Deref;
use muster_protocol::interval_set::{IntervalSet, Number};

/// A set of numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct TxIntervals<N: Number> {
    set: IntervalSet<N>,
    undo: Vec<IntervalChange<N>>,
}

#[derive(Clone, Debug)]
enum IntervalChange<N: Number> {
    Inserted(N),
    Removed(N),
    /// Many numbers changed at once: the set before.
    Replaced(IntervalSet<N>),
}

encode_as!(TxIntervals<N: Number>, set: IntervalSet<N>);

impl<N: Number> From<IntervalSet<N>> for TxIntervals<N> {
    fn from(set: IntervalSet<N>) -> Self {
        TxIntervals { set, undo: Vec::new() }
    }
}

impl<N: Number> TxIntervals<N> {
    /// Adds `number`. Returns whether it was missing.
    pub fn insert(&mut self, number: N, tx: Tx) -> bool {
        let is_open = tx.is_open();
        let changed = self.set.insert(number);
        if changed && is_open && !self.is_replaced() {
            self.undo.push(IntervalChange::Inserted(number));
        }
        changed
    }

    /// Removes `number`. Returns whether it was there.
    pub fn remove(&mut self, number: N, tx: Tx) -> bool {
        let is_open = tx.is_open();
        let changed = self.set.remove(number);
        if changed && is_open && !self.is_replaced() {
            self.undo.push(IntervalChange::Removed(number));
        }
        changed
    }

    /// Adds all numbers of `other`.
    pub fn union_with(&mut self, other: IntervalSet<N>, tx: Tx) {
        self.keep(tx);
        self.set.union_with(other);
    }

    /// Leaves the set empty.
    pub fn take(&mut self, tx: Tx) -> IntervalSet<N> {
        self.keep(tx);
        mem::take(&mut self.set)
    }

    /// Whether a rollback ends with a whole set, whatever else has changed since.
    fn is_replaced(&self) -> bool {
        matches!(self.undo.first(), Some(IntervalChange::Replaced(_)))
    }

    fn keep(&mut self, tx: Tx) {
        if tx.is_open() && !self.is_replaced() {
            self.undo.push(IntervalChange::Replaced(self.set.clone()));
        }
    }
}

impl<N: Number> Deref for TxIntervals<N> {
    type Target = IntervalSet<N>;

    fn deref(&self) -> &IntervalSet<N> {
        &self.set
    }
}

impl<N: Number> Undo for TxIntervals<N> {
    fn commit(&mut self) {
        self.undo.clear();
        self.undo.shrink_to(UNDO_LOG_KEPT);
    }

    fn rollback(&mut self) {
        while let Some(change) = self.undo.pop() {
            match change {
                IntervalChange::Inserted(number) => {
                    self.set.remove(number);
                }
                IntervalChange::Removed(number) => {
                    self.set.insert(number);
                }
                IntervalChange::Replaced(before) => self.set = before,
            }
        }
        self.undo.shrink_to(UNDO_LOG_KEPT);
    }
}
