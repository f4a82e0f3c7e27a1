//! Kills a worker's agent. Measures the time until all its tasks run again on other workers, with default
//! settings.

use crate::sample::{Figures, Sample};
use muster_protocol::ids::WorkerId;
use muster_protocol::view::TaskView;
use muster_tests::cluster::api::{Api, job_of, new_request, process_of, stage_of};
use muster_tests::cluster::{Cluster, Shape, wait_for};
use serde_json::json;
use std::time::Instant;

/// Tasks that run while workers are killed.
const TASKS: u32 = 6;

/// Kills the busiest of three workers, again and again.
pub fn measure(kills: usize, figures: &mut Figures) {
    let shape = Shape { workers: 3, ..Shape::default() };
    let mut cluster = Cluster::start(shape).expect("a cluster starts");
    let api = cluster.api(cluster.leader());
    let mut stage = stage_of("sleep", TASKS, process_of(&["sleep", "100000"]));
    stage.request.cpu_milli = 1_000;
    let job = api.submit(&job_of("sleepers", stage), new_request()).expect("a quiet cluster takes a job");
    let mut sample = Sample::default();
    let mut moved = 0;
    while moved < kills {
        let before = wait_for("all tasks to run", || all_running(&api, job));
        // The worker that runs the most.
        let workers = api.workers().expect("the leader answers");
        let victim =
            workers.iter().max_by_key(|worker| on(&before, worker.id).len()).expect("there are workers");
        let index: usize =
            victim.name[1..].parse::<usize>().expect("the harness names workers w1, w2, …") - 1;
        let lost = on(&before, victim.id);
        let killed = Instant::now();
        cluster.kill_worker(index);
        wait_for("the lost tasks to run again", || {
            let now = all_running(&api, job)?;
            let again = |task: &&TaskView| {
                now.iter().any(|other| other.id == task.id && other.attempt > task.attempt)
            };
            if lost.iter().all(|task| again(&task)) { Ok(()) } else { Err(format!("{} are not", lost.len())) }
        });
        sample.add(killed.elapsed());
        moved += 1;
        cluster.start_worker(index).expect("the worker starts again");
        cluster.await_workers(shape.workers);
    }
    figures.insert(
        "worker_lost_s".to_string(),
        json!({ "p50": sample.percentile_s(50), "max": sample.percentile_s(100) }),
    );
}

fn all_running(api: &Api, job: muster_protocol::ids::JobId) -> Result<Vec<TaskView>, String> {
    let tasks = api.tasks(job).map_err(|error| error.to_string())?;
    let states: Vec<(String, String)> =
        tasks.iter().map(|task| (format!("{:?}", task.attempt), task.state.clone())).collect();
    if tasks.iter().all(|task| task.state == "running") { Ok(tasks) } else { Err(format!("{states:?}")) }
}

fn on(tasks: &[TaskView], worker: WorkerId) -> Vec<TaskView> {
    tasks.iter().filter(|task| task.worker == Some(worker)).cloned().collect()
}
