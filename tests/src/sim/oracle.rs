//! What the simulator knows from outside: what clients were told, what really ran, and what the log says.

use super::invariants::{Acknowledged, Gangs, InvariantResult, LiveAttempt, OneTerminal, SameState};
use muster_protocol::event::{Event, EventRecord};
use muster_protocol::ids::{JobId, TaskId};
use muster_protocol::spec::Work;
use std::collections::BTreeMap;

/// Observes every entry of the log once, in order, when the first coordinator applies it.
#[derive(Default)]
pub struct Oracle {
    pub acknowledged: Acknowledged,
    pub live_attempt: LiveAttempt,
    pub same_state: SameState,
    one_terminal: OneTerminal,
    gangs: Gangs,
    /// Of each job's stages: the first task, the number of tasks, and whether they are no-ops.
    noops: BTreeMap<JobId, Vec<(u32, u32, bool)>>,
}

impl Oracle {
    pub fn observe_entry(&mut self, records: &[EventRecord]) -> InvariantResult {
        for record in records {
            self.track(&record.event);
            self.acknowledged.observe(&record.event);
            self.live_attempt.observe(&record.event)?;
            self.one_terminal.observe(&record.event)?;
        }
        self.gangs.observe_entry(records)
    }

    /// Tasks that have ended.
    pub fn tasks(&self) -> u64 {
        self.one_terminal.tasks()
    }

    fn track(&mut self, event: &Event) {
        match event {
            Event::JobSubmitted(submitted) => {
                let mut first = 0;
                let stages = submitted.spec.stages.iter().map(|stage| {
                    let range = (first, stage.tasks, matches!(stage.work, Work::Noop(_)));
                    first += stage.tasks;
                    range
                });
                let stages: Vec<_> = stages.collect();
                for (first, count, noop) in &stages {
                    for index in (*first..first + count).filter(|_| *noop) {
                        self.live_attempt.needs_no_process(TaskId { job: submitted.job, index });
                    }
                }
                self.noops.insert(submitted.job, stages);
            }
            Event::TasksAdded(added) => {
                let job = added.parent.task.job;
                for (index, child) in (added.first..).zip(&added.children) {
                    let noop = self
                        .noops
                        .get(&job)
                        .and_then(|stages| stages.get(usize::from(child.stage.0)))
                        .is_some_and(|stage| stage.2);
                    if noop {
                        self.live_attempt.needs_no_process(TaskId { job, index });
                    }
                }
            }
            _ => {}
        }
    }
}
