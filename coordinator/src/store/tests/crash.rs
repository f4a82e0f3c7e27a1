//! Crashes lose nothing that was acknowledged.

use super::*;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// A copy taken after a sync is what a crash at that moment leaves.
#[test]
fn nothing_acknowledged_is_missing_after_a_crash_at_any_sync() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    store.raft_log.close_at_every_truncation();
    let blocks = chain(1..=120, 700);
    let mut log_first = 1;
    for round in 0..12 {
        let next = round * 10 + 1;
        store.append(&hard_state(1, next - 1), &voters(), &entries(next..next + 10, 1), true).unwrap();
        store.write_blocks(&blocks[next as usize - 1..][..10]).unwrap();
        let mut ledger_last = 0;
        if round % 3 == 2 {
            store.sync_ledger().unwrap();
            ledger_last = next + 9;
            store.append(&hard_state(1, next + 9), &voters(), &[], true).unwrap();
            store.save_snapshot(&snapshot(next + 9, 1)).unwrap();
            store.truncate(next + 6).unwrap();
            log_first = next + 6;
        }
        let crashed = tempfile::tempdir().unwrap();
        copy(dir.path(), crashed.path());
        let (copied, recovered) = open(crashed.path());
        let found = indices(&recovered);
        assert!(found[0] <= log_first && found.last() == Some(&(next + 9)), "round {round}: {found:?}");
        assert_eq!(recovered.entries, entries(found[0]..next + 10, 1));
        assert!(
            recovered.ledger.is_complete() && recovered.ledger.last >= ledger_last,
            "round {round}: {:?}",
            recovered.ledger
        );
        assert_eq!(copied.read_blocks(1, usize::MAX).unwrap()[..], blocks[..recovered.ledger.last as usize]);
    }
}

const CHILD: &str = "MUSTER_TEST_STORE";

/// Appends and reports each append until it is killed. Without its environment variable it does nothing.
#[test]
fn child_that_appends_until_it_is_killed() {
    let Some(dir) = env::var_os(CHILD) else { return };
    let (mut store, recovered) = open(Path::new(&dir));
    store.raft_log.close_at_every_truncation();
    let mut next = recovered.entries.last().map_or(1, |entry| entry.index + 1);
    loop {
        store.append(&hard_state(1, next - 1), &voters(), &entries(next..next + 5, 1), true).unwrap();
        next += 5;
        let mut out = std::io::stdout().lock();
        writeln!(out, "acknowledged {}", next - 1).and_then(|()| out.flush()).unwrap();
        if next % 100 == 1 {
            store.save_snapshot(&snapshot(next - 6, 1)).unwrap();
            store.truncate(next - 20).unwrap();
        }
    }
}

#[test]
fn nothing_acknowledged_is_missing_after_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for life in 1..=6 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "store::tests::crash::child_that_appends_until_it_is_killed", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut reports = 0;
        let mut note = |line: String| {
            // The test harness's own output may stand before the first line.
            if let Some((_, index)) = line.split_once("acknowledged ") {
                acknowledged = index.parse().unwrap();
                reports += 1;
            }
            reports
        };
        while note(lines.next().expect("the child lives").unwrap()) < life * 17 {}
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            note(line);
        }
        let (_, recovered) = open(dir.path());
        let found = indices(&recovered);
        assert!(
            *found.last().unwrap() >= acknowledged,
            "life {life}: {acknowledged} was acknowledged, {:?} is there",
            found.last()
        );
        assert_eq!(recovered.entries, entries(found[0]..=*found.last().unwrap(), 1));
        assert!(found[0] <= recovered.snapshot.map_or(0, |snapshot| snapshot.get_metadata().index) + 1);
    }
}
