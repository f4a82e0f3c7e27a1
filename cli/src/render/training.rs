//! The records of a training as lines: loss, learning rate, speed, memory, time left.
//!
//! A pure fold over a job's events; the time left comes from their log time.

use super::style::truncate;
use super::time;
use muster_protocol::event::Event;
use muster_protocol::spec::{JobSpec, Work};
use muster_protocol::time::LogMs;
use muster_protocol::training::{
    self, CheckpointRecord, GuardRecord, MetricsRecord, ResumeRecord, RoundRecord, SharesRecord,
};
use muster_protocol::view::EventView;
use serde::de::DeserializeOwned;
use std::ops::Range;

const BAR_CHARS: u64 = 20;
const TEXT_CHARS_MAX: usize = 160;

#[derive(Debug)]
struct TrainingStage {
    name: String,
    tasks: Range<u32>,
    steps: u64,
    last: Option<MetricsRecord>,
    /// The step and the log time at which this formation of the gang began.
    since: Option<(u64, LogMs)>,
    left_ms: Option<u64>,
}

/// The trainings of a job, as its events show them.
#[derive(Debug, Default)]
pub struct TrainingView {
    stages: Vec<TrainingStage>,
}

impl TrainingView {
    pub fn of(spec: &JobSpec) -> TrainingView {
        let mut first = 0u32;
        let mut stages = Vec::new();
        for stage in &spec.stages {
            let next = first.saturating_add(stage.tasks);
            if matches!(&stage.work, Work::Builtin(builtin) if builtin.executor == "train") {
                stages.push(TrainingStage {
                    name: stage.name.clone(),
                    tasks: first..next,
                    steps: 0,
                    last: None,
                    since: None,
                    left_ms: None,
                });
            }
            first = next;
        }
        TrainingView { stages }
    }

    /// Takes the next event of the job; returns the line to print for it, if any.
    pub fn take(&mut self, view: &EventView) -> Option<String> {
        let Event::ProgressRecorded(record) = &view.event else { return None };
        let stage = self.stages.iter_mut().find(|stage| stage.tasks.contains(&record.attempt.task.index))?;
        let line = stage.take(&record.key, &record.body, view.log_ms)?;
        Some(format!(
            "{} {}: {}",
            record.attempt.task.job,
            truncate(&stage.name, 32),
            truncate(&line, TEXT_CHARS_MAX)
        ))
    }

    /// Steps done, steps in all and a text; `None` if the stage does not train or has reported nothing.
    pub fn position(&self, stage: &str) -> Option<(u64, u64, String)> {
        let stage = self.stages.iter().find(|one| one.name == stage)?;
        let last = stage.last?;
        Some((last.step, stage.steps.max(last.step), stage.figures(&last)))
    }
}

impl TrainingStage {
    fn take(&mut self, key: &str, body: &str, now: LogMs) -> Option<String> {
        match key {
            training::METRICS => {
                let metrics: MetricsRecord = read(body)?;
                self.steps = self.steps.max(metrics.steps);
                let (from, began) = *self.since.get_or_insert((metrics.step, now));
                let (done, took) = (metrics.step.saturating_sub(from), now.0.saturating_sub(began.0));
                let left = self.steps.saturating_sub(metrics.step);
                self.left_ms =
                    (done > 0).then(|| (u128::from(left) * u128::from(took) / u128::from(done)) as u64);
                self.last = Some(metrics);
                let (bar, figures) = (self.bar(metrics.step), self.figures(&metrics));
                Some(format!("step {}{bar} {figures}", metrics.step))
            }
            training::CHECKPOINT => {
                let checkpoint: CheckpointRecord = read(body)?;
                Some(format!("checkpoint at step {}, {}", checkpoint.step, bytes(checkpoint.bytes)))
            }
            training::RESUME => {
                let ResumeRecord { formation, step, reached, steps, .. } = read(body)?;
                self.steps = self.steps.max(steps);
                self.since = Some((step, now));
                self.left_ms = None;
                let again = reached.saturating_sub(step);
                let again = if again > 0 { format!("; {again} steps are done again") } else { String::new() };
                Some(format!("formation {formation} begins at step {step}{again}"))
            }
            training::ROUND => {
                let round: RoundRecord = read(body)?;
                Some(format!("round {} is committed", round.round))
            }
            training::SHARES => {
                let shares: SharesRecord = read(body)?;
                Some(format!("ranks hold {} replicas", shares.replicas))
            }
            key if key.starts_with(training::GUARD_PREFIX) => {
                let GuardRecord::<String> { decision, step, why, skipped, .. } = read(body)?;
                Some(format!("guard: {decision} at step {step}: {why}; skips {skipped}"))
            }
            _ => None,
        }
    }

    fn bar(&self, step: u64) -> String {
        if self.steps == 0 {
            return String::new();
        }
        let full =
            (u128::from(step.min(self.steps)) * u128::from(BAR_CHARS) / u128::from(self.steps)) as usize;
        format!("/{} [{}{}]", self.steps, "#".repeat(full), "-".repeat(BAR_CHARS as usize - full))
    }

    fn figures(&self, metrics: &MetricsRecord) -> String {
        let mut text = format!(
            "loss {:.4}, lr {:.2e}, |g| {:.3}, {:.0} tokens/s",
            metrics.loss, metrics.lr, metrics.grad_norm, metrics.tokens_per_s
        );
        if metrics.rss_mib > 0.0 {
            text.push_str(&format!(
                ", {:.0} MiB, data wait {:.1} %",
                metrics.rss_mib,
                metrics.data_wait * 100.0
            ));
        }
        if let Some(left) = self.left_ms.filter(|left| *left > 0) {
            text.push_str(&format!(", {} left", time::duration(left)));
        }
        text
    }
}

/// The body of a record; `None` if it is of another kind.
fn read<T: DeserializeOwned>(body: &str) -> Option<T> {
    serde_json::from_str(body).ok()
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::ids::{AttemptId, Digest, JobId, LogIndex, TaskId};
    use muster_protocol::time::WallMs;
    use muster_protocol::worker::ProgressRecord;

    fn event(index: u64, task: u32, key: &str, body: &str) -> EventView {
        let attempt = AttemptId { task: TaskId { job: JobId(4), index: task }, epoch: 1 };
        let record = ProgressRecord {
            attempt,
            key: key.to_owned(),
            seq: index,
            payload_hash: Digest::default(),
            body: body.to_owned(),
        };
        EventView {
            index: LogIndex(index),
            ordinal: 0,
            log_ms: LogMs(1_000 * index),
            wall_ms: WallMs(0),
            actor: String::new(),
            cause: String::new(),
            event: Event::ProgressRecorded(record),
        }
    }

    #[test]
    fn records_become_lines() {
        let stage = |name: &str, tasks: u32, executor: &str| serde_json::json!({"name": name, "tasks": tasks, "work": {"type": "builtin", "executor": executor}});
        let spec = serde_json::json!({"name": "x", "stages": [stage("pack", 2, "data.pack"), stage("tune", 2, "train")]});
        let mut training = TrainingView::of(&serde_json::from_value(spec).unwrap());
        let full = r#"{"step":10,"steps":40,"loss":5.25,"lr":0.003,"grad_norm":1.5,"tokens_per_s":1200,"rss_mib":80.2,"data_wait":0.015}"#;
        let table = [
            (1, 0, "train", full, None),
            (
                2,
                2,
                "resume",
                r#"{"formation":1,"step":0,"steps":40,"reached":0}"#,
                Some("job-4 tune: formation 1 begins at step 0"),
            ),
            (
                12,
                2,
                "train",
                full,
                Some(
                    "job-4 tune: step 10/40 [#####---------------] loss 5.2500, lr 3.00e-3, |g| 1.500, 1200 tokens/s, 80 MiB, \
                     data wait 1.5 %, 30.0 s left",
                ),
            ),
            (
                13,
                2,
                "checkpoint",
                r#"{"step":10,"bytes":3145728}"#,
                Some("job-4 tune: checkpoint at step 10, 3.0 MiB"),
            ),
            (
                14,
                2,
                "resume",
                r#"{"formation":2,"step":10,"reached":13}"#,
                Some("job-4 tune: formation 2 begins at step 10; 3 steps are done again"),
            ),
            (15, 2, "lease", r#"{"step":10}"#, None),
            (16, 3, "train", "no JSON", None),
            (
                17,
                2,
                "train",
                r#"{"step":12,"loss":4}"#,
                Some("step 12/40 [######--------------] loss 4.0000"),
            ),
        ];
        for (index, task, key, body, expected) in table {
            let line = training.take(&event(index, task, key, body));
            match expected {
                Some(expected) => {
                    assert!(line.as_ref().is_some_and(|line| line.contains(expected)), "{line:?}\n{expected}")
                }
                None => assert_eq!(line, None),
            }
        }
        let (step, steps, text) = training.position("tune").unwrap();
        assert_eq!((step, steps), (12, 40));
        assert!(text.ends_with("0 tokens/s, 42.0 s left"), "{text}");
        assert_eq!(training.position("pack"), None);
    }
}
