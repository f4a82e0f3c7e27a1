//! The modes and methods of `train` at a tiny scale: the same bits for any number of ranks, also when they
//! die and restart with another number; and leases and rounds that account for each sample.

use super::fake::Cluster;
use serde_json::{Value, json};
use std::path::Path;

pub(super) const SIZES: &str =
    r#""context": 16, "sequences": 1, "warmup_steps": 2, "metrics_every": 2, "shares": "equal""#;
pub(super) const SHAPE: &str =
    r#""hidden_size": 32, "intermediate_size": 64, "layers": 1, "heads": 2, "kv_heads": 1"#;

/// A data set, and stages of `train` with these parameters beside the sizes.
pub(super) fn cluster(dir: &Path, stages: &[(&'static str, u32, String)]) -> Cluster {
    let cluster = Cluster::new(dir);
    let roots = json!({"roots": [concat!(env!("CARGO_MANIFEST_DIR"), "/../../protocol/src")], "max_mib": 1, "held_out_per_mille": 300});
    cluster.stage("scan", "data.scan", 1, false, &roots.to_string());
    cluster.stage("tokenizer", "data.tokenizer", 1, false, r#"{"vocab_size": 300, "sample_mib": 1}"#);
    cluster.stage("pack", "data.pack", 1, false, "");
    cluster.stage("manifest", "data.manifest", 1, false, "");
    for (name, ranks, params) in stages {
        cluster.stage(name, "train", *ranks, *ranks > 1, &format!("{{{SIZES}, {params}}}"));
    }
    for stage in ["scan", "tokenizer", "pack", "manifest"] {
        cluster.succeed(stage);
    }
    cluster
}

pub(super) fn bodies(cluster: &Cluster, stage: usize, key: &str) -> Vec<Value> {
    let memory = cluster.memory.lock().unwrap();
    let rank_0 = memory.stages[stage].tasks[0];
    let records = memory.ledger.iter().filter(|(task, record)| *task == rank_0 && record.key == key);
    records.map(|(_, record)| serde_json::from_str(&record.body).unwrap()).collect()
}

pub(super) fn weights(outputs: &[Value]) -> Value {
    assert!(outputs.iter().all(|output| output["weights"] == outputs[0]["weights"]), "{outputs:?}");
    outputs[0]["weights"].clone()
}

/// The weights of a stage whose rank 0 dies at its second `round` record, and that resumes with `ranks`
/// ranks.
pub(super) fn killed(cluster: &Cluster, name: &'static str, ranks: u32) -> Value {
    cluster.memory.lock().unwrap().patience = Some(("round", 1));
    let broken = cluster.run(name);
    assert!(broken.iter().any(Result::is_err), "{broken:?}");
    let mut memory = cluster.memory.lock().unwrap();
    memory.patience = None;
    memory.resize(name, ranks);
    drop(memory);
    weights(&cluster.succeed(name))
}

#[test]
fn any_number_of_ranks_comes_to_the_same_weights_and_may_change_on_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let params = format!(r#"{SHAPE}, "steps": 12, "microbatches": 4, "checkpoint_every": 4"#);
    let stages = [
        ("one", 1, params.clone()),
        ("two", 2, params.clone()),
        ("three", 3, params.clone()),
        ("killed", 2, params),
    ];
    let cluster = cluster(dir.path(), &stages);
    let one = cluster.succeed("one");
    let two = cluster.succeed("two");
    assert_eq!(weights(&one), weights(&two));
    assert_eq!(one[0]["checkpoint"], two[0]["checkpoint"]);
    assert_eq!(weights(&one), weights(&cluster.succeed("three")));
    assert_eq!(killed(&cluster, "killed", 4), weights(&one));

    // Round 1 was leased twice, and consumed once.
    let samples =
        |key: &str| bodies(&cluster, 7, key).iter().map(|body| body["samples"].clone()).collect::<Vec<_>>();
    assert_eq!(samples("round"), ["0+16", "16+16", "32+16"]);
    let leased = samples("lease");
    assert!(leased.iter().filter(|samples| **samples == "16+16").count() == 2, "{leased:?}");
    let round = &bodies(&cluster, 7, "round")[2];
    assert_eq!((&round["replicas"], &round["step"]), (&json!("0+4"), &json!(12)));
    let metrics = bodies(&cluster, 4, "train");
    assert!(
        metrics.iter().all(|body| body["rss_mib"].as_f64().unwrap() > 0.0 && body["steps"] == 12),
        "{metrics:?}"
    );
}

#[test]
fn rounds_come_to_the_same_weights_for_any_number_of_ranks_and_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let params = format!(
        r#"{SHAPE}, "mode": "diloco", "steps": 12, "inner_steps": 4, "replicas": 4, "microbatches": 2"#
    );
    let stages = [("one", 1, params.clone()), ("two", 2, params.clone()), ("killed", 2, params)];
    let cluster = cluster(dir.path(), &stages);
    let one = weights(&cluster.succeed("one"));
    assert_eq!(one, weights(&cluster.succeed("two")));
    assert_eq!(one, killed(&cluster, "killed", 4));
    let rounds = bodies(&cluster, 6, "round");
    let consumed: Vec<&Value> = rounds.iter().map(|body| &body["samples"]).collect();
    assert_eq!(consumed, ["0+32", "32+32", "64+32"]);
    assert_eq!(rounds[1]["base"].as_str().map(str::len), Some(64));
}

#[test]
fn something_small_is_trained_on_a_frozen_base() {
    let dir = tempfile::tempdir().unwrap();
    let on = |rest: &str| {
        format!(r#""base_stage": "base", "steps": 4, "microbatches": 2, "checkpoint_every": 2, {rest}"#)
    };
    let stages = [
        ("base", 1, format!(r#"{SHAPE}, "steps": 4, "microbatches": 2, "checkpoint_every": 4"#)),
        ("lora", 2, on(r#""method": "lora", "rank": 4, "dropout": 0.1"#)),
        ("lora-alone", 1, on(r#""method": "lora", "rank": 4, "dropout": 0.1"#)),
        ("qlora", 1, on(r#""method": "qlora", "rank": 4, "quantised": "q8_0""#)),
        ("sft", 1, on(r#""objective": "sft", "too_long": "truncate""#)),
    ];
    let cluster = cluster(dir.path(), &stages);
    cluster.succeed("base");
    let lora = cluster.succeed("lora");
    assert_eq!(weights(&lora), weights(&cluster.succeed("lora-alone")));
    assert!(lora[0]["model"].is_string(), "additions are merged into a whole model: {lora:?}");
    for stage in ["qlora", "sft"] {
        let output = &cluster.succeed(stage)[0];
        assert_eq!(output["step"], 4, "{output}");
    }
}

#[test]
fn what_cannot_be_trained_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let few = format!(r#"{SHAPE}, "steps": 4, "microbatches": 1"#);
    let stages = [
        ("single", 2, format!(r#"{SHAPE}, "mode": "single", "steps": 4"#)),
        ("few", 2, few),
        ("nowhere", 1, r#""base": "/no/such/model", "steps": 4"#.to_owned()),
        ("pairs", 1, format!(r#"{SHAPE}, "objective": "dpo", "steps": 4"#)),
    ];
    let cluster = cluster(dir.path(), &stages);
    for (stage, expected) in [
        ("single", "train with `mode` = single as 2 tasks"),
        ("few", "share `microbatches` = 1 among 2 ranks"),
        ("nowhere", "find the base `/no/such/model`"),
        ("pairs", "the corpus holds no preferences"),
    ] {
        let ended = cluster.run(stage);
        let message = ended[0].clone().unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
}
