//! DiLoCo's exchange: contributions by replica come to rank 0 until a deadline, and what came of them goes to
//! all.
//!
//! A rank that is late is not waited for once enough contributions are there: its own are thrown away unread,
//! the outcome waits for it on its link, and it learns from that that it was left out. **Invariant.** What
//! comes after a round has closed is never handed on.

use super::drive::{Exchange, Fault};
use super::frame::Kind;
use super::link::{Link, Queued};
use super::share::BYTES_MAX;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// When a round closes.
#[derive(Clone, Copy, Debug)]
pub struct Gathering {
    /// Logical replicas of the job.
    pub replicas: u32,
    /// How many contributions are enough when the time is up.
    pub min_contributions: u32,
    /// When it is.
    pub until: Instant,
}

/// What came of a round, as rank 0 tells all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The replicas whose contributions were merged, in order; all others are fenced: they adopt the outcome,
    /// and their work is lost.
    pub merged: Vec<u32>,
    /// The aggregate, or whatever rank 0 gave.
    pub bytes: Vec<u8>,
}

impl Outcome {
    /// Whether a replica was merged.
    pub fn has(&self, replica: u32) -> bool {
        self.merged.binary_search(&replica).is_ok()
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + self.merged.len() * 4 + self.bytes.len());
        out.extend((self.merged.len() as u32).to_le_bytes());
        self.merged.iter().for_each(|replica| out.extend(replica.to_le_bytes()));
        out.extend_from_slice(&self.bytes);
        out
    }

    fn decode(bytes: &[u8]) -> Option<Outcome> {
        let (count, rest) = bytes.split_first_chunk::<4>()?;
        let (merged, bytes) = rest.split_at_checked((u32::from_le_bytes(*count) as usize).checked_mul(4)?)?;
        let merged: Vec<u32> =
            merged.as_chunks::<4>().0.iter().map(|replica| u32::from_le_bytes(*replica)).collect();
        merged.is_sorted_by(|a, b| a < b).then(|| Outcome { merged, bytes: bytes.to_vec() })
    }

    /// As a message to all.
    pub fn message(&self, round: u32) -> Queued {
        Queued { kind: Kind::Outcome, tag: round, bytes: Arc::new(self.encode()) }
    }
}

/// Rank 0 gathers.
#[derive(Debug)]
pub struct Gather {
    round: u32,
    rule: Gathering,
    /// Contributions by replica, and the link that brought each.
    arrived: BTreeMap<u32, (Option<usize>, Vec<u8>)>,
    overdue: bool,
}

impl Gather {
    /// A round with rank 0's own contributions.
    pub fn new(round: u32, rule: Gathering, own: Vec<(u32, Vec<u8>)>) -> Gather {
        let arrived = own.into_iter().map(|(replica, bytes)| (replica, (None, bytes))).collect();
        Gather { round, rule, arrived, overdue: false }
    }

    /// What has arrived.
    pub fn into_contributions(self) -> BTreeMap<u32, Vec<u8>> {
        self.arrived.into_iter().map(|(replica, (_, bytes))| (replica, bytes)).collect()
    }

    /// The links that brought something: their ranks wait for the outcome.
    pub fn punctual(&self) -> Vec<usize> {
        self.arrived.values().filter_map(|(place, _)| *place).collect()
    }
}

impl Exchange for Gather {
    fn advance(&mut self, place: usize, link: &mut Link) -> Result<bool, Fault> {
        let before = link.heard();
        let Some((kind, round, mut bytes)) = link.message(BYTES_MAX)? else {
            return Ok(link.heard() > before);
        };
        if (kind, round) != (Kind::Contribution, self.round) {
            return Err(Fault::Disagrees(format!(
                "it sent {} of {round} at the wrong time, in round {}",
                kind.name(),
                self.round
            )));
        }
        let Some(replica) = bytes.split_last_chunk::<4>().map(|(_, last)| u32::from_le_bytes(*last)) else {
            return Err(Fault::Disagrees("it sent a contribution of no replica".to_owned()));
        };
        bytes.truncate(bytes.len() - 4);
        if replica >= self.rule.replicas {
            return Err(Fault::Disagrees(format!(
                "it contributes for replica {replica} of {}",
                self.rule.replicas
            )));
        }
        if self.arrived.insert(replica, (Some(place), bytes)).is_some() {
            return Err(Fault::Disagrees(format!(
                "it contributes for replica {replica}, which has contributed"
            )));
        }
        Ok(true)
    }

    fn awaits(&self, _place: usize, _link: &Link) -> bool {
        true
    }

    fn sends(&self, _place: usize) -> bool {
        false
    }

    fn needs_drained(&self, _place: usize) -> bool {
        false
    }

    fn idle(&mut self, now: Instant) {
        // Only now: what had come before the deadline counts, even if nobody had looked.
        self.overdue = now >= self.rule.until;
    }

    fn until(&self) -> Option<Instant> {
        (!self.overdue).then_some(self.rule.until)
    }

    fn done(&self, _links: &[Link]) -> bool {
        let count = self.arrived.len() as u32;
        count >= self.rule.replicas || self.overdue && count >= self.rule.min_contributions.max(1)
    }
}

/// Rank 0 waits until the ranks that wait for an outcome have it; the others take it when they come.
#[derive(Debug)]
pub struct Publish {
    /// By link.
    pub punctual: Vec<bool>,
}

impl Exchange for Publish {
    fn advance(&mut self, _place: usize, _link: &mut Link) -> Result<bool, Fault> {
        Ok(false)
    }

    fn awaits(&self, _place: usize, _link: &Link) -> bool {
        false
    }

    fn sends(&self, _place: usize) -> bool {
        false
    }

    fn needs_drained(&self, place: usize) -> bool {
        self.punctual[place]
    }

    fn done(&self, links: &[Link]) -> bool {
        links.iter().zip(&self.punctual).all(|(link, punctual)| !punctual || link.is_drained())
    }
}

/// Another rank contributes and waits for the outcome.
#[derive(Debug)]
pub struct Contribute {
    round: u32,
    /// What is not on its way yet.
    own: Vec<Queued>,
    outcome: Option<Outcome>,
}

impl Contribute {
    /// To a round, for some replicas.
    pub fn new(round: u32, own: Vec<(u32, Vec<u8>)>) -> Contribute {
        let message = |(replica, mut bytes): (u32, Vec<u8>)| {
            bytes.extend(replica.to_le_bytes());
            Queued { kind: Kind::Contribution, tag: round, bytes: Arc::new(bytes) }
        };
        Contribute { round, own: own.into_iter().rev().map(message).collect(), outcome: None }
    }

    /// Looks whether the outcome is there, and waits for nothing.
    pub fn look(&mut self, link: &mut Link) -> Result<(), Fault> {
        match link.message(BYTES_MAX)? {
            None => Ok(()),
            Some((Kind::Outcome, round, bytes)) if round == self.round => {
                let outcome = Outcome::decode(&bytes)
                    .ok_or_else(|| Fault::Disagrees("it sent an outcome that is none".to_owned()))?;
                self.outcome = Some(outcome);
                Ok(())
            }
            Some((kind, tag, _)) => Err(Fault::Disagrees(format!(
                "it sent {} of {tag} at the wrong time, in round {}",
                kind.name(),
                self.round
            ))),
        }
    }

    /// What came of it.
    pub fn into_outcome(self) -> Option<Outcome> {
        self.outcome
    }
}

impl Exchange for Contribute {
    fn advance(&mut self, place: usize, link: &mut Link) -> Result<bool, Fault> {
        // The first link is rank 0's.
        if place != 0 || self.outcome.is_some() {
            return Ok(false);
        }
        let before = link.heard();
        self.look(link)?;
        // A round that has closed already wants nothing more.
        if self.outcome.is_some() || link.heard() > before {
            return Ok(true);
        }
        let mut any = false;
        while let Some(message) = self.own.pop() {
            if !link.enqueue(message.clone()) {
                self.own.push(message);
                break;
            }
            any = true;
        }
        Ok(any)
    }

    fn awaits(&self, place: usize, _link: &Link) -> bool {
        place == 0 && self.outcome.is_none()
    }

    fn sends(&self, _place: usize) -> bool {
        false
    }

    fn needs_drained(&self, _place: usize) -> bool {
        false
    }

    fn done(&self, _links: &[Link]) -> bool {
        self.outcome.is_some()
    }
}
