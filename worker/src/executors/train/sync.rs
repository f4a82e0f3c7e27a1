//! `sync` and `single`: each step together, with the same bits for any number of ranks and any shares.
//!
//! A round is the steps between two checkpoints. Its samples are leased before its first step, and consumed when its checkpoint is durable
//! and committed; what a killed gang had leased goes back, and is leased again to the same steps, which come to the same weights. All ranks
//! see the same sums, so each comes to the same verdict of the guard by itself.

use super::{
    agreed,
    build::Source,
    journal::Journal,
    records::{Guard, Resume},
    saver::{manifest, reader},
    setting::Setting,
    work::{Work, sums, total},
};
use crate::{
    collective::Gang,
    executors::{attempt::Attempt, error::Error},
};
use muster_llm::{
    parallel::{Commit, Runs, shares},
    train::{
        State, StepReport, Trainer, Verdict,
        guard::{Point, Reason},
        order,
    },
};
use muster_protocol::ids::Digest;
use std::{
    ops::Range,
    time::{Duration, Instant},
};

/// A gang of ranks whose fastest is faster than its slowest by less than this holds equal shares: noise is no difference.
const UNEQUAL_FROM: f64 = 1.5;
/// Tries of which the fastest counts.
const PROBES: usize = 3;

/// What a rank goes through its rounds with.
pub struct Sync<'a> {
    pub attempt: &'a mut Attempt,
    pub gang: &'a mut Gang,
    pub setting: &'a Setting,
    pub source: &'a Source,
    pub trainer: Trainer,
    pub journal: Option<Journal>,
    pub resume: Resume,
}

/// How a round went.
enum Went {
    Well,
    Wrong { at: u64, skip: Range<u64>, why: String },
}

/// A step with how long its samples were waited for, or a number that is none: which, and what it is.
type Stepped = Result<(StepReport, Duration), (&'static str, f64)>;

impl Sync<'_> {
    /// Goes through all rounds; gives the trainer, the journal and the last checkpoint as all ranks know it.
    pub fn run(mut self) -> Result<(Trainer, Option<Journal>, Option<Digest>), Error> {
        let mut checkpoint = self.resume.round.as_ref().map(|round| round.checkpoint);
        let mut round = self.resume.round.as_ref().map_or(0, |round| round.round + 1);
        self.go_back_to(checkpoint)?;
        for guard in std::mem::take(&mut self.resume.guards) {
            self.leave_out(guard.skipped.ranges())?;
        }
        let config = self.trainer.config().clone();
        let per_step = config.samples_per_step();
        if let Some(journal) = &mut self.journal {
            journal.started(self.attempt, self.trainer.step(), config.steps * per_step)?;
        }
        let share = self.share()?;
        let mut history: Vec<Point> = std::mem::take(&mut self.resume.history).into_iter().map(Point::from).collect();
        let mut went_back = 0;
        let mut base = self.agreed()?;
        while self.trainer.step() < config.steps {
            let State { step: first, cursor, skipped } = self.trainer.state().clone();
            let every = self.setting.checkpoint_every;
            let end = config.steps.min((first / every + 1) * every);
            let samples = order::take(cursor, (end - first) * per_step, &skipped);
            if let Some(journal) = &mut self.journal {
                journal.lease(self.attempt, round, &samples, config.microbatches, config.sequences as u64)?;
            }
            // No rank uses a sample before the log has its lease.
            self.gang.from_rank_0(Vec::new())?;
            match self.steps(first, end, share.clone(), &mut history)? {
                Went::Well => {
                    let aggregate = self.agreed()?;
                    if let Some(journal) = &mut self.journal {
                        // Its parent is then the same, however fast the one before was written.
                        journal.settle(self.attempt)?;
                        checkpoint = journal.resume().round.as_ref().map(|round| round.checkpoint);
                        let snapshot = self.trainer.snapshot(checkpoint.map(|hash| hash.to_string()))?;
                        let snapshot = snapshot.with(super::finish::adapter(self.setting, self.source, &self.trainer)?);
                        let each = config.sequences as u64;
                        let contributions = super::journal::contributions(&samples, config.microbatches, each, |_| String::new());
                        let epoch = u64::from(self.attempt.launch.attempt.epoch);
                        let commit = Commit { round, epoch, base: base.clone(), contributions, aggregate: aggregate.clone() };
                        let loss = self.trainer.last_loss().unwrap_or(f64::NAN);
                        journal.keep(self.attempt, snapshot, commit, &history, loss, Vec::new())?;
                    }
                    base = aggregate;
                    round += 1;
                }
                Went::Wrong { at, skip, why } => {
                    went_back += 1;
                    if went_back > self.setting.guard_max {
                        let times = self.setting.guard_max;
                        return Err(Error::Unfit(format!("go on at step {at}: {why}; the guard may go back {times} times (`guard_max`)")));
                    }
                    if let Some(journal) = &mut self.journal {
                        journal.settle(self.attempt)?;
                        let skipped = Runs::of([skip.clone()]).unwrap_or_default();
                        let decision = "rollback".to_owned();
                        journal.guard(self.attempt, Guard { decision, step: at, why, skipped, back_to: first })?;
                        checkpoint = journal.resume().round.as_ref().map(|round| round.checkpoint);
                    }
                    checkpoint = agreed(self.gang, checkpoint)?;
                    self.go_back_to(checkpoint)?;
                    self.leave_out(skipped.into_iter().chain([skip]))?;
                    history.retain(|point| point.step < first);
                }
            }
        }
        if let Some(journal) = &mut self.journal {
            journal.close(self.attempt)?;
            checkpoint = journal.resume().round.as_ref().map(|round| round.checkpoint);
        }
        let checkpoint = agreed(self.gang, checkpoint)?;
        Ok((self.trainer, self.journal, checkpoint))
    }

    /// The steps of a round, up to its end or to one that goes wrong.
    fn steps(&mut self, first: u64, end: u64, share: Range<usize>, history: &mut Vec<Point>) -> Result<Went, Error> {
        for step in first..end {
            let from = self.trainer.state().cursor;
            let (report, waited) = match self.step(step, share.clone())? {
                Ok(done) => done,
                Err((what, value)) => {
                    // Nothing was changed by it; where its samples end follows from where they begin.
                    let skipped = self.trainer.state().skipped.clone();
                    let to = order::take(from, self.trainer.config().samples_per_step(), &skipped).last().map_or(from, |range| range.end);
                    return Ok(Went::Wrong { at: step, skip: from..to, why: format!("{what} is {value}") });
                }
            };
            let to = self.trainer.state().cursor;
            history.push(Point { step, loss: report.loss, gradient_norm: report.gradient_norm, from, to });
            // It may not leave out what an earlier round has consumed.
            let guard = muster_llm::train::Guard { steps_before: self.setting.guard.steps_before.min(step - first), ..self.setting.guard };
            if let Verdict::RollBack { skip, reason, .. } = guard.judge(history, &[first]) {
                let (Reason::NotFinite | Reason::Spike { .. }) = &reason;
                return Ok(Went::Wrong { at: step, skip, why: reason.to_string() });
            }
            if let Some(journal) = &mut self.journal {
                journal.stepped(self.attempt, &report, waited)?;
            }
        }
        Ok(Went::Well)
    }

    /// One step; the inner error is a number that is none.
    fn step(&mut self, step: u64, share: Range<usize>) -> Result<Stepped, Error> {
        let replicas = self.trainer.config().microbatches;
        let plan = self.trainer.plan();
        let mut work = Work::new(&self.trainer, self.setting.allow_accumulation);
        let partials = work.gradients(share, replicas, |replica| plan.get(replica).cloned().unwrap_or_default())?;
        let waited = work.waited;
        let partials = partials.into_iter().map(|partial| partial.map(sums)).collect();
        let sum = total(self.gang.all_reduce(replicas, partials)?)?;
        match self.trainer.apply(step, sum) {
            Ok(report) => Ok(Ok((report, waited))),
            Err(muster_llm::train::Error::NotFinite { what, value, .. }) => Ok(Err((what, value))),
            Err(other) => Err(other.into()),
        }
    }

    /// The hash of the weights, which all ranks must hold: those that went on from different ones would ruin them in silence.
    fn agreed(&mut self) -> Result<String, Error> {
        let hash = self.trainer.weights_hash()?;
        self.gang.agree(hash.as_bytes())?;
        Ok(hash)
    }

    fn go_back_to(&mut self, checkpoint: Option<Digest>) -> Result<(), Error> {
        let artifacts = self.attempt.artifacts.clone();
        match checkpoint {
            Some(hash) => {
                let manifest = manifest(&artifacts, hash)?;
                if let Some(why) = manifest.differs(self.trainer.compute().threads()) {
                    self.attempt.say(&why);
                }
                Ok(self.trainer.restore(&manifest, &reader(&artifacts))?)
            }
            None if self.trainer.step() == 0 && self.trainer.state().cursor == 0 => Ok(()),
            None => {
                self.trainer = self.source.trainer()?;
                Ok(())
            }
        }
    }

    /// Leaves out what is still to come of some samples.
    fn leave_out(&mut self, ranges: impl IntoIterator<Item = Range<u64>>) -> Result<(), Error> {
        for range in ranges {
            if range.start >= self.trainer.state().cursor {
                self.trainer.skip(range)?;
            }
        }
        Ok(())
    }

    /// The microbatches that this rank holds.
    fn share(&mut self) -> Result<Range<usize>, Error> {
        let replicas = self.trainer.config().microbatches;
        let speed = if self.setting.measured && self.attempt.launch.world > 1 { self.probe()? } else { 0 };
        let (ranges, speeds) = hold(self.gang, replicas, speed)?;
        if let Some(journal) = &mut self.journal
            && speeds.len() > 1
        {
            let counts: Vec<usize> = ranges.iter().map(ExactSizeIterator::len).collect();
            journal.shares(self.attempt, &speeds, &counts)?;
        }
        let rank = self.attempt.launch.rank as usize;
        ranges.get(rank).cloned().ok_or_else(|| Error::Unfit(format!("find the share of rank {rank}")))
    }

    /// Microbatches per 1,000 s, by some that change nothing.
    fn probe(&self) -> Result<u64, Error> {
        let plan = self.trainer.plan();
        probe(&self.trainer, plan.first().map_or(&[][..], Vec::as_slice))
    }
}

/// How often these samples could be learnt from in 1,000 s: the best of a few tries, since a machine may be busy with something else.
pub fn probe(trainer: &Trainer, samples: &[Range<u64>]) -> Result<u64, Error> {
    let mut best = f64::MAX;
    for _ in 0..PROBES {
        let began = Instant::now();
        Work::new(trainer, false).of(samples)?;
        best = best.min(began.elapsed().as_secs_f64());
    }
    Ok((1e3 / best.max(1e-6)) as u64)
}

/// Which replicas each rank holds, by the speeds of all; speeds that hardly differ count as equal. All ranks come to the same answer.
pub fn hold(gang: &mut Gang, replicas: usize, speed: u64) -> Result<(Vec<Range<usize>>, Vec<u64>), Error> {
    let said = gang.all_gather(speed.to_le_bytes().to_vec())?;
    let read = |bytes: Vec<u8>| bytes.try_into().map(u64::from_le_bytes).map_err(|_| Error::Unfit("read a rank's speed".to_owned()));
    let speeds = said.into_iter().map(read).collect::<Result<Vec<u64>, Error>>()?;
    let (least, most) = (speeds.iter().min().copied().unwrap_or(0), speeds.iter().max().copied().unwrap_or(0));
    let equal = (most as f64) < least as f64 * UNEQUAL_FROM;
    let counted = if equal { vec![0; speeds.len()] } else { speeds.clone() };
    Ok((shares(replicas, &counted)?, speeds))
}
