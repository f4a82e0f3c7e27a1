//! Resources are never oversubscribed: what runs at a worker fits into it, and no device is held twice.

use crate::state::{State, Step, Usage};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use muster_protocol::resources::Resources;

pub(super) fn check(state: &State, broken: &mut Vec<String>) {
    for worker in state.workers() {
        let (mut used, mut running, mut wanted) = (Usage::default(), Usage::default(), Usage::default());
        let (mut long, mut gpus) = (Usage::default(), BTreeSet::new());
        for attempt in &worker.held {
            let Some((job, stage, live)) = state.live(*attempt) else { continue };
            let request = &job.stage_spec(stage).request;
            match live.step {
                Step::Queued => wanted.add(request),
                Step::Assigned => used.add(request),
                Step::Running { .. } => {
                    used.add(request);
                    running.add(request);
                }
            }
            if live.long {
                long.add(request);
            }
            for gpu in &live.grant.gpus {
                if !gpus.insert(*gpu) {
                    broken.push(format!("resources: GPU {gpu} of {} is held twice", worker.id));
                }
            }
        }
        if !fits(&running, &worker.hello.capacity) {
            broken.push(format!("resources: more runs at {} than it has: {running:?}", worker.id));
        }
        let sums = (&worker.used, &worker.running, &worker.long, &worker.wanted, &worker.gpus_used);
        if (&used, &running, &long, &wanted, &gpus) != sums {
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
