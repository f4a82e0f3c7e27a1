//! Records by key.

use super::{Tx, UNDO_LOG_KEPT, Undo, encode_as};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::RangeBounds;

/// Records by key, in the order of keys. The records undo their own changes; the map knows which of them a
/// transaction touched, and which it added or removed.
#[derive(Clone, Debug)]
pub(crate) struct TxMap<K, R> {
    rows: BTreeMap<K, Row<R>>,
    undo: Vec<MapChange<K, R>>,
}

#[derive(Clone, Debug)]
struct Row<R> {
    record: R,
    /// The last transaction that may have changed the record: its first change is the one to write down.
    touched_by: u64,
}

#[derive(Clone, Debug)]
enum MapChange<K, R> {
    Inserted(K),
    Removed(K, Box<R>),
    /// The record knows what changed.
    Touched(K),
}

encode_as!(Row<R: Undo>, record: R);
encode_as!(TxMap<K: Ord, R: Undo>, rows: BTreeMap<K, Row<R>>);

impl<R> From<R> for Row<R> {
    fn from(record: R) -> Self {
        Row { record, touched_by: 0 }
    }
}

impl<K, R> From<BTreeMap<K, Row<R>>> for TxMap<K, R> {
    fn from(rows: BTreeMap<K, Row<R>>) -> Self {
        TxMap { rows, undo: Vec::new() }
    }
}

impl<K: Ord, R> FromIterator<(K, R)> for TxMap<K, R> {
    fn from_iter<I: IntoIterator<Item = (K, R)>>(records: I) -> Self {
        TxMap {
            rows: records.into_iter().map(|(key, record)| (key, Row::from(record))).collect(),
            undo: Vec::new(),
        }
    }
}

impl<K, R> Default for TxMap<K, R> {
    fn default() -> Self {
        TxMap { rows: BTreeMap::new(), undo: Vec::new() }
    }
}

impl<K: PartialEq, R: PartialEq> PartialEq for TxMap<K, R> {
    fn eq(&self, other: &Self) -> bool {
        self.rows.len() == other.rows.len()
            && self.rows.iter().zip(&other.rows).all(|((key, row), (other_key, other_row))| {
                key == other_key && row.record == other_row.record
            })
    }
}

impl<K: Ord, R> TxMap<K, R> {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether there is a record under `key`.
    pub fn contains_key(&self, key: &K) -> bool {
        self.rows.contains_key(key)
    }

    /// The record under `key`.
    pub fn get(&self, key: &K) -> Option<&R> {
        self.rows.get(key).map(|row| &row.record)
    }

    /// All records, ascending by key.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &R)> {
        self.rows.iter().map(|(key, row)| (key, &row.record))
    }

    /// The records whose keys are in `range`.
    pub fn range(&self, range: impl RangeBounds<K>) -> impl DoubleEndedIterator<Item = (&K, &R)> {
        self.rows.range(range).map(|(key, row)| (key, &row.record))
    }

    /// All keys, ascending.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.rows.keys()
    }

    /// All records, ascending by key.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &R> {
        self.rows.values().map(|row| &row.record)
    }

    /// The smallest key.
    pub fn first_key(&self) -> Option<&K> {
        self.rows.first_key_value().map(|(key, _)| key)
    }
}

impl<K: Ord + Clone, R> TxMap<K, R> {
    /// The record under `key`, whose own containers are to be changed.
    pub fn edit(&mut self, key: &K, tx: Tx) -> Option<&mut R> {
        let row = self.rows.get_mut(key)?;
        if tx.is_open() && row.touched_by != tx.number {
            row.touched_by = tx.number;
            self.undo.push(MapChange::Touched(key.clone()));
        }
        Some(&mut row.record)
    }

    /// Adds a record, in place of one that was there.
    pub fn insert(&mut self, key: K, record: R, tx: Tx) {
        if !tx.is_open() {
            self.rows.insert(key, Row::from(record));
            return;
        }
        let row = Row { record, touched_by: tx.number };
        if let Some(before) = self.rows.insert(key.clone(), row) {
            self.undo.push(MapChange::Removed(key.clone(), Box::new(before.record)));
        }
        self.undo.push(MapChange::Inserted(key));
    }

    /// Removes the record under `key`, if there is one.
    pub fn remove(&mut self, key: &K, tx: Tx) {
        let is_open = tx.is_open();
        if let Some((key, row)) = self.rows.remove_entry(key)
            && is_open
        {
            self.undo.push(MapChange::Removed(key, Box::new(row.record)));
        }
    }
}

impl<K: Ord, R: Undo> Undo for TxMap<K, R> {
    fn commit(&mut self) {
        for change in self.undo.drain(..) {
            match change {
                MapChange::Inserted(key) | MapChange::Touched(key) => {
                    if size_of::<R>() > 0
                        && let Some(row) = self.rows.get_mut(&key)
                    {
                        row.record.commit();
                    }
                }
                MapChange::Removed(..) => {}
            }
        }
        self.undo.shrink_to(UNDO_LOG_KEPT);
    }

    fn rollback(&mut self) {
        while let Some(change) = self.undo.pop() {
            match change {
                MapChange::Inserted(key) => {
                    self.rows.remove(&key);
                }
                MapChange::Removed(key, record) => {
                    self.rows.insert(key, Row::from(*record));
                }
                MapChange::Touched(key) => {
                    if let Some(row) = self.rows.get_mut(&key) {
                        row.record.rollback();
                    }
                }
            }
        }
        self.undo.shrink_to(UNDO_LOG_KEPT);
    }
}
