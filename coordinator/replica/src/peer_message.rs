//! What coordinators say to each other.

use crate::disk::Block;
use bincode::{Decode, Encode};
use muster_protocol::codec::{self, CodecError};
use muster_protocol::ids::{Digest, LogIndex};
use muster_protocol::{limits, tagged};
use serde::{Deserialize, Serialize};

/// The bytes of a snapshot that go in one message, at most.
pub const CHUNK_BYTES_MAX: usize = 512 << 10;
/// The bytes of ledger blocks that go in one message, unless a single block is larger.
pub const BLOCKS_BYTES_MAX: usize = 1 << 20;

tagged! {
    /// One message between coordinators.
    pub enum PeerMessage {
        /// A message of Raft itself.
        1 => Raft(RaftBytes),
        /// A piece of a snapshot.
        2 => SnapshotChunk(SnapshotChunk),
        /// Give me these blocks of the ledger.
        3 => AskBlocks(AskBlocks),
        /// Blocks of the ledger.
        4 => Blocks(Blocks),
        /// This is how my chain stood at that index: does yours?
        5 => Check(Check),
    }
}

/// A message of Raft.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct RaftBytes {
    /// An `eraftpb::Message`.
    pub bytes: Vec<u8>,
}

/// A piece of a snapshot; all pieces of one transfer together are an `eraftpb::Message` that carries it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct SnapshotChunk {
    /// Names the transfer: grows with each one of a sender's life.
    pub transfer: u64,
    /// Where these bytes begin.
    pub offset: u64,
    /// How many bytes there are in all.
    pub total: u64,
    /// The CRC-32 of all of them.
    pub crc: u32,
    /// These bytes.
    pub bytes: Vec<u8>,
}

/// Give me these blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct AskBlocks {
    /// The first.
    pub from: LogIndex,
    /// One past the last.
    pub to: LogIndex,
}

/// Blocks without a gap, as many as fit.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Blocks {
    /// The chain head before the first of them; their own heads prove it.
    pub previous: Digest,
    /// In order; none: the sender does not have the first that was asked for.
    pub blocks: Vec<Block>,
}

/// How the chain stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Check {
    /// After this index.
    pub index: LogIndex,
    /// The chain head.
    pub chain: Digest,
    /// The hash of the whole state, at indices where it is taken.
    pub state: Option<Digest>,
}

impl PeerMessage {
    /// The bytes on the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::seal(self)
    }

    /// Reads the bytes from the wire.
    pub fn from_bytes(bytes: &[u8]) -> Result<PeerMessage, CodecError> {
        codec::open(bytes, limits::PEER_FRAME_BYTES_MAX)
    }
}
