//! The ledger: every block since the first entry, in groups.
//!
//! Consecutive blocks are gathered in memory until they fill a group, because a value of its own would cost
//! each small block about 200 bytes more. What a crash takes from memory is derived again from Raft's log,
//! which is never truncated above the durable ledger. Groups are numbered in the order in which they were
//! written, so a missing one is noticed, and a gap of blocks may be filled at any time.

use super::database::{self, Database};
use super::error::{StoreError, corrupt};
use super::watermarks::{Watermark, Watermarks};
use muster_protocol::codec;
use muster_protocol::interval_set::IntervalSet;
use muster_replica::disk::{Block, DiskError, LedgerSpan};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A group is written when it holds this much. Slightly more still fits one piece of the database.
const GROUP_BYTES: usize = 15 << 10;
/// The limit for reading a group: one block may be as large as an entry and all its events.
const GROUP_BYTES_MAX: usize = 256 << 20;
/// The head of a group: the first and the last index.
const HEAD_BYTES: usize = 16;
/// The first record of the database, which makes sure that there is one.
const HEADER: &[u8] = b"muster ledger 1";

#[derive(Clone, Copy, Debug)]
struct Group {
    id: u64,
    last: u64,
}

#[derive(Debug, Default)]
struct LedgerIndex {
    /// By first index.
    groups: BTreeMap<u64, Group>,
    /// The indices in groups and in `pending`.
    indices: IntervalSet<u64>,
    /// Consecutive blocks, not yet in a group.
    pending: Vec<Block>,
    pending_bytes: usize,
}

/// Shared by the writer and the readers.
#[derive(Debug)]
pub struct LedgerFiles {
    database: Database,
    index: RwLock<LedgerIndex>,
}

/// The only writer.
#[derive(Debug)]
pub struct Ledger {
    shared: Arc<LedgerFiles>,
    marks: Arc<Watermarks>,
    /// The number of the next group.
    next: u64,
    unsynced: bool,
    bytes_written: u64,
    /// The last group that was read to compare with blocks that are written again.
    reread: Vec<Block>,
}

impl LedgerFiles {
    pub fn span(&self) -> LedgerSpan {
        LedgerSpan::of(&self.read().indices)
    }

    /// Consecutive blocks from `from` on: about `bytes_max` bytes, but at least one block. Empty if `from` is
    /// missing.
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

    /// The blocks of the group that holds `index`, or else pending ones.
    fn blocks_around(&self, index: u64) -> Result<Vec<Block>, DiskError> {
        let held = self.read();
        let found = held.groups.range(..=index).next_back().map(|(&first, &group)| (first, group));
        match found.filter(|(_, group)| index <= group.last) {
            Some((first, group)) => {
                // Groups never change, so they can be read while the writer continues.
                drop(held);
                self.group(first, group)
            }
            None => Ok(held.pending.iter().filter(|block| block.index.0 >= index).cloned().collect()),
        }
    }

    /// Poisoning is ignored: a reader that panicked has changed nothing.
    fn read(&self) -> RwLockReadGuard<'_, LedgerIndex> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, LedgerIndex> {
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
    /// Opens the ledger in `dir`, and creates it if it does not exist. Checks the checksum of every block.
    pub fn open(dir: &Path, marks: Arc<Watermarks>) -> Result<Ledger, StoreError> {
        let acknowledged = marks.get(Watermark::Ledger);
        let database = match database::exists(dir) {
            true => Database::open(dir)?,
            false if acknowledged > 0 => {
                return Err(corrupt(dir.display().to_string(), "the whole ledger is missing").into());
            }
            false => Database::create(dir, 0, HEADER)?,
        };
        let mut index = LedgerIndex::default();
        let mut next = 0;
        database.scan(|id, bytes| {
            if id != next {
                return Err(corrupt(database.place(next), "it is missing"));
            }
            next = id + 1;
            if id == 0 {
                let other =
                    || corrupt(database.place(id), "it is not the beginning of a ledger of this version");
                return if bytes == HEADER { Ok(()) } else { Err(other()) };
            }
            let (first, last) = head(&bytes).ok_or_else(|| corrupt(database.place(id), "it is too short"))?;
            index.groups.insert(first, Group { id, last });
            index.indices.insert_range(first, last.saturating_add(1));
            Ok(())
        })?;
        if next <= acknowledged {
            let what = format!("groups up to {acknowledged} were acknowledged, but {next} come first here");
            return Err(corrupt(dir.display().to_string(), what).into());
        }
        let shared = Arc::new(LedgerFiles { database, index: RwLock::new(index) });
        Ok(Ledger { shared, marks, next: next.max(1), unsynced: false, bytes_written: 0, reread: Vec::new() })
    }

    pub fn shared(&self) -> &Arc<LedgerFiles> {
        &self.shared
    }

    /// Adds blocks. If a block exists already, it must be equal.
    pub fn write(&mut self, blocks: &[Block]) -> Result<(), DiskError> {
        for block in blocks {
            let index = block.index.0;
            if self.shared.read().indices.contains(index) {
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
            held.indices.insert(index);
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
        self.marks.set(Watermark::Ledger, self.next - 1)?;
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

    /// Checks that a block equals the existing one, by its head, which covers everything in it and before it.
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
        // Blocks in memory were not promised. Writing them saves the next start the work of deriving them.
        let _ = self.write_group();
    }
}
