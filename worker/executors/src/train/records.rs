//! The bodies of the records that a training leaves in the log. Each is at most `PROGRESS_BODY_BYTES_MAX`
//! bytes of JSON.
//!
//! Dataset are numbered through the run, and a set of them is written `0+512,1024+16`. Who computed which:
//! the numbers of a lease are dealt in turns, `each` to every replica from 0 on, again and again; so one set
//! says it for all replicas, and no number is leased twice.

use muster_llm::diloco::{self, Runs};
use muster_llm::train::checkpoint::CheckpointInfo;
use muster_llm::train::guard::LossPoint;
use muster_protocol::ids::Digest;
use muster_protocol::limits::PROGRESS_BODY_BYTES_MAX;
use serde::{Deserialize, Serialize};

/// `resume`: written at the start of each life of the gang.
#[derive(Debug, Serialize, Deserialize)]
pub struct Started {
    /// Which life.
    pub formation: u32,
    /// The step it goes on from.
    pub step: u64,
    /// The last step that an earlier life is known to have done: those after `step` are done again.
    pub reached: u64,
    /// Steps of the whole run.
    #[serde(default)]
    pub steps: u64,
    /// Dataset of the whole run.
    #[serde(default)]
    pub samples: u64,
}

/// `lease`: samples that are about to be learnt from, before any is.
#[derive(Debug, Serialize, Deserialize)]
pub struct Lease {
    /// For which round.
    pub round: u64,
    /// In which life of the gang.
    pub formation: u32,
    /// Which samples.
    pub samples: Runs,
    /// Among how many logical replicas they are dealt.
    pub replicas: u32,
    /// How many each gets in its turn.
    pub each: u64,
}

/// `round`: samples are consumed. Its payload is the whole [`RoundAccount`], an artifact.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Round {
    /// Which round, counted from 0; the record's number is one more, so that no round is committed twice.
    pub round: u64,
    /// Steps done with it.
    pub step: u64,
    /// The attempt's epoch, which fences: a record of an older one is refused.
    pub epoch: u64,
    /// Which life of the gang.
    pub formation: u32,
    /// Hash of the weights that it began with.
    pub base: String,
    /// Hash of what all replicas gave together: in `sync` the weights at its end, in `diloco` the mean delta.
    pub aggregate: String,
    /// Dataset consumed.
    pub samples: Runs,
    /// Replicas that contributed.
    pub replicas: Runs,
    /// `replica:samples:delta` for each, as far as they fit; the payload has all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contributions: Vec<String>,
    /// The checkpoint at its end: where a restart goes on.
    pub checkpoint: Digest,
    /// The last loss.
    pub loss: f64,
    /// Bytes of the checkpoint that were new.
    pub bytes: u64,
}

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

/// What the payload of a round's record has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoundAccount {
    /// Who gave what.
    pub commit: diloco::RoundCommit,
    /// The last steps, as the guard sees them: a restart judges the next as this life would have.
    pub history: Vec<PastStep>,
    /// Checkpoints that are kept, with this one.
    pub kept: Vec<StoredCheckpoint>,
    /// Those that no rule keeps any more: whoever is killed while it removes them leaves that to the next.
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

impl Round {
    /// What the log is told of a round whose checkpoint is durable.
    pub fn of(
        pending: &PendingRound,
        formation: u32,
        checkpoint: Digest,
        bytes: u64,
    ) -> Result<Round, diloco::Error> {
        let commit = &pending.account.commit;
        let torn = || diloco::Error::Commit {
            round: commit.round,
            reason: "a replica contributes twice".to_owned(),
        };
        let replicas =
            Runs::of(commit.contributions.iter().map(|c| u64::from(c.replica)..u64::from(c.replica) + 1))
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
        let fits = |round: &Round| {
            serde_json::to_string(round).is_ok_and(|text| text.len() <= PROGRESS_BODY_BYTES_MAX)
        };
        if fits(&whole) {
            return Ok(whole);
        }
        let short = Round { contributions: Vec::new(), ..whole };
        let reason = || format!("the samples {} are too torn for a record", short.samples);
        if fits(&short) {
            Ok(short)
        } else {
            Err(diloco::Error::Commit { round: short.round, reason: reason() })
        }
    }
}

/// Where to go on, as rank 0 tells the others.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Resume {
    /// After this round; `None`: from the start.
    pub round: Option<Round>,
    /// Decisions of the guard, to be carried out again on what follows it.
    pub guards: Vec<Guard>,
    /// The last steps before.
    pub history: Vec<PastStep>,
}

/// `train`: the metrics of the steps since the last.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// Steps done.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Their mean loss, in nats per token.
    pub loss: f64,
    /// Learning rate of the last.
    pub lr: f64,
    /// Norm of its gradient.
    pub grad_norm: f64,
    /// Tokens per second, over all ranks.
    pub tokens_per_s: f64,
    /// Resident memory of rank 0's process, in MiB.
    pub rss_mib: f64,
    /// The part of the time that rank 0 waited for data.
    pub data_wait: f64,
    /// The part of the time that rank 0 spent on the scheduler: leases, records, commits.
    pub overhead: f64,
}

/// `checkpoint`: where one is; its payload is the artifact.
#[derive(Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Steps done.
    pub step: u64,
    /// The last mean loss.
    pub loss: f64,
    /// Bytes that were new.
    pub bytes: u64,
}

/// `guard`: a training that went wrong goes back, and leaves out what it went wrong on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Guard {
    /// What is done: `rollback`, `refuse` (a replica) or `leave out` (what no round is left for).
    pub decision: String,
    /// The step that went wrong.
    pub step: u64,
    /// How it did.
    pub why: String,
    /// Dataset that are left out from now on.
    pub skipped: Runs,
    /// The step that it goes back to.
    pub back_to: u64,
}

/// `shares`: which rank holds how many of the logical replicas, and why.
#[derive(Debug, Serialize, Deserialize)]
pub struct Shares {
    /// Which life of the gang.
    pub formation: u32,
    /// Measured speed of each rank, in replicas per 1,000 s; equal ones if it was not measured.
    pub speeds: Vec<u64>,
    /// Replicas of each rank, as `2,2`.
    pub replicas: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(replicas: u32, steps: u64) -> PendingRound {
        let dealt = |replica: u64| {
            let each = 8u64;
            Runs::of((0..steps).map(|step| {
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
            let round = Round::of(&pending(replicas, steps), 1, Digest::of(b"x"), 1 << 40).unwrap();
            let text = serde_json::to_string(&round).unwrap();
            assert!(text.len() <= PROGRESS_BODY_BYTES_MAX, "{text}");
            assert_eq!(!round.contributions.is_empty(), each, "{text}");
            assert_eq!(round.samples.to_string(), format!("0+{}", u64::from(replicas) * steps * 8));
            assert_eq!(round.replicas.to_string(), format!("0+{replicas}"));
        }
    }
}
