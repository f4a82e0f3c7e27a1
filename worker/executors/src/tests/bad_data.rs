//! Data that can't be trained on, and artifacts damaged on disk: each error names the artifact, and earlier
//! checkpoints stay.

use super::fake::Cluster;
use super::made::{
    TOKENIZER, answers, artifacts, bodies, data_set, eval, hash, prepared, refused, scanned, shape, texts,
    train, turn, weights,
};
use muster_data::documents::Body;
use muster_protocol::ids::Digest;
use serde_json::json;
use std::fs;
use std::path::PathBuf;

const FEW: &str = r#""steps": 2, "microbatches": 1, "sequences": 2, "checkpoint_every": 2"#;

/// Flips a byte of an artifact in its file. Returns the path and the old contents.
fn damage(cluster: &Cluster, hash: Digest) -> (PathBuf, Vec<u8>) {
    let path = artifacts(cluster).path(hash);
    let bytes = fs::read(&path).unwrap();
    let mut changed = bytes.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    fs::write(&path, changed).unwrap();
    (path, bytes)
}

#[test]
fn a_damaged_shard_is_named_by_its_hash_and_place() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = prepared(dir.path(), texts(30));
    let shard = data_set(&cluster).train[0];
    train(&cluster, "train", 1, FEW);
    for damaged in [shard.tokens.bin, shard.tokens.idx, shard.index] {
        let (path, bytes) = damage(&cluster, damaged);
        let message = refused(&cluster, "train");
        assert!(message.starts_with(&format!("trust artifact {damaged}: {}", path.display())), "{message}");
        assert!(message.contains(&format!("holds {} bytes that hash to blake3:", bytes.len())), "{message}");
        fs::write(&path, bytes).unwrap();
    }
    let absent = artifacts(&cluster).path(shard.tokens.bin);
    let bytes = fs::read(&absent).unwrap();
    fs::remove_file(&absent).unwrap();
    let message = refused(&cluster, "train");
    assert!(
        message.contains(&format!("find artifact {}: there is no {}", shard.tokens.bin, absent.display())),
        "{message}"
    );
    fs::write(&absent, bytes).unwrap();
    cluster.succeed("train");
}

#[test]
fn a_damaged_checkpoint_is_named_and_gone_on_from_once_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = prepared(dir.path(), texts(30));
    let params = r#""steps": 6, "microbatches": 2, "sequences": 1, "checkpoint_every": 2"#;
    train(&cluster, "calm", 1, params);
    train(&cluster, "killed", 1, params);
    let calm = weights(&cluster.succeed("calm"));
    cluster.memory.lock().unwrap().patience = Some(("round", 1));
    refused(&cluster, "killed");
    cluster.memory.lock().unwrap().patience = None;

    let rounds = bodies(&cluster, "killed", "round");
    assert_eq!(rounds.len(), 1);
    let checkpoint = hash(&rounds[0]["checkpoint"]);
    let manifest: serde_json::Value =
        serde_json::from_slice(&artifacts(&cluster).get(checkpoint).unwrap()).unwrap();
    for file in manifest["files"].as_array().unwrap() {
        let name = file["name"].as_str().unwrap();
        let (path, bytes) =
            damage(&cluster, hash(&json!(format!("blake3:{}", file["hash"].as_str().unwrap()))));
        let ended = cluster.run("killed").remove(0);
        // Resuming does not need the tokenizer.
        if name == "tokenizer.json" {
            assert!(ended.unwrap_err().contains(&path.display().to_string()));
        } else {
            let message = ended.unwrap_err();
            assert!(
                message.contains(&format!("read the checkpoint: its file {name}: trust artifact blake3:")),
                "{message}"
            );
            assert!(message.contains(&path.display().to_string()), "{message}");
        }
        fs::write(path, bytes).unwrap();
    }
    let (path, bytes) = damage(&cluster, checkpoint);
    let message = refused(&cluster, "killed");
    assert!(message.contains(&format!("trust artifact {checkpoint}")), "{message}");
    fs::write(path, bytes).unwrap();
    assert_eq!(weights(&cluster.succeed("killed")), calm);
    let resumed: Vec<_> =
        bodies(&cluster, "killed", "resume").iter().map(|body| body["step"].clone()).collect();
    assert_eq!(resumed[resumed.len() - 1], json!(2));
}

#[test]
fn a_corpus_without_a_token_is_said_to_be_empty() {
    let other = tempfile::tempdir().unwrap();
    let given = other.path().join("tokenizer.json");
    let full = prepared(&other.path().join("full"), texts(10));
    fs::write(&given, artifacts(&full).get(data_set(&full).tokenizer).unwrap()).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let cluster = scanned(dir.path(), Vec::new(), &json!({ "tokenizer": given }).to_string(), "");
    ["tokenizer", "pack"].into_iter().for_each(|stage| drop(cluster.succeed(stage)));
    assert_eq!(
        refused(&cluster, "manifest"),
        "make a data set: there is no document to train on: 0 seen, 0 held out, none dropped"
    );

    // All documents are held out, or dropped by a filter.
    let dir = tempfile::tempdir().unwrap();
    let mut documents = texts(10);
    let cluster = scanned(dir.path(), documents.split_off(9), &json!({ "tokenizer": given }).to_string(), "");
    ["tokenizer", "pack"].into_iter().for_each(|stage| drop(cluster.succeed(stage)));
    drop(cluster.succeed("manifest"));

    // The only document is shorter than one window.
    let dir = tempfile::tempdir().unwrap();
    let cluster = scanned(
        dir.path(),
        vec![Body::Text("ab".to_owned())],
        &json!({ "tokenizer": given }).to_string(),
        "",
    );
    ["tokenizer", "pack", "manifest"].into_iter().for_each(|stage| drop(cluster.succeed(stage)));
    train(&cluster, "train", 1, FEW);
    let message = refused(&cluster, "train");
    assert!(message.contains("tokens are too few for a context of 16"), "{message}");
}

#[test]
fn a_sequence_longer_than_the_context_is_named_unless_something_may_become_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut documents = answers(40);
    let long = "a long answer ".repeat(20);
    documents[3] = Body::Chat(vec![turn("user", "Go on.".to_owned()), turn("assistant", long.clone())]);
    documents[4] = Body::Preference {
        prompt: vec![turn("user", "Go on.".to_owned())],
        chosen: long,
        rejected: "No.".to_owned(),
    };
    let cluster = scanned(dir.path(), documents, TOKENIZER, "");
    ["tokenizer", "pack", "manifest"].into_iter().for_each(|stage| drop(cluster.succeed(stage)));
    let base = super::made::model_dir(
        dir.path().join("base"),
        &shape(data_set(&cluster).manifest.vocab_size as usize + 9),
        |_| {},
    );
    let on = format!(r#"{FEW}, "context": 32, "base": "{}""#, base.display());
    for (name, objective, expected) in [
        (
            "error",
            r#""objective": "sft""#,
            &["sequence", "tokens is longer than the context of 32", "`truncate` or `drop`"][..],
        ),
        ("pairs", r#""objective": "dpo""#, &["the chosen answer of pair", "more than the context of 32"]),
    ] {
        train(&cluster, name, 1, &format!("{on}, {objective}"));
        let message = refused(&cluster, name);
        assert!(expected.iter().all(|part| message.contains(part)), "{message}");
    }
    let mut found = Vec::new();
    for (name, too_long) in [("truncate", "truncate"), ("drop", "drop")] {
        train(&cluster, name, 1, &format!(r#"{on}, "objective": "sft", "too_long": "{too_long}""#));
        found.push(weights(&cluster.succeed(name)));
    }
    assert_ne!(found[0], found[1], "one learns from the beginning, the other from nothing of it");
    eval(&cluster, "measured", "drop");
    cluster.succeed("measured");
}
