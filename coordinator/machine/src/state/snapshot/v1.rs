//! The first layout of a snapshot, to be read only: one record for all of a job, and one for all of a worker.

use crate::state;
use crate::state::{AttemptPhase, Header, Moment, Phase, Progress, Records, Remembered, TaskState, Usage};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use bincode::Decode;
use muster_protocol::codec::{self, CodecError};
use muster_protocol::envelope::ChainHead;
use muster_protocol::ids::{AttemptId, JobId, LogIndex, RaftId, RequestId, StageIndex, Term, WorkerId};
use muster_protocol::interval_set::IntervalSet;
use muster_protocol::outcome::{Outcome, Terminal};
use muster_protocol::resources::Grant;
use muster_protocol::spec::JobSpec;
use muster_protocol::time::{LogMs, WallMs};
use muster_protocol::worker::{Liveness, WorkerHello};

/// Reads a snapshot of the first layout.
pub(super) fn open(bytes: &[u8], limit_bytes: usize) -> Result<Records, CodecError> {
    codec::open::<Core>(bytes, limit_bytes).map(Core::convert)
}

#[derive(Decode)]
struct Core {
    cluster: String,
    now: Moment,
    applied: LogIndex,
    chain: ChainHead,
    decide_version: u32,
    leader: RaftId,
    leader_name: String,
    leader_term: Term,
    next_job: u64,
    next_worker: u32,
    jobs: BTreeMap<JobId, Job>,
    ended: VecDeque<JobId>,
    workers: BTreeMap<WorkerId, Worker>,
    first_request: u64,
    requests: VecDeque<Remembered>,
}

#[derive(Decode)]
struct Job {
    id: JobId,
    actor: String,
    namespace: String,
    spec: JobSpec,
    submitted_ms: LogMs,
    submitted_wall_ms: WallMs,
    phase: Phase,
    stages: Vec<Stage>,
    base: u32,
    children: Vec<Child>,
    records: BTreeMap<u32, Task>,
    /// The records that have not ended.
    _active: BTreeSet<u32>,
    live: u32,
    blocked: BTreeMap<u32, u32>,
    dependents: BTreeMap<u32, VecDeque<u32>>,
    additions: BTreeMap<(u32, RequestId), (u32, u32)>,
}

#[derive(Decode)]
struct Stage {
    first: u32,
    joined: VecDeque<u32>,
    sealed: bool,
    ready: bool,
    succeeded: bool,
    waiting: IntervalSet<u32>,
    placeable: IntervalSet<u32>,
    failed: IntervalSet<u32>,
    cancelled: IntervalSet<u32>,
    successes: u32,
    assigned: u32,
    running: u32,
    runs: u32,
    run_ms: u64,
    formations: u32,
    gang: Option<state::Gang>,
}

#[derive(Decode)]
struct Child {
    stage: StageIndex,
    place: u32,
    params: String,
}

#[derive(Decode)]
struct Task {
    epoch: u32,
    retries: u32,
    state: OldTaskState,
    worker: WorkerId,
    started_ms: Option<LogMs>,
    outcome: Option<Outcome>,
    progress: BTreeMap<String, Progress>,
}

#[derive(Decode)]
enum OldTaskState {
    Idle,
    Backoff { ready_at: LogMs },
    Live(Live),
    Parted,
    Ended { terminal: Terminal, at: LogMs },
}

#[derive(Decode)]
struct Live {
    worker: WorkerId,
    grant: Grant,
    step: AttemptPhase,
    long: bool,
    stopping: Option<Outcome>,
}

#[derive(Decode)]
struct Worker {
    id: WorkerId,
    hello: WorkerHello,
    liveness: Liveness,
    draining: bool,
    held: BTreeSet<AttemptId>,
    queued: u32,
    used: Usage,
    running: Usage,
    long: Usage,
    wanted: Usage,
    gpus_used: BTreeSet<u16>,
    ports_used: BTreeSet<u16>,
    gangs_met: u32,
}

impl Core {
    fn convert(self) -> Records {
        let header = Header {
            decide_version: self.decide_version,
            leader: self.leader,
            leader_name: self.leader_name,
            leader_term: self.leader_term,
            next_job: self.next_job,
            next_worker: self.next_worker,
        };
        Records {
            cluster: self.cluster,
            now: self.now,
            applied: self.applied,
            chain: self.chain,
            header: header.into(),
            jobs: self.jobs.into_iter().map(|(id, job)| (id, job.convert())).collect(),
            ended: self.ended.into(),
            workers: self.workers.into_iter().map(|(id, worker)| (id, worker.convert())).collect(),
            requests: state::Requests::new(self.first_request, self.requests),
        }
    }
}

impl Job {
    fn convert(self) -> state::Job {
        // Children did not know their parents, but the tasks that added some knew them: from the first number
        // to one past the last, and the parent.
        let added = self.additions.iter().filter(|(_, (_, count))| *count > 0);
        let added: BTreeMap<u32, (u32, u32)> = added
            .map(|((parent, _), (first, count))| (*first, (first.saturating_add(*count), *parent)))
            .collect();
        let parent = |number: u32| {
            let (_, (end, parent)) = added.range(..=number).next_back()?;
            (number < *end).then_some(*parent)
        };
        let children = (self.base..).zip(self.children).map(|(number, child)| state::Child {
            parent: parent(number),
            stage: child.stage,
            place: child.place,
            params: child.params,
        });
        let children: VecDeque<state::Child> = children.collect();
        let (mut tasks, mut ended_tasks, mut progress) = (Vec::new(), Vec::new(), Vec::new());
        for (number, task) in self.records {
            let history = state::TaskHistory {
                epoch: task.epoch,
                retries: task.retries,
                worker: task.worker,
                started_ms: task.started_ms,
                outcome: task.outcome,
            };
            let mut unended =
                |state| tasks.push((number, state::Task { history: history.clone(), state }.into()));
            match task.state {
                OldTaskState::Idle => unended(TaskState::Idle),
                OldTaskState::Backoff { ready_at } => unended(TaskState::Backoff { ready_at }),
                OldTaskState::Live(live) => unended(TaskState::Active(state::ActiveAttempt {
                    worker: live.worker,
                    grant: live.grant,
                    phase: live.step,
                    long_running: live.long,
                    stopping: live.stopping,
                })),
                OldTaskState::Parted => unended(TaskState::AwaitingGang),
                OldTaskState::Ended { terminal, at } => {
                    let ended = state::EndedTask { history, terminal, ended_ms: at };
                    ended_tasks.push((number, ended.into()));
                }
            }
            if !task.progress.is_empty() {
                let records = task.progress.into_iter().map(|(key, record)| (key, record.into()));
                progress.push((number, records.collect()));
            }
        }
        state::Job {
            id: self.id,
            actor: self.actor,
            namespace: self.namespace,
            spec: self.spec,
            submitted_ms: self.submitted_ms,
            submitted_wall_ms: self.submitted_wall_ms,
            first_child: self.base,
            status: state::JobStatus { phase: self.phase, active: self.live }.into(),
            stages: self.stages.into_iter().map(Stage::convert).collect::<Vec<_>>().into(),
            children: children.into(),
            tasks: tasks.into_iter().collect(),
            ended_tasks: ended_tasks.into_iter().collect(),
            progress: progress.into_iter().collect(),
            blocked: self.blocked.into_iter().map(|(number, unmet)| (number, unmet.into())).collect(),
            dependents: self
                .dependents
                .into_iter()
                .map(|(number, waiting)| (number, waiting.into()))
                .collect(),
            additions: self.additions.into_iter().map(|(key, added)| (key, added.into())).collect(),
        }
    }
}

impl Stage {
    fn convert(self) -> state::Stage {
        let status = state::StageStatus {
            sealed: self.sealed,
            ready: self.ready,
            succeeded: self.succeeded,
            successes: self.successes,
            assigned: self.assigned,
            running: self.running,
            runs: self.runs,
            run_ms: self.run_ms,
            formations: self.formations,
            gang: self.gang,
            epoch_floor: 0,
        };
        state::Stage {
            first: self.first,
            status: status.into(),
            joined: self.joined.into(),
            waiting: self.waiting.into(),
            runnable: self.placeable.into(),
            failed: self.failed.into(),
            cancelled: self.cancelled.into(),
        }
    }
}

impl Worker {
    fn convert(self) -> state::Worker {
        let load = state::WorkerLoad {
            queued: self.queued,
            used: self.used,
            running: self.running,
            long_running: self.long,
            wanted: self.wanted,
            gpus_used: self.gpus_used,
            ports_used: self.ports_used,
            gangs_met: self.gangs_met,
        };
        state::Worker {
            id: self.id,
            hello: self.hello.into(),
            status: state::WorkerStatus { liveness: self.liveness, draining: self.draining }.into(),
            load: load.into(),
            held: self.held.into_iter().map(|attempt| (attempt, ())).collect(),
        }
    }
}
