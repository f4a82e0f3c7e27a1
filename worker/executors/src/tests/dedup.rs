//! From rows in files to a data set without near duplicates: with any splits, shares and kills, the manifest
//! is the same.

use super::fake::Cluster;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Rows of two files: random words; some rows are near duplicates of the row before, some are equal to it,
/// and some are malformed.
fn corpus(dir: &Path) {
    fs::create_dir_all(dir.join("corpus")).unwrap();
    let text = |number: u64, changed: bool| {
        let word = |place: u64| {
            let drawn = (number * 1_000 + place).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            if changed && place == 50 { "changed".to_owned() } else { format!("w{drawn}") }
        };
        (0..100).map(word).collect::<Vec<_>>().join(" ")
    };
    for file in 0..2 {
        let mut rows = String::new();
        for number in (0..60).map(|row| row + 60 * file) {
            rows += &format!("{}\n", json!({"text": text(number, false)}));
            if number % 6 == 1 {
                rows += &format!("{}\n", json!({"text": text(number, true)}));
            }
            if number % 10 == 2 {
                rows += &format!("{}\n", json!({"text": text(0, false)}));
            }
        }
        fs::write(dir.join(format!("corpus/{file}.jsonl")), rows + "no row\n").unwrap();
    }
    fs::write(
        dir.join("quiz.jsonl"),
        format!("{}\n", json!({"prompt": text(33, false), "completion": "yes"})),
    )
    .unwrap();
}

fn cluster(dir: &Path, splits: u32, shares: u32) -> Cluster {
    let cluster = Cluster::new(dir);
    let scan = json!({
        "roots": [dir.join("corpus")], "format": "jsonl", "filters": "none", "block_kib": 4, "step_kib": 8, "max_mib": 1,
        "decontaminate": [format!("quiz={}", dir.join("quiz.jsonl").display())],
    });
    cluster.stage("scan", "data.scan", splits, false, &scan.to_string());
    cluster.stage("dedup", "data.dedup", shares, false, "");
    cluster.stage("choose", "data.choose", 1, false, "");
    cluster.stage(
        "tokenizer",
        "data.tokenizer",
        1,
        false,
        r#"{"vocab_size": 400, "sample_mib": 1, "choose_stage": "choose"}"#,
    );
    cluster.stage("pack", "data.pack", splits, false, "");
    cluster.stage("manifest", "data.manifest", 1, false, "");
    cluster
}

fn finish(cluster: &Cluster) -> Value {
    for stage in ["dedup", "choose", "tokenizer", "pack"] {
        cluster.succeed(stage);
    }
    cluster.succeed("manifest").remove(0)
}

#[test]
fn shares_and_kills_leave_no_trace_in_a_data_set_without_near_duplicates() {
    let mut manifests = Vec::new();
    for (shares, kill) in [(1, None), (3, None), (2, Some(0)), (1, Some(2)), (1, Some(4))] {
        let dir = tempfile::tempdir().unwrap();
        corpus(dir.path());
        let cluster = cluster(dir.path(), 2, shares);
        if let Some(after) = kill {
            // An agent dies at that record; recorded input is not read again.
            cluster.memory.lock().unwrap().patience = Some(("step", after));
            assert!(cluster.run("scan").iter().any(Result::is_err));
            cluster.memory.lock().unwrap().patience = None;
        }
        let scanned = cluster.succeed("scan");
        let seen: u64 = scanned.iter().map(|output| output["seen"].as_u64().unwrap()).sum();
        assert_eq!(seen, 120 + 20 + 12 + 2, "each row is seen once");
        let recorded =
            cluster.memory.lock().unwrap().ledger.iter().filter(|(_, record)| record.key == "step").count();
        assert!(recorded > 4, "{recorded} steps");
        manifests.push(finish(&cluster));
    }
    assert!(
        manifests.iter().all(|manifest| manifest["manifest"] == manifests[0]["manifest"]),
        "{manifests:?}"
    );
}

#[test]
fn the_books_name_what_became_of_every_row_whatever_the_splits() {
    for splits in [1, 2, 5] {
        let dir = tempfile::tempdir().unwrap();
        corpus(dir.path());
        let cluster = cluster(dir.path(), splits, 2);
        cluster.succeed("scan");
        let output = finish(&cluster);
        let choice = cluster.succeed("choose").remove(0);
        // Row 0 comes 13 times; of the changed rows one is nearly the same as each other; row 33 is in the
        // quiz.
        let found = ["documents", "duplicates", "near_duplicates"].map(|key| choice[key].as_u64().unwrap());
        assert_eq!(found, [119, 12, 20], "{splits} splits");
        assert_eq!((output["documents"].as_u64(), output["seen"].as_u64()), (Some(119), Some(154)));
    }
}

#[test]
fn parameters_that_mean_nothing_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    corpus(dir.path());
    let table = [
        (json!({"format": "csv"}), "there is no format \"csv\"; there are auto, text"),
        (json!({"filters": "strict"}), "unknown filters \"strict\"; use `none`, `code` or `web`"),
        (json!({"normalise": ["nfd"]}), "\"nfd\" can't be normalised"),
        (json!({"languages": ["en"]}), "unknown language \"en\""),
        (json!({"decontaminate": ["quiz.jsonl"]}), "`decontaminate` has name=file, not \"quiz.jsonl\""),
        (json!({"decontaminate": ["quiz=/no/such/file"]}), "/no/such/file"),
        (json!({"near": "lines"}), "`near` is words, characters or none, not \"lines\""),
        (json!({"roots": ["/no/such/place"]}), "/no/such/place"),
        (
            json!({"roots": [dir.path().join("corpus")], "format": "jsonl", "text_field": "body"}),
            "are malformed: corpus/",
        ),
    ];
    for (params, expected) in table {
        let home = tempfile::tempdir().unwrap();
        let cluster = Cluster::new(home.path());
        cluster.stage("scan", "data.scan", 1, false, &params.to_string());
        let message = cluster.run("scan").remove(0).unwrap_err();
        assert!(message.contains(expected), "{params}: {message}");
    }
}
