//! Workers that are killed, hang, drain and restart.

use crate::{await_end, await_running, leader_api};
use muster_protocol::outcome::Terminal;
use muster_protocol::view::TaskView;
use muster_tests::cluster::api::{job_of, new_request, process_of, stage_of};
use muster_tests::cluster::process::is_alive;
use muster_tests::cluster::{Cluster, Shape, wait_for};
use std::fs;

/// The process ids that tasks wrote into `file`, one per line.
fn pids(file: &std::path::Path) -> Vec<u32> {
    fs::read_to_string(file).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
}

fn placed(tasks: &[TaskView], worker: &str) -> usize {
    tasks.iter().filter(|task| task.worker_name.as_deref() == Some(worker)).count()
}

#[test]
fn attempts_die_with_a_killed_agent_and_run_elsewhere() {
    let mut cluster = Cluster::start(Shape::default()).unwrap();
    let file = cluster.directory().join("pids");
    let script = format!("echo $$ >> {}; exec sleep 1000", file.display());
    let job = leader_api(&cluster)
        .submit(&job_of("sleepers", stage_of("sleep", 4, process_of(&["sh", "-c", &script]))), new_request())
        .unwrap();
    let before = await_running(&cluster, job);
    let (first, second) = (placed(&before, "w1"), placed(&before, "w2"));
    assert!(first > 0 && second > 0, "equal tasks are spread: {first}, {second}");
    cluster.kill_worker(0);
    let after = wait_for("all of them on the other worker", || {
        let tasks = leader_api(&cluster).tasks(job).map_err(|error| error.to_string())?;
        let there = tasks
            .iter()
            .filter(|task| task.state == "running" && task.worker_name.as_deref() == Some("w2"))
            .count();
        if there == 4 { Ok(tasks) } else { Err(there.to_string()) }
    });
    assert!(after.iter().all(|task| task.retries == 0), "a lost worker costs no retry");
    let live = pids(&file).into_iter().filter(|pid| is_alive(*pid)).count();
    assert_eq!(live, 4, "no process of the killed agent is left");
    for (now, then) in after.iter().zip(&before).filter(|(_, then)| then.worker_name.as_deref() == Some("w2"))
    {
        assert_eq!(now.attempt, then.attempt, "what ran on the other worker was not touched");
    }
}

#[test]
fn a_hanging_worker_is_fenced_before_its_work_starts_elsewhere() {
    let mut cluster = Cluster::start(Shape::default()).unwrap();
    let file = cluster.directory().join("pids");
    let script = format!("echo $$ >> {}; exec sleep 1000", file.display());
    let mut stage = stage_of("sleep", 1, process_of(&["sh", "-c", &script]));
    stage.request.cpu_milli = 4_000;
    let job = leader_api(&cluster).submit(&job_of("sleeper", stage), new_request()).unwrap();
    let before = await_running(&cluster, job);
    let index = if before[0].worker_name.as_deref() == Some("w1") { 0 } else { 1 };
    cluster.worker(index).freeze();
    wait_for("a second attempt", || {
        let tasks = leader_api(&cluster).tasks(job).map_err(|error| error.to_string())?;
        let moved = tasks[0].attempt > before[0].attempt && tasks[0].state == "running";
        if moved { Ok(()) } else { Err(tasks[0].state.clone()) }
    });
    cluster.worker(index).thaw();
    // It resumes, finds that its lease has expired, ends its attempts, and is registered again.
    let old = pids(&file)[0];
    wait_for("the first attempt's end", || if is_alive(old) { Err("it is alive") } else { Ok(()) });
    cluster.await_workers(2);
    let now = leader_api(&cluster).tasks(job).unwrap();
    assert_eq!((now[0].state.as_str(), now[0].attempt.map(|attempt| attempt.epoch)), ("running", Some(2)));
}

#[test]
fn a_worker_drains_on_sigterm_and_keeps_its_id_after_a_restart() {
    let mut cluster = Cluster::start(Shape::default()).unwrap();
    let id = |cluster: &Cluster| {
        leader_api(cluster)
            .workers()
            .unwrap()
            .iter()
            .find(|worker| worker.name == "w1")
            .map(|worker| worker.id)
    };
    let before = id(&cluster);
    let job = leader_api(&cluster)
        .submit(&job_of("short", stage_of("only", 4, process_of(&["sleep", "2"]))), new_request())
        .unwrap();
    let running = await_running(&cluster, job);
    cluster.worker(0).terminate();
    let exit = wait_for("the agent's exit", || cluster.worker(0).exit().ok_or(()));
    assert!(exit.success(), "{exit:?}");
    let ended = await_end(&cluster, job);
    assert_eq!(ended.terminal, Some(Terminal::Succeeded));
    let after = leader_api(&cluster).tasks(job).unwrap();
    for (now, then) in after.iter().zip(&running) {
        assert_eq!(now.attempt, then.attempt, "a drain lets running attempts finish");
    }
    cluster.start_worker(0).unwrap();
    cluster.await_workers(2);
    assert_eq!(id(&cluster), before);
}
