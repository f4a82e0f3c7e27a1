//! Snapshots, truncation, and backfill of ledgers.

use super::cluster::Cluster;
use crate::Input;
use crate::disk::Disk;
use muster_protocol::ids::{Digest, LogIndex, RaftId};

fn small(members: u64) -> Cluster {
    Cluster::new(members, |config| {
        config.snapshot_every_entries = 50;
        config.keep_entries = 10;
    })
}

#[test]
fn a_member_restarts_from_its_own_snapshot() {
    let mut cluster = small(1);
    let id = RaftId(1);
    (1..=230).for_each(|request| {
        cluster.submit(id, request);
    });
    let (applied, chain) = (cluster.replica(id).applied(), cluster.replica(id).state().chain());
    assert!(cluster.members[&id].disk.first_entry() > 150, "the log is truncated");
    cluster.crash(id);
    cluster.start(id);
    let recovered = cluster.members.get_mut(&id).unwrap().disk.read_blocks(applied.0, 1).unwrap();
    assert_eq!(recovered[0].head, chain.hash, "the ledger is made again from the log");
    assert_eq!(cluster.replica(id).status().ledger_first, LogIndex(1));
}

#[test]
fn a_member_far_behind_gets_a_snapshot_and_backfills_its_ledger() {
    let mut cluster = small(3);
    let leader = cluster.elect();
    cluster.submit(leader, 1);
    cluster.run_ms(300);
    let behind = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    cluster.crash(behind);
    (2..=600).for_each(|request| {
        cluster.submit(leader, request);
    });
    cluster.start(behind);
    cluster.until("it catches up", |cluster| {
        cluster.replica(behind).applied() == cluster.replica(leader).applied()
    });
    assert!(cluster.chunks > 0, "it came as a snapshot");
    cluster.assert_agreement();
    cluster.until("its ledger is complete", |cluster| cluster.replica(behind).ledger_first() == LogIndex(1));
    let (theirs, own) = (&cluster.members[&leader].disk, &cluster.members[&behind].disk);
    assert_eq!(own.ledger(), theirs.ledger());
    let (theirs, own) = (theirs.read_blocks(1, usize::MAX).unwrap(), own.read_blocks(1, usize::MAX).unwrap());
    assert_eq!(own, theirs);
    let mut head = Digest::default();
    for block in &own {
        assert!(block.follows(head), "at {}", block.index);
        head = block.head;
    }
    // It continues from there after a crash.
    cluster.crash(behind);
    cluster.start(behind);
    cluster.submit(leader, 999_999);
    cluster.run_ms(1_000);
    assert_eq!(cluster.replica(behind).ledger_first(), LogIndex(1));
    cluster.assert_agreement();
}

#[test]
fn a_lost_chunk_restarts_the_transfer() {
    let mut cluster = small(3);
    let leader = cluster.elect();
    let behind = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    cluster.cut.insert(behind);
    (1..=200).for_each(|request| {
        cluster.submit(leader, request);
    });
    cluster.cut.clear();
    cluster.until("a chunk is sent", |cluster| cluster.chunks > 0);
    let sent = cluster.chunks;
    // It was delivered in the same tick. Another transfer, to a member that is cut off, is lost.
    cluster.cut.insert(behind);
    (201..=400).for_each(|request| {
        cluster.submit(leader, request);
    });
    cluster.run_ms(2_000);
    cluster.drive(leader, Some(Input::Unreachable { peer: behind }));
    cluster.cut.clear();
    cluster.until("it catches up", |cluster| {
        cluster
            .leader()
            .is_some_and(|leader| cluster.replica(behind).applied() == cluster.replica(leader).applied())
    });
    assert!(cluster.chunks > sent);
    cluster.assert_agreement();
}

#[test]
fn blocks_that_do_not_fit_the_chain_are_refused() {
    let mut cluster = small(3);
    let leader = cluster.elect();
    cluster.run_ms(300);
    let behind = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    cluster.crash(behind);
    (1..=200).for_each(|request| {
        cluster.submit(leader, request);
    });
    // Both other members answer with a different history.
    for id in cluster.ids().into_iter().filter(|id| *id != behind) {
        cluster.members.get_mut(&id).unwrap().disk.forge(100);
    }
    cluster.start(behind);
    cluster.until("it catches up", |cluster| {
        cluster.replica(behind).applied() == cluster.replica(leader).applied()
    });
    cluster.run_ms(3_000);
    assert!(
        cluster.replica(behind).ledger_first() > LogIndex(100),
        "{}",
        cluster.replica(behind).ledger_first()
    );
    cluster.assert_agreement();
}

#[test]
fn a_member_that_differs_from_the_leader_halts() {
    let mut cluster = Cluster::new(3, |_| ());
    let leader = cluster.elect();
    let other = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    let replica = cluster.members.get_mut(&other).unwrap().replica.as_mut().unwrap();
    replica.corrupt_chain();
    (1..=300).for_each(|request| {
        cluster.submit(leader, request);
    });
    cluster.run_ms(500);
    assert_eq!(cluster.halts.len(), 1);
    assert_eq!(cluster.halts[0].0, other);
    assert!(cluster.halts[0].1.contains("diverged"), "{}", cluster.halts[0].1);
    assert!(cluster.replica(other).halted().is_some() && cluster.leader() == Some(leader));
}
