//! Counts match what they count.

use crate::state::{AttemptPhase, Job, State, TaskState};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use muster_protocol::limits;
use muster_protocol::outcome::Terminal;

pub(super) fn check(state: &State, broken: &mut Vec<String>) {
    for job in state.records.jobs.values() {
        check_job(job, broken);
    }
    if state.records.requests.len() > limits::REQUESTS_KEPT
        || state.records.requests.len() != state.index.requests.len()
    {
        broken.push(format!("counts: {} requests are remembered", state.records.requests.len()));
    }
    let ended: BTreeSet<_> = state.records.ended.iter().copied().collect();
    let expected: BTreeSet<_> =
        state.records.jobs.values().filter(|job| job.has_ended()).map(|job| job.id).collect();
    if ended != expected || ended.len() != state.records.ended.len() {
        broken.push(format!("counts: the ended jobs are {expected:?}, not {:?}", state.records.ended));
    }
}

fn check_job(job: &Job, broken: &mut Vec<String>) {
    let mut counted = alloc::vec![[0_u32; 3]; job.stages.len()];
    let mut count = |index: u32, what: Option<usize>| match job.stage_of(index) {
        Some(stage) => what.into_iter().for_each(|what| counted[usize::from(stage.0)][what] += 1),
        None => broken.push(format!("counts: {}.{index} has no stage", job.id)),
    };
    for (index, task) in job.tasks.iter() {
        let what = match &task.state {
            TaskState::Active(active) => match active.phase {
                AttemptPhase::Queued | AttemptPhase::Assigned => Some(0),
                AttemptPhase::Running { .. } => Some(1),
            },
            TaskState::Idle | TaskState::Backoff { .. } | TaskState::AwaitingGang => None,
        };
        count(*index, what);
    }
    for (index, ended) in job.ended_tasks.iter() {
        let what = match ended.terminal {
            Terminal::Succeeded => Some(2),
            Terminal::Failed | Terminal::Cancelled => None,
        };
        count(*index, what);
    }
    for (at, stage) in job.stages.iter().enumerate() {
        if counted[at] != [stage.status.assigned, stage.status.running, stage.status.successes] {
            broken.push(format!("counts: {} stage {at} has {:?}", job.id, counted[at]));
        }
    }
    let active: u32 = counted.iter().map(|[assigned, running, _]| assigned + running).sum();
    if active != job.status.active {
        broken.push(format!("counts: {} has {active} active attempts", job.id));
    }
}
