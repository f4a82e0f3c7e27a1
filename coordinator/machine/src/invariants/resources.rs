//! Resources are never oversubscribed: what runs at a worker fits into it, and no device is held twice.

use crate::state::{AttemptPhase, State, Usage};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use muster_protocol::resources::Resources;

pub(super) fn check(state: &State, broken: &mut Vec<String>) {
    for worker in state.workers() {
        let (mut used, mut running, mut wanted) = (Usage::default(), Usage::default(), Usage::default());
        let (mut long_running, mut gpus) = (Usage::default(), BTreeSet::new());
        for attempt in worker.held() {
            let Some((job, stage, active)) = state.active_attempt(attempt) else { continue };
            let request = &job.stage_spec(stage).request;
            match active.phase {
                AttemptPhase::Queued => wanted.add(request),
                AttemptPhase::Assigned => used.add(request),
                AttemptPhase::Running { .. } => {
                    used.add(request);
                    running.add(request);
                }
            }
            if active.long_running {
                long_running.add(request);
            }
            for gpu in &active.grant.gpus {
                if !gpus.insert(*gpu) {
                    broken.push(format!("resources: GPU {gpu} of {} is held twice", worker.id));
                }
            }
        }
        if !fits(&running, &worker.hello().capacity) {
            broken.push(format!("resources: more runs at {} than it has: {running:?}", worker.id));
        }
        let load = &worker.load;
        let sums = (&load.used, &load.running, &load.long_running, &load.wanted, &load.gpus_used);
        if (&used, &running, &long_running, &wanted, &gpus) != sums {
            broken.push(format!(
                "resources: the sums of {} are wrong: {used:?} {running:?} {wanted:?} {gpus:?}",
                worker.id
            ));
        }
    }
}

fn fits(sum: &Usage, capacity: &Resources) -> bool {
    sum.cpu_milli <= u64::from(capacity.cpu_milli)
        && sum.memory_mib <= u64::from(capacity.memory_mib)
        && sum.gpus <= u64::from(capacity.gpus)
        && sum
            .counters
            .iter()
            .all(|(name, amount)| *amount <= u64::from(capacity.counters.get(name).copied().unwrap_or(0)))
}
