//! What can be found from the rest of the state at any time, and is kept so that nobody has to look for it.

use crate::state::{Core, Job, Requests, TaskState};
use alloc::collections::{BTreeMap, BTreeSet};
use core::cmp::Reverse;
use muster_protocol::ids::{AttemptId, JobId, RequestId, StageIndex, TaskId, WorkerId, WorkerIdentity};
use muster_protocol::resources::Resources;
use muster_protocol::time::LogMs;
use muster_protocol::worker::Liveness;

/// What makes stages equal to the scheduler: the ranks of a gang (0: no gang), and what each task asks for.
pub(crate) type ClassKey = (u32, Resources);
/// The order in which stages get room: larger priority, then older job, then stage.
pub(crate) type ReadyKey = (Reverse<i32>, JobId, StageIndex);

/// What happens when a moment comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A task's backoff is over.
    Backoff(TaskId),
    /// An attempt has run too long.
    Timeout(AttemptId),
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    pub identities: BTreeMap<WorkerIdentity, WorkerId>,
    /// Stages that have tasks to place; a gang only when all its ranks are ready.
    pub ready: BTreeMap<ClassKey, BTreeSet<ReadyKey>>,
    pub timers: BTreeSet<(LogMs, Timer)>,
    /// Jobs that have not ended.
    pub open_jobs: u64,
    /// Workers that are not lost.
    pub live_workers: u64,
    /// Workers that are alive and not draining.
    pub takers: u64,
    /// Places of remembered requests: from the request to its number in [`Requests`].
    pub requests: BTreeMap<RequestId, u64>,
}

impl Index {
    /// Finds everything again.
    pub fn of(core: &Core) -> Index {
        let mut index = Index::default();
        for worker in core.workers.values() {
            index.identities.insert(worker.hello.identity, worker.id);
            index.live_workers += u64::from(worker.liveness != Liveness::Lost);
            index.takers += u64::from(worker.takes_work());
        }
        for job in core.jobs.values() {
            index.open_jobs += u64::from(!job.has_ended());
            for number in &job.active {
                let id = TaskId { job: job.id, index: *number };
                let Some(task) = job.records.get(number) else { continue };
                match &task.state {
                    TaskState::Backoff { ready_at } => {
                        index.timers.insert((*ready_at, Timer::Backoff(id)));
                    }
                    TaskState::Live(live) => {
                        if let Some(at) = live.timer() {
                            index
                                .timers
                                .insert((at, Timer::Timeout(AttemptId { task: id, epoch: task.epoch })));
                        }
                    }
                    TaskState::Idle | TaskState::Parted | TaskState::Ended { .. } => {}
                }
            }
            for stage in 0..job.stages.len() {
                index.note_ready(job, stage);
            }
        }
        index.requests = Requests::places(&core.requests);
        index
    }

    /// Puts a stage in or out of the ready ones, as its tasks are now.
    pub fn note_ready(&mut self, job: &Job, stage: usize) {
        let spec = &job.spec.stages[stage];
        let class = (if spec.gang { spec.tasks } else { 0 }, spec.request.clone());
        let key = (Reverse(job.spec.priority), job.id, StageIndex(stage as u16));
        if job.is_placeable(stage) {
            self.ready.entry(class).or_default().insert(key);
        } else if let Some(keys) = self.ready.get_mut(&class) {
            keys.remove(&key);
            if keys.is_empty() {
                self.ready.remove(&class);
            }
        }
    }
}
