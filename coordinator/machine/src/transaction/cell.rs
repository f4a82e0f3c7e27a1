//! One record, changed as a whole.

use super::{Tx, Undo, encode_as};
use alloc::boxed::Box;
use core::ops::Deref;

/// A record. The first change of a transaction keeps a copy of what was before.
#[derive(Clone, Debug, Default)]
pub(crate) struct TxCell<T> {
    value: T,
    before: Option<Box<T>>,
}

encode_as!(TxCell<T: Clone>, value: T);

impl<T> From<T> for TxCell<T> {
    fn from(value: T) -> Self {
        TxCell { value, before: None }
    }
}

impl<T: Clone> TxCell<T> {
    /// The record, to be changed.
    pub fn edit(&mut self, tx: Tx) -> &mut T {
        if tx.is_open() && self.before.is_none() {
            self.before = Some(Box::new(self.value.clone()));
        }
        &mut self.value
    }
}

impl<T> Deref for TxCell<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for TxCell<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T> Undo for TxCell<T> {
    fn commit(&mut self) {
        self.before = None;
    }

    fn rollback(&mut self) {
        if let Some(before) = self.before.take() {
            self.value = *before;
        }
    }
}
