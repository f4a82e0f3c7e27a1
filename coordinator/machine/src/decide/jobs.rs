//! Commands of users: submit, cancel and retry a job.

use super::decider::Decider;
use super::rejections::{invalid, over_limit, unknown, wrong_state};
use super::spec::check_spec;
use crate::outcomes;
use crate::state::{Phase, State};
use alloc::format;
use muster_protocol::command::{CancelJob, SubmitJob};
use muster_protocol::envelope::{Envelope, Reply, Submitted};
use muster_protocol::event::{Event, JobCancelled, JobRetried, JobSubmitted, StageEvent};
use muster_protocol::ids::{JobId, StageIndex};
use muster_protocol::limits;
use muster_protocol::outcome::{Outcome, Reason, Terminal};
use muster_protocol::rejection::Rejection;

impl Decider<'_> {
    pub fn submit_job(&mut self, envelope: &Envelope, submit: &SubmitJob) -> Result<Reply, Rejection> {
        check_spec(&submit.spec)?;
        for (field, text) in [("actor", &envelope.actor), ("namespace", &envelope.namespace)] {
            if text.len() > limits::NAME_BYTES_MAX {
                let message = format!("{} bytes; at most {}", text.len(), limits::NAME_BYTES_MAX);
                return Err(invalid(field, message));
            }
        }
        check_open_jobs(self.state)?;
        let job = JobId(self.state.records.header.next_job);
        self.push(Event::JobSubmitted(JobSubmitted {
            job,
            actor: envelope.actor.clone(),
            namespace: envelope.namespace.clone(),
            spec: submit.spec.clone(),
        }));
        let stages = &submit.spec.stages;
        for (at, _) in stages.iter().enumerate().filter(|(_, stage)| stage.needs.is_empty()) {
            self.push(Event::StageReadied(StageEvent { job, stage: StageIndex(at as u16) }));
        }
        Ok(Reply::Submitted(Submitted { job }))
    }

    pub fn cancel_job(&mut self, cancel: &CancelJob) -> Result<(), Rejection> {
        let id = cancel.job;
        let job = self.state.job(id).ok_or_else(|| no_job(self.state, id))?;
        match &job.status.phase {
            // The order of the log decides between a cancel and an end: here the end came first.
            Phase::Ended { terminal, .. } => return Err(wrong_state(format!("{id} has ended: {terminal}"))),
            // It is ending already.
            Phase::Cancelling { .. } | Phase::Failing { .. } => return Ok(()),
            Phase::Open => {}
        }
        let reason = match outcomes::clip(&cancel.reason) {
            empty if empty.is_empty() => "cancelled".into(),
            reason => reason,
        };
        self.push(Event::JobCancelled(JobCancelled { job: id, reason: reason.clone() }));
        self.cancel_tasks(id, &Outcome::Cancelled(Reason { message: reason }));
        self.finish_job(id);
        Ok(())
    }

    pub fn retry_job(&mut self, id: JobId) -> Result<(), Rejection> {
        let job = self.state.job(id).ok_or_else(|| no_job(self.state, id))?;
        match &job.status.phase {
            Phase::Ended { terminal: Terminal::Failed | Terminal::Cancelled, .. } => {}
            Phase::Ended { terminal: Terminal::Succeeded, .. } => {
                return Err(wrong_state(format!("{id} has succeeded: there is nothing to run again")));
            }
            Phase::Open | Phase::Cancelling { .. } | Phase::Failing { .. } => {
                return Err(wrong_state(format!("{id} has not ended: cancel it, or wait")));
            }
        }
        check_open_jobs(self.state)?;
        self.push(Event::JobRetried(JobRetried { job: id }));
        self.seal_orphans(id);
        Ok(())
    }
}

fn check_open_jobs(state: &State) -> Result<(), Rejection> {
    if state.index.totals.open_jobs >= limits::OPEN_JOBS_MAX as u64 {
        return Err(over_limit(format!(
            "{} jobs have not ended, and that is the limit: try again later",
            limits::OPEN_JOBS_MAX
        )));
    }
    Ok(())
}

fn no_job(state: &State, id: JobId) -> Rejection {
    if id.0 > 0 && id.0 < state.records.header.next_job {
        return unknown(format!("{id} ended long ago: only the ledger knows it"));
    }
    unknown(format!("there is no {id}"))
}
