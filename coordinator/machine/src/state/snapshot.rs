//! The state as bytes, and back.
//!
//! Bytes begin with the version of the layout. A new layout gets the next version, and a decoder of the one
//! before that converts.

mod v1;

use crate::state::{Indexes, Records, State};
use crate::transaction::Tx;
use alloc::vec::Vec;
use muster_protocol::codec::{self, CodecError};
use muster_protocol::ids::Digest;

/// The layout that is written.
const LAYOUT_VERSION: u8 = 2;
/// A snapshot at most.
const SNAPSHOT_BYTES_MAX: usize = 1 << 30;

impl State {
    /// The bytes of a snapshot. Equal states give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::from([LAYOUT_VERSION]);
        codec::encode_into(&self.records, &mut out);
        out
    }

    /// Reads a snapshot, of this layout or an older one.
    pub fn from_bytes(bytes: &[u8]) -> Result<State, CodecError> {
        let records: Records = match bytes.split_first() {
            Some((&LAYOUT_VERSION, body)) => codec::decode(body, SNAPSHOT_BYTES_MAX)?,
            Some(_) | None => v1::open(bytes, SNAPSHOT_BYTES_MAX)?,
        };
        let index = Indexes::of(&records);
        Ok(State { records, index, tx: Tx::default() })
    }

    /// The hash of the bytes of a snapshot.
    pub fn hash(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }
}
