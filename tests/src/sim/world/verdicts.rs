//! What the world knows better than anybody in it: what was told, what really ran, and whether all is done.

use super::World;
use crate::sim::invariants::{
    Acknowledged, Gangs, LiveAttempt, OneTerminal, SameState, Verdict, replay_equals_live, state_holds,
};
use muster_machine::views;
use muster_protocol::event::{Event, EventRecord};
use muster_protocol::ids::{JobId, TaskId};
use muster_protocol::spec::Work;
use std::collections::BTreeMap;

/// Sees every entry of the log once, in order, whoever applied it first.
#[derive(Default)]
pub struct Oracle {
    pub acknowledged: Acknowledged,
    pub live_attempt: LiveAttempt,
    pub same_state: SameState,
    one_terminal: OneTerminal,
    gangs: Gangs,
    /// Of each job: its stages' first tasks, how many, and whether they have a process.
    noops: BTreeMap<JobId, Vec<(u32, u32, bool)>>,
}

impl Oracle {
    /// One more entry of the log.
    pub fn entry(&mut self, records: &[EventRecord]) -> Verdict {
        for record in records {
            self.remember(&record.event);
            self.acknowledged.event(&record.event);
            self.live_attempt.event(&record.event)?;
            self.one_terminal.event(&record.event)?;
        }
        self.gangs.entry(records)
    }

    /// How many tasks ended.
    pub fn tasks(&self) -> u64 {
        self.one_terminal.tasks()
    }

    fn remember(&mut self, event: &Event) {
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

impl World {
    /// What is still to be done, once all is well; `None`: nothing.
    pub(super) fn unfinished(&self) -> Option<String> {
        if self.jobs_left > 0 || self.clients.iter().any(|client| client.asked.is_some()) {
            return Some(format!("{} jobs are not submitted, or a client waits", self.jobs_left));
        }
        let cores: Vec<_> =
            self.coordinators.iter().filter_map(|coordinator| coordinator.replica()).collect();
        if cores.len() < self.coordinators.len() {
            return Some("a coordinator does not run".to_string());
        }
        let heads: Vec<_> = cores.iter().map(|replica| replica.state().chain()).collect();
        if heads.iter().any(|head| *head != heads[0]) {
            return Some(format!("the coordinators stand at {heads:?}"));
        }
        for job in self.oracle.acknowledged.jobs() {
            match views::job(cores[0].state(), job) {
                Some(view) if view.terminal.is_some() => {}
                Some(view) => return Some(format!("{job} ({}) has not ended: {:?}", view.name, view.tasks)),
                None => return Some(format!("{job} is not in the state")),
            }
        }
        let incomplete = self.coordinators.iter().position(|coordinator| {
            use muster_replica::disk::Disk;
            let span = coordinator.disk.ledger();
            !span.is_complete() || Some(span.last) != coordinator.replica().map(|replica| replica.applied().0)
        });
        incomplete.map(|which| format!("the ledger of c{} is not complete", which + 1))
    }

    /// What must hold once all is done.
    pub(super) fn check_the_end(&mut self) {
        self.say(format_args!("all is done"));
        for which in 0..self.coordinators.len() {
            let coordinator = &self.coordinators[which];
            let Some(replica) = coordinator.replica() else { continue };
            let hash = replica.state().hash();
            self.trace.absorb(&hash.0);
            let verdict = state_holds(replica.state())
                .and_then(|()| self.oracle.same_state.state(replica.applied().0, hash))
                .and_then(|()| replay_equals_live(&format!("c{}", which + 1), replica, &coordinator.disk));
            self.hold(verdict);
        }
    }
}
