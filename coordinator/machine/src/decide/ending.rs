//! What follows from the end of an attempt: for its task, its gang, and its job.

use super::draft::{Draft, DraftTask};
use crate::outcomes;
use crate::state::Phase;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use muster_protocol::event::{Event, TaskRequeued};
use muster_protocol::ids::{AttemptId, JobId, StageIndex, TaskId};
use muster_protocol::outcome::{Outcome, Reason, Terminal};
use muster_protocol::spec::RetryPolicy;
use muster_protocol::time::LogMs;

impl Draft<'_> {
    /// An attempt ended. One that was told to stop ends as it was told, whatever it says.
    pub fn end_attempt(&mut self, attempt: AttemptId, outcome: Outcome, run_ms: u64) {
        let Some((stage, _, stopping)) = self.live(attempt) else { return };
        let outcome = stopping.unwrap_or(outcome);
        let task = attempt.task;
        let gang = self.stored(task.job).stage_spec(stage).gang;
        let unbroken = self.stage(task.job, stage).broken.is_none();
        let succeeded = matches!(outcome, Outcome::Succeeded(_));
        let own_failure = outcomes::is_own_failure(&outcome);
        let word = outcome.word();
        self.push_attempt_ended(attempt, stage, outcome, run_ms);
        if self.job(task.job).phase != Phase::Open {
            self.push_task_ended(task, stage, Terminal::Cancelled);
            self.finish_job(task.job);
        } else if gang {
            if !succeeded && unbroken {
                self.break_gang(task, stage, word);
            }
            self.settle_gang(task.job, stage);
        } else if succeeded {
            self.push_task_ended(task, stage, Terminal::Succeeded);
            self.settle_stage(task.job, stage);
        } else if own_failure {
            let policy = self.stored(task.job).stage_spec(stage).retry;
            match self.retry_at(task, policy) {
                Some(ready_at) => self.push_requeued(TaskRequeued { task, ready_at, counts: true }),
                None => self.fail_task(task, stage),
            }
        } else {
            let ready_at = self.state.now().log_ms;
            self.push_requeued(TaskRequeued { task, ready_at, counts: false });
        }
    }

    /// When a task may be tried again after a failure; `None`: no more.
    fn retry_at(&self, task: TaskId, policy: RetryPolicy) -> Option<LogMs> {
        let used = self.state.task(task).map_or(0, |(_, task)| task.retries);
        let factor = 1_u64.checked_shl(used).unwrap_or(u64::MAX);
        let backoff_ms = policy.backoff_ms.saturating_mul(factor).min(policy.backoff_ms_max);
        (used < policy.retries).then(|| self.state.now().log_ms.plus_ms(backoff_ms))
    }

    /// A rank ended badly: the others are ended.
    fn break_gang(&mut self, rank: TaskId, stage: StageIndex, word: &str) {
        for task in self.ranks(rank.job, stage) {
            if let DraftTask::Live { stopping: None } = self.task(task)
                && let Some((_, stored)) = self.state.task(task)
            {
                let attempt = AttemptId { task, epoch: stored.epoch };
                let message = format!("{rank} of its gang: {word}");
                self.push_stopped(attempt, Outcome::GangBroken(Reason { message }));
            }
        }
    }

    /// Once the last rank has ended, the gang succeeded, goes on to its next life, or failed.
    fn settle_gang(&mut self, job: JobId, stage: StageIndex) {
        if self.stage(job, stage).live > 0 {
            return;
        }
        let ranks = self.ranks(job, stage);
        let Some(own_failure) = self.stage(job, stage).broken else {
            for task in &ranks {
                self.push_task_ended(*task, stage, Terminal::Succeeded);
            }
            return self.settle_stage(job, stage);
        };
        self.stage(job, stage).broken = None;
        let culprit = ranks
            .iter()
            .copied()
            .find(|rank| matches!(self.task(*rank), DraftTask::Parted { own_failure: true }));
        let ready_at = match culprit.filter(|_| own_failure) {
            None => self.state.now().log_ms,
            Some(culprit) => match self.retry_at(culprit, self.stored(job).stage_spec(stage).retry) {
                Some(at) => at,
                None => return self.fail_task(culprit, stage),
            },
        };
        for task in ranks {
            self.push_requeued(TaskRequeued { task, ready_at, counts: own_failure });
        }
    }

    fn ranks(&self, job: JobId, stage: StageIndex) -> Vec<TaskId> {
        let stored = self.stored(job);
        let first = stored.stages[usize::from(stage.0)].first;
        (first..first + stored.stage_spec(stage).tasks).map(|index| TaskId { job, index }).collect()
    }

    /// A task failed for good, and its job with it.
    fn fail_task(&mut self, task: TaskId, stage: StageIndex) {
        let reason = outcomes::failure(task, self.last_outcome(task));
        self.push_task_ended(task, stage, Terminal::Failed);
        self.job(task.job).phase = Phase::Failing { reason };
        let why = Outcome::Cancelled(Reason { message: format!("{task} failed") });
        self.cancel_tasks(task.job, &why);
        self.finish_job(task.job);
    }

    /// How the last attempt of a task ended, as far as was decided.
    fn last_outcome(&self, task: TaskId) -> Option<&Outcome> {
        let drafted = self.events.iter().rev().find_map(|event| {
            if let Event::AttemptEnded(ended) = event
                && ended.attempt.task == task
            {
                return Some(&ended.outcome);
            }
            None
        });
        drafted.or_else(|| self.state.task(task).and_then(|(_, task)| task.outcome.as_ref()))
    }

    /// Ends what runs of a job, and what waits for another attempt. What never started ends with the job.
    pub fn cancel_tasks(&mut self, job: JobId, outcome: &Outcome) {
        let stored = self.stored(job);
        for index in &stored.active {
            let task = TaskId { job, index: *index };
            let (Some(stage), Some(record)) = (stored.stage_of(*index), stored.records.get(index)) else {
                continue;
            };
            match self.task(task) {
                DraftTask::Live { stopping: None } => {
                    self.push_stopped(AttemptId { task, epoch: record.epoch }, outcome.clone())
                }
                DraftTask::Waiting | DraftTask::Parted { .. } => {
                    self.push_task_ended(task, stage, Terminal::Cancelled)
                }
                DraftTask::Live { stopping: Some(_) } | DraftTask::Ended => {}
            }
        }
    }

    /// A job that is being ended has ended once its last attempt has.
    pub fn finish_job(&mut self, id: JobId) {
        let job = self.job(id);
        if job.live > 0 {
            return;
        }
        match job.phase.clone() {
            Phase::Cancelling { reason } => self.push_job_ended(id, Terminal::Cancelled, reason),
            Phase::Failing { reason } => self.push_job_ended(id, Terminal::Failed, reason),
            Phase::Open | Phase::Ended { .. } => {}
        }
    }

    /// Ends every attempt that a worker holds: its life is over.
    pub fn lose_attempts(&mut self, held: impl Iterator<Item = AttemptId>, why: &str) {
        for attempt in held {
            self.end_attempt(attempt, Outcome::Lost(Reason { message: why.to_string() }), 0);
        }
    }
}
