//! Data directories that are in use, of another cluster or damaged: one message says what is wrong and where,
//! and the exit code is not zero.

use crate::{await_end, leader_api};
use muster_protocol::spec::{Noop, Work};
use muster_tests::cluster::api::{job_of, new_request, stage_of};
use muster_tests::cluster::{Cluster, Shape};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Starts a coordinator that must not come up; returns its exit code and its output.
fn refused(cluster: &Cluster, arguments: &[String]) -> (Option<i32>, String) {
    let output: Output = Command::new("timeout")
        .arg("30")
        .arg(cluster.binary())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout),
    )
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.metadata().unwrap().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).map(drop).unwrap()
        }
    }
}

fn files_under(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_under(&path)) } else { files.push(path) }
    }
    files
}

#[test]
fn a_directory_in_use_or_of_another_cluster_or_a_newer_build_is_refused() {
    let mut cluster = Cluster::start(Shape { coordinators: 1, workers: 1, ..Shape::default() }).unwrap();
    let job = leader_api(&cluster)
        .submit(&job_of("some", stage_of("only", 5, Work::Noop(Noop {}))), new_request())
        .unwrap();
    await_end(&cluster, job);
    let pid = cluster.coordinator(0).pid();
    let own = cluster.coordinator_arguments(0);

    let (code, printed) = refused(&cluster, &own);
    assert_eq!(code, Some(2), "{printed}");
    assert!(printed.contains("in use") && printed.contains(&pid.to_string()), "{printed}");
    let (code, printed) = refused(
        &cluster,
        &["replay".into(), "--data".into(), cluster.coordinator_data(0).display().to_string()],
    );
    assert_eq!(code, Some(2), "{printed}");
    assert!(printed.contains("in use"), "{printed}");

    cluster.kill_coordinator(0);
    let renamed: Vec<String> = own
        .iter()
        .map(|argument| argument.replace("c1=", "c9="))
        .map(|a| if a == "c1" { "c9".to_string() } else { a })
        .collect();
    let (code, printed) = refused(&cluster, &renamed);
    assert_eq!(code, Some(2), "{printed}");
    assert!(printed.contains("c1") && printed.contains("c9"), "{printed}");
    let other: Vec<String> = own
        .iter()
        .map(|argument| if argument == "test" { "another".to_string() } else { argument.clone() })
        .collect();
    let (code, printed) = refused(&cluster, &other);
    assert_eq!(code, Some(2), "{printed}");
    assert!(printed.contains("another") && printed.contains("test"), "{printed}");

    let identity = cluster.coordinator_data(0).join("identity");
    let written = fs::read_to_string(&identity).unwrap();
    fs::write(&identity, written.replacen("format 2", "format 99", 1)).unwrap();
    let (code, printed) = refused(&cluster, &own);
    assert_eq!(code, Some(2), "{printed}");
    assert!(printed.contains("99") && printed.contains("newer muster"), "{printed}");
    fs::write(&identity, written).unwrap();

    // The directory is still usable.
    cluster.start_coordinator(0).unwrap();
    assert_eq!(leader_api(&cluster).job(job).unwrap().job.tasks.succeeded, 5);
}

#[test]
fn an_offline_replay_gives_the_same_hash_and_names_a_corrupted_block() {
    let mut cluster = Cluster::start(Shape { coordinators: 1, workers: 1, ..Shape::default() }).unwrap();
    let job = leader_api(&cluster)
        .submit(&job_of("some", stage_of("only", 300, Work::Noop(Noop {}))), new_request())
        .unwrap();
    await_end(&cluster, job);
    let until = leader_api(&cluster).status().unwrap().applied;
    let live = leader_api(&cluster).replay_until(until).unwrap();
    cluster.coordinator(0).terminate();
    let exit =
        muster_tests::cluster::wait_for("the coordinator's exit", || cluster.coordinator(0).exit().ok_or(()));
    assert!(exit.success(), "{exit:?}");
    let taken = cluster.directory().join("taken");
    copy(&cluster.coordinator_data(0), &taken);
    let offline = |directory: &Path| {
        let until = until.to_string();
        let arguments =
            ["replay", "--data", directory.to_str().unwrap(), "--until", &until, "--verify", "--json"]
                .map(str::to_string);
        Command::new(cluster.binary()).args(arguments).stdin(Stdio::null()).output().unwrap()
    };
    let output = offline(&taken);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let replay: muster_protocol::view::ReplayView = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((replay.state_hash, replay.chain, replay.verified), (live.state_hash, live.chain, Some(true)));

    // Damages the ledger's largest file in the middle of what was written.
    let ledger = files_under(&taken)
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("ledger"))
        .max_by_key(|path| fs::metadata(path).unwrap().len());
    let ledger = ledger.expect("a data directory has a ledger");
    let mut bytes = fs::read(&ledger).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end / 2] ^= 0x40;
    fs::write(&ledger, bytes).unwrap();
    let output = offline(&taken);
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains(taken.to_str().unwrap()) && printed.contains("corrupt"), "{printed}");

    // A coordinator refuses it too.
    let own = cluster.coordinator_data(0).display().to_string();
    let on_taken = |argument: String| if argument == own { taken.display().to_string() } else { argument };
    let arguments: Vec<String> = cluster.coordinator_arguments(0).into_iter().map(on_taken).collect();
    let (code, printed) = refused(&cluster, &arguments);
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains(taken.to_str().unwrap()) && printed.contains("corrupt"), "{printed}");
}
