//! Counts match what they count.

use crate::state::{Job, State, Step, TaskState};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use muster_protocol::limits;
use muster_protocol::outcome::Terminal;

pub(super) fn check(state: &State, broken: &mut Vec<String>) {
    for job in state.core.jobs.values() {
        check_job(job, broken);
    }
    if state.core.requests.len() > limits::REQUESTS_KEPT
        || state.core.requests.len() != state.index.requests.len()
    {
        broken.push(format!("counts: {} requests are remembered", state.core.requests.len()));
    }
    let ended: BTreeSet<_> = state.core.ended.iter().copied().collect();
    let expected: BTreeSet<_> =
        state.core.jobs.values().filter(|job| job.has_ended()).map(|job| job.id).collect();
    if ended != expected || ended.len() != state.core.ended.len() {
        broken.push(format!("counts: the ended jobs are {expected:?}, not {:?}", state.core.ended));
    }
}

fn check_job(job: &Job, broken: &mut Vec<String>) {
    let mut counted = alloc::vec![[0_u32; 3]; job.stages.len()];
    let mut active = BTreeSet::new();
    for (index, task) in &job.records {
        let Some(stage) = job.stage_of(*index) else {
            broken.push(format!("counts: {}.{index} has no stage", job.id));
            continue;
        };
        let [assigned, running, successes] = &mut counted[usize::from(stage.0)];
        match &task.state {
            TaskState::Live(live) => match live.step {
                Step::Queued | Step::Assigned => *assigned += 1,
                Step::Running { .. } => *running += 1,
            },
            TaskState::Ended { terminal: Terminal::Succeeded, .. } => *successes += 1,
            TaskState::Ended { terminal: Terminal::Failed | Terminal::Cancelled, .. } => {}
            TaskState::Idle | TaskState::Backoff { .. } | TaskState::Parted => {}
        }
        if !matches!(task.state, TaskState::Ended { .. }) {
            active.insert(*index);
        }
    }
    for (at, stage) in job.stages.iter().enumerate() {
        if counted[at] != [stage.assigned, stage.running, stage.successes] {
            broken.push(format!("counts: {} stage {at} has {:?}", job.id, counted[at]));
        }
    }
    let live: u32 = counted.iter().map(|[assigned, running, _]| assigned + running).sum();
    if live != job.live || active != job.active {
        broken.push(format!("counts: {} has {live} live and {active:?} active", job.id));
    }
}
