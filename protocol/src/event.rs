//! Events: what happened, in the past tense. Folding them is the only way in which state comes about.

use crate::command::LoadHint;
use crate::envelope::Answer;
use crate::ids::{AttemptId, JobId, RaftId, RequestId, StageIndex, TaskId, Term, WorkerId};
use crate::outcome::{Outcome, Terminal};
use crate::resources::Grant;
use crate::spec::{ChildSpec, JobSpec};
use crate::tagged;
use crate::time::LogMs;
use crate::worker::{ProgressRecord, WorkerHello};
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

tagged! {
    /// What happened.
    pub enum Event {
        /// A job was accepted, under the next id.
        1 => JobSubmitted(JobSubmitted),
        /// A job is being cancelled: nothing of it starts any more.
        2 => JobCancelled(JobCancelled),
        /// A job ended.
        3 => JobEnded(JobEnded),
        /// The failed and cancelled tasks of a job wait again.
        4 => JobRetried(JobRetried),
        /// All stages that a stage needs have succeeded: its tasks may start.
        5 => StageReadied(StageEvent),
        /// No more tasks join this stage.
        6 => StageSealed(StageEvent),
        /// All tasks of a sealed stage succeeded.
        7 => StageSucceeded(StageEvent),
        /// Running tasks added children.
        8 => TasksAdded(TasksAddedEvent),
        /// A worker introduced itself: for the first time, or in a new life.
        9 => WorkerRegistered(WorkerRegistered),
        /// The leader does not hear of a worker.
        10 => WorkerSuspected(WorkerEvent),
        /// A suspect worker was heard of again.
        11 => WorkerRecovered(WorkerEvent),
        /// A worker's lease ended.
        12 => WorkerLost(WorkerEvent),
        /// A worker gets no new work.
        13 => WorkerDrained(WorkerEvent),
        /// A worker gets work again.
        14 => WorkerUndrained(WorkerEvent),
        /// An attempt was made: on that worker, with those devices.
        15 => TaskAssigned(TaskAssigned),
        /// All ranks of a gang were assigned together.
        16 => GangFormed(GangFormed),
        /// An attempt runs.
        17 => AttemptStarted(AttemptStarted),
        /// An attempt is to be ended.
        18 => AttemptStopped(AttemptStopped),
        /// An attempt ended.
        19 => AttemptEnded(AttemptEnded),
        /// A task waits for its next attempt.
        20 => TaskRequeued(TaskRequeued),
        /// A task's backoff is over.
        21 => TaskReadied(TaskEvent),
        /// A task ended for good.
        22 => TaskEnded(TaskEnded),
        /// An attempt came this far.
        23 => ProgressRecorded(ProgressRecord),
        /// A new leader took over: all leases start again at this moment.
        24 => LeaderTookOver(LeaderTookOver),
        /// `decide` panicked on a command, which changed nothing.
        25 => CommandFaulted(CommandFaulted),
        /// Decisions follow this version from here on.
        26 => VersionRaised(VersionRaised),
        /// A request got its answer, which is remembered.
        27 => RequestAnswered(RequestAnswered),
        /// The scheduler used these inputs from outside the state.
        28 => HintsUsed(HintsUsed),
    }
}

/// A job was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct JobSubmitted {
    /// Its id.
    pub job: JobId,
    /// Who submitted it.
    pub actor: String,
    /// For whom.
    pub namespace: String,
    /// The job.
    pub spec: JobSpec,
}

/// A job is being cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct JobCancelled {
    /// Which.
    pub job: JobId,
    /// Why.
    pub reason: String,
}

/// A job ended. Tasks of it that never had an attempt end with it, as cancelled: an array of a million is no
/// event for each.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct JobEnded {
    /// Which.
    pub job: JobId,
    /// How.
    pub terminal: Terminal,
    /// Why, for people; empty for a success.
    pub reason: String,
}

/// The failed and cancelled tasks of a job wait again.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct JobRetried {
    /// Which.
    pub job: JobId,
}

/// Something happened to a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct StageEvent {
    /// Of which job.
    pub job: JobId,
    /// Which.
    pub stage: StageIndex,
}

/// Something happened to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TaskEvent {
    /// Which.
    pub task: TaskId,
}

/// Something happened to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct WorkerEvent {
    /// Which.
    pub worker: WorkerId,
}

/// Children were added: numbers `first ..` in the job, in this order. `after` holds task numbers of the job.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TasksAddedEvent {
    /// The attempt that asked.
    pub parent: AttemptId,
    /// Under which request: a repeat gets the same children.
    pub request: RequestId,
    /// The first child's number.
    pub first: u32,
    /// The children; every `TaskRef` is `Existing`.
    pub children: Vec<ChildSpec>,
}

/// A worker introduced itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct WorkerRegistered {
    /// Its id: a new one, or the one that its identity had.
    pub worker: WorkerId,
    /// What it said.
    pub hello: WorkerHello,
}

/// An attempt was made.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TaskAssigned {
    /// The attempt.
    pub attempt: AttemptId,
    /// Where.
    pub worker: WorkerId,
    /// With which devices.
    pub grant: Grant,
    /// It waits at the worker, and holds no resources yet.
    pub queued: bool,
}

/// All ranks of a gang were assigned together.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct GangFormed {
    /// Of which job.
    pub job: JobId,
    /// Which stage.
    pub stage: StageIndex,
    /// Counted from 1: each forming is a new life of the gang.
    pub formation: u32,
    /// The worker of rank 0, which gives the rendezvous address.
    pub rendezvous_worker: WorkerId,
    /// The port there.
    pub rendezvous_port: u16,
}

/// An attempt runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct AttemptStarted {
    /// Which.
    pub attempt: AttemptId,
    /// Its process id; 0: none.
    pub pid: u32,
}

/// An attempt is to be ended, with this outcome whatever it says when it does.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct AttemptStopped {
    /// Which.
    pub attempt: AttemptId,
    /// Why: `Cancelled`, `TimedOut` or `GangBroken`.
    pub outcome: Outcome,
}

/// An attempt ended; what it held is free.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct AttemptEnded {
    /// Which.
    pub attempt: AttemptId,
    /// How.
    pub outcome: Outcome,
    /// How long it ran by its worker's clock; 0 if the worker did not say.
    pub run_ms: u64,
}

/// A task waits for its next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TaskRequeued {
    /// Which.
    pub task: TaskId,
    /// Not before this moment; the moment of the event itself: at once.
    pub ready_at: LogMs,
    /// Whether this counts as one of its retries.
    pub counts: bool,
}

/// A task ended for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TaskEnded {
    /// Which.
    pub task: TaskId,
    /// How.
    pub terminal: Terminal,
}

/// A new leader took over.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct LeaderTookOver {
    /// The member.
    pub leader: RaftId,
    /// Its coordinator's name.
    pub name: String,
    /// The term it leads.
    pub term: Term,
}

/// `decide` panicked on a command.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct CommandFaulted {
    /// The command's name.
    pub command: String,
}

/// Decisions follow this version from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct VersionRaised {
    /// The version.
    pub version: u32,
}

/// A request got its answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct RequestAnswered {
    /// Which request.
    pub request: RequestId,
    /// A hash of the command, so that another command under the same id is noticed.
    pub command_hash: u64,
    /// The answer.
    pub answer: Answer,
}

/// The scheduler used these inputs from outside the state.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct HintsUsed {
    /// The inputs.
    pub hints: Vec<LoadHint>,
}

/// An event with the command that led to it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct EventRecord {
    /// The position of the command in its batch.
    pub command: u32,
    /// What happened.
    pub event: Event,
}
