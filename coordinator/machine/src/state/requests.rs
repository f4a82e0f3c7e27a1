//! The requests that got an answer, with the answer: a repeat gets it again.

use alloc::collections::{BTreeMap, VecDeque};
use bincode::{Decode, Encode};
use muster_protocol::envelope::Answer;
use muster_protocol::ids::RequestId;
use muster_protocol::limits;
use muster_protocol::time::LogMs;

/// Remembered requests, in the order of their answers. Bounded by age and by count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Requests {
    /// The number of the oldest; numbers grow by one.
    first: u64,
    answered: VecDeque<Remembered>,
}

/// A request with its answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Remembered {
    pub request: RequestId,
    pub command_hash: u64,
    pub at: LogMs,
    pub answer: Answer,
}

impl Requests {
    /// From each request to its number.
    pub fn places(&self) -> BTreeMap<RequestId, u64> {
        self.answered.iter().zip(self.first..).map(|(one, number)| (one.request, number)).collect()
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.answered.len()
    }

    /// The one of that number.
    pub fn get(&self, number: u64) -> Option<&Remembered> {
        self.answered.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Remembers one, and forgets those that are too old or too many. `places` follows.
    pub fn remember(&mut self, one: Remembered, places: &mut BTreeMap<RequestId, u64>) {
        let now = one.at;
        places.insert(one.request, self.first + self.answered.len() as u64);
        self.answered.push_back(one);
        while let Some(oldest) = self.answered.front() {
            if self.answered.len() <= limits::REQUESTS_KEPT
                && oldest.at.plus_ms(limits::REQUEST_KEPT_MS) > now
            {
                break;
            }
            if places.get(&oldest.request) == Some(&self.first) {
                places.remove(&oldest.request);
            }
            self.answered.pop_front();
            self.first += 1;
        }
    }
}
