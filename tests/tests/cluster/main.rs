//! End-to-end tests with real processes: clusters whose parts are killed, hang, receive garbage, or find
//! their files damaged.
//!
//! One file per kind of failure. Every test starts its own cluster on loopback, waits for progress, and ends
//! its processes by id.

mod annotate;
mod attempts;
mod broker;
mod cli_contract;
mod coordinators;
mod data_dirs;
mod data_prep;
mod garbage;
mod logs;
mod training;
mod training_failures;
mod workers;

use muster_protocol::ids::{JobId, TaskId};
use muster_protocol::view::{JobView, TaskView};
use muster_tests::cluster::api::Api;
use muster_tests::cluster::{Cluster, wait_for};

fn leader_api(cluster: &Cluster) -> Api {
    cluster.api(cluster.leader())
}

/// Waits until a job has ended, across changes of leader.
fn await_end(cluster: &Cluster, job: JobId) -> JobView {
    wait_for(&format!("the end of {job}"), || {
        let view = leader_api(cluster).job(job).map_err(|error| error.to_string())?.job;
        if view.terminal.is_some() { Ok(view) } else { Err(format!("{:?}", view.tasks)) }
    })
}

/// Waits until all tasks of a job run, and returns them.
fn await_running(cluster: &Cluster, job: JobId) -> Vec<TaskView> {
    wait_for(&format!("{job} to run"), || {
        let tasks = leader_api(cluster).tasks(job).map_err(|error| error.to_string())?;
        let states: Vec<_> = tasks.iter().map(|task| (task.attempt, task.state.clone())).collect();
        if !tasks.is_empty() && tasks.iter().all(|task| task.state == "running") {
            Ok(tasks)
        } else {
            Err(format!("{states:?}"))
        }
    })
}

/// A task as the leader sees it; waits for a leader that answers.
fn task(cluster: &Cluster, task: TaskId) -> TaskView {
    wait_for("the task", || leader_api(cluster).task(task).map_err(|error| error.to_string()))
}
