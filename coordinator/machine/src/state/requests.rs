//! The requests that got an answer, with the answer: a repeat gets it again.

use crate::transaction::{Tx, TxCell, TxMap, TxQueue, undo_fields};
use bincode::{Decode, Encode};
use muster_protocol::envelope::Answer;
use muster_protocol::ids::RequestId;
use muster_protocol::limits;
use muster_protocol::time::LogMs;

/// From each request to its number in [`Requests`].
pub(crate) type RequestNumbers = TxMap<RequestId, TxCell<u64>>;

/// Remembered requests, in the order of their answers. Bounded by age and by count.
#[derive(Clone, Debug, Default, Encode, Decode)]
pub(crate) struct Requests {
    /// The number of the oldest; numbers grow by one.
    first: TxCell<u64>,
    answered: TxQueue<Remembered>,
}

undo_fields!(Requests { first, answered } constant {});

/// A request with its answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Remembered {
    pub request: RequestId,
    pub command_hash: u64,
    pub at: LogMs,
    pub answer: Answer,
}

impl Requests {
    /// These requests, numbered from `first`.
    pub fn new(first: u64, answered: impl IntoIterator<Item = Remembered>) -> Self {
        let answered: alloc::collections::VecDeque<Remembered> = answered.into_iter().collect();
        Requests { first: first.into(), answered: answered.into() }
    }

    pub fn numbers(&self) -> RequestNumbers {
        let numbered = self.answered.iter().zip(*self.first..);
        numbered.map(|(one, number)| (one.request, TxCell::from(number))).collect()
    }

    pub fn len(&self) -> usize {
        self.answered.len()
    }

    /// The request of that number.
    pub fn get(&self, number: u64) -> Option<&Remembered> {
        self.answered.get(usize::try_from(number.checked_sub(*self.first)?).ok()?)
    }

    /// Remembers one, and forgets those that are too old or too many. `numbers` follows.
    pub fn remember(&mut self, one: Remembered, numbers: &mut RequestNumbers, tx: Tx) {
        let now = one.at;
        numbers.insert(one.request, TxCell::from(*self.first + self.answered.len() as u64), tx);
        self.answered.push_back(one, tx);
        while let Some(oldest) = self.answered.front() {
            if self.answered.len() <= limits::REQUESTS_KEPT
                && oldest.at.plus_ms(limits::REQUEST_KEPT_MS) > now
            {
                break;
            }
            if numbers.get(&oldest.request).is_some_and(|number| **number == *self.first) {
                numbers.remove(&oldest.request, tx);
            }
            self.answered.remove(0, tx);
            *self.first.edit(tx) += 1;
        }
    }
}
