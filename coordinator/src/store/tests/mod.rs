//! Stores on real files: what they keep, return and refuse.

mod crash;
mod damage;
mod ledger;
mod log;
mod opening;

use super::{Store, StoreIdentity};
use muster_protocol::ids::{Digest, LogIndex, RaftId, Term};
use muster_replica::disk::{Block, Disk, Recovered};
use protobuf::SingularPtrField;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};
use std::fs;
use std::path::Path;

fn identity() -> StoreIdentity {
    StoreIdentity { cluster: "local".to_string(), name: "c1".to_string(), raft_id: RaftId(1) }
}

fn open(dir: &Path) -> (Store, Recovered) {
    let mut store = Store::open(dir, &identity()).unwrap();
    let recovered = store.recover().unwrap();
    (store, recovered)
}

fn entry(index: u64, term: u64) -> Entry {
    let data = format!("entry {index} of term {term}").into_bytes();
    Entry { index, term, data: data.into(), ..Entry::default() }
}

fn entries(indices: impl IntoIterator<Item = u64>, term: u64) -> Vec<Entry> {
    indices.into_iter().map(|index| entry(index, term)).collect()
}

fn hard_state(term: u64, commit: u64) -> HardState {
    HardState { term, vote: 1, commit, ..HardState::default() }
}

fn voters() -> ConfState {
    ConfState { voters: vec![1, 2, 3], ..ConfState::default() }
}

fn snapshot(index: u64, term: u64) -> Snapshot {
    let metadata = SnapshotMetadata {
        index,
        term,
        conf_state: SingularPtrField::some(voters()),
        ..SnapshotMetadata::default()
    };
    Snapshot {
        data: vec![7; 100_000].into(),
        metadata: SingularPtrField::some(metadata),
        ..Snapshot::default()
    }
}

fn indices(recovered: &Recovered) -> Vec<u64> {
    recovered.entries.iter().map(|entry| entry.index).collect()
}

/// Blocks with real chains, of about `bytes` each.
fn chain(indices: std::ops::RangeInclusive<u64>, bytes: usize) -> Vec<Block> {
    let mut head = Digest::default();
    let mut blocks = Vec::new();
    for index in 1..=*indices.end() {
        let (entry, events) = (vec![index as u8; bytes], vec![3; 10]);
        head = Block::chain(head, LogIndex(index), Term(1), &entry, &events);
        if indices.contains(&index) {
            blocks.push(Block { index: LogIndex(index), term: Term(1), entry, events, head });
        }
    }
    blocks
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy(&item.path(), &target);
        } else {
            fs::copy(item.path(), target).unwrap();
        }
    }
}
