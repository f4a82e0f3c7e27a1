//! The specification of a job, as submitted: its stages, their work and their rules.

use crate::ids::StageIndex;
use crate::resources::Resources;
use crate::{limits, tagged, words};
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// A job: stages that depend on each other.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct JobSpec {
    /// Need not be unique.
    pub name: String,
    /// A larger value is scheduled first.
    #[serde(default)]
    pub priority: i32,
    /// Parameters for every task, as a JSON object in text; empty if there are none.
    #[serde(default)]
    pub params: String,
    /// Every stage comes after the stages that it needs.
    pub stages: Vec<StageSpec>,
}

/// A stage: tasks that do the same work.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct StageSpec {
    /// Unique in the job.
    pub name: String,
    /// Stages that must succeed before a task of this one starts. All have smaller indices.
    #[serde(default)]
    pub needs: Vec<StageIndex>,
    /// The number of tasks at the start. An open stage may start with 0.
    pub tasks: u32,
    /// Array index of the first task.
    #[serde(default)]
    pub array_first: u64,
    /// The difference between the array indices of two neighbours.
    #[serde(default = "one")]
    pub array_step: u32,
    /// What each task does.
    pub work: Work,
    /// The resources that each task holds while it runs.
    #[serde(default)]
    pub request: Resources,
    /// Whether all tasks start together or not at all. If one fails, all are restarted.
    #[serde(default)]
    pub gang: bool,
    /// Whether running tasks of the job may add tasks here until it is sealed.
    #[serde(default)]
    pub open: bool,
    /// Whether tasks end by themselves.
    #[serde(default = "batch")]
    pub kind: TaskKind,
    /// What happens after a failed attempt.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// An attempt that runs longer ends as timed out; 0 means no limit.
    #[serde(default)]
    pub timeout_ms: u64,
    /// Time from SIGTERM to SIGKILL.
    #[serde(default = "grace")]
    pub grace_ms: u64,
    /// What an agent does with a running attempt when it can reach no coordinator.
    #[serde(default = "stop")]
    pub on_partition: OnPartition,
}

fn one() -> u32 {
    1
}
fn grace() -> u64 {
    limits::KILL_GRACE_MS_DEFAULT
}
fn batch() -> TaskKind {
    TaskKind::Batch
}
fn stop() -> OnPartition {
    OnPartition::Stop
}

words! {
    /// Whether a task ends by itself.
    pub enum TaskKind {
        /// Runs to its end.
        0 => Batch = "batch",
        /// Runs until it is cancelled; exiting is a failure.
        1 => Service = "service",
    }
}

words! {
    /// What an agent does with a running attempt when it can reach no coordinator and its lease ends.
    pub enum OnPartition {
        /// Stops it before the lease ends.
        0 => Stop = "stop",
        /// Lets it run; epochs keep its reports from being counted twice.
        1 => Continue = "continue",
    }
}

/// Retries after failures. A lost worker is not a failure of the task and costs no retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts after the first, at most.
    pub retries: u32,
    /// Delay before the first retry; doubles with each.
    pub backoff_ms: u64,
    /// The longest delay.
    pub backoff_ms_max: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy { retries: 0, backoff_ms: 1_000, backoff_ms_max: 60_000 }
    }
}

tagged! {
    /// What a task does.
    pub enum Work {
        /// Nothing: a round trip to a worker.
        1 => Noop(Noop),
        /// Runs a command.
        2 => Process(ProcessWork),
        /// Runs one of the worker's own executors, in a process of its own.
        3 => Builtin(BuiltinWork),
    }
}

/// No work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Noop {}

/// Runs a command.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ProcessWork {
    /// Program and arguments; not empty.
    pub argv: Vec<String>,
    /// Added to the attempt's environment.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// Working directory; if empty, the attempt's own scratch directory.
    #[serde(default)]
    pub cwd: String,
}

/// Runs a built-in executor.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct BuiltinWork {
    /// Its name: `data.scan`, `train`, `eval`, …
    pub executor: String,
    /// Its parameters, as a JSON object in text.
    #[serde(default)]
    pub params: String,
}

/// A task that a running task adds to an open stage of its job.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ChildSpec {
    /// The open stage it joins.
    pub stage: StageIndex,
    /// Its own parameters, as a JSON object in text. They override the stage's.
    #[serde(default)]
    pub params: String,
    /// Tasks of the same job that must succeed first.
    #[serde(default)]
    pub after: Vec<TaskRef>,
}

tagged! {
    /// A task of the same job, perhaps one that the same command adds.
    pub enum TaskRef {
        /// A task that exists.
        1 => Existing(TaskNumber),
        /// A child of the same command, by its position, which must be before this one's.
        2 => New(TaskNumber),
    }
}

/// A position in the job, or in the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TaskNumber {
    /// Counted from 0.
    pub index: u32,
}
