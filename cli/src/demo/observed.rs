//! What the demo observes of its job: a fold over the cluster's events, read through the public API.

use muster_protocol::event::Event;
use muster_protocol::ids::{AttemptId, JobId, WorkerId};
use muster_protocol::outcome::{Outcome, Terminal};
use muster_protocol::spec::{JobSpec, Work};
use muster_protocol::training::{self, CheckpointRecord, MetricsRecord, ResumeRecord};
use muster_protocol::view::EventView;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The indices of the tasks of the first stage that runs `executor`.
pub fn tasks_of(spec: &JobSpec, executor: &str) -> Option<Range<u32>> {
    let mut first = 0u32;
    for stage in &spec.stages {
        let next = first.saturating_add(stage.tasks);
        if matches!(&stage.work, Work::Builtin(builtin) if builtin.executor == executor) {
            return Some(first..next);
        }
        first = next;
    }
    None
}

#[derive(Debug, Default)]
pub struct Observed {
    pub job: JobId,
    /// Task indices of the training.
    pub ranks: Range<u32>,
    /// Task indices of the stage that reads the input.
    pub readers: Range<u32>,
    /// In the order of the log.
    pub metrics: Vec<MetricsRecord>,
    /// Steps.
    pub checkpoints: Vec<u64>,
    /// Starts of the training, one per formation of the gang.
    pub resumes: Vec<ResumeRecord>,
    /// Running attempts of the job.
    pub running: BTreeSet<AttemptId>,
    /// Attempts of the job that ended as `lost`.
    pub lost: Vec<AttemptId>,
    /// The worker of each attempt of the job.
    pub sent: BTreeMap<AttemptId, WorkerId>,
    /// In the order of the log.
    pub leaders: Vec<String>,
    /// Recorded model calls.
    pub calls: u64,
    pub ended: Option<Terminal>,
    /// How the last failed attempt ended.
    pub last_failure: Option<String>,
}

impl Observed {
    /// Takes the next event, in the order of the log.
    pub fn take(&mut self, view: &EventView) {
        match &view.event {
            Event::LeaderTookOver(e) => self.leaders.push(e.name.clone()),
            Event::TaskAssigned(e) if e.attempt.task.job == self.job => {
                self.sent.insert(e.attempt, e.worker);
            }
            Event::AttemptStarted(e) if e.attempt.task.job == self.job => {
                self.running.insert(e.attempt);
            }
            Event::AttemptEnded(e) if e.attempt.task.job == self.job => {
                self.running.remove(&e.attempt);
                match &e.outcome {
                    Outcome::Succeeded(_) => {}
                    Outcome::Lost(_) => self.lost.push(e.attempt),
                    Outcome::Failed(_)
                    | Outcome::Cancelled(_)
                    | Outcome::TimedOut(_)
                    | Outcome::NotStarted(_)
                    | Outcome::GangBroken(_) => {
                        self.last_failure =
                            Some(format!("{} {}: {}", e.attempt, e.outcome.word(), e.outcome.message()));
                    }
                }
            }
            Event::JobEnded(e) if e.job == self.job => self.ended = Some(e.terminal),
            Event::ProgressRecorded(e) if e.attempt.task.job == self.job => self.record(&e.key, &e.body),
            // Events of other jobs.
            Event::TaskAssigned(_)
            | Event::AttemptStarted(_)
            | Event::AttemptEnded(_)
            | Event::JobEnded(_)
            | Event::ProgressRecorded(_) => {}
            // The report does not need these.
            Event::JobSubmitted(_)
            | Event::JobCancelled(_)
            | Event::JobRetried(_)
            | Event::StageReadied(_)
            | Event::StageSealed(_)
            | Event::StageSucceeded(_)
            | Event::TasksAdded(_)
            | Event::WorkerRegistered(_)
            | Event::WorkerSuspected(_)
            | Event::WorkerRecovered(_)
            | Event::WorkerLost(_)
            | Event::WorkerDrained(_)
            | Event::WorkerUndrained(_)
            | Event::GangFormed(_)
            | Event::AttemptStopped(_)
            | Event::TaskRequeued(_)
            | Event::TaskReadied(_)
            | Event::TaskEnded(_)
            | Event::CommandFaulted(_)
            | Event::VersionRaised(_)
            | Event::RequestAnswered(_)
            | Event::HintsUsed(_) => {}
        }
    }

    fn record(&mut self, key: &str, body: &str) {
        match key {
            training::METRICS => self.metrics.extend(serde_json::from_str::<MetricsRecord>(body)),
            training::CHECKPOINT => {
                let record = serde_json::from_str::<CheckpointRecord>(body);
                self.checkpoints.extend(record.map(|record| record.step));
            }
            training::RESUME => self.resumes.extend(serde_json::from_str::<ResumeRecord>(body)),
            key if key.starts_with(training::CALL_PREFIX) => self.calls += 1,
            _ => {}
        }
    }

    /// Whether every rank runs in epoch `epoch_min` or later.
    pub fn all_ranks_run(&self, epoch_min: u32) -> bool {
        let runs = |index| {
            self.running.iter().any(|attempt| attempt.task.index == index && attempt.epoch >= epoch_min)
        };
        !self.ranks.is_empty() && self.ranks.clone().all(runs)
    }

    /// Over all ranks.
    pub fn newest_epoch(&self) -> u32 {
        self.sent
            .keys()
            .filter(|attempt| self.ranks.contains(&attempt.task.index))
            .map(|attempt| attempt.epoch)
            .max()
            .unwrap_or(0)
    }

    /// Its step.
    pub fn last_checkpoint(&self) -> u64 {
        self.checkpoints.last().copied().unwrap_or(0)
    }

    /// MetricsRecord reported after the last checkpoint.
    pub fn records_since_checkpoint(&self) -> usize {
        let last = self.last_checkpoint();
        self.metrics.iter().filter(|metrics| metrics.step > last).count()
    }

    /// Steps that were done again.
    pub fn steps_redone(&self) -> u64 {
        self.resumes.iter().map(|resume| resume.reached.saturating_sub(resume.step)).sum()
    }

    /// Loss by step; for steps that were done again, the later value.
    pub fn curve(&self) -> Vec<(u64, f64)> {
        let by_step: BTreeMap<u64, f64> =
            self.metrics.iter().map(|metrics| (metrics.step, metrics.loss)).collect();
        by_step.into_iter().collect()
    }

    /// The median, which starts and kills hardly move.
    pub fn tokens_per_s(&self) -> f64 {
        let mut speeds: Vec<f64> = self
            .metrics
            .iter()
            .map(|metrics| metrics.tokens_per_s)
            .filter(|speed| speed.is_finite())
            .collect();
        speeds.sort_by(f64::total_cmp);
        speeds.get(speeds.len() / 2).copied().unwrap_or(0.0)
    }

    /// How many workers read input.
    pub fn workers_that_read(&self) -> usize {
        let sent = self.sent.iter().filter(|(attempt, _)| self.readers.contains(&attempt.task.index));
        sent.map(|(_, worker)| *worker).collect::<BTreeSet<_>>().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn observed(events: &[serde_json::Value]) -> Observed {
        let mut observed = Observed { job: JobId(1), ranks: 5..7, readers: 0..2, ..Observed::default() };
        for (index, event) in events.iter().enumerate() {
            let view = json!({
                "index": index.to_string(), "ordinal": 0, "log_ms": 0, "wall_ms": 0, "actor": "", "cause": "", "event": event,
            });
            observed.take(&serde_json::from_value(view).unwrap());
        }
        observed
    }

    fn record(key: &str, seq: u64, body: serde_json::Value) -> serde_json::Value {
        let hash = muster_protocol::ids::Digest::default().to_string();
        json!({
            "type": "progress_recorded", "attempt": "job-1.5#1", "key": key, "seq": seq, "payload_hash": hash, "body": body.to_string(),
        })
    }

    #[test]
    fn a_training_that_was_broken_off_is_told() {
        let assigned = |attempt, worker| json!({"type": "task_assigned", "attempt": attempt, "worker": worker, "grant": {}, "queued": false});
        let started = |attempt| json!({"type": "attempt_started", "attempt": attempt, "pid": 1});
        let lost = |attempt| json!({"type": "attempt_ended", "attempt": attempt, "outcome": {"type": "lost", "message": ""}, "run_ms": 1});
        let observed = observed(&[
            assigned("job-1.0#1", "worker-1"),
            assigned("job-1.1#1", "worker-2"),
            assigned("job-1.5#1", "worker-1"),
            assigned("job-1.6#1", "worker-2"),
            assigned("job-2.5#9", "worker-2"),
            started("job-1.5#1"),
            started("job-1.6#1"),
            record("resume", 1, json!({"formation": 1, "step": 0, "reached": 0})),
            record(
                "train",
                1,
                json!({"step": 10, "loss": 5.0, "lr": 0.1, "grad_norm": 1.0, "tokens_per_s": 100.0}),
            ),
            record("checkpoint", 10, json!({"step": 10, "loss": 5.0, "bytes": 3})),
            record(
                "train",
                2,
                json!({"step": 20, "loss": 4.0, "lr": 0.1, "grad_norm": 1.0, "tokens_per_s": 300.0}),
            ),
            lost("job-1.5#1"),
            assigned("job-1.5#2", "worker-3"),
            record("resume", 2, json!({"formation": 2, "step": 10, "reached": 20})),
            record(
                "train",
                3,
                json!({"step": 20, "loss": 3.5, "lr": 0.1, "grad_norm": 1.0, "tokens_per_s": 200.0}),
            ),
            record("call/abc", 1, json!({})),
            record("train", 4, json!("nonsense")),
        ]);
        assert_eq!(observed.curve(), [(10, 5.0), (20, 3.5)]);
        assert_eq!(
            (observed.last_checkpoint(), observed.steps_redone(), observed.newest_epoch(), observed.calls),
            (10, 10, 2, 1)
        );
        assert_eq!(
            (observed.workers_that_read(), observed.lost.len(), observed.tokens_per_s()),
            (2, 1, 200.0)
        );
        assert_eq!(observed.records_since_checkpoint(), 2);
        assert!(!observed.all_ranks_run(1));
    }
}
