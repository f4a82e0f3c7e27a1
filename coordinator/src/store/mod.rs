//! The disk of a coordinator on real files: Raft's log in segments, the ledger, and snapshots.
//!
//! ```text
//! DIR/lock              held with flock while the data are in use; holds the process id
//! DIR/identity          format version, cluster, coordinator, Raft id
//! DIR/marks             what was last acknowledged as durable: a database that lacks it is damaged
//! DIR/log/000001/       one segment of Raft's log: a whole database, dropped as a whole
//! DIR/ledger/           every block since the first entry
//! DIR/snapshots/N.snap  the state at index N
//! ```
//!
//! It must never repair silently: if something that was acknowledged is missing, it says what and refuses to
//! open. The choice of sled costs a sync of our own after each of its flushes, since it never calls
//! `fdatasync`, and values in pieces small enough to stay in the synced file.

mod database;
mod error;
mod identity;
mod ledger;
mod leftovers;
mod lock;
mod raft_log;
mod reader;
mod record;
mod retry;
mod snapshots;
#[cfg(test)]
mod tests;
mod watermarks;

pub use error::StoreError;
pub use identity::{DATA_FORMAT, StoreIdentity};
pub use reader::LedgerReader;

use ledger::Ledger;
use lock::{Access, Lock};
use muster_replica::disk::{Block, Disk, DiskCounters, DiskError, LedgerSpan, Recovered};
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft_log::RaftLog;
use snapshots::Snapshots;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use watermarks::Watermarks;

/// A data directory in use. One process at a time has it.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    identity: StoreIdentity,
    raft_log: RaftLog,
    ledger: Ledger,
    snapshots: Arc<Snapshots>,
    raft_syncs: u64,
    ledger_syncs: u64,
    // The last field, so that it is dropped last: the next owner finds everything closed.
    _lock: Lock,
}

impl Store {
    /// Opens the data directory of this coordinator, and creates it if it does not exist.
    ///
    /// # Errors
    /// If it is in use, belongs to another coordinator, or cannot be read.
    pub fn open(dir: &Path, identity: &StoreIdentity) -> Result<Store, StoreError> {
        identity::make_directory(dir)?;
        let lock = Lock::take(dir)?;
        identity::claim(dir, identity)?;
        Self::open_locked(dir, identity.clone(), lock, Access::ReadWrite)
    }

    /// Opens the data directory of any coordinator that does not run, or a copy of one, to read it.
    ///
    /// # Errors
    /// If it is in use, is not a data directory, or cannot be read.
    pub fn open_for_reading(dir: &Path) -> Result<Store, StoreError> {
        let identity =
            identity::read(dir)?.ok_or_else(|| StoreError::NotAStore { dir: dir.to_path_buf() })?;
        let lock = Lock::take(dir)?;
        Self::open_locked(dir, identity, lock, Access::ReadOnly)
    }

    fn open_locked(
        dir: &Path,
        identity: StoreIdentity,
        lock: Lock,
        access: Access,
    ) -> Result<Store, StoreError> {
        let marks = Arc::new(Watermarks::open(dir)?);
        let raft_log = RaftLog::open(&dir.join("log"), Arc::clone(&marks), access)?;
        let ledger = Ledger::open(&dir.join("ledger"), marks)?;
        let snapshots = Arc::new(Snapshots::open(&dir.join("snapshots"), access)?);
        Ok(Store {
            dir: dir.to_path_buf(),
            identity,
            raft_log,
            ledger,
            snapshots,
            raft_syncs: 0,
            ledger_syncs: 0,
            _lock: lock,
        })
    }

    pub fn identity(&self) -> &StoreIdentity {
        &self.identity
    }

    /// A handle on the ledger for other threads, which read while the store writes.
    pub fn reader(&self) -> LedgerReader {
        LedgerReader { ledger: Arc::clone(self.ledger.shared()), snapshots: Arc::clone(&self.snapshots) }
    }
}

impl Disk for Store {
    fn recover(&mut self) -> Result<Recovered, DiskError> {
        let mut replayed = self.raft_log.replay()?;
        let snapshot = self.snapshots.newest(|index| self.raft_log.reaches_back_to(index))?;
        if let Some(metadata) = snapshot.as_ref().map(Snapshot::get_metadata) {
            let hard_state = &mut replayed.hard_state;
            if hard_state.term < metadata.term {
                // The snapshot came from a leader of a newer term, and the process ended before it wrote
                // that term.
                hard_state.term = metadata.term;
                hard_state.vote = 0;
            }
            hard_state.commit = hard_state.commit.max(metadata.index);
            if !self.raft_log.agrees_with(metadata.index, metadata.term) {
                replayed.entries.clear();
                replayed.conf_state = metadata.get_conf_state().clone();
                self.raft_log.reset(metadata.index, &replayed.hard_state, &replayed.conf_state)?;
            }
        }
        let last = replayed
            .entries
            .last()
            .map(|entry| entry.index)
            .or(snapshot.as_ref().map(|s| s.get_metadata().index))
            .unwrap_or(0);
        if replayed.hard_state.commit > last {
            let what = format!(
                "entries up to {} were committed, but the last one here is {last}",
                replayed.hard_state.commit
            );
            return Err(DiskError::Corrupt { place: self.dir.join("log").display().to_string(), what });
        }
        Ok(Recovered {
            hard_state: replayed.hard_state,
            conf_state: replayed.conf_state,
            snapshot,
            entries: replayed.entries,
            ledger: self.ledger.shared().span(),
        })
    }

    fn append(
        &mut self,
        hard_state: &HardState,
        conf_state: &ConfState,
        entries: &[Entry],
        sync: bool,
    ) -> Result<(), DiskError> {
        if self.raft_log.append(hard_state, conf_state, entries, sync)? {
            self.raft_syncs += 1;
        }
        Ok(())
    }

    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), DiskError> {
        let metadata = snapshot.get_metadata();
        if self.raft_log.agrees_with(metadata.index, metadata.term) {
            return self.snapshots.save(snapshot);
        }
        // In this order: `recover` completes what a crash in between leaves unfinished.
        self.snapshots.write(snapshot)?;
        let (hard_state, _) = self.raft_log.state();
        let mut hard_state = hard_state.clone();
        hard_state.commit = hard_state.commit.max(metadata.index);
        self.raft_log.reset(metadata.index, &hard_state, metadata.get_conf_state())?;
        self.raft_syncs += 1;
        self.snapshots.remove_before(metadata.index)
    }

    fn truncate(&mut self, first_kept: u64) -> Result<(), DiskError> {
        self.raft_log.truncate(first_kept)
    }

    fn write_blocks(&mut self, blocks: &[Block]) -> Result<(), DiskError> {
        self.ledger.write(blocks)
    }

    fn sync_ledger(&mut self) -> Result<(), DiskError> {
        if self.ledger.sync()? {
            self.ledger_syncs += 1;
        }
        Ok(())
    }

    fn ledger(&self) -> LedgerSpan {
        self.ledger.shared().span()
    }

    fn read_blocks(&self, from: u64, bytes_max: usize) -> Result<Vec<Block>, DiskError> {
        self.ledger.shared().read_blocks(from, bytes_max)
    }

    fn free_bytes(&self) -> u64 {
        // If the file system does not say, assume that it is full.
        rustix::fs::statvfs(&self.dir).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn counters(&self) -> DiskCounters {
        DiskCounters {
            raft_syncs: self.raft_syncs,
            ledger_syncs: self.ledger_syncs,
            log_bytes: self.raft_log.bytes_written(),
            ledger_bytes: self.ledger.bytes_written(),
        }
    }
}
