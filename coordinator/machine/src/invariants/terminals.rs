//! A task ends once: it is in one place only, and what has ended stays so. Nothing is left of a job that has
//! ended.

use crate::state::{Job, State, TaskState};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use muster_protocol::outcome::Terminal;

pub(super) fn check(state: &State, broken: &mut Vec<String>) {
    for job in state.records.jobs.values() {
        for at in 0..job.stages.len() {
            check_stage(job, at, broken);
        }
        if job.has_ended() && (job.status.active > 0 || !job.tasks.is_empty()) {
            broken.push(format!("terminals: {} has ended, but something of it has not", job.id));
        }
    }
}

fn check_stage(job: &Job, at: usize, broken: &mut Vec<String>) {
    let stage = &job.stages[at];
    for place in 0..job.stage_tasks(at) {
        let Some(number) = job.number_at(at, place) else {
            broken.push(format!("terminals: {} stage {at} has no place {place}", job.id));
            continue;
        };
        let sets = [&stage.waiting, &stage.runnable, &stage.failed, &stage.cancelled]
            .map(|set| u8::from(set.contains(number)));
        let [waiting, runnable, failed, cancelled] = sets;
        let right = match (job.tasks.get(&number).map(|task| &task.state), job.ended_tasks.get(&number)) {
            // It never started: it waits, or its job ended before.
            (None, None) => waiting + runnable + cancelled == 1 && failed == 0,
            (Some(TaskState::Idle), None) => waiting + runnable == 1 && failed + cancelled == 0,
            (Some(TaskState::Backoff { .. } | TaskState::Active(_) | TaskState::AwaitingGang), None) => {
                sets == [0; 4]
            }
            (None, Some(ended)) => match ended.terminal {
                Terminal::Failed => sets == [0, 0, 1, 0],
                Terminal::Cancelled => sets == [0, 0, 0, 1],
                Terminal::Succeeded => sets == [0; 4],
            },
            (Some(_), Some(_)) => false,
        };
        if !right {
            broken.push(format!("terminals: {}.{number} is in the wrong sets: {sets:?}", job.id));
        }
        if job.has_ended() && job.terminal_of(number).is_none() {
            broken.push(format!("terminals: {}.{number} has not ended, but its job has", job.id));
        }
    }
}
