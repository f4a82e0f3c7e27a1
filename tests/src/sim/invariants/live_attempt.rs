//! Only the live attempt's report counts: what the log says of an attempt is of the newest one, once, and a
//! success is one that happened.

use super::{Verdict, broken};
use muster_protocol::event::Event;
use muster_protocol::ids::{AttemptId, TaskId};
use muster_protocol::outcome::Outcome;
use std::collections::{BTreeMap, BTreeSet};

/// The newest attempts, and what really came of them.
#[derive(Default)]
pub struct LiveAttempt {
    newest: BTreeMap<TaskId, (u32, bool)>,
    really_succeeded: BTreeSet<AttemptId>,
    /// Attempts without a process: what they did, only their agent knows.
    without_process: BTreeSet<TaskId>,
}

impl LiveAttempt {
    /// A simulated process ended well.
    pub fn really_succeeded(&mut self, attempt: AttemptId) {
        self.really_succeeded.insert(attempt);
    }

    /// A task that needs no process.
    pub fn needs_no_process(&mut self, task: TaskId) {
        self.without_process.insert(task);
    }

    /// An event of the log.
    pub fn event(&mut self, event: &Event) -> Verdict {
        match event {
            Event::TaskAssigned(assigned) => {
                let AttemptId { task, epoch } = assigned.attempt;
                let (before, ended) = self.newest.get(&task).copied().unwrap_or((0, true));
                if epoch != before + 1 || !ended {
                    return broken(
                        "live attempt",
                        format!(
                            "{} follows #{before}, which has {}ended",
                            assigned.attempt,
                            if ended { "" } else { "not " }
                        ),
                    );
                }
                self.newest.insert(task, (epoch, false));
                Ok(())
            }
            Event::AttemptEnded(ended) => {
                let AttemptId { task, epoch } = ended.attempt;
                if self.newest.get(&task) != Some(&(epoch, false)) {
                    return broken(
                        "live attempt",
                        format!("{} ended, but the newest is {:?}", ended.attempt, self.newest.get(&task)),
                    );
                }
                self.newest.insert(task, (epoch, true));
                let claimed =
                    matches!(ended.outcome, Outcome::Succeeded(_)) && !self.without_process.contains(&task);
                if claimed && !self.really_succeeded.contains(&ended.attempt) {
                    return broken(
                        "live attempt",
                        format!("{} is said to have succeeded, but no process of it has", ended.attempt),
                    );
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
