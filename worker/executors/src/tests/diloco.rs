//! DiLoCo rounds that fail: replicas that are late or diverge to NaN, rounds with a loss spike, and ranks
//! that are killed. In every case the records account for each sample exactly once.

use super::fake::Cluster;
use super::train::{SHAPE, bodies, cluster, killed, weights};
use muster_collective::{Gang, Member, Timeouts};
use muster_llm::model::weights::{initial, slots};
use muster_llm::model::{Decoder, ModelConfig, hub};
use muster_protocol::bus::Launch;
use muster_protocol::interval_set::IntervalSet;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const ROUNDS: &str = r#""mode": "diloco", "steps": 12, "inner_steps": 4, "replicas": 4, "microbatches": 2"#;

fn runs(body: &Value, key: &str) -> IntervalSet<u64> {
    body[key].as_str().unwrap().parse().unwrap()
}

fn union(parts: &[IntervalSet<u64>]) -> IntervalSet<u64> {
    IntervalSet::from_disjoint(parts.iter().flat_map(IntervalSet::ranges))
        .unwrap_or_else(|| panic!("{parts:?} overlap"))
}

/// The samples that rounds consumed and those that were skipped. Checks a stage's records by the rules of
/// `muster audit`: no used sample is leased, a round consumes what is leased to it, and in the end no sample
/// is missing.
fn account(cluster: &Cluster, stage: usize) -> (IntervalSet<u64>, IntervalSet<u64>) {
    let memory = cluster.memory.lock().unwrap();
    let rank_0 = memory.stages[stage].tasks[0];
    let (mut consumed, mut skipped, mut leases) = (Vec::new(), Vec::new(), BTreeMap::new());
    for (_, record) in memory.ledger.iter().filter(|(task, _)| *task == rank_0) {
        let body: Value = serde_json::from_str(&record.body).unwrap();
        match record.key.as_str() {
            "lease" => {
                let (round, samples) = (body["round"].as_u64().unwrap(), runs(&body, "samples"));
                leases.retain(|other, _| *other < round);
                let open: Vec<IntervalSet<u64>> = leases.values().cloned().collect();
                union(&[consumed.clone(), skipped.clone(), open, vec![samples.clone()]].concat());
                leases.insert(round, samples);
            }
            "round" => {
                let samples = runs(&body, "samples");
                let leased = leases.remove(&body["round"].as_u64().unwrap()).unwrap();
                let within = |range: std::ops::Range<u64>| {
                    leased.ranges().any(|all| all.start <= range.start && range.end <= all.end)
                };
                assert!(samples.ranges().all(within), "{samples} of {leased}");
                consumed.push(samples);
            }
            key if key.starts_with("guard/") => skipped.push(runs(&body, "skipped")),
            _ => {}
        }
    }
    assert!(leases.is_empty(), "{leases:?} are still open");
    let all = union(&[consumed.clone(), skipped.clone()].concat());
    assert!(all.ranges().eq([0..all.len()]), "{all}: some are missing");
    (union(&consumed), union(&skipped))
}

fn said(cluster: &Cluster, stage: usize) -> Vec<Value> {
    let memory = cluster.memory.lock().unwrap();
    let rank_0 = memory.stages[stage].tasks[0];
    let records =
        memory.ledger.iter().filter(|(task, record)| *task == rank_0 && record.key.starts_with("guard/"));
    records.map(|(_, record)| serde_json::from_str(&record.body).unwrap()).collect()
}

/// Joins as one of two ranks, up to the first round.
fn join(launch: &Launch) -> Gang {
    let gang = launch.gang.clone().unwrap();
    let (job, stage) = (launch.attempt.task.job.to_string(), launch.stage.0);
    let member = Member {
        cluster: "test".to_owned(),
        job,
        stage,
        formation: gang.formation,
        rank: launch.rank,
        world: launch.world,
    };
    let mut joined =
        Gang::join(&member, &format!("{}:{}", gang.address, gang.port), Timeouts::default()).unwrap();
    joined.broadcast(Vec::new()).unwrap();
    joined.all_gather(vec![0; 8]).unwrap();
    joined.broadcast(Vec::new()).unwrap();
    joined
}

/// Contributes the same to every round, until rank 0 has closed three or is gone. Returns how many replicas
/// were merged in each.
fn bring(launch: &Launch, contributions: &[(u32, &str)]) {
    let mut gang = join(launch);
    for turn in 0..3 {
        let own =
            contributions.iter().map(|(replica, bytes)| (*replica, bytes.as_bytes().to_vec())).collect();
        match gang.contribute(turn, own) {
            Ok(outcome) => assert_eq!(outcome.merged, [0, 1]),
            Err(_) => return,
        }
    }
    // The broadcasts of the weights' hash and of the checkpoint.
    let _ = gang.broadcast(Vec::new()).and_then(|_| gang.broadcast(Vec::new()));
}

#[test]
fn late_replicas_are_fenced_and_their_samples_dealt_again() {
    let dir = tempfile::tempdir().unwrap();
    let params = format!(r#"{SHAPE}, {ROUNDS}, "min_contributions": 2, "round_seconds": 0"#);
    let cluster = cluster(dir.path(), &[("late", 2, params.clone()), ("hurried", 3, params)]);
    // Rank 1 waits for each round's outcome and contributes nothing: replicas 2 and 3 are late.
    cluster.memory.lock().unwrap().stand_in = Some((1, |launch| bring(launch, &[])));
    let output = cluster.succeed("late");
    assert_eq!(output[0]["step"], 12);
    let rounds: Vec<Value> =
        bodies(&cluster, 4, "round").iter().map(|body| body["samples"].clone()).collect();
    assert_eq!(rounds, ["0+16", "16+16", "32+16"]);
    let guards = said(&cluster, 4);
    assert!(
        guards.len() == 1 && guards[0]["decision"] == "leave out" && guards[0]["skipped"] == "48+48",
        "{guards:?}"
    );
    let (consumed, skipped) = account(&cluster, 4);
    assert_eq!((consumed.to_string(), skipped.to_string()), ("0+48".to_owned(), "48+48".to_owned()));
    let late = bodies(&cluster, 4, "lease").last().cloned().unwrap();
    assert_eq!((&late["round"], &late["samples"]), (&json!(2), &json!("32+32")));

    // Real ranks with a deadline of zero: whichever replicas are late, all ranks end with the same weights,
    // and each sample is accounted for.
    cluster.memory.lock().unwrap().stand_in = None;
    weights(&cluster.succeed("hurried"));
    let (consumed, skipped) = account(&cluster, 5);
    assert_eq!(consumed.len() + skipped.len(), 96, "{consumed} and {skipped}");
}

#[test]
fn replicas_without_numbers_are_refused_and_that_is_said_once() {
    let dir = tempfile::tempdir().unwrap();
    write_wild_model(&dir.path().join("wild"));
    let stages = [
        ("refused", 2, format!("{SHAPE}, {ROUNDS}")),
        ("killed", 2, format!("{SHAPE}, {ROUNDS}")),
        ("strict", 2, format!(r#"{SHAPE}, {ROUNDS}, "min_contributions": 3"#)),
        ("wild", 2, format!(r#"{ROUNDS}, "base": {:?}, "guard_max": 2"#, dir.path().join("wild"))),
    ];
    let cluster = cluster(dir.path(), &stages);
    cluster.memory.lock().unwrap().stand_in = Some((1, |launch| {
        bring(
            launch,
            &[(2, r#"{"Wrong":"the loss of step 1 is NaN"}"#), (3, r#"{"Wrong":"its delta is none"}"#)],
        )
    }));
    let whole = cluster.succeed("refused")[0].clone();
    let expected = |stage: usize| {
        let guards = said(&cluster, stage);
        let skipped: Vec<&Value> = guards.iter().map(|guard| &guard["skipped"]).collect();
        assert_eq!(skipped, ["16+16", "48+16", "80+16"]);
        let why = "replica 2: the loss of step 1 is NaN; replica 3: its delta is none";
        assert!(
            guards.iter().all(|guard| guard["decision"] == "refuse" && guard["why"] == why),
            "{guards:?}"
        );
        let (consumed, skipped) = account(&cluster, stage);
        assert_eq!((consumed.len(), skipped.len()), (48, 48));
    };
    expected(4);

    // The agent dies after a round is committed and before its refusal is recorded.
    cluster.memory.lock().unwrap().patience = Some(("guard/", 1));
    assert!(cluster.run("killed")[0].is_err());
    assert_eq!((bodies(&cluster, 5, "round").len(), said(&cluster, 5).len()), (2, 1));
    cluster.memory.lock().unwrap().patience = None;
    cluster.memory.lock().unwrap().stand_in = Some((1, |launch| {
        let mut gang = join(launch);
        let wrong = |replica: u32, why: &str| (replica, format!(r#"{{"Wrong":"{why}"}}"#).into_bytes());
        gang.contribute(0, vec![wrong(2, "the loss of step 1 is NaN"), wrong(3, "its delta is none")])
            .unwrap();
        gang.broadcast(Vec::new()).and_then(|_| gang.broadcast(Vec::new())).unwrap();
    }));
    assert_eq!(cluster.succeed("killed")[0]["checkpoint"], whole["checkpoint"]);
    expected(5);

    // Three replicas are required, and only two can be merged: the round is repeated until the training gives
    // up.
    cluster.memory.lock().unwrap().stand_in = Some((1, |launch| {
        let mut gang = join(launch);
        for turn in 0..9 {
            let wrong = |replica: u32| (replica, br#"{"Wrong":"the loss is NaN"}"#.to_vec());
            match gang.contribute(turn, vec![wrong(2), wrong(3)]) {
                Ok(outcome) => assert!(outcome.merged.is_empty()),
                Err(_) => return,
            }
        }
    }));
    let message = cluster.run("strict")[0].clone().unwrap_err();
    assert!(
        message.contains("2 replicas may be merged where 3 must: replica 2: the loss is NaN"),
        "{message}"
    );
    assert_eq!((said(&cluster, 6).len(), bodies(&cluster, 6, "round").len()), (3, 0));

    // All replicas diverge to NaN.
    cluster.memory.lock().unwrap().stand_in = None;
    let message = cluster.run("wild")[0].clone().unwrap_err();
    for part in [
        "continue at step 0: 0 replicas may be merged",
        "replica 0: the",
        "the guard may roll back 2 times (`guard_max`)",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let skipped: Vec<Value> = said(&cluster, 7).iter().map(|guard| guard["skipped"].clone()).collect();
    assert_eq!(skipped, ["0+32", "32+32"]);
}

/// A model whose logits are NaN.
fn write_wild_model(dir: &Path) {
    let config = ModelConfig {
        vocab_size: 300,
        hidden_size: 32,
        intermediate_size: 64,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        max_position_embeddings: 16,
        ..ModelConfig::default()
    };
    let mut weights = initial(&config, 1);
    for slot in slots(&config).into_iter().filter(|slot| slot.name == "model.norm.weight") {
        weights[slot.range()].fill(f32::MAX);
    }
    let model = Decoder::trained(config, &weights).unwrap();
    fs::create_dir(dir).unwrap();
    for (name, bytes) in hub::save(model.config(), model.store(), model.store().dtype(), 1 << 30).unwrap() {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

/// Files that are easy to learn, and a few that are random.
fn write_texts(dir: &Path) {
    fs::create_dir(dir).unwrap();
    for file in 0..60 {
        let lines = "fn add(a: u64) -> u64 { a + 1 }\n".repeat(30);
        fs::write(dir.join(format!("easy-{file}.rs")), format!("// {file}\n{lines}")).unwrap();
    }
    let mut random = 1u64;
    for file in 0..8 {
        let mut letter = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'!' + ((random >> 33) % 90) as u8)
        };
        fs::write(dir.join(format!("hard-{file}.rs")), (0..240).map(|_| letter()).collect::<String>())
            .unwrap();
    }
}

#[test]
fn a_round_that_is_a_spike_is_done_again_on_other_samples() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::new(dir.path());
    write_texts(&dir.path().join("texts"));
    let roots = json!({"roots": [dir.path().join("texts")], "filters": "none", "near": "none", "held_out_per_mille": 100});
    cluster.stage("scan", "data.scan", 1, false, &roots.to_string());
    cluster.stage("tokenizer", "data.tokenizer", 1, false, r#"{"vocab_size": 300, "sample_mib": 1}"#);
    cluster.stage("pack", "data.pack", 1, false, "");
    cluster.stage("manifest", "data.manifest", 1, false, "");
    let params = format!(
        r#"{{{SHAPE}, "context": 16, "sequences": 1, "microbatches": 1, "warmup_steps": 2, "metrics_every": 20, "shares": "equal",
        "mode": "diloco", "replicas": 2, "inner_steps": 2, "steps": 120, "learning_rate": 1e-2, "schedule": "constant", "guard_deviations": 4.0,
        "guard_max": 100}}"#
    );
    for (name, ranks) in [("one", 1), ("two", 2), ("killed", 2)] {
        cluster.stage(name, "train", ranks, ranks > 1, &params);
    }
    for stage in ["scan", "tokenizer", "pack", "manifest"] {
        cluster.succeed(stage);
    }
    let one = cluster.succeed("one");
    let guards = said(&cluster, 4);
    assert!(guards.iter().all(|guard| guard["decision"] == "rollback"), "{guards:?}");
    assert!(
        guards.len() > 1 && guards[0]["why"].as_str().unwrap().starts_with("the round has a loss of "),
        "{guards:?}"
    );
    let (consumed, skipped) = account(&cluster, 4);
    assert_eq!((consumed.len(), skipped.len()), (240, 4 * guards.len() as u64));

    let two = cluster.succeed("two");
    assert_eq!((&one[0]["checkpoint"], said(&cluster, 5)), (&two[0]["checkpoint"], guards.clone()));
    // It dies when it records the second rollback. The next attempt reads what was skipped, and gets the same
    // weights.
    cluster.memory.lock().unwrap().patience = Some(("guard/", 1));
    assert!(cluster.run("killed").iter().all(Result::is_err));
    cluster.memory.lock().unwrap().patience = None;
    assert_eq!(cluster.succeed("killed")[0]["checkpoint"], one[0]["checkpoint"]);
    assert_eq!(said(&cluster, 6), guards);
    account(&cluster, 6);
}

#[test]
fn the_checkpoint_is_the_same_for_any_number_of_ranks_and_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let params = format!("{SHAPE}, {ROUNDS}");
    let stages = [
        ("one", 1, params.clone()),
        ("two", 2, params.clone()),
        ("four", 4, params.clone()),
        ("killed", 2, params),
    ];
    let cluster = cluster(dir.path(), &stages);
    let one = cluster.succeed("one");
    for stage in ["two", "four"] {
        assert_eq!(cluster.succeed(stage)[0]["checkpoint"], one[0]["checkpoint"], "{stage}");
    }
    assert_eq!(killed(&cluster, "killed", 4), weights(&one));
    let last = |stage: usize| bodies(&cluster, stage, "round").last().map(|body| body["checkpoint"].clone());
    assert_eq!(last(7), last(4));
    for stage in 4..8 {
        let (consumed, skipped) = account(&cluster, stage);
        assert_eq!((consumed.to_string(), skipped.len()), ("0+96".to_owned(), 0));
    }
    // A round may be leased before or after the commit of the round before it; leases are in the order of
    // rounds either way.
    let rounds: Vec<Value> = bodies(&cluster, 4, "lease").iter().map(|body| body["round"].clone()).collect();
    assert_eq!(rounds, [0, 1, 2]);
}
