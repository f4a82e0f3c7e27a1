//! A full artifact store: the attempt's error names the store and the missing bytes, earlier checkpoints
//! stay, and the training resumes once there is room.
//!
//! The store is a file system of a few MiB in its own namespaces, so this test starts itself again in them.
//! On a system without user namespaces it prints that, and tests nothing.

use super::fake::Cluster;
use super::made::{artifacts, bodies, hash, prepared, refused, texts, train, weights};
use crate::model::Model;
use crate::place::ModelPlace;
use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const NAME: &str = "tests::full_store::a_full_store_is_named_and_costs_no_checkpoint";
/// The environment variable with the small file system's path, in the process that mounts it.
const PLACE: &str = "MUSTER_TEST_SMALL_STORE";
const MOUNT: &str = r#"mount -t tmpfs -o size=8m none "$0" && exec "$@""#;
/// Three checkpoints.
const RUN: &str = r#""steps": 12, "microbatches": 2, "sequences": 1, "checkpoint_every": 4, "keep_last": 1, "keep_best": 0"#;

fn free(dir: &Path) -> u64 {
    let found = rustix::fs::statvfs(dir).unwrap();
    found.f_bavail * found.f_frsize
}

/// Fills the store until `left` bytes are free.
fn fill(dir: &Path, left: u64) -> PathBuf {
    let ballast = dir.join("ballast");
    fs::write(&ballast, vec![1; (free(dir) - left) as usize]).unwrap();
    ballast
}

#[test]
fn a_full_store_is_named_and_costs_no_checkpoint() {
    if let Some(place) = env::var_os(PLACE) {
        return in_a_small_store(Path::new(&place));
    }
    let dir = tempfile::tempdir().unwrap();
    let shell = |rest: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", MOUNT]).arg(dir.path()).args(rest);
        command
    };
    if !shell(&["true"]).output().is_ok_and(|tried| tried.status.success()) {
        let said = writeln!(stderr(), "this system has no user namespaces: a full store is not tested");
        return said.unwrap();
    }
    let program = env::current_exe().unwrap().display().to_string();
    let ended =
        shell(&[program.as_str(), "--exact", NAME, "--nocapture"]).env(PLACE, dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(
        ended.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&ended.stderr)
    );
}

fn in_a_small_store(dir: &Path) {
    // The expected weights, from another store: in the same one its artifacts would be reused.
    let elsewhere = tempfile::tempdir().unwrap();
    let calm = prepared(elsewhere.path(), texts(30));
    train(&calm, "train", 1, RUN);
    let expected = weights(&calm.succeed("train"));
    let bytes = bodies(&calm, "train", "checkpoint")[0]["bytes"].as_u64().unwrap();

    let cluster = prepared(dir, texts(30));
    train(&cluster, "train", 1, RUN);
    // One and a half checkpoints fit: an old one is deleted only when the next is committed.
    let ballast = fill(dir, bytes * 3 / 2);
    let message = refused(&cluster, "train");
    let store = dir.join("artifacts");
    for part in [
        "write the checkpoint's ",
        "keep artifact blake3:",
        &format!("the store {} is full", store.display()),
        "bytes are free",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let rounds = bodies(&cluster, "train", "round");
    assert_eq!(rounds.len(), 1, "{message}");
    let load = |cluster: &Cluster| {
        Model::load(&artifacts(cluster), &ModelPlace::Artifact(hash(&rounds[0]["checkpoint"]))).unwrap()
    };
    load(&cluster).decoder().unwrap();
    // Without more room it fails the same way, and loses nothing.
    assert!(refused(&cluster, "train").contains("is full"));
    load(&cluster);
    fs::remove_file(ballast).unwrap();
    assert_eq!(weights(&cluster.succeed("train")), expected);
    let resumed: Vec<u64> =
        bodies(&cluster, "train", "resume").iter().map(|body| body["step"].as_u64().unwrap()).collect();
    assert_eq!(resumed, [0, 4, 4]);
    let samples: Vec<_> =
        bodies(&cluster, "train", "round").iter().map(|body| body["samples"].clone()).collect();
    assert_eq!(samples, ["0+8", "8+8", "16+8"]);

    // Too full even for a pin.
    train(&cluster, "none", 1, &format!(r#"{RUN}, "seed": 9"#));
    fill(dir, 0);
    assert!(refused(&cluster, "none").contains("is full"));
}
