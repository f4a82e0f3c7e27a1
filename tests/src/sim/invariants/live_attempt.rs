//! Only the newest attempt's end counts, and once; a success in the log was a success of a process.

use super::{InvariantResult, violated};
use muster_protocol::event::Event;
use muster_protocol::ids::{AttemptId, TaskId};
use muster_protocol::outcome::Outcome;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct LiveAttempt {
    newest: BTreeMap<TaskId, (u32, bool)>,
    process_succeeded: BTreeSet<AttemptId>,
    /// No-ops: only their agent knows how they ended.
    without_process: BTreeSet<TaskId>,
}

impl LiveAttempt {
    pub fn process_succeeded(&mut self, attempt: AttemptId) {
        self.process_succeeded.insert(attempt);
    }

    pub fn needs_no_process(&mut self, task: TaskId) {
        self.without_process.insert(task);
    }

    pub fn observe(&mut self, event: &Event) -> InvariantResult {
        match event {
            Event::TaskAssigned(assigned) => {
                let AttemptId { task, epoch } = assigned.attempt;
                let (before, ended) = self.newest.get(&task).copied().unwrap_or((0, true));
                if epoch != before + 1 || !ended {
                    return violated(
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
                    return violated(
                        "live attempt",
                        format!("{} ended, but the newest is {:?}", ended.attempt, self.newest.get(&task)),
                    );
                }
                self.newest.insert(task, (epoch, true));
                let claimed =
                    matches!(ended.outcome, Outcome::Succeeded(_)) && !self.without_process.contains(&task);
                if claimed && !self.process_succeeded.contains(&ended.attempt) {
                    return violated(
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
