//! Every method with every objective as a job: it succeeds, saves an adapter that loads again, is evaluated,
//! and is trained further.

use super::fake::Cluster;
use super::made::{answers, artifacts, bodies, eval, hash, prepared, refused, texts, train, weights};
use crate::model::Model;
use crate::place::ModelPlace;
use muster_llm::model::Precision;
use muster_llm::ops::BatchLayout;
use muster_llm::peft::adapter::{self, Adapter};
use serde_json::Value;
use std::f64::consts::LN_2;
use std::path::Path;

/// Rows of a prefix or a prompt.
const ROWS: usize = 4;
const TOKENS: [u32; 6] = [70, 101, 105, 32, 80, 81];

/// A base with room for a prefix or a prompt, and a data set of texts, conversations and pairs.
fn cluster(dir: &Path) -> Cluster {
    let cluster = prepared(dir, texts(20).into_iter().chain(answers(60)).collect());
    let params = r#"{"hidden_size": 32, "intermediate_size": 64, "layers": 2, "heads": 2, "kv_heads": 1, "context": 48, "steps": 6,
        "microbatches": 2, "sequences": 2, "checkpoint_every": 3, "warmup_steps": 2}"#;
    cluster.stage("base", "train", 1, false, params);
    cluster.succeed("base");
    cluster
}

fn tuned(cluster: &Cluster, name: &'static str, ranks: u32, base: &str, method: &str, objective: &str) {
    let own = match method {
        "lora" => r#""rank": 4, "dropout": 0.1, "#.to_owned(),
        "qlora" => r#""rank": 4, "quantised": "q8_0", "#.to_owned(),
        "prefix" | "prompt" => format!(r#""virtual_tokens": {ROWS}, "#),
        _ => String::new(),
    };
    let too_long = if objective == "sft" { r#""too_long": "truncate", "# } else { "" };
    let params = format!(
        r#"{{"base_stage": "{base}", "method": "{method}", {own}{too_long}"objective": "{objective}", "steps": 4, "context": 40, "microbatches": 2,
            "sequences": 2, "checkpoint_every": 2, "warmup_steps": 1, "metrics_every": 1, "shares": "equal", "learning_rate": 0.01}}"#
    );
    cluster.stage(name, "train", ranks, ranks > 1, &params);
}

/// The adapter of a stage's checkpoint, read as PEFT lays it out.
fn adapter(cluster: &Cluster, output: &Value) -> Adapter {
    let artifacts = artifacts(cluster);
    let manifest = muster_llm::train::CheckpointManifest::from_bytes(
        &artifacts.get(hash(&output["checkpoint"])).unwrap(),
    )
    .unwrap();
    let read = |file: &muster_llm::train::checkpoint::CheckpointFile| {
        artifacts.get(format!("blake3:{}", file.hash).parse().unwrap()).map_err(|error| error.to_string())
    };
    assert!(manifest.files.iter().any(|file| file.name == "tokenizer.json"), "{:?}", manifest.files);
    adapter::load(&manifest.model, |name| Ok(manifest.file(name, &read).unwrap())).unwrap()
}

fn load(cluster: &Cluster, value: &Value) -> Model {
    Model::load(&artifacts(cluster), &ModelPlace::Artifact(hash(value))).unwrap()
}

fn logits(model: &muster_llm::model::Decoder) -> Vec<f32> {
    model
        .logits(&TOKENS, &BatchLayout::new(1, TOKENS.len()))
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn every_method_with_every_objective_leaves_what_loads_again() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path());
    let whole = load(&cluster, &output(&cluster, "base")["checkpoint"]);
    let untuned = logits(&whole.decoder().unwrap());
    for method in ["full", "lora", "qlora", "prefix", "prompt"] {
        for objective in ["lm", "sft", "dpo"] {
            let name: &'static str = Box::leak(format!("{method}-{objective}").into_boxed_str());
            tuned(&cluster, name, if objective == "dpo" { 2 } else { 1 }, "base", method, objective);
            let trained = cluster.succeed(name);
            weights(&trained);
            let output = &trained[0];
            assert_eq!(output["step"], 4, "{output}");
            if objective == "dpo" {
                // Before training, a policy equals its reference and so has no preference.
                let losses: Vec<f64> = bodies(&cluster, name, "train")
                    .iter()
                    .map(|body| body["loss"].as_f64().unwrap())
                    .collect();
                let own = (losses[0] - LN_2).abs() < 1e-5;
                // A random prefix already changes the output; LoRA layers start at zero.
                assert_eq!(own, !matches!(method, "prefix" | "prompt"), "{name}: {losses:?}");
                assert!(!own || losses[3] < losses[0], "{name}: {losses:?}");
            }
            let loaded = load(
                &cluster,
                if output["model"].is_string() { &output["model"] } else { &output["checkpoint"] },
            );
            let found = logits(&loaded.decoder().unwrap());
            assert!(distance(&found, &untuned) > 1e-4, "{name} has learnt nothing");
            if method != "full" {
                let adapter = adapter(&cluster, output);
                assert_eq!(adapter.base, self::output(&cluster, "base")["checkpoint"].as_str().unwrap());
                let built = adapter.build(
                    whole.config.clone(),
                    whole.weights.clone(),
                    Precision::F32,
                    &muster_llm::device::Device::Cpu,
                );
                let off = distance(&logits(&built.unwrap()), &found);
                // The merged model of qlora contains the base as it was quantised.
                assert!(off < if method == "qlora" { 0.05 } else { 1e-4 }, "{name}: off by {off}");
                // The checkpoint alone is enough, too.
                let again = logits(&load(&cluster, &output["checkpoint"]).decoder().unwrap());
                assert!(distance(&again, &found) < if method == "qlora" { 0.05 } else { 1e-4 }, "{name}");
            }
            let measured: &'static str = Box::leak(format!("{name}-measured").into_boxed_str());
            eval(&cluster, measured, name);
            let bits = cluster.succeed(measured)[0]["model_bits_per_byte"].as_f64().unwrap();
            assert!(bits > 0.0 && bits < 40.0, "{name}: {bits}");
        }
    }
}

fn output(cluster: &Cluster, stage: &str) -> Value {
    let memory = cluster.memory.lock().unwrap();
    let task = memory.stages.iter().find(|one| one.name == stage).unwrap().tasks[0];
    serde_json::from_str(&memory.outputs[&task]).unwrap()
}

#[test]
fn what_was_tuned_is_gone_on_from_or_says_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path());
    let base = output(&cluster, "base")["checkpoint"].as_str().unwrap().to_owned();
    for (first, more) in [("prefix", "prefix-more"), ("prompt", "prompt-more")] {
        tuned(&cluster, first, 1, "base", first, "lm");
        tuned(&cluster, more, 1, first, first, "dpo");
        let before = cluster.succeed(first).remove(0);
        let after = cluster.succeed(more).remove(0);
        // A continued training keeps the base, and starts where the first one ended: against itself as the
        // reference it had no preference.
        assert_eq!(adapter(&cluster, &after).base, base);
        assert_ne!(after["weights"], before["weights"]);
        let loss = bodies(&cluster, more, "train")[0]["loss"].as_f64().unwrap();
        assert!((loss - LN_2).abs() < 1e-5, "{more}: {loss}");
        eval(&cluster, if first == "prefix" { "prefix-bits" } else { "prompt-bits" }, more);
        cluster.succeed(if first == "prefix" { "prefix-bits" } else { "prompt-bits" });
    }
    for (name, from, method) in
        [("full-on", "prefix", "full"), ("lora-on", "prompt", "lora"), ("prompt-on", "prefix", "prompt")]
    {
        tuned(&cluster, name, 1, from, method, "lm");
        let message = refused(&cluster, name);
        let expected =
            format!("its {from} of {ROWS} rows can't be merged into weights; only `method` = {from}");
        assert!(message.contains(&expected), "{message}");
    }
    // LoRA layers can be merged, so any method continues from them: from the stage, or from a checkpoint that
    // holds only the adapter.
    tuned(&cluster, "lora", 1, "base", "lora", "sft");
    let lora = cluster.succeed("lora").remove(0);
    tuned(&cluster, "full", 1, "lora", "full", "dpo");
    cluster.succeed("full");
    let params = format!(
        r#""base": {}, "steps": 2, "microbatches": 1, "sequences": 1, "method": "prompt", "virtual_tokens": 4"#,
        lora["checkpoint"]
    );
    train(&cluster, "upon", 1, &params);
    let upon = cluster.succeed("upon").remove(0);
    assert_eq!(adapter(&cluster, &upon).base, lora["checkpoint"].as_str().unwrap());
    eval(&cluster, "upon-bits", "upon");
    cluster.succeed("upon-bits");
}
