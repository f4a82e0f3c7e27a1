//! What the HTTP API shows, as JSON: stable keys, ids as text. Made from state by the coordinator, read by
//! the CLI and by programs.

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

/// How many tasks are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCounts {
    /// Waiting: for a stage, for other tasks, for a backoff, or for room.
    pub pending: u64,
    /// Given to a worker, not started.
    pub assigned: u64,
    /// Running.
    pub running: u64,
    /// Succeeded.
    pub succeeded: u64,
    /// Failed for good.
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
    /// Who submitted it.
    pub actor: String,
    /// For whom.
    pub namespace: String,
    /// `pending`, `running`, `cancelling`, or its terminal word.
    pub state: String,
    /// How it ended, if it has.
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
    /// Larger goes first.
    pub priority: i32,
}

/// A job with its stages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDetail {
    /// As in a list.
    pub job: JobView,
    /// As submitted.
    pub spec: JobSpec,
    /// In order.
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
    /// No more tasks join it.
    pub sealed: bool,
    /// All its tasks start together.
    pub gang: bool,
    /// How often its gang was formed.
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
    /// `waiting`, `ready`, `backoff`, `queued`, `assigned`, `running`, `stopping`, or its terminal word.
    pub state: String,
    /// Its newest attempt, if there was one.
    pub attempt: Option<AttemptId>,
    /// The worker of that attempt.
    pub worker: Option<WorkerId>,
    /// That worker's name.
    pub worker_name: Option<String>,
    /// When that attempt started, in log time.
    pub started_ms: Option<LogMs>,
    /// When the task ended, in log time.
    pub ended_ms: Option<LogMs>,
    /// How its last ended attempt ended.
    pub outcome: Option<Outcome>,
    /// Retries used.
    pub retries: u32,
    /// Its newest progress, by key: the bodies, as text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub progress: BTreeMap<String, ProgressView>,
}

/// The newest progress under a key.
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
    /// In order.
    pub tasks: Vec<TaskView>,
    /// The task number to go on from; `None`: that was all.
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
    /// Whether the leader hears of it.
    pub liveness: Liveness,
    /// It gets no new work.
    pub draining: bool,
    /// What it has.
    pub capacity: Resources,
    /// What is free.
    pub free: Resources,
    /// Its GPUs.
    pub gpus: Vec<GpuInfo>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Attempts running or about to.
    pub attempts: Vec<AttemptId>,
    /// Attempts queued there.
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
    /// The leader's name as this one knows it; empty: none known.
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
    /// The bus: `connected`, or what is wrong.
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

/// An event with where and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// The log index of its entry.
    pub index: LogIndex,
    /// Its position in the entry: `(index, ordinal)` is its place in the order of everything.
    pub ordinal: u32,
    /// When, in log time.
    pub log_ms: LogMs,
    /// When, by the leader's wall clock.
    pub wall_ms: WallMs,
    /// Whose command led to it.
    pub actor: String,
    /// The name of that command.
    pub cause: String,
    /// What happened.
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

/// What is said when something is wrong, with the HTTP status that fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorView {
    /// A stable word: `invalid`, `unknown`, `wrong_state`, `limit_exceeded`, `stale`, `no_leader`,
    /// `timed_out`, `overloaded`, `internal`.
    pub error: String,
    /// For people: what was wrong, and what would be right.
    pub message: String,
    /// The field that was wrong, or empty.
    #[serde(default)]
    pub field: String,
}

/// What a replay found.
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
    /// The chain head after it, computed again from the blocks.
    pub chain: ChainHead,
    /// Events folded.
    pub events: u64,
    /// Task transitions among them.
    pub transitions: u64,
    /// How long it took.
    pub elapsed_us: u64,
    /// Whether deciding every command again gave the same events; `None`: it was not asked for.
    pub verified: Option<bool>,
    /// The jobs as they stood then.
    pub jobs: Vec<JobView>,
}

/// A piece of output, as an SSE event on a log tail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogView {
    /// Which attempt's.
    pub attempt: AttemptId,
    /// Which stream.
    pub stream: Stream,
    /// Where it begins, in bytes of the stream.
    pub offset: u64,
    /// Where the next piece begins: a reader whose connection broke goes on from there. The text cannot say
    /// it, since it is lossy.
    #[serde(default)]
    pub next: u64,
    /// The output, lossily as UTF-8; a character is never cut in two.
    pub text: String,
    /// Nothing comes after it.
    pub end: bool,
    /// Why there is nothing, if so; empty otherwise.
    pub error: String,
}
