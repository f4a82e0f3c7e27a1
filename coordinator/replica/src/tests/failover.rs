//! Elections, commits, crashes, and answers to clients.

use super::cluster::{Cluster, submit};
use crate::apply::POISON;
use crate::{CommandError, Input, PeerMessage, RaftBytes, Role};
use muster_machine::views;
use muster_protocol::envelope::{Accepted, Answer, Rejected, Reply, Submitted};
use muster_protocol::ids::{JobId, LogIndex, RaftId};
use muster_protocol::limits::COMMIT_TIMEOUT_MS;
use muster_protocol::rejection::Rejection;

fn job_of(cluster: &Cluster, token: u64) -> JobId {
    match &cluster.answers[&token] {
        Ok(Answer::Accepted(Accepted { reply: Reply::Submitted(Submitted { job }), .. })) => *job,
        other => panic!("not a submitted job: {other:?}"),
    }
}

#[test]
fn three_members_elect_commit_and_answer() {
    let mut cluster = Cluster::new(3, |_| ());
    let leader = cluster.elect();
    let tokens: Vec<u64> = (1..=5).map(|request| cluster.submit(leader, request)).collect();
    assert!(tokens.iter().all(|token| cluster.answers.contains_key(token)), "answered without a tick");
    assert_eq!(job_of(&cluster, tokens[4]), JobId(5));
    let again = cluster.submit(leader, 3);
    assert_eq!(
        cluster.answers[&again], cluster.answers[&tokens[2]],
        "a repeated request gets its first answer"
    );
    let follower = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    let refused = cluster.submit(follower, 9);
    assert_eq!(cluster.answers[&refused], Err(CommandError::NotLeader { leader: Some(leader) }));
    cluster.run_ms(300);
    let status = cluster.replica(follower).status();
    assert_eq!(
        (status.role.as_str(), status.open_jobs, status.leader.as_str()),
        ("follower", 5, format!("c{}", leader.0).as_str())
    );
    assert!(
        cluster.ids().iter().all(|id| cluster.replica(*id).applied() == cluster.replica(leader).applied())
    );
    cluster.assert_agreement();
}

#[test]
fn a_single_member_leads_at_once() {
    let mut cluster = Cluster::new(1, |_| ());
    assert_eq!(cluster.leader(), Some(RaftId(1)));
    let token = cluster.submit(RaftId(1), 1);
    assert_eq!(job_of(&cluster, token), JobId(1));
    cluster.crash(RaftId(1));
    cluster.start(RaftId(1));
    assert_eq!(views::open_jobs(cluster.replica(RaftId(1)).state()), 1);
    assert_eq!(cluster.leader(), Some(RaftId(1)));
}

#[test]
fn acknowledged_commands_survive_a_power_loss_of_all_members() {
    let mut cluster = Cluster::new(3, |_| ());
    let leader = cluster.elect();
    let tokens: Vec<u64> = (1..=20).map(|request| cluster.submit(leader, request)).collect();
    let before = cluster.replica(leader).state().chain();
    for id in cluster.ids() {
        cluster.crash(id);
    }
    for id in cluster.ids() {
        cluster.start(id);
    }
    let leader = cluster.elect();
    let state = cluster.replica(leader).state();
    assert!(tokens.iter().all(|token| views::job(state, job_of(&cluster, *token)).is_some()));
    assert!(state.chain().index > before.index);
    cluster.run_ms(300);
    cluster.assert_agreement();
}

#[test]
fn another_member_takes_over_and_log_time_goes_on() {
    let mut cluster = Cluster::new(3, |_| ());
    let first = cluster.elect();
    cluster.run_ms(5_000);
    cluster.submit(first, 1);
    let before = cluster.replica(first).state().now().log_ms;
    assert!(before.0 >= 4_900, "{before:?}");
    let killed_ms = cluster.mono_ms;
    cluster.crash(first);
    cluster.until("another leads", |cluster| cluster.leader().is_some_and(|leader| leader != first));
    assert!(cluster.mono_ms - killed_ms < 2_000, "after {} ms", cluster.mono_ms - killed_ms);
    let second = cluster.leader().unwrap();
    cluster.submit(second, 2);
    let after = cluster.replica(second).state().now().log_ms;
    assert!(
        after >= before && after.0 < before.0 + 500,
        "time stands still without a leader: {before:?} {after:?}"
    );
    cluster.start(first);
    cluster.run_ms(1_000);
    assert_eq!(cluster.replica(first).applied(), cluster.replica(second).applied());
    cluster.assert_agreement();
}

#[test]
fn a_leader_that_is_cut_off_acknowledges_nothing() {
    let mut cluster = Cluster::new(3, |_| ());
    let old = cluster.elect();
    cluster.cut.insert(old);
    let token = cluster.submit(old, 1);
    assert!(!cluster.answers.contains_key(&token));
    cluster.until("it steps down", |cluster| cluster.replica(old).role() != Role::Leader);
    assert_eq!(cluster.answers[&token], Err(CommandError::OutcomeUnknown));
    let new = cluster.elect();
    let token = cluster.submit(new, 2);
    assert_eq!(job_of(&cluster, token), JobId(1));
    cluster.cut.clear();
    cluster.run_ms(2_000);
    cluster.assert_agreement();
    assert_eq!(cluster.replica(old).applied(), cluster.replica(new).applied());
    assert_eq!(views::open_jobs(cluster.replica(old).state()), 1, "what was not committed is gone");
}

#[test]
fn a_command_on_which_decide_panics_changes_nothing_and_others_continue() {
    let mut cluster = Cluster::new(3, |_| ());
    let leader = cluster.elect();
    // Three commands in one entry: all are queued before the replica settles.
    let mut poison = submit(2, 1);
    poison.client = POISON.to_string();
    let now = cluster.now();
    let replica = cluster.members.get_mut(&leader).unwrap().replica.as_mut().unwrap();
    for (token, envelope) in [(101, submit(1, 1)), (102, poison), (103, submit(3, 1))] {
        replica.handle(now, Input::Command { token, envelope }, &mut |output| panic!("{output:?}"));
    }
    cluster.run_ms(300);
    assert_eq!([job_of(&cluster, 101), job_of(&cluster, 103)], [JobId(1), JobId(2)]);
    match &cluster.answers[&102] {
        Ok(Answer::Rejected(Rejected { rejection: Rejection::Faulted(_), .. })) => {}
        other => panic!("{other:?}"),
    }
    cluster.assert_agreement();
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    let run = || {
        let mut cluster = Cluster::new(3, |_| ());
        let leader = cluster.elect();
        (1..=5).for_each(|request| {
            cluster.submit(leader, request);
        });
        cluster.crash(leader);
        cluster.elect();
        cluster.start(leader);
        cluster.run_ms(2_000);
        cluster.trace
    };
    let (first, second) = (run(), run());
    assert!(first.len() > 100);
    assert_eq!(first, second);
}

#[test]
fn a_full_disk_refuses_clients_only() {
    let mut cluster = Cluster::new(1, |_| ());
    cluster.members.get_mut(&RaftId(1)).unwrap().disk.free_bytes = 1 << 20;
    cluster.run_ms(1_500);
    let token = cluster.submit(RaftId(1), 1);
    assert_eq!(cluster.answers[&token], Err(CommandError::DiskFull));
    cluster.members.get_mut(&RaftId(1)).unwrap().disk.free_bytes = 1 << 40;
    cluster.run_ms(1_500);
    let token = cluster.submit(RaftId(1), 1);
    assert_eq!(job_of(&cluster, token), JobId(1));
}

#[test]
fn invalid_bytes_from_a_peer_change_nothing() {
    let mut cluster = Cluster::new(3, |_| ());
    let leader = cluster.elect();
    let before = cluster.replica(leader).applied();
    for bytes in [vec![], vec![0xff; 40], vec![8, 2], (0..200).collect()] {
        let message = PeerMessage::Raft(RaftBytes { bytes });
        for from in [RaftId(1), RaftId(2), RaftId(3), RaftId(99)] {
            cluster.drive(leader, Some(Input::Peer { from, message: message.clone() }));
        }
    }
    cluster.run_ms(500);
    assert_eq!(cluster.replica(leader).applied(), before);
    assert_eq!(cluster.leader(), Some(leader));
    assert!(cluster.halts.is_empty());
}

#[test]
fn a_member_that_lost_its_disk_halts_instead_of_voting_again() {
    let mut cluster = Cluster::new(3, |_| ());
    let leader = cluster.elect();
    cluster.submit(leader, 1);
    cluster.run_ms(300);
    let wiped = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    cluster.crash(wiped);
    cluster.members.get_mut(&wiped).unwrap().disk = super::memory_disk::MemoryDisk::new();
    cluster.start(wiped);
    cluster.until("it halts", |cluster| !cluster.halts.is_empty());
    assert_eq!(cluster.halts[0].0, wiped);
    assert!(cluster.halts[0].1.contains("data directory was lost"), "{}", cluster.halts[0].1);
    assert_eq!(cluster.replica(leader).applied(), LogIndex(3));
}

#[test]
fn without_a_majority_a_client_is_told_that_the_outcome_is_unknown() {
    // Elections are so slow that the leader does not step down before its clients time out.
    let mut cluster = Cluster::new(3, |config| {
        config.election_ticks_min = 400;
        config.election_ticks_max = 420;
    });
    let leader = cluster.elect();
    cluster.ids().into_iter().filter(|id| *id != leader).for_each(|id| {
        cluster.cut.insert(id);
    });
    let token = cluster.submit(leader, 1);
    cluster.run_ms(COMMIT_TIMEOUT_MS - 1_000);
    assert!(!cluster.answers.contains_key(&token));
    cluster.run_ms(2_000);
    assert_eq!(cluster.answers[&token], Err(CommandError::OutcomeUnknown));
}
