//! The records of a training as lines: loss, learning rate, speed, memory, time left.
//!
//! A pure fold over a job's events; the time left comes from their log time.

use super::style::truncate;
use super::time;
use muster_protocol::event::Event;
use muster_protocol::spec::{JobSpec, Work};
use muster_protocol::time::LogMs;
use muster_protocol::view::EventView;
use serde::Deserialize;
use std::ops::Range;

const BAR_CHARS: u64 = 20;
const TEXT_CHARS_MAX: usize = 160;

/// A `train` record. Fields that an older program did not write are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// Steps done.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// The mean loss, in nats per token.
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Norm of the gradient.
    pub grad_norm: f64,
    /// Tokens per second, over all ranks.
    pub tokens_per_s: f64,
    /// Resident memory of rank 0, in MiB.
    pub rss_mib: f64,
    /// The part of the time that was spent waiting for data.
    pub data_wait: f64,
}

#[derive(Deserialize)]
#[serde(default)]
struct Other {
    step: u64,
    steps: u64,
    reached: u64,
    formation: u32,
    bytes: u64,
    round: u64,
    decision: String,
    why: String,
    skipped: String,
    replicas: String,
}

impl Default for Other {
    fn default() -> Self {
        let none = String::new;
        let (decision, why, skipped, replicas) = (none(), none(), none(), none());
        Other {
            step: 0,
            steps: 0,
            reached: 0,
            formation: 0,
            bytes: 0,
            round: 0,
            decision,
            why,
            skipped,
            replicas,
        }
    }
}

#[derive(Debug)]
struct TrainingStage {
    name: String,
    tasks: Range<u32>,
    steps: u64,
    last: Option<Metrics>,
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
        if key == "train" {
            let metrics: Metrics = serde_json::from_str(body).ok()?;
            self.steps = self.steps.max(metrics.steps);
            let (from, began) = *self.since.get_or_insert((metrics.step, now));
            let (done, took) = (metrics.step.saturating_sub(from), now.0.saturating_sub(began.0));
            let left = self.steps.saturating_sub(metrics.step);
            self.left_ms =
                (done > 0).then(|| (u128::from(left) * u128::from(took) / u128::from(done)) as u64);
            self.last = Some(metrics);
            return Some(format!(
                "step {}{} {}",
                metrics.step,
                self.bar(metrics.step),
                self.figures(&metrics)
            ));
        }
        let other: Other = serde_json::from_str(body).ok()?;
        match key {
            "checkpoint" => Some(format!("checkpoint at step {}, {}", other.step, bytes(other.bytes))),
            "resume" => {
                self.steps = self.steps.max(other.steps);
                self.since = Some((other.step, now));
                self.left_ms = None;
                let again = other.reached.saturating_sub(other.step);
                let again = if again > 0 { format!("; {again} steps are done again") } else { String::new() };
                Some(format!("formation {} begins at step {}{again}", other.formation, other.step))
            }
            key if key.starts_with("guard/") => Some(format!(
                "guard: {} at step {}: {}; skips {}",
                other.decision, other.step, other.why, other.skipped
            )),
            "round" => Some(format!("round {} is committed", other.round)),
            "shares" => Some(format!("ranks hold {} replicas", other.replicas)),
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

    fn figures(&self, metrics: &Metrics) -> String {
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
