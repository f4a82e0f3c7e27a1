//! A list that grows at its end.

use super::{Tx, UNDO_LOG_KEPT, Undo, encode_as};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Deref;

/// A list. Most of its changes are at its ends.
#[derive(Clone, Debug)]
pub(crate) struct TxQueue<T> {
    items: VecDeque<T>,
    undo: Vec<QueueChange<T>>,
}

#[derive(Clone, Debug)]
enum QueueChange<T> {
    Pushed,
    Removed(usize, T),
}

encode_as!(TxQueue<T: Clone>, items: VecDeque<T>);

impl<T> From<VecDeque<T>> for TxQueue<T> {
    fn from(items: VecDeque<T>) -> Self {
        TxQueue { items, undo: Vec::new() }
    }
}

impl<T> Default for TxQueue<T> {
    fn default() -> Self {
        TxQueue::from(VecDeque::new())
    }
}

impl<T> TxQueue<T> {
    /// Adds an item at the end.
    pub fn push_back(&mut self, item: T, tx: Tx) {
        let is_open = tx.is_open();
        self.items.push_back(item);
        if is_open {
            self.undo.push(QueueChange::Pushed);
        }
    }

    /// Removes an item.
    pub fn remove(&mut self, at: usize, tx: Tx) {
        let is_open = tx.is_open();
        if let Some(item) = self.items.remove(at)
            && is_open
        {
            self.undo.push(QueueChange::Removed(at, item));
        }
    }
}

impl<T> Deref for TxQueue<T> {
    type Target = VecDeque<T>;

    fn deref(&self) -> &VecDeque<T> {
        &self.items
    }
}

impl<T> Undo for TxQueue<T> {
    fn commit(&mut self) {
        self.undo.clear();
        self.undo.shrink_to(UNDO_LOG_KEPT);
    }

    fn rollback(&mut self) {
        while let Some(change) = self.undo.pop() {
            match change {
                QueueChange::Pushed => {
                    self.items.pop_back();
                }
                QueueChange::Removed(at, item) => self.items.insert(at, item),
            }
        }
        self.undo.shrink_to(UNDO_LOG_KEPT);
    }
}
