//! Coordinators that are killed and that hang.

use crate::{await_end, await_running, leader_api};
use muster_protocol::outcome::Terminal;
use muster_protocol::spec::{Noop, Work};
use muster_tests::cluster::api::{job_of, new_request, process_of, stage_of};
use muster_tests::cluster::{Cluster, Shape, wait_for};

#[test]
fn a_killed_leader_loses_nothing_and_restarts_nothing() {
    let mut cluster = Cluster::start(Shape::default()).unwrap();
    let sleepers = leader_api(&cluster)
        .submit(&job_of("sleepers", stage_of("sleep", 3, process_of(&["sleep", "1000"]))), new_request())
        .unwrap();
    let before = await_running(&cluster, sleepers);
    let spec = job_of("acknowledged", stage_of("only", 1, Work::Noop(Noop {})));
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let leader = cluster.leader();
        for _ in 0..20 {
            let request = new_request();
            acknowledged.push((request, cluster.api(leader).submit(&spec, request).unwrap()));
        }
        cluster.kill_coordinator(leader);
        let next = cluster.leader();
        assert_ne!(next, leader, "round {round}");
        cluster.start_coordinator(leader).unwrap();
    }
    for (request, job) in &acknowledged {
        assert_eq!(await_end(&cluster, *job).terminal, Some(Terminal::Succeeded));
        // A repeated request gets its first answer from every leader.
        assert_eq!(leader_api(&cluster).submit(&spec, *request).unwrap(), *job);
    }
    let after = leader_api(&cluster).tasks(sleepers).unwrap();
    for (now, then) in after.iter().zip(&before) {
        assert_eq!((now.attempt, now.state.as_str()), (then.attempt, "running"));
    }
    let until = leader_api(&cluster).status().unwrap().applied;
    let replays: Vec<_> = (0..3)
        .map(|index| {
            wait_for("every ledger to reach that index", || {
                let status = cluster.api(index).status().map_err(|error| error.to_string())?;
                if status.applied < until {
                    return Err(status.applied.to_string());
                }
                cluster.api(index).replay_until(until).map_err(|error| error.to_string())
            })
        })
        .collect();
    for replay in &replays {
        assert_eq!(
            (replay.state_hash, replay.chain, replay.verified),
            (replays[0].state_hash, replays[0].chain, Some(true))
        );
    }
}

#[test]
fn a_hanging_leader_is_replaced_and_steps_down_when_it_resumes() {
    let mut cluster = Cluster::start(Shape::default()).unwrap();
    let sleeper = leader_api(&cluster)
        .submit(&job_of("sleeper", stage_of("sleep", 1, process_of(&["sleep", "1000"]))), new_request())
        .unwrap();
    let before = await_running(&cluster, sleeper);
    let old = cluster.leader();
    cluster.coordinator(old).freeze();
    let others: Vec<usize> = (0..3).filter(|index| *index != old).collect();
    let new = wait_for("another leader", || {
        let leaders: Vec<_> = others
            .iter()
            .map(|index| cluster.api(*index).status().map(|status| status.leader).unwrap_or_default())
            .collect();
        let agreed =
            others.iter().find(|index| leaders.iter().all(|leader| *leader == cluster.member(**index).name));
        agreed.copied().ok_or(leaders)
    });
    let job = cluster
        .api(new)
        .submit(&job_of("later", stage_of("only", 1, Work::Noop(Noop {}))), new_request())
        .unwrap();
    cluster.coordinator(old).thaw();
    wait_for("the old leader to follow", || {
        let status = cluster.api(old).status().map_err(|error| error.to_string())?;
        if status.role == "follower" && !status.leader.is_empty() { Ok(()) } else { Err(status.role) }
    });
    assert_eq!(await_end(&cluster, job).terminal, Some(Terminal::Succeeded));
    let after = leader_api(&cluster).tasks(sleeper).unwrap();
    assert_eq!(after[0].attempt, before[0].attempt);
}

#[test]
fn all_coordinators_killed_at_once_recover_everything() {
    let mut cluster = Cluster::start(Shape::default()).unwrap();
    let api = leader_api(&cluster);
    let spec = job_of("kept", stage_of("only", 5, Work::Noop(Noop {})));
    let jobs: Vec<_> = (0..50).map(|_| api.submit(&spec, new_request()).unwrap()).collect();
    for index in 0..3 {
        cluster.kill_coordinator(index);
    }
    for index in 0..3 {
        cluster.start_coordinator(index).unwrap();
    }
    for job in jobs {
        assert_eq!(await_end(&cluster, job).terminal, Some(Terminal::Succeeded));
    }
}
