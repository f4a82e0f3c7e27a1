//! Attempts: how they end, what stays of them, and how gangs restart.

use crate::{await_end, await_running, leader_api, task};
use muster_protocol::ids::TaskId;
use muster_protocol::outcome::Terminal;
use muster_protocol::spec::RetryPolicy;
use muster_tests::cluster::api::{job_of, new_request, process_of, stage_of};
use muster_tests::cluster::process::is_alive;
use muster_tests::cluster::{Cluster, Shape, wait_for};
use std::fs;

#[test]
fn exit_codes_signals_and_absent_programs_are_recorded() {
    let cluster = Cluster::start(Shape { coordinators: 1, workers: 1, ..Shape::default() }).unwrap();
    let api = leader_api(&cluster);
    let table: &[(&[&str], &str)] = &[
        (&["true"], "Succeeded"),
        (&["sh", "-c", "exit 7"], "exit_code: Some(7)"),
        (&["sh", "-c", "kill -SEGV $$"], "signal: Some(11)"),
        (&["/no/such/program"], "NotStarted"),
    ];
    for (argv, expected) in table {
        let job = api.submit(&job_of("ends", stage_of("only", 1, process_of(argv))), new_request()).unwrap();
        await_end(&cluster, job);
        let outcome = format!(
            "{:?}",
            task(&cluster, TaskId { job, index: 0 }).outcome.expect("an ended task has an outcome")
        );
        assert!(outcome.contains(expected), "{argv:?}: {outcome}");
    }
}

#[test]
fn a_failed_attempt_is_tried_again_and_its_output_stays() {
    let cluster = Cluster::start(Shape { coordinators: 1, workers: 1, ..Shape::default() }).unwrap();
    let api = leader_api(&cluster);
    let marker = cluster.directory().join("second-time");
    let script = format!("test -e {0} && exit 0; touch {0}; echo first; exit 3", marker.display());
    let mut stage = stage_of("flaky", 1, process_of(&["sh", "-c", &script]));
    stage.retry = RetryPolicy { retries: 2, backoff_ms: 50, backoff_ms_max: 100 };
    let job = api.submit(&job_of("flaky", stage), new_request()).unwrap();
    let ended = await_end(&cluster, job);
    assert_eq!(ended.terminal, Some(Terminal::Succeeded));
    let only = task(&cluster, TaskId { job, index: 0 });
    assert_eq!((only.attempt.map(|attempt| attempt.epoch), only.retries), (Some(2), 1));
}

#[test]
fn a_cancel_and_a_timeout_end_the_whole_process_group() {
    let cluster = Cluster::start(Shape { coordinators: 1, workers: 1, ..Shape::default() }).unwrap();
    let api = leader_api(&cluster);
    for (name, timeout_ms) in [("cancelled", 0), ("timed-out", 1_500)] {
        let pids = cluster.directory().join(format!("{name}.pids"));
        // A child that ignores SIGTERM, in the same group.
        let script = format!(
            "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ >> {0}; while :; do sleep 1; done' & echo $$ >> {0}; wait",
            pids.display()
        );
        let mut stage = stage_of("stubborn", 1, process_of(&["sh", "-c", &script]));
        stage.timeout_ms = timeout_ms;
        stage.grace_ms = 300;
        let job = api.submit(&job_of(name, stage), new_request()).unwrap();
        let processes = wait_for("both processes", || {
            let read: Vec<u32> = fs::read_to_string(&pids)
                .unwrap_or_default()
                .lines()
                .filter_map(|line| line.parse().ok())
                .collect();
            if read.len() == 2 { Ok(read) } else { Err(read.len()) }
        });
        if timeout_ms == 0 {
            api.cancel(job).unwrap();
        }
        let ended = await_end(&cluster, job);
        let expected = if timeout_ms == 0 { Terminal::Cancelled } else { Terminal::Failed };
        assert_eq!(ended.terminal, Some(expected), "{ended:?}");
        wait_for("the whole group to end", || {
            let left: Vec<u32> = processes.iter().copied().filter(|pid| is_alive(*pid)).collect();
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
    }
}

#[test]
fn a_gang_starts_whole_and_restarts_whole() {
    let cluster = Cluster::start(Shape { coordinators: 1, workers: 2, ..Shape::default() }).unwrap();
    let api = leader_api(&cluster);
    let file = cluster.directory().join("seen");
    let script = format!(
        "echo $MUSTER_RANK $MUSTER_WORLD_SIZE $MUSTER_RENDEZVOUS $MASTER_ADDR:$MASTER_PORT >> {}; exec sleep 1000",
        file.display()
    );
    let mut stage = stage_of("ranks", 2, process_of(&["sh", "-c", &script]));
    stage.gang = true;
    stage.request.cpu_milli = 3_000;
    stage.retry = RetryPolicy { retries: 3, backoff_ms: 50, backoff_ms_max: 100 };
    let job = api.submit(&job_of("gang", stage), new_request()).unwrap();
    let first = await_running(&cluster, job);
    assert_ne!(first[0].worker, first[1].worker, "3 of 4 CPUs each: one rank per worker");
    let lines = wait_for("a line from both ranks", || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        if text.lines().count() == 2 { Ok(text) } else { Err(text) }
    });
    for line in lines.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[1], "2", "{line}");
        assert_eq!(words[2], words[3], "{line}");
    }
    // One rank dies of a signal: all ranks get a new attempt.
    let events = api.events(1).unwrap();
    let pid = events.iter().find_map(|event| match &event.event {
        muster_protocol::event::Event::AttemptStarted(started)
            if Some(started.attempt) == first[1].attempt =>
        {
            Some(started.pid)
        }
        _ => None,
    });
    let pid = pid.expect("a started attempt has a pid");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid as i32).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    wait_for("the gang's second formation", || {
        let now = leader_api(&cluster).tasks(job).map_err(|error| error.to_string())?;
        let again =
            now.iter().zip(&first).all(|(now, then)| now.attempt > then.attempt && now.state == "running");
        if again {
            Ok(())
        } else {
            Err(format!("{:?}", now.iter().map(|task| (&task.state, task.attempt)).collect::<Vec<_>>()))
        }
    });
    assert_eq!(leader_api(&cluster).job(job).unwrap().stages[0].formations, 2);
}
