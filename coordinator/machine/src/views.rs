//! The state as people and programs see it.

use crate::state::State;
use alloc::vec::Vec;
use muster_protocol::{
    ids::{JobId, WorkerId},
    view::{JobDetail, JobView, TaskPage, WorkerView},
};

/// A job.
pub fn job(state: &State, id: JobId) -> Option<JobView> {
    let _ = (state, id);
    None
}

/// Jobs, the newest first: those in that state, at most `limit`.
pub fn jobs(state: &State, in_state: Option<&str>, limit: usize) -> Vec<JobView> {
    let _ = (state, in_state, limit);
    Vec::new()
}

/// A job with its stages.
pub fn detail(state: &State, id: JobId) -> Option<JobDetail> {
    let _ = (state, id);
    None
}

/// Tasks of a job, from that number on, at most `limit`.
pub fn tasks(state: &State, id: JobId, from: u32, limit: u32) -> Option<TaskPage> {
    let _ = (state, id, from, limit);
    None
}

/// A worker.
pub fn worker(state: &State, id: WorkerId) -> Option<WorkerView> {
    let _ = (state, id);
    None
}

/// All workers, lost ones too.
pub fn workers(state: &State) -> Vec<WorkerView> {
    let _ = state;
    Vec::new()
}

/// Jobs that have not ended.
pub fn open_jobs(state: &State) -> u64 {
    state.index.open_jobs
}

/// Workers that are not lost.
pub fn live_workers(state: &State) -> u64 {
    state.index.live_workers
}
