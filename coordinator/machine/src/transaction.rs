//! Containers that can undo what a transaction changed: what the state is made of.
//!
//! `decide` folds each event as soon as it has decided it, so that it sees what follows. If the command is
//! then rejected, or a fold panics, everything has to be as it was. So the state holds no bare fields that
//! change: each is in one of these containers, which write down, while a transaction is open, what a change
//! replaces. The units are small (a task, the counts of a stage, one number in a set), so that a transaction
//! costs what it changes and not what exists. Without a transaction, as in a replay, nothing is written down.
//!
//! Why not an overlay that is merged at the end: each event would be folded into the overlay and then merged
//! into the state, and every look-up would ask both. Here an event is folded once, reading costs nothing,
//! committing only empties the undo logs, and only the rare rejection pays for going back.
//!
//! This module knows nothing of jobs or workers.

mod cell;
mod intervals;
mod map;
mod queue;

pub(crate) use cell::TxCell;
pub(crate) use intervals::TxIntervals;
pub(crate) use map::TxMap;
pub(crate) use queue::TxQueue;

/// Entries that an undo log keeps room for between transactions: a large command shall not leave its logs
/// behind in everything that it touched.
const UNDO_LOG_KEPT: usize = 8;

/// The transaction that a change belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tx {
    /// Grows with each transaction. Not part of the replicated state.
    number: u64,
    is_open: bool,
}

impl Tx {
    /// The next transaction.
    pub fn opened(self) -> Tx {
        Tx { number: self.number + 1, is_open: true }
    }

    /// No transaction: changes can't be undone.
    pub fn closed(self) -> Tx {
        Tx { is_open: false, ..self }
    }

    /// Whether changes have to be written down. Every container asks this before it changes anything.
    fn is_open(self) -> bool {
        #[cfg(test)]
        crate::faults::point();
        self.is_open
    }
}

/// What can take back its changes.
pub(crate) trait Undo {
    /// Forgets how to undo.
    fn commit(&mut self);
    /// Undoes everything since the last commit.
    fn rollback(&mut self);
}

/// Has no parts that change: the rows of a set.
impl Undo for () {
    fn commit(&mut self) {}
    fn rollback(&mut self) {}
}

/// Implements [`Undo`] for a struct, field by field. Every field must be named, so that none is forgotten.
macro_rules! undo_fields {
    ($name:ty { $($changes:ident),* $(,)? } constant { $($constant:ident),* $(,)? }) => {
        impl $crate::transaction::Undo for $name {
            fn commit(&mut self) {
                let Self { $($changes,)* $($constant: _,)* } = self;
                $($crate::transaction::Undo::commit($changes);)*
            }

            fn rollback(&mut self) {
                let Self { $($changes,)* $($constant: _,)* } = self;
                $($crate::transaction::Undo::rollback($changes);)*
            }
        }
    };
}
pub(crate) use undo_fields;

/// Encodes a container as what it contains: bytes say nothing of transactions.
macro_rules! encode_as {
    ($name:ident<$($param:ident: $bound:path),*>, $field:ident: $inner:ty) => {
        impl<$($param: bincode::Encode + $bound),*> bincode::Encode for $name<$($param),*> {
            fn encode<Enc: bincode::enc::Encoder>(
                &self,
                encoder: &mut Enc,
            ) -> Result<(), bincode::error::EncodeError> {
                self.$field.encode(encoder)
            }
        }

        impl<Context, $($param: bincode::Decode<Context> + $bound),*> bincode::Decode<Context>
            for $name<$($param),*>
        {
            fn decode<Dec: bincode::de::Decoder<Context = Context>>(
                decoder: &mut Dec,
            ) -> Result<Self, bincode::error::DecodeError> {
                Ok(Self::from(<$inner as bincode::Decode<Context>>::decode(decoder)?))
            }
        }

        impl<'de, Context, $($param: bincode::BorrowDecode<'de, Context> + $bound),*>
            bincode::BorrowDecode<'de, Context> for $name<$($param),*>
        {
            fn borrow_decode<Dec: bincode::de::BorrowDecoder<'de, Context = Context>>(
                decoder: &mut Dec,
            ) -> Result<Self, bincode::error::DecodeError> {
                Ok(Self::from(<$inner as bincode::BorrowDecode<'de, Context>>::borrow_decode(decoder)?))
            }
        }
    };
}
pub(crate) use encode_as;

#[cfg(test)]
mod tests;
