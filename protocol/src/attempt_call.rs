//! What a running attempt and its agent say to each other over the attempt's local socket.
//!
//! The agent gives the socket's path in `MUSTER_SOCKET`. Frames are a little-endian `u32` length and a sealed
//! [`AttemptFrame`] or [`AgentFrame`]. The agent answers each frame, in order; calls that need the log are
//! answered once applied.

use crate::envelope::TasksAdded;
use crate::ids::{Digest, StageIndex, TaskId};
use crate::rejection::{Detail, Rejection};
use crate::spec::ChildSpec;
use crate::tagged;
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

tagged! {
    /// From an attempt to its agent.
    pub enum AttemptFrame {
        /// Record this. Answered when it is applied if `wait`, else at once.
        1 => Record(Record),
        /// This is my output, should I end with exit code 0.
        2 => Output(Output),
        /// Ask the cluster.
        3 => Ask(Ask),
    }
}

tagged! {
    /// From the agent to an attempt.
    pub enum AgentFrame {
        /// Taken.
        1 => Taken(Taken),
        /// The cluster's answer.
        2 => Answered(Answered),
        /// It was not possible; the frame was bad, or the attempt no longer counts.
        3 => Refused(Detail),
    }
}

/// Record this progress.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Record {
    /// What it is about.
    pub key: String,
    /// Grows per task and key.
    pub seq: u64,
    /// The hash of the payload.
    pub payload_hash: Digest,
    /// At most `PROGRESS_BODY_BYTES_MAX` bytes.
    pub body: String,
    /// Answer only when it is applied.
    pub wait: bool,
}

/// The attempt's output.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Output {
    /// At most `PROGRESS_BODY_BYTES_MAX` bytes.
    pub output: String,
}

/// Taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Taken {}

/// A question for the cluster. `nonce` makes the request id (with the task), so that a repeat by a later
/// attempt is the same request.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Ask {
    /// Chosen by the attempt: the same for the same question in every attempt at the task.
    pub nonce: u64,
    /// What.
    pub request: CallRequest,
}

/// The cluster's answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Answered {
    /// What it said.
    pub answer: CallAnswer,
}

tagged! {
    /// What an attempt may ask.
    pub enum CallRequest {
        /// The outputs of a stage's tasks, from that place on, as many as fit.
        1 => StageOutputs(StageOutputs),
        /// The recorded progress of a task of the same job.
        2 => TaskProgress(TaskProgress),
        /// Add tasks to open stages of my job.
        3 => AddChildren(AddChildren),
        /// No more tasks for this stage of my job.
        4 => Seal(Seal),
        /// The index of a stage of my job, by its name.
        5 => FindStage(FindStage),
    }
}

/// The outputs of a stage's tasks.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct StageOutputs {
    /// The stage's name.
    pub stage: String,
    /// From this task of the stage on (its place in the stage).
    pub from: u32,
}

/// The recorded progress of a task.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TaskProgress {
    /// Which task; of the same job.
    pub task: TaskId,
    /// Only keys that begin so.
    pub prefix: String,
}

/// More tasks.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct AddChildren {
    /// The children.
    pub children: Vec<ChildSpec>,
}

/// No more tasks.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Seal {
    /// Which stage.
    pub stage: StageIndex,
}

/// The index of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct FindStage {
    /// Its name.
    pub name: String,
}

tagged! {
    /// What the cluster answers.
    pub enum CallAnswer {
        /// Outputs.
        1 => Outputs(Outputs),
        /// Progress.
        2 => Records(Records),
        /// The children were added.
        3 => Added(TasksAdded),
        /// The stage is sealed.
        4 => Sealed(Taken),
        /// The stage.
        5 => Found(Found),
        /// No. In JSON the rejection stands under a key of its own, since both have a `type`.
        #[serde(with = "under_rejection")]
        6 => Rejected(Rejection),
    }
}

mod under_rejection {
    use crate::rejection::Rejection;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize)]
    struct Shown<'a> {
        rejection: &'a Rejection,
    }

    #[derive(Deserialize)]
    struct Read {
        rejection: Rejection,
    }

    pub fn serialize<S: Serializer>(rejection: &Rejection, serializer: S) -> Result<S::Ok, S::Error> {
        Shown { rejection }.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Rejection, D::Error> {
        Ok(Read::deserialize(deserializer)?.rejection)
    }
}

/// A task's output.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TaskOutput {
    /// Which task.
    pub task: TaskId,
    /// What it said at its end.
    pub output: String,
}

/// Outputs, in the order of the stage's tasks.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Outputs {
    /// As many as fit; only tasks that succeeded.
    pub outputs: Vec<TaskOutput>,
    /// Where to go on; `None`: that was all.
    pub next: Option<u32>,
}

/// A task's newest record under one key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct KeyedRecord {
    /// The key.
    pub key: String,
    /// Its sequence number.
    pub seq: u64,
    /// The payload's hash.
    pub payload_hash: Digest,
    /// The body.
    pub body: String,
}

/// The newest record under each key, in the order of keys.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Records {
    /// The records.
    pub records: Vec<KeyedRecord>,
}

/// A stage of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Found {
    /// Its index.
    pub stage: StageIndex,
    /// How many tasks it has now.
    pub tasks: u32,
    /// The number in the job of its first task; with none, 0.
    pub first_task: u32,
}
