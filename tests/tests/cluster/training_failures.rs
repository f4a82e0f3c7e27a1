//! Trainings that fail on real processes: the job says why, earlier checkpoints stay usable, and the audit
//! adds up after the guard has rolled a training back.

use crate::{await_end, leader_api, task};
use muster_protocol::ids::{JobId, TaskId};
use muster_protocol::outcome::{Outcome, Terminal};
use muster_protocol::spec::{JobSpec, RetryPolicy};
use muster_tests::cluster::api::new_request;
use muster_tests::cluster::{Cluster, Shape};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// The first rank's number in the job.
const RANK_0: u32 = 4;

/// Lines that are soon learnt, and one line of garbage.
fn corpus(dir: &Path) -> PathBuf {
    let place = dir.join("corpus");
    fs::create_dir_all(&place).unwrap();
    let text = |number: u32| match number {
        17 => "~#0x9e}{^Q|Z@w;7c15\\K".to_owned(),
        _ => "one two three four ".repeat(4 + number as usize),
    };
    let rows: String = (0..36).map(|number| format!("{}\n", json!({ "text": text(number) }))).collect();
    fs::write(place.join("rows.jsonl"), rows).unwrap();
    place
}

/// A job that prepares `corpus` and trains on it with these parameters.
fn job(name: &str, corpus: &Path, ranks: u32, params: Value) -> JobSpec {
    let stage = |name: &str, needs: &[u16], executor: &str, params: Value| {
        json!({
            "name": name, "needs": needs, "tasks": 1,
            "work": {"type": "builtin", "executor": executor, "params": params.to_string()},
        })
    };
    let mut all = json!({
        "context": 16, "microbatches": 4, "sequences": 1, "warmup_steps": 2, "metrics_every": 1, "shares": "equal", "checkpoint_every": 8,
    });
    // A base model has its own shape.
    if params.get("base").is_none() {
        let shape =
            json!({"hidden_size": 32, "intermediate_size": 64, "layers": 1, "heads": 2, "kv_heads": 1});
        all.as_object_mut().unwrap().extend(shape.as_object().unwrap().clone());
    }
    all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
    let mut train = stage("train", &[3], "train", all);
    (train["tasks"], train["gang"]) = (json!(ranks), json!(ranks > 1));
    let stages = [
        stage(
            "scan",
            &[],
            "data.scan",
            json!({"roots": [corpus], "format": "jsonl", "filters": "none", "max_mib": 1}),
        ),
        stage("tokenizer", &[0], "data.tokenizer", json!({"vocab_size": 300, "sample_mib": 1})),
        stage("pack", &[1], "data.pack", json!({})),
        stage("manifest", &[2], "data.manifest", json!({})),
        train,
    ];
    let mut spec: JobSpec = serde_json::from_value(json!({"name": name, "stages": stages})).unwrap();
    for stage in &mut spec.stages {
        stage.request.cpu_milli = 1_000;
        stage.retry = RetryPolicy { retries: 0, backoff_ms: 1, backoff_ms_max: 10 };
    }
    spec
}

fn run(cluster: &Cluster, spec: &JobSpec) -> JobId {
    let job = leader_api(cluster).submit(spec, new_request()).unwrap();
    await_end(cluster, job);
    job
}

fn output(cluster: &Cluster, job: JobId) -> Value {
    match task(cluster, TaskId { job, index: RANK_0 }).outcome {
        Some(Outcome::Succeeded(succeeded)) => serde_json::from_str(&succeeded.output).unwrap(),
        other => panic!("{job}: {other:?}"),
    }
}

/// Asserts that a job failed, and returns the message of its first rank.
fn failure(cluster: &Cluster, job: JobId) -> String {
    assert!(matches!(await_end(cluster, job).terminal, Some(Terminal::Failed)), "{job} did not fail");
    match task(cluster, TaskId { job, index: RANK_0 }).outcome {
        Some(Outcome::Failed(failed)) => failed.message,
        other => panic!("{job}: {other:?}"),
    }
}

#[test]
fn failures_are_explained_on_the_job_and_the_audit_adds_up_after_a_rollback() {
    let cluster = Cluster::start(Shape { coordinators: 1, ..Shape::default() }).unwrap();
    let corpus = corpus(cluster.directory());
    let guarded = json!({"steps": 128, "learning_rate": 0.01, "guard_deviations": 6.0, "guard_max": 8});
    let [one, two] = [1, 2].map(|ranks| run(&cluster, &job("guarded", &corpus, ranks, guarded.clone())));
    let trained = output(&cluster, one);
    assert_eq!(output(&cluster, two)["weights"], trained["weights"]);
    for job in [one, two] {
        let audit = cluster.muster(&["audit", "samples", &job.to_string(), "--json"]);
        let printed = String::from_utf8_lossy(&audit.stdout).into_owned();
        assert!(audit.status.success(), "{printed}");
        let stage = &serde_json::from_str::<Value>(&printed).unwrap()["stages"][0];
        assert_eq!((&stage["planned"], &stage["violations"]), (&json!(512), &json!([])), "{printed}");
        assert!(
            stage["skipped"].as_str().is_some_and(|skipped| !skipped.is_empty()),
            "the garbage is skipped: {printed}"
        );
        assert!(stage["returned"].as_u64().is_some_and(|returned| returned > 0), "{printed}");
    }

    let on = |more: Value| {
        let mut params = json!({"steps": 2, "base": trained["checkpoint"]});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    let target =
        run(&cluster, &job("target", &corpus, 1, on(json!({"method": "lora", "targets": ["query"]}))));
    let message = failure(&cluster, target);
    assert!(
        message.contains("find the target \"query\" in the model: it matches none of q_proj"),
        "{message}"
    );
    let shown = cluster.muster(&["tasks", &target.to_string()]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("find the target"), "{shown}");

    let mut short = job("short", &corpus, 1, json!({"steps": 2, "sequences": 64, "context": 32}));
    short.stages[4].request.memory_mib = 1;
    let message = failure(&cluster, run(&cluster, &short));
    assert!(message.contains("they need") && message.contains("1.0 MiB are granted"), "{message}");

    // A checkpoint is damaged in the store; restored, it can be trained on.
    let hash = trained["checkpoint"].as_str().unwrap().to_owned();
    let hex = hash.trim_start_matches("blake3:");
    let path = cluster.directory().join("artifacts/blake3").join(&hex[..2]).join(&hex[2..]);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, b"{}").unwrap();
    let message = failure(&cluster, run(&cluster, &job("damaged", &corpus, 1, on(json!({})))));
    assert!(
        message.contains(&format!("trust artifact {hash}: {} holds 2 bytes", path.display())),
        "{message}"
    );
    fs::write(&path, bytes).unwrap();
    output(&cluster, run(&cluster, &job("whole", &corpus, 2, on(json!({})))));
}
