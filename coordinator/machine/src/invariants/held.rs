//! What workers hold is what tasks say: each live attempt is held by its worker, and nothing else is; a lost
//! worker holds nothing.

use crate::state::{AttemptPhase, State, TaskState};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use muster_protocol::ids::{AttemptId, TaskId};
use muster_protocol::worker::Liveness;

pub(super) fn check(state: &State, broken: &mut Vec<String>) {
    for job in state.records.jobs.values() {
        for (index, task) in job.tasks.iter() {
            let attempt =
                AttemptId { task: TaskId { job: job.id, index: *index }, epoch: task.history.epoch };
            if let TaskState::Active(active) = &task.state
                && !state.worker(active.worker).is_some_and(|worker| worker.holds(attempt))
            {
                broken.push(format!("held: {attempt} lives, but {} does not hold it", active.worker));
            }
        }
    }
    for worker in state.workers() {
        let mut queued = 0;
        for attempt in worker.held() {
            match state.active_attempt(attempt) {
                Some((_, _, active)) if active.worker == worker.id => {
                    queued += u32::from(active.phase == AttemptPhase::Queued)
                }
                Some(_) | None => {
                    broken.push(format!("held: {} holds {attempt}, which does not live there", worker.id))
                }
            }
        }
        if queued != worker.load.queued {
            broken.push(format!("held: {queued} are queued at {}, not {}", worker.id, worker.load.queued));
        }
        if worker.liveness() == Liveness::Lost && !worker.held.is_empty() {
            broken.push(format!("held: {} is lost, but holds {} attempts", worker.id, worker.held.len()));
        }
    }
}
