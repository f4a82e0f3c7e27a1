//! A data set is the same for any number of workers, and after kills of workers.

use crate::{await_end, leader_api};
use muster_protocol::ids::{JobId, StageIndex};
use muster_protocol::outcome::{Outcome, Terminal};
use muster_protocol::spec::{BuiltinWork, JobSpec, RetryPolicy, StageSpec, Work};
use muster_tests::cluster::api::{new_request, stage_of};
use muster_tests::cluster::{Cluster, Shape, wait_for};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Rows of the corpus: some near duplicates, some exact duplicates, one malformed.
const ROWS: u64 = 400;
/// Runs with kills, and kills of each.
const RUNS: usize = 5;
const KILLS_PER_RUN: usize = 4;

fn corpus(dir: &Path) {
    let text = |number: u64, changed: bool| {
        let word = |place: u64| {
            let drawn = (number * 1_000 + place).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            if changed && place == 50 { "changed".to_string() } else { format!("w{drawn}") }
        };
        (0..100).map(word).collect::<Vec<_>>().join(" ")
    };
    let row = |number: u64| {
        json!({"text": text(number - number % 10 % 7 / 6, number % 10 == 6)}).to_string() + "\n"
    };
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("rows.jsonl"), (0..ROWS).map(row).collect::<String>() + "no row\n").unwrap();
}

fn job(dir: &Path) -> JobSpec {
    let scan = json!({"roots": [dir], "format": "jsonl", "filters": "none", "block_kib": 8, "step_kib": 32, "max_mib": 1});
    let tokenizer = json!({"vocab_size": 600, "sample_mib": 1, "choose_stage": "choose"});
    let stages = [
        ("scan", "data.scan", 4, scan),
        ("dedup", "data.dedup", 3, json!({})),
        ("choose", "data.choose", 1, json!({})),
        ("tokenizer", "data.tokenizer", 1, tokenizer),
        ("pack", "data.pack", 4, json!({"part_kib": 32})),
        ("manifest", "data.manifest", 1, json!({})),
    ];
    let stage = |(index, (name, executor, tasks, params)): (usize, (&str, &str, u32, Value))| -> StageSpec {
        let mut stage = stage_of(
            name,
            tasks,
            Work::Builtin(BuiltinWork { executor: executor.to_string(), params: params.to_string() }),
        );
        stage.needs = index.checked_sub(1).map(|before| StageIndex(before as u16)).into_iter().collect();
        stage.request.cpu_milli = 1_000;
        stage.retry = RetryPolicy { retries: 5, backoff_ms: 50, backoff_ms_max: 100 };
        stage
    };
    let stages = stages.into_iter().enumerate().map(stage).collect();
    JobSpec { name: "prepare".to_string(), priority: 0, params: r#"{"seed": 3}"#.to_string(), stages }
}

/// The output of the last stage, once the job has succeeded.
fn result(cluster: &Cluster, job: JobId) -> Value {
    assert_eq!(await_end(cluster, job).terminal, Some(Terminal::Succeeded));
    let tasks = leader_api(cluster).tasks(job).unwrap();
    match tasks.last().and_then(|task| task.outcome.clone()) {
        Some(Outcome::Succeeded(succeeded)) => serde_json::from_str(&succeeded.output).unwrap(),
        other => panic!("the manifest's outcome is {other:?}"),
    }
}

/// The number of tasks that have ended.
fn ended(cluster: &Cluster, job: JobId) -> Result<usize, String> {
    let tasks = leader_api(cluster).tasks(job).map_err(|error| error.to_string())?;
    Ok(tasks.iter().filter(|task| task.outcome.is_some()).count())
}

#[test]
fn a_data_set_does_not_depend_on_workers_or_kills() {
    let mut cluster =
        Cluster::start(Shape { coordinators: 1, workers: 1, worker_cpus: 2, ..Shape::default() }).unwrap();
    let dir = cluster.directory().join("corpus");
    corpus(&dir);
    let spec = job(&dir);
    let tasks: usize = spec.stages.iter().map(|stage| stage.tasks as usize).sum();
    let submit = |cluster: &Cluster| leader_api(cluster).submit(&spec, new_request()).unwrap();

    let alone = result(&cluster, submit(&cluster));
    assert_eq!(
        (alone["seen"].as_u64(), alone["documents"].as_u64()),
        (Some(ROWS + 1), Some(ROWS - ROWS / 10))
    );
    for workers in [2, 4] {
        while cluster.worker_count() < workers {
            cluster.start_worker(cluster.worker_count()).unwrap();
        }
        cluster.await_workers(workers);
        assert_eq!(result(&cluster, submit(&cluster)), alone, "{workers} workers");
    }

    let mut random = ChaCha8Rng::seed_from_u64(11);
    for run in 0..RUNS {
        let job = submit(&cluster);
        let mut moments: Vec<usize> = (0..KILLS_PER_RUN).map(|_| random.random_range(0..tasks)).collect();
        moments.sort_unstable();
        for moment in moments {
            wait_for(&format!("{moment} tasks to end in run {run}"), || match ended(&cluster, job) {
                Ok(ended) if ended >= moment => Ok(()),
                Ok(ended) => Err(ended.to_string()),
                Err(error) => Err(error),
            });
            let victim = random.random_range(0..4);
            cluster.kill_worker(victim);
            cluster.start_worker(victim).unwrap();
        }
        assert_eq!(result(&cluster, job), alone, "run {run}");
    }
}
