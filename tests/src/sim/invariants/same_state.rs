//! Equal index, equal state: at the same index, all coordinators have the same chain head and the same hash
//! of the state.

use super::{InvariantResult, violated};
use muster_protocol::ids::Digest;
use std::collections::BTreeMap;

#[derive(Default)]
pub struct SameState {
    chain: BTreeMap<u64, Digest>,
    states: BTreeMap<u64, Digest>,
}

impl SameState {
    /// The last index, and its chain head.
    pub fn head(&self) -> (u64, Digest) {
        self.chain.last_key_value().map_or((0, Digest::default()), |(index, head)| (*index, *head))
    }

    /// A coordinator has this chain head. Returns whether it is the first to reach the index.
    pub fn chain(&mut self, index: u64, head: Digest) -> Result<bool, super::Failure> {
        match self.chain.insert(index, head) {
            None => Ok(true),
            Some(before) if before == head => Ok(false),
            Some(before) => {
                violated("same state", format!("at index {index} one chain has {before}, another {head}"))
                    .map(|()| false)
            }
        }
    }

    pub fn state(&mut self, index: u64, hash: Digest) -> InvariantResult {
        match self.states.insert(index, hash) {
            Some(before) if before != hash => {
                violated("same state", format!("at index {index} one state has {before}, another {hash}"))
            }
            Some(_) | None => Ok(()),
        }
    }
}
