//! Events: what happened, in the past tense. State is made by folding them, and in no other way.

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
    /// Something that happened.
    pub enum Event {
        /// A job was accepted, under the next id.
        1 => JobSubmitted(JobSubmitted),
        /// A job is being cancelled: nothing of it starts from here on.
        2 => JobCancelled(JobCancelled),
        /// A job ended.
        3 => JobEnded(JobEnded),
        /// The failed and cancelled tasks of a job are pending again.
        4 => JobRetried(JobRetried),
        /// All stages that a stage needs have succeeded, so its tasks may start.
        5 => StageReadied(StageEvent),
        /// This stage gets no more tasks.
        6 => StageSealed(StageEvent),
        /// All tasks of a sealed stage succeeded.
        7 => StageSucceeded(StageEvent),
        /// A running task added children.
        8 => TasksAdded(TasksAddedEvent),
        /// A worker registered, for the first time or as a new incarnation.
        9 => WorkerRegistered(WorkerRegistered),
        /// The leader has not heard from a worker for a while.
        10 => WorkerSuspected(WorkerEvent),
        /// A suspect or lost worker was heard from again.
        11 => WorkerRecovered(WorkerEvent),
        /// A worker's lease ended.
        12 => WorkerLost(WorkerEvent),
        /// A worker gets no new work.
        13 => WorkerDrained(WorkerEvent),
        /// A worker gets new work again.
        14 => WorkerUndrained(WorkerEvent),
        /// An attempt was created on a worker.
        15 => TaskAssigned(TaskAssigned),
        /// All ranks of a gang were assigned together.
        16 => GangFormed(GangFormed),
        /// An attempt runs.
        17 => AttemptStarted(AttemptStarted),
        /// The leader asked a worker to stop an attempt.
        18 => AttemptStopped(AttemptStopped),
        /// An attempt ended.
        19 => AttemptEnded(AttemptEnded),
        /// A task waits for its next attempt.
        20 => TaskRequeued(TaskRequeued),
        /// A task's backoff is over.
        21 => TaskReadied(TaskEvent),
        /// A task ended for good.
        22 => TaskEnded(TaskEnded),
        /// An attempt wrote a record.
        23 => ProgressRecorded(ProgressRecord),
        /// A new leader took over: all leases start again at this moment.
        24 => LeaderTookOver(LeaderTookOver),
        /// `decide` panicked on a command, which changed nothing.
        25 => CommandFaulted(CommandFaulted),
        /// `decide` follows this version from here on.
        26 => VersionRaised(VersionRaised),
        /// A request was answered; the answer is remembered.
        27 => RequestAnswered(RequestAnswered),
        /// Reserved: inputs from outside the state that the scheduler used.
        28 => HintsUsed(HintsUsed),
    }
}

/// A job was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct JobSubmitted {
    /// Its id.
    pub job: JobId,
    /// The user who submitted it.
    pub actor: String,
    /// The namespace that it belongs to.
    pub namespace: String,
    /// The job as submitted.
    pub spec: JobSpec,
}

/// A job is being cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct JobCancelled {
    /// The job.
    pub job: JobId,
    /// The reason, for people.
    pub reason: String,
}

/// A job ended. Its tasks that never had an attempt end with it as cancelled, without an event of their own:
/// an array may have a million of them.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct JobEnded {
    /// The job.
    pub job: JobId,
    /// The final state.
    pub terminal: Terminal,
    /// The reason, for people; empty for a success.
    pub reason: String,
}

/// The failed and cancelled tasks of a job are pending again.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct JobRetried {
    /// The job.
    pub job: JobId,
}

/// An event of a stage that carries nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct StageEvent {
    /// The stage's job.
    pub job: JobId,
    /// The stage.
    pub stage: StageIndex,
}

/// An event of a task that carries nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TaskEvent {
    /// The task.
    pub task: TaskId,
}

/// An event of a worker that carries nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct WorkerEvent {
    /// The worker.
    pub worker: WorkerId,
}

/// Children were added. They get the numbers `first ..` in the job, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TasksAddedEvent {
    /// The attempt that asked.
    pub parent: AttemptId,
    /// The request's id: a repeated request gets the same children.
    pub request: RequestId,
    /// The number of the first child in the job.
    pub first: u32,
    /// The children. Every [`TaskRef`](crate::spec::TaskRef) in `after` is `Existing`, with a task number of
    /// the job.
    pub children: Vec<ChildSpec>,
}

/// A worker registered.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct WorkerRegistered {
    /// A new id, or the id that this identity already has.
    pub worker: WorkerId,
    /// How the worker described itself.
    pub hello: WorkerHello,
}

/// An attempt was created on a worker.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TaskAssigned {
    /// The attempt.
    pub attempt: AttemptId,
    /// The worker that runs it.
    pub worker: WorkerId,
    /// The devices that it gets.
    pub grant: Grant,
    /// Whether it waits at the worker. A queued attempt holds no resources.
    pub queued: bool,
}

/// All ranks of a gang were assigned together.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct GangFormed {
    /// The gang's job.
    pub job: JobId,
    /// The stage that the gang runs.
    pub stage: StageIndex,
    /// The number of this formation, counted from 1.
    pub formation: u32,
    /// The worker of rank 0, whose address is the rendezvous.
    pub rendezvous_worker: WorkerId,
    /// The port there.
    pub rendezvous_port: u16,
}

/// An attempt runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct AttemptStarted {
    /// The attempt.
    pub attempt: AttemptId,
    /// Its process id; 0 if it has no process.
    pub pid: u32,
}

/// The leader asked a worker to stop an attempt. It ends with this outcome, whatever it reports.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct AttemptStopped {
    /// The attempt.
    pub attempt: AttemptId,
    /// `Cancelled`, `TimedOut` or `GangBroken`.
    pub outcome: Outcome,
}

/// An attempt ended, and its resources are free.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct AttemptEnded {
    /// The attempt.
    pub attempt: AttemptId,
    /// The outcome.
    pub outcome: Outcome,
    /// Its run time by its worker's clock; 0 if the worker did not report it.
    pub run_ms: u64,
}

/// A task waits for its next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TaskRequeued {
    /// The task.
    pub task: TaskId,
    /// The earliest start of the next attempt. The time of the event itself means at once.
    pub ready_at: LogMs,
    /// Whether the next attempt uses up a retry.
    pub counts: bool,
}

/// A task ended for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TaskEnded {
    /// The task.
    pub task: TaskId,
    /// The final state.
    pub terminal: Terminal,
}

/// A new leader took over.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct LeaderTookOver {
    /// The new leader's Raft id.
    pub leader: RaftId,
    /// The name of its coordinator.
    pub name: String,
    /// The term that it leads.
    pub term: Term,
}

/// `decide` panicked on a command, which changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct CommandFaulted {
    /// The variant of [`Command`](crate::command::Command), by name.
    pub command: String,
}

/// `decide` follows this version from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct VersionRaised {
    /// The version.
    pub version: u32,
}

/// A request was answered.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct RequestAnswered {
    /// The request's id.
    pub request: RequestId,
    /// A hash of the command, to notice the id being used again for another command.
    pub command_hash: u64,
    /// The answer.
    pub answer: Answer,
}

/// Inputs from outside the state that the scheduler used. No build writes this event yet.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct HintsUsed {
    /// The inputs.
    pub hints: Vec<LoadHint>,
}

/// An event, and the command that caused it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct EventRecord {
    /// The position of the command in its batch.
    pub command: u32,
    /// The event.
    pub event: Event,
}
