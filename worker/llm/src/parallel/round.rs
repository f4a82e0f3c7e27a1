//! A DiLoCo round as its coordinator sees it: offers come, a deadline passes, the round closes, and whatever
//! comes later is fenced out.
//!
//! A pure state machine: the caller says when the deadline has passed. The round closes when every replica
//! has contributed, or when the deadline has passed and enough have; from then on what is merged is fixed.
//! **Invariant.** An offer that comes after that is never merged.

use super::{Commit, Contribution, Error, Runs};
use std::collections::BTreeMap;

/// What a round expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundPlan {
    /// Which round.
    pub round: u64,
    /// The fencing epoch: offers of another life of the gang do not count.
    pub epoch: u64,
    /// Hash of the global weights that all begin with.
    pub base: String,
    /// The samples that are leased to each replica, in order of replica.
    pub leases: Vec<Runs>,
    /// How many contributions are enough once the deadline has passed; at least 1.
    pub min_contributions: usize,
}

/// A contribution that a replica offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// For which round.
    pub round: u64,
    /// In which life of the gang.
    pub epoch: u64,
    /// Hash of the global weights that it began with.
    pub base: String,
    /// What it gives.
    pub contribution: Contribution,
}

/// An offer that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It counts.
    First,
    /// It was there already, the same.
    Again,
}

/// Why an offer is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The round it is for has ended, or this one has closed: the replica must take the aggregate and go on.
    #[error("merge replica {replica} into round {round}: it has closed")]
    Fenced {
        /// Who.
        replica: u32,
        /// The round that was offered to.
        round: u64,
    },
    /// It is for a round that has not begun.
    #[error("merge replica {replica} into round {offered}: round {round} has not ended")]
    Early {
        /// Who.
        replica: u32,
        /// The round that was offered to.
        offered: u64,
        /// The round that is open.
        round: u64,
    },
    /// It is of another life of the gang.
    #[error("merge replica {replica}: it offers in epoch {offered}, and this is epoch {epoch}")]
    OtherEpoch {
        /// Who.
        replica: u32,
        /// Its epoch.
        offered: u64,
        /// Ours.
        epoch: u64,
    },
    /// There is no such replica.
    #[error("merge replica {replica}: there are {replicas}")]
    Unknown {
        /// Who.
        replica: u32,
        /// How many there are.
        replicas: usize,
    },
    /// It learnt from other samples, or began elsewhere.
    #[error("merge replica {replica}: its {what} is {offered} instead of {expected}")]
    Differs {
        /// Who.
        replica: u32,
        /// What differs.
        what: &'static str,
        /// As offered.
        offered: String,
        /// As expected.
        expected: String,
    },
}

/// Where a round stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It waits for these replicas.
    Open {
        /// Who has not contributed.
        missing: Vec<u32>,
    },
    /// The deadline has passed, and too few have contributed: it closes with the next that make enough.
    Overdue {
        /// Who has not contributed.
        missing: Vec<u32>,
        /// How many contributions are still needed.
        needed: usize,
    },
    /// It has closed: these are left out.
    Closed {
        /// Who is fenced.
        left_out: Vec<u32>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Overdue,
    Closed,
}

/// A round.
#[derive(Clone, Debug)]
pub struct Round {
    plan: RoundPlan,
    offered: BTreeMap<u32, Contribution>,
    phase: Phase,
}

impl Round {
    /// Opens a round.
    ///
    /// # Errors
    /// When it could never close, or leases a sample twice.
    pub fn open(plan: RoundPlan) -> Result<Round, Error> {
        let replicas = plan.leases.len();
        let refuse = |reason: String| Error::Commit { round: plan.round, reason };
        if !(1..=replicas).contains(&plan.min_contributions) {
            return Err(refuse(format!(
                "{} contributions of {replicas} replicas can't be enough",
                plan.min_contributions
            )));
        }
        if Runs::of(plan.leases.iter().flat_map(Runs::ranges)).is_none() {
            return Err(refuse("a sample is leased to two replicas".to_owned()));
        }
        Ok(Round { plan, offered: BTreeMap::new(), phase: Phase::Open })
    }

    /// A replica offers its contribution.
    ///
    /// # Errors
    /// A [`Refusal`]; nothing is then changed.
    pub fn offer(&mut self, offer: &Offer) -> Result<Accepted, Refusal> {
        let Offer { round, epoch, base, contribution } = offer;
        let replica = contribution.replica;
        let plan = &self.plan;
        if *epoch != plan.epoch {
            return Err(Refusal::OtherEpoch { replica, offered: *epoch, epoch: plan.epoch });
        }
        if *round < plan.round {
            return Err(Refusal::Fenced { replica, round: *round });
        }
        if *round > plan.round {
            return Err(Refusal::Early { replica, offered: *round, round: plan.round });
        }
        let Some(lease) = plan.leases.get(replica as usize) else {
            return Err(Refusal::Unknown { replica, replicas: plan.leases.len() });
        };
        let differs = |what, offered: &dyn ToString, expected: &dyn ToString| {
            Err(Refusal::Differs {
                replica,
                what,
                offered: offered.to_string(),
                expected: expected.to_string(),
            })
        };
        if *base != plan.base {
            return differs("base", base, &plan.base);
        }
        if contribution.samples != *lease {
            return differs("lease", &contribution.samples, lease);
        }
        match self.offered.get(&replica) {
            Some(first) if first == contribution => return Ok(Accepted::Again),
            Some(first) => return differs("delta", &contribution.delta, &first.delta),
            None if self.phase == Phase::Closed => return Err(Refusal::Fenced { replica, round: *round }),
            None => {}
        }
        self.offered.insert(replica, contribution.clone());
        self.settle();
        Ok(Accepted::First)
    }

    /// The deadline has passed.
    pub fn deadline_passed(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Overdue;
        }
        self.settle();
    }

    fn settle(&mut self) {
        let all = self.offered.len() == self.plan.leases.len();
        let enough = self.phase == Phase::Overdue && self.offered.len() >= self.plan.min_contributions;
        if all || enough {
            self.phase = Phase::Closed;
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let missing = (0..self.plan.leases.len() as u32)
            .filter(|replica| !self.offered.contains_key(replica))
            .collect();
        match self.phase {
            Phase::Open => Verdict::Open { missing },
            Phase::Overdue => Verdict::Overdue {
                missing,
                needed: self.plan.min_contributions.saturating_sub(self.offered.len()),
            },
            Phase::Closed => Verdict::Closed { left_out: missing },
        }
    }

    /// What the log is told, once the round has closed and its contributions have been merged into the delta
    /// with hash `aggregate`.
    ///
    /// # Errors
    /// When the round has not closed.
    pub fn commit(&self, aggregate: &str) -> Result<Commit, Error> {
        let RoundPlan { round, epoch, base, .. } = &self.plan;
        match self.phase {
            Phase::Closed => Ok(Commit {
                round: *round,
                epoch: *epoch,
                base: base.clone(),
                contributions: self.offered.values().cloned().collect(),
                aggregate: aggregate.to_owned(),
            }),
            Phase::Open | Phase::Overdue => Err(Error::Commit {
                round: *round,
                reason: format!("it has not closed: {:?}", self.verdict()),
            }),
        }
    }
}

#[cfg(test)]
#[path = "round_tests.rs"]
mod tests;
