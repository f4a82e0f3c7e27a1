//! Resources are never oversubscribed: not in the state, and not on the worker, whatever the state says.

use super::{Verdict, broken};
use crate::sim::worker::Worker;
use muster_machine::State;
use muster_protocol::resources::Resources;

/// What runs on a worker fits into what it has.
pub fn never_oversubscribed(worker: &Worker) -> Verdict {
    let mut sum = Resources::default();
    for execution in worker.executions.values() {
        sum.add(&execution.launch.request);
    }
    if Worker::capacity().fits(&sum) {
        return Ok(());
    }
    let attempts: Vec<String> = worker.executions.keys().map(ToString::to_string).collect();
    broken(
        "resources",
        format!("{} runs {} together, which want {sum:?}", worker.identity, attempts.join(", ")),
    )
}

/// The machine's own invariants hold: resources in the state among them.
pub fn state_holds(state: &State) -> Verdict {
    match muster_machine::invariants::check(state).into_iter().next() {
        None => Ok(()),
        Some(what) => broken("state", format!("at index {}: {what}", state.applied())),
    }
}
