//! Messages between a running attempt and its agent, over the attempt's local socket.
//!
//! `MUSTER_SOCKET` holds the socket's path. A frame is a little-endian `u32` length and a sealed
//! [`AttemptFrame`] or [`AgentFrame`]. The agent answers each frame, in order; a call that needs the log is
//! answered once it is applied.

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
        /// Write a record. Answered when it is applied if `wait`, else at once.
        1 => Record(WriteRecord),
        /// Set the task's output, which counts if the attempt exits with code 0.
        2 => Output(SetOutput),
        /// Call the cluster.
        3 => Ask(Ask),
    }
}

tagged! {
    /// From the agent to an attempt.
    pub enum AgentFrame {
        /// The frame was accepted.
        1 => Taken(Taken),
        /// The cluster's answer.
        2 => Answered(Answered),
        /// The frame was malformed, or the attempt is no longer current.
        3 => Refused(Detail),
    }
}

/// Write a record.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct WriteRecord {
    /// The topic of the record.
    pub key: String,
    /// Grows per task and key.
    pub seq: u64,
    /// The hash of the payload.
    pub payload_hash: Digest,
    /// At most `PROGRESS_BODY_BYTES_MAX` bytes.
    pub body: String,
    /// Whether to answer only once it is applied.
    pub wait: bool,
}

/// Set the task's output.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct SetOutput {
    /// At most `PROGRESS_BODY_BYTES_MAX` bytes.
    pub output: String,
}

/// Accepted, with nothing else to return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Taken {}

/// A call. The request id is derived from the task and `nonce`, so that a repeat by a later attempt is the
/// same request.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Ask {
    /// Chosen by the program: the same for the same call in every attempt of the task.
    pub nonce: u64,
    /// The request.
    pub request: CallRequest,
}

/// The cluster's answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Answered {
    /// The answer.
    pub answer: CallAnswer,
}

tagged! {
    /// What an attempt may ask the cluster.
    pub enum CallRequest {
        /// The outputs of a stage's tasks.
        1 => StageOutputs(StageOutputs),
        /// The records of a task of the same job.
        2 => TaskProgress(TaskProgress),
        /// Add tasks to open stages of the caller's job.
        3 => AddChildren(AddChildren),
        /// Seal a stage of the caller's job: it gets no more tasks.
        4 => Seal(Seal),
        /// Find a stage of the caller's job by its name.
        5 => FindStage(FindStage),
    }
}

/// Asks for outputs of a stage's tasks, as many as fit into one answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct StageOutputs {
    /// The stage's name.
    pub stage: String,
    /// The position in the stage of the first task wanted.
    pub from: u32,
}

/// Asks for the newest record under each key of a task.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TaskProgress {
    /// A task of the same job.
    pub task: TaskId,
    /// Only keys with this prefix.
    pub prefix: String,
}

/// Adds tasks to open stages of the caller's job.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct AddChildren {
    /// The children.
    pub children: Vec<ChildSpec>,
}

/// Seals a stage of the caller's job.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Seal {
    /// An open stage of the caller's job.
    pub stage: StageIndex,
}

/// Finds a stage by its name.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct FindStage {
    /// The stage's name.
    pub name: String,
}

tagged! {
    /// The cluster's answer to a call.
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
        /// The command was rejected. In JSON the rejection stands under a key of its own, since both have a
        /// `type`.
        #[serde(with = "under_rejection")]
        6 => Rejected(Rejection),
    }
}

mod under_rejection {
    use crate::rejection::Rejection;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize)]
    struct NestedRef<'a> {
        rejection: &'a Rejection,
    }

    #[derive(Deserialize)]
    struct Nested {
        rejection: Rejection,
    }

    pub fn serialize<S: Serializer>(rejection: &Rejection, serializer: S) -> Result<S::Ok, S::Error> {
        NestedRef { rejection }.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Rejection, D::Error> {
        Ok(Nested::deserialize(deserializer)?.rejection)
    }
}

/// A task's output.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct TaskOutput {
    /// The task.
    pub task: TaskId,
    /// Its output.
    pub output: String,
}

/// Outputs, in the order of the stage's tasks.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Outputs {
    /// As many as fit, of tasks that succeeded.
    pub outputs: Vec<TaskOutput>,
    /// The position to go on from; `None` if these were the last.
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
    /// The number of tasks that it has now.
    pub tasks: u32,
    /// The number in the job of its first task; 0 if it has none.
    pub first_task: u32,
}
