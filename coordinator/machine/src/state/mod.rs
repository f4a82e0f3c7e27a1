//! The replicated state: what it holds, and what may be asked of it. Only [`evolve`](crate::State::evolve)
//! changes it.

mod index;
mod job;
mod launch;
mod records;
mod requests;
mod snapshot;
mod stage;
mod task;
mod usage;
mod worker;

pub(crate) use index::{ClassKey, Indexes, ReadyKey, Timer};
pub(crate) use job::{Child, Job, JobStatus, Phase, Stages};
pub use records::Moment;
pub(crate) use records::{Header, Records};
pub(crate) use requests::{Remembered, Requests};
pub(crate) use stage::{Gang, Stage, StageStatus};
pub(crate) use task::{ActiveAttempt, AttemptPhase, EndedTask, Progress, Task, TaskHistory, TaskState};
pub use usage::Usage;
pub(crate) use usage::WorkerLoad;
pub use worker::Worker;
pub(crate) use worker::WorkerStatus;

use crate::transaction::{Tx, Undo};
use alloc::string::ToString;
use muster_protocol::envelope::ChainHead;
use muster_protocol::ids::{
    AttemptId, JobId, LogIndex, RaftId, RequestId, StageIndex, TaskId, Term, WorkerId, WorkerIdentity,
};
use muster_protocol::limits;
use muster_protocol::time::LogMs;

/// The replicated state.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) records: Records,
    /// Searched for again whenever a snapshot is read: never written.
    pub(crate) index: Indexes,
    /// The transaction that changes belong to.
    pub(crate) tx: Tx,
}

impl State {
    /// The state before the first entry.
    pub fn new(cluster: &str) -> State {
        let header = Header {
            decide_version: limits::DECIDE_VERSION,
            leader: RaftId(0),
            leader_name: Default::default(),
            leader_term: Term(0),
            next_job: 1,
            next_worker: 1,
        };
        let records = Records {
            cluster: cluster.to_string(),
            now: Moment::default(),
            applied: LogIndex(0),
            chain: ChainHead::default(),
            header: header.into(),
            jobs: Default::default(),
            ended: Default::default(),
            workers: Default::default(),
            requests: Default::default(),
        };
        State { records, index: Indexes::default(), tx: Tx::default() }
    }

    /// An entry begins. Log time never moves backwards, whatever the entry says.
    pub fn begin(&mut self, moment: &Moment) {
        let log_ms = self.records.now.log_ms.max(moment.log_ms);
        self.records.now = Moment { log_ms, ..*moment };
    }

    /// An entry ends: it is in the chain.
    pub fn seal(&mut self, head: ChainHead) {
        self.records.applied = head.index;
        self.records.chain = head;
    }

    /// The moment of the entry that is being applied, or was last.
    pub fn now(&self) -> &Moment {
        &self.records.now
    }

    /// The last entry that was applied as a whole.
    pub fn applied(&self) -> LogIndex {
        self.records.applied
    }

    /// The ledger's chain head.
    pub fn chain(&self) -> ChainHead {
        self.records.chain
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.records.cluster
    }

    /// The version that decisions follow. A program that does not know it must stop.
    pub fn decide_version(&self) -> u32 {
        self.records.header.decide_version
    }

    /// The earliest backoff or timeout: the leader proposes `AdvanceTime` once log time has reached it.
    pub fn next_timer(&self) -> Option<LogMs> {
        self.index.timers.first_key().map(|(at, _)| *at)
    }

    /// Whether there is anything that [`schedule`](crate::schedule()) might place: a task is ready, and a
    /// worker takes work.
    pub fn has_ready(&self) -> bool {
        !self.index.ready.is_empty() && self.index.totals.takers > 0
    }

    /// The worker of that identity.
    pub fn worker_by_identity(&self, identity: WorkerIdentity) -> Option<&Worker> {
        self.index.identities.get(&identity).and_then(|id| self.worker(**id))
    }

    /// A worker.
    pub fn worker(&self, worker: WorkerId) -> Option<&Worker> {
        self.records.workers.get(&worker)
    }

    /// All workers, in the order of their ids; lost ones too.
    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.records.workers.values()
    }

    /// Whether the attempt is assigned, not ended, and its task's newest.
    pub fn is_live(&self, attempt: AttemptId) -> bool {
        self.active_attempt(attempt).is_some()
    }

    /// Whether the attempt is live on that worker.
    pub fn is_live_on(&self, attempt: AttemptId, worker: WorkerId) -> bool {
        self.active_attempt(attempt).is_some_and(|(_, _, active)| active.worker == worker)
    }

    pub(crate) fn active_attempt(&self, attempt: AttemptId) -> Option<(&Job, StageIndex, &ActiveAttempt)> {
        let (job, task) = self.task(attempt.task)?;
        match &task.state {
            TaskState::Active(active) if task.history.epoch == attempt.epoch => {
                Some((job, job.stage_of(attempt.task.index)?, active))
            }
            TaskState::Active(_) | TaskState::Idle | TaskState::Backoff { .. } | TaskState::AwaitingGang => {
                None
            }
        }
    }

    pub(crate) fn job(&self, id: JobId) -> Option<&Job> {
        self.records.jobs.get(&id)
    }

    /// A task that had an attempt and has not ended.
    pub(crate) fn task(&self, id: TaskId) -> Option<(&Job, &Task)> {
        let job = self.job(id.job)?;
        Some((job, job.tasks.get(&id.index)?))
    }

    /// The request that had this id, if it is still remembered.
    pub(crate) fn remembered(&self, request: RequestId) -> Option<&Remembered> {
        self.index.requests.get(&request).and_then(|number| self.records.requests.get(**number))
    }

    /// From here on, what changes can be undone.
    pub(crate) fn begin_transaction(&mut self) {
        self.tx = self.tx.opened();
    }

    pub(crate) fn commit(&mut self) {
        self.tx = self.tx.closed();
        self.records.commit();
        self.index.commit();
    }

    pub(crate) fn rollback(&mut self) {
        self.tx = self.tx.closed();
        self.records.rollback();
        self.index.rollback();
    }
}
