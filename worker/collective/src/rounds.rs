//! The rounds of DiLoCo (Douillard et al. 2023, arXiv:2311.08105): replicas contribute to rank 0 until a
//! deadline, and rank 0 sends the outcome to all.
//!
//! Once there are enough contributions, late ranks are not waited for: theirs are dropped unread, and the
//! outcome, queued on their connection, tells them. **Invariant**: a contribution that arrives after its
//! round has closed never reaches the caller.

use super::connection::{Connection, QueuedMessage};
use super::frame::Kind;
use super::gather::BYTES_MAX;
use super::poll_loop::{Exchange, ExchangeError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// When a round closes.
#[derive(Clone, Copy, Debug)]
pub struct RoundQuorum {
    /// The number of logical replicas of the job.
    pub replicas: u32,
    /// How many contributions suffice at the deadline.
    pub min_contributions: u32,
    /// When the round stops waiting for all.
    pub until: Instant,
}

/// The outcome of a round, as rank 0 sends it to all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundOutcome {
    /// The replicas whose contributions were merged, ascending. All others adopt the outcome, and their work
    /// is lost.
    pub merged: Vec<u32>,
    /// The aggregate, as rank 0 encoded it.
    pub bytes: Vec<u8>,
}

impl RoundOutcome {
    /// Whether the contribution of `replica` was merged.
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

    fn decode(bytes: &[u8]) -> Option<RoundOutcome> {
        let (count, rest) = bytes.split_first_chunk::<4>()?;
        let (merged, bytes) = rest.split_at_checked((u32::from_le_bytes(*count) as usize).checked_mul(4)?)?;
        let merged: Vec<u32> =
            merged.as_chunks::<4>().0.iter().map(|replica| u32::from_le_bytes(*replica)).collect();
        merged.is_sorted_by(|a, b| a < b).then(|| RoundOutcome { merged, bytes: bytes.to_vec() })
    }

    /// The message that carries it.
    pub fn message(&self, round: u32) -> QueuedMessage {
        QueuedMessage { kind: Kind::Outcome, tag: round, bytes: Arc::new(self.encode()) }
    }
}

/// Rank 0's side of a round: collects contributions.
#[derive(Debug)]
pub struct GatherRound {
    round: u32,
    quorum: RoundQuorum,
    /// Contributions by replica, each with the index of its connection; `None` for rank 0's own.
    arrived: BTreeMap<u32, (Option<usize>, Vec<u8>)>,
    deadline_passed: bool,
}

impl GatherRound {
    /// Starts with rank 0's own contributions.
    pub fn new(round: u32, quorum: RoundQuorum, own: Vec<(u32, Vec<u8>)>) -> GatherRound {
        let arrived = own.into_iter().map(|(replica, bytes)| (replica, (None, bytes))).collect();
        GatherRound { round, quorum, arrived, deadline_passed: false }
    }

    /// The contributions by replica.
    pub fn into_contributions(self) -> BTreeMap<u32, Vec<u8>> {
        self.arrived.into_iter().map(|(replica, (_, bytes))| (replica, bytes)).collect()
    }

    /// The connections that contributed: their ranks wait for the outcome.
    pub fn contributors(&self) -> Vec<usize> {
        self.arrived.values().filter_map(|(index, _)| *index).collect()
    }
}

impl Exchange for GatherRound {
    fn advance(&mut self, index: usize, connection: &mut Connection) -> Result<bool, ExchangeError> {
        let before = connection.last_received();
        let Some((kind, round, mut bytes)) = connection.next_message(BYTES_MAX)? else {
            return Ok(connection.last_received() > before);
        };
        if (kind, round) != (Kind::Contribution, self.round) {
            return Err(ExchangeError::Mismatch(format!(
                "it sent {} of {round} at the wrong time, in round {}",
                kind.name(),
                self.round
            )));
        }
        let Some(replica) = bytes.split_last_chunk::<4>().map(|(_, last)| u32::from_le_bytes(*last)) else {
            return Err(ExchangeError::Mismatch("it sent a contribution of no replica".to_owned()));
        };
        bytes.truncate(bytes.len() - 4);
        if replica >= self.quorum.replicas {
            return Err(ExchangeError::Mismatch(format!(
                "it contributes for replica {replica} of {}",
                self.quorum.replicas
            )));
        }
        if self.arrived.insert(replica, (Some(index), bytes)).is_some() {
            return Err(ExchangeError::Mismatch(format!(
                "it contributes for replica {replica}, which has contributed"
            )));
        }
        Ok(true)
    }

    fn awaits(&self, _place: usize, _link: &Connection) -> bool {
        true
    }

    fn sends(&self, _place: usize) -> bool {
        false
    }

    fn needs_drained(&self, _place: usize) -> bool {
        false
    }

    fn idle(&mut self, now: Instant) {
        // Not earlier: contributions that arrived before the deadline count even if they were not read yet.
        self.deadline_passed = now >= self.quorum.until;
    }

    fn deadline(&self) -> Option<Instant> {
        (!self.deadline_passed).then_some(self.quorum.until)
    }

    fn done(&self, _links: &[Connection]) -> bool {
        let count = self.arrived.len() as u32;
        count >= self.quorum.replicas || self.deadline_passed && count >= self.quorum.min_contributions.max(1)
    }
}

/// Rank 0 waits until the outcome is sent to the contributors; late ranks read it later.
#[derive(Debug)]
pub struct PublishRound {
    /// By connection: whether its rank contributed.
    pub contributors: Vec<bool>,
}

impl Exchange for PublishRound {
    fn advance(&mut self, _place: usize, _link: &mut Connection) -> Result<bool, ExchangeError> {
        Ok(false)
    }

    fn awaits(&self, _place: usize, _link: &Connection) -> bool {
        false
    }

    fn sends(&self, _place: usize) -> bool {
        false
    }

    fn needs_drained(&self, index: usize) -> bool {
        self.contributors[index]
    }

    fn done(&self, connections: &[Connection]) -> bool {
        connections
            .iter()
            .zip(&self.contributors)
            .all(|(connection, contributors)| !contributors || connection.is_drained())
    }
}

/// Another rank's side of a round: contributes, and waits for the outcome.
#[derive(Debug)]
pub struct ContributeRound {
    round: u32,
    /// Contributions that are not queued yet, the next one last.
    own: Vec<QueuedMessage>,
    outcome: Option<RoundOutcome>,
}

impl ContributeRound {
    /// Contributes `own`, by replica.
    pub fn new(round: u32, own: Vec<(u32, Vec<u8>)>) -> ContributeRound {
        let message = |(replica, mut bytes): (u32, Vec<u8>)| {
            bytes.extend(replica.to_le_bytes());
            QueuedMessage { kind: Kind::Contribution, tag: round, bytes: Arc::new(bytes) }
        };
        ContributeRound { round, own: own.into_iter().rev().map(message).collect(), outcome: None }
    }

    /// Reads the outcome if it has arrived, without waiting.
    pub fn poll(&mut self, connection: &mut Connection) -> Result<(), ExchangeError> {
        match connection.next_message(BYTES_MAX)? {
            None => Ok(()),
            Some((Kind::Outcome, round, bytes)) if round == self.round => {
                let outcome = RoundOutcome::decode(&bytes).ok_or_else(|| {
                    ExchangeError::Mismatch("it sent an outcome that can't be read".to_owned())
                })?;
                self.outcome = Some(outcome);
                Ok(())
            }
            Some((kind, tag, _)) => Err(ExchangeError::Mismatch(format!(
                "it sent {} of {tag} at the wrong time, in round {}",
                kind.name(),
                self.round
            ))),
        }
    }

    /// The outcome, if it has arrived.
    pub fn into_outcome(self) -> Option<RoundOutcome> {
        self.outcome
    }
}

impl Exchange for ContributeRound {
    fn advance(&mut self, index: usize, connection: &mut Connection) -> Result<bool, ExchangeError> {
        // The first connection is to rank 0.
        if index != 0 || self.outcome.is_some() {
            return Ok(false);
        }
        let before = connection.last_received();
        self.poll(connection)?;
        // A round that has closed already needs no contribution.
        if self.outcome.is_some() || connection.last_received() > before {
            return Ok(true);
        }
        let mut any = false;
        while let Some(message) = self.own.pop() {
            if !connection.enqueue(message.clone()) {
                self.own.push(message);
                break;
            }
            any = true;
        }
        Ok(any)
    }

    fn awaits(&self, index: usize, _link: &Connection) -> bool {
        index == 0 && self.outcome.is_none()
    }

    fn sends(&self, _place: usize) -> bool {
        false
    }

    fn needs_drained(&self, _place: usize) -> bool {
        false
    }

    fn done(&self, _links: &[Connection]) -> bool {
        self.outcome.is_some()
    }
}
