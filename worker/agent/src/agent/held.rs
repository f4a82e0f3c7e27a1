//! An attempt that the agent holds, and how far it is.

use muster_protocol::bus::{Launch, Phase};
use muster_protocol::outcome::Outcome;

/// An attempt that the agent holds.
#[derive(Debug)]
pub struct Attempt {
    pub launch: Box<Launch>,
    pub stage: Stage,
    /// What it said that its output is.
    pub output: String,
    /// The number of its last progress record; 0: none.
    pub last_progress: u64,
}

/// How far an attempt is.
#[derive(Debug)]
pub enum Stage {
    /// It waits for room, and holds nothing.
    Queued,
    /// It runs, or is being started.
    Running,
    /// It is being ended.
    Stopping(Stopping),
}

/// How an attempt is being ended.
#[derive(Debug)]
pub struct Stopping {
    /// What is to be reported.
    pub outcome: Outcome,
    /// Whether the leader gave that outcome; the agent's own gives way to it.
    pub by_leader: bool,
    /// SIGKILL comes then.
    pub kill_at: u64,
}

impl Attempt {
    /// For heartbeats.
    pub fn phase(&self) -> Phase {
        match self.stage {
            Stage::Queued => Phase::Queued,
            Stage::Running => Phase::Running,
            Stage::Stopping(_) => Phase::Stopping,
        }
    }

    /// Whether it has processes.
    pub fn runs(&self) -> bool {
        match self.stage {
            Stage::Queued => false,
            Stage::Running | Stage::Stopping(_) => true,
        }
    }
}
