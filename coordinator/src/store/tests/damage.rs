//! Damage is found, reported with its place, and refused.

use super::*;
use crate::store::StoreError;
use muster_replica::disk::DiskError;
use std::path::PathBuf;

/// A store with entries, blocks and a snapshot.
fn filled(dir: &Path) {
    let (mut store, _) = open(dir);
    for first in (1..=300).step_by(3) {
        store.append(&hard_state(1, first - 1), &voters(), &entries(first..first + 3, 1), true).unwrap();
    }
    store.write_blocks(&chain(1..=250, 400)).unwrap();
    store.sync_ledger().unwrap();
    store.save_snapshot(&snapshot(200, 1)).unwrap();
}

/// Opens a store and reads everything in it.
fn read_everything(dir: &Path) -> Result<(), String> {
    let mut store = Store::open(dir, &identity()).map_err(|error| error.to_string())?;
    let recovered = store.recover().map_err(|error| error.to_string())?;
    assert_eq!(indices(&recovered), (1..=300).collect::<Vec<_>>(), "what opens is whole");
    assert_eq!(recovered.entries, entries(1..=300, 1));
    let mut next = 1;
    while next <= 250 {
        let blocks = store.read_blocks(next, 1 << 16).map_err(|error| error.to_string())?;
        assert!(!blocks.is_empty(), "block {next} is missing, and nothing said so");
        next += blocks.len() as u64;
    }
    Ok(())
}

#[test]
fn a_wrong_checksum_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let (store, _) = open(dir.path());
    store.raft_log.damage(40);
    store.ledger.shared().damage(3);
    let error = store.read_blocks(60, usize::MAX).map(|blocks| blocks.len()).unwrap_err();
    assert!(matches!(error, DiskError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("ledger record 3 (blocks "), "{error}");
    drop(store);
    let StoreError::Disk(DiskError::Corrupt { place, what }) =
        Store::open(dir.path(), &identity()).unwrap_err()
    else {
        panic!("refused")
    };
    assert!(place.contains("ledger record 3 piece 0") && what.contains("checksum"), "{place}: {what}");
}

#[test]
fn a_wrong_checksum_in_the_log_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let (store, _) = open(dir.path());
    store.raft_log.damage(40);
    drop(store);
    let error = Store::open(dir.path(), &identity()).unwrap().recover().unwrap_err().to_string();
    assert!(
        error.contains("log/000001 record 40 piece 0 is corrupted: its checksum does not fit"),
        "{error}"
    );
}

#[test]
fn flipped_bytes_are_always_noticed() {
    let whole = tempfile::tempdir().unwrap();
    filled(whole.path());
    read_everything(whole.path()).unwrap();
    let mut refused = 0;
    for file in ["log/000001/db", "ledger/db"] {
        let bytes = fs::read(whole.path().join(file)).unwrap();
        let used = bytes.iter().rposition(|&byte| byte != 0).unwrap();
        for at in (0..used).step_by(used / 23) {
            let dir = tempfile::tempdir().unwrap();
            copy(whole.path(), dir.path());
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x55;
            fs::write(dir.path().join(file), bytes).unwrap();
            // Data that is no longer needed may be damaged; `read_everything` has checked all the rest.
            if let Err(error) = read_everything(dir.path()) {
                assert!(error.contains(file.strip_suffix("/db").unwrap()), "byte {at} of {file}: {error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 5, "only {refused} were refused");
}

#[test]
fn a_torn_end_is_always_noticed() {
    let whole = tempfile::tempdir().unwrap();
    filled(whole.path());
    for file in ["log/000001/db", "ledger/db"] {
        let bytes = fs::read(whole.path().join(file)).unwrap();
        let used = bytes.iter().rposition(|&byte| byte != 0).unwrap();
        for keep in [used - 40, used / 2, 100] {
            let dir = tempfile::tempdir().unwrap();
            copy(whole.path(), dir.path());
            fs::write(dir.path().join(file), &bytes[..keep]).unwrap();
            let _ = read_everything(dir.path());
        }
    }
}

#[test]
fn missing_parts_are_reported() {
    for missing in ["log/000001", "ledger"] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        fs::remove_dir_all(dir.path().join(missing)).unwrap();
        let error = Store::open(dir.path(), &identity()).expect_err("something is missing").to_string();
        assert!(error.contains("is missing"), "{missing}: {error}");
    }
}

fn snapshot_file(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("snapshots/{index:020}.snap"))
}

#[test]
fn an_older_snapshot_replaces_half_a_snapshot_if_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let (store, _) = open(dir.path());
    store.snapshots.write(&snapshot(290, 1)).unwrap();
    drop(store);
    let path = snapshot_file(dir.path(), 290);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    // And one that was never renamed.
    fs::write(dir.path().join("snapshots/00000000000000000295.snap.new"), &bytes[..50]).unwrap();
    let (_, recovered) = open(dir.path());
    assert_eq!(recovered.snapshot, Some(snapshot(200, 1)));
    assert_eq!(indices(&recovered).last(), Some(&300));
}

#[test]
fn a_damaged_snapshot_is_refused_when_the_log_does_not_reach_back() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let (mut store, _) = open(dir.path());
    store.raft_log.close_at_every_truncation();
    store.truncate(201).unwrap();
    store.append(&hard_state(1, 300), &voters(), &entries(301..=310, 1), true).unwrap();
    store.save_snapshot(&snapshot(305, 1)).unwrap();
    store.truncate(306).unwrap();
    drop(store);
    let path = snapshot_file(dir.path(), 305);
    let mut bytes = fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = Store::open(dir.path(), &identity()).unwrap().recover().unwrap_err().to_string();
    assert!(error.contains("00000000000000000305.snap is corrupted: its hash does not fit"), "{error}");
}
