//! What rank 0 writes into the log: metrics, checkpoints, and where a restart went on.
//!
//! Records under one key are numbered, and the number must grow: a checkpoint has its step, the metrics go on from the last record of an
//! earlier attempt, since steps are done again after a restart.

use crate::executors::{attempt::Attempt, error::Error};
use muster_llm::train::{StepReport, Trainer};
use muster_protocol::ids::Digest;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Where to go on, as rank 0 tells the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resume {
    /// From this artifact; `None`: from the start.
    pub checkpoint: Option<Digest>,
    /// The loss there.
    pub loss: f64,
    /// The speed until there.
    pub tokens_per_s: f64,
}

impl Resume {
    /// For the other ranks.
    pub fn to_bytes(self) -> Vec<u8> {
        serde_json::to_vec(&self).unwrap_or_default()
    }

    /// From rank 0.
    pub fn from_bytes(bytes: &[u8]) -> Result<Resume, Error> {
        serde_json::from_slice(bytes).map_err(|e| Error::Unfit(format!("understand where rank 0 goes on: {e}")))
    }
}

/// The body of a record `train`: the metrics of the steps since the last.
#[derive(Debug, Serialize, Deserialize)]
struct Metrics {
    /// Steps done.
    step: u64,
    /// Their mean loss, in nats per token.
    loss: f64,
    /// Learning rate of the last.
    lr: f64,
    /// Norm of its gradient.
    grad_norm: f64,
    /// Tokens per second, over all ranks.
    tokens_per_s: f64,
}

/// The body of a record `checkpoint`; its payload is the artifact.
#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    /// Steps done.
    step: u64,
    /// The last mean loss.
    loss: f64,
    /// Length of all its files.
    bytes: u64,
}

/// The body of a record `resume`: written at the start of each life of the gang.
#[derive(Debug, Serialize, Deserialize)]
struct Started {
    /// Which life.
    formation: u32,
    /// The step it goes on from.
    step: u64,
    /// The last step that an earlier life is known to have done: those after `step` are done again.
    reached: u64,
}

/// What was measured since the last record.
#[derive(Debug)]
struct Window {
    since: Instant,
    steps: u64,
    loss_sum: f64,
}

impl Window {
    fn new() -> Window {
        Window { since: Instant::now(), steps: 0, loss_sum: 0.0 }
    }
}

/// Rank 0's pen.
#[derive(Debug)]
pub struct Journal {
    resume: Resume,
    /// The number of the last record `train`.
    metrics_seq: u64,
    /// The last step that the log knows of.
    reached: u64,
    every: u64,
    window: Window,
    started: Instant,
    started_at: u64,
}

impl Journal {
    /// Reads what earlier attempts at this task recorded.
    pub fn open(attempt: &mut Attempt) -> Result<Journal, Error> {
        let mut resume = Resume::default();
        let (mut metrics_seq, mut reached) = (0, 0);
        for record in attempt.progress(attempt.task(), "")? {
            let unreadable = |e| Error::Unfit(format!("read the record `{}` {} of an earlier attempt: {e}", record.key, record.seq));
            match record.key.as_str() {
                "checkpoint" => {
                    let body: Checkpoint = serde_json::from_str(&record.body).map_err(unreadable)?;
                    resume = Resume { checkpoint: Some(record.payload_hash), loss: body.loss, ..resume };
                    reached = reached.max(body.step);
                }
                "train" => {
                    let body: Metrics = serde_json::from_str(&record.body).map_err(unreadable)?;
                    resume.tokens_per_s = body.tokens_per_s;
                    metrics_seq = record.seq;
                    reached = reached.max(body.step);
                }
                _ => {}
            }
        }
        let every = attempt.params.whole("metrics_every");
        Ok(Journal { resume, metrics_seq, reached, every, window: Window::new(), started: Instant::now(), started_at: 0 })
    }

    /// Where to go on.
    pub fn resume(&self) -> Resume {
        self.resume
    }

    /// The gang stands at the trainer's step, and begins.
    pub fn started(&mut self, attempt: &mut Attempt, trainer: &Trainer) -> Result<(), Error> {
        let formation = attempt.member().formation;
        let body = Started { formation, step: trainer.step(), reached: self.reached };
        if self.reached > body.step {
            attempt.say(&format!("steps {} to {} are done again", body.step, self.reached));
        }
        attempt.record("resume", u64::from(formation).max(1), self.resume.checkpoint.unwrap_or_default(), &body, false)?;
        self.window = Window::new();
        (self.started, self.started_at) = (Instant::now(), trainer.step());
        Ok(())
    }

    /// A step was done.
    pub fn stepped(&mut self, attempt: &mut Attempt, trainer: &Trainer, report: &StepReport) -> Result<(), Error> {
        self.window.steps += 1;
        self.window.loss_sum += report.loss;
        let step = trainer.step();
        if !step.is_multiple_of(self.every) && step != trainer.config().steps {
            return Ok(());
        }
        let tokens = (self.window.steps * trainer.tokens_per_step()) as f64;
        let body = Metrics {
            step,
            loss: rounded(self.window.loss_sum / self.window.steps as f64),
            lr: report.learning_rate,
            grad_norm: rounded(report.gradient_norm),
            tokens_per_s: (tokens / self.window.since.elapsed().as_secs_f64().max(1e-9)).round(),
        };
        self.window = Window::new();
        self.metrics_seq += 1;
        (self.resume.loss, self.reached) = (body.loss, step);
        attempt.say(&format!(
            "step {step}: loss {:.4}, lr {:.2e}, gradient norm {:.3}, {:.0} tokens/s",
            body.loss, body.lr, body.grad_norm, body.tokens_per_s
        ));
        let text = serde_json::to_string(&body).unwrap_or_default();
        attempt.record("train", self.metrics_seq, Digest::of(text.as_bytes()), &body, false)
    }

    /// Keeps a checkpoint: first its files, durably, the manifest last, then the record that names the manifest.
    pub fn checkpoint(&mut self, attempt: &mut Attempt, trainer: &Trainer) -> Result<(), Error> {
        let snapshot = trainer.snapshot(self.resume.checkpoint.map(|hash| hash.to_string()))?;
        let mut hash = Digest::default();
        let (manifest, about) = snapshot.write(|_, bytes| {
            hash = attempt.artifacts.put(bytes).map_err(|e| e.to_string())?;
            Ok(())
        })?;
        let bytes = about.len() as u64 + manifest.files.iter().map(|file| file.bytes).sum::<u64>();
        let body = Checkpoint { step: trainer.step(), loss: self.resume.loss, bytes };
        attempt.record("checkpoint", body.step, hash, &body, true)?;
        attempt.say(&format!("checkpoint at step {}: {hash}, {} bytes", body.step, body.bytes));
        self.resume.checkpoint = Some(hash);
        Ok(())
    }

    /// Where the training ended.
    pub fn last(&self, trainer: &Trainer) -> Resume {
        let steps = trainer.step() - self.started_at;
        if steps == 0 {
            return self.resume;
        }
        let tokens = (steps * trainer.tokens_per_step()) as f64;
        Resume { tokens_per_s: (tokens / self.started.elapsed().as_secs_f64().max(1e-9)).round(), ..self.resume }
    }
}

/// A figure for a record: six digits after the point are enough for people, and short.
fn rounded(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}
