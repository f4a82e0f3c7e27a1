//! A task or a job ends once.

use super::{InvariantResult, violated};
use muster_protocol::event::Event;
use muster_protocol::ids::{JobId, TaskId};
use muster_protocol::outcome::Terminal;
use std::collections::BTreeMap;

#[derive(Default)]
pub struct OneTerminal {
    tasks: BTreeMap<TaskId, Terminal>,
    jobs: BTreeMap<JobId, Terminal>,
}

impl OneTerminal {
    pub fn observe(&mut self, event: &Event) -> InvariantResult {
        match event {
            Event::TaskEnded(ended) => match self.tasks.insert(ended.task, ended.terminal) {
                Some(before) => violated(
                    "one terminal",
                    format!("{} ended as {before}, then as {}", ended.task, ended.terminal),
                ),
                None => Ok(()),
            },
            Event::JobEnded(ended) => match self.jobs.insert(ended.job, ended.terminal) {
                Some(before) => violated(
                    "one terminal",
                    format!("{} ended as {before}, then as {}", ended.job, ended.terminal),
                ),
                None => Ok(()),
            },
            Event::TaskAssigned(assigned) if self.tasks.contains_key(&assigned.attempt.task) => violated(
                "one terminal",
                format!("{} was assigned after its task had ended", assigned.attempt),
            ),
            _ => Ok(()),
        }
    }

    /// Tasks that have ended.
    pub fn tasks(&self) -> u64 {
        self.tasks.len() as u64
    }
}
