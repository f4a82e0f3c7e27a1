//! The end of a round on rank 0: gather the results, judge them, commit, lease the next samples, publish the
//! outcome.

use super::encoding;
use super::global::{Global, adopt};
use super::messages::{ReplicaResult, RoundResult};
use super::policy::{RoundDecision, RoundPolicy};
use super::state_file::{DilocoState, MOMENTUM_FILE, STATE_FILE};
use super::training::DilocoTraining;
use crate::error::Error;
use crate::train::error::TrainError;
use crate::train::export;
use crate::train::records::Guard;
use muster_collective::{RoundOutcome, RoundQuorum};
use muster_host::durable;
use muster_llm::diloco::{Contribution, Int8Delta, RoundCommit, RoundPlan, mean_delta};
use muster_llm::train::guard::LossPoint;
use muster_protocol::interval_set::IntervalSet;
use std::collections::BTreeMap;
use std::time::Instant;

/// Replicas that may be merged, and those that may not.
struct SplitReplicas {
    deltas: Vec<(u32, Int8Delta)>,
    refused: IntervalSet<u64>,
}

impl DilocoTraining<'_> {
    /// As rank 0: the end of a round that our own replicas bring `own` to.
    pub(super) fn close(
        &mut self,
        global: &mut Global,
        progress: &mut DilocoState,
        policy: &mut RoundPolicy,
        leases: &[Contribution],
        own: Vec<(u32, Vec<u8>)>,
        until: Instant,
    ) -> Result<RoundOutcome, Error> {
        let (rounds, turn) = (self.0.spec.rounds, global.turn);
        let rule = RoundQuorum {
            replicas: rounds.replicas as u32,
            min_contributions: rounds.min_contributions as u32,
            until,
        };
        let arrived = self.0.gang.gather(turn, rule, own)?;
        let read = |(replica, bytes): (u32, Vec<u8>)| {
            Ok((replica, ReplicaResult::from_bytes(&bytes, rounds.inner_steps, global.weights.len())?))
        };
        let learnt =
            arrived.into_iter().map(read).collect::<Result<BTreeMap<u32, ReplicaResult>, Error>>()?;
        let first = global.round * rounds.inner_steps;
        let outcome = match policy.decide(
            &self.0.spec.guard,
            &learnt,
            rounds.least_merged,
            first..first + rounds.inner_steps,
        ) {
            RoundDecision::RollBack { why } => {
                self.count(policy, first, &why)?;
                let result = RoundResult { rolled_back: true, refused: IntervalSet::default() };
                let outcome = result.outcome(Vec::new(), &[])?;
                adopt(global, &outcome, &result, leases, &[])?;
                self.guard("rollback", first, why, leases)?;
                outcome
            }
            RoundDecision::Merge { refused, why, points } => {
                progress.refusal = None;
                if !refused.is_empty() {
                    self.count(policy, first, &why)?;
                    let theirs: Vec<Contribution> =
                        leases.iter().filter(|lease| refused.contains(&lease.replica)).cloned().collect();
                    progress.refusal = Some(decision("refuse", first, why, &theirs)?);
                }
                let loss = points.last().map_or(f64::NAN, |point| point.loss);
                policy.remember(points);
                let refused = IntervalSet::from_disjoint(
                    refused.into_iter().map(|replica| u64::from(replica)..u64::from(replica) + 1),
                )
                .unwrap_or_default();
                let deltas = learnt.into_iter().filter_map(|(replica, learnt)| match learnt {
                    ReplicaResult::Delta { state, delta, .. } => {
                        progress.states.insert(replica, state);
                        Some((replica, delta))
                    }
                    ReplicaResult::Failed(_) => None,
                });
                let split = SplitReplicas { deltas: deltas.collect(), refused };
                self.merge(global, progress, split, leases, (policy.history(), loss))?
            }
        };
        if global.round < self.0.spec.train.steps / rounds.inner_steps {
            self.lease(global)?;
        }
        self.0.gang.publish(turn, &outcome)?;
        Ok(outcome)
    }

    /// Moves the global weights, and starts to write the checkpoint that commits the round.
    fn merge(
        &mut self,
        global: &mut Global,
        progress: &mut DilocoState,
        split: SplitReplicas,
        leases: &[Contribution],
        (history, loss): (&[LossPoint], f64),
    ) -> Result<RoundOutcome, Error> {
        let SplitReplicas { deltas, refused } = split;
        let (number, epoch) = (global.round, u64::from(self.0.attempt.launch.attempt.epoch));
        let base = durable::hash(&encoding::to_bytes(&global.weights));
        let samples: Vec<IntervalSet<u64>> = leases.iter().map(|lease| lease.samples.clone()).collect();
        let hashes: Vec<(u32, String)> =
            deltas.iter().map(|(replica, delta)| (*replica, delta.hash())).collect();
        let mean = mean_delta(global.weights.len(), &deltas)?;
        let commit = RoundPlan { round: number, epoch, base, leases: samples }
            .commit(&hashes, durable::hash(&encoding::to_bytes(&mean)))?;
        let result = RoundResult { rolled_back: false, refused };
        let outcome = result.outcome(deltas.iter().map(|(replica, _)| *replica).collect(), &mean)?;
        adopt(global, &outcome, &result, leases, &mean)?;
        progress.allocator = global.allocator.clone();
        self.keep(global, progress, commit, history, loss)?;
        if deltas.len() < leases.len()
            && let Some(log) = &mut self.0.log
        {
            // The returned samples are held by this round's lease until its commit is in the log.
            log.flush(self.0.attempt)?;
            self.tell_refusal(progress)?;
        }
        Ok(outcome)
    }

    /// Starts to write a round's checkpoint once the round before is in the log, so that its parent does not
    /// depend on timing.
    fn keep(
        &mut self,
        global: &Global,
        progress: &DilocoState,
        commit: RoundCommit,
        history: &[LossPoint],
        loss: f64,
    ) -> Result<(), Error> {
        self.restore(global, progress.states.get(&0).copied())?;
        let Some(log) = &mut self.0.log else { return Ok(()) };
        log.flush(self.0.attempt)?;
        let parent = log.resume().round.as_ref().map(|round| round.checkpoint.to_string());
        let about =
            serde_json::to_vec(progress).map_err(|source| TrainError::Encode { what: STATE_FILE, source })?;
        // The trainer's own last loss is that of the last replica of this rank.
        let snapshot = self.0.trainer.snapshot(parent)?.with_loss(loss);
        let snapshot = snapshot.with(export::extra_files(self.0.spec, self.0.factory, &self.0.trainer)?);
        let files = [
            (STATE_FILE.to_owned(), about),
            (MOMENTUM_FILE.to_owned(), encoding::to_bytes(global.outer.momentum())),
        ];
        log.commit_round(
            self.0.attempt,
            snapshot.with(files),
            commit,
            history,
            loss,
            progress.states.values().copied().collect(),
        )
    }

    /// Counts a bad round; an error if there were more than `guard_max`.
    fn count(&self, policy: &mut RoundPolicy, step: u64, why: &str) -> Result<(), TrainError> {
        policy.times += 1;
        let times = self.0.spec.guard_max;
        if policy.times > times {
            return Err(TrainError::GuardExhausted { step, why: why.to_owned(), times });
        }
        Ok(())
    }

    /// Records which samples are skipped, after the round before is in the log.
    fn guard(&mut self, what: &str, step: u64, why: String, leases: &[Contribution]) -> Result<(), Error> {
        let Some(log) = &mut self.0.log else { return Ok(()) };
        log.flush(self.0.attempt)?;
        log.record_guard(self.0.attempt, decision(what, step, why, leases)?)
    }

    /// Records which replicas the last committed round refused, unless the log has it already.
    pub(super) fn tell_refusal(&mut self, progress: &DilocoState) -> Result<(), Error> {
        let (Some(log), Some(refusal)) = (&mut self.0.log, &progress.refusal) else { return Ok(()) };
        if log.resume().guards.iter().any(|guard| guard.skipped == refusal.skipped) {
            return Ok(());
        }
        log.record_guard(self.0.attempt, refusal.clone())
    }
}

/// The record that skips the samples of these leases, in a round that began at `step`.
fn decision(what: &str, step: u64, why: String, leases: &[Contribution]) -> Result<Guard, TrainError> {
    let skipped = IntervalSet::from_disjoint(leases.iter().flat_map(|lease| lease.samples.ranges()));
    let skipped = skipped.ok_or(TrainError::LeftOutTwice { step })?;
    Ok(Guard { decision: what.to_owned(), step, why, skipped, back_to: step })
}
