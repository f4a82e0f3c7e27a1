//! Raft's log: every append is one record, and each segment of records is a database of its own.
//!
//! Records are only ever added, under ascending numbers. A record with entries that already exist replaces
//! them and what follows. So an append is atomic whatever it replaces, no record of an older segment ever
//! changes, and a missing record is noticed by its number. Space is freed by dropping whole segments that are
//! no longer needed, because sled does not free it.

use super::database::{self, Database};
use super::error::{StoreError, corrupt, io_error};
use super::lock::Access;
use super::watermarks::{Watermark, Watermarks};
use super::{leftovers, record};
use muster_replica::disk::DiskError;
use raft::eraftpb::{ConfState, Entry, HardState};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A segment is closed when it holds this much.
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// A truncation closes a segment only when it holds this much, because a new one costs several syncs.
const SEGMENT_BYTES_WORTH_CLOSING: u64 = 1 << 20;

/// A segment that takes no more records.
#[derive(Debug)]
struct Closed {
    number: u64,
    /// The largest index of an entry in it.
    last_index: u64,
}

/// The result of reading all records.
#[derive(Debug, Default)]
pub struct RecoveredLog {
    pub hard_state: HardState,
    pub conf_state: ConfState,
    /// Consecutive entries.
    pub entries: Vec<Entry>,
}

#[derive(Debug)]
pub struct RaftLog {
    dir: PathBuf,
    marks: Arc<Watermarks>,
    /// In ascending order.
    closed: Vec<Closed>,
    current: Database,
    current_number: u64,
    current_last_index: u64,
    current_bytes: u64,
    /// The number of the next record.
    next: u64,
    state: (HardState, ConfState),
    /// The commit index moved, but no record says so yet: a crash may lose that.
    state_unwritten: bool,
    unsynced: bool,
    /// The entries are `first..=last`.
    first: u64,
    last: u64,
    /// `(index, term)` of the first entry of each term.
    terms: Vec<(u64, u64)>,
    bytes_written: u64,
    worth_closing_bytes: u64,
}

fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:06}"))
}

impl RaftLog {
    /// Opens the log in `dir`, and creates it if it does not exist. Call [`RaftLog::replay`] before anything
    /// else.
    pub fn open(dir: &Path, marks: Arc<Watermarks>, access: Access) -> Result<RaftLog, StoreError> {
        let list = || {
            fs::create_dir_all(dir)?;
            if access == Access::ReadWrite {
                leftovers::remove_leftovers(dir)?;
            }
            fs::read_dir(dir)?.map(|item| Ok(item?.path())).collect::<Result<Vec<_>, _>>()
        };
        let paths = list().map_err(|source| StoreError::io(dir, source))?;
        let mut numbers = Vec::new();
        for path in paths.iter().filter(|path| !leftovers::is_leftover(path)) {
            let number =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u64>().ok());
            numbers.push(
                number
                    .ok_or_else(|| corrupt(path.display().to_string(), "it is not a segment of the log"))?,
            );
        }
        numbers.sort_unstable();
        let (current, current_number) = match numbers.pop() {
            Some(number) => {
                let path = segment_path(dir, number);
                if !database::exists(&path) {
                    return Err(database::missing(&path).into());
                }
                (Database::open(&path)?, number)
            }
            None if marks.get(Watermark::RaftLog) > 0 => {
                return Err(corrupt(dir.display().to_string(), "every segment of the log is missing").into());
            }
            None => {
                let first = record::to_bytes(&HardState::default(), &ConfState::default(), None, &[]);
                (Database::create(&segment_path(dir, 1), 1, &first)?, 1)
            }
        };
        Ok(RaftLog {
            dir: dir.to_path_buf(),
            marks,
            closed: numbers.into_iter().map(|number| Closed { number, last_index: 0 }).collect(),
            current,
            current_number,
            current_last_index: 0,
            current_bytes: 0,
            next: 0,
            state: Default::default(),
            state_unwritten: false,
            unsynced: false,
            first: 1,
            last: 0,
            terms: Vec::new(),
            bytes_written: 0,
            worth_closing_bytes: SEGMENT_BYTES_WORTH_CLOSING,
        })
    }

    /// Reads every record.
    pub fn replay(&mut self) -> Result<RecoveredLog, DiskError> {
        let mut scan = LogScan::default();
        for segment in &mut self.closed {
            let database = Database::open(&segment_path(&self.dir, segment.number))?;
            (segment.last_index, _) = scan.segment(&database)?;
        }
        (self.current_last_index, self.current_bytes) = scan.segment(&self.current)?;
        let LogScan { next, replayed, .. } = scan;
        let acknowledged = self.marks.get(Watermark::RaftLog);
        if next <= acknowledged {
            let place = segment_path(&self.dir, self.current_number).display().to_string();
            return Err(corrupt(
                place,
                format!(
                    "records up to {acknowledged} were acknowledged, but the last one here is {}",
                    next - 1
                ),
            ));
        }
        self.next = next;
        self.state = (replayed.hard_state.clone(), replayed.conf_state.clone());
        self.terms.clear();
        (self.first, self.last) = scan.bounds;
        self.note(&replayed.entries);
        Ok(replayed)
    }

    /// Writes one record. Returns whether there was a sync.
    pub fn append(
        &mut self,
        hard_state: &HardState,
        conf_state: &ConfState,
        entries: &[Entry],
        sync: bool,
    ) -> Result<bool, DiskError> {
        let (old, old_conf_state) = &self.state;
        let only_commit = entries.is_empty()
            && old.term == hard_state.term
            && old.vote == hard_state.vote
            && old_conf_state == conf_state;
        self.state_unwritten |= only_commit && old.commit != hard_state.commit;
        if !only_commit || (sync && self.state_unwritten) {
            self.state = (hard_state.clone(), conf_state.clone());
            self.write(None, entries)?;
            if let Some(first) = entries.first() {
                // Entries that are replaced are gone from here on.
                self.terms.retain(|&(index, _)| index < first.index);
                self.first = if self.first <= self.last { self.first.min(first.index) } else { first.index };
                self.note(entries);
            }
        } else if self.state_unwritten {
            self.state.0 = hard_state.clone();
        }
        let synced = sync && self.sync()?;
        if self.current_bytes >= SEGMENT_BYTES_MAX {
            self.close_segment()?;
        }
        Ok(synced)
    }

    /// Empties the log: entries begin after `index`, the index of a snapshot. Durable on return.
    pub fn reset(
        &mut self,
        index: u64,
        hard_state: &HardState,
        conf_state: &ConfState,
    ) -> Result<(), DiskError> {
        self.state = (hard_state.clone(), conf_state.clone());
        self.write(Some(index), &[])?;
        (self.first, self.last) = (index + 1, index);
        self.terms.clear();
        self.current_last_index = self.current_last_index.max(index);
        self.sync()?;
        Ok(())
    }

    /// Drops segments with only entries before `first_kept`. The entries of an open segment go with a later
    /// call.
    pub fn truncate(&mut self, first_kept: u64) -> Result<(), DiskError> {
        if self.current_bytes >= self.worth_closing_bytes {
            self.close_segment()?;
        }
        // Only from the front, so that the numbers of the records that are left have no gap.
        while let Some(oldest) = self.closed.first().filter(|oldest| oldest.last_index < first_kept) {
            let path = segment_path(&self.dir, oldest.number);
            leftovers::remove_directory(&path).map_err(|source| io_error(&path, source))?;
            self.closed.remove(0);
        }
        Ok(())
    }

    /// Raft's state and the members as written.
    pub fn state(&self) -> (&HardState, &ConfState) {
        (&self.state.0, &self.state.1)
    }

    /// Whether a snapshot at `index` and these entries make a log without a gap.
    pub fn reaches_back_to(&self, index: u64) -> bool {
        self.first <= index + 1
    }

    /// Whether this log holds the last entry of a snapshot, so that later entries follow it.
    pub fn agrees_with(&self, index: u64, term: u64) -> bool {
        if index < self.first {
            // Before the first entry: `reaches_back_to` says whether they join. A log that was never written
            // to joins only at its beginning.
            return self.first == index + 1 || self.first <= self.last;
        }
        let of = self.terms.iter().rev().find(|(first, _)| *first <= index);
        index <= self.last && of.is_some_and(|&(_, found)| found == term)
    }

    /// Bytes given to the database since it was opened.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Makes every truncation close a segment.
    #[cfg(test)]
    pub fn close_at_every_truncation(&mut self) {
        self.worth_closing_bytes = 1;
    }

    /// See [`Database::has_unsynced_files`].
    #[cfg(test)]
    pub fn has_unsynced_files(&self) -> bool {
        self.current.has_unsynced_files()
    }

    /// See [`Database::damage`].
    #[cfg(test)]
    pub fn damage(&self, id: u64) {
        self.current.damage(id);
    }

    fn write(&mut self, reset_after: Option<u64>, entries: &[Entry]) -> Result<(), DiskError> {
        assert!(self.next > 0, "the log is read before it is written to");
        let bytes = record::to_bytes(&self.state.0, &self.state.1, reset_after, entries);
        let written = self.current.put(self.next, &bytes)? as u64;
        self.next += 1;
        self.bytes_written += written;
        self.current_bytes += written;
        self.state_unwritten = false;
        self.unsynced = true;
        if let Some(last) = entries.last() {
            self.current_last_index = self.current_last_index.max(last.index);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<bool, DiskError> {
        if !self.unsynced {
            return Ok(false);
        }
        self.current.sync()?;
        self.unsynced = false;
        self.marks.set(Watermark::RaftLog, self.next - 1)?;
        Ok(true)
    }

    /// Continues in a new segment. Its first record holds Raft's state, so that the old ones can be dropped.
    fn close_segment(&mut self) -> Result<(), DiskError> {
        self.sync()?;
        let number = self.current_number + 1;
        let bytes = record::to_bytes(&self.state.0, &self.state.1, None, &[]);
        let opened = Database::create(&segment_path(&self.dir, number), self.next, &bytes)?;
        self.closed.push(Closed { number: self.current_number, last_index: self.current_last_index });
        self.current = opened;
        self.current_number = number;
        self.current_last_index = 0;
        self.current_bytes = bytes.len() as u64;
        self.next += 1;
        self.state_unwritten = false;
        self.marks.set(Watermark::RaftLog, self.next - 1)
    }

    fn note(&mut self, entries: &[Entry]) {
        for entry in entries {
            if self.terms.last().is_none_or(|&(_, term)| term != entry.term) {
                self.terms.push((entry.index, entry.term));
            }
            self.last = entry.index;
        }
    }
}

impl Drop for RaftLog {
    fn drop(&mut self) {
        // An orderly end also keeps the newest commit index. A crash may lose it, so a failure here breaks no
        // promise.
        if self.state_unwritten && self.write(None, &[]).is_ok() {
            let _ = self.sync();
        }
    }
}

/// Reads records in order.
#[derive(Debug)]
struct LogScan {
    /// The number of the next record; 0 accepts any.
    next: u64,
    /// First and last index so far.
    bounds: (u64, u64),
    replayed: RecoveredLog,
}

impl Default for LogScan {
    fn default() -> Self {
        LogScan { next: 0, bounds: (1, 0), replayed: RecoveredLog::default() }
    }
}

impl LogScan {
    /// Reads a segment, and returns its largest index and its size in bytes.
    fn segment(&mut self, database: &Database) -> Result<(u64, u64), DiskError> {
        let (mut last_index, mut bytes_read) = (0, 0);
        let mut records = 0;
        database.scan(|id, bytes| {
            if self.next != 0 && id != self.next {
                return Err(corrupt(database.place(self.next), "it is missing"));
            }
            self.next = id + 1;
            records += 1;
            bytes_read += bytes.len() as u64;
            let record =
                record::from_bytes(&bytes).map_err(|e| corrupt(database.place(id), e.to_string()))?;
            self.replayed.hard_state = record.hard_state;
            self.replayed.conf_state = record.conf_state;
            let entries = &mut self.replayed.entries;
            if let Some(index) = record.reset_after {
                entries.clear();
                self.bounds = (index + 1, index);
                last_index = last_index.max(index);
            }
            if let Some(first) = record.entries.first() {
                entries.truncate(entries.partition_point(|entry| entry.index < first.index));
                if entries.is_empty() {
                    self.bounds.0 = first.index;
                }
            }
            for entry in record.entries {
                if let Some(last) = entries.last().filter(|last| last.index + 1 != entry.index) {
                    return Err(corrupt(
                        database.place(id),
                        format!("entry {} follows entry {}", entry.index, last.index),
                    ));
                }
                last_index = last_index.max(entry.index);
                self.bounds.1 = entry.index;
                entries.push(entry);
            }
            Ok(())
        })?;
        if records == 0 {
            return Err(corrupt(database.place(self.next.max(1)), "it is missing, with all that follow"));
        }
        Ok((last_index, bytes_read))
    }
}
