//! No-op tasks, each sent to a worker and reported back: how many per second, and the cost of each.

use crate::sample::{Figures, rounded};
use muster_protocol::spec::{Noop, Work};
use muster_protocol::view::StatusView;
use muster_tests::cluster::api::{job_of, new_request, stage_of};
use muster_tests::cluster::{Cluster, Shape, wait_for};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Measures throughput and cost, then the replay of the ledger.
pub fn measure(tasks: u32, figures: &mut Figures) {
    let cluster = Cluster::start(Shape::default()).expect("a cluster starts");
    let leader = cluster.leader();
    let api = cluster.api(leader);
    let (before, before_bytes) =
        (api.status().expect("the leader answers"), bytes_under(&cluster.coordinator_data(leader)));
    let started = Instant::now();
    let job = api
        .submit(&job_of("noops", stage_of("only", tasks, Work::Noop(Noop {}))), new_request())
        .expect("a quiet cluster takes a job");
    let mut polled = Duration::ZERO;
    let ended = wait_for("the no-op tasks", || {
        let looked = Instant::now();
        let view = api.job(job).map_err(|error| error.to_string())?.job;
        polled = looked.elapsed();
        if view.terminal.is_some() { Ok(view) } else { Err(format!("{:?}", view.tasks)) }
    });
    let elapsed = started.elapsed();
    assert_eq!(ended.tasks.succeeded, u64::from(tasks), "{ended:?}");
    assert_eq!(cluster.leader(), leader, "one leader during the whole measurement, or the counts are of two");
    let (after, after_bytes) =
        (api.status().expect("the leader answers"), bytes_under(&cluster.coordinator_data(leader)));

    let per_task = |count: u64| rounded(count as f64 / f64::from(tasks));
    let counted = |names: &[&str]| names.iter().map(|name| delta(&before, &after, name)).sum::<u64>();
    figures.insert("noop_per_s".to_string(), json!(rounded(f64::from(tasks) / elapsed.as_secs_f64())));
    figures.insert(
        "log_bytes_per_task".to_string(),
        json!(per_task(log_bytes(&before, &after, before_bytes, after_bytes))),
    );
    figures
        .insert("disk_bytes_per_task".to_string(), json!(per_task(after_bytes.saturating_sub(before_bytes))));
    figures.insert(
        "syncs_per_1k".to_string(),
        json!(rounded(1e3 * per_task(counted(&["raft_syncs", "ledger_syncs"])))),
    );
    figures.insert(
        "bus_messages_per_1k".to_string(),
        json!(rounded(1e3 * per_task(counted(&["bus_sent", "bus_received"])))),
    );

    let replay = api.replay_without_verifying().expect("the leader folds its ledger");
    let seconds = Duration::from_micros(replay.elapsed_us.max(1)).as_secs_f64();
    figures.insert("replay_per_s".to_string(), json!(rounded(replay.transitions as f64 / seconds)));
    figures.insert("replay_transitions".to_string(), json!(replay.transitions));
}

fn delta(before: &StatusView, after: &StatusView, name: &str) -> u64 {
    let of = |status: &StatusView| {
        status.counters.get(name).copied().unwrap_or_else(|| panic!("a coordinator counts {name}"))
    };
    of(after) - of(before)
}

/// Bytes of log entries, as the coordinator counts them; an older one does not, so its growth on disk is
/// used.
fn log_bytes(before: &StatusView, after: &StatusView, before_bytes: u64, after_bytes: u64) -> u64 {
    if after.counters.contains_key("log_bytes") {
        delta(before, after, "log_bytes")
    } else {
        after_bytes.saturating_sub(before_bytes)
    }
}

fn bytes_under(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_under(&entry.path()),
        Ok(metadata) => metadata.len(),
        // A segment that was removed after it was listed.
        Err(_) => 0,
    });
    sizes.sum()
}
