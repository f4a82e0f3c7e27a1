//! What can be found from the records at any time, and is kept so that it need not be searched for.
//!
//! Nothing here is written into snapshots, so its layout may change freely: a scheduler with queues, say,
//! would put them before the class in [`Indexes::ready`].

use crate::state::job::Job;
use crate::state::records::Records;
use crate::state::requests::RequestNumbers;
use crate::state::task::TaskState;
use crate::state::worker::Worker;
use crate::transaction::{Tx, TxCell, TxMap, undo_fields};
use core::cmp::Reverse;
use muster_protocol::ids::{AttemptId, JobId, StageIndex, TaskId, WorkerId, WorkerIdentity};
use muster_protocol::resources::Resources;
use muster_protocol::time::LogMs;
use muster_protocol::worker::Liveness;

/// What makes stages equal to the scheduler: the ranks of a gang (0: no gang), and what each task asks for.
pub(crate) type ClassKey = (u32, Resources);
/// The order in which stages are served: larger priority, then older job, then stage.
pub(crate) type ReadyKey = (Reverse<i32>, JobId, StageIndex);

/// What happens when a moment comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A task's backoff is over.
    Backoff(TaskId),
    /// An attempt has run too long.
    Timeout(AttemptId),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Indexes {
    pub identities: TxMap<WorkerIdentity, TxCell<WorkerId>>,
    /// Stages that have tasks to place; a gang only when all its ranks are ready.
    pub ready: TxMap<ClassKey, TxMap<ReadyKey, ()>>,
    pub timers: TxMap<(LogMs, Timer), ()>,
    pub totals: TxCell<Totals>,
    pub requests: RequestNumbers,
}

undo_fields!(Indexes { identities, ready, timers, totals, requests } constant {});

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Jobs that have not ended.
    pub open_jobs: u64,
    /// Workers that are not lost.
    pub live_workers: u64,
    /// Workers that are alive and not draining.
    pub takers: u64,
}

impl Totals {
    pub fn add_worker(&mut self, worker: &Worker) {
        self.live_workers += u64::from(worker.liveness() != Liveness::Lost);
        self.takers += u64::from(worker.takes_work());
    }

    pub fn subtract_worker(&mut self, worker: &Worker) {
        self.live_workers -= u64::from(worker.liveness() != Liveness::Lost);
        self.takers -= u64::from(worker.takes_work());
    }
}

impl Indexes {
    /// Searches the records for everything.
    pub fn of(records: &Records) -> Indexes {
        // It is not part of the state yet: there is nothing to undo.
        let tx = Tx::default();
        let mut index = Indexes::default();
        for worker in records.workers.values() {
            index.identities.insert(worker.hello.identity, worker.id.into(), tx);
            index.totals.edit(tx).add_worker(worker);
        }
        for job in records.jobs.values() {
            index.totals.edit(tx).open_jobs += u64::from(!job.has_ended());
            for (number, task) in job.tasks.iter() {
                let id = TaskId { job: job.id, index: *number };
                match &task.state {
                    TaskState::Backoff { ready_at } => {
                        index.timers.insert((*ready_at, Timer::Backoff(id)), (), tx);
                    }
                    TaskState::Active(active) => {
                        if let Some(at) = active.timer() {
                            let attempt = AttemptId { task: id, epoch: task.history.epoch };
                            index.timers.insert((at, Timer::Timeout(attempt)), (), tx);
                        }
                    }
                    TaskState::Idle | TaskState::AwaitingGang => {}
                }
            }
            index.note_job(job, tx);
        }
        index.requests = records.requests.numbers();
        index
    }

    /// Adds a stage to the ready ones or removes it, as its tasks are now.
    pub fn note_ready(&mut self, job: &Job, stage: usize, tx: Tx) {
        let spec = &job.spec.stages[stage];
        let class = (if spec.gang { spec.tasks } else { 0 }, spec.request.clone());
        let key = (Reverse(job.spec.priority), job.id, StageIndex(stage as u16));
        match (self.ready.edit(&class, tx), job.is_runnable(stage)) {
            (Some(keys), true) => {
                if !keys.contains_key(&key) {
                    keys.insert(key, (), tx);
                }
            }
            (None, true) => self.ready.insert(class, [(key, ())].into_iter().collect(), tx),
            (Some(keys), false) => {
                keys.remove(&key, tx);
                if keys.is_empty() {
                    self.ready.remove(&class, tx);
                }
            }
            (None, false) => {}
        }
    }

    /// [`Indexes::note_ready`] for every stage of a job.
    pub fn note_job(&mut self, job: &Job, tx: Tx) {
        for stage in 0..job.stages.len() {
            self.note_ready(job, stage, tx);
        }
    }
}
