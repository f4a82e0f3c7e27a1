//! Why a replay failed.

use super::until::Until;
use crate::store::StoreError;
use muster_protocol::codec::CodecError;
use muster_protocol::ids::LogIndex;
use muster_replica::disk::DiskError;

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("block {index} does not fit the chain before it: a block was changed or left out")]
    Chain { index: LogIndex },
    /// A block fits the chain, but this build cannot read it.
    #[error("block {index} cannot be read: {what}")]
    Malformed { index: LogIndex, what: String },
    #[error("the snapshot cannot be read: {0}")]
    Snapshot(CodecError),
    /// Neither the first block nor a snapshot before the first block exists.
    #[error("the ledger begins at block {first}, and no snapshot precedes it")]
    Incomplete { first: u64 },
    #[error("the ledger is not complete, and its snapshot at index {from} is already past {until}")]
    TooEarly { from: LogIndex, until: Until },
}
