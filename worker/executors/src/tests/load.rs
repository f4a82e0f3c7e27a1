//! Trainers that get their samples from loaders: the weights equal those of trainers that make samples
//! themselves, also when loaders start late or die.

use super::fake::Cluster;
use super::train::{SHAPE, bodies, cluster, weights};
use serde_json::Value;
use std::thread;

const STEPS: &str = r#""steps": 12, "microbatches": 4, "checkpoint_every": 4"#;

/// Runs two stages at the same time.
fn beside(cluster: &Cluster, first: &'static str, second: &'static str) -> (Vec<Value>, Vec<Value>) {
    let other = cluster.clone();
    let thread = thread::spawn(move || other.succeed(second));
    (cluster.succeed(first), thread.join().unwrap())
}

#[test]
fn loaders_feed_a_gang_and_the_weights_are_those_of_samples_made_at_home() {
    let dir = tempfile::tempdir().unwrap();
    let fed =
        |mode: &str, loader: &str| format!(r#"{SHAPE}, {mode}, "loader_stage": "{loader}", "prefetch": 2"#);
    let rounds = r#""mode": "diloco", "steps": 8, "inner_steps": 4, "replicas": 2, "microbatches": 2"#;
    let stages = [
        ("home", 1, format!("{SHAPE}, {STEPS}")),
        ("fed", 2, fed(STEPS, "load")),
        ("rounds-home", 1, format!("{SHAPE}, {rounds}")),
        ("rounds-fed", 2, fed(rounds, "load-rounds")),
    ];
    let cluster = cluster(dir.path(), &stages);
    cluster.stage("load", "data.load", 2, false, r#"{"feeds": ["fed"]}"#);
    cluster.stage("load-rounds", "data.load", 1, false, r#"{"feeds": ["rounds-fed"]}"#);

    let home = weights(&cluster.succeed("home"));
    let (trained, loaded) = beside(&cluster, "fed", "load");
    assert_eq!(weights(&trained), home);
    let sum = |key: &str| loaded.iter().map(|output| output[key].as_u64().unwrap()).sum::<u64>();
    // Each sample of the run once, besides those that each rank reads first: to check that every weight gets
    // a gradient, and twice more if it measures its speed.
    assert!(sum("samples") >= 48 && sum("samples") < 60, "{loaded:?}");
    assert_eq!(bodies(&cluster, 5, "round").len(), 3);

    let home = weights(&cluster.succeed("rounds-home"));
    let (trained, _) = beside(&cluster, "rounds-fed", "load-rounds");
    assert_eq!(weights(&trained), home);
}

#[test]
fn a_stage_that_is_no_loader_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let long = r#""objective": "sft", "too_long": "error", "loader_stage": "load""#;
    let cluster = cluster(
        dir.path(),
        &[
            ("empty", 1, format!(r#"{SHAPE}, {STEPS}, "loader_stage": "none""#)),
            ("long", 1, format!("{SHAPE}, {STEPS}, {long}")),
        ],
    );
    cluster.stage("none", "data.load", 0, false, "");
    cluster.stage("load", "data.load", 1, false, r#"{"feeds": ["long"]}"#);
    assert_eq!(cluster.run("empty")[0].clone().unwrap_err(), "find the loaders: stage `none` has no task");
    // If the loader finds the data invalid, the trainer fails at once; the loader runs until it is stopped.
    let other = cluster.clone();
    let loading = thread::spawn(move || other.run("load"));
    let message = cluster.run("long")[0].clone().unwrap_err();
    assert!(
        message.contains("use the loader at 127.0.0.1:") && message.contains("longer than the context of 16"),
        "{message}"
    );
    let task = cluster.memory.lock().unwrap().stages[5].tasks[0];
    cluster.memory.lock().unwrap().outputs.insert(task, "{}".to_owned());
    assert_eq!(loading.join().unwrap().len(), 1);
}
