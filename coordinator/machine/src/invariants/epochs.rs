//! An active attempt is its task's newest, and a task has one at most.

use crate::state::State;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use muster_protocol::ids::TaskId;

pub(super) fn check(state: &State, broken: &mut Vec<String>) {
    let mut held: BTreeMap<TaskId, u32> = BTreeMap::new();
    for attempt in state.workers().flat_map(|worker| worker.held()) {
        if let Some(other) = held.insert(attempt.task, attempt.epoch) {
            broken.push(format!("epochs: {} lives twice: {other} and {}", attempt.task, attempt.epoch));
        }
        let newest = state.task(attempt.task).map(|(_, task)| task.history.epoch);
        if newest != Some(attempt.epoch) {
            broken.push(format!("epochs: {attempt} lives, but the newest is {newest:?}"));
        }
    }
}
