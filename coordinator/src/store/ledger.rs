//! The ledger: every block since the first entry, in groups.
//!
//! Blocks that follow each other are gathered in memory until they fill a group, since a value of its own
//! would cost each small block about 200 bytes more. What a crash takes from memory is derived again from
//! Raft's log, which is never truncated above the durable ledger. Groups have ascending numbers in the order
//! in which they were written: what is missing is seen by its number, and a gap may be filled at any time.

use super::database::{self, Database};
use super::error::{StoreError, corrupt};
use super::marks::{Marked, Marks};
use super::runs::Runs;
use muster_protocol::codec;
use muster_replica::disk::{Block, DiskError, LedgerSpan};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A group is written when it holds so much. A few blocks more than that still fit one piece of the database.
const GROUP_BYTES: usize = 15 << 10;
/// One group at most, as it is read back: one block may be as large as an entry and all its events.
const GROUP_BYTES_MAX: usize = 256 << 20;
/// The head of a group: the first and the last index.
const HEAD_BYTES: usize = 16;
/// The first record of the database, so that there always is one.
const PREFACE: &[u8] = b"muster ledger 1";

/// A group that is written.
#[derive(Clone, Copy, Debug)]
struct Group {
    id: u64,
    last: u64,
}

/// What is where.
#[derive(Debug, Default)]
struct Index {
    /// By the first index of each.
    groups: BTreeMap<u64, Group>,
    /// What the groups and `pending` hold.
    runs: Runs,
    /// Blocks that follow each other, not yet in a group.
    pending: Vec<Block>,
    pending_bytes: usize,
}

/// What the writer and the readers share.
#[derive(Debug)]
pub struct Shared {
    database: Database,
    index: RwLock<Index>,
}

/// The ledger's one writer.
#[derive(Debug)]
pub struct Ledger {
    shared: Arc<Shared>,
    marks: Arc<Marks>,
    /// The number of the next group.
    next: u64,
    unsynced: bool,
    bytes_written: u64,
    /// The group read last, while equal blocks are written again.
    reread: Vec<Block>,
}

impl Shared {
    /// Which blocks there are.
    pub fn span(&self) -> LedgerSpan {
        LedgerSpan::from_runs(self.read().runs.iter())
    }

    /// Blocks without a gap from `from` on: about `bytes_max` bytes, but at least one block; none if `from`
    /// is not there.
    pub fn read_blocks(&self, from: u64, bytes_max: usize) -> Result<Vec<Block>, DiskError> {
        let mut blocks: Vec<Block> = Vec::new();
        let (mut next, mut bytes) = (from, 0);
        loop {
            let before = blocks.len();
            for block in self.blocks_around(next)? {
                if block.index.0 < next {
                    continue;
                }
                if block.index.0 != next || (bytes + block.bytes() > bytes_max && !blocks.is_empty()) {
                    return Ok(blocks);
                }
                bytes += block.bytes();
                next += 1;
                blocks.push(block);
            }
            if blocks.len() == before {
                return Ok(blocks);
            }
        }
    }

    /// See [`Database::has_unsynced_files`].
    #[cfg(test)]
    pub fn has_unsynced_files(&self) -> bool {
        self.database.has_unsynced_files()
    }

    /// See [`Database::damage`].
    #[cfg(test)]
    pub fn damage(&self, id: u64) {
        self.database.damage(id);
    }

    /// The group that holds the block at `index`, or else what is not yet in one.
    fn blocks_around(&self, index: u64) -> Result<Vec<Block>, DiskError> {
        let held = self.read();
        let found = held.groups.range(..=index).next_back().map(|(&first, &group)| (first, group));
        match found.filter(|(_, group)| index <= group.last) {
            Some((first, group)) => {
                // Groups never change, so they are read while the writer goes on.
                drop(held);
                self.group(first, group)
            }
            None => Ok(held.pending.iter().filter(|block| block.index.0 >= index).cloned().collect()),
        }
    }

    /// A reader that panicked has changed nothing.
    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn group(&self, first: u64, group: Group) -> Result<Vec<Block>, DiskError> {
        let wrong = |what: &str| {
            corrupt(format!("{} (blocks {first} to {})", self.database.place(group.id), group.last), what)
        };
        let bytes = match self.database.get(group.id) {
            Ok(bytes) => bytes.ok_or_else(|| wrong("it is missing"))?,
            Err(DiskError::Corrupt { what, .. }) => return Err(wrong(&what)),
            Err(error) => return Err(error),
        };
        if head(&bytes) != Some((first, group.last)) {
            return Err(wrong("it is another group"));
        }
        let blocks: Vec<Block> = codec::decode(&bytes[HEAD_BYTES..], GROUP_BYTES_MAX)
            .map_err(|error| wrong(&error.to_string()))?;
        if blocks.iter().map(|block| block.index.0).ne(first..=group.last) {
            return Err(wrong("its blocks are not those of its head"));
        }
        Ok(blocks)
    }
}

/// The first and the last index of a group's bytes.
fn head(bytes: &[u8]) -> Option<(u64, u64)> {
    let (first, rest) = bytes.split_first_chunk()?;
    let (last, _) = rest.split_first_chunk()?;
    Some((u64::from_le_bytes(*first), u64::from_le_bytes(*last)))
}

impl Ledger {
    /// Opens the ledger in `dir`, and makes one when there is none. Every block's checksum is looked at.
    pub fn open(dir: &Path, marks: Arc<Marks>) -> Result<Ledger, StoreError> {
        let acknowledged = marks.get(Marked::Ledger);
        let database = match database::exists(dir) {
            true => Database::open(dir)?,
            false if acknowledged > 0 => {
                return Err(corrupt(dir.display().to_string(), "the whole ledger is missing").into());
            }
            false => Database::create(dir, 0, PREFACE)?,
        };
        let mut index = Index::default();
        let mut next = 0;
        database.scan(|id, bytes| {
            if id != next {
                return Err(corrupt(database.place(next), "it is missing"));
            }
            next = id + 1;
            if id == 0 {
                let other =
                    || corrupt(database.place(id), "it is not the beginning of a ledger of this version");
                return if bytes == PREFACE { Ok(()) } else { Err(other()) };
            }
            let (first, last) = head(&bytes).ok_or_else(|| corrupt(database.place(id), "it is too short"))?;
            index.groups.insert(first, Group { id, last });
            index.runs.insert(first, last);
            Ok(())
        })?;
        if next <= acknowledged {
            let what = format!("groups up to {acknowledged} were acknowledged, but {next} come first here");
            return Err(corrupt(dir.display().to_string(), what).into());
        }
        let shared = Arc::new(Shared { database, index: RwLock::new(index) });
        Ok(Ledger { shared, marks, next: next.max(1), unsynced: false, bytes_written: 0, reread: Vec::new() })
    }

    /// What readers need.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Adds blocks. Those that are there already must be equal.
    pub fn write(&mut self, blocks: &[Block]) -> Result<(), DiskError> {
        for block in blocks {
            let index = block.index.0;
            if self.shared.read().runs.contains(index) {
                self.compare(block)?;
                continue;
            }
            let (full, follows) = {
                let held = self.shared.read();
                let full = held.pending_bytes + block.bytes() > GROUP_BYTES;
                (full, held.pending.last().is_none_or(|last| last.index.0 + 1 == index))
            };
            if full || !follows {
                self.write_group()?;
            }
            let mut held = self.shared.write();
            held.pending_bytes += block.bytes();
            held.pending.push(block.clone());
            held.runs.insert(index, index);
        }
        // A block larger than a group does not stay in memory.
        if self.shared.read().pending_bytes > GROUP_BYTES { self.write_group() } else { Ok(()) }
    }

    /// Makes all blocks durable. Returns whether there was a sync.
    pub fn sync(&mut self) -> Result<bool, DiskError> {
        self.write_group()?;
        if !self.unsynced {
            return Ok(false);
        }
        self.shared.database.sync()?;
        self.unsynced = false;
        self.marks.set(Marked::Ledger, self.next - 1)?;
        Ok(true)
    }

    /// Bytes given to the database since it was opened.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    fn write_group(&mut self) -> Result<(), DiskError> {
        let (first, last, bytes) = {
            let held = self.shared.read();
            let (Some(first), Some(last)) = (held.pending.first(), held.pending.last()) else {
                return Ok(());
            };
            let (first, last) = (first.index.0, last.index.0);
            let mut bytes = Vec::with_capacity(HEAD_BYTES + held.pending_bytes);
            bytes.extend_from_slice(&first.to_le_bytes());
            bytes.extend_from_slice(&last.to_le_bytes());
            codec::encode_into(&held.pending, &mut bytes);
            (first, last, bytes)
        };
        self.bytes_written += self.shared.database.put(self.next, &bytes)? as u64;
        self.unsynced = true;
        let mut held = self.shared.write();
        held.groups.insert(first, Group { id: self.next, last });
        held.pending.clear();
        held.pending_bytes = 0;
        self.next += 1;
        Ok(())
    }

    /// Checks that a block is the one that is there. Its head covers everything in it and before it.
    fn compare(&mut self, block: &Block) -> Result<(), DiskError> {
        let index = block.index.0;
        let at = |blocks: &[Block]| blocks.iter().find(|held| held.index.0 == index).map(|held| held.head);
        let mut head = at(&self.reread).or_else(|| at(&self.shared.read().pending));
        if head.is_none() {
            let found =
                self.shared.read().groups.range(..=index).next_back().map(|(&first, &group)| (first, group));
            if let Some((first, group)) = found {
                self.reread = self.shared.group(first, group)?;
                head = at(&self.reread);
            }
        }
        if head == Some(block.head) { Ok(()) } else { Err(DiskError::Differs { index }) }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // Nothing was promised of what is only in memory; an orderly end spares the next start the work of
        // deriving it again.
        let _ = self.write_group();
    }
}
