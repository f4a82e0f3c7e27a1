//! The disk of a replica: the trait that it writes through, and the plain data that crosses it.
//!
//! The coordinator implements it on real files, and the simulator in memory that forgets what was not synced.
//! A disk must never decide anything: it keeps what it is given, says when that is durable, and reports what
//! is damaged.

use bincode::{Decode, Encode};
use muster_protocol::ids::{Digest, LogIndex, Term};
use muster_protocol::interval_set::IntervalSet;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use serde::{Deserialize, Serialize};
use std::{fmt, io};

/// One entry of the log as the ledger keeps it: its commands, its events, and the chain up to here.
#[derive(Clone, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Block {
    pub index: LogIndex,
    pub term: Term,
    /// The entry's bytes, a `Batch`; empty for Raft's own entries.
    pub entry: Vec<u8>,
    /// `codec::encode(&Vec<EventRecord>)`. Empty: the entry was Raft's own or was refused, and not even log
    /// time moved.
    pub events: Vec<u8>,
    /// The chain's hash after this block.
    pub head: Digest,
}

/// The size of a block without its two byte strings, for limits on reads and messages.
const BLOCK_BYTES_FIXED: usize = 64;

impl Block {
    /// The chain's hash after a block: over the head before it and everything in it, each length-delimited.
    pub fn chain(previous: Digest, index: LogIndex, term: Term, entry: &[u8], events: &[u8]) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&previous.0);
        hasher.update(&index.0.to_le_bytes());
        hasher.update(&term.0.to_le_bytes());
        hasher.update(&(entry.len() as u64).to_le_bytes());
        hasher.update(entry);
        hasher.update(&(events.len() as u64).to_le_bytes());
        hasher.update(events);
        Digest(*hasher.finalize().as_bytes())
    }

    /// Whether this block follows a chain whose head is `previous`.
    pub fn follows(&self, previous: Digest) -> bool {
        self.head == Block::chain(previous, self.index, self.term, &self.entry, &self.events)
    }

    /// The approximate size in a message or in memory.
    pub fn bytes(&self) -> usize {
        BLOCK_BYTES_FIXED + self.entry.len() + self.events.len()
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Block { index, term, entry, events, head } = self;
        write!(f, "Block {index} of term {term}, {} + {} bytes, {head}", entry.len(), events.len())
    }
}

/// The indices of the blocks that a ledger holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerSpan {
    /// The first index of the newest run without a gap.
    pub first: u64,
    /// The last index of that run; `first - 1` if the ledger is empty.
    pub last: u64,
    /// Gaps below `first`, as half-open ranges in ascending order. Indices count from 1.
    pub missing: Vec<(u64, u64)>,
}

impl LedgerSpan {
    /// The span of these indices.
    pub fn of(indices: &IntervalSet<u64>) -> Self {
        let mut span = LedgerSpan::default();
        for (first, end) in indices.intervals() {
            if span.last + 1 < first {
                span.missing.push((span.last + 1, first));
                span.first = first;
            }
            span.last = end - 1;
        }
        span
    }

    pub fn is_empty(&self) -> bool {
        self.last < self.first
    }

    /// Whether it holds every block from the first entry of the log to `last`.
    pub fn is_complete(&self) -> bool {
        self.first == 1
    }
}

impl Default for LedgerSpan {
    fn default() -> Self {
        LedgerSpan { first: 1, last: 0, missing: Vec::new() }
    }
}

/// The contents of a disk when it was opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    /// Raft's term, vote and commit index.
    pub hard_state: HardState,
    /// The members, as of the newest append or snapshot.
    pub conf_state: ConfState,
    /// The newest intact snapshot; its data are `State::to_bytes`.
    pub snapshot: Option<Snapshot>,
    /// Consecutive entries. They may begin before the snapshot's index, and at the latest right after it.
    pub entries: Vec<Entry>,
    pub ledger: LedgerSpan,
}

/// Counters of a disk since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounters {
    pub raft_syncs: u64,
    pub ledger_syncs: u64,
    /// Bytes of values given to Raft's log.
    pub log_bytes: u64,
    /// Bytes of values given to the ledger.
    pub ledger_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Bytes differ from what was written. Nothing is repaired silently.
    #[error("{place} is corrupted: {what}")]
    Corrupt {
        /// The directory or file, and the index.
        place: String,
        what: String,
    },
    /// The file system is full, or a quota is exhausted.
    #[error("no space left for {place}; after making room, restart the coordinator")]
    NoSpace { place: String },
    /// Reading or writing failed. The store takes no more writes until it is opened again.
    #[error("cannot read or write {place}: {source}; restart the coordinator")]
    Io { place: String, source: io::Error },
    /// An earlier write failed, so the contents of the disk are unknown.
    #[error("{place} takes no more writes after an earlier error; restart the coordinator")]
    Poisoned { place: String },
    /// The ledger holds a different block at this index: replicas or versions of the program differ.
    #[error("the ledger already holds a different block at index {index}")]
    Differs { index: u64 },
}

/// A coordinator's disk. One thread owns it; readers of the ledger have their own handles.
///
/// # Errors
/// All methods fail with [`DiskError`] if the disk fails or its contents are damaged. After a failed write
/// the disk must be opened again.
pub trait Disk {
    /// Reads the contents. Called once, before anything else.
    fn recover(&mut self) -> Result<Recovered, DiskError>;

    /// Writes Raft's state and entries as one atomic batch, replacing entries from `entries[0].index` on.
    /// With `sync`, this and all earlier calls are durable on return. Without, a crash may lose it, but only
    /// as a whole and never before an earlier call.
    fn append(
        &mut self,
        hard_state: &HardState,
        conf_state: &ConfState,
        entries: &[Entry],
        sync: bool,
    ) -> Result<(), DiskError>;

    /// Saves a snapshot, durable on return, and removes older ones. If the log holds another entry at its
    /// index, or ends before it, the snapshot came from a leader and replaces the whole log: entries then
    /// begin at its index + 1.
    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), DiskError>;

    /// Frees the space of entries before `first_kept`, as far as that is cheap. `first_kept` is at
    /// most commit + 1, and a durable snapshot covers everything before it.
    fn truncate(&mut self, first_kept: u64) -> Result<(), DiskError>;

    /// Adds blocks to the ledger, in ascending order, at its end or in a gap. They are durable after
    /// [`Disk::sync_ledger`]. Writing an equal block again is allowed; a different one at the same index is
    /// an error.
    fn write_blocks(&mut self, blocks: &[Block]) -> Result<(), DiskError>;

    /// Makes all blocks durable.
    fn sync_ledger(&mut self) -> Result<(), DiskError>;

    /// The blocks that the ledger holds, including those not yet durable.
    fn ledger(&self) -> LedgerSpan;

    /// Consecutive blocks from `from` on, with verified checksums: about `bytes_max` bytes, but at least one
    /// block. Empty if the ledger does not hold `from`.
    fn read_blocks(&self, from: u64, bytes_max: usize) -> Result<Vec<Block>, DiskError>;

    /// Free space on the file system.
    fn free_bytes(&self) -> u64;

    fn counters(&self) -> DiskCounters;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_shows_its_gaps() {
        let mut indices = IntervalSet::default();
        assert!(LedgerSpan::of(&indices).is_empty());
        indices.insert_range(5, 7);
        indices.insert_range(9, 10);
        indices.insert_range(1, 4);
        indices.insert_range(7, 9);
        assert_eq!(LedgerSpan::of(&indices), LedgerSpan { first: 5, last: 9, missing: vec![(4, 5)] });
        indices.insert(4);
        assert_eq!(LedgerSpan::of(&indices), LedgerSpan { first: 1, last: 9, missing: vec![] });
    }
}
