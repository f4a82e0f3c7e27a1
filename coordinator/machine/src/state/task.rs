//! A task that had an attempt: the state of the newest, what it said, and how far it came.

use alloc::collections::BTreeMap;
use alloc::string::String;
use bincode::{Decode, Encode};
use muster_protocol::ids::{Digest, WorkerId};
use muster_protocol::outcome::{Outcome, Terminal};
use muster_protocol::resources::Grant;
use muster_protocol::time::LogMs;

/// A task that had an attempt.
#[derive(Clone, Debug, Encode, Decode)]
pub(crate) struct Task {
    /// Of its newest attempt.
    pub epoch: u32,
    /// Retries used.
    pub retries: u32,
    pub state: TaskState,
    /// The worker of its newest attempt.
    pub worker: WorkerId,
    /// When its newest attempt started.
    pub started_ms: Option<LogMs>,
    /// How its last ended attempt ended.
    pub outcome: Option<Outcome>,
    /// The newest record under each key; kept over attempts, so that the next goes on from there.
    pub progress: BTreeMap<String, Progress>,
}

/// Where a task stands.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum TaskState {
    /// No attempt: it is in its stage's sets.
    Idle,
    /// It waits until that moment.
    Backoff { ready_at: LogMs },
    /// It has an attempt.
    Live(Live),
    /// Its attempt ended, and what comes of it hangs on the rest of its gang.
    Parted,
    /// It ended.
    Ended { terminal: Terminal, at: LogMs },
}

/// An attempt that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Live {
    pub worker: WorkerId,
    pub grant: Grant,
    pub step: Step,
    /// It may run for long: nothing is to wait for what it holds.
    pub long: bool,
    /// It is to end, with this outcome.
    pub stopping: Option<Outcome>,
}

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Step {
    /// It waits at its worker, and holds nothing.
    Queued,
    /// Its worker is to start it; what it asks for is kept for it.
    Assigned,
    /// It runs, and ends as timed out at that moment.
    Running { pid: u32, deadline: Option<LogMs> },
}

/// The newest record under a key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Progress {
    pub seq: u64,
    pub payload_hash: Digest,
    pub body: String,
}

impl Live {
    /// When it times out: never, once it is being ended.
    pub fn timer(&self) -> Option<LogMs> {
        match (&self.stopping, self.step) {
            (None, Step::Running { deadline, .. }) => deadline,
            (Some(_), _) | (None, Step::Queued | Step::Assigned) => None,
        }
    }
}
