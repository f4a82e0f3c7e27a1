//! A single coordinator: the API as `docs/api.md` specifies it.

use crate::harness::{Cluster, error, job};
use muster_coordinator::{Config, RunError, run};
use muster_protocol::ids::JobId;
use muster_protocol::view::{JobDetail, JobView, ReplayView, StatusView, TaskPage, WorkerView};
use reqwest::Method;
use serde_json::{Value, json};

const KEY: &str = "01901234-5678-7abc-8def-0123456789ab";

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_submitted_listed_and_cancelled() {
    let cluster = Cluster::start(1);
    cluster.leader().await;
    let (status, first) = cluster.post(0, "/v1/jobs", Some(KEY), &job("first")).await;
    assert_eq!((status, &first["job"]), (200, &json!("job-1")), "{first}");
    assert_eq!(
        cluster.post(0, "/v1/jobs", Some(KEY), &job("first")).await,
        (200, first.clone()),
        "a repeat gets its first answer"
    );
    let (status, reused) = cluster.post(0, "/v1/jobs", Some(KEY), &job("another")).await;
    assert_eq!((status, error(&reused).field.as_str()), (409, "Idempotency-Key"), "{reused}");
    let (status, second) = cluster.post(0, "/v1/jobs", None, &job("second")).await;
    assert_eq!(
        (status, &second["job"]),
        (200, &json!("job-2")),
        "without a key, each is a request of its own: {second}"
    );

    let jobs: Vec<JobView> = cluster.document(0, "/v1/jobs?limit=1").await;
    assert_eq!(
        jobs.iter().map(|job| (job.name.as_str(), job.actor.as_str())).collect::<Vec<_>>(),
        [("second", "ada")]
    );
    let detail: JobDetail = cluster.document(0, "/v1/jobs/job-1").await;
    assert_eq!((detail.job.id, detail.stages.len(), detail.job.tasks.pending), (JobId(1), 1, 2));
    let page: TaskPage = cluster.document(0, "/v1/jobs/job-1/tasks?from=0&limit=1").await;
    assert_eq!((page.tasks.len(), page.next), (1, Some(1)));
    let page: TaskPage = cluster.document(0, "/v1/jobs/job-1/tasks?from=1").await;
    assert_eq!((page.tasks[0].id.index, page.next), (1, None));
    assert_eq!(cluster.document::<Vec<WorkerView>>(0, "/v1/workers").await, []);

    let (status, cancelled) =
        cluster.post(0, "/v1/jobs/job-1/cancel", None, &json!({ "reason": "enough" })).await;
    assert_eq!((status, &cancelled["job"]), (200, &json!("job-1")), "{cancelled}");
    let detail: JobDetail = cluster.document(0, "/v1/jobs/job-1").await;
    assert_eq!(
        (detail.job.state.as_str(), detail.job.reason.contains("enough")),
        ("cancelled", true),
        "{detail:?}"
    );
    let (status, late) = cluster.post(0, "/v1/jobs/job-1/cancel", None, &json!({})).await;
    assert_eq!((status, error(&late).error.as_str()), (409, "wrong_state"), "{late}");
    let (status, again) = cluster.post(0, "/v1/jobs/job-1/retry", None, &Value::Null).await;
    assert_eq!((status, &again["job"]), (200, &json!("job-1")), "{again}");

    let view: StatusView = cluster.document(0, "/v1/status").await;
    assert_eq!(
        (view.role.as_str(), view.leader.as_str(), view.open_jobs, view.ledger_first.0),
        ("leader", "c1", 2, 1)
    );
    assert!(view.bus.contains("not connected"), "no broker, and said to be so: {}", view.bus);
    for counter in
        ["raft_syncs", "ledger_syncs", "log_bytes", "bus_sent", "bus_received", "commands", "entries"]
    {
        assert!(view.counters.contains_key(counter), "{counter}: {:?}", view.counters);
    }
    assert!(cluster.get(0, "/v1/health").await.unwrap().status().is_success());
    // No worker can run a task: the stream has one error and ends.
    let logs = cluster.get(0, "/v1/tasks/job-1.0/logs").await.unwrap().text().await.unwrap();
    assert!(logs.contains("\"end\":true") && logs.contains("has not started"), "{logs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_is_wrong_with_a_request() {
    let cluster = Cluster::start(1);
    cluster.leader().await;
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(2 << 20));
    let good = job("good").to_string();
    let get = |path| (Method::GET, path, vec![], "");
    let post =
        |path, headers: &[(&'static str, &'static str)], body| (Method::POST, path, headers.to_vec(), body);
    let long: &'static str = Box::leak("a".repeat(129).into_boxed_str());
    let table = [
        (post("/v1/jobs", &[], "{"), 400, "invalid", "", "line 1 column 1"),
        (
            post("/v1/jobs", &[], "{\"name\": \"x\",\n \"stages\": 7}"),
            400,
            "invalid",
            "stages",
            "line 2 column",
        ),
        (post("/v1/jobs", &[], "{\"name\": \"x\", \"stages\": []}"), 400, "invalid", "stages", ""),
        (post("/v1/jobs", &[], large.as_str()), 413, "limit_exceeded", "", "1048576 bytes"),
        (
            post("/v1/jobs", &[("Idempotency-Key", "17")], good.as_str()),
            400,
            "invalid",
            "Idempotency-Key",
            "UUID",
        ),
        (
            post("/v1/jobs", &[("X-Muster-Actor", long)], good.as_str()),
            400,
            "invalid",
            "X-Muster-Actor",
            "128",
        ),
        (post("/v1/jobs/job-9/cancel", &[], ""), 404, "unknown", "", "job-9"),
        (post("/v1/jobs/job-9/cancel", &[], "[]x"), 400, "invalid", "", "line 1"),
        (post("/v1/jobs/9/retry", &[], ""), 400, "invalid", "job", "job-N"),
        (post("/v1/workers/worker-9/drain", &[], ""), 404, "unknown", "", "worker-9"),
        (get("/v1/jobs/job-9"), 404, "unknown", "", "job-9"),
        (get("/v1/jobs/job-9/tasks"), 404, "unknown", "", "job-9"),
        (get("/v1/jobs?limit=many"), 400, "invalid", "limit", "invalid digit"),
        (get("/v1/tasks/job-9.1/logs"), 404, "unknown", "", "job-9.1"),
        (get("/v1/tasks/job-9/logs"), 400, "invalid", "task", "job-N.T"),
        (get("/v1/tasks/job-9.1/logs?stream=stdin"), 400, "invalid", "stream", "stderr"),
        (get("/v1/events?job=7"), 400, "invalid", "job", "job-N"),
        (get("/v1/replay?until=yesterday"), 400, "invalid", "until", ""),
        (get("/v2/jobs"), 404, "unknown", "", "docs/api.md"),
        ((Method::PUT, "/v1/jobs", vec![], ""), 400, "invalid", "method", "PUT"),
    ];
    for ((method, path, headers, body), status, word, field, message) in table {
        let (found, document) = cluster.send(0, method, path, &headers, body).await;
        let view = error(&document);
        assert_eq!(
            (found, view.error.as_str(), view.field.as_str()),
            (status, word, field),
            "{path}: {document}"
        );
        assert!(view.message.contains(message), "{path}: {document}");
    }
    let jobs: Vec<JobView> = cluster.document(0, "/v1/jobs").await;
    assert_eq!(jobs, [], "nothing of that did anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_forgets_nothing_and_replays_to_the_same_state() {
    let mut cluster = Cluster::start(1);
    cluster.leader().await;
    for n in 0..5 {
        cluster.submit(0, &format!("job {n}")).await;
    }
    let (before, jobs) = (cluster.events(0).await, cluster.document::<Vec<JobView>>(0, "/v1/jobs").await);
    let until = before.last().unwrap().index;
    let replay: ReplayView = cluster.document(0, &format!("/v1/replay?verify=true&until={until}")).await;
    assert_eq!((replay.verified, replay.to, replay.jobs.len()), (Some(true), until, 5));
    cluster.stop_one(0).await;
    cluster.start_one(0);
    cluster.leader().await;
    assert_eq!(cluster.document::<Vec<JobView>>(0, "/v1/jobs").await, jobs);
    assert_eq!(cluster.events(0).await[..before.len()], before);
    let again: ReplayView = cluster.document(0, &format!("/v1/replay?until={until}")).await;
    assert_eq!((again.state_hash, again.chain), (replay.state_hash, replay.chain));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_are_refused_at_the_start() {
    let mut cluster = Cluster::start(1);
    cluster.leader().await;
    let never = std::future::pending::<()>;
    let twice = run(cluster.config(0), never()).await.unwrap_err();
    assert!(matches!(&twice, RunError::Store(_)) && twice.to_string().contains("in use"), "{twice}");
    let elsewhere = tempfile::tempdir().unwrap();
    let taken =
        run(Config { data: elsewhere.path().to_path_buf(), ..cluster.config(0) }, never()).await.unwrap_err();
    assert!(matches!(&taken, RunError::Listen { .. }), "{taken}");
    cluster.stop_one(0).await;
    let other = run(Config { cluster: "other".to_string(), ..cluster.config(0) }, never()).await.unwrap_err();
    assert!(matches!(&other, RunError::Store(_)) && other.to_string().contains("test"), "{other}");
    let nowhere =
        run(Config { nats: "http://[".to_string(), ..cluster.config(0) }, never()).await.unwrap_err();
    assert!(matches!(&nowhere, RunError::Bus(_)), "{nowhere}");
}
