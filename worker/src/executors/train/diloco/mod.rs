//! `diloco`: logical replicas go alone for some steps each, and meet in rounds (Douillard et al. 2023).
//!
//! A round's samples are leased before it begins: dealt in turns to all replicas. Each replica offers what it has learnt as an int8 delta;
//! rank 0 closes the round when all have, or when its time is up and enough have, and moves the global weights by the mean. The round's
//! commit names its checkpoint: global weights, momentum, and each replica's moments, so that a restart goes on with the same bits. A late
//! replica is fenced: its work is lost, its moments go back, and its samples are dealt again.

mod deal;
mod state;

use super::{
    Ended, Rank,
    journal::contributions,
    records::Guard,
    saver::{manifest, reader},
    work::Work,
};
use crate::{
    artifacts::Artifacts,
    collective::{Gathering, Outcome},
    executors::error::Error,
};
use deal::Deal;
use muster_llm::{
    durable,
    parallel::{Contribution, Int8, Offer, Outer, Replica, Round, RoundPlan, Runs, mean_delta, replica::Feedback},
    train::{Manifest, State, adamw::Moments, order},
};
use muster_protocol::ids::Digest;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    ops::Range,
    time::{Duration, Instant},
};

const STATE_FILE: &str = "diloco.json";
const MOMENTUM_FILE: &str = "outer-momentum.f32";

/// Rounds.
pub struct Diloco<'a>(pub Rank<'a>);

/// What all ranks know alike.
struct Global {
    round: u64,
    weights: Vec<f32>,
    outer: Outer,
    deal: Deal,
}

/// The file of a checkpoint that has what is neither weights nor moments of replica 0.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    deal: Deal,
    /// By replica: the artifact with its moments; none before its first contribution.
    states: BTreeMap<u32, Digest>,
}

/// What stands before a delta.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    /// The artifact with the replica's moments.
    state: Digest,
    /// Its last loss.
    loss: f64,
}

/// What replicas offer, and what came of the round if it has closed without them.
type Learnt = (Vec<(u32, Vec<u8>)>, Option<Outcome>);

impl Diloco<'_> {
    /// Goes through all rounds.
    pub fn run(mut self) -> Result<Ended, Error> {
        let rounds = self.0.setting.rounds;
        let all = self.0.setting.train.steps / rounds.inner_steps;
        let (mut global, mut kept) = self.begin()?;
        let speed = self.0.speed(std::slice::from_ref(&(0..self.0.setting.train.sequences as u64)))?;
        let ranges = self.0.hold(rounds.replicas, speed)?;
        let mut mine = self.replicas(&ranges, &global, &kept)?;
        let planned = all * self.per_round();
        if let Some(journal) = &mut self.0.journal {
            journal.started(self.0.attempt, global.round * rounds.inner_steps, planned)?;
        }
        if global.round < all {
            self.lease(&global)?;
        }
        // No rank uses a sample before the log has its lease; later leases are in the log before the outcome of the round before is told.
        self.0.gang.from_rank_0(Vec::new())?;
        while global.round < all {
            let until = Instant::now() + rounds.time;
            let samples = global.deal.take(self.per_round());
            let base = durable::hash(&state::to_bytes(&global.weights));
            let leases = contributions(&samples, rounds.replicas, self.each(), |_| String::new());
            let (own, outcome) = self.learn(&mut mine, &global, &samples)?;
            let states: BTreeMap<u32, Digest> =
                own.iter().filter_map(|(replica, bytes)| Some((*replica, head(bytes).ok()?.0.state))).collect();
            let outcome = match outcome {
                Some(outcome) => outcome,
                None if self.0.attempt.launch.rank == 0 => self.close(&mut global, &mut kept, &leases, &base, own, until)?,
                None => self.0.gang.contribute(global.round as u32, own)?,
            };
            if self.0.attempt.launch.rank != 0 {
                let mean = state::from_bytes("a round's mean delta", &outcome.bytes, global.weights.len())?;
                adopt(&mut global, &outcome, &leases, &mean)?;
            }
            for replica in &mut mine {
                let merged = outcome.has(replica.replica);
                replica.adopt(&global.weights, merged)?;
                match (merged, states.get(&replica.replica), kept.states.get(&replica.replica)) {
                    (true, Some(state), _) => drop(kept.states.insert(replica.replica, *state)),
                    // What it learnt is lost; so are the moments that came of it.
                    (_, _, Some(state)) => replica.moments = state::moments(&self.0.attempt.artifacts.get(*state)?, global.weights.len())?,
                    (_, _, None) => replica.moments = Moments::zero(global.weights.len()),
                }
            }
        }
        self.end(&global)
    }

    fn each(&self) -> u64 {
        self.0.setting.train.samples_per_step()
    }

    fn per_round(&self) -> u64 {
        self.0.setting.rounds.replicas as u64 * self.0.setting.rounds.inner_steps * self.each()
    }

    /// Where the last committed round ended, or the start.
    fn begin(&mut self) -> Result<(Global, Kept), Error> {
        let outer = self.0.setting.rounds.outer;
        let Some(round) = self.0.resume.round.take() else {
            let weights = self.0.trainer.weights()?;
            let outer = Outer::new(outer, weights.len())?;
            return Ok((Global { round: 0, weights, outer, deal: Deal::default() }, Kept::default()));
        };
        let artifacts = self.0.attempt.artifacts.clone();
        let (manifest, read) = (manifest(&artifacts, round.checkpoint)?, reader(&artifacts));
        self.0.trainer.restore(&manifest, &read)?;
        let file = |name: &str| {
            let file = manifest.file(name, &read)?;
            file.ok_or_else(|| Error::Unfit(format!("go on from {}: it has no file {name}, so it is of no rounds", round.checkpoint)))
        };
        let kept: Kept = serde_json::from_slice(&file(STATE_FILE)?)
            .map_err(|e| Error::Unfit(format!("read {STATE_FILE} of {}: {e}", round.checkpoint)))?;
        let weights = self.0.trainer.weights()?;
        let outer = Outer::with_momentum(outer, state::from_bytes(MOMENTUM_FILE, &file(MOMENTUM_FILE)?, weights.len())?)?;
        Ok((Global { round: round.round + 1, weights, outer, deal: kept.deal.clone() }, kept))
    }

    /// The replicas that this rank holds.
    fn replicas(&self, ranges: &[Range<usize>], global: &Global, kept: &Kept) -> Result<Vec<Replica>, Error> {
        let rank = self.0.attempt.launch.rank as usize;
        let range = ranges.get(rank).cloned().ok_or_else(|| Error::Unfit(format!("find the share of rank {rank}")))?;
        let of = |replica: usize| {
            let replica = replica as u32;
            let Some(state) = kept.states.get(&replica) else { return Ok(Replica::new(replica, &global.weights, Feedback::Off)) };
            let moments = state::moments(&self.0.attempt.artifacts.get(*state)?, global.weights.len())?;
            Ok(Replica::resume(replica, &global.weights, moments, None)?)
        };
        range.map(of).collect()
    }

    fn lease(&mut self, global: &Global) -> Result<(), Error> {
        let samples = global.deal.clone().take(self.per_round());
        let (replicas, each) = (self.0.setting.rounds.replicas, self.each());
        match &mut self.0.journal {
            Some(journal) => journal.lease(self.0.attempt, global.round, &samples, replicas, each),
            None => Ok(()),
        }
    }

    /// All inner steps of our replicas: what they offer, or the outcome of a round that has closed without us.
    fn learn(&mut self, mine: &mut [Replica], global: &Global, samples: &[Range<u64>]) -> Result<Learnt, Error> {
        let mut own = Vec::new();
        for (place, replica) in mine.iter_mut().enumerate() {
            let moments = std::mem::replace(&mut replica.moments, Moments { first: Vec::new(), second: Vec::new() });
            let state = State { step: global.round * self.0.setting.rounds.inner_steps, ..State::default() };
            self.0.trainer.put(state, &replica.weights, moments)?;
            let mut loss = 0.0;
            for inner in 0..self.0.setting.rounds.inner_steps {
                if self.0.attempt.launch.rank != 0
                    && let Some(outcome) = self.0.gang.closed(global.round as u32)?
                {
                    return Ok((Vec::new(), Some(outcome)));
                }
                let turn = inner * self.0.setting.rounds.replicas as u64 + u64::from(replica.replica);
                let numbers = order::part(samples, turn * self.each(), self.each());
                let (mut report, waited) = self.step(&numbers)?;
                loss = report.loss;
                // Rank 0's first replica tells of all.
                report.tokens *= self.0.setting.rounds.replicas as u64;
                if let Some(journal) = &mut self.0.journal
                    && place == 0
                {
                    journal.stepped(self.0.attempt, &report, waited)?;
                }
            }
            replica.weights = self.0.trainer.weights()?;
            replica.moments = self.0.trainer.moments()?;
            let delta = replica.delta(&global.weights)?;
            let head = Head { state: self.0.attempt.artifacts.put(&state::of(replica))?, loss };
            let mut bytes = serde_json::to_vec(&head).map_err(|e| Error::Unfit(format!("write what a replica offers: {e}")))?;
            bytes.push(b'\n');
            bytes.extend(delta.to_bytes());
            own.push((replica.replica, bytes));
        }
        Ok((own, None))
    }

    /// One inner step of the replica that the trainer stands for.
    fn step(&mut self, numbers: &[Range<u64>]) -> Result<(muster_llm::train::StepReport, Duration), Error> {
        let (microbatches, sequences) = (self.0.setting.train.microbatches, self.0.setting.train.sequences as u64);
        let mut work = Work::new(&self.0.trainer, self.0.setting.allow_accumulation);
        let part = |microbatch: usize| order::part(numbers, microbatch as u64 * sequences, sequences);
        let mut partials = work.gradients(0..microbatches, microbatches, part)?;
        let waited = work.waited;
        let (Some(whole), true) = (partials.pop(), partials.is_empty()) else {
            return Err(Error::Unfit("sum the microbatches of a replica: some are missing".to_owned()));
        };
        Ok((self.0.trainer.apply(self.0.trainer.step(), whole.values)?, waited))
    }

    /// As rank 0: gathers, closes, commits, leases the next round, and tells all what came of this one.
    fn close(
        &mut self,
        global: &mut Global,
        kept: &mut Kept,
        leases: &[Contribution],
        base: &str,
        own: Vec<(u32, Vec<u8>)>,
        until: Instant,
    ) -> Result<Outcome, Error> {
        let rounds = self.0.setting.rounds;
        let number = global.round;
        let rule = Gathering { replicas: rounds.replicas as u32, min_contributions: rounds.min_contributions as u32, until };
        let arrived = self.0.gang.gather(number as u32, rule, own)?;
        let epoch = u64::from(self.0.attempt.launch.attempt.epoch);
        let samples: Vec<Runs> = leases.iter().map(|lease| lease.samples.clone()).collect();
        let plan = RoundPlan { round: number, epoch, base: base.to_owned(), leases: samples, min_contributions: rounds.min_contributions };
        let mut round = Round::open(plan)?;
        let (mut deltas, mut loss) = (Vec::new(), 0.0);
        for (replica, bytes) in &arrived {
            let (head, delta) = head(bytes)?;
            let samples = leases.get(*replica as usize).map(|lease| lease.samples.clone()).unwrap_or_default();
            let contribution = Contribution { replica: *replica, samples, delta: delta.hash() };
            let offer = Offer { round: number, epoch, base: base.to_owned(), contribution };
            round.offer(&offer).map_err(|refusal| Error::Unfit(refusal.to_string()))?;
            kept.states.insert(*replica, head.state);
            loss += head.loss / arrived.len() as f64;
            deltas.push((*replica, delta));
        }
        round.deadline_passed();
        let mean = mean_delta(global.weights.len(), &deltas)?;
        let bytes = state::to_bytes(&mean);
        let commit = round.commit(&durable::hash(&bytes))?;
        let outcome = Outcome { merged: arrived.keys().copied().collect(), bytes };
        adopt(global, &outcome, leases, &mean)?;
        kept.deal = global.deal.clone();
        self.keep(global, kept, commit, loss)?;
        if global.round < self.0.setting.train.steps / rounds.inner_steps {
            self.lease(global)?;
        }
        self.0.gang.publish(number as u32, &outcome)?;
        Ok(outcome)
    }

    /// The checkpoint at the end of a round, and its commit.
    fn keep(&mut self, global: &Global, kept: &Kept, commit: muster_llm::parallel::Commit, loss: f64) -> Result<(), Error> {
        self.stand_at(global, kept.states.get(&0).copied())?;
        let Some(journal) = &mut self.0.journal else { return Ok(()) };
        let before = journal.resume().round.as_ref().map(|round| round.checkpoint.to_string());
        let about = serde_json::to_vec(kept).map_err(|e| Error::Unfit(format!("write {STATE_FILE}: {e}")))?;
        let snapshot = self.0.trainer.snapshot(before)?;
        let snapshot = snapshot.with(super::finish::adapter(self.0.setting, self.0.source, &self.0.trainer)?);
        let snapshot =
            snapshot.with([(STATE_FILE.to_owned(), about), (MOMENTUM_FILE.to_owned(), state::to_bytes(global.outer.momentum()))]);
        journal.keep(self.0.attempt, snapshot, commit, &[], loss, kept.states.values().copied().collect())?;
        // The next round begins from it, so there is nothing to do meanwhile.
        journal.settle(self.0.attempt)
    }

    /// Puts the global weights into the trainer.
    fn stand_at(&mut self, global: &Global, state: Option<Digest>) -> Result<(), Error> {
        let count = global.weights.len();
        let moments = match state {
            Some(state) => state::moments(&self.0.attempt.artifacts.get(state)?, count)?,
            None => Moments::zero(count),
        };
        let step = global.round * self.0.setting.rounds.inner_steps;
        let state = State { step, cursor: global.deal.cursor(), skipped: Vec::new() };
        Ok(self.0.trainer.put(state, &global.weights, moments)?)
    }

    fn end(mut self, global: &Global) -> Result<Ended, Error> {
        self.stand_at(global, None)?;
        let hash = self.0.trainer.weights_hash()?;
        let theirs = self.0.gang.from_rank_0(hash.clone().into_bytes())?;
        if theirs != hash.as_bytes() {
            return Err(Error::Unfit(format!("end the rounds: this rank holds the weights {hash}, and rank 0 others")));
        }
        if let Some(journal) = &mut self.0.journal {
            if let Some(skipped) = Runs::of(global.deal.returned().iter().cloned()).filter(|runs| runs.count() > 0) {
                let why = "late replicas gave them back, and no round is left".to_owned();
                let (decision, step) = ("leave out".to_owned(), self.0.trainer.step());
                journal.guard(self.0.attempt, Guard { decision, step, why, skipped, back_to: step })?;
            }
            journal.close(self.0.attempt)?;
        }
        let checkpoint = self.0.last_checkpoint()?;
        Ok((self.0.trainer, self.0.journal, checkpoint))
    }
}

/// Moves the global weights by a round's outcome; samples of replicas that are not in it go back.
fn adopt(global: &mut Global, outcome: &Outcome, leases: &[Contribution], mean: &[f32]) -> Result<(), Error> {
    global.outer.step(&mut global.weights, mean)?;
    for lease in leases.iter().filter(|lease| !outcome.has(lease.replica)) {
        global.deal.give_back(lease.samples.ranges());
    }
    global.round += 1;
    Ok(())
}

/// The artifacts that a checkpoint of rounds has beside its files: the replicas' moments.
pub fn states(artifacts: &Artifacts, manifest: &Manifest) -> Result<Vec<Digest>, Error> {
    let kept = manifest.file(STATE_FILE, &reader(artifacts))?;
    let kept: Kept = kept
        .map_or(Ok(Kept::default()), |bytes| serde_json::from_slice(&bytes).map_err(|e| Error::Unfit(format!("read {STATE_FILE}: {e}"))))?;
    Ok(kept.states.into_values().collect())
}

/// What stands before a delta, and the delta.
fn head(bytes: &[u8]) -> Result<(Head, Int8), Error> {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let head = serde_json::from_slice(&bytes[..end]).map_err(|e| Error::Unfit(format!("read what a replica offers: {e}")))?;
    Ok((head, Int8::from_bytes(bytes.get(end + 1..).unwrap_or_default())?))
}
