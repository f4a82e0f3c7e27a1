//! Reports of workers about their attempts: starts, ends and progress.

use super::decider::Decider;
use crate::outcomes;
use crate::state::AttemptPhase;
use muster_protocol::command::{RecordProgress, ReportAttempts};
use muster_protocol::event::{AttemptStarted, Event};
use muster_protocol::ids::{AttemptId, WorkerId};
use muster_protocol::limits;
use muster_protocol::rejection::Rejection;
use muster_protocol::worker::{Ended, ProgressRecord, ReportKind};

impl Decider<'_> {
    /// Reports of attempts that are no longer active are left out; the others still count.
    pub fn report_attempts(&mut self, report: &ReportAttempts) -> Result<(), Rejection> {
        let worker = self.worker_in(report.worker, report.boot)?.id;
        for report in &report.reports {
            match &report.what {
                ReportKind::Started(started) => self.report_started(worker, report.attempt, started.pid),
                ReportKind::Ended(ended) => self.report_ended(worker, report.attempt, ended),
            }
        }
        Ok(())
    }

    fn report_started(&mut self, worker: WorkerId, attempt: AttemptId, pid: u32) {
        let Some((job, stage, active)) = self.state.active_attempt(attempt) else { return };
        let Some(worker) = self.state.worker(worker).filter(|worker| worker.id == active.worker) else {
            return;
        };
        // More than the capacity cannot run, so the start is not believed. Its end will be.
        let request = &job.stage_spec(stage).request;
        let is_new = !matches!(active.phase, AttemptPhase::Running { .. });
        if is_new && worker.load.running.leaves_room(&worker.hello().capacity, request) {
            self.push(Event::AttemptStarted(AttemptStarted { attempt, pid }));
        }
    }

    fn report_ended(&mut self, worker: WorkerId, attempt: AttemptId, ended: &Ended) {
        let Some((job, stage, active)) = self.state.active_attempt(attempt) else { return };
        if active.worker == worker {
            let outcome = outcomes::sanitize_outcome(&ended.outcome, job.stage_spec(stage).kind);
            self.end_attempt(attempt, outcome, ended.run_ms);
        }
    }

    /// Records that are stale, not newer, or over a limit are left out.
    pub fn record_progress(&mut self, progress: &RecordProgress) -> Result<(), Rejection> {
        let worker = self.worker_in(progress.worker, progress.boot)?.id;
        for record in &progress.records {
            if is_within_limits(record) && self.is_newer(worker, record) {
                self.push(Event::ProgressRecorded(record.clone()));
            }
        }
        Ok(())
    }

    /// Whether a record is of an attempt that is active at `worker`, and goes beyond what is known of it.
    fn is_newer(&self, worker: WorkerId, record: &ProgressRecord) -> bool {
        let active = self.state.active_attempt(record.attempt);
        let Some((job, ..)) = active.filter(|(_, _, active)| active.worker == worker) else { return false };
        let Some(known) = job.progress.get(&record.attempt.task.index) else { return true };
        match known.get(&record.key) {
            Some(known) => record.seq > known.seq,
            None => known.len() < limits::PROGRESS_KEYS_PER_TASK_MAX,
        }
    }
}

fn is_within_limits(record: &ProgressRecord) -> bool {
    !record.key.is_empty()
        && record.key.len() <= limits::NAME_BYTES_MAX
        && record.body.len() <= limits::PROGRESS_BODY_BYTES_MAX
}
