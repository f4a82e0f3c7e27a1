//! A data directory that commit 668e260 wrote opens with this build. See `tests/fixtures/668e260/README.md`.

use crate::harness::{Cluster, job};
use muster_coordinator::replay::{self, Options};
use muster_protocol::ids::JobId;
use muster_protocol::view::{JobDetail, JobView, ReplayView, StatusView, TaskPage};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/668e260");

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What 668e260 made of the directory: `muster replay --verify --jobs --json`.
fn recorded() -> ReplayView {
    serde_json::from_slice(&fs::read(Path::new(FIXTURE).join("replay.json")).unwrap()).unwrap()
}

#[test]
fn an_old_ledger_replays_to_the_chain_and_the_jobs_of_its_time() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("c1");
    copy(&Path::new(FIXTURE).join("coordinator"), &data);
    let old = recorded();
    let until = Some(replay::Until::Index(old.to));
    let whole = replay::offline(&data, Options { until, verify: true, from_snapshot: false }).unwrap();
    assert_eq!((whole.from, whole.to, whole.verified), (old.from, old.to, Some(true)));
    assert_eq!((whole.chain, whole.events, whole.jobs), (old.chain, old.events, old.jobs));
    let tail = replay::offline(&data, Options { until: None, verify: true, from_snapshot: true }).unwrap();
    assert!(tail.from > old.from, "the fixture has a snapshot");
    assert_eq!((tail.chain, tail.state_hash, tail.verified), (old.chain, whole.state_hash, Some(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_goes_on_with_old_data() {
    let mut cluster = Cluster::start(1);
    cluster.leader().await;
    cluster.stop_one(0).await;
    fs::remove_dir_all(cluster.data(0)).unwrap();
    copy(&Path::new(FIXTURE).join("coordinator"), &cluster.data(0));
    cluster.start_one(0);
    cluster.leader().await;

    let old = recorded();
    let status: StatusView = cluster.document(0, "/v1/status").await;
    assert_eq!((status.role.as_str(), status.ledger_first.0), ("leader", 1));
    assert!(status.applied > old.to, "it has taken over");
    let jobs: Vec<JobView> = cluster.document(0, "/v1/jobs?limit=1000").await;
    assert_eq!(ids(&jobs), ids(&old.jobs));
    let children: JobDetail = cluster.document(0, "/v1/jobs/job-6").await;
    assert_eq!((children.job.name.as_str(), children.job.tasks.succeeded), ("children", 5));
    let tasks: TaskPage = cluster.document(0, "/v1/jobs/job-6/tasks").await;
    assert_eq!(tasks.tasks[0].progress["train"].seq, 1);

    // The old request gets its old answer, and a new one a new job.
    let array = fs::read_to_string(Path::new(FIXTURE).join("array.json")).unwrap();
    let array: Value = serde_json::from_str(&array).unwrap();
    let (code, again) =
        cluster.post(0, "/v1/jobs", Some("01901234-5678-7abc-8def-0123456789ab"), &array).await;
    assert_eq!((code, &again["job"]), (200, &json!("job-1")), "{again}");
    let new = cluster.submit(0, "new").await;
    assert_eq!(new, format!("job-{}", jobs.len() + 1));
    let (code, cancelled) = cluster.post(0, "/v1/jobs/job-39/cancel", None, &json!({})).await;
    assert_eq!(
        (code, &cancelled["job"]),
        (200, &json!("job-39")),
        "an old open job can be cancelled: {cancelled}"
    );
    let shown: JobDetail = cluster.document(0, &format!("/v1/jobs/{new}")).await;
    assert_eq!(shown.stages.len(), job("new")["stages"].as_array().unwrap().len());
}

fn ids(jobs: &[JobView]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}
