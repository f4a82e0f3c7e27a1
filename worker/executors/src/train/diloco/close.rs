//! The end of a round as rank 0 sees it: it gathers, judges, commits, leases what is next, and tells all what
//! came of it.

use super::judge::{Judge, Judgement};
use super::wire::{Learnt, Told};
use super::{Diloco, Global, Kept, MOMENTUM_FILE, STATE_FILE, adopt, state};
use crate::error::Error;
use crate::train::finish;
use crate::train::records::Guard;
use muster_collective::{Gathering, Outcome};
use muster_host::durable;
use muster_llm::diloco::{Contribution, Int8Delta, RoundCommit, RoundPlan, Runs, mean_delta};
use muster_llm::train::guard::LossPoint;
use std::collections::BTreeMap;
use std::time::Instant;

/// Replicas that may be merged, and those that may not.
struct Parted {
    deltas: Vec<(u32, Int8Delta)>,
    refused: Runs,
}

impl Diloco<'_> {
    /// As rank 0: the end of a round that our own replicas bring `own` to.
    pub(super) fn close(
        &mut self,
        global: &mut Global,
        kept: &mut Kept,
        judge: &mut Judge,
        leases: &[Contribution],
        own: Vec<(u32, Vec<u8>)>,
        until: Instant,
    ) -> Result<Outcome, Error> {
        let (rounds, turn) = (self.0.setting.rounds, global.turn);
        let rule = Gathering {
            replicas: rounds.replicas as u32,
            min_contributions: rounds.min_contributions as u32,
            until,
        };
        let arrived = self.0.gang.gather(turn, rule, own)?;
        let read = |(replica, bytes): (u32, Vec<u8>)| {
            Ok((replica, Learnt::from_bytes(&bytes, rounds.inner_steps, global.weights.len())?))
        };
        let learnt = arrived.into_iter().map(read).collect::<Result<BTreeMap<u32, Learnt>, Error>>()?;
        let first = global.round * rounds.inner_steps;
        let outcome = match judge.judge(
            &self.0.setting.guard,
            &learnt,
            rounds.least_merged,
            first..first + rounds.inner_steps,
        ) {
            Judgement::RollBack { why } => {
                self.count(judge, first, &why)?;
                let told = Told { rolled_back: true, refused: Runs::default() };
                let outcome = told.outcome(Vec::new(), &[])?;
                adopt(global, &outcome, &told, leases, &[])?;
                self.guard("rollback", first, why, leases)?;
                outcome
            }
            Judgement::Merge { refused, why, points } => {
                kept.refusal = None;
                if !refused.is_empty() {
                    self.count(judge, first, &why)?;
                    let theirs: Vec<Contribution> =
                        leases.iter().filter(|lease| refused.contains(&lease.replica)).cloned().collect();
                    kept.refusal = Some(decision("refuse", first, why, &theirs)?);
                }
                let loss = points.last().map_or(f64::NAN, |point| point.loss);
                judge.remember(points);
                let refused =
                    Runs::of(refused.into_iter().map(|replica| u64::from(replica)..u64::from(replica) + 1))
                        .unwrap_or_default();
                let deltas = learnt.into_iter().filter_map(|(replica, learnt)| match learnt {
                    Learnt::Delta { state, delta, .. } => {
                        kept.states.insert(replica, state);
                        Some((replica, delta))
                    }
                    Learnt::Wrong(_) => None,
                });
                let parted = Parted { deltas: deltas.collect(), refused };
                self.merge(global, kept, parted, leases, (judge.history(), loss))?
            }
        };
        if global.round < self.0.setting.train.steps / rounds.inner_steps {
            self.lease(global)?;
        }
        self.0.gang.publish(turn, &outcome)?;
        Ok(outcome)
    }

    /// Moves the global weights, and begins to write the checkpoint that the round is committed with.
    fn merge(
        &mut self,
        global: &mut Global,
        kept: &mut Kept,
        parted: Parted,
        leases: &[Contribution],
        (history, loss): (&[LossPoint], f64),
    ) -> Result<Outcome, Error> {
        let Parted { deltas, refused } = parted;
        let (number, epoch) = (global.round, u64::from(self.0.attempt.launch.attempt.epoch));
        let base = durable::hash(&state::to_bytes(&global.weights));
        let samples: Vec<Runs> = leases.iter().map(|lease| lease.samples.clone()).collect();
        let hashes: Vec<(u32, String)> =
            deltas.iter().map(|(replica, delta)| (*replica, delta.hash())).collect();
        let mean = mean_delta(global.weights.len(), &deltas)?;
        let commit = RoundPlan { round: number, epoch, base, leases: samples }
            .commit(&hashes, durable::hash(&state::to_bytes(&mean)))?;
        let told = Told { rolled_back: false, refused };
        let outcome = told.outcome(deltas.iter().map(|(replica, _)| *replica).collect(), &mean)?;
        adopt(global, &outcome, &told, leases, &mean)?;
        kept.deal = global.deal.clone();
        self.keep(global, kept, commit, history, loss)?;
        if deltas.len() < leases.len()
            && let Some(journal) = &mut self.0.journal
        {
            // What goes back is still held by this round's lease, until its commit is in the log.
            journal.settle(self.0.attempt)?;
            self.tell_refusal(kept)?;
        }
        Ok(outcome)
    }

    /// Begins to write a round's checkpoint, once the round before is in the log: its parent is then the
    /// same, however fast that was.
    fn keep(
        &mut self,
        global: &Global,
        kept: &Kept,
        commit: RoundCommit,
        history: &[LossPoint],
        loss: f64,
    ) -> Result<(), Error> {
        self.stand_at(global, kept.states.get(&0).copied())?;
        let Some(journal) = &mut self.0.journal else { return Ok(()) };
        journal.settle(self.0.attempt)?;
        let parent = journal.resume().round.as_ref().map(|round| round.checkpoint.to_string());
        let about = serde_json::to_vec(kept).map_err(|e| Error::Unfit(format!("write {STATE_FILE}: {e}")))?;
        // The trainer's own last loss is that of whichever replica this rank had last.
        let snapshot = self.0.trainer.snapshot(parent)?.with_loss(loss);
        let snapshot = snapshot.with(finish::beside(self.0.setting, self.0.source, &self.0.trainer)?);
        let files = [
            (STATE_FILE.to_owned(), about),
            (MOMENTUM_FILE.to_owned(), state::to_bytes(global.outer.momentum())),
        ];
        journal.keep(
            self.0.attempt,
            snapshot.with(files),
            commit,
            history,
            loss,
            kept.states.values().copied().collect(),
        )
    }

    /// Something went wrong in a round: that may not happen too often.
    fn count(&self, judge: &mut Judge, step: u64, why: &str) -> Result<(), Error> {
        judge.times += 1;
        let times = self.0.setting.guard_max;
        if judge.times > times {
            return Err(Error::Unfit(format!(
                "go on at step {step}: {why}; the guard may go back {times} times (`guard_max`)"
            )));
        }
        Ok(())
    }

    /// Says what is left out, after the round before is in the log.
    fn guard(&mut self, what: &str, step: u64, why: String, leases: &[Contribution]) -> Result<(), Error> {
        let Some(journal) = &mut self.0.journal else { return Ok(()) };
        journal.settle(self.0.attempt)?;
        journal.guard(self.0.attempt, decision(what, step, why, leases)?)
    }

    /// Says whom the last committed round has refused, if that was not said yet.
    pub(super) fn tell_refusal(&mut self, kept: &Kept) -> Result<(), Error> {
        let (Some(journal), Some(refusal)) = (&mut self.0.journal, &kept.refusal) else { return Ok(()) };
        if journal.resume().guards.iter().any(|guard| guard.skipped == refusal.skipped) {
            return Ok(());
        }
        journal.guard(self.0.attempt, refusal.clone())
    }
}

/// That the samples of these leases are left out, in a round that began at `step`.
fn decision(what: &str, step: u64, why: String, leases: &[Contribution]) -> Result<Guard, Error> {
    let skipped = Runs::of(leases.iter().flat_map(|lease| lease.samples.ranges()));
    let skipped = skipped
        .ok_or_else(|| Error::Unfit(format!("leave out the samples of step {step}: some come twice")))?;
    Ok(Guard { decision: what.to_owned(), step, why, skipped, back_to: step })
}
