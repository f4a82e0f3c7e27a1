//! Fixtures of the training tests: data sets of known documents, models on disk, and access to records.

use super::fake::Cluster;
use crate::outputs::{DataSet, ScanOutput};
use muster_attempt::artifacts::Artifacts;
use muster_data::documents::{Body, Document, Place, Scan, ScanReport, Tally, Turn};
use muster_llm::model::hub::{self, NamedTensor};
use muster_llm::model::weights::{initial, slots};
use muster_llm::model::{Decoder, ModelConfig};
use muster_protocol::ids::Digest;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// A model that trains in moments. A stage adds its `steps`, `sequences` and `microbatches`, and overrides
/// the rest as needed.
const TINY: &str = r#""hidden_size": 32, "intermediate_size": 64, "layers": 1, "heads": 2, "kv_heads": 1"#;
const SIZES: &str = r#""context": 16, "warmup_steps": 2, "metrics_every": 1, "shares": "equal""#;
/// A tokenizer of a few tokens.
pub const TOKENIZER: &str = r#"{"vocab_size": 300, "sample_mib": 1}"#;

pub fn turn(role: &str, content: String) -> Turn {
    Turn { role: role.to_owned(), content }
}

/// Texts that are easy to learn.
pub fn texts(count: u64) -> Vec<Body> {
    (0..count)
        .map(|number| {
            Body::Text(format!("After {number} comes {}, as everybody knows. ", number + 1).repeat(8))
        })
        .collect()
}

/// Conversations, and pairs of answers.
pub fn answers(count: u64) -> Vec<Body> {
    let body = |number: u64| {
        let question = turn("user", format!("After {number}?"));
        match number % 2 {
            0 => Body::Preference {
                prompt: vec![question],
                chosen: format!("{}.", number + 1),
                rejected: "None.".to_owned(),
            },
            _ => Body::Chat(vec![question, turn("assistant", format!("{}.", number + 1))]),
        }
    };
    (0..count).map(body).collect()
}

/// A cluster that has scanned these documents, of which every tenth is held out.
pub fn scanned(dir: &Path, bodies: Vec<Body>, tokenizer: &str, pack: &str) -> Cluster {
    let cluster = Cluster::new(dir);
    cluster.stage("scan", "data.scan", 1, false, "");
    cluster.stage("tokenizer", "data.tokenizer", 1, false, tokenizer);
    cluster.stage("pack", "data.pack", 1, false, pack);
    cluster.stage("manifest", "data.manifest", 1, false, "");
    let of = |(row, body)| Document::new("made/0.jsonl".to_owned(), Place::Row(row), body, row % 10 == 9);
    let documents: Vec<Document> = (0..).zip(bodies).map(of).collect();
    let mut kept = Tally::default();
    documents.iter().for_each(|document| kept.add(document.entry.bytes));
    let scan = Scan {
        report: ScanReport { split: 0, splits: 1, seen: kept, kept, ..ScanReport::default() },
        documents,
    };
    let hash = artifacts(&cluster).put(&scan.to_bytes().unwrap()).unwrap();
    let output = ScanOutput {
        scan: hash,
        sketch: hash,
        documents: kept.documents,
        bytes: kept.bytes,
        seen: kept.documents,
    };
    cluster.memory.lock().unwrap().outputs.insert(0, serde_json::to_string(&output).unwrap());
    cluster
}

/// Like [`scanned`], with a data set.
pub fn prepared(dir: &Path, bodies: Vec<Body>) -> Cluster {
    let cluster = scanned(dir, bodies, TOKENIZER, "");
    ["tokenizer", "pack", "manifest"].into_iter().for_each(|stage| drop(cluster.succeed(stage)));
    cluster
}

pub fn artifacts(cluster: &Cluster) -> Artifacts {
    Artifacts::open(&cluster.dir.join("artifacts")).unwrap()
}

pub fn data_set(cluster: &Cluster) -> DataSet {
    let output: Value = serde_json::from_str(&cluster.memory.lock().unwrap().outputs[&3]).unwrap();
    serde_json::from_slice(
        &artifacts(cluster).get(output["data"].as_str().unwrap().parse().unwrap()).unwrap(),
    )
    .unwrap()
}

/// A stage that trains [`TINY`], or the base that is named; of two parameters of one name the last one
/// counts.
pub fn train(cluster: &Cluster, name: &'static str, ranks: u32, params: &str) {
    let shape = if params.contains(r#""base"#) { String::new() } else { format!("{TINY}, ") };
    cluster.stage(name, "train", ranks, ranks > 1, &format!("{{{shape}{SIZES}, {params}}}"));
}

/// A stage that evaluates the model of another.
pub fn eval(cluster: &Cluster, name: &'static str, of: &str) {
    let params =
        format!(r#"{{"train_stage": "{of}", "tokens_max": 200, "sample_tokens": 4, "prompt": "After "}}"#);
    cluster.stage(name, "eval", 1, false, &params);
}

/// The error of a stage's first failed rank.
pub fn refused(cluster: &Cluster, name: &str) -> String {
    cluster.run(name).into_iter().find_map(Result::err).unwrap_or_else(|| panic!("{name} succeeded"))
}

/// The bodies of the records of a stage's rank 0 whose key starts with `key`, in order.
pub fn bodies(cluster: &Cluster, stage: &str, key: &str) -> Vec<Value> {
    let memory = cluster.memory.lock().unwrap();
    let rank_0 = memory.stages.iter().find(|one| one.name == stage).unwrap().tasks[0];
    let records =
        memory.ledger.iter().filter(|(task, record)| *task == rank_0 && record.key.starts_with(key));
    records.map(|(_, record)| serde_json::from_str(&record.body).unwrap()).collect()
}

/// The weights' hash, which must be equal on all ranks.
pub fn weights(outputs: &[Value]) -> String {
    assert!(outputs.iter().all(|output| output["weights"] == outputs[0]["weights"]), "{outputs:?}");
    outputs[0]["weights"].as_str().unwrap().to_owned()
}

pub fn hash(value: &Value) -> Digest {
    value.as_str().unwrap().parse().unwrap()
}

/// The shape that [`TINY`] has, with a longer context.
pub fn shape(vocab_size: usize) -> ModelConfig {
    ModelConfig {
        vocab_size,
        hidden_size: 32,
        intermediate_size: 64,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        max_position_embeddings: 32,
        ..ModelConfig::default()
    }
}

/// A model in the Hugging Face layout, with its tensors changed by `change`.
pub fn model_dir(dir: PathBuf, config: &ModelConfig, change: impl FnOnce(&mut Vec<NamedTensor>)) -> PathBuf {
    fs::create_dir_all(&dir).unwrap();
    let flat = initial(config, 3);
    let dtype = Decoder::trained(config.clone(), &flat).unwrap().store().dtype();
    let named = |slot: &muster_llm::autograd::Slot| NamedTensor {
        name: slot.name.clone(),
        shape: slot.shape.clone(),
        numbers: flat[slot.range()].to_vec(),
    };
    let mut tensors: Vec<NamedTensor> = slots(config).iter().map(named).collect();
    change(&mut tensors);
    fs::write(dir.join("config.json"), hub::write_config(config, dtype).unwrap()).unwrap();
    for (name, bytes) in hub::shards(tensors, dtype, usize::MAX).unwrap() {
        fs::write(dir.join(name), bytes).unwrap();
    }
    dir
}
