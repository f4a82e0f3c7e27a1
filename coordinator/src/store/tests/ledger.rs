//! The ledger: blocks in groups, gaps and their backfill, readers beside the writer.

use super::*;
use crate::store::LedgerReader;
use muster_replica::disk::{DiskError, LedgerSpan};
use std::thread;

fn span(first: u64, last: u64, missing: &[(u64, u64)]) -> LedgerSpan {
    LedgerSpan { first, last, missing: missing.to_vec() }
}

fn read_all(reader: &LedgerReader, from: u64, bytes_max: usize) -> Vec<Block> {
    let mut blocks = Vec::new();
    loop {
        let next = reader.read_blocks(from + blocks.len() as u64, bytes_max).unwrap();
        if next.is_empty() {
            return blocks;
        }
        blocks.extend(next);
    }
}

#[test]
fn blocks_are_read_before_and_after_their_sync() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let blocks = chain(1..=500, 90);
    for some in blocks.chunks(7) {
        store.write_blocks(some).unwrap();
        assert_eq!(store.read_blocks(some[0].index.0, usize::MAX).unwrap(), some);
    }
    assert_eq!(store.counters().ledger_syncs, 0);
    let values = store.counters().ledger_bytes;
    assert!(values < 500 * 200, "grouped blocks cost little: {values} bytes");
    for bytes_max in [0, 100, 5000, usize::MAX] {
        assert_eq!(read_all(&store.reader(), 1, bytes_max), blocks);
    }
    assert_eq!(store.read_blocks(501, 100).unwrap(), []);
    assert_eq!(store.read_blocks(0, 100).unwrap(), []);
    store.sync_ledger().unwrap();
    store.sync_ledger().unwrap();
    assert_eq!(store.counters().ledger_syncs, 1, "there was nothing to sync the second time");
    drop(store);
    let (store, recovered) = open(dir.path());
    assert_eq!(recovered.ledger, span(1, 500, &[]));
    assert_eq!(read_all(&store.reader(), 1, 10_000), blocks);
    assert_eq!(store.read_blocks(333, 1).unwrap(), blocks[332..333]);
}

#[test]
fn large_blocks_stay_in_the_synced_file() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let mut blocks = chain(1..=60, 14_000);
    blocks[30].entry = vec![9; 6 << 20];
    for block in &blocks {
        store.write_blocks(std::slice::from_ref(block)).unwrap();
    }
    store.sync_ledger().unwrap();
    assert!(!store.ledger.shared().has_unsynced_files());
    drop(store);
    assert_eq!(read_all(&open(dir.path()).0.reader(), 1, 1 << 20), blocks);
}

#[test]
fn gaps_are_reported_and_filled() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let blocks = chain(1..=100, 50);
    // blocks written -> span
    for (written, expected) in [
        (1..=10, span(1, 10, &[])),
        (71..=80, span(71, 80, &[(11, 71)])),
        (81..=90, span(71, 90, &[(11, 71)])),
        (31..=70, span(31, 90, &[(11, 31)])),
        (91..=91, span(31, 91, &[(11, 31)])),
        (21..=40, span(21, 91, &[(11, 21)])),
        (11..=20, span(1, 91, &[])),
        (1..=100, span(1, 100, &[])),
    ] {
        let indices = written.clone();
        store.write_blocks(&blocks[*written.start() - 1..*written.end()]).unwrap();
        assert_eq!(store.ledger(), expected, "after {indices:?}");
        store.sync_ledger().unwrap();
        drop(store);
        let recovered;
        (store, recovered) = open(dir.path());
        assert_eq!(recovered.ledger, expected, "after {indices:?} and a restart");
    }
    assert_eq!(read_all(&store.reader(), 1, 300), blocks);
}

#[test]
fn another_block_at_the_same_index_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let blocks = chain(1..=10, 50);
    let mut other = blocks[4].clone();
    other.head = Digest::of(b"other");
    for sync in [false, true] {
        store.write_blocks(&blocks).unwrap();
        if sync {
            store.sync_ledger().unwrap();
        }
        assert!(matches!(store.write_blocks(&[other.clone()]), Err(DiskError::Differs { index: 5 })));
    }
    store.write_blocks(&blocks).unwrap();
    assert_eq!(store.read_blocks(1, usize::MAX).unwrap(), blocks);
}

#[test]
fn readers_read_while_the_store_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let blocks = chain(1..=2000, 100);
    store.write_blocks(&blocks[..1]).unwrap();
    thread::scope(|scope| {
        let read = || {
            let reader = store.reader();
            let blocks = &blocks;
            move || {
                let mut next = 1;
                while next <= 2000 {
                    let read = reader.read_blocks(next, 4000).unwrap();
                    assert_eq!(read, blocks[next as usize - 1..][..read.len()]);
                    next += read.len() as u64;
                    if read.is_empty() {
                        thread::yield_now();
                    }
                }
            }
        };
        scope.spawn(read());
        scope.spawn(read());
        for some in blocks[1..].chunks(11) {
            store.write_blocks(some).unwrap();
        }
        store.sync_ledger().unwrap();
    });
}
