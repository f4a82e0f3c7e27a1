//! `sync` and `single`: each step together, with the same bits for any number of ranks and any shares.
//!
//! A round is the steps between two checkpoints. Its samples are leased before its first step, while the
//! round before computes, and consumed when its checkpoint is durable and committed; what a killed gang had
//! leased goes back, and is leased again to the same steps, which come to the same weights. All ranks see the
//! same sums, so each comes to the same verdict of the guard by itself.

use super::accumulator::{Accumulator, sums, total};
use super::checkpoint_writer::{manifest, reader};
use super::error::TrainError;
use super::export;
use super::rank::{Finished, Rank};
use super::records::Guard;
use super::training_log::{self, HISTORY_STEPS};
use crate::error::Error;
use muster_llm::diloco::RoundCommit;
use muster_llm::train::guard::{GuardReason, LossPoint};
use muster_llm::train::{GuardVerdict, StepReport, TrainState, order};
use muster_protocol::ids::Digest;
use muster_protocol::interval_set::IntervalSet;
use std::ops::Range;
use std::time::Duration;

/// Each step together.
pub struct SyncTraining<'a>(pub Rank<'a>);

/// The steps between two checkpoints.
struct StepWindow {
    round: u64,
    steps: Range<u64>,
    /// What they learn from.
    samples: Vec<Range<u64>>,
}

/// How a window went.
enum WindowOutcome {
    Done,
    RollBack { at: u64, skip: Range<u64>, why: String },
}

/// A step with how long its samples were waited for, or the name and value of a NaN or infinite number.
type SyncStep = Result<(StepReport, Duration), (&'static str, f64)>;

impl SyncTraining<'_> {
    /// Trains for all rounds.
    pub fn run(mut self) -> Result<Finished, Error> {
        let resumed = self.0.resume.round.take();
        self.go_back_to(resumed.as_ref().map(|round| round.checkpoint))?;
        let guards = std::mem::take(&mut self.0.resume.guards);
        for guard in &guards {
            self.leave_out(guard.skipped.ranges())?;
        }
        let mut history: Vec<LossPoint> =
            std::mem::take(&mut self.0.resume.history).into_iter().map(LossPoint::from).collect();
        let steps = self.0.trainer.config().steps;
        let planned = steps * self.0.trainer.config().samples_per_step();
        if let Some(log) = &mut self.0.log {
            log.record_start(self.0.attempt, self.0.trainer.step(), planned)?;
        }
        let share = self.share()?;
        let mut round = resumed.map_or(0, |round| round.round + 1);
        // Rollbacks of earlier attempts count: a run that is killed may not roll back more often for that.
        let mut went_back = guards.len() as u64;
        let mut base = self.agreed()?;
        while self.0.trainer.step() < steps {
            let before = self.0.trainer.state().clone();
            let window = self.window(round, &before);
            self.lease(&window)?;
            let (mine, replicas) = (share.clone(), self.0.trainer.config().microbatches as u64);
            let turns = 0..window.steps.end - window.steps.start;
            self.0.prefetch(
                &window.samples,
                turns.flat_map(move |turn| mine.clone().map(move |replica| turn * replicas + replica as u64)),
            );
            match self.steps(&window.steps, share.clone(), &mut history)? {
                WindowOutcome::Done => {
                    let aggregate = self.agreed()?;
                    self.keep(&window, base, aggregate.clone(), &history)?;
                    // The guard looks at no more, and within a window it may go back to where that began.
                    history.drain(..history.len().saturating_sub(HISTORY_STEPS));
                    base = aggregate;
                    round += 1;
                }
                WindowOutcome::RollBack { at, skip, why } => {
                    went_back += 1;
                    let times = self.0.spec.guard_max;
                    if went_back > times {
                        return Err(TrainError::GuardExhausted { step: at, why, times }.into());
                    }
                    if let Some(log) = &mut self.0.log {
                        log.flush(self.0.attempt)?;
                        let skipped = IntervalSet::from_disjoint([skip.clone()]).unwrap_or_default();
                        let (decision, back_to) = ("rollback".to_owned(), before.step);
                        log.record_guard(
                            self.0.attempt,
                            Guard { decision, step: at, why, skipped, back_to },
                        )?;
                    }
                    let checkpoint = self.0.last_checkpoint()?;
                    self.go_back_to(checkpoint)?;
                    self.leave_out(before.skipped.into_iter().chain([skip]))?;
                    history.retain(|point| point.step < before.step);
                }
            }
        }
        if let Some(log) = &mut self.0.log {
            log.close(self.0.attempt)?;
        }
        let checkpoint = self.0.last_checkpoint()?;
        Ok(Finished { trainer: self.0.trainer, log: self.0.log, checkpoint })
    }

    /// The steps from where a run stands to its next checkpoint.
    fn window(&self, round: u64, state: &TrainState) -> StepWindow {
        let (config, every) = (self.0.trainer.config(), self.0.spec.checkpoint_every);
        let end = config.steps.min((state.step / every + 1) * every);
        let samples =
            order::take(state.cursor, (end - state.step) * config.samples_per_step(), &state.skipped);
        StepWindow { round, steps: state.step..end, samples }
    }

    /// No rank uses a sample before the log has its lease. The next window's is requested now, so that no
    /// rank waits for it then.
    fn lease(&mut self, window: &StepWindow) -> Result<(), Error> {
        let TrainState { skipped, .. } = self.0.trainer.state().clone();
        let cursor = window.samples.last().map_or(0, |range| range.end);
        let next = self.window(window.round + 1, &TrainState { step: window.steps.end, cursor, skipped });
        let (replicas, each) =
            (self.0.trainer.config().microbatches, self.0.trainer.config().sequences as u64);
        if let Some(log) = &mut self.0.log {
            log.lease(self.0.attempt, window.round, &window.samples, replicas, each)?;
            if !next.steps.is_empty() {
                log.request_lease(self.0.attempt, next.round, &next.samples, replicas, each)?;
            }
        }
        self.0.gang.broadcast(Vec::new()).map(drop).map_err(Error::from)
    }

    /// Begins to write the checkpoint that a round is committed with.
    fn keep(
        &mut self,
        window: &StepWindow,
        base: String,
        aggregate: String,
        history: &[LossPoint],
    ) -> Result<(), Error> {
        let Rank { attempt, log: Some(log), trainer, spec, factory, .. } = &mut self.0 else {
            return Ok(());
        };
        // Its parent is then the same, however fast the one before was written.
        log.flush(attempt)?;
        let parent = log.resume().round.as_ref().map(|round| round.checkpoint.to_string());
        let snapshot = trainer.snapshot(parent)?.with(export::extra_files(spec, factory, trainer)?);
        let (replicas, each) = (trainer.config().microbatches, trainer.config().sequences as u64);
        let contributions = training_log::contributions(&window.samples, replicas, each, |_| String::new());
        let epoch = u64::from(attempt.launch.attempt.epoch);
        let commit = RoundCommit { round: window.round, epoch, base, contributions, aggregate };
        log.commit_round(
            attempt,
            snapshot,
            commit,
            history,
            trainer.last_loss().unwrap_or(f64::NAN),
            Vec::new(),
        )
    }

    /// The steps of a window, up to its end or to the first bad one.
    fn steps(
        &mut self,
        steps: &Range<u64>,
        share: Range<usize>,
        history: &mut Vec<LossPoint>,
    ) -> Result<WindowOutcome, Error> {
        for step in steps.clone() {
            let from = self.0.trainer.state().cursor;
            let (report, waited) = match self.step(step, share.clone())? {
                Ok(done) => done,
                Err((what, value)) => {
                    // Nothing was changed by it; where its samples end follows from where they begin.
                    let skipped = self.0.trainer.state().skipped.clone();
                    let to = order::take(from, self.0.trainer.config().samples_per_step(), &skipped)
                        .last()
                        .map_or(from, |range| range.end);
                    return Ok(WindowOutcome::RollBack {
                        at: step,
                        skip: from..to,
                        why: format!("{what} is {value}"),
                    });
                }
            };
            let to = self.0.trainer.state().cursor;
            history.push(LossPoint {
                step,
                loss: report.loss,
                gradient_norm: report.gradient_norm,
                from,
                to,
            });
            let guard = self.0.spec.guard;
            // It may not skip what an earlier round has consumed.
            let guard = muster_llm::train::SpikeGuard {
                steps_before: guard.steps_before.min(step - steps.start),
                ..guard
            };
            if let GuardVerdict::RollBack { skip, reason, .. } = guard.judge(history, &[steps.start]) {
                let (GuardReason::NotFinite | GuardReason::Spike { .. }) = &reason;
                return Ok(WindowOutcome::RollBack { at: step, skip, why: reason.to_string() });
            }
            if let Some(log) = &mut self.0.log {
                log.record_step(self.0.attempt, &report, waited)?;
            }
        }
        Ok(WindowOutcome::Done)
    }

    /// One step; the inner error is a NaN or infinite number.
    fn step(&mut self, step: u64, share: Range<usize>) -> Result<SyncStep, Error> {
        let Rank { trainer, gang, spec, attempt, .. } = &mut self.0;
        let replicas = trainer.config().microbatches;
        let plan = trainer.plan();
        let mut work = Accumulator::new(trainer, spec.allow_accumulation);
        let mut partials =
            work.gradients(share, replicas, |replica| plan.get(replica).cloned().unwrap_or_default())?;
        let waited = work.waited;
        let sum = match partials.pop() {
            // Alone, the sum stays on the device that it was made on.
            Some(whole) if attempt.launch.world == 1 && whole.len == replicas => whole.values,
            last => {
                let partials = partials.into_iter().chain(last).map(sums).collect::<Result<_, _>>()?;
                total(gang.all_reduce(replicas, partials)?)?
            }
        };
        match trainer.apply(step, sum) {
            Ok(report) => Ok(Ok((report, waited))),
            Err(muster_llm::train::Error::NotFinite { what, value, .. }) => Ok(Err((what, value))),
            Err(other) => Err(other.into()),
        }
    }

    /// The hash of the weights, which all ranks must hold: those that went on from different ones would ruin
    /// them in silence.
    fn agreed(&mut self) -> Result<String, Error> {
        let hash = self.0.trainer.weights_hash()?;
        self.0.gang.verify_equal(hash.as_bytes())?;
        Ok(hash)
    }

    fn go_back_to(&mut self, checkpoint: Option<Digest>) -> Result<(), Error> {
        let rank = &mut self.0;
        let artifacts = rank.attempt.artifacts.clone();
        match checkpoint {
            Some(hash) => {
                let manifest = manifest(&artifacts, hash)?;
                if let Some(why) = manifest.differs(rank.trainer.compute().threads()) {
                    rank.attempt.say(&why);
                }
                Ok(rank.trainer.restore(&manifest, &reader(&artifacts))?)
            }
            None if rank.trainer.step() == 0 && rank.trainer.state().cursor == 0 => Ok(()),
            None => {
                rank.trainer = rank.factory.trainer()?;
                Ok(())
            }
        }
    }

    /// Skips those of some samples that are still to come.
    fn leave_out(&mut self, ranges: impl IntoIterator<Item = Range<u64>>) -> Result<(), Error> {
        for range in ranges {
            if range.start >= self.0.trainer.state().cursor {
                self.0.trainer.skip(range)?;
            }
        }
        Ok(())
    }

    /// The microbatches that this rank holds.
    fn share(&mut self) -> Result<Range<usize>, Error> {
        let rank = &mut self.0;
        let plan = rank.trainer.plan();
        let speed = rank.measure_speed(plan.first().map_or(&[][..], Vec::as_slice))?;
        let ranges = rank.assign_shares(rank.trainer.config().microbatches, speed)?;
        Ok(rank.share(&ranges)?)
    }
}
