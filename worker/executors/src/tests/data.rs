//! Data sets of conversations: with kills, any number of threads and given tokenizers, the manifest is the
//! same.

use super::fake::Cluster;
use crate::model;
use crate::outputs::{DataSet, ScanOutput};
use muster_attempt::artifacts::Artifacts;
use muster_data::chat::ChatTemplate;
use muster_data::documents::{Body, Document, Place, Scan, ScanReport, Tally, Turn};
use muster_data::statistics::Statistics;
use muster_llm::train::Corpus;
use muster_protocol::ids::Digest;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Documents of a split.
const DOCUMENTS: u64 = 60;

fn turn(role: &str, content: String) -> Turn {
    Turn { role: role.to_owned(), content }
}

fn body(number: u64) -> Body {
    let question = turn("user", format!("What comes after {number}?"));
    match number % 4 {
        0 => Body::Text(
            format!("After {number} comes {}, as everybody knows who can count. ", number + 1).repeat(8),
        ),
        1 => Body::Preference {
            prompt: vec![question],
            chosen: format!("{}.", number + 1),
            rejected: "Nothing.".to_owned(),
        },
        // Some are longer than the context.
        2 => Body::Chat(vec![
            question,
            turn("assistant", format!("After it comes {}. ", number + 1).repeat(1 + number as usize % 7 * 3)),
        ]),
        _ => Body::Chat(vec![question, turn("assistant", format!("{} comes next.", number + 1))]),
    }
}

/// A cluster with two scanned splits; these tests read no files.
fn cluster(dir: &Path, documents: u64, pack: &str, tokenizer: &str) -> Cluster {
    let cluster = Cluster::new(dir);
    cluster.stage("scan", "data.scan", 2, false, "");
    cluster.stage("tokenizer", "data.tokenizer", 1, false, tokenizer);
    cluster.stage("pack", "data.pack", 2, false, pack);
    cluster.stage("manifest", "data.manifest", 1, false, "");
    let artifacts = Artifacts::open(&dir.join("artifacts")).unwrap();
    for split in 0..2u32 {
        // The splits have one document in common.
        let numbers = (0..documents).map(|row| if row == 8 { 8 } else { row + u64::from(split) * documents });
        let rows = numbers.enumerate().map(|(row, number)| {
            Document::new(
                format!("made/{split}.jsonl"),
                Place::Row(row as u64),
                body(number),
                number.is_multiple_of(10),
            )
        });
        let documents: Vec<Document> = rows.collect();
        let mut kept = Tally::default();
        documents.iter().for_each(|document| kept.add(document.entry.bytes));
        let scan = Scan {
            report: ScanReport { split, splits: 2, seen: kept, kept, ..ScanReport::default() },
            documents,
        };
        let hash = artifacts.put(&scan.to_bytes().unwrap()).unwrap();
        let output = ScanOutput {
            scan: hash,
            sketch: hash,
            documents: kept.documents,
            bytes: kept.bytes,
            seen: kept.documents,
        };
        cluster.memory.lock().unwrap().outputs.insert(split, serde_json::to_string(&output).unwrap());
    }
    cluster
}

const PACK: &str = r#"{"context": 64, "too_long": "drop", "part_kib": 2}"#;
const TOKENIZER: &str = r#"{"vocab_size": 380, "sample_mib": 1}"#;

fn data_set(dir: &Path, output: &Value) -> (Artifacts, DataSet) {
    let artifacts = Artifacts::open(&dir.join("artifacts")).unwrap();
    let hash: Digest = output["data"].as_str().unwrap().parse().unwrap();
    let data = serde_json::from_slice(&artifacts.get(hash).unwrap()).unwrap();
    (artifacts, data)
}

#[test]
fn threads_and_kills_leave_no_trace_in_a_data_set() {
    let mut outputs = Vec::new();
    for (cpus, kill) in
        [(1, None), (2, None), (4, None), (1, Some(0)), (2, Some(1)), (1, Some(3)), (1, Some(5))]
    {
        let dir = tempfile::tempdir().unwrap();
        let cluster = cluster(dir.path(), DOCUMENTS, PACK, TOKENIZER);
        cluster.memory.lock().unwrap().cpus = cpus;
        cluster.succeed("tokenizer");
        if let Some(after) = kill {
            // An agent dies at that record; recorded work is not repeated.
            cluster.memory.lock().unwrap().patience = Some(("part", after));
            assert!(cluster.run("pack").iter().any(Result::is_err));
            cluster.memory.lock().unwrap().patience = None;
        }
        cluster.succeed("pack");
        outputs.push(cluster.succeed("manifest").remove(0));
        let (artifacts, data) = data_set(dir.path(), &outputs[outputs.len() - 1]);
        let recorded =
            cluster.memory.lock().unwrap().ledger.iter().filter(|(_, record)| record.key == "part").count();
        assert_eq!(
            (recorded, data.train.len()),
            (data.held_out.len(), recorded),
            "each part is recorded once, with {kill:?}"
        );
        assert!(recorded > 6, "{recorded} parts");
        Corpus::new(model::shards(&artifacts, &data.train).unwrap()).unwrap();
    }
    assert!(outputs.iter().all(|output| *output == outputs[0]), "{outputs:?}");
}

#[test]
fn parts_whose_list_is_gone_are_packed_again() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path(), DOCUMENTS, PACK, TOKENIZER);
    cluster.succeed("tokenizer");
    let first = cluster.succeed("pack");
    let task = cluster.memory.lock().unwrap().stages[2].tasks[0];
    let list = cluster.record(task, "part").payload_hash;
    fs::remove_file(Artifacts::open(&dir.path().join("artifacts")).unwrap().path(list)).unwrap();
    assert_eq!(cluster.succeed("pack"), first);
}

#[test]
fn every_document_is_accounted_for_and_only_answers_are_learnt_from() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path(), DOCUMENTS, PACK, TOKENIZER);
    ["tokenizer", "pack"].into_iter().for_each(|stage| drop(cluster.succeed(stage)));
    let output = cluster.succeed("manifest").remove(0);
    let (artifacts, data) = data_set(dir.path(), &output);
    let manifest = &data.manifest;
    assert_eq!(manifest.seen.documents, 2 * DOCUMENTS);
    let dropped: Vec<_> =
        manifest.dropped.iter().map(|(reason, tally)| (format!("{reason:?}"), tally.documents)).collect();
    let too_long = dropped[1].1;
    assert_eq!(dropped, [("Duplicate".to_owned(), 1), ("TooLong".to_owned(), too_long)]);
    assert!(too_long > 0 && manifest.kept.documents == 2 * DOCUMENTS - 1 - too_long, "{too_long}");

    let json = |key: &str| artifacts.get(output[key].as_str().unwrap().parse().unwrap()).unwrap();
    let alone: Value = serde_json::from_slice(&json("manifest")).unwrap();
    assert_eq!(alone, serde_json::to_value(manifest).unwrap());
    assert_eq!(
        (&alone["config"]["template"], &alone["config"]["context"]),
        (&Value::from("chatml"), &Value::from(64))
    );
    let statistics: Statistics = serde_json::from_slice(&json("statistics")).unwrap();
    assert_eq!(
        (statistics.train.documents, statistics.train.tokens),
        (manifest.train.documents, manifest.train.tokens)
    );
    assert!((0.2..0.9).contains(&statistics.train.masked_share), "{}", statistics.train.masked_share);
    let report = String::from_utf8(json("report")).unwrap();
    assert!(report.contains(&format!("| dropped: too long | {too_long} |")), "{report}");

    let tokenizer = model::tokenizer(&artifacts, &data).unwrap();
    let corpus = model::corpus(&artifacts, &data.train).unwrap();
    let [chosen, rejected] = corpus.preference(0).unwrap();
    let learnt = |sequence: &muster_data::shard::Sequence| {
        let tokens: Vec<u32> = sequence
            .tokens
            .iter()
            .zip(&sequence.learnt)
            .filter(|(_, learnt)| **learnt)
            .map(|(token, _)| *token)
            .collect();
        tokenizer.decode(&tokens).unwrap()
    };
    assert_eq!((learnt(&chosen).as_str(), learnt(&rejected).as_str()), ("2.", "Nothing."));
    assert!(corpus.preferences() > 10);
}

#[test]
fn a_tokenizer_that_is_given_is_taken_with_its_special_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let made = cluster(dir.path(), DOCUMENTS, PACK, TOKENIZER);
    let hash: Digest = made.succeed("tokenizer")[0]["tokenizer"].as_str().unwrap().parse().unwrap();
    let json = Artifacts::open(&dir.path().join("artifacts")).unwrap().get(hash).unwrap();
    let given = dir.path().join("given");
    fs::create_dir(&given).unwrap();
    fs::write(given.join("tokenizer.json"), &json).unwrap();
    fs::write(
        given.join("tokenizer_config.json"),
        r#"{"eos_token": {"content": "<|im_end|>"}, "pad_token": "<|end|>"}"#,
    )
    .unwrap();

    let params = |path: &Path| serde_json::json!({"tokenizer": path}).to_string();
    let other = tempfile::tempdir().unwrap();
    let taken = cluster(other.path(), DOCUMENTS, PACK, &params(&given.join("tokenizer.json")));
    ["tokenizer", "pack"].into_iter().for_each(|stage| drop(taken.succeed(stage)));
    let output = taken.succeed("manifest").remove(0);
    let (artifacts, mut data) = data_set(other.path(), &output);
    let tokenizer = model::tokenizer(&artifacts, &data).unwrap();
    let ids = [tokenizer.special("<|im_end|>"), tokenizer.special("<|end|>")];
    assert_eq!(ids, [Some(tokenizer.eos()), Some(tokenizer.pad())]);
    assert_eq!((data.tokenizer, data.manifest.boundary), (hash, tokenizer.eos()));
    assert_eq!(ChatTemplate::named("auto", &tokenizer).unwrap(), ChatTemplate::Chatml);

    // Without the file that names its special tokens, it differs from the tokenizer of the shards.
    data.special_tokens = None;
    let message = model::tokenizer(&artifacts, &data).err().unwrap().to_string();
    assert!(message.contains("use the tokenizer and the shards together"), "{message}");

    fs::write(given.join("tokenizer_config.json"), r#"{"eos_token": "</s>"}"#).unwrap();
    let refused = |tokenizer: &str, pack: &str, documents, stage| {
        let dir = tempfile::tempdir().unwrap();
        let cluster = cluster(dir.path(), documents, pack, tokenizer);
        let stages = ["tokenizer", "pack", "manifest"];
        stages
            .into_iter()
            .take_while(|before| *before != stage)
            .for_each(|before| drop(cluster.succeed(before)));
        cluster.run(stage).into_iter().find_map(Result::err).unwrap()
    };
    let table = [
        (
            params(&given.join("tokenizer.json")),
            PACK,
            DOCUMENTS,
            "tokenizer",
            "`eos_token` \"</s>\" is not in its vocabulary",
        ),
        (params(&given.join("absent.json")), PACK, DOCUMENTS, "tokenizer", "absent.json"),
        (TOKENIZER.to_owned(), PACK, 0, "tokenizer", "there is no document to learn a tokenizer from"),
        (
            TOKENIZER.to_owned(),
            r#"{"context": 64}"#,
            DOCUMENTS,
            "pack",
            "tokens, and the context 64; `too_long` may be",
        ),
        (
            TOKENIZER.to_owned(),
            r#"{"too_long": "cut"}"#,
            DOCUMENTS,
            "pack",
            "`truncate`, `drop` or `error`, not \"cut\"",
        ),
        (
            TOKENIZER.to_owned(),
            r#"{"template": "llama3"}"#,
            DOCUMENTS,
            "pack",
            "needs the special token <|begin_of_text|>",
        ),
    ];
    for (tokenizer, pack, documents, stage, expected) in table {
        let message = refused(&tokenizer, pack, documents, stage);
        assert!(message.contains(expected), "{message}");
    }
}
