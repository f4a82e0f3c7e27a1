//! The index is what a search of the records would find, and the sets of ready tasks hold what is ready.

use crate::state::{Indexes, State};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

pub(super) fn check(state: &State, broken: &mut Vec<String>) {
    if state.index != Indexes::of(&state.records) {
        broken.push("index: it is not what one would find".into());
    }
    for job in state.records.jobs.values().filter(|job| !job.has_ended()) {
        for (at, stage) in job.stages.iter().enumerate() {
            if !stage.status.ready && !stage.runnable.is_empty() {
                broken.push(format!("index: {} stage {at} is not ready, but its tasks are", job.id));
            }
            for number in stage.waiting.iter().filter(|_| stage.status.ready) {
                if !job.blocked.contains_key(&number) {
                    broken.push(format!("index: {}.{number} waits for nothing", job.id));
                }
            }
        }
        for (number, unmet) in job.blocked.iter() {
            let waits = job.dependents.values().filter(|waiting| waiting.contains(number)).count();
            if waits != **unmet as usize || **unmet == 0 {
                broken.push(format!("index: {}.{number} waits for {waits} tasks, not {}", job.id, **unmet));
            }
            let Some(stage) = job.stage_of(*number) else { continue };
            if job.stages[usize::from(stage.0)].runnable.contains(*number) {
                broken.push(format!("index: {}.{number} is ready, but waits for {} tasks", job.id, **unmet));
            }
        }
    }
}
