//! The state as bytes, and back.

use crate::state::{Core, Index, State};
use alloc::vec::Vec;
use muster_protocol::codec::{self, CodecError};
use muster_protocol::ids::Digest;

/// A snapshot at most.
const SNAPSHOT_BYTES_MAX: usize = 1 << 30;

impl State {
    /// The bytes of a snapshot. Equal states give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::seal(&self.core)
    }

    /// Reads a snapshot.
    pub fn from_bytes(bytes: &[u8]) -> Result<State, CodecError> {
        let core: Core = codec::open(bytes, SNAPSHOT_BYTES_MAX)?;
        let index = Index::of(&core);
        Ok(State { core, index })
    }

    /// The hash of the bytes of a snapshot.
    pub fn hash(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }
}
