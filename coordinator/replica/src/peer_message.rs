//! Messages between coordinators.

use crate::disk::Block;
use bincode::{Decode, Encode};
use muster_protocol::codec::{self, CodecError};
use muster_protocol::ids::{Digest, LogIndex};
use muster_protocol::{limits, tagged};
use serde::{Deserialize, Serialize};

/// Bytes of a snapshot in one message.
pub const CHUNK_BYTES_MAX: usize = 512 << 10;
/// Bytes of ledger blocks in one message, unless a single block is larger.
pub const BLOCKS_BYTES_MAX: usize = 1 << 20;

tagged! {
    pub enum PeerMessage {
        1 => Raft(RaftBytes),
        2 => SnapshotChunk(SnapshotChunk),
        /// Requests blocks of the ledger.
        3 => AskBlocks(AskBlocks),
        /// Answers `AskBlocks`.
        4 => Blocks(Blocks),
        /// The leader's chain head, for followers to compare.
        5 => Check(Check),
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct RaftBytes {
    /// An `eraftpb::Message`.
    pub bytes: Vec<u8>,
}

/// A piece of a snapshot. The pieces of one transfer make an `eraftpb::Message` that carries it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct SnapshotChunk {
    /// Names the transfer: grows with each one of a sender's incarnation.
    pub transfer: u64,
    pub offset: u64,
    /// Bytes of the whole transfer.
    pub total: u64,
    /// CRC-32 of the whole transfer.
    pub crc: u32,
    pub bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct AskBlocks {
    pub from: LogIndex,
    /// Exclusive.
    pub to: LogIndex,
}

/// Consecutive blocks, as many as fit.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Blocks {
    /// The chain head before the first block; the blocks' heads prove it.
    pub previous: Digest,
    /// Empty if the sender does not have the first block that was asked for.
    pub blocks: Vec<Block>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Check {
    pub index: LogIndex,
    pub chain: Digest,
    /// The hash of the whole state, at the indices where it is computed.
    pub state: Option<Digest>,
}

impl PeerMessage {
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::seal(self)
    }

    /// # Errors
    /// If the bytes are not one whole message within the size limit.
    pub fn from_bytes(bytes: &[u8]) -> Result<PeerMessage, CodecError> {
        codec::open(bytes, limits::PEER_FRAME_BYTES_MAX)
    }
}
