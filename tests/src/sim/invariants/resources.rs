//! Resources are never oversubscribed, neither in the state nor on a worker.

use super::{InvariantResult, violated};
use crate::sim::worker::Worker;
use muster_machine::State;
use muster_protocol::resources::Resources;

/// The running attempts fit into the worker's capacity.
pub fn never_oversubscribed(worker: &Worker) -> InvariantResult {
    let mut sum = Resources::default();
    for execution in worker.executions.values() {
        sum.add(&execution.launch.request);
    }
    if Worker::capacity().fits(&sum) {
        return Ok(());
    }
    let attempts: Vec<String> = worker.executions.keys().map(ToString::to_string).collect();
    violated(
        "resources",
        format!("{} runs {} together, which want {sum:?}", worker.identity, attempts.join(", ")),
    )
}

/// Checks the machine's own invariants, which include resources.
pub fn machine_invariants_hold(state: &State) -> InvariantResult {
    match muster_machine::invariants::check(state).into_iter().next() {
        None => Ok(()),
        Some(what) => violated("state", format!("at index {}: {what}", state.applied())),
    }
}
