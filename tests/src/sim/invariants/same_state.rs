//! Equal index, equal state: every coordinator's chain has the same head at the same index, and every state
//! the same hash.

use super::{Verdict, broken};
use muster_protocol::ids::Digest;
use std::collections::BTreeMap;

/// What was seen at each index.
#[derive(Default)]
pub struct SameState {
    chain: BTreeMap<u64, Digest>,
    states: BTreeMap<u64, Digest>,
}

impl SameState {
    /// The last index that was seen, and its head.
    pub fn head(&self) -> (u64, Digest) {
        self.chain.last_key_value().map_or((0, Digest::default()), |(index, head)| (*index, *head))
    }

    /// A coordinator's chain has this head; says whether it is the first to.
    pub fn chain(&mut self, index: u64, head: Digest) -> Result<bool, super::Failure> {
        match self.chain.insert(index, head) {
            None => Ok(true),
            Some(before) if before == head => Ok(false),
            Some(before) => {
                broken("same state", format!("at index {index} one chain has {before}, another {head}"))
                    .map(|()| false)
            }
        }
    }

    /// A coordinator's state has this hash.
    pub fn state(&mut self, index: u64, hash: Digest) -> Verdict {
        match self.states.insert(index, hash) {
            Some(before) if before != hash => {
                broken("same state", format!("at index {index} one state has {before}, another {hash}"))
            }
            Some(_) | None => Ok(()),
        }
    }
}
