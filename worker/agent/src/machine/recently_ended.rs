//! The attempts that ended here lately: a late repeat of a `Run` or a `Stop` must not bring one back.

use muster_protocol::ids::AttemptId;
use std::collections::{BTreeSet, VecDeque};

/// Far more than can end while a message is in flight.
const ENDED_KEPT: usize = 65_536;

/// The newest [`ENDED_KEPT`] attempts that ended here.
#[derive(Debug, Default)]
pub struct RecentlyEnded {
    order: VecDeque<AttemptId>,
    known: BTreeSet<AttemptId>,
}

impl RecentlyEnded {
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

    pub fn contains(&self, attempt: AttemptId) -> bool {
        self.known.contains(&attempt)
    }
}
