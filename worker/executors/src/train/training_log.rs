//! What rank 0 writes into the log: leases, rounds, metrics, decisions, and where a restart resumed.
//!
//! Records under one key are numbered, and the number must grow; a round's number is its own, so that the log
//! itself takes none twice. They are written in order by a thread of their own. Only two are ever waited for:
//! a lease before its samples are used, and so the next one is asked for while this one's samples are learnt
//! from; and a round before what it makes needless is removed. A checkpoint is written off the training
//! thread, and its round is committed once all of it is durable.

use super::checkpoint_writer::{CheckpointWriter, SavedCheckpoint, remove_checkpoints};
use super::diloco::state_file::state_files;
use super::error::TrainError;
use super::records::{Guard, PastStep, PendingRound, Resume, Round, RoundAccount, StoredCheckpoint};
use super::spec::TrainSpec;
use crate::error::Error;
use crate::launch::formation;
use muster_attempt::{Attempt, CommitHandle, RecordWriter};
use muster_llm::diloco::{Contribution, RoundCommit};
use muster_llm::train::guard::LossPoint;
use muster_llm::train::{BackgroundTask, Retention, Snapshot, StepReport};
use muster_protocol::ids::Digest;
use muster_protocol::interval_set::IntervalSet;
use muster_protocol::training::{
    self, CheckpointRecord, LeaseRecord, MetricsRecord, ResumeRecord, SharesRecord,
};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Steps that a round's account has for the guard.
pub const HISTORY_STEPS: usize = 64;

/// The metrics since the last record.
#[derive(Debug)]
struct MetricsWindow {
    since: Instant,
    steps: u64,
    tokens: u64,
    loss_sum: f64,
    waited: Duration,
    spent: Duration,
}

impl MetricsWindow {
    fn new() -> MetricsWindow {
        MetricsWindow {
            since: Instant::now(),
            steps: 0,
            tokens: 0,
            loss_sum: 0.0,
            waited: Duration::ZERO,
            spent: Duration::ZERO,
        }
    }
}

/// A lease that the log was asked for.
struct RequestedLease {
    round: u64,
    samples: IntervalSet<u64>,
    handle: CommitHandle,
}

/// A round on its way into the log, and the checkpoints that no rule keeps once it is there.
struct PendingCommit {
    handle: CommitHandle,
    gone: Vec<StoredCheckpoint>,
}

/// Rank 0's records, and the checkpoints that they name.
pub struct TrainingLog {
    writer: RecordWriter,
    leases: VecDeque<RequestedLease>,
    commit: Option<PendingCommit>,
    resume: Resume,
    /// The number of the newest record of each key.
    numbers: BTreeMap<String, u64>,
    kept: Vec<StoredCheckpoint>,
    reached: u64,
    steps: u64,
    metrics_every: u64,
    window: MetricsWindow,
    started: Instant,
    tokens: u64,
    loss: f64,
    writing: BackgroundTask<Result<SavedCheckpoint, Error>>,
    removing: BackgroundTask<Result<(), Error>>,
    retention: Retention,
    owner: String,
}

impl TrainingLog {
    /// Reads the records of earlier attempts at this task.
    pub fn open(attempt: &mut Attempt, spec: &TrainSpec) -> Result<TrainingLog, Error> {
        let mut resume = Resume::default();
        let (mut numbers, mut reached, mut kept, mut gone) = (BTreeMap::new(), 0, Vec::new(), Vec::new());
        for record in attempt.progress(attempt.task(), "")? {
            let unreadable =
                |e| TrainError::UnreadableRecord { key: record.key.clone(), seq: record.seq, source: e };
            match record.key.as_str() {
                training::ROUND => {
                    let round: Round = serde_json::from_str(&record.body).map_err(unreadable)?;
                    let account: RoundAccount = attempt.get_json(record.payload_hash)?;
                    (resume.history, kept, gone) = (account.history, account.kept, account.gone);
                    reached = reached.max(round.step);
                    resume.round = Some(round);
                }
                training::METRICS => {
                    let body: MetricsRecord = serde_json::from_str(&record.body).map_err(unreadable)?;
                    reached = reached.max(body.step);
                }
                key if key.starts_with(training::GUARD_PREFIX) => {
                    resume.guards.push(serde_json::from_str(&record.body).map_err(unreadable)?)
                }
                _ => {}
            }
            numbers.insert(record.key, record.seq);
        }
        let loss = resume.round.as_ref().map_or(0.0, |round| round.loss);
        let mut journal = TrainingLog {
            writer: attempt.record_writer()?,
            leases: VecDeque::new(),
            commit: None,
            resume,
            numbers,
            kept,
            reached,
            steps: spec.train.steps,
            metrics_every: spec.metrics_every,
            window: MetricsWindow::new(),
            started: Instant::now(),
            tokens: 0,
            loss,
            writing: BackgroundTask::default(),
            removing: BackgroundTask::default(),
            retention: spec.retention,
            owner: attempt.task().to_string(),
        };
        journal.remove(attempt, &gone)?;
        Ok(journal)
    }

    /// Where to go on.
    pub fn resume(&self) -> &Resume {
        &self.resume
    }

    fn next(&mut self, key: &str) -> u64 {
        let number = self.numbers.entry(key.to_owned()).or_insert(0);
        *number += 1;
        *number
    }

    /// Writes a record whose payload is its body.
    fn write<T: Serialize>(&mut self, key: &str, body: &T) -> Result<(), Error> {
        let began = Instant::now();
        let (number, text) = (self.next(key), json(body)?);
        self.writer.write(key, number, Digest::of(text.as_bytes()), text)?;
        self.window.spent += began.elapsed();
        Ok(())
    }

    /// The gang stands at `step`, and begins; `samples` are those of the whole run.
    pub fn record_start(&mut self, attempt: &Attempt, step: u64, samples: u64) -> Result<(), Error> {
        let formation = formation(attempt);
        let (reached, steps) = (self.reached, self.steps);
        let body = ResumeRecord { formation, step, reached, steps, samples };
        if reached > step {
            attempt.say(&format!("steps {step} to {reached} are done again"));
        }
        self.write(training::RESUME, &body)?;
        (self.window, self.started) = (MetricsWindow::new(), Instant::now());
        Ok(())
    }

    /// Dataset are about to be used: returns once the log has it.
    pub fn lease(
        &mut self,
        attempt: &Attempt,
        round: u64,
        samples: &[Range<u64>],
        replicas: usize,
        each: u64,
    ) -> Result<(), Error> {
        self.request_lease(attempt, round, samples, replicas, each)?;
        let began = Instant::now();
        if let Some(asked) = self.leases.pop_front() {
            asked.handle.wait()?;
        }
        self.window.spent += began.elapsed();
        Ok(())
    }

    /// Asks for a lease that [`TrainingLog::lease`] will wait for, if it was not asked for yet. One of the
    /// same round with other samples, as after the guard has left some out, goes back, and so do those of
    /// later rounds.
    pub fn request_lease(
        &mut self,
        attempt: &Attempt,
        round: u64,
        samples: &[Range<u64>],
        replicas: usize,
        each: u64,
    ) -> Result<(), Error> {
        let formation = formation(attempt);
        let samples = IntervalSet::from_disjoint(samples.iter().cloned())
            .ok_or_else(|| TrainError::LeasedTwice { samples: samples.to_vec() })?;
        if self.leases.iter().any(|asked| asked.round == round && asked.samples == samples) {
            return Ok(());
        }
        self.leases.retain(|asked| asked.round < round);
        let began = Instant::now();
        let number = self.next(training::LEASE);
        let text = json(&LeaseRecord {
            round,
            formation,
            samples: samples.clone(),
            replicas: replicas as u32,
            each,
        })?;
        let handle = self.writer.commit(training::LEASE, number, Digest::of(text.as_bytes()), text)?;
        self.leases.push_back(RequestedLease { round, samples, handle });
        self.window.spent += began.elapsed();
        Ok(())
    }

    /// Which rank holds what.
    pub fn record_shares(
        &mut self,
        attempt: &Attempt,
        speeds: &[u64],
        counts: &[usize],
    ) -> Result<(), Error> {
        let replicas = counts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let body = SharesRecord { formation: formation(attempt), speeds: speeds.to_vec(), replicas };
        self.write(training::SHARES, &body)
    }

    /// The guard has decided.
    pub fn record_guard(&mut self, attempt: &Attempt, guard: Guard) -> Result<(), Error> {
        attempt.say(&format!(
            "guard: {} at step {}: {}; samples {} are left out",
            guard.decision, guard.step, guard.why, guard.skipped
        ));
        let key = format!("{}{:04}", training::GUARD_PREFIX, self.resume.guards.len());
        self.write(&key, &guard)?;
        self.resume.guards.push(guard);
        Ok(())
    }

    /// A step was done; `waited` for data.
    pub fn record_step(
        &mut self,
        attempt: &Attempt,
        report: &StepReport,
        waited: Duration,
    ) -> Result<(), Error> {
        self.poll(attempt)?;
        let window = &mut self.window;
        window.steps += 1;
        window.tokens += report.tokens;
        window.loss_sum += report.loss;
        window.waited += waited;
        self.tokens += report.tokens;
        let step = report.step + 1;
        if !step.is_multiple_of(self.metrics_every) && step != self.steps {
            return Ok(());
        }
        let took = window.since.elapsed().as_secs_f64().max(1e-9);
        let body = MetricsRecord {
            step,
            steps: self.steps,
            loss: rounded(window.loss_sum / window.steps as f64),
            lr: report.learning_rate,
            grad_norm: rounded(report.gradient_norm),
            tokens_per_s: (window.tokens as f64 / took).round(),
            rss_mib: resident_mib(),
            data_wait: rounded(window.waited.as_secs_f64() / took),
            overhead: rounded(window.spent.as_secs_f64() / took),
        };
        self.window = MetricsWindow::new();
        (self.loss, self.reached) = (body.loss, step);
        attempt.say(&format!(
            "step {step}: loss {:.4}, lr {:.2e}, gradient norm {:.3}, {:.0} tokens/s, {:.0} MiB, data wait {:.2} %, scheduler {:.2} %",
            body.loss,
            body.lr,
            body.grad_norm,
            body.tokens_per_s,
            body.rss_mib,
            body.data_wait * 100.0,
            body.overhead * 100.0
        ));
        self.write(training::METRICS, &body)
    }

    /// Ends a round: its checkpoint is written while the training continues, after the one before.
    pub fn commit_round(
        &mut self,
        attempt: &Attempt,
        snapshot: Snapshot,
        commit: RoundCommit,
        history: &[LossPoint],
        loss: f64,
        with: Vec<Digest>,
    ) -> Result<(), Error> {
        self.flush(attempt)?;
        let history =
            history[history.len().saturating_sub(HISTORY_STEPS)..].iter().map(PastStep::from).collect();
        let account = RoundAccount { commit, history, kept: self.kept.clone(), gone: Vec::new() };
        let pending = PendingRound { step: snapshot.step(), loss, account };
        let writer = CheckpointWriter {
            artifacts: attempt.artifacts.clone(),
            owner: self.owner.clone(),
            retention: self.retention,
            formation: formation(attempt),
        };
        let started = self.writing.start("checkpoint", move || writer.save(snapshot, pending, &with));
        let failed = |source| TrainError::Thread { task: "write the checkpoint", source };
        Ok(started.map(drop).map_err(failed)?)
    }

    /// Commits the round whose checkpoint has become durable, if one has.
    pub fn poll(&mut self, attempt: &Attempt) -> Result<(), Error> {
        let began = Instant::now();
        if let Some(saved) = self.writing.poll() {
            self.commit(attempt, saved?)?;
        }
        let applied = self.commit.as_ref().map_or(Ok(false), |committing| committing.handle.is_applied())?;
        if let Some(PendingCommit { gone, .. }) = self.commit.take_if(|_| applied) {
            self.remove(attempt, &gone)?;
        }
        self.window.spent += began.elapsed();
        Ok(())
    }

    /// Waits for the checkpoint that is being written, and until its round is in the log.
    pub fn flush(&mut self, attempt: &Attempt) -> Result<(), Error> {
        let began = Instant::now();
        if let Some(saved) = self.writing.finish() {
            self.commit(attempt, saved?)?;
        }
        if let Some(committing) = self.commit.take() {
            committing.handle.wait()?;
            self.remove(attempt, &committing.gone)?;
        }
        self.window.spent += began.elapsed();
        Ok(())
    }

    fn commit(&mut self, attempt: &Attempt, saved: SavedCheckpoint) -> Result<(), Error> {
        let SavedCheckpoint { round, account, bytes, kept, gone } = saved;
        let checkpoint = round.checkpoint;
        let number = self.next(training::CHECKPOINT).max(round.step);
        self.numbers.insert(training::CHECKPOINT.to_owned(), number);
        self.writer.write(
            training::CHECKPOINT,
            number,
            checkpoint,
            json(&CheckpointRecord { step: round.step, loss: round.loss, bytes })?,
        )?;
        let handle = self.writer.commit(training::ROUND, round.round + 1, account, json(&round)?)?;
        attempt.say(&format!(
            "round {} is committed: step {}, samples {}, {checkpoint}, {bytes} bytes",
            round.round, round.step, round.samples
        ));
        self.kept = kept;
        self.commit = Some(PendingCommit { handle, gone });
        self.resume.round = Some(round);
        Ok(())
    }

    /// Takes away checkpoints that no rule keeps, off the training thread. The log has said before that they
    /// are not kept.
    fn remove(&mut self, attempt: &Attempt, gone: &[StoredCheckpoint]) -> Result<(), Error> {
        let hashes =
            |stored: &[StoredCheckpoint]| stored.iter().map(|one| one.checkpoint).collect::<Vec<Digest>>();
        let (gone, stay) = (hashes(gone), hashes(&self.kept));
        if gone.is_empty() {
            return Ok(());
        }
        let (artifacts, owner) = (attempt.artifacts.clone(), self.owner.clone());
        let work = move || {
            remove_checkpoints(&artifacts, &owner, &gone, &stay, |manifest| state_files(&artifacts, manifest))
        };
        let before = self.removing.start("retention", work);
        before.map_err(|source| TrainError::Thread { task: "remove checkpoints", source })?.unwrap_or(Ok(()))
    }

    /// Waits until nothing is written or removed any more: the last thing that it does.
    pub fn close(&mut self, attempt: &Attempt) -> Result<(), Error> {
        self.flush(attempt)?;
        self.removing.finish().unwrap_or(Ok(()))?;
        Ok(self.writer.finish()?)
    }

    /// The last loss, and the speed of this life.
    pub fn last_metrics(&self) -> (f64, f64) {
        (self.loss, (self.tokens as f64 / self.started.elapsed().as_secs_f64().max(1e-9)).round())
    }
}

/// The account of a round of which each replica's samples are dealt in turns.
pub fn contributions(
    samples: &[Range<u64>],
    replicas: usize,
    each: u64,
    delta: impl Fn(usize) -> String,
) -> Vec<Contribution> {
    let count: u64 = samples.iter().map(|range| range.end - range.start).sum();
    let turn = replicas as u64 * each;
    let of = |replica: usize| {
        let dealt = (0..count / turn).flat_map(|place| {
            muster_llm::train::order::part(samples, place * turn + replica as u64 * each, each)
        });
        Contribution {
            replica: replica as u32,
            samples: IntervalSet::from_disjoint(dealt).unwrap_or_default(),
            delta: delta(replica),
        }
    };
    (0..replicas).map(of).collect()
}

fn json<T: Serialize>(body: &T) -> Result<String, TrainError> {
    serde_json::to_string(body).map_err(|source| TrainError::Encode { what: "a record", source })
}

/// A figure for a record: six digits after the point are enough for people, and short.
fn rounded(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

/// The resident memory of this process; 0 if the system does not report it.
fn resident_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or(0.0);
    (kib / 1024.0).round()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_dealt_in_turns() {
        let of = |samples: &[Range<u64>], replicas, each| {
            let all = contributions(samples, replicas, each, |_| String::new());
            all.iter().map(|one| one.samples.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(of(&[0..8], 2, 2), ["0+2,4+2", "2+2,6+2"]);
        assert_eq!(of(&[0..3, 10..15], 2, 2), ["0+2,11+2", "2+1,10+1,13+2"]);
        assert_eq!(of(&[4..8], 4, 1), ["4+1", "5+1", "6+1", "7+1"]);
    }

    #[test]
    fn a_process_has_memory() {
        assert!(resident_mib() > 0.0);
    }
}
