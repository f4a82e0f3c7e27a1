//! What a coordinator asks of its disk: the trait that the core writes through, and the plain data that
//! crosses it.
//!
//! Implemented by [`crate::store`] on real files and by the simulator on memory that forgets what was not
//! synced. It must never decide anything: it keeps what it is given, says when that is durable, and names
//! what is damaged.

use bincode::{Decode, Encode};
use muster_protocol::ids::{Digest, LogIndex, Term};
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use serde::{Deserialize, Serialize};
use std::{fmt, io};

/// One entry of the log as the ledger keeps it: what was asked, what came of it, and the chain up to here.
#[derive(Clone, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Block {
    /// The entry's index.
    pub index: LogIndex,
    /// The entry's term in Raft.
    pub term: Term,
    /// The entry's bytes, a `Batch`; empty for Raft's own entries.
    pub entry: Vec<u8>,
    /// `codec::encode(&Vec<EventRecord>)`. No bytes at all: the entry was Raft's own or was refused, and not
    /// even time moved.
    pub events: Vec<u8>,
    /// The chain's hash after this block.
    pub head: Digest,
}

/// What a block's fields other than its two byte strings count for when a read or a message is limited by
/// bytes.
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

    /// About how many bytes it takes in a message or in memory.
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

/// Which blocks a ledger holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerSpan {
    /// The first index of the newest run without a gap.
    pub first: u64,
    /// The last index of that run; `first - 1`: the ledger is empty.
    pub last: u64,
    /// What is missing below `first`, as half-open ranges in ascending order. Indices count from 1.
    pub missing: Vec<(u64, u64)>,
}

impl LedgerSpan {
    /// The span of a ledger that holds these runs of `(first, last)` indices, in ascending order and apart
    /// from each other.
    pub fn from_runs(runs: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut span = LedgerSpan::default();
        for (first, last) in runs {
            if span.last + 1 < first {
                span.missing.push((span.last + 1, first));
                span.first = first;
            }
            span.last = last;
        }
        span
    }

    /// Whether it holds no block.
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

/// What a disk held when it was opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    /// Raft's term, vote and commit index.
    pub hard_state: HardState,
    /// The members, as of the newest append or snapshot.
    pub conf_state: ConfState,
    /// The newest snapshot that is whole; its data are `State::to_bytes`.
    pub snapshot: Option<Snapshot>,
    /// Entries without a gap, up to the last one; they may begin before the snapshot's index, never later
    /// than the one after it.
    pub entries: Vec<Entry>,
    /// What the ledger holds.
    pub ledger: LedgerSpan,
}

/// What is counted about a disk since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounters {
    /// Syncs of Raft's log.
    pub raft_syncs: u64,
    /// Syncs of the ledger.
    pub ledger_syncs: u64,
    /// Bytes given to Raft's log, as values.
    pub log_bytes: u64,
    /// Bytes given to the ledger, as values.
    pub ledger_bytes: u64,
}

/// Why a disk did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Bytes are not what was written. What was asked for is refused; nothing is repaired silently.
    #[error("{place} is corrupted: {what}")]
    Corrupt {
        /// Which directory or file, and which index.
        place: String,
        /// What does not fit.
        what: String,
    },
    /// The file system is full, or a quota is used up.
    #[error("no space left for {place}; after making room, start the coordinator again")]
    NoSpace {
        /// What was written.
        place: String,
    },
    /// Reading or writing failed. The store has seen its last write: only opening it again makes it usable.
    #[error("cannot read or write {place}: {source}; the coordinator has to be started again")]
    Io {
        /// Which directory or file.
        place: String,
        /// What the system said.
        source: io::Error,
    },
    /// An earlier write failed, so what is on disk is no longer known.
    #[error("{place} takes no more writes after an earlier error; the coordinator has to be started again")]
    Poisoned {
        /// Which directory.
        place: String,
    },
    /// Another block is in the ledger at this index: replicas or versions of the program differ.
    #[error("the ledger holds another block at index {index} than the one to be written")]
    Differs {
        /// The index.
        index: u64,
    },
}

/// A coordinator's disk. All of it belongs to one thread; readers of the ledger have their own handles.
pub trait Disk {
    /// What it holds. Called once, before anything else.
    fn recover(&mut self) -> Result<Recovered, DiskError>;

    /// Writes Raft's state and entries as one atomic batch; entries from `entries[0].index` on are replaced.
    /// With `sync`, all of this and of earlier calls is durable on return; without, it may be lost in a
    /// crash, but only as a whole and never before an earlier one.
    fn append(
        &mut self,
        hard_state: &HardState,
        conf_state: &ConfState,
        entries: &[Entry],
        sync: bool,
    ) -> Result<(), DiskError>;

    /// Keeps a snapshot, durable on return, and removes older ones. Where the log holds another entry at its
    /// index, or none up to there, the snapshot came from a leader and replaces the whole log: entries then
    /// begin at its index + 1.
    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), DiskError>;

    /// Gives back the space of entries before `first_kept`; as much of it as is cheap. `first_kept` is at
    /// most commit + 1, and a durable snapshot covers everything before it.
    fn truncate(&mut self, first_kept: u64) -> Result<(), DiskError>;

    /// Adds blocks to the ledger, in ascending order, at its end or in a gap. Not durable before
    /// [`Disk::sync_ledger`]. An equal block may be written again; a different one at the same index is an
    /// error.
    fn write_blocks(&mut self, blocks: &[Block]) -> Result<(), DiskError>;

    /// Makes all blocks durable.
    fn sync_ledger(&mut self) -> Result<(), DiskError>;

    /// Which blocks the ledger holds, those not yet durable included.
    fn ledger(&self) -> LedgerSpan;

    /// Blocks without a gap from `from` on, their checksums verified: about `bytes_max` bytes, but at least
    /// one block; none if the ledger does not hold `from`.
    fn read_blocks(&self, from: u64, bytes_max: usize) -> Result<Vec<Block>, DiskError>;

    /// What is free on the file system, for the reserve below which nothing is proposed.
    fn free_bytes(&self) -> u64;

    /// What was counted.
    fn counters(&self) -> DiskCounters;
}
