//! The executors, from files to evaluation, at a tiny scale in one process: real text, real sockets, and
//! attempts that are killed.

mod annotate;
mod answers;
mod bad_base;
mod bad_data;
mod data;
mod dedup;
mod diloco;
pub(super) mod fake;
mod full_store;
mod guard;
mod load;
mod made;
mod memory;
mod methods;
mod train;

use crate::check;
use fake::Cluster;
use serde_json::{Value, json};

const TINY: &str = r#"{"steps": 10, "context": 32, "microbatches": 4, "sequences": 2, "hidden_size": 32, "intermediate_size": 48,
    "layers": 1, "heads": 2, "kv_heads": 1, "warmup_steps": 2, "checkpoint_every": 4, "metrics_every": 2}"#;

/// A cluster whose job is like `examples/code-model.toml`, on the sources of the vocabulary.
fn cluster(dir: &std::path::Path) -> Cluster {
    let cluster = Cluster::new(dir);
    let roots = json!({"roots": [concat!(env!("CARGO_MANIFEST_DIR"), "/../../protocol/src")], "max_mib": 1, "held_out_per_mille": 300});
    cluster.stage("scan", "data.scan", 2, false, &roots.to_string());
    cluster.stage("tokenizer", "data.tokenizer", 1, false, r#"{"vocab_size": 400, "sample_mib": 1}"#);
    cluster.stage("pack", "data.pack", 2, false, "");
    cluster.stage("manifest", "data.manifest", 1, false, "");
    cluster.stage("train", "train", 2, true, TINY);
    cluster.stage("alone", "train", 1, false, TINY);
    cluster.stage("eval", "eval", 1, false, r#"{"tokens_max": 500, "sample_tokens": 8}"#);
    cluster.stage("plan", "agent.plan", 1, false, r#"{"lines": 3, "context_bytes": 100}"#);
    cluster.stage("complete", "agent.complete", 0, false, r#"{"samples": 3, "line_tokens": 6}"#);
    cluster.stage("verify", "agent.verify", 0, false, "");
    cluster.stage("join", "agent.join", 0, false, "");
    cluster
}

fn prepare(cluster: &Cluster) {
    for stage in ["scan", "tokenizer", "pack", "manifest"] {
        cluster.succeed(stage);
    }
}

#[test]
fn the_chain_runs_from_files_to_best_of_n() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path());
    prepare(&cluster);
    let trained = cluster.succeed("train");
    assert_eq!(trained[0]["checkpoint"], trained[1]["checkpoint"]);
    assert_eq!((&trained[0]["step"], &trained[1]["rank"]), (&json!(10), &json!(1)));

    let eval = &cluster.succeed("eval")[0];
    for key in ["model_bits_per_byte", "unigram_bits_per_byte", "uniform_bits_per_byte"] {
        assert!(eval[key].as_f64().is_some_and(|bits| bits > 0.0 && bits < 20.0), "{key}: {eval}");
    }
    let task = cluster.memory.lock().unwrap().stages[6].tasks[0];
    assert!(cluster.record(task, "eval").body.contains("model_bits_per_byte"));

    let plan = &cluster.succeed("plan")[0];
    assert_eq!((&plan["lines"], &plan["tasks"]), (&json!(3), &json!(7)));
    // A planner that was killed before its output arrived, and runs again, plans nothing twice.
    assert_eq!(&cluster.succeed("plan")[0], plan);
    assert!(cluster.memory.lock().unwrap().stages[8..].iter().all(|stage| stage.sealed));
    let completed = cluster.succeed("complete");
    assert!(completed.iter().all(|output| output["calls"] == 3 && output["reused"] == 0), "{completed:?}");
    assert_eq!(cluster.succeed("verify").len(), 3);
    let joined = &cluster.succeed("join")[0];
    assert_eq!((&joined["lines"], &joined["samples"]), (&json!(3), &json!(3)));
    let agreement = |who: &str| joined[who]["agreement"].as_f64().unwrap();
    assert!(
        agreement("perfect_pick") >= agreement("best_of_n") && agreement("perfect_pick") >= agreement("one"),
        "{joined}"
    );
}

#[test]
fn a_broken_gang_resumes_from_its_checkpoint_to_the_same_weights() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path());
    prepare(&cluster);
    // One undisturbed rank gives the expected weights.
    let alone = cluster.succeed("alone")[0]["checkpoint"].clone();

    // Rank 0's agent dies at the second checkpoint, when steps up to 8 are done and recorded.
    cluster.memory.lock().unwrap().patience = Some(("checkpoint", 1));
    let broken = cluster.run("train");
    assert!(broken.iter().all(Result::is_err), "{broken:?}");
    assert!(broken[1].as_ref().unwrap_err().contains("hear from rank 0"), "{broken:?}");

    cluster.memory.lock().unwrap().patience = None;
    let whole = cluster.succeed("train");
    assert_eq!(whole[0]["checkpoint"], alone);
    assert_eq!(whole[1]["checkpoint"], alone);
    let rank_0 = cluster.memory.lock().unwrap().stages[4].tasks[0];
    let resumed: Value = serde_json::from_str(&cluster.record(rank_0, "resume").body).unwrap();
    assert_eq!(resumed["step"], json!(4));
    assert!(resumed["reached"].as_u64().is_some_and(|reached| reached >= 8), "{resumed}");
    let memory = cluster.memory.lock().unwrap();
    let metrics = memory.ledger.iter().filter(|(task, record)| *task == rank_0 && record.key == "train");
    let steps: Vec<Value> = metrics
        .map(|(_, record)| serde_json::from_str::<Value>(&record.body).unwrap()["step"].clone())
        .collect();
    // Whether the last step was done before the agent's death was noticed depends on the disk.
    let (whole, again) = steps.split_at(steps.len() - 3);
    assert!(whole.starts_with(&[2, 4, 6, 8].map(Value::from)) && whole.len() <= 5, "{steps:?}");
    assert_eq!(again, [6, 8, 10].map(Value::from));
}

#[test]
fn a_killed_subtask_repeats_no_finished_call() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path());
    prepare(&cluster);
    cluster.succeed("train");
    cluster.succeed("plan");
    cluster.memory.lock().unwrap().patience = Some(("call/", 4));
    let ended = cluster.run("complete");
    assert!(ended.iter().any(Result::is_err), "{ended:?}");
    cluster.memory.lock().unwrap().patience = None;
    let outputs = cluster.succeed("complete");
    let sum = |key: &str| outputs.iter().map(|output| output[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("reused"), sum("calls")), (4, 5));
    let calls = cluster
        .memory
        .lock()
        .unwrap()
        .ledger
        .iter()
        .filter(|(_, record)| record.key.starts_with("call/"))
        .count();
    assert_eq!(calls, 9);
}

#[test]
fn missing_inputs_and_unknown_keys_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path());
    let message = |stage: &str| cluster.run(stage)[0].clone().unwrap_err();
    assert_eq!(
        message("tokenizer"),
        "read the outputs of stage `scan`: no task of it has one yet; is it in `needs`?"
    );
    assert_eq!(
        message("train"),
        "read the outputs of stage `manifest`: no task of it has one yet; is it in `needs`?"
    );
    cluster.memory.lock().unwrap().stages[0].params = r#"{"root": ["/"]}"#.to_owned();
    assert!(message("scan").contains("unknown key `root`; did you mean `roots`?"), "{}", message("scan"));
}

#[test]
fn the_example_has_only_parameters_that_are_known() {
    let text = include_str!("../../../../examples/code-model.toml");
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("executor = "))
        .map(|name| name.trim_matches('"'))
        .collect();
    assert_eq!(names.len(), 10);
    for name in names {
        check(name, r#"{"seed": 1}"#, "").unwrap();
    }
}
