//! Messages between workers and the leader.
//!
//! The bus is transport only: any message may be lost, late, repeated or out of order, and every coordinator
//! receives every [`Up`]. So messages that matter are resent until they are acknowledged, and [`Down`] is
//! derived from the replicated state, never sent as a one-shot effect. **Invariant**: a worker accepts a
//! [`DownEnvelope`] only if its term is not older than the newest that it has seen.

use crate::attempt_call::{CallAnswer, CallRequest};
use crate::ids::{AttemptId, BootId, RequestId, StageIndex, Term, WorkerId, WorkerIdentity};
use crate::outcome::Outcome;
use crate::resources::{Grant, Resources};
use crate::spec::{OnPartition, Work};
use crate::worker::{ProgressRecord, Report, WorkerHello};
use crate::{tagged, words};
use alloc::string::String;
use alloc::vec::Vec;
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// From a worker to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct UpEnvelope {
    /// The cluster's name. Messages of another cluster are dropped.
    pub cluster: String,
    /// The worker that sent it.
    pub identity: WorkerIdentity,
    /// The worker's incarnation.
    pub boot: BootId,
    /// W3C trace context, or empty.
    pub trace: String,
    /// The message.
    pub message: Up,
}

/// From the leader to one worker.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct DownEnvelope {
    /// The cluster's name.
    pub cluster: String,
    /// The sender's term. A worker ignores a deposed leader.
    pub term: Term,
    /// The incarnation of the worker that this is for.
    pub boot: BootId,
    /// W3C trace context, or empty.
    pub trace: String,
    /// The message.
    pub message: Down,
}

tagged! {
    /// A message from a worker.
    pub enum Up {
        /// Register this worker.
        1 => Hello(WorkerHello),
        /// The worker is alive, and holds these attempts.
        2 => Heartbeat(Heartbeat),
        /// Attempts started or ended. Resent, from the oldest unacknowledged report, until acknowledged.
        3 => Reports(Reports),
        /// Records that attempts wrote. Resent until acknowledged.
        4 => Progress(Progress),
        /// A call from an attempt.
        5 => Call(Call),
        /// Output of an attempt, for a tail.
        6 => LogChunk(LogChunk),
        /// The worker was told to shut down and takes no new work.
        7 => Draining(Draining),
    }
}

tagged! {
    /// A message from the leader.
    pub enum Down {
        /// The worker is registered under this id. Also sent when it was registered already.
        1 => Welcome(Welcome),
        /// Acknowledges a heartbeat.
        2 => HeartbeatAck(HeartbeatAck),
        /// The leader does not know this incarnation: the worker must register.
        3 => SayHello(SayHello),
        /// Start these attempts, or queue them. Attempts that the worker already holds are ignored.
        4 => Run(Run),
        /// Stop this attempt.
        5 => Stop(Stop),
        /// Reports and records up to here are applied and durable.
        6 => Ack(Ack),
        /// The answer to a call.
        7 => Answer(AnswerTo),
        /// Send an attempt's output.
        8 => Tail(Tail),
        /// Stop sending an attempt's output.
        9 => EndTail(EndTail),
    }
}

/// Sent every [`HEARTBEAT_INTERVAL_MS`](crate::limits::HEARTBEAT_INTERVAL_MS).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The worker's monotonic clock at sending; the acknowledgement returns it.
    pub sent_ms: u64,
    /// Busy CPU on the machine, in thousandths of one CPU.
    pub cpu_milli: u32,
    /// Memory in use on the machine, in MiB.
    pub memory_mib: u32,
    /// Every attempt that the worker holds, including ended ones whose reports are not acknowledged.
    pub held: Vec<Held>,
    /// Messages from the leader that this incarnation has received.
    pub down_received: u64,
}

/// An attempt that a worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Held {
    /// The attempt.
    pub attempt: AttemptId,
    /// Its phase.
    pub phase: Phase,
}

words! {
    /// The phase of an attempt at its worker.
    pub enum Phase {
        /// Waits for room.
        0 => Queued = "queued",
        /// Runs.
        1 => Running = "running",
        /// Is being stopped.
        2 => Stopping = "stopping",
        /// Ended; the report is not acknowledged yet.
        3 => Ended = "ended",
    }
}

/// Reports in order, numbered one by one from 1 in each incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Reports {
    /// The number of the first report in this message.
    pub first_seq: u64,
    /// The oldest unacknowledged number at sending: some leader has applied everything before it. A leader
    /// accepts the message only if `first_seq` is at most one past the last that it accepted, or equals this
    /// number.
    pub oldest_unacked: u64,
    /// In the order in which they happened.
    pub reports: Vec<Report>,
}

/// Records in order, numbered in a sequence of their own, as in [`Reports`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Progress {
    /// The number of the first record in this message.
    pub first_seq: u64,
    /// The oldest unacknowledged number at sending.
    pub oldest_unacked: u64,
    /// In the order in which they were written.
    pub records: Vec<ProgressRecord>,
}

/// A call from an attempt, through its agent. Resent with the same id until it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Call {
    /// Drawn once per call. Also the request id of the command that the call leads to, if any.
    pub id: RequestId,
    /// The caller.
    pub attempt: AttemptId,
    /// The request.
    pub request: CallRequest,
}

/// A piece of an attempt's output.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct LogChunk {
    /// The tail that this is for.
    pub tail: RequestId,
    /// The attempt that wrote it.
    pub attempt: AttemptId,
    /// Position of the first byte in the stream.
    pub offset: u64,
    /// At most 64 KiB.
    pub bytes: Vec<u8>,
    /// Whether this is the end of the stream.
    pub end: bool,
    /// Why there is no output; empty otherwise.
    pub error: String,
}

/// The worker shuts down and takes no new work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Draining {}

/// The worker is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Welcome {
    /// Its id.
    pub worker: WorkerId,
}

/// Acknowledges a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct HeartbeatAck {
    /// The heartbeat's `sent_ms`: the lease counts from there.
    pub sent_ms: u64,
    /// Messages that this leader sent to this incarnation before this one, so that the worker notices a gap.
    pub down_sent: u64,
    /// The worker's id.
    pub worker: WorkerId,
}

/// The leader does not know this incarnation: the worker must register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct SayHello {}

/// Start these attempts, or queue them.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Run {
    /// Queued ones start in this order.
    pub launches: Vec<Launch>,
}

/// What an agent needs to run an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Launch {
    /// The attempt.
    pub attempt: AttemptId,
    /// Its job's name.
    pub job_name: String,
    /// The index of its stage.
    pub stage: StageIndex,
    /// The name of its stage.
    pub stage_name: String,
    /// The work to do.
    pub work: Work,
    /// The job's parameters, as a JSON object in text; empty if there are none.
    pub job_params: String,
    /// The parameters of a child task; empty if there are none.
    pub child_params: String,
    /// The task's array index.
    pub array_index: u64,
    /// The task's position in its stage: a gang's rank.
    pub rank: u32,
    /// The number of tasks in its stage: a gang's world size.
    pub world: u32,
    /// The gang's rendezvous; `None` if the stage is no gang.
    pub gang: Option<Rendezvous>,
    /// The resources that it holds.
    pub request: Resources,
    /// The devices that it gets.
    pub grant: Grant,
    /// Whether it waits until there is room.
    pub queued: bool,
    /// Time from SIGTERM to SIGKILL.
    pub grace_ms: u64,
    /// What to do when no coordinator can be reached.
    pub on_partition: OnPartition,
}

/// A gang's rendezvous.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Rendezvous {
    /// The number of this formation, counted from 1. Ranks of another formation are turned away.
    pub formation: u32,
    /// The address of rank 0.
    pub address: String,
    /// The port that rank 0 listens on.
    pub port: u16,
}

/// Stop an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Stop {
    /// The attempt.
    pub attempt: AttemptId,
    /// The outcome to report.
    pub outcome: Outcome,
    /// Time from SIGTERM to SIGKILL; 0 kills at once.
    pub grace_ms: u64,
}

/// Reports and records up to these numbers are applied and durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Ack {
    /// The number of the last report.
    pub reports: u64,
    /// The number of the last record.
    pub progress: u64,
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct AnswerTo {
    /// The call's id.
    pub id: RequestId,
    /// The answer.
    pub answer: CallAnswer,
}

/// Ask for an attempt's output.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Tail {
    /// Names the tail. The leader repeats this message every second while somebody listens; a tail that is
    /// not repeated for five seconds ends.
    pub id: RequestId,
    /// The attempt that writes the output.
    pub attempt: AttemptId,
    /// The stream to read.
    pub stream: Stream,
    /// Position of the first byte wanted.
    pub offset: u64,
    /// Whether to wait for more at the end of the stream, until the attempt ends.
    pub follow: bool,
    /// Credit: the bytes that may be sent beyond `offset` before the next `Tail` grants more.
    pub credit_bytes: u64,
}

/// Stop sending an attempt's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct EndTail {
    /// The tail's id.
    pub id: RequestId,
}

words! {
    /// An output stream of an attempt.
    pub enum Stream {
        /// Standard output.
        1 => Stdout = "stdout",
        /// Standard error.
        2 => Stderr = "stderr",
    }
}
