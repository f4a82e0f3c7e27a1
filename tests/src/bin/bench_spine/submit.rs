//! The latency of a submit, which is acknowledged after it was applied: one client, one submit at a time.

use crate::sample::{Figures, Sample};
use muster_protocol::spec::{Noop, Work};
use muster_tests::cluster::api::{Api, job_of, new_request, stage_of};
use muster_tests::cluster::{Cluster, Shape};
use serde_json::json;
use std::time::Instant;

/// The first submits are not counted: they fill connections and caches.
const WARM_UP: usize = 50;

/// Measures at the leader, and at a follower, which forwards to the leader.
pub fn measure(submits: usize, figures: &mut Figures) {
    let cluster = Cluster::start(Shape { workers: 1, ..Shape::default() }).expect("a cluster starts");
    let leader = cluster.leader();
    let follower = (0..cluster.coordinators()).find(|index| *index != leader).expect("there are three");
    for (name, index) in [("submit_ms", leader), ("submit_at_follower_ms", follower)] {
        let sample = measure_sequentially(&cluster.api(index), submits);
        figures.insert(
            name.to_string(),
            json!({ "p50": sample.percentile_ms(50), "p99": sample.percentile_ms(99) }),
        );
    }
}

fn measure_sequentially(api: &Api, submits: usize) -> Sample {
    let spec = job_of("submitted", stage_of("only", 1, Work::Noop(Noop {})));
    let mut sample = Sample::default();
    for n in 0..submits + WARM_UP {
        let started = Instant::now();
        api.submit(&spec, new_request()).expect("a quiet cluster takes a job");
        if n >= WARM_UP {
            sample.add(started.elapsed());
        }
    }
    sample
}
