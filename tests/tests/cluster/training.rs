//! A training that is killed at random points, many times, ends with the same weights as an undisturbed one,
//! and uses each sample once.

use crate::{await_end, leader_api, task};
use muster_protocol::event::Event;
use muster_protocol::ids::{JobId, TaskId};
use muster_protocol::outcome::{Outcome, Terminal};
use muster_protocol::spec::{JobSpec, RetryPolicy};
use muster_tests::cluster::api::new_request;
use muster_tests::cluster::{Cluster, Shape, wait_for};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::env;
use std::path::Path;

/// Kills in a run, unless `MUSTER_KILLS` is set.
const KILLS: u64 = 20;
/// Kills in a run whose samples come from a loader, which may be killed too.
const KILLS_WITH_LOADER: u64 = 8;
/// At least this many rounds are committed between two kills, so that the training makes progress.
const ROUNDS_BETWEEN_KILLS: u64 = 1;
/// The first rank's number in the job.
const RANK_0: u32 = 4;

/// A job that trains a tiny model on the sources of `protocol` with `ranks` ranks, whose samples come from a
/// loader or are made by each rank.
fn job(name: &str, ranks: u32, steps: u64, with_loader: bool) -> JobSpec {
    let roots = json!({"roots": [concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/src")], "max_mib": 1, "held_out_per_mille": 300});
    let mut params = json!({
        "steps": steps, "context": 16, "microbatches": 4, "sequences": 1, "hidden_size": 16, "intermediate_size": 24, "layers": 1,
        "heads": 2, "kv_heads": 1, "checkpoint_every": 10, "metrics_every": 1, "shares": "equal",
    });
    if with_loader {
        params["loader_stage"] = json!("load");
    }
    let stage = |name: &str, needs: &[u16], executor: &str, params: Value| {
        json!({
            "name": name, "needs": needs, "tasks": 1,
            "work": {"type": "builtin", "executor": executor, "params": params.to_string()},
        })
    };
    let mut train = stage("train", &[3], "train", params);
    (train["tasks"], train["gang"]) = (json!(ranks), json!(ranks > 1));
    let mut stages = vec![
        stage("scan", &[], "data.scan", roots),
        stage("tokenizer", &[0], "data.tokenizer", json!({"vocab_size": 300, "sample_mib": 1})),
        stage("pack", &[1], "data.pack", json!({})),
        stage("manifest", &[2], "data.manifest", json!({})),
        train,
    ];
    if with_loader {
        stages.push(stage("load", &[3], "data.load", json!({})));
    }
    let mut spec: JobSpec = serde_json::from_value(json!({"name": name, "stages": stages})).unwrap();
    for stage in &mut spec.stages {
        stage.request.cpu_milli = if stage.name == "load" { 100 } else { 1_000 };
        stage.retry = RetryPolicy { retries: 1_000, backoff_ms: 1, backoff_ms_max: 10 };
    }
    spec
}

fn output(cluster: &Cluster, job: JobId) -> Value {
    match task(cluster, TaskId { job, index: RANK_0 }).outcome {
        Some(Outcome::Succeeded(succeeded)) => serde_json::from_str(&succeeded.output).unwrap(),
        other => panic!("{job}: {other:?}"),
    }
}

/// Rounds that rank 0 has committed, and whether the job has ended.
fn progress_of(cluster: &Cluster, job: JobId) -> Result<(u64, bool), String> {
    let api = leader_api(cluster);
    let rank_0 = api.task(TaskId { job, index: RANK_0 }).map_err(|error| error.to_string())?;
    let ended = api.job(job).map_err(|error| error.to_string())?.job.terminal.is_some();
    Ok((rank_0.progress.get("round").map_or(0, |round| round.seq), ended))
}

/// Kills the newest process of a task if it still runs; `place` counts from the first rank.
fn kill_task(cluster: &Cluster, job: JobId, place: u32) {
    let attempt =
        leader_api(cluster).task(TaskId { job, index: RANK_0 + place }).ok().and_then(|task| task.attempt);
    let events = leader_api(cluster).events(1).unwrap_or_default();
    let pid = events.iter().find_map(|event| match &event.event {
        Event::AttemptStarted(started) if Some(started.attempt) == attempt => Some(started.pid),
        _ => None,
    });
    let ours = |pid: u32| {
        let line =
            std::fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("executor")
    };
    if let Some(pid) = pid.filter(|pid| ours(*pid)).and_then(|pid| rustix::process::Pid::from_raw(pid as i32))
    {
        // It may have ended since.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

#[test]
fn a_killed_training_ends_with_the_same_weights_and_uses_each_sample_once() {
    check_kills(KILLS, false);
}

#[test]
fn a_loader_that_is_killed_too_changes_nothing() {
    check_kills(KILLS_WITH_LOADER, true);
}

/// Two ranks that are killed must end with the weights of one undisturbed rank without a loader.
fn check_kills(kills: u64, with_loader: bool) {
    let kills: u64 = env::var("MUSTER_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(kills);
    let seed: u64 = env::var("MUSTER_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let steps = 10 * (6 * kills + 20);
    let mut draw = ChaCha8Rng::seed_from_u64(seed);
    let mut cluster = Cluster::start(Shape::default()).unwrap();
    let undisturbed =
        leader_api(&cluster).submit(&job("undisturbed", 1, steps, false), new_request()).unwrap();
    assert_eq!(await_end(&cluster, undisturbed).terminal, Some(Terminal::Succeeded));

    let killed = leader_api(&cluster).submit(&job("killed", 2, steps, with_loader), new_request()).unwrap();
    let (mut done, mut reached) = (0, 0);
    while done < kills {
        let wanted = reached + ROUNDS_BETWEEN_KILLS + draw.random_range(0..2);
        let (rounds, ended) =
            wait_for(&format!("round {wanted} (seed {seed})"), || match progress_of(&cluster, killed) {
                Ok((rounds, ended)) if rounds >= wanted || ended => Ok((rounds, ended)),
                Ok((rounds, _)) => Err(format!("round {rounds}")),
                Err(error) => Err(error),
            });
        if ended {
            break;
        }
        reached = rounds;
        match draw.random_range(0..4) {
            0 | 1 => kill_task(&cluster, killed, draw.random_range(0..2 + u32::from(with_loader))),
            2 => {
                let index = draw.random_range(0..2);
                cluster.kill_worker(index);
                cluster.start_worker(index).unwrap();
            }
            _ => {
                let leader = cluster.leader();
                cluster.kill_coordinator(leader);
                cluster.start_coordinator(leader).unwrap();
            }
        }
        done += 1;
    }
    assert!(done * 2 > kills, "the training ended after {done} kills of {kills}");
    assert_eq!(await_end(&cluster, killed).terminal, Some(Terminal::Succeeded), "seed {seed}");

    let (expected, found) = (output(&cluster, undisturbed), output(&cluster, killed));
    assert_eq!(expected["weights"], found["weights"], "seed {seed}");
    assert_eq!(expected["checkpoint"].as_str().map(str::len), found["checkpoint"].as_str().map(str::len));
    for job in [undisturbed, killed] {
        let audit = cluster.muster(&["audit", "samples", &job.to_string(), "--json"]);
        let printed = String::from_utf8_lossy(&audit.stdout).into_owned();
        assert!(audit.status.success(), "seed {seed}: {printed}");
        let audit: Value = serde_json::from_str(&printed).unwrap();
        let stage = &audit["stages"][0];
        assert_eq!(
            (&stage["consumed"], &stage["planned"]),
            (&json!(format!("0+{}", steps * 4)), &json!(steps * 4)),
            "{printed}"
        );
    }
}
