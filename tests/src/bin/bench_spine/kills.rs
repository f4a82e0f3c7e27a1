//! Kills coordinators while submits arrive and two attempts keep both CPUs busy. Measures the time until the
//! next command commits, and counts lost acknowledged submits and restarted attempts.

use crate::load::{Acked, Load};
use crate::sample::{Figures, Sample};
use muster_protocol::envelope::{Answer, Reply};
use muster_protocol::event::Event;
use muster_protocol::ids::{JobId, RequestId};
use muster_tests::cluster::api::{Api, job_of, new_request, process_of, stage_of};
use muster_tests::cluster::{Cluster, Shape, wait_for};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use std::collections::HashMap;
use std::time::Instant;

/// Attempts that keep a CPU busy each, from before the first kill until after the last.
const TRAINERS: u32 = 2;

/// Kills leaders first, then coordinators at random.
pub fn measure(leader_kills: usize, kills: usize, submits_per_s: u32, figures: &mut Figures) {
    let mut cluster = Cluster::start(Shape::default()).expect("a cluster starts");
    let apis: Vec<Api> =
        (0..cluster.coordinators()).map(|index| cluster.api(index).with_timeout_ms(2_000)).collect();
    let mut stage = stage_of("train", TRAINERS, process_of(&["sh", "-c", "while :; do :; done"]));
    stage.request.cpu_milli = 1_000;
    let trainers =
        apis[0].submit(&job_of("trainers", stage), new_request()).expect("a quiet cluster takes a job");
    let first_attempts = wait_for("the trainers to run", || {
        let tasks = apis[0].tasks(trainers).map_err(|error| error.to_string())?;
        if tasks.iter().all(|task| task.state == "running") { Ok(tasks) } else { Err(format!("{tasks:?}")) }
    });
    let load = Load::start(apis.clone(), submits_per_s);
    let mut random = StdRng::seed_from_u64(1);
    let mut failover = Sample::default();
    for kill in 0..kills {
        let leader = cluster.leader();
        let timed = kill < leader_kills;
        let victim = if timed { leader } else { random.random_range(0..cluster.coordinators()) };
        let acked_before = load.acked().len();
        cluster.kill_coordinator(victim);
        let killed = Instant::now();
        let next = wait_for("the next command to commit", || {
            load.first_after(killed).ok_or_else(|| load.acked().len())
        });
        if timed {
            failover.add(next.acked - killed);
        }
        eprintln!(
            "kill {}: {}{}, next commit after {} ms, {acked_before} acknowledged before",
            kill + 1,
            cluster.member(victim).name,
            if victim == leader { " (leader)" } else { "" },
            (next.acked - killed).as_millis()
        );
        cluster.start_coordinator(victim).expect("the coordinator starts again");
        await_caught_up(&cluster, victim);
    }
    let acked = load.end();
    let leader = cluster.leader();
    let api = cluster.api(leader);
    let now = wait_for("the trainers' state", || api.tasks(trainers).map_err(|error| error.to_string()));
    let restarted = now
        .iter()
        .filter(|task| {
            first_attempts.iter().any(|before| before.id == task.id && before.attempt != task.attempt)
        })
        .count();
    figures.insert(
        "failover_ms".to_string(),
        json!({ "p50": failover.percentile_ms(50), "max": failover.percentile_ms(100) }),
    );
    figures.insert("kills".to_string(), json!(kills));
    figures.insert("acked_submits".to_string(), json!(acked.len()));
    figures.insert("lost_submits".to_string(), json!(lost(&api, &acked)));
    figures.insert("restarted_attempts".to_string(), json!(restarted));
}

/// Waits until a restarted coordinator has applied what was committed when it restarted.
fn await_caught_up(cluster: &Cluster, index: usize) {
    let target = wait_for("a leader's commit", || {
        cluster.api(cluster.leader()).status().map_err(|error| error.to_string())
    })
    .committed;
    wait_for("the restarted coordinator to catch up", || {
        let status = cluster.api(index).status().map_err(|error| error.to_string())?;
        if status.applied >= target { Ok(()) } else { Err(status.applied.to_string()) }
    });
}

/// Acknowledged submits that the ledger does not have with the same job.
fn lost(api: &Api, acked: &[Acked]) -> usize {
    let mut recorded: HashMap<RequestId, JobId> = HashMap::new();
    for event in api.events(1).expect("the leader reads its ledger") {
        if let Event::RequestAnswered(answered) = event.event
            && let Answer::Accepted(accepted) = answered.answer
            && let Reply::Submitted(submitted) = accepted.reply
        {
            recorded.insert(answered.request, submitted.job);
        }
    }
    acked.iter().filter(|one| recorded.get(&one.request) != Some(&one.job)).count()
}
