//! Fine-tuning on questions and answers that an earlier stage left in the job's directory, with the tokenizer
//! of another data set.

use super::TINY;
use super::fake::Cluster;
use muster_attempt::artifacts::job_dir;
use muster_protocol::ids::JobId;
use serde_json::{Value, json};
use std::fs;

/// A cluster with plain text, and with pairs from a file in the job's directory.
fn cluster(dir: &std::path::Path) -> Cluster {
    let cluster = Cluster::new(dir);
    let roots = json!({"roots": [concat!(env!("CARGO_MANIFEST_DIR"), "/../../protocol/src")], "max_mib": 1, "held_out_per_mille": 300});
    cluster.stage("scan", "data.scan", 1, false, &roots.to_string());
    cluster.stage(
        "tokenizer",
        "data.tokenizer",
        1,
        false,
        r#"{"vocab_size": 400, "special_tokens": ["<|im_start|>", "<|im_end|>"]}"#,
    );
    cluster.stage("pack", "data.pack", 1, false, "");
    cluster.stage("manifest", "data.manifest", 1, false, "");
    cluster.stage("base", "train", 1, false, TINY);
    let pairs = r#"{"roots": ["pairs.jsonl"], "format": "jsonl", "filters": "none", "near": "none", "held_out_per_mille": 300}"#;
    cluster.stage("pairs", "data.scan", 1, false, pairs);
    cluster.stage(
        "words",
        "data.tokenizer",
        1,
        false,
        r#"{"scan_stage": "pairs", "base_tokenizer_stage": "tokenizer"}"#,
    );
    cluster.stage(
        "pack-pairs",
        "data.pack",
        1,
        false,
        r#"{"scan_stage": "pairs", "tokenizer_stage": "words"}"#,
    );
    let all = r#"{"scan_stage": "pairs", "tokenizer_stage": "words", "pack_stage": "pack-pairs"}"#;
    cluster.stage("set", "data.manifest", 1, false, all);
    let tune = r#"{"manifest_stage": "set", "base_stage": "base", "objective": "sft", "too_long": "truncate", "context": 32, "steps": 12,
        "microbatches": 2, "sequences": 2, "warmup_steps": 2}"#;
    cluster.stage("tune", "train", 1, false, tune);
    for (name, train) in [("eval-base", "base"), ("eval", "tune")] {
        let params = json!({"manifest_stage": "set", "train_stage": train, "sample_tokens": 8});
        cluster.stage(name, "eval", 1, false, &params.to_string());
    }
    cluster
}

#[test]
fn tuning_is_measured_on_held_out_answers_beside_the_base() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path());
    let own = job_dir(&dir.path().join("artifacts"), "test", JobId(1));
    fs::create_dir_all(&own).unwrap();
    let pair =
        |n: u32| json!({"prompt": format!("Give {n}."), "completion": format!("{n}!")}).to_string() + "\n";
    fs::write(own.join("pairs.jsonl"), (0..60).map(pair).collect::<String>()).unwrap();

    let done: Vec<Value> = [
        "scan",
        "tokenizer",
        "pack",
        "manifest",
        "base",
        "pairs",
        "words",
        "pack-pairs",
        "set",
        "tune",
        "eval-base",
        "eval",
    ]
    .iter()
    .map(|stage| cluster.succeed(stage).remove(0))
    .collect();
    assert_eq!(done[1]["tokenizer"], done[6]["tokenizer"], "that of the base's data is taken");
    let (base, tuned) = (&done[10], &done[11]);
    for eval in [base, tuned] {
        assert_eq!((&eval["measured"], &eval["tokens"]), (&json!("answers"), &base["tokens"]), "{eval}");
        let (question, reference) = (eval["prompt"].as_str().unwrap(), eval["reference"].as_str().unwrap());
        assert_eq!(question.replace("user\nGive ", "").replace(".\nassistant\n", "!"), reference, "{eval}");
    }
    let bits = |eval: &Value| eval["model_bits_per_byte"].as_f64().unwrap();
    assert!(bits(tuned) < bits(base), "{} before, {} after", bits(base), bits(tuned));
}

#[test]
fn rows_before_a_frozen_base_are_measured_with_that_base() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::new(dir.path());
    let roots = json!({"roots": [concat!(env!("CARGO_MANIFEST_DIR"), "/../../protocol/src")], "max_mib": 1, "held_out_per_mille": 300});
    cluster.stage("scan", "data.scan", 1, false, &roots.to_string());
    cluster.stage("tokenizer", "data.tokenizer", 1, false, r#"{"vocab_size": 400}"#);
    cluster.stage("pack", "data.pack", 1, false, "");
    cluster.stage("manifest", "data.manifest", 1, false, "");
    cluster.stage("base", "train", 1, false, TINY);
    cluster.stage(
        "of-base",
        "eval",
        1,
        false,
        r#"{"train_stage": "base", "tokens_max": 500, "sample_tokens": 8}"#,
    );
    for stage in ["scan", "tokenizer", "pack", "manifest", "base"] {
        cluster.succeed(stage);
    }
    let base = cluster.succeed("of-base").remove(0);
    for (method, eval) in [("prefix", "of-prefix"), ("prompt", "of-prompt")] {
        let tune = json!({"base_stage": "base", "method": method, "virtual_tokens": 4, "context": 28, "steps": 30, "microbatches": 2,
            "sequences": 4, "learning_rate": 0.05, "warmup_steps": 2});
        cluster.stage(method, "train", 1, false, &tune.to_string());
        cluster.stage(
            eval,
            "eval",
            1,
            false,
            &json!({"train_stage": method, "tokens_max": 500, "sample_tokens": 8}).to_string(),
        );
        cluster.succeed(method);
        let tuned = cluster.succeed(eval).remove(0);
        let bits = |eval: &Value| eval["model_bits_per_byte"].as_f64().unwrap();
        assert_eq!(tuned["tokens"], base["tokens"]);
        assert!(bits(&tuned) < bits(&base), "{method}: {} before, {} after", bits(&base), bits(&tuned));
    }
}

#[test]
fn two_tokenizers_are_one_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path());
    cluster.succeed("scan");
    let both = r#"{"tokenizer": "/t.json", "base_tokenizer_stage": "tokenizer"}"#;
    cluster.stage("both", "data.tokenizer", 1, false, both);
    let message = cluster.run("both").remove(0).unwrap_err();
    assert!(message.contains("two tokenizers: give one"), "{message}");
    cluster.stage("none", "data.tokenizer", 1, false, r#"{"tokenizer": "no/such.json"}"#);
    let message = cluster.run("none").remove(0).unwrap_err();
    assert!(message.contains("jobs/test/job-1/no/such.json"), "{message}");
}
