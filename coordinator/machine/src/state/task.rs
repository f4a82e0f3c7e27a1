//! A task that had an attempt: the state of its newest attempt, and what is kept of those before.

use bincode::{Decode, Encode};
use muster_protocol::ids::{Digest, WorkerId};
use muster_protocol::outcome::{Outcome, Terminal};
use muster_protocol::resources::Grant;
use muster_protocol::time::LogMs;

use alloc::string::String;

/// A task that had an attempt and has not ended.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct Task {
    pub history: TaskHistory,
    pub state: TaskState,
}

/// A task that had an attempt and has ended.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct EndedTask {
    pub history: TaskHistory,
    pub terminal: Terminal,
    pub ended_ms: LogMs,
}

/// What the attempts of a task left behind.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct TaskHistory {
    /// Of the newest attempt.
    pub epoch: u32,
    /// Retries used.
    pub retries: u32,
    /// The worker of the newest attempt.
    pub worker: WorkerId,
    /// When the newest attempt started.
    pub started_ms: Option<LogMs>,
    /// How the last attempt that ended did so.
    pub outcome: Option<Outcome>,
}

/// Where a task that has not ended stands.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum TaskState {
    /// No attempt: it is in one of its stage's sets.
    Idle,
    /// It waits until that moment.
    Backoff { ready_at: LogMs },
    /// It has an attempt.
    Active(ActiveAttempt),
    /// Its attempt ended; what follows depends on the other ranks of its gang. A task without a gang is in
    /// this state only until the next event of the same command.
    AwaitingGang,
}

/// An attempt that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct ActiveAttempt {
    pub worker: WorkerId,
    pub grant: Grant,
    pub phase: AttemptPhase,
    /// It may run for long: nothing should queue for what it holds.
    pub long_running: bool,
    /// It was told to stop, and ends with this outcome whatever it reports.
    pub stopping: Option<Outcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum AttemptPhase {
    /// It waits at its worker, and holds nothing.
    Queued,
    /// Its worker is to start it; what it asks for is reserved.
    Assigned,
    /// It runs, and times out at `deadline`.
    Running { pid: u32, deadline: Option<LogMs> },
}

/// The newest record under a key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Progress {
    pub seq: u64,
    pub payload_hash: Digest,
    pub body: String,
}

impl ActiveAttempt {
    /// When it times out: never, once it was told to stop.
    pub fn timer(&self) -> Option<LogMs> {
        match (&self.stopping, self.phase) {
            (None, AttemptPhase::Running { deadline, .. }) => deadline,
            (Some(_), _) | (None, AttemptPhase::Queued | AttemptPhase::Assigned) => None,
        }
    }
}
