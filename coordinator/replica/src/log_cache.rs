//! The log that Raft reads: every entry after the last truncation, in memory, as the disk holds it.
//!
//! It never writes to the disk: what it is given is there already, except for the commit index. Raft asks it
//! for entries and terms, and for a snapshot when a follower is too far behind.

use crate::disk::Recovered;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Result, Storage, StorageError, util};
use std::cell::Cell;
use std::collections::VecDeque;

pub struct LogCache {
    hard_state: HardState,
    conf_state: ConfState,
    /// Index and term of the entry before the first one here.
    before: (u64, u64),
    entries: VecDeque<Entry>,
    snapshot: Option<Snapshot>,
    /// Raft asked for a snapshot that does not exist yet.
    snapshot_requested: Cell<bool>,
    /// The commit index is newer than the one on the disk.
    commit_unsaved: bool,
}

impl LogCache {
    /// The log as it was found. `Err` says what is inconsistent.
    pub fn new(recovered: Recovered, members: ConfState) -> std::result::Result<LogCache, String> {
        let Recovered { mut hard_state, mut conf_state, snapshot, entries, ledger: _ } = recovered;
        if conf_state.get_voters().is_empty() {
            conf_state = members;
        }
        let base = snapshot
            .as_ref()
            .map_or((0, 0), |snapshot| (snapshot.get_metadata().index, snapshot.get_metadata().term));
        let mut entries = VecDeque::from(entries);
        let before = match entries.front().map(|first| (first.index, first.term)) {
            None => base,
            Some((1, _)) => (0, 0),
            Some((index, _)) if index == base.0 + 1 => base,
            Some((index, _)) if index > base.0 => {
                return Err(format!("the log begins at {index}, but the snapshot ends at {}", base.0));
            }
            // The term of the entry before it is unknown, so this entry serves as the one before.
            Some(first) => {
                entries.pop_front();
                first
            }
        };
        for (place, entry) in entries.iter().enumerate() {
            if entry.index != before.0 + 1 + place as u64 {
                return Err(format!("the log has a gap before index {}", entry.index));
            }
        }
        let last = before.0 + entries.len() as u64;
        // A crash between a snapshot and the next append leaves an older state beside it.
        hard_state.commit = hard_state.commit.max(base.0);
        hard_state.term = hard_state.term.max(base.1);
        if hard_state.commit > last || last < base.0 {
            return Err(format!("{} entries are committed, but the log ends at {last}", hard_state.commit));
        }
        let snapshot_requested = Cell::new(false);
        Ok(LogCache {
            hard_state,
            conf_state,
            before,
            entries,
            snapshot,
            snapshot_requested,
            commit_unsaved: false,
        })
    }

    pub fn hard_state(&self) -> &HardState {
        &self.hard_state
    }

    pub fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    pub fn first(&self) -> u64 {
        self.before.0 + 1
    }

    pub fn last(&self) -> u64 {
        self.before.0 + self.entries.len() as u64
    }

    pub fn snapshot_index(&self) -> u64 {
        self.snapshot.as_ref().map_or(0, |snapshot| snapshot.get_metadata().index)
    }

    /// The disk holds this state now.
    pub fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
        self.commit_unsaved = false;
    }

    /// Raft commits; the disk does not say so yet.
    pub fn set_commit(&mut self, commit: u64) {
        self.hard_state.commit = commit;
        self.commit_unsaved = true;
    }

    /// Whether the commit index has to be written; asking means that it will be.
    pub fn take_unsaved_commit(&mut self) -> bool {
        std::mem::take(&mut self.commit_unsaved)
    }

    /// Adds entries that the disk holds now. They replace those from the first one's index on.
    pub fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index > self.before.0 && first.index <= self.last() + 1,
            "raft appends within its log or at its end"
        );
        self.entries.truncate((first.index - self.first()) as usize);
        self.entries.extend(entries);
    }

    /// Replaces the whole log by a leader's snapshot.
    pub fn install(&mut self, snapshot: Snapshot) {
        let metadata = snapshot.get_metadata();
        self.before = (metadata.index, metadata.term);
        self.conf_state = metadata.get_conf_state().clone();
        self.entries.clear();
        self.snapshot = Some(snapshot);
        self.snapshot_requested.set(false);
    }

    /// Keeps a snapshot of this member's own, and forgets entries before `first_kept`.
    pub fn compact(&mut self, snapshot: Snapshot, first_kept: u64) {
        self.snapshot = Some(snapshot);
        self.snapshot_requested.set(false);
        while self.first() < first_kept {
            let Some(entry) = self.entries.pop_front() else { break };
            self.before = (entry.index, entry.term);
        }
    }

    /// Whether a follower needs a snapshot that does not exist yet.
    pub fn snapshot_requested(&self) -> bool {
        self.snapshot_requested.get()
    }
}

impl Storage for LogCache {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState { hard_state: self.hard_state.clone(), conf_state: self.conf_state.clone() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low < self.first() {
            return Err(StorageError::Compacted.into());
        }
        assert!(
            high <= self.last() + 1,
            "raft asks for entries up to {high}, but the log ends at {}",
            self.last()
        );
        let range = (low - self.first()) as usize..(high - self.first()) as usize;
        let max_size: Option<u64> = max_size.into();
        let mut entries = Vec::new();
        let mut bytes = 0;
        // Entries are counted as they are taken: copying all of a long log to keep one message's worth would
        // cost its square.
        for entry in self.entries.range(range) {
            bytes += u64::from(protobuf::Message::compute_size(entry));
            if !entries.is_empty() && max_size.is_some_and(|max_size| bytes > max_size) {
                break;
            }
            entries.push(entry.clone());
        }
        util::limit_size(&mut entries, max_size);
        Ok(entries)
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index == self.before.0 {
            return Ok(self.before.1);
        }
        if index < self.before.0 {
            return Err(StorageError::Compacted.into());
        }
        match self.entries.get((index - self.first()) as usize) {
            Some(entry) => Ok(entry.term),
            None => Err(StorageError::Unavailable.into()),
        }
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> Result<Snapshot> {
        match &self.snapshot {
            Some(snapshot) if snapshot.get_metadata().index >= request_index.max(self.before.0) => {
                Ok(snapshot.clone())
            }
            Some(_) | None => {
                self.snapshot_requested.set(true);
                Err(StorageError::SnapshotTemporarilyUnavailable.into())
            }
        }
    }
}
