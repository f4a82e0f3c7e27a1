//! What workers and the leader say to each other over the bus.
//!
//! The bus is transport only: any message may be lost, late, repeated or out of order, and every coordinator
//! hears every [`Up`]. So whatever matters is said again until it is acknowledged, and [`Down`] follows from
//! the replicated state, never from a one-shot effect. **Invariant**: a worker believes a [`DownEnvelope`]
//! only if its term is not below the newest that it has seen.

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

/// From a worker to whoever leads.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct UpEnvelope {
    /// The cluster's name: another cluster's messages are dropped.
    pub cluster: String,
    /// Who speaks.
    pub identity: WorkerIdentity,
    /// In which life.
    pub boot: BootId,
    /// W3C trace context, or empty.
    pub trace: String,
    /// What is said.
    pub message: Up,
}

/// From the leader to one worker.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct DownEnvelope {
    /// The cluster's name.
    pub cluster: String,
    /// The term that the speaker leads: a deposed leader is not obeyed.
    pub term: Term,
    /// For this life of the worker only.
    pub boot: BootId,
    /// W3C trace context, or empty.
    pub trace: String,
    /// What is said.
    pub message: Down,
}

tagged! {
    /// What a worker says.
    pub enum Up {
        /// I am here; register me.
        1 => Hello(WorkerHello),
        /// I am still here, and this is what I hold.
        2 => Heartbeat(Heartbeat),
        /// This happened to my attempts. Said again, from the oldest that is not acknowledged, until it is.
        3 => Reports(Reports),
        /// My attempts came this far. Said again until acknowledged.
        4 => Progress(Progress),
        /// An attempt asks something.
        5 => Call(Call),
        /// Output of an attempt, for a tail.
        6 => LogChunk(LogChunk),
        /// I was told to end: give me no new work.
        7 => Draining(Draining),
    }
}

tagged! {
    /// What the leader says.
    pub enum Down {
        /// You are registered under this id; or: I heard your heartbeat.
        1 => Welcome(Welcome),
        /// I heard the heartbeat that you sent at that moment.
        2 => HeartbeatAck(HeartbeatAck),
        /// I do not know this life of yours: say hello.
        3 => SayHello(SayHello),
        /// Start these attempts, or queue them. One that you hold already changes nothing.
        4 => Run(Run),
        /// End this attempt.
        5 => Stop(Stop),
        /// Reports up to here are applied, durably.
        6 => Ack(Ack),
        /// The answer to a call.
        7 => Answer(AnswerTo),
        /// Send an attempt's output.
        8 => Tail(Tail),
        /// Send no more of it.
        9 => EndTail(EndTail),
    }
}

/// I am still here.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The worker's monotonic clock when it sent this; comes back in the acknowledgement.
    pub sent_ms: u64,
    /// Busy CPU on the machine, in thousandths of one CPU.
    pub cpu_milli: u32,
    /// Memory in use on the machine.
    pub memory_mib: u32,
    /// Every attempt that it holds, and those that ended but are not acknowledged.
    pub held: Vec<Held>,
    /// Messages from the leader that it received in this life.
    pub down_received: u64,
}

/// An attempt that a worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Held {
    /// Which.
    pub attempt: AttemptId,
    /// How far it is.
    pub phase: Phase,
}

words! {
    /// How far an attempt is at its worker.
    pub enum Phase {
        /// It waits for room.
        0 => Queued = "queued",
        /// It runs.
        1 => Running = "running",
        /// It is being ended.
        2 => Stopping = "stopping",
        /// It ended; the report is not acknowledged yet.
        3 => Ended = "ended",
    }
}

/// Reports in order. `first_seq` is the number of the first; numbers grow by one per report and start from 1
/// in each life.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Reports {
    /// The number of the first report in this message.
    pub first_seq: u64,
    /// The oldest number that was not acknowledged when this was sent: a leader has everything before it, if
    /// not this one. The leader accepts a message only if `first_seq` is at most one past the last that it
    /// accepted, or equals this number.
    pub oldest_unacked: u64,
    /// In order.
    pub reports: Vec<Report>,
}

/// Progress records in order; numbered in a sequence of their own, as [`Reports`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Progress {
    /// The number of the first record in this message.
    pub first_seq: u64,
    /// The oldest number that was not acknowledged when this was sent.
    pub oldest_unacked: u64,
    /// In order.
    pub records: Vec<ProgressRecord>,
}

/// An attempt asks something, through its agent. Asked again with the same id until it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Call {
    /// Drawn once per call: also the request id of a command that it leads to.
    pub id: RequestId,
    /// Who asks.
    pub attempt: AttemptId,
    /// What.
    pub request: CallRequest,
}

/// A piece of an attempt's output.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct LogChunk {
    /// The tail that asked for it.
    pub tail: RequestId,
    /// Which attempt's.
    pub attempt: AttemptId,
    /// Where it begins, in bytes of the stream.
    pub offset: u64,
    /// The output itself; at most 64 KiB.
    pub bytes: Vec<u8>,
    /// Nothing comes after it.
    pub end: bool,
    /// Why there is nothing, if so; empty otherwise.
    pub error: String,
}

/// I was told to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Draining {}

/// You are registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Welcome {
    /// Under this id.
    pub worker: WorkerId,
}

/// I heard your heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct HeartbeatAck {
    /// The `sent_ms` of that heartbeat: the lease counts from there.
    pub sent_ms: u64,
    /// Messages to this life of the worker that were sent before this one, by this leader: a gap is noticed.
    pub down_sent: u64,
    /// The worker's id.
    pub worker: WorkerId,
}

/// Say hello.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct SayHello {}

/// Start these attempts.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Run {
    /// In the order in which queued ones start.
    pub launches: Vec<Launch>,
}

/// All that an agent needs to know to run an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Launch {
    /// Which attempt.
    pub attempt: AttemptId,
    /// Its job's name.
    pub job_name: String,
    /// Its stage.
    pub stage: StageIndex,
    /// Its stage's name.
    pub stage_name: String,
    /// What it does.
    pub work: Work,
    /// The job's parameters, as a JSON object in text, or empty.
    pub job_params: String,
    /// The child's own parameters, or empty.
    pub child_params: String,
    /// Its array index.
    pub array_index: u64,
    /// Its place among its stage's tasks (a gang's rank).
    pub rank: u32,
    /// How many tasks its stage has (a gang's world size).
    pub world: u32,
    /// The gang's rendezvous; `None` for others.
    pub gang: Option<Gang>,
    /// What it holds.
    pub request: Resources,
    /// Which devices.
    pub grant: Grant,
    /// It waits until there is room.
    pub queued: bool,
    /// From SIGTERM to SIGKILL.
    pub grace_ms: u64,
    /// What to do without a coordinator.
    pub on_partition: OnPartition,
}

/// A gang's rendezvous.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Gang {
    /// Counted from 1: each forming is a new life of the gang; ranks of another life are turned away.
    pub formation: u32,
    /// Rank 0's address.
    pub address: String,
    /// The port there that rank 0 listens on.
    pub port: u16,
}

/// End this attempt.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Stop {
    /// Which.
    pub attempt: AttemptId,
    /// The outcome that it is to be reported with.
    pub outcome: Outcome,
    /// From SIGTERM to SIGKILL; 0: at once.
    pub grace_ms: u64,
}

/// Applied, durably, up to here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Ack {
    /// The last report.
    pub reports: u64,
    /// The last progress record.
    pub progress: u64,
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct AnswerTo {
    /// Which call.
    pub id: RequestId,
    /// The answer.
    pub answer: CallAnswer,
}

/// Send an attempt's output.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Tail {
    /// Names the tail. Said again every second while somebody listens; a tail not heard of for five seconds
    /// ends.
    pub id: RequestId,
    /// Which attempt's.
    pub attempt: AttemptId,
    /// Which stream.
    pub stream: Stream,
    /// From this byte on.
    pub offset: u64,
    /// Go on when the end is reached, until the attempt ends.
    pub follow: bool,
    /// Bytes that may be sent beyond `offset` before the next `Tail` gives more: credit.
    pub credit_bytes: u64,
}

/// Send no more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct EndTail {
    /// Which tail.
    pub id: RequestId,
}

words! {
    /// Which output.
    pub enum Stream {
        /// Standard output.
        1 => Stdout = "stdout",
        /// Standard error.
        2 => Stderr = "stderr",
    }
}
