//! Divergence is caught: members compare their chain heads now and then, and more rarely a hash of the whole
//! state.
//!
//! A member that differs from the leader can only do harm by going on. If it is the leader that is wrong, its
//! followers stop, and with them the cluster: loud, and safe.

use super::peer_message::Check;
use std::collections::BTreeMap;

/// Chain heads are compared at multiples of this index.
pub(super) const CHAIN_EVERY: u64 = 256;
/// Whole states are compared at multiples of this index.
pub(super) const STATE_EVERY: u64 = 16_384;
/// Checks that are kept, of this member and of leaders, at most.
const KEPT_MAX: usize = 64;

/// Checks of this member, and those it heard of and did not reach yet.
#[derive(Debug, Default)]
pub(super) struct Checks {
    own: BTreeMap<u64, Check>,
    heard: BTreeMap<u64, Check>,
}

impl Checks {
    /// This member reached an index. `Some` says how it differs.
    pub(super) fn reached(&mut self, own: Check) -> Option<String> {
        let index = own.index.0;
        self.own.insert(index, own);
        while self.own.len() > KEPT_MAX {
            self.own.pop_first();
        }
        let complaint = self.heard.get(&index).and_then(|heard| differ(&own, heard));
        self.heard = self.heard.split_off(&(index + 1));
        complaint
    }

    /// A leader told how it stood. `Some` says how this member differs.
    pub(super) fn heard(&mut self, check: Check) -> Option<String> {
        let index = check.index.0;
        if let Some(own) = self.own.get(&index) {
            return differ(own, &check);
        }
        if self.own.last_key_value().is_none_or(|(last, _)| index > *last) {
            self.heard.insert(index, check);
            while self.heard.len() > KEPT_MAX {
                self.heard.pop_last();
            }
        }
        None
    }

    /// The state was replaced: what was before says nothing any more.
    pub(super) fn restart(&mut self) {
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
    fn a_difference_is_found_whoever_comes_first() {
        let mut checks = Checks::default();
        assert_eq!(checks.heard(check(256, 1, None)), None);
        assert!(checks.reached(check(256, 2, None)).is_some());
        assert_eq!(checks.reached(check(512, 3, Some(1))), None);
        assert!(checks.heard(check(512, 4, None)).is_some());
        assert!(checks.heard(check(512, 3, Some(2))).is_some());
        assert_eq!(checks.heard(check(512, 3, Some(1))), None);
        assert_eq!(checks.heard(check(512, 3, None)), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut checks = Checks::default();
        (1..1000).for_each(|index| assert_eq!(checks.heard(check(index, 1, None)), None));
        (1..1000).for_each(|index| assert_eq!(checks.reached(check(index, 1, None)), None));
        assert!(checks.own.len() <= KEPT_MAX && checks.heard.is_empty());
    }
}
