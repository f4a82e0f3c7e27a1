//! The CLI as scripts use it: exit codes, `--json`, and error messages.

use crate::leader_api;
use muster_tests::cluster::{Cluster, Shape};
use serde_json::Value;
use std::fs;
use std::process::{Command, Output};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {} {}", text(&output.stdout), text(&output.stderr)))
}

#[test]
fn exit_codes_tell_success_failure_and_usage_errors() {
    let cluster = Cluster::start(Shape { coordinators: 1, workers: 1, ..Shape::default() }).unwrap();
    let table: &[(&[&str], i32)] = &[
        (&["run", "--wait", "--", "true"], 0),
        (&["run", "--wait", "--", "false"], 1),
        (&["run", "--array", "3-1", "--", "true"], 2),
        (&["run"], 2),
        (&["show", "job-9999"], 2),
        (&["show", "nonsense"], 2),
        (&["submit", "/no/such/file.toml"], 2),
        (&["list"], 0),
        (&["workers"], 0),
        (&["status"], 0),
        (&["replay", "--verify"], 0),
        (&["replay", "--until", "1"], 0),
    ];
    for (arguments, code) in table {
        let output = cluster.muster(arguments);
        assert_eq!(
            output.status.code(),
            Some(*code),
            "{arguments:?}: {} {}",
            text(&output.stdout),
            text(&output.stderr)
        );
        if *code == 2 {
            assert!(!output.stderr.is_empty(), "{arguments:?}: standard error says what is wrong");
        }
    }
    let unreachable = Command::new(cluster.binary())
        .args(["status"])
        .env("MUSTER_URL", "http://127.0.0.1:1")
        .output()
        .unwrap();
    assert_eq!(unreachable.status.code(), Some(3), "{}", text(&unreachable.stderr));
}

#[test]
fn json_is_one_document_with_the_keys_of_the_api() {
    let cluster = Cluster::start(Shape { coordinators: 1, workers: 1, ..Shape::default() }).unwrap();
    let submitted = json(&cluster.muster(&[
        "run",
        "--name",
        "arrayed",
        "--array",
        "0-9:3",
        "--json",
        "--",
        "sh",
        "-c",
        "echo $MUSTER_ARRAY_INDEX",
    ]));
    assert_eq!(submitted["job"], "job-1", "{submitted}");
    let waited = cluster.muster(&["wait", "job-1"]);
    assert_eq!(waited.status.code(), Some(0), "{}", text(&waited.stderr));
    let listed = json(&cluster.muster(&["list", "--json"]));
    assert_eq!(
        (&listed[0]["id"], &listed[0]["state"], &listed[0]["tasks"]["succeeded"]),
        (&"job-1".into(), &"succeeded".into(), &4.into())
    );
    assert_eq!(json(&cluster.muster(&["show", "job-1", "--json"]))["job"]["name"], "arrayed");
    assert_eq!(json(&cluster.muster(&["workers", "--json"]))[0]["name"], "w1");
    assert_eq!(json(&cluster.muster(&["status", "--json"]))["role"], "leader");
    let replayed = json(&cluster.muster(&["replay", "--verify", "--json"]));
    assert_eq!(replayed["verified"], true);
    assert_eq!(text(&cluster.muster(&["logs", "job-1.3"]).stdout), "9\n");
}

#[test]
fn a_job_file_is_planned_and_run_and_its_errors_have_lines() {
    let cluster = Cluster::start(Shape { coordinators: 1, workers: 1, ..Shape::default() }).unwrap();
    let good = cluster.directory().join("good.toml");
    fs::write(&good, "name = \"two\"\n[[stage]]\nname = \"second\"\nneeds = [\"first\"]\ncommand = [\"true\"]\n[[stage]]\nname = \"first\"\ntasks = 2\ncommand = [\"true\"]\n").unwrap();
    let planned = cluster.muster(&["submit", good.to_str().unwrap(), "--dry-run"]);
    assert_eq!(planned.status.code(), Some(0), "{}", text(&planned.stderr));
    assert!(leader_api(&cluster).jobs().unwrap().is_empty(), "a dry run submits nothing");
    let run = cluster.muster(&["submit", good.to_str().unwrap(), "--wait"]);
    assert_eq!(run.status.code(), Some(0), "{} {}", text(&run.stdout), text(&run.stderr));
    let bad = cluster.directory().join("bad.toml");
    fs::write(&bad, "name = \"bad\"\n[[stage]]\nname = \"one\"\ncomand = [\"true\"]\n").unwrap();
    let refused = cluster.muster(&["submit", bad.to_str().unwrap()]);
    let printed = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2));
    for part in ["bad.toml", "4", "comand", "command"] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
}
