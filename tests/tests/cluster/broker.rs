//! The broker: absent, restarted, hanging, and the embedded one instead of `nats-server`.

use crate::{await_end, await_running, leader_api};
use muster_protocol::outcome::Terminal;
use muster_protocol::spec::{Noop, Work};
use muster_tests::cluster::api::{job_of, new_request, process_of, stage_of};
use muster_tests::cluster::{BrokerKind, Cluster, Shape, wait_for};

#[test]
fn a_restarted_broker_loses_nothing_and_restarts_nothing() {
    let mut cluster = Cluster::start(Shape { coordinators: 3, workers: 2, ..Shape::default() }).unwrap();
    let api = leader_api(&cluster);
    let sleepers = api
        .submit(&job_of("sleepers", stage_of("sleep", 2, process_of(&["sleep", "1000"]))), new_request())
        .unwrap();
    let before = await_running(&cluster, sleepers);
    let noops =
        api.submit(&job_of("noops", stage_of("only", 5_000, Work::Noop(Noop {}))), new_request()).unwrap();
    cluster.kill_broker();
    // Jobs are accepted without a broker, and run when there is one again.
    let meanwhile =
        api.submit(&job_of("meanwhile", stage_of("only", 10, Work::Noop(Noop {}))), new_request()).unwrap();
    cluster.start_broker().unwrap();
    for job in [noops, meanwhile] {
        assert_eq!(await_end(&cluster, job).terminal, Some(Terminal::Succeeded));
    }
    let after = leader_api(&cluster).tasks(sleepers).unwrap();
    let attempts = |tasks: &[muster_protocol::view::TaskView]| {
        tasks.iter().map(|task| (task.attempt, task.state.clone())).collect::<Vec<_>>()
    };
    assert_eq!(attempts(&after), attempts(&before));
}

#[test]
fn a_broker_that_hangs_delays_and_loses_nothing() {
    let cluster = Cluster::start(Shape { coordinators: 1, workers: 2, ..Shape::default() }).unwrap();
    let api = leader_api(&cluster);
    let sleepers = api
        .submit(&job_of("sleepers", stage_of("sleep", 2, process_of(&["sleep", "1000"]))), new_request())
        .unwrap();
    let before = await_running(&cluster, sleepers);
    cluster.broker().freeze();
    // The job is accepted although no worker can receive it, and the workers become suspect.
    let job =
        api.submit(&job_of("meanwhile", stage_of("only", 500, Work::Noop(Noop {}))), new_request()).unwrap();
    wait_for("the workers to be suspect", || {
        let liveness: Vec<_> = api
            .workers()
            .map_err(|error| error.to_string())?
            .iter()
            .map(|worker| worker.liveness.word())
            .collect();
        if liveness.contains(&"suspect") { Ok(()) } else { Err(format!("{liveness:?}")) }
    });
    cluster.broker().thaw();
    assert_eq!(await_end(&cluster, job).terminal, Some(Terminal::Succeeded));
    let after = leader_api(&cluster).tasks(sleepers).unwrap();
    for (now, then) in after.iter().zip(&before) {
        assert_eq!((now.attempt, now.state.as_str()), (then.attempt, "running"), "nothing was restarted");
    }
}

#[test]
fn an_absent_broker_is_reported_and_waited_for() {
    let mut cluster = Cluster::start(Shape { coordinators: 1, workers: 1, ..Shape::default() }).unwrap();
    cluster.kill_broker();
    cluster.kill_coordinator(0);
    cluster.start_coordinator(0).unwrap();
    let bus = wait_for("a status that says so", || {
        let status = cluster.api(0).status().map_err(|error| error.to_string())?;
        if status.role == "leader" && status.bus != "connected" { Ok(status.bus) } else { Err(status.bus) }
    });
    assert!(!bus.is_empty());
    let job = leader_api(&cluster)
        .submit(&job_of("early", stage_of("only", 3, Work::Noop(Noop {}))), new_request())
        .unwrap();
    cluster.start_broker().unwrap();
    assert_eq!(await_end(&cluster, job).terminal, Some(Terminal::Succeeded));
}

#[test]
fn the_embedded_broker_carries_a_cluster() {
    let cluster = Cluster::start(Shape {
        coordinators: 1,
        workers: 2,
        broker: BrokerKind::Embedded,
        ..Shape::default()
    })
    .unwrap();
    let job = leader_api(&cluster)
        .submit(&job_of("noops", stage_of("only", 2_000, Work::Noop(Noop {}))), new_request())
        .unwrap();
    let ended = await_end(&cluster, job);
    assert_eq!((ended.terminal, ended.tasks.succeeded), (Some(Terminal::Succeeded), 2_000));
}
