//! The replicated state: what it holds, and what may be asked of it. Only [`evolve`](crate::State::evolve)
//! changes it.

mod index;
mod job;
mod launch;
mod requests;
mod snapshot;
mod task;
mod worker;

pub(crate) use index::{ClassKey, Index, ReadyKey, Timer};
pub(crate) use job::{Child, Gang, Job, Phase, Stage};
pub(crate) use requests::{Remembered, Requests};
pub(crate) use task::{Live, Progress, Step, Task, TaskState};
pub use worker::{Usage, Worker};

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use bincode::{Decode, Encode};
use muster_protocol::envelope::ChainHead;
use muster_protocol::ids::{
    AttemptId, JobId, LogIndex, RaftId, StageIndex, TaskId, Term, WorkerId, WorkerIdentity,
};
use muster_protocol::limits;
use muster_protocol::time::{LogMs, WallMs};

/// When and where: of the entry that is being applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Moment {
    /// The entry's index.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// Log time.
    pub log_ms: LogMs,
    /// The leader's wall clock, for display.
    pub wall_ms: WallMs,
}

/// The replicated state.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) core: Core,
    /// Found again from `core` whenever a snapshot is read: never written.
    pub(crate) index: Index,
}

/// What a snapshot holds.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct Core {
    pub cluster: String,
    pub now: Moment,
    pub applied: LogIndex,
    pub chain: ChainHead,
    pub decide_version: u32,
    pub leader: RaftId,
    pub leader_name: String,
    pub leader_term: Term,
    pub next_job: u64,
    pub next_worker: u32,
    pub jobs: BTreeMap<JobId, Job>,
    /// Ended jobs that are kept, in the order in which they ended.
    pub ended: VecDeque<JobId>,
    pub workers: BTreeMap<WorkerId, Worker>,
    pub requests: Requests,
}

impl State {
    /// The state before the first entry.
    pub fn new(cluster: &str) -> State {
        let core = Core {
            cluster: cluster.to_string(),
            now: Moment::default(),
            applied: LogIndex(0),
            chain: ChainHead::default(),
            decide_version: limits::DECIDE_VERSION,
            leader: RaftId(0),
            leader_name: String::new(),
            leader_term: Term(0),
            next_job: 1,
            next_worker: 1,
            jobs: BTreeMap::new(),
            ended: VecDeque::new(),
            workers: BTreeMap::new(),
            requests: Requests::default(),
        };
        State { core, index: Index::default() }
    }

    /// An entry begins. Log time never moves backwards, whatever the entry says.
    pub fn begin(&mut self, moment: &Moment) {
        let log_ms = self.core.now.log_ms.max(moment.log_ms);
        self.core.now = Moment { log_ms, ..*moment };
    }

    /// An entry ends: it is in the chain.
    pub fn seal(&mut self, head: ChainHead) {
        self.core.applied = head.index;
        self.core.chain = head;
    }

    /// The moment of the entry that is being applied, or was last.
    pub fn now(&self) -> &Moment {
        &self.core.now
    }

    /// The last entry that was applied as a whole.
    pub fn applied(&self) -> LogIndex {
        self.core.applied
    }

    /// The ledger's chain head.
    pub fn chain(&self) -> ChainHead {
        self.core.chain
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.core.cluster
    }

    /// The version that decisions follow. A program that does not know it must stop.
    pub fn decide_version(&self) -> u32 {
        self.core.decide_version
    }

    /// The earliest backoff or timeout: the leader proposes `AdvanceTime` once log time has reached it.
    pub fn next_timer(&self) -> Option<LogMs> {
        self.index.timers.first().map(|(at, _)| *at)
    }

    /// Whether there is anything that [`schedule`](crate::schedule()) might place: a task is ready, and a
    /// worker takes work.
    pub fn has_ready(&self) -> bool {
        !self.index.ready.is_empty() && self.index.takers > 0
    }

    /// The worker of that identity.
    pub fn worker_by_identity(&self, identity: WorkerIdentity) -> Option<&Worker> {
        self.index.identities.get(&identity).and_then(|id| self.core.workers.get(id))
    }

    /// A worker.
    pub fn worker(&self, worker: WorkerId) -> Option<&Worker> {
        self.core.workers.get(&worker)
    }

    /// All workers, in the order of their ids; lost ones too.
    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.core.workers.values()
    }

    /// Whether the attempt is assigned, not ended, and its task's newest.
    pub fn is_live(&self, attempt: AttemptId) -> bool {
        self.live(attempt).is_some()
    }

    /// Whether the attempt is live on that worker.
    pub fn is_live_on(&self, attempt: AttemptId, worker: WorkerId) -> bool {
        self.live(attempt).is_some_and(|(_, _, live)| live.worker == worker)
    }

    pub(crate) fn live(&self, attempt: AttemptId) -> Option<(&Job, StageIndex, &Live)> {
        let (job, task) = self.task(attempt.task)?;
        match &task.state {
            TaskState::Live(live) if task.epoch == attempt.epoch => {
                Some((job, job.stage_of(attempt.task.index)?, live))
            }
            TaskState::Live(_)
            | TaskState::Idle
            | TaskState::Backoff { .. }
            | TaskState::Parted
            | TaskState::Ended { .. } => None,
        }
    }

    pub(crate) fn task(&self, id: TaskId) -> Option<(&Job, &Task)> {
        let job = self.core.jobs.get(&id.job)?;
        Some((job, job.records.get(&id.index)?))
    }
}
