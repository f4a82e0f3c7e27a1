//! A handle on the ledger for other threads: it reads while the store writes.

use super::ledger::Shared;
use super::snapshots::Snapshots;
use muster_replica::disk::{Block, DiskError, LedgerSpan};
use raft::eraftpb::Snapshot;
use std::sync::Arc;

/// A handle on the ledger for other threads.
#[derive(Clone, Debug)]
pub struct LedgerReader {
    pub(super) ledger: Arc<Shared>,
    pub(super) snapshots: Arc<Snapshots>,
}

impl LedgerReader {
    /// Which blocks there are.
    pub fn span(&self) -> LedgerSpan {
        self.ledger.span()
    }

    /// Blocks without a gap from `from` on, their checksums verified: about `bytes_max` bytes, but at least
    /// one block; none if the ledger does not hold `from`.
    pub fn read_blocks(&self, from: u64, bytes_max: usize) -> Result<Vec<Block>, DiskError> {
        self.ledger.read_blocks(from, bytes_max)
    }

    /// The newest snapshot that is whole.
    pub fn snapshot(&self) -> Result<Option<Snapshot>, DiskError> {
        self.snapshots.newest(|_| true)
    }

    /// The index of the newest snapshot, whole or not; 0: there is none.
    pub fn snapshot_index(&self) -> Result<u64, DiskError> {
        self.snapshots.newest_index()
    }
}
