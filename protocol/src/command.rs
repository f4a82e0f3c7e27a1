//! Commands: requests to change the cluster's state, named in the imperative. The Raft log consists of them.

use crate::ids::{AttemptId, BootId, JobId, RaftId, StageIndex, Term, WorkerId};
use crate::resources::Grant;
use crate::spec::{ChildSpec, JobSpec};
use crate::tagged;
use crate::worker::{Liveness, ProgressRecord, Report, WorkerHello};
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

tagged! {
    /// A request to change the cluster's state.
    pub enum Command {
        /// From a user: accept this job.
        1 => SubmitJob(SubmitJob),
        /// From a user: cancel this job.
        2 => CancelJob(CancelJob),
        /// From a user: run the failed and cancelled tasks of an ended job again.
        3 => RetryJob(RetryJob),
        /// From a worker: register it, or register its new incarnation.
        4 => RegisterWorker(RegisterWorker),
        /// From the leader: a worker's liveness changed.
        5 => SetLiveness(SetLiveness),
        /// From a user or the worker itself: give it no new work, or allow new work again.
        6 => DrainWorker(DrainWorker),
        /// From the leader's scheduler: run these tasks on these workers.
        7 => Assign(Assign),
        /// From a worker: attempts started or ended.
        8 => ReportAttempts(ReportAttempts),
        /// From a worker: records that its attempts wrote.
        9 => RecordProgress(RecordProgress),
        /// From a running task: add child tasks to its job.
        10 => AddTasks(AddTasks),
        /// From a running task: this stage gets no more tasks.
        11 => SealStage(SealStage),
        /// From the leader: timers are due.
        12 => AdvanceTime(AdvanceTime),
        /// From a new leader: it leads from here on, and all leases start again.
        13 => TakeLeadership(TakeLeadership),
        /// From the leader: every member supports this version of `decide`.
        14 => RaiseVersion(RaiseVersion),
    }
}

/// Accept this job.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct SubmitJob {
    /// The job.
    pub spec: JobSpec,
}

/// Cancel this job.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct CancelJob {
    /// The job to cancel.
    pub job: JobId,
    /// The reason, for people.
    pub reason: String,
}

/// Run the failed and cancelled tasks of an ended job again.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct RetryJob {
    /// The ended job.
    pub job: JobId,
}

/// Register a worker, or its new incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct RegisterWorker {
    /// How the worker describes itself.
    pub hello: WorkerHello,
}

/// A worker's liveness changed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct SetLiveness {
    /// The worker.
    pub worker: WorkerId,
    /// The incarnation that this is about; ignored if the worker has a newer one.
    pub boot: BootId,
    /// The new liveness.
    pub liveness: Liveness,
}

/// Give a worker no new work, or allow new work again.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct DrainWorker {
    /// The worker.
    pub worker: WorkerId,
    /// `false` takes a drain back.
    pub drain: bool,
}

/// Run these tasks on these workers.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Assign {
    /// Each is checked again when it is applied, and skipped if it no longer holds. The ranks of a gang stand
    /// together and are accepted or skipped together.
    pub assignments: Vec<Assignment>,
    /// Inputs from outside the state that the scheduler used, so that a replayed decision sees the same.
    /// Always empty today.
    pub hints: Vec<LoadHint>,
}

/// Run one task on one worker.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Assignment {
    /// The attempt to create.
    pub attempt: AttemptId,
    /// The worker that runs it.
    pub worker: WorkerId,
    /// The devices that it gets.
    pub grant: Grant,
    /// Whether it waits at the worker until there is room. A queued attempt holds no resources.
    pub queued: bool,
}

/// A worker's load, from its heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct LoadHint {
    /// The worker.
    pub worker: WorkerId,
    /// Busy CPU, in thousandths of one CPU.
    pub cpu_milli: u32,
}

/// Attempts started or ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ReportAttempts {
    /// The worker that reports.
    pub worker: WorkerId,
    /// Its incarnation.
    pub boot: BootId,
    /// In the order in which they happened.
    pub reports: Vec<Report>,
}

/// Records that attempts wrote.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct RecordProgress {
    /// The worker that ran the attempts.
    pub worker: WorkerId,
    /// Its incarnation.
    pub boot: BootId,
    /// In the order in which they were written.
    pub records: Vec<ProgressRecord>,
}

/// Add child tasks to the caller's job.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct AddTasks {
    /// The live attempt that asks. The children's ids follow from its task and the envelope's request id, so
    /// a repeated request gets the same children.
    pub parent: AttemptId,
    /// The children.
    pub children: Vec<ChildSpec>,
}

/// This stage gets no more tasks.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct SealStage {
    /// The live attempt that asks.
    pub parent: AttemptId,
    /// An open stage of the same job.
    pub stage: StageIndex,
}

/// Timers are due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct AdvanceTime {}

/// A new leader takes over.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TakeLeadership {
    /// The new leader's Raft id.
    pub leader: RaftId,
    /// The name of its coordinator.
    pub name: String,
    /// The term that it leads.
    pub term: Term,
}

/// Every member supports this version of `decide`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct RaiseVersion {
    /// The version.
    pub version: u32,
}
