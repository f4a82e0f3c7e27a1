//! The attempts that ended here lately: a late repeat of a `Run` or a `Stop` must not bring one back.

use muster_protocol::ids::AttemptId;
use std::collections::{BTreeSet, VecDeque};

/// How many are remembered: far more than end while a message is under way.
const ENDED_KEPT: usize = 65_536;

/// Attempts that ended here, the newest of them.
#[derive(Debug, Default)]
pub struct Memory {
    order: VecDeque<AttemptId>,
    known: BTreeSet<AttemptId>,
}

impl Memory {
    /// Remembers that it ended.
    pub fn insert(&mut self, attempt: AttemptId) {
        if !self.known.insert(attempt) {
            return;
        }
        self.order.push_back(attempt);
        if self.order.len() > ENDED_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Whether it is known to have ended.
    pub fn contains(&self, attempt: AttemptId) -> bool {
        self.known.contains(&attempt)
    }
}
