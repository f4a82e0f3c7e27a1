//! A task, and a job, ends once, unless somebody asked for it to be run again.

use super::{Verdict, broken};
use muster_protocol::event::Event;
use muster_protocol::ids::{JobId, TaskId};
use muster_protocol::outcome::Terminal;
use std::collections::BTreeMap;

/// How tasks and jobs ended.
#[derive(Default)]
pub struct OneTerminal {
    tasks: BTreeMap<TaskId, Terminal>,
    jobs: BTreeMap<JobId, Terminal>,
}

impl OneTerminal {
    /// An event of the log.
    pub fn event(&mut self, event: &Event) -> Verdict {
        match event {
            Event::TaskEnded(ended) => match self.tasks.insert(ended.task, ended.terminal) {
                Some(before) => broken(
                    "one terminal",
                    format!("{} ended as {before}, then as {}", ended.task, ended.terminal),
                ),
                None => Ok(()),
            },
            Event::JobEnded(ended) => match self.jobs.insert(ended.job, ended.terminal) {
                Some(before) => broken(
                    "one terminal",
                    format!("{} ended as {before}, then as {}", ended.job, ended.terminal),
                ),
                None => Ok(()),
            },
            Event::TaskAssigned(assigned) if self.tasks.contains_key(&assigned.attempt.task) => {
                broken("one terminal", format!("{} was assigned after its task had ended", assigned.attempt))
            }
            _ => Ok(()),
        }
    }

    /// How many tasks ended.
    pub fn tasks(&self) -> u64 {
        self.tasks.len() as u64
    }
}
