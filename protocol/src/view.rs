//! The JSON answers of the HTTP API: stable keys, ids as text. Coordinators make them from state; the CLI and
//! other programs read them.

use crate::bus::Stream;
use crate::envelope::ChainHead;
use crate::event::Event;
use crate::ids::{AttemptId, Digest, JobId, LogIndex, RaftId, TaskId, Term, WorkerId};
use crate::outcome::{Outcome, Terminal};
use crate::resources::{GpuInfo, Resources};
use crate::spec::JobSpec;
use crate::time::{LogMs, WallMs};
use crate::worker::Liveness;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The number of tasks in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCounts {
    /// Waiting for a stage, other tasks, a backoff, or free resources.
    pub pending: u64,
    /// Given to a worker, but not started.
    pub assigned: u64,
    /// Running at a worker.
    pub running: u64,
    /// Succeeded.
    pub succeeded: u64,
    /// Failed, with no retries left.
    pub failed: u64,
    /// Cancelled.
    pub cancelled: u64,
}

/// A job in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// Its id.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// The user who submitted it.
    pub actor: String,
    /// The namespace that it belongs to.
    pub namespace: String,
    /// `pending`, `running`, `cancelling`, or the word of its final state.
    pub state: String,
    /// The final state, once it has ended.
    pub terminal: Option<Terminal>,
    /// Why it failed or was cancelled; empty otherwise.
    pub reason: String,
    /// Its tasks.
    pub tasks: TaskCounts,
    /// When it was submitted, by the leader's wall clock.
    pub submitted_wall_ms: WallMs,
    /// When it was submitted, in log time.
    pub submitted_ms: LogMs,
    /// When it ended, in log time.
    pub ended_ms: Option<LogMs>,
    /// A larger value is scheduled first.
    pub priority: i32,
}

/// A job with its stages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDetail {
    /// The same as in a list.
    pub job: JobView,
    /// The job as submitted.
    pub spec: JobSpec,
    /// In the job's order.
    pub stages: Vec<StageView>,
}

/// A stage of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageView {
    /// Its name.
    pub name: String,
    /// `waiting`, `ready`, `running`, `succeeded`, `failed`, `cancelled`.
    pub state: String,
    /// Names of the stages that it needs.
    pub needs: Vec<String>,
    /// Whether it gets no more tasks.
    pub sealed: bool,
    /// Whether all its tasks start together.
    pub gang: bool,
    /// How often its gang has formed.
    pub formations: u32,
    /// Its tasks.
    pub tasks: TaskCounts,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskView {
    /// Its id.
    pub id: TaskId,
    /// Its stage's name.
    pub stage: String,
    /// `waiting`, `ready`, `backoff`, `queued`, `assigned`, `running`, `stopping`, or the word of its final
    /// state.
    pub state: String,
    /// Its newest attempt, if it had one.
    pub attempt: Option<AttemptId>,
    /// The worker of that attempt.
    pub worker: Option<WorkerId>,
    /// That worker's name.
    pub worker_name: Option<String>,
    /// When that attempt started, in log time.
    pub started_ms: Option<LogMs>,
    /// When the task ended, in log time.
    pub ended_ms: Option<LogMs>,
    /// The outcome of its last ended attempt.
    pub outcome: Option<Outcome>,
    /// Retries used.
    pub retries: u32,
    /// Its newest record under each key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub progress: BTreeMap<String, ProgressView>,
}

/// The newest record under a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressView {
    /// Its sequence number.
    pub seq: u64,
    /// The payload's hash.
    pub payload_hash: Digest,
    /// The body.
    pub body: String,
}

/// A page of tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskPage {
    /// In the order of their numbers.
    pub tasks: Vec<TaskView>,
    /// The task number to go on from; `None` if this is the last page.
    pub next: Option<u32>,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerView {
    /// Its id.
    pub id: WorkerId,
    /// Its name.
    pub name: String,
    /// Where other workers reach it.
    pub address: String,
    /// Whether the leader hears from it.
    pub liveness: Liveness,
    /// Whether it gets no new work.
    pub draining: bool,
    /// Total resources.
    pub capacity: Resources,
    /// Free resources.
    pub free: Resources,
    /// Its GPUs.
    pub gpus: Vec<GpuInfo>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Attempts that run or are about to.
    pub attempts: Vec<AttemptId>,
    /// The number of attempts queued there.
    pub queued: u32,
    /// Its program's version.
    pub version: String,
}

/// The cluster as one coordinator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusView {
    /// The cluster's name.
    pub cluster: String,
    /// The coordinator that answers.
    pub coordinator: String,
    /// Its number in Raft.
    pub raft_id: RaftId,
    /// `leader`, `follower`, `candidate`.
    pub role: String,
    /// The leader's name, as this coordinator knows it; empty if it knows none.
    pub leader: String,
    /// The term.
    pub term: Term,
    /// The last index committed.
    pub committed: LogIndex,
    /// The last index applied.
    pub applied: LogIndex,
    /// Log time at that index.
    pub log_ms: LogMs,
    /// The ledger's chain head.
    pub chain: ChainHead,
    /// The first index that the ledger holds; 1 if it is complete.
    pub ledger_first: LogIndex,
    /// The members.
    pub members: Vec<MemberView>,
    /// Jobs that have not ended.
    pub open_jobs: u64,
    /// Workers that are not lost.
    pub workers: u64,
    /// `connected`, or what is wrong with the bus.
    pub bus: String,
    /// The program's version.
    pub version: String,
    /// Counters since the start of this process: `raft_syncs`, `ledger_syncs`, `bus_sent`, `bus_received`,
    /// `commands`, `entries`, …
    pub counters: BTreeMap<String, u64>,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    /// Its coordinator's name.
    pub name: String,
    /// Its number in Raft.
    pub raft_id: RaftId,
    /// Its peer address.
    pub peer: String,
    /// Its HTTP address.
    pub http: String,
    /// The last index that it is known to have, as the leader knows it.
    pub matched: Option<LogIndex>,
}

/// An event with its position, time and cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// The log index of its entry.
    pub index: LogIndex,
    /// Its position in the entry: `(index, ordinal)` orders all events.
    pub ordinal: u32,
    /// Log time.
    pub log_ms: LogMs,
    /// The leader's wall clock.
    pub wall_ms: WallMs,
    /// The user or component whose command caused it.
    pub actor: String,
    /// The name of that command.
    pub cause: String,
    /// The event.
    pub event: Event,
}

/// The answer to a command through the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedView {
    /// The log index at which it was applied.
    pub index: LogIndex,
    /// The job, for a submit or anything else about a job.
    pub job: Option<JobId>,
}

/// An error, with the HTTP status that fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorView {
    /// A stable word: `invalid`, `unknown`, `wrong_state`, `limit_exceeded`, `stale`, `no_leader`,
    /// `timed_out`, `overloaded`, `internal`.
    pub error: String,
    /// For people: what is wrong, and what would be right.
    pub message: String,
    /// The invalid field, or empty.
    #[serde(default)]
    pub field: String,
}

/// The result of a replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayView {
    /// The coordinator whose ledger was folded.
    pub coordinator: String,
    /// The first index folded.
    pub from: LogIndex,
    /// The last index folded.
    pub to: LogIndex,
    /// The hash of the state after it.
    pub state_hash: Digest,
    /// The chain head after it, computed from the blocks.
    pub chain: ChainHead,
    /// Events folded.
    pub events: u64,
    /// Task transitions among them.
    pub transitions: u64,
    /// The time that it took.
    pub elapsed_us: u64,
    /// Whether deciding every command again gave the same events; `None` if that was not asked for.
    pub verified: Option<bool>,
    /// The jobs as of `to`.
    pub jobs: Vec<JobView>,
}

/// A piece of output, as an SSE event on a log tail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogView {
    /// The attempt that wrote it.
    pub attempt: AttemptId,
    /// The stream.
    pub stream: Stream,
    /// Position of the first byte in the stream.
    pub offset: u64,
    /// Position of the next piece, from which a reader goes on after its connection broke. It can't be
    /// computed from `text`, which is lossy.
    #[serde(default)]
    pub next: u64,
    /// The output as UTF-8, lossily; no character is split.
    pub text: String,
    /// Whether this is the end of the stream.
    pub end: bool,
    /// Why there is no output; empty otherwise.
    pub error: String,
}
