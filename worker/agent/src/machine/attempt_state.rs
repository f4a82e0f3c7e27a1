//! An attempt that the agent holds, and the state it is in.

use super::input::Action;
use muster_protocol::bus::{Launch, Phase};
use muster_protocol::outcome::Outcome;

#[derive(Debug)]
pub struct HeldAttempt {
    pub launch: Box<Launch>,
    pub state: AttemptState,
    /// The output that the attempt has set for itself.
    pub output: String,
    /// The number of its last progress record; 0: none.
    pub last_progress: u64,
}

#[derive(Debug)]
pub enum AttemptState {
    /// Waits for free resources, and holds none.
    Queued,
    /// Runs, or is being started.
    Running,
    /// Was told to end.
    Stopping(Stopping),
}

#[derive(Debug)]
pub struct Stopping {
    /// What will be reported.
    pub outcome: Outcome,
    /// The leader gave that outcome; it replaces one of the agent's own.
    pub by_leader: bool,
    /// When SIGKILL follows.
    pub kill_at: u64,
}

impl HeldAttempt {
    pub fn queued(launch: Launch) -> HeldAttempt {
        HeldAttempt {
            launch: Box::new(launch),
            state: AttemptState::Queued,
            output: String::new(),
            last_progress: 0,
        }
    }

    pub fn phase(&self) -> Phase {
        match self.state {
            AttemptState::Queued => Phase::Queued,
            AttemptState::Running => Phase::Running,
            AttemptState::Stopping(_) => Phase::Stopping,
        }
    }

    pub fn has_processes(&self) -> bool {
        match self.state {
            AttemptState::Queued => false,
            AttemptState::Running | AttemptState::Stopping(_) => true,
        }
    }

    /// Tells a running attempt to end, or shortens its grace.
    pub fn end(
        &mut self,
        now_ms: u64,
        outcome: Outcome,
        by_leader: bool,
        grace_ms: u64,
        out: &mut dyn FnMut(Action),
    ) {
        let attempt = self.launch.attempt;
        let kill_at = now_ms.saturating_add(grace_ms);
        match &mut self.state {
            AttemptState::Queued => {}
            AttemptState::Running => {
                self.state = AttemptState::Stopping(Stopping { outcome, by_leader, kill_at });
                out(Action::Signal { attempt, grace_ms });
            }
            AttemptState::Stopping(stopping) => {
                if by_leader && !stopping.by_leader {
                    stopping.outcome = outcome;
                    stopping.by_leader = true;
                }
                if kill_at < stopping.kill_at {
                    stopping.kill_at = kill_at;
                    out(Action::Signal { attempt, grace_ms });
                }
            }
        }
    }
}
