//! What workers hold is what tasks say: each live attempt is held by its worker, and nothing else is; a lost
//! worker holds nothing.

use crate::state::{State, Step, TaskState};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use muster_protocol::ids::{AttemptId, TaskId};
use muster_protocol::worker::Liveness;

pub(super) fn check(state: &State, broken: &mut Vec<String>) {
    for job in state.core.jobs.values() {
        for (index, task) in &job.records {
            let attempt = AttemptId { task: TaskId { job: job.id, index: *index }, epoch: task.epoch };
            if let TaskState::Live(live) = &task.state
                && !state.worker(live.worker).is_some_and(|worker| worker.held.contains(&attempt))
            {
                broken.push(format!("held: {attempt} lives, but {} does not hold it", live.worker));
            }
        }
    }
    for worker in state.workers() {
        let mut queued = 0;
        for attempt in &worker.held {
            match state.live(*attempt) {
                Some((_, _, live)) if live.worker == worker.id => {
                    queued += u32::from(live.step == Step::Queued)
                }
                Some(_) | None => {
                    broken.push(format!("held: {} holds {attempt}, which does not live there", worker.id))
                }
            }
        }
        if queued != worker.queued {
            broken.push(format!("held: {queued} are queued at {}, not {}", worker.id, worker.queued));
        }
        if worker.liveness == Liveness::Lost && !worker.held.is_empty() {
            broken.push(format!("held: {} is lost, but holds {:?}", worker.id, worker.held));
        }
    }
}
