//! `diloco`: logical replicas train alone for some steps, and are averaged in rounds (Douillard et al. 2023).
//!
//! A round's samples are leased before it begins; the replicas get consecutive parts of them. Each replica
//! contributes an int8 delta. Rank 0 closes the round when all replicas have contributed, or at the deadline
//! if enough have, and moves the global weights by the mean. The round's commit names its checkpoint (global
//! weights, momentum, and the moments of each replica), so that a restart continues with the same bits. A
//! late replica is fenced: its work is lost, its moments are restored, and its samples are handed out again.
//!
//! **The guard.** A replica with a loss, gradient or delta that is NaN or infinite is refused: it is never
//! merged, its moments are restored, and its samples are skipped. A round with too few other replicas, or
//! whose mean loss is a spike, is rolled back: the weights stay as they were when it began, its samples are
//! skipped, and it is repeated with the next samples. Each such round is a `guard/…` record, and counts
//! towards `guard_max`. Decisions depend only on the replicas' results, so they are the same for any number
//! of ranks.
//!
//! **Exactly once.** A checkpoint is written while the next round computes, so a round's outcome is published
//! before the log has its commit. But its checkpoint is started only when the commit of the round before is
//! in the log, so at most one round is published and not committed. If rank 0 dies then, the gang continues
//! from the last committed round: the lost round's lease ended with the attempt, and its samples are leased
//! again, trained on again, and consumed once, by the commit. The next round's lease is requested when a
//! round begins, for the samples that come next if all replicas are merged. If some are not, rank 0 waits for
//! the commit and leases again what was returned. A round that refuses a replica keeps that decision in its
//! checkpoint, and records it once the commit is in the log; an attempt that dies in between records it when
//! it restarts.

mod allocator;
mod encoding;
mod global;
mod messages;
mod policy;
mod round_end;
pub mod state_file;
mod training;

pub use training::DilocoTraining;

use super::accumulator::Accumulator;
use super::checkpoint_writer::{manifest, reader};
use super::error::TrainError;
use super::rank::Finished;
use super::records::Guard;
use super::training_log::contributions;
use crate::error::Error;
use allocator::SampleAllocator;
use global::{Global, adopt};
use messages::{ReplicaResult, RoundResult};
use muster_collective::RoundOutcome;
use muster_llm::diloco::{self, OuterOptimizer, ReplicaState};
use muster_llm::train::adamw::Moments;
use muster_llm::train::guard::LossPoint;
use muster_llm::train::{self, StepReport, TrainState, order};
use muster_protocol::ids::Digest;
use muster_protocol::interval_set::IntervalSet;
use policy::RoundPolicy;
use state_file::{DilocoState, MOMENTUM_FILE, STATE_FILE};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

/// The results of this rank's replicas, and the outcome of the round if it has closed without them.
type LocalResults = (BTreeMap<u32, ReplicaResult>, Option<RoundOutcome>);

/// A step and how long it waited for its samples; or which of its numbers is NaN or infinite.
type InnerStep = Result<(StepReport, Duration), String>;

impl DilocoTraining<'_> {
    /// Trains for all rounds.
    pub fn run(mut self) -> Result<Finished, Error> {
        let rounds = self.0.spec.rounds;
        let all = self.0.spec.train.steps / rounds.inner_steps;
        let (mut global, mut progress) = self.begin()?;
        let speed = self.0.measure_speed(std::slice::from_ref(&(0..self.0.spec.train.sequences as u64)))?;
        let ranges = self.0.assign_shares(rounds.replicas, speed)?;
        let mut mine = self.replicas(&ranges, &global, &progress)?;
        let planned = all * self.per_round();
        if let Some(log) = &mut self.0.log {
            log.record_start(self.0.attempt, global.round * rounds.inner_steps, planned)?;
        }
        self.tell_refusal(&progress)?;
        let history = std::mem::take(&mut self.0.resume.history).into_iter().map(LossPoint::from).collect();
        // Rollbacks of earlier attempts count: a run that is killed may not roll back more often for that.
        let mut policy = RoundPolicy::after(
            history,
            self.0.log.as_ref().map_or(0, |log| log.resume().guards.len() as u64),
        );
        if global.round < all {
            self.lease(&global)?;
        }
        // No rank uses a sample before the log has its lease. Later leases are in the log before the outcome
        // of the round before is published.
        self.0.gang.broadcast(Vec::new())?;
        while global.round < all {
            let until = Instant::now() + rounds.time;
            let samples = global.allocator.take(self.per_round());
            self.request_lease(&global, all)?;
            let leases =
                contributions(&samples, rounds.replicas, rounds.inner_steps * self.each(), |_| String::new());
            let (own, early) = self.learn(&mut mine, &global, &samples)?;
            let states: BTreeMap<u32, Digest> =
                own.iter().filter_map(|(replica, learnt)| Some((*replica, learnt.state()?))).collect();
            let own = own
                .into_iter()
                .map(|(replica, learnt)| Ok((replica, learnt.into_bytes()?)))
                .collect::<Result<Vec<_>, Error>>()?;
            let outcome = match early {
                Some(outcome) => outcome,
                None if self.0.attempt.launch.rank == 0 => {
                    self.close(&mut global, &mut progress, &mut policy, &leases, own, until)?
                }
                None => self.0.gang.contribute(global.turn, own)?,
            };
            if self.0.attempt.launch.rank != 0 {
                let (result, mean) = RoundResult::from_outcome(&outcome, global.weights.len())?;
                adopt(&mut global, &outcome, &result, &leases, &mean)?;
            }
            for replica in &mut mine {
                let merged = outcome.has(replica.replica);
                replica.start_round(&global.weights)?;
                if let Some(state) = states.get(&replica.replica).filter(|_| !merged) {
                    // No checkpoint refers to it.
                    self.0.attempt.artifacts.discard(*state)?;
                }
                match (merged, states.get(&replica.replica), progress.states.get(&replica.replica)) {
                    (true, Some(state), _) => drop(progress.states.insert(replica.replica, *state)),
                    // Its work is lost, and so are the moments that came with it.
                    (_, _, Some(state)) => {
                        replica.moments =
                            encoding::moments(&self.0.attempt.artifacts.get(*state)?, global.weights.len())?
                    }
                    (_, _, None) => replica.moments = Moments::zero(global.weights.len()),
                }
            }
        }
        self.end(&global, planned)
    }

    /// Where the last committed round ended, or the start.
    fn begin(&mut self) -> Result<(Global, DilocoState), Error> {
        let outer = self.0.spec.rounds.outer;
        // Those of rounds that were committed since are below the cursor and were not returned: leaving them
        // out changes nothing.
        let skipped: Vec<Range<u64>> =
            self.0.resume.guards.iter().flat_map(|guard| guard.skipped.ranges()).collect();
        let Some(round) = self.0.resume.round.take() else {
            let weights = self.0.trainer.weights()?;
            let outer = OuterOptimizer::new(outer, weights.len())?;
            let mut allocator = SampleAllocator::default();
            allocator.leave_out(skipped);
            return Ok((Global { round: 0, turn: 0, weights, outer, allocator }, DilocoState::default()));
        };
        let artifacts = self.0.attempt.artifacts.clone();
        let (manifest, read) = (manifest(&artifacts, round.checkpoint)?, reader(&artifacts));
        self.0.trainer.restore(&manifest, &read)?;
        let file = |name: &'static str| {
            let file = manifest.file(name, &read)?;
            file.ok_or_else(|| {
                Error::from(TrainError::NotDiloco { checkpoint: round.checkpoint, file: name })
            })
        };
        let progress: DilocoState = serde_json::from_slice(&file(STATE_FILE)?)
            .map_err(|source| TrainError::Decode { file: STATE_FILE, source })?;
        let weights = self.0.trainer.weights()?;
        let outer = OuterOptimizer::with_momentum(
            outer,
            encoding::from_bytes(MOMENTUM_FILE, &file(MOMENTUM_FILE)?, weights.len())?,
        )?;
        let mut allocator = progress.allocator.clone();
        allocator.leave_out(skipped);
        Ok((Global { round: round.round + 1, turn: 0, weights, outer, allocator }, progress))
    }

    /// The replicas that this rank holds.
    fn replicas(
        &self,
        ranges: &[Range<usize>],
        global: &Global,
        progress: &DilocoState,
    ) -> Result<Vec<ReplicaState>, Error> {
        let range = self.0.share(ranges)?;
        let of = |replica: usize| {
            let replica = replica as u32;
            let Some(state) = progress.states.get(&replica) else {
                return Ok(ReplicaState::new(replica, &global.weights));
            };
            let moments = encoding::moments(&self.0.attempt.artifacts.get(*state)?, global.weights.len())?;
            Ok(ReplicaState::resume(replica, &global.weights, moments)?)
        };
        range.map(of).collect()
    }

    /// All inner steps of this rank's replicas, or the outcome of a round that has closed without them.
    fn learn(
        &mut self,
        mine: &mut [ReplicaState],
        global: &Global,
        samples: &[Range<u64>],
    ) -> Result<LocalResults, Error> {
        let mut own = BTreeMap::new();
        let of_each = self.0.spec.rounds.inner_steps * self.0.spec.train.microbatches as u64;
        let held: Vec<u64> = mine.iter().map(|replica| u64::from(replica.replica)).collect();
        self.0.prefetch(
            samples,
            held.into_iter().flat_map(move |replica| replica * of_each..(replica + 1) * of_each),
        );
        for (place, replica) in mine.iter_mut().enumerate() {
            let moments = std::mem::replace(&mut replica.moments, Moments::zero(0));
            let state =
                TrainState { step: global.round * self.0.spec.rounds.inner_steps, ..TrainState::default() };
            self.0.trainer.put(state, &replica.weights, moments)?;
            let (mut losses, mut wrong) = (Vec::new(), None);
            for inner in 0..self.0.spec.rounds.inner_steps {
                if self.0.attempt.launch.rank != 0
                    && let Some(outcome) = self.0.gang.poll_outcome(global.turn)?
                {
                    return Ok((BTreeMap::new(), Some(outcome)));
                }
                let turn = u64::from(replica.replica) * self.0.spec.rounds.inner_steps + inner;
                let numbers = order::part(samples, turn * self.each(), self.each());
                let (mut report, waited) = match self.step(&numbers)? {
                    Ok(done) => done,
                    Err(why) => {
                        wrong = Some(why);
                        break;
                    }
                };
                losses.push(report.loss);
                // Rank 0's first replica reports for all of them.
                report.tokens *= self.0.spec.rounds.replicas as u64;
                if let Some(log) = &mut self.0.log
                    && place == 0
                {
                    log.record_step(self.0.attempt, &report, waited)?;
                }
            }
            let learnt = match wrong {
                Some(why) => ReplicaResult::Failed(why),
                None => self.offer(replica, global, losses)?,
            };
            own.insert(replica.replica, learnt);
        }
        Ok((own, None))
    }

    /// The result of a replica that has done its steps.
    fn offer(
        &self,
        replica: &mut ReplicaState,
        global: &Global,
        losses: Vec<f64>,
    ) -> Result<ReplicaResult, Error> {
        replica.weights = self.0.trainer.weights()?;
        replica.moments = self.0.trainer.moments()?;
        match replica.delta(&global.weights) {
            Ok(delta) => Ok(ReplicaResult::Delta {
                state: self.0.attempt.artifacts.put(&encoding::of(replica))?,
                losses,
                delta,
            }),
            Err(diloco::Error::Delta(why)) => Ok(ReplicaResult::Failed(format!("its delta: {why}"))),
            Err(other) => Err(other.into()),
        }
    }

    /// One inner step of the replica whose state the trainer holds.
    fn step(&mut self, numbers: &[Range<u64>]) -> Result<InnerStep, Error> {
        let (microbatches, sequences) = (self.0.spec.train.microbatches, self.0.spec.train.sequences as u64);
        let mut work = Accumulator::new(&self.0.trainer, self.0.spec.allow_accumulation);
        let part = |microbatch: usize| order::part(numbers, microbatch as u64 * sequences, sequences);
        let mut partials = work.gradients(0..microbatches, microbatches, part)?;
        let waited = work.waited;
        let (Some(whole), true) = (partials.pop(), partials.is_empty()) else {
            return Err(TrainError::MissingMicrobatches.into());
        };
        match self.0.trainer.apply(self.0.trainer.step(), whole.values) {
            Ok(report) => Ok(Ok((report, waited))),
            Err(train::Error::NotFinite { step, what, value }) => {
                Ok(Err(format!("{what} of step {step} is {value}")))
            }
            Err(other) => Err(other.into()),
        }
    }

    fn end(mut self, global: &Global, planned: u64) -> Result<Finished, Error> {
        self.restore(global, None)?;
        let hash = self.0.trainer.weights_hash()?;
        let theirs = self.0.gang.broadcast(hash.clone().into_bytes())?;
        if theirs != hash.as_bytes() {
            return Err(TrainError::WeightsDiffer { ours: hash }.into());
        }
        if let Some(log) = &mut self.0.log {
            // Rounds with late replicas used fewer samples than planned. What is left: the returned samples,
            // and the planned ones that no round needs any more.
            let left =
                global.allocator.returned().iter().cloned().chain([global.allocator.cursor()..planned]);
            if let Some(skipped) = IntervalSet::from_disjoint(left).filter(|samples| !samples.is_empty()) {
                let why = "replicas were late, and no round is left".to_owned();
                let (decision, step) = ("leave out".to_owned(), self.0.trainer.step());
                log.record_guard(self.0.attempt, Guard { decision, step, why, skipped, back_to: step })?;
            }
            log.close(self.0.attempt)?;
        }
        let checkpoint = self.0.last_checkpoint()?;
        Ok(Finished { trainer: self.0.trainer, log: self.0.log, checkpoint })
    }
}
