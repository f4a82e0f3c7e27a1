//! A disk in memory that loses in a crash what was not synced.

use crate::disk::{Block, Disk, DiskCounters, DiskError, LedgerSpan, Recovered};
use muster_protocol::interval_set::IntervalSet;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use std::collections::BTreeMap;

#[derive(Clone, Default)]
struct Log {
    hard_state: HardState,
    conf_state: ConfState,
    entries: BTreeMap<u64, Entry>,
    snapshot: Option<Snapshot>,
}

pub struct MemoryDisk {
    log: Log,
    durable_log: Log,
    ledger: BTreeMap<u64, Block>,
    durable_ledger: BTreeMap<u64, Block>,
    counters: DiskCounters,
    pub free_bytes: u64,
}

impl MemoryDisk {
    pub fn new() -> MemoryDisk {
        MemoryDisk {
            log: Log::default(),
            durable_log: Log::default(),
            ledger: BTreeMap::new(),
            durable_ledger: BTreeMap::new(),
            counters: DiskCounters::default(),
            free_bytes: 1 << 40,
        }
    }

    /// Loses what was not synced.
    pub fn crash(&mut self) {
        self.log = self.durable_log.clone();
        self.ledger = self.durable_ledger.clone();
    }

    /// Replaces all blocks from `index` on by others that fit each other's heads.
    pub fn forge(&mut self, index: u64) {
        let mut head = self.ledger[&(index - 1)].head;
        for block in self.ledger.range_mut(index..).map(|(_, block)| block) {
            block.entry.push(0);
            block.head = Block::chain(head, block.index, block.term, &block.entry, &block.events);
            head = block.head;
        }
    }

    pub fn first_entry(&self) -> u64 {
        self.log.entries.first_key_value().map_or(0, |(index, _)| *index)
    }
}

impl Disk for MemoryDisk {
    fn recover(&mut self) -> Result<Recovered, DiskError> {
        let Log { hard_state, conf_state, entries, snapshot } = self.log.clone();
        Ok(Recovered {
            hard_state,
            conf_state,
            snapshot,
            entries: entries.into_values().collect(),
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
        self.log.hard_state = hard_state.clone();
        self.log.conf_state = conf_state.clone();
        if let Some(first) = entries.first() {
            self.log.entries.split_off(&first.index);
        }
        self.log.entries.extend(entries.iter().map(|entry| (entry.index, entry.clone())));
        if sync {
            self.counters.raft_syncs += 1;
            self.durable_log = self.log.clone();
        }
        Ok(())
    }

    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), DiskError> {
        let (index, term) = (snapshot.get_metadata().index, snapshot.get_metadata().term);
        for log in [&mut self.log, &mut self.durable_log] {
            if log.entries.get(&index).is_none_or(|entry| entry.term != term) {
                log.entries.clear();
            }
            log.snapshot = Some(snapshot.clone());
        }
        Ok(())
    }

    fn truncate(&mut self, first_kept: u64) -> Result<(), DiskError> {
        assert!(first_kept <= self.durable_log.hard_state.commit + 1);
        for log in [&mut self.log, &mut self.durable_log] {
            log.entries = log.entries.split_off(&first_kept);
        }
        Ok(())
    }

    fn write_blocks(&mut self, blocks: &[Block]) -> Result<(), DiskError> {
        for block in blocks {
            if self.ledger.get(&block.index.0).is_some_and(|known| known != block) {
                return Err(DiskError::Differs { index: block.index.0 });
            }
            self.ledger.insert(block.index.0, block.clone());
        }
        Ok(())
    }

    fn sync_ledger(&mut self) -> Result<(), DiskError> {
        self.counters.ledger_syncs += 1;
        self.durable_ledger = self.ledger.clone();
        Ok(())
    }

    fn ledger(&self) -> LedgerSpan {
        let mut indices = IntervalSet::default();
        self.ledger.keys().for_each(|index| {
            indices.insert(*index);
        });
        LedgerSpan::of(&indices)
    }

    fn read_blocks(&self, from: u64, bytes_max: usize) -> Result<Vec<Block>, DiskError> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut bytes = 0;
        for (index, (at, block)) in (from..).zip(self.ledger.range(from..)) {
            bytes += block.bytes();
            if index != *at || (!blocks.is_empty() && bytes > bytes_max) {
                break;
            }
            blocks.push(block.clone());
        }
        Ok(blocks)
    }

    fn free_bytes(&self) -> u64 {
        self.free_bytes
    }

    fn counters(&self) -> DiskCounters {
        self.counters
    }
}
