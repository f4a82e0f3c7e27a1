//! Commands: what is asked of the cluster, in the imperative. They are what the Raft log holds.

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
    /// What is asked.
    pub enum Command {
        /// By a user: take this job.
        1 => SubmitJob(SubmitJob),
        /// By a user: end this job.
        2 => CancelJob(CancelJob),
        /// By a user: run the failed and cancelled tasks of an ended job again.
        3 => RetryJob(RetryJob),
        /// By a worker: I am here.
        4 => RegisterWorker(RegisterWorker),
        /// By the leader: a worker's liveness changed.
        5 => SetLiveness(SetLiveness),
        /// By a user or the worker itself: give it no new work, or do so again.
        6 => DrainWorker(DrainWorker),
        /// By the leader's scheduler: run these tasks there.
        7 => Assign(Assign),
        /// By a worker: this happened to my attempts.
        8 => ReportAttempts(ReportAttempts),
        /// By a worker: my attempts came this far.
        9 => RecordProgress(RecordProgress),
        /// By a running task: more tasks for my job.
        10 => AddTasks(AddTasks),
        /// By a running task: no more tasks for this stage.
        11 => SealStage(SealStage),
        /// By the leader: timers are due.
        12 => AdvanceTime(AdvanceTime),
        /// By a new leader: I lead from here on; all leases start again.
        13 => TakeLeadership(TakeLeadership),
        /// By the leader: every member can decide by this version.
        14 => RaiseVersion(RaiseVersion),
    }
}

/// Take this job.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct SubmitJob {
    /// The job.
    pub spec: JobSpec,
}

/// End this job.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct CancelJob {
    /// Which.
    pub job: JobId,
    /// Why, for people.
    pub reason: String,
}

/// Run the failed and cancelled tasks of an ended job again.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct RetryJob {
    /// Which.
    pub job: JobId,
}

/// I am here.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct RegisterWorker {
    /// Who.
    pub hello: WorkerHello,
}

/// A worker's liveness changed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct SetLiveness {
    /// Whose.
    pub worker: WorkerId,
    /// In which life; another life's news are stale.
    pub boot: BootId,
    /// To what.
    pub liveness: Liveness,
}

/// Give it no new work, or do so again.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct DrainWorker {
    /// Which worker.
    pub worker: WorkerId,
    /// `false` takes the drain back.
    pub drain: bool,
}

/// Run these tasks there.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Assign {
    /// Each is checked again when it is applied; one that no longer holds is left out. A gang's stand
    /// together, and count together.
    pub assignments: Vec<Assignment>,
    /// The inputs from outside the state that the scheduler used, so that a replayed decision sees the same.
    pub hints: Vec<LoadHint>,
}

/// Run this task there.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Assignment {
    /// The attempt that this makes.
    pub attempt: AttemptId,
    /// Where.
    pub worker: WorkerId,
    /// With which devices.
    pub grant: Grant,
    /// Not started until the worker has room: it holds no resources yet.
    pub queued: bool,
}

/// A worker's load, as its heartbeat gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct LoadHint {
    /// Whose.
    pub worker: WorkerId,
    /// Busy CPU, in thousandths of one CPU.
    pub cpu_milli: u32,
}

/// This happened to my attempts.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ReportAttempts {
    /// Whose.
    pub worker: WorkerId,
    /// In which life.
    pub boot: BootId,
    /// In the order in which it happened.
    pub reports: Vec<Report>,
}

/// My attempts came this far.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct RecordProgress {
    /// Whose.
    pub worker: WorkerId,
    /// In which life.
    pub boot: BootId,
    /// In order.
    pub records: Vec<ProgressRecord>,
}

/// More tasks for my job.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct AddTasks {
    /// The live attempt that asks. Ids follow from (its task, the envelope's request id): a repeat gets the
    /// same tasks.
    pub parent: AttemptId,
    /// The children.
    pub children: Vec<ChildSpec>,
}

/// No more tasks for this stage.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct SealStage {
    /// The live attempt that asks.
    pub parent: AttemptId,
    /// Which stage of its job.
    pub stage: StageIndex,
}

/// Timers are due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct AdvanceTime {}

/// I lead from here on.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TakeLeadership {
    /// The member.
    pub leader: RaftId,
    /// Its coordinator's name.
    pub name: String,
    /// The term it leads.
    pub term: Term,
}

/// Every member can decide by this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct RaiseVersion {
    /// The version.
    pub version: u32,
}
