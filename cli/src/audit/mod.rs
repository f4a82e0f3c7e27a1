//! The sample audit: does the log prove that a training consumed each of its samples exactly once?
//!
//! It is a fold over a job's events that reads the records as text. Its structs, and its interval set, are
//! deliberately independent of those that the trainers write with: a shared bug would hide itself. So it must
//! never import the trainers' types or `protocol::training`.
//!
//! **Rules.** No lease holds samples that were consumed or skipped. A round consumes only samples that the
//! same attempt leased for it, once, and in the order of rounds. Samples leased by a killed attempt are
//! returned. At the end, no number below the last one is missing.

mod sample_set;

pub use sample_set::SampleSet;

use muster_protocol::event::Event;
use muster_protocol::ids::TaskId;
use muster_protocol::spec::{JobSpec, Work};
use muster_protocol::view::EventView;
use muster_protocol::worker::ProgressRecord;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;

/// Violations reported per stage: a mistake that repeats so often has one cause.
const VIOLATIONS_MAX: usize = 20;

#[derive(Deserialize)]
struct LeaseRecord {
    round: u64,
    samples: SampleSet,
}

#[derive(Deserialize)]
struct RoundRecord {
    round: u64,
    samples: SampleSet,
}

#[derive(Deserialize)]
struct GuardRecord {
    skipped: SampleSet,
}

#[derive(Deserialize)]
struct ResumeRecord {
    #[serde(default)]
    samples: u64,
}

#[derive(Debug)]
struct OpenLease {
    epoch: u32,
    samples: SampleSet,
}

/// The audit of one stage of `train`. Serialised as the output of `muster audit samples --json`.
#[derive(Debug, Serialize)]
pub struct StageAudit {
    pub stage: String,
    /// Committed rounds.
    pub rounds: u64,
    pub consumed: SampleSet,
    /// Samples that the loss guard skipped.
    pub skipped: SampleSet,
    /// Samples of the whole run, as the training announces it; 0 if it does not.
    pub planned: u64,
    pub leases: u64,
    /// Samples that were leased and then returned: the attempt was killed, rolled back or late.
    pub returned: u64,
    /// Attempts that leased samples.
    pub attempts: u64,
    pub violations: Vec<String>,
    #[serde(skip)]
    tasks: Range<u32>,
    #[serde(skip)]
    open: BTreeMap<u64, OpenLease>,
    #[serde(skip)]
    epochs: BTreeMap<TaskId, u32>,
}

#[derive(Debug, Serialize)]
pub struct Audit {
    pub stages: Vec<StageAudit>,
}

impl Audit {
    pub fn of(spec: &JobSpec) -> Audit {
        let mut first = 0u32;
        let mut stages = Vec::new();
        for stage in &spec.stages {
            let next = first.saturating_add(stage.tasks);
            if matches!(&stage.work, Work::Builtin(builtin) if builtin.executor == "train") {
                stages.push(StageAudit::new(&stage.name, first..next));
            }
            first = next;
        }
        Audit { stages }
    }

    /// Takes the next event of the job, in the order of the log.
    pub fn take(&mut self, view: &EventView) {
        let Event::ProgressRecorded(record) = &view.event else { return };
        let of = self.stages.iter_mut().find(|stage| stage.tasks.contains(&record.attempt.task.index));
        if let Some(stage) = of
            && let Err(what) = stage.take(record)
        {
            stage.violation(format!("{}: {} {}: {what}", view.index, record.attempt, record.key));
        }
    }

    /// Checks the totals after the last event. If the job `succeeded`, no planned sample may be missing.
    pub fn close(&mut self, succeeded: bool) {
        for stage in &mut self.stages {
            stage.close(succeeded);
        }
    }

    /// Whether the job trains, and without violations.
    pub fn holds(&self) -> bool {
        !self.stages.is_empty() && self.stages.iter().all(|stage| stage.violations.is_empty())
    }
}

impl StageAudit {
    fn new(stage: &str, tasks: Range<u32>) -> StageAudit {
        StageAudit {
            stage: stage.to_owned(),
            rounds: 0,
            consumed: SampleSet::default(),
            skipped: SampleSet::default(),
            planned: 0,
            leases: 0,
            returned: 0,
            attempts: 0,
            violations: Vec::new(),
            tasks,
            open: BTreeMap::new(),
            epochs: BTreeMap::new(),
        }
    }

    fn violation(&mut self, what: String) {
        match self.violations.len() {
            0..VIOLATIONS_MAX => self.violations.push(what),
            VIOLATIONS_MAX => self.violations.push("and more".to_owned()),
            _ => {}
        }
    }

    fn take(&mut self, record: &ProgressRecord) -> Result<(), String> {
        match record.key.as_str() {
            "lease" => self.lease(record, read(&record.body)?),
            "round" => self.commit(record, read(&record.body)?),
            "resume" => {
                let started: ResumeRecord = read(&record.body)?;
                self.planned = self.planned.max(started.samples);
                Ok(())
            }
            // Each decision of the guard has a key of its own.
            key if key.starts_with("guard/") => self.leave_out(read(&record.body)?),
            _ => Ok(()),
        }
    }

    fn lease(&mut self, record: &ProgressRecord, lease: LeaseRecord) -> Result<(), String> {
        let epoch = record.attempt.epoch;
        if self.epochs.insert(record.attempt.task, epoch) != Some(epoch) {
            self.attempts += 1;
        }
        self.leases += 1;
        // Returned: leases of earlier attempts, and after a rollback this attempt's leases of this round and
        // later ones.
        let returned: Vec<u64> = self
            .open
            .iter()
            .filter(|(round, open)| open.epoch < epoch || **round >= lease.round)
            .map(|(r, _)| *r)
            .collect();
        for round in returned {
            self.returned += self.open.remove(&round).map_or(0, |open| open.samples.count());
        }
        let next = self.rounds + self.open.len() as u64;
        let overlap = [("consumed", &self.consumed), ("left out", &self.skipped)].into_iter().find_map(
            |(how, numbers)| {
                let both = numbers.overlap(&lease.samples);
                (both > 0)
                    .then(|| format!("round {} leases {both} samples that were {how} before", lease.round))
            },
        );
        let twice = self
            .open
            .iter()
            .find(|(_, open)| open.samples.overlap(&lease.samples) > 0)
            .map(|(round, _)| *round);
        self.open.insert(lease.round, OpenLease { epoch, samples: lease.samples });
        match (overlap, twice) {
            (Some(overlap), _) => Err(overlap),
            (None, Some(other)) => {
                Err(format!("round {} leases samples that round {other} holds", lease.round))
            }
            (None, None) if lease.round != next => {
                Err(format!("round {} is leased where {next} would be next", lease.round))
            }
            (None, None) => Ok(()),
        }
    }

    fn commit(&mut self, record: &ProgressRecord, round: RoundRecord) -> Result<(), String> {
        let number = round.round;
        let expected = self.rounds;
        self.rounds = number + 1;
        let again = self.consumed.overlap(&round.samples);
        let lease = self.open.remove(&number);
        let outside = match &lease {
            Some(open) => round.samples.count() - open.samples.overlap(&round.samples),
            None => round.samples.count(),
        };
        self.returned +=
            lease.as_ref().map_or(0, |open| open.samples.count().saturating_sub(round.samples.count()));
        self.consumed.add(&round.samples);
        match lease {
            _ if number != expected => {
                Err(format!("round {number} is committed where {expected} would be next"))
            }
            _ if again > 0 => {
                Err(format!("round {number} consumes {again} samples that were consumed before"))
            }
            None => Err(format!("round {number} was not leased")),
            Some(open) if open.epoch != record.attempt.epoch => {
                Err(format!("round {number} was leased by epoch {}, which has ended", open.epoch))
            }
            Some(_) if outside > 0 => {
                Err(format!("round {number} consumes {outside} samples that were not leased to it"))
            }
            Some(_) => Ok(()),
        }
    }

    fn leave_out(&mut self, guard: GuardRecord) -> Result<(), String> {
        let both = self.consumed.overlap(&guard.skipped);
        self.skipped.add(&guard.skipped);
        if both > 0 { Err(format!("{both} samples are left out that were consumed before")) } else { Ok(()) }
    }

    fn close(&mut self, succeeded: bool) {
        let mut all = self.consumed.clone();
        all.add(&self.skipped);
        let (count, end) = (all.count(), all.end());
        if count < end {
            self.violation(format!("{} samples below {end} were neither consumed nor left out", end - count));
        }
        let consumed = self.consumed.count();
        // Samples that late replicas return in the last rounds are skipped, and no others are taken instead.
        let accounted = consumed <= self.planned && self.planned <= consumed + self.skipped.count();
        if succeeded && self.planned > 0 && !accounted {
            self.violation(format!("{consumed} samples were consumed where {} were planned", self.planned));
        }
        if succeeded && self.rounds == 0 {
            self.violation("no round was committed".to_owned());
        }
        if succeeded && let Some(round) = self.open.keys().next().copied() {
            self.violation(format!("round {round} was leased and never committed"));
        }
    }
}

fn read<'a, T: Deserialize<'a>>(body: &'a str) -> Result<T, String> {
    serde_json::from_str(body).map_err(|error| format!("the record can't be read: {error}"))
}

#[cfg(test)]
mod tests;
