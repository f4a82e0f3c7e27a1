//! A disk in memory: a crash loses unsynced writes, and the process may be killed during any operation.

use muster_protocol::interval_set::IntervalSet;
use muster_replica::disk::{Block, Disk, DiskCounters, DiskError, LedgerSpan, Recovered};
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::io;

#[derive(Clone, Default)]
struct Image {
    hard_state: HardState,
    conf_state: ConfState,
    snapshot: Option<Snapshot>,
    entries: BTreeMap<u64, Entry>,
    blocks: BTreeMap<u64, Block>,
}

/// An unsynced write.
#[derive(Clone)]
enum UnsyncedWrite {
    Append(HardState, ConfState, Vec<Entry>),
    Block(Block),
}

impl Image {
    fn perform(&mut self, write: &UnsyncedWrite) {
        match write {
            UnsyncedWrite::Append(hard_state, conf_state, entries) => {
                self.hard_state = hard_state.clone();
                self.conf_state = conf_state.clone();
                if let Some(first) = entries.first() {
                    drop(self.entries.split_off(&first.index));
                }
                self.entries.extend(entries.iter().map(|entry| (entry.index, entry.clone())));
            }
            UnsyncedWrite::Block(block) => drop(self.blocks.insert(block.index.0, block.clone())),
        }
    }

    fn keep_snapshot(&mut self, snapshot: &Snapshot) {
        let metadata = snapshot.get_metadata();
        if self.entries.get(&metadata.index).is_none_or(|entry| entry.term != metadata.term) {
            self.entries.clear();
        }
        self.snapshot = Some(snapshot.clone());
        self.conf_state = metadata.get_conf_state().clone();
    }
}

#[derive(Default)]
pub struct SimDisk {
    /// What the running process reads.
    live: Image,
    /// What a crash leaves; some of the writes in `log` and `ledger` may be left too.
    durable: Image,
    log: Vec<UnsyncedWrite>,
    ledger: Vec<UnsyncedWrite>,
    /// After this many more operations the process is killed, during the next one.
    fails_after: Option<u32>,
    counters: DiskCounters,
}

impl SimDisk {
    /// Kills the process after this many more operations.
    pub fn fail_after(&mut self, operations: u32) {
        self.fails_after = Some(operations);
    }

    /// Keeps a random prefix of the unsynced writes of each file.
    pub fn crash(&mut self, random: &mut ChaCha8Rng) {
        self.fails_after = None;
        for writes in [std::mem::take(&mut self.log), std::mem::take(&mut self.ledger)] {
            let kept = random.random_range(0..=writes.len());
            writes[..kept].iter().for_each(|write| self.durable.perform(write));
        }
        self.live = self.durable.clone();
    }

    fn operation(&mut self) -> Result<(), DiskError> {
        match &mut self.fails_after {
            None => Ok(()),
            Some(0) => Err(DiskError::Io {
                place: "the simulated disk".to_string(),
                source: io::Error::other("killed"),
            }),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn sync_log(&mut self) {
        for write in self.log.drain(..) {
            self.durable.perform(&write);
        }
        self.counters.raft_syncs += 1;
    }
}

impl Disk for SimDisk {
    fn recover(&mut self) -> Result<Recovered, DiskError> {
        let image = &self.live;
        let first_wanted = image.snapshot.as_ref().map_or(0, |snapshot| snapshot.get_metadata().index) + 1;
        let mut entries: Vec<Entry> = image.entries.values().cloned().collect();
        // Entries before a gap that a snapshot has left are useless.
        if entries.last().is_some_and(|entry| entry.index < first_wanted) {
            entries.clear();
        }
        Ok(Recovered {
            hard_state: image.hard_state.clone(),
            conf_state: image.conf_state.clone(),
            snapshot: image.snapshot.clone(),
            entries,
            ledger: self.ledger(),
        })
    }

    fn append(
        &mut self,
        hard_state: &HardState,
        conf_state: &ConfState,
        entries: &[Entry],
        sync: bool,
    ) -> Result<(), DiskError> {
        let write = UnsyncedWrite::Append(hard_state.clone(), conf_state.clone(), entries.to_vec());
        self.live.perform(&write);
        self.log.push(write);
        self.operation()?;
        if sync {
            self.sync_log();
        }
        self.operation()
    }

    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), DiskError> {
        self.operation()?;
        // A snapshot is durable when this returns, and so is everything that was written before it.
        self.sync_log();
        self.live.keep_snapshot(snapshot);
        self.durable.keep_snapshot(snapshot);
        self.operation()
    }

    fn truncate(&mut self, first_kept: u64) -> Result<(), DiskError> {
        self.operation()?;
        self.sync_log();
        for image in [&mut self.live, &mut self.durable] {
            image.entries = image.entries.split_off(&first_kept);
        }
        self.operation()
    }

    fn write_blocks(&mut self, blocks: &[Block]) -> Result<(), DiskError> {
        self.operation()?;
        for block in blocks {
            if self.live.blocks.get(&block.index.0).is_some_and(|held| held != block) {
                return Err(DiskError::Differs { index: block.index.0 });
            }
            let write = UnsyncedWrite::Block(block.clone());
            self.live.perform(&write);
            self.ledger.push(write);
        }
        Ok(())
    }

    fn sync_ledger(&mut self) -> Result<(), DiskError> {
        self.operation()?;
        for write in self.ledger.drain(..) {
            self.durable.perform(&write);
        }
        self.counters.ledger_syncs += 1;
        Ok(())
    }

    fn ledger(&self) -> LedgerSpan {
        let mut indices = IntervalSet::default();
        self.live.blocks.keys().for_each(|index| {
            indices.insert(*index);
        });
        LedgerSpan::of(&indices)
    }

    fn read_blocks(&self, from: u64, bytes_max: usize) -> Result<Vec<Block>, DiskError> {
        let (mut blocks, mut bytes) = (Vec::new(), 0);
        for (expected, (index, block)) in (from..).zip(self.live.blocks.range(from..)) {
            if *index != expected || (!blocks.is_empty() && bytes + block.bytes() > bytes_max) {
                break;
            }
            bytes += block.bytes();
            blocks.push(block.clone());
        }
        Ok(blocks)
    }

    fn free_bytes(&self) -> u64 {
        u64::MAX
    }

    fn counters(&self) -> DiskCounters {
        self.counters
    }
}
