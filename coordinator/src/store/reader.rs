//! Reads the ledger from other threads while the store writes.

use super::ledger::LedgerFiles;
use super::snapshots::Snapshots;
use muster_replica::disk::{Block, DiskError, LedgerSpan};
use raft::eraftpb::Snapshot;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct LedgerReader {
    pub(super) ledger: Arc<LedgerFiles>,
    pub(super) snapshots: Arc<Snapshots>,
}

impl LedgerReader {
    pub fn span(&self) -> LedgerSpan {
        self.ledger.span()
    }

    /// Consecutive blocks from `from` on, with verified checksums: about `bytes_max` bytes, but at least one
    /// block. Empty if the ledger does not hold `from`.
    ///
    /// # Errors
    /// If the disk fails or a block is damaged.
    pub fn read_blocks(&self, from: u64, bytes_max: usize) -> Result<Vec<Block>, DiskError> {
        self.ledger.read_blocks(from, bytes_max)
    }

    /// The newest intact snapshot.
    ///
    /// # Errors
    /// If the disk fails, or no snapshot is intact.
    pub fn snapshot(&self) -> Result<Option<Snapshot>, DiskError> {
        self.snapshots.newest(|_| true)
    }

    /// The index of the newest snapshot, intact or not; 0 if there is none.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn snapshot_index(&self) -> Result<u64, DiskError> {
        self.snapshots.newest_index()
    }
}
