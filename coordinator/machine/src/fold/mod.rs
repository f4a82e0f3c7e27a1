//! The fold: how each event changes the state. Total and infallible; an event that does not fit the state
//! changes nothing. The only place that knows what an event does: live apply, `decide`, replay and tests all
//! come through here.

mod attempts;
mod jobs;
mod workers;

use crate::state::{Remembered, State};
use muster_protocol::event::Event;
use muster_protocol::worker::Liveness;

impl State {
    /// Folds one event.
    pub fn evolve(&mut self, event: &Event) {
        #[cfg(test)]
        crate::faults::folding(event.name());
        match event {
            Event::JobSubmitted(e) => self.job_submitted(e),
            Event::JobCancelled(e) => self.job_cancelled(e),
            Event::JobEnded(e) => self.job_ended(e),
            Event::JobRetried(e) => self.job_retried(e.job),
            Event::StageReadied(e) => self.stage_readied(*e),
            Event::StageSealed(e) => self.change_stage(*e, |status| status.sealed = true),
            Event::StageSucceeded(e) => self.change_stage(*e, |status| status.succeeded = true),
            Event::TasksAdded(e) => self.tasks_added(e),
            Event::WorkerRegistered(e) => self.worker_registered(e),
            Event::WorkerSuspected(e) => {
                self.change_worker(e.worker, |status| status.liveness = Liveness::Suspect)
            }
            Event::WorkerRecovered(e) => {
                self.change_worker(e.worker, |status| status.liveness = Liveness::Alive)
            }
            Event::WorkerLost(e) => self.change_worker(e.worker, |status| status.liveness = Liveness::Lost),
            Event::WorkerDrained(e) => self.change_worker(e.worker, |status| status.draining = true),
            Event::WorkerUndrained(e) => self.change_worker(e.worker, |status| status.draining = false),
            Event::TaskAssigned(e) => self.task_assigned(e),
            Event::GangFormed(e) => self.gang_formed(e),
            Event::AttemptStarted(e) => self.attempt_started(*e),
            Event::AttemptStopped(e) => self.attempt_stopped(e),
            Event::AttemptEnded(e) => self.attempt_ended(e),
            Event::TaskRequeued(e) => self.task_requeued(*e),
            Event::TaskReadied(e) => self.task_readied(e.task),
            Event::TaskEnded(e) => self.task_ended(*e),
            Event::ProgressRecorded(e) => self.progress_recorded(e),
            Event::LeaderTookOver(e) => {
                let header = self.records.header.edit(self.tx);
                header.leader = e.leader;
                header.leader_name.clone_from(&e.name);
                header.leader_term = e.term;
            }
            Event::VersionRaised(e) => self.records.header.edit(self.tx).decide_version = e.version,
            Event::RequestAnswered(e) => {
                let one = Remembered {
                    request: e.request,
                    command_hash: e.command_hash,
                    at: self.records.now.log_ms,
                    answer: e.answer.clone(),
                };
                self.records.requests.remember(one, &mut self.index.requests, self.tx);
            }
            // For those who read the log.
            Event::CommandFaulted(_) | Event::HintsUsed(_) => {}
        }
        #[cfg(test)]
        crate::faults::point();
    }
}
