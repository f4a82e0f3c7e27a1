//! Catches divergence: members compare chain heads now and then, and more rarely a hash of the whole state.
//!
//! A member that differs from the leader must stop, because going on can only do harm. If the leader is the
//! one that is wrong, all followers stop and with them the cluster: an outage, but no damage.

use crate::peer_message::Check;
use std::collections::BTreeMap;

/// Chain heads are compared at multiples of this index.
pub const CHAIN_EVERY: u64 = 256;
/// Whole states are compared at multiples of this index.
pub const STATE_EVERY: u64 = 16_384;
/// DivergenceChecks that are kept, of this member and of leaders, at most.
const KEPT_MAX: usize = 64;

/// The checks of this member, and those of leaders at indices that it has not reached yet.
#[derive(Debug, Default)]
pub struct DivergenceChecks {
    own: BTreeMap<u64, Check>,
    leader: BTreeMap<u64, Check>,
}

impl DivergenceChecks {
    /// This member reached an index. `Some` says how it differs from the leader.
    pub fn reached(&mut self, own: Check) -> Option<String> {
        let index = own.index.0;
        self.own.insert(index, own);
        while self.own.len() > KEPT_MAX {
            self.own.pop_first();
        }
        let difference = self.leader.get(&index).and_then(|leader| differ(&own, leader));
        self.leader = self.leader.split_off(&(index + 1));
        difference
    }

    /// A leader sent its own check. `Some` says how this member differs.
    pub fn received(&mut self, check: Check) -> Option<String> {
        let index = check.index.0;
        if let Some(own) = self.own.get(&index) {
            return differ(own, &check);
        }
        if self.own.last_key_value().is_none_or(|(last, _)| index > *last) {
            self.leader.insert(index, check);
            while self.leader.len() > KEPT_MAX {
                self.leader.pop_last();
            }
        }
        None
    }

    /// The state was replaced: earlier checks of this member are void.
    pub fn restart(&mut self) {
        self.own.clear();
    }
}

fn differ(own: &Check, theirs: &Check) -> Option<String> {
    if own.chain != theirs.chain {
        return Some(format!(
            "the chain at index {} is {} here, but {} at the leader",
            own.index, own.chain, theirs.chain
        ));
    }
    match (own.state, theirs.state) {
        (Some(own_state), Some(state)) if own_state != state => {
            Some(format!("the state at index {} is {own_state} here, but {state} at the leader", own.index))
        }
        (Some(_) | None, Some(_) | None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::ids::{Digest, LogIndex};

    fn check(index: u64, chain: u8, state: Option<u8>) -> Check {
        Check {
            index: LogIndex(index),
            chain: Digest([chain; 32]),
            state: state.map(|state| Digest([state; 32])),
        }
    }

    #[test]
    fn a_difference_is_found_in_either_order() {
        let mut checks = DivergenceChecks::default();
        assert_eq!(checks.received(check(256, 1, None)), None);
        assert!(checks.reached(check(256, 2, None)).is_some());
        assert_eq!(checks.reached(check(512, 3, Some(1))), None);
        assert!(checks.received(check(512, 4, None)).is_some());
        assert!(checks.received(check(512, 3, Some(2))).is_some());
        assert_eq!(checks.received(check(512, 3, Some(1))), None);
        assert_eq!(checks.received(check(512, 3, None)), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut checks = DivergenceChecks::default();
        (1..1000).for_each(|index| assert_eq!(checks.received(check(index, 1, None)), None));
        (1..1000).for_each(|index| assert_eq!(checks.reached(check(index, 1, None)), None));
        assert!(checks.own.len() <= KEPT_MAX && checks.leader.is_empty());
    }
}
