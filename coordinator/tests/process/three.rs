//! Three coordinators: a client may ask any of them, and one of them may fail.

use crate::harness::{Cluster, error, job, wait_for};
use muster_protocol::view::{JobView, ReplayView};
use reqwest::Method;

#[tokio::test(flavor = "multi_thread")]
async fn followers_forward_requests_and_all_ledgers_agree() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let mut jobs = Vec::new();
    for n in 0..9 {
        jobs.push(cluster.submit(n % 3, &format!("through {}", n % 3)).await);
    }
    for n in 0..3 {
        let listed: Vec<JobView> = cluster.document(n, "/v1/jobs").await;
        let listed: Vec<String> = listed.iter().rev().map(|job| job.id.to_string()).collect();
        assert_eq!(listed, jobs, "as {n} tells it");
        let (status, document) = cluster.send(n, Method::GET, "/v1/jobs/job-99", &[], "").await;
        assert_eq!(
            (status, error(&document).error.as_str()),
            (404, "unknown"),
            "refusals are passed on as they are"
        );
    }
    // A forwarded request is not forwarded again.
    let follower = (leader + 1) % 3;
    let (status, document) =
        cluster.send(follower, Method::GET, "/v1/jobs", &[("X-Muster-Hop", "c9")], "").await;
    assert_eq!((status, error(&document).error.as_str()), (503, "no_leader"), "{document}");

    // The same request at another coordinator, and after a change of leader, gets its first answer.
    let key = "01901234-5678-7abc-8def-0123456789ab";
    let first = cluster.post(follower, "/v1/jobs", Some(key), &job("once")).await;
    assert_eq!(first.0, 200, "{}", first.1);
    assert_eq!(cluster.post(leader, "/v1/jobs", Some(key), &job("once")).await, first);
    cluster.stop_one(leader).await;
    let next = cluster.leader().await;
    assert_ne!(next, leader);
    assert_eq!(cluster.post(next, "/v1/jobs", Some(key), &job("once")).await, first);
    cluster.submit(follower, "after").await;
    cluster.start_one(leader);

    let target = cluster.status(next).await.unwrap().applied;
    let mut seen = Vec::new();
    for n in 0..3 {
        wait_for("all to apply the same", || async {
            let applied = cluster.status(n).await?.applied;
            if applied >= target { Ok(()) } else { Err(applied.to_string()) }
        })
        .await;
        let replay: ReplayView = cluster.document(n, &format!("/v1/replay?verify=true&until={target}")).await;
        assert_eq!(replay.verified, Some(true));
        let mut events = cluster.events(n).await;
        events.retain(|event| event.index <= target);
        seen.push((replay.state_hash, replay.chain, events));
    }
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_acknowledged() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    for n in (0..3).filter(|n| *n != leader) {
        cluster.stop_one(n).await;
    }
    // It may still believe that it leads, so that the outcome is unknown, or know that it does not.
    let (status, document) = cluster.post(leader, "/v1/jobs", None, &job("lonely")).await;
    assert!([503, 504].contains(&status), "{document}");
    wait_for("the lonely one to know", || async {
        let status = cluster.status(leader).await?;
        if status.role == "leader" { Err(status.role) } else { Ok(()) }
    })
    .await;
    let (status, document) = cluster.post(leader, "/v1/jobs", None, &job("lonely")).await;
    assert_eq!((status, error(&document).error.as_str()), (503, "no_leader"), "{document}");
}
