//! Raft's log: appends are read back, conflicts replace entries, segments are dropped.

use super::*;

fn segments(dir: &Path) -> usize {
    fs::read_dir(dir.join("log")).unwrap().count()
}

#[test]
fn appended_entries_are_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, recovered) = open(dir.path());
    assert_eq!(recovered, Recovered::default());
    // (entries, hard state) -> the log after it
    let steps = [
        (entries(1..=3, 1), hard_state(1, 0), vec![(1, 1), (2, 1), (3, 1)]),
        (entries(4..=5, 1), hard_state(1, 2), vec![(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]),
        // Conflicts remove everything after them.
        (entries(3..=3, 2), hard_state(2, 2), vec![(1, 1), (2, 1), (3, 2)]),
        (entries(4..=4, 2), hard_state(2, 3), vec![(1, 1), (2, 1), (3, 2), (4, 2)]),
        (vec![], hard_state(3, 3), vec![(1, 1), (2, 1), (3, 2), (4, 2)]),
        // The whole log.
        (entries(1..=2, 4), hard_state(4, 0), vec![(1, 4), (2, 4)]),
    ];
    for (number, (entries, hard_state, expected)) in steps.into_iter().enumerate() {
        store.append(&hard_state, &voters(), &entries, true).unwrap();
        drop(store);
        let recovered;
        (store, recovered) = open(dir.path());
        let found: Vec<_> = recovered.entries.iter().map(|entry| (entry.index, entry.term)).collect();
        assert_eq!(found, expected, "step {number}");
        assert!(recovered.entries.iter().all(|found| *found == entry(found.index, found.term)));
        assert_eq!((recovered.hard_state, recovered.conf_state), (hard_state, voters()));
    }
}

#[test]
fn a_commit_index_alone_costs_no_write_until_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    store.append(&hard_state(1, 0), &voters(), &entries(1..=2, 1), true).unwrap();
    let before = store.counters();
    store.append(&hard_state(1, 1), &voters(), &[], false).unwrap();
    store.append(&hard_state(1, 2), &voters(), &[], false).unwrap();
    assert_eq!(store.counters(), before);
    store.append(&hard_state(1, 2), &voters(), &[], true).unwrap();
    assert_eq!(store.counters().raft_syncs, before.raft_syncs + 1);
    store.append(&hard_state(1, 2), &voters(), &[], true).unwrap();
    assert_eq!(store.counters().raft_syncs, before.raft_syncs + 1, "there was nothing to sync");
    drop(store);
    assert_eq!(open(dir.path()).1.hard_state.commit, 2);
}

#[test]
fn large_entries_stay_in_the_synced_file() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let large = |index, bytes: usize| Entry {
        index,
        term: 1,
        data: vec![index as u8; bytes].into(),
        ..Entry::default()
    };
    let appended: Vec<Entry> = (1..=60)
        .map(|index| large(index, if index % 20 == 0 { 5 << 20 } else { 15_000 + index as usize }))
        .collect();
    for entries in appended.chunks(3) {
        store.append(&hard_state(1, 0), &voters(), entries, true).unwrap();
        assert!(!store.raft_log.has_unsynced_files());
    }
    drop(store);
    assert_eq!(open(dir.path()).1.entries, appended);
}

#[test]
fn segments_are_closed_and_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    store.raft_log.close_at_every_truncation();
    let mut next = 1;
    for round in 1..=5 {
        store.append(&hard_state(1, next - 1), &voters(), &entries(next..next + 10, 1), true).unwrap();
        next += 10;
        // The newest three are not committed yet.
        store.append(&hard_state(1, next - 4), &voters(), &[], true).unwrap();
        store.save_snapshot(&snapshot(next - 4, 1)).unwrap();
        store.truncate(next - 3).unwrap();
        assert!(segments(dir.path()) <= 2, "round {round}: {} segments", segments(dir.path()));
        // They are replaced across the border of two segments.
        store.append(&hard_state(2, next - 4), &voters(), &entries(next - 2..next, 1), true).unwrap();
        drop(store);
        let recovered;
        (store, recovered) = open(dir.path());
        store.raft_log.close_at_every_truncation();
        let first = indices(&recovered)[0];
        assert!(first <= next - 3, "entries join the snapshot");
        assert_eq!(indices(&recovered), (first..next).collect::<Vec<_>>(), "round {round}");
        assert_eq!(recovered.snapshot.unwrap().get_metadata().index, next - 4);
    }
}

#[test]
fn everything_may_be_truncated() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    store.raft_log.close_at_every_truncation();
    store.append(&hard_state(1, 5), &voters(), &entries(1..=5, 1), true).unwrap();
    store.save_snapshot(&snapshot(5, 1)).unwrap();
    store.truncate(6).unwrap();
    store.truncate(6).unwrap();
    drop(store);
    let (mut store, recovered) = open(dir.path());
    assert_eq!(indices(&recovered), [0; 0]);
    assert_eq!((recovered.hard_state, recovered.conf_state), (hard_state(1, 5), voters()));
    store.append(&hard_state(1, 5), &voters(), &entries(6..=6, 1), true).unwrap();
    drop(store);
    assert_eq!(indices(&open(dir.path()).1), [6]);
}

#[test]
fn a_leaders_snapshot_replaces_the_log() {
    // (entries here, snapshot) -> entries left
    for (held, index, term, left) in [
        (entries(1..=5, 1), 3, 1, vec![1, 2, 3, 4, 5]),
        (entries(1..=5, 1), 3, 2, vec![]),
        (entries(1..=5, 1), 9, 2, vec![]),
        (vec![], 9, 2, vec![]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path());
        store.append(&hard_state(1, 0), &voters(), &held, true).unwrap();
        store.save_snapshot(&snapshot(index, term)).unwrap();
        drop(store);
        let (mut store, recovered) = open(dir.path());
        assert_eq!(indices(&recovered), left, "snapshot of {index} in term {term}");
        assert_eq!(recovered.hard_state.commit, index.max(recovered.hard_state.commit));
        assert_eq!(recovered.snapshot, Some(snapshot(index, term)));
        let next = left.last().map_or(index + 1, |last| last + 1);
        store.append(&hard_state(term, index), &voters(), &entries([next], term), true).unwrap();
        drop(store);
        assert_eq!(indices(&open(dir.path()).1).last(), Some(&next));
    }
}

#[test]
fn a_crash_between_a_snapshot_and_its_log_is_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    store.append(&hard_state(1, 0), &voters(), &entries(1..=5, 1), true).unwrap();
    store.snapshots.write(&snapshot(9, 2)).unwrap();
    drop(store);
    for _ in 0..2 {
        let (_, recovered) = open(dir.path());
        assert_eq!(indices(&recovered), [0; 0]);
        assert_eq!(
            (recovered.hard_state.term, recovered.hard_state.vote, recovered.hard_state.commit),
            (2, 0, 9)
        );
        assert_eq!(recovered.conf_state, voters());
    }
}
