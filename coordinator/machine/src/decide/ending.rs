//! What follows from the end of an attempt for its task, its gang and its job.

use super::decider::Decider;
use crate::outcomes;
use crate::state::{Gang, Phase, TaskState};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use muster_protocol::event::{AttemptEnded, AttemptStopped, Event, TaskEnded, TaskRequeued};
use muster_protocol::ids::{AttemptId, JobId, StageIndex, TaskId, WorkerId};
use muster_protocol::outcome::{Outcome, Reason, Terminal};
use muster_protocol::spec::RetryPolicy;
use muster_protocol::time::LogMs;

impl Decider<'_> {
    /// An attempt ended. One that was told to stop ends as it was told, whatever it says.
    pub fn end_attempt(&mut self, attempt: AttemptId, outcome: Outcome, run_ms: u64) {
        let Some((job, stage, active)) = self.state.active_attempt(attempt) else { return };
        let outcome = active.stopping.clone().unwrap_or(outcome);
        let task = attempt.task;
        let spec = job.stage_spec(stage);
        let (is_gang, policy) = (spec.gang, spec.retry);
        // Read before the event is folded: with its last rank, a gang is gone from the state.
        let was_broken = job.stages[usize::from(stage.0)].status.gang.and_then(|gang| gang.broken);
        let broken = Gang::broken_after(was_broken, &outcome);
        let succeeded = matches!(outcome, Outcome::Succeeded(_));
        let own_failure = outcomes::is_own_failure(&outcome);
        let word = outcome.word();
        self.push(Event::AttemptEnded(AttemptEnded { attempt, outcome, run_ms }));
        if !self.job(task.job).is_open() {
            self.push_task_ended(task, Terminal::Cancelled);
            self.finish_job(task.job);
        } else if is_gang {
            if was_broken.is_none() && broken.is_some() {
                self.break_gang(task, stage, word);
            }
            self.settle_gang(task.job, stage, broken);
        } else if succeeded {
            self.push_task_ended(task, Terminal::Succeeded);
            self.settle_stage(task.job, stage);
        } else if own_failure {
            match self.retry_at(task, policy) {
                Some(ready_at) => {
                    self.push(Event::TaskRequeued(TaskRequeued { task, ready_at, counts: true }))
                }
                None => self.fail_task(task),
            }
        } else {
            // Its worker was lost: at once, and at no cost to its retries.
            let ready_at = self.state.now().log_ms;
            self.push(Event::TaskRequeued(TaskRequeued { task, ready_at, counts: false }));
        }
    }

    /// When a task may be tried again after a failure; `None`: no more.
    fn retry_at(&self, task: TaskId, policy: RetryPolicy) -> Option<LogMs> {
        let used = self.state.task(task).map_or(0, |(_, task)| task.history.retries);
        let factor = 1_u64.checked_shl(used).unwrap_or(u64::MAX);
        let backoff_ms = policy.backoff_ms.saturating_mul(factor).min(policy.backoff_ms_max);
        (used < policy.retries).then(|| self.state.now().log_ms.plus_ms(backoff_ms))
    }

    /// A rank ended badly: the others are told to stop.
    fn break_gang(&mut self, rank: TaskId, stage: StageIndex, word: &str) {
        for task in self.ranks(rank.job, stage) {
            if let Some(attempt) = self.unstopped(task) {
                let message = format!("{rank} of its gang: {word}");
                self.push_stopped(attempt, Outcome::GangBroken(Reason { message }));
            }
        }
    }

    /// The attempt of a task that has one which was not told to stop.
    fn unstopped(&self, task: TaskId) -> Option<AttemptId> {
        let (_, record) = self.state.task(task)?;
        match &record.state {
            TaskState::Active(active) if active.stopping.is_none() => {
                Some(AttemptId { task, epoch: record.history.epoch })
            }
            TaskState::Active(_) | TaskState::Idle | TaskState::Backoff { .. } | TaskState::AwaitingGang => {
                None
            }
        }
    }

    /// Once the last rank has ended, the gang succeeded, forms again, or failed. `broken` says whether a rank
    /// ended badly, and if so, whether that was its own failure.
    fn settle_gang(&mut self, job: JobId, stage: StageIndex, broken: Option<bool>) {
        if self.job(job).stages[usize::from(stage.0)].status.active() > 0 {
            return;
        }
        let ranks = self.ranks(job, stage);
        let Some(own_failure) = broken else {
            for task in &ranks {
                self.push_task_ended(*task, Terminal::Succeeded);
            }
            return self.settle_stage(job, stage);
        };
        let culprit = ranks.iter().copied().find(|rank| self.failed_by_itself(*rank));
        let ready_at = match culprit.filter(|_| own_failure) {
            None => self.state.now().log_ms,
            Some(culprit) => match self.retry_at(culprit, self.job(job).stage_spec(stage).retry) {
                Some(at) => at,
                None => return self.fail_task(culprit),
            },
        };
        for task in ranks {
            self.push(Event::TaskRequeued(TaskRequeued { task, ready_at, counts: own_failure }));
        }
    }

    /// Whether a rank waits for its gang after an attempt that failed by itself.
    fn failed_by_itself(&self, rank: TaskId) -> bool {
        self.state.task(rank).is_some_and(|(_, task)| {
            task.state == TaskState::AwaitingGang
                && task.history.outcome.as_ref().is_some_and(outcomes::is_own_failure)
        })
    }

    fn ranks(&self, id: JobId, stage: StageIndex) -> Vec<TaskId> {
        let job = self.job(id);
        let first = job.stages[usize::from(stage.0)].first;
        let ranks = first..first + job.stage_spec(stage).tasks;
        ranks.map(|index| TaskId { job: id, index }).collect()
    }

    /// A task failed for good, and its job with it.
    fn fail_task(&mut self, task: TaskId) {
        self.push_task_ended(task, Terminal::Failed);
        let why = Outcome::Cancelled(Reason { message: format!("{task} failed") });
        self.cancel_tasks(task.job, &why);
        self.finish_job(task.job);
    }

    /// Ends what runs of a job, and what waits for another attempt. What never started ends with the job.
    pub fn cancel_tasks(&mut self, job: JobId, outcome: &Outcome) {
        let unended: Vec<u32> = self.job(job).tasks.keys().copied().collect();
        for index in unended {
            let task = TaskId { job, index };
            let Some((_, record)) = self.state.task(task) else { continue };
            match &record.state {
                TaskState::Active(active) if active.stopping.is_none() => {
                    let attempt = AttemptId { task, epoch: record.history.epoch };
                    self.push_stopped(attempt, outcome.clone());
                }
                TaskState::Idle | TaskState::Backoff { .. } | TaskState::AwaitingGang => {
                    self.push_task_ended(task, Terminal::Cancelled)
                }
                TaskState::Active(_) => {}
            }
        }
    }

    /// A job that is being ended has ended once its last attempt has.
    pub fn finish_job(&mut self, id: JobId) {
        let status = &self.job(id).status;
        if status.active > 0 {
            return;
        }
        match status.phase.clone() {
            Phase::Cancelling { reason } => self.push_job_ended(id, Terminal::Cancelled, reason),
            Phase::Failing { reason } => self.push_job_ended(id, Terminal::Failed, reason),
            Phase::Open | Phase::Ended { .. } => {}
        }
    }

    /// Ends every attempt that a worker holds: it started again, or is lost.
    pub fn lose_attempts(&mut self, worker: WorkerId, why: &str) {
        let held: Vec<AttemptId> = self.state.worker(worker).into_iter().flat_map(|one| one.held()).collect();
        for attempt in held {
            self.end_attempt(attempt, Outcome::Lost(Reason { message: why.to_string() }), 0);
        }
    }

    pub fn push_stopped(&mut self, attempt: AttemptId, outcome: Outcome) {
        self.push(Event::AttemptStopped(AttemptStopped { attempt, outcome }));
    }

    fn push_task_ended(&mut self, task: TaskId, terminal: Terminal) {
        self.push(Event::TaskEnded(TaskEnded { task, terminal }));
    }
}
