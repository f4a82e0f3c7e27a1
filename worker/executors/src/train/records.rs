//! What a training records besides [`muster_protocol::training`]: the account of a round, and where a restart
//! resumes.

use muster_llm::diloco;
use muster_llm::train::checkpoint::CheckpointInfo;
use muster_llm::train::guard::LossPoint;
use muster_protocol::ids::Digest;
use muster_protocol::interval_set::IntervalSet;
use muster_protocol::limits::PROGRESS_BODY_BYTES_MAX;
use muster_protocol::training::{GuardRecord, RoundRecord};
use serde::{Deserialize, Serialize};

/// A round, with its samples as a set.
pub type Round = RoundRecord<IntervalSet<u64>>;
/// A decision of the guard, with its samples as a set.
pub type Guard = GuardRecord<IntervalSet<u64>>;

/// A round that waits for its checkpoint to be durable.
#[derive(Clone, Debug)]
pub struct PendingRound {
    /// Steps done with it.
    pub step: u64,
    /// The last loss.
    pub loss: f64,
    /// The whole account.
    pub account: RoundAccount,
}

/// The payload of a round's record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoundAccount {
    /// The contributions, by replica.
    pub commit: diloco::RoundCommit,
    /// The last steps, as the guard sees them: a restart judges the next as this life would have.
    pub history: Vec<PastStep>,
    /// Checkpoints that are kept, with this one.
    pub kept: Vec<StoredCheckpoint>,
    /// Those that no rule keeps any more: a process that is killed while it removes them leaves that to the
    /// next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<StoredCheckpoint>,
}

/// A step as the guard sees it: its number, loss, gradient's norm (as bits, since a text may lose the last),
/// and samples.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct PastStep(u64, u64, u64, u64, u64);

impl From<&LossPoint> for PastStep {
    fn from(point: &LossPoint) -> PastStep {
        PastStep(point.step, point.loss.to_bits(), point.gradient_norm.to_bits(), point.from, point.to)
    }
}

impl From<PastStep> for LossPoint {
    fn from(PastStep(step, loss, norm, from, to): PastStep) -> LossPoint {
        LossPoint { step, loss: f64::from_bits(loss), gradient_norm: f64::from_bits(norm), from, to }
    }
}

/// A checkpoint that is kept.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct StoredCheckpoint {
    /// What rules look at.
    #[serde(flatten)]
    pub about: CheckpointInfo,
    /// Its manifest.
    pub checkpoint: Digest,
}

/// What the log records of a round whose checkpoint is durable.
pub fn round_record(
    pending: &PendingRound,
    formation: u32,
    checkpoint: Digest,
    bytes: u64,
) -> Result<Round, diloco::Error> {
    let commit = &pending.account.commit;
    let torn =
        || diloco::Error::Commit { round: commit.round, reason: "a replica contributes twice".to_owned() };
    let replicas = IntervalSet::from_disjoint(
        commit.contributions.iter().map(|c| u64::from(c.replica)..u64::from(c.replica) + 1),
    )
    .ok_or_else(torn)?;
    let word = |c: &diloco::Contribution| format!("{}:{}:{:.16}", c.replica, c.samples, c.delta);
    let whole = Round {
        round: commit.round,
        step: pending.step,
        epoch: commit.epoch,
        formation,
        base: commit.base.clone(),
        aggregate: commit.aggregate.clone(),
        samples: commit.samples()?,
        replicas,
        contributions: commit.contributions.iter().map(word).collect(),
        checkpoint,
        loss: pending.loss,
        bytes,
    };
    let fits =
        |round: &Round| serde_json::to_string(round).is_ok_and(|text| text.len() <= PROGRESS_BODY_BYTES_MAX);
    if fits(&whole) {
        return Ok(whole);
    }
    let short = Round { contributions: Vec::new(), ..whole };
    let reason = || format!("the samples {} are too torn for a record", short.samples);
    if fits(&short) { Ok(short) } else { Err(diloco::Error::Commit { round: short.round, reason: reason() }) }
}

/// Where to resume, as rank 0 broadcasts it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Resume {
    /// After this round; `None`: from the start.
    pub round: Option<Round>,
    /// Decisions of the guard after the checkpoint, to be repeated.
    pub guards: Vec<Guard>,
    /// The last steps before.
    pub history: Vec<PastStep>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(replicas: u32, steps: u64) -> PendingRound {
        let dealt = |replica: u64| {
            let each = 8u64;
            IntervalSet::from_disjoint((0..steps).map(|step| {
                let first = (step * u64::from(replicas) + replica) * each;
                first..first + each
            }))
            .unwrap()
        };
        let contributions = (0..replicas).map(|replica| diloco::Contribution {
            replica,
            samples: dealt(u64::from(replica)),
            delta: "ab".repeat(32),
        });
        let commit = diloco::RoundCommit {
            round: 3,
            epoch: 2,
            base: "cd".repeat(32),
            contributions: contributions.collect(),
            aggregate: "ef".repeat(32),
        };
        PendingRound {
            step: 40,
            loss: 2.25,
            account: RoundAccount { commit, history: Vec::new(), kept: Vec::new(), gone: Vec::new() },
        }
    }

    #[test]
    fn a_round_fits_into_a_record_and_says_what_was_consumed() {
        for (replicas, steps, each) in [(1, 10, true), (4, 1, true), (4, 50, false), (1024, 1000, false)] {
            let round = round_record(&pending(replicas, steps), 1, Digest::of(b"x"), 1 << 40).unwrap();
            let text = serde_json::to_string(&round).unwrap();
            assert!(text.len() <= PROGRESS_BODY_BYTES_MAX, "{text}");
            assert_eq!(!round.contributions.is_empty(), each, "{text}");
            assert_eq!(round.samples.to_string(), format!("0+{}", u64::from(replicas) * steps * 8));
            assert_eq!(round.replicas.to_string(), format!("0+{replicas}"));
        }
    }
}
