//! The records that a training leaves in the log, as JSON bodies of at most
//! [`PROGRESS_BODY_BYTES_MAX`](crate::limits::PROGRESS_BODY_BYTES_MAX) bytes: trainers write them, and the
//! API's readers read them.
//!
//! Samples are numbered through the run, and a set of them is written `0+512,1024+16`: first and length of
//! each run. A reader may take such a set as text, a trainer takes it as a set: that is the type `S`. The
//! auditor has structs of its own, on purpose: it must not share a mistake with the trainer.

use crate::ids::Digest;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The key of a [`ResumeRecord`].
pub const RESUME: &str = "resume";
/// The key of a [`LeaseRecord`].
pub const LEASE: &str = "lease";
/// The key of a [`RoundRecord`].
pub const ROUND: &str = "round";
/// The key of a [`MetricsRecord`].
pub const METRICS: &str = "train";
/// The key of a [`CheckpointRecord`].
pub const CHECKPOINT: &str = "checkpoint";
/// The key of a [`SharesRecord`].
pub const SHARES: &str = "shares";
/// What the keys of [`GuardRecord`]s begin with: each has its own, so that a restart sees all of them.
pub const GUARD_PREFIX: &str = "guard/";
/// The key of an evaluation's figures.
pub const EVAL: &str = "eval";
/// What the keys of an agent's model calls begin with.
pub const CALL_PREFIX: &str = "call/";

/// A life of the gang begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResumeRecord {
    /// How often the gang was formed.
    pub formation: u32,
    /// The step that it goes on from.
    pub step: u64,
    /// The last step that an earlier life is known to have done: those after `step` are done again.
    pub reached: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Samples of the whole run.
    pub samples: u64,
}

/// Samples are about to be learnt from; it is in the log before any is.
///
/// Each replica gets `each` of the numbers in turn, from replica 0 on, again and again: so one set says it
/// for all replicas, and no number is leased twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord<S = String> {
    /// The round, from 0.
    pub round: u64,
    /// How often the gang was formed.
    pub formation: u32,
    /// Which samples.
    pub samples: S,
    /// How many logical replicas share them.
    pub replicas: u32,
    /// How many each gets in its turn.
    pub each: u64,
}

/// Samples are consumed. The record's number is one more than the round's, so that no round is committed
/// twice; its payload is an artifact with who contributed what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundRecord<S = String> {
    /// The round, from 0.
    pub round: u64,
    /// Steps done with it.
    pub step: u64,
    /// The attempt's epoch, which fences: a record of an older one is refused.
    pub epoch: u64,
    /// How often the gang was formed.
    pub formation: u32,
    /// Hash of the weights that it began with.
    pub base: String,
    /// Hash of what all replicas gave together: in `sync` the weights at its end, in `diloco` the mean delta.
    pub aggregate: String,
    /// Samples consumed.
    pub samples: S,
    /// Replicas that contributed.
    pub replicas: S,
    /// `replica:samples:delta` for each, if they fit; the payload has all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contributions: Vec<String>,
    /// The checkpoint at its end: where a restart goes on.
    pub checkpoint: Digest,
    /// The last loss, in nats per token.
    pub loss: f64,
    /// Bytes of the checkpoint.
    pub bytes: u64,
}

/// The metrics of the steps since the last such record. What an older trainer did not write is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetricsRecord {
    /// Steps done.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Their mean loss, in nats per token.
    pub loss: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Norm of the last step's gradient.
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

/// A checkpoint is durable; the payload is its manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointRecord {
    /// Steps done.
    pub step: u64,
    /// The last mean loss, in nats per token.
    pub loss: f64,
    /// Its bytes.
    pub bytes: u64,
}

/// A training that went wrong goes back, and leaves out the samples that it went wrong on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GuardRecord<S = String> {
    /// What is done: `rollback`, `refuse` (a replica) or `leave out` (what no round is left for).
    pub decision: String,
    /// The step that went wrong.
    pub step: u64,
    /// How it did.
    pub why: String,
    /// Samples that are left out from now on.
    pub skipped: S,
    /// The step that it goes back to.
    pub back_to: u64,
}

/// How many of the logical replicas each rank holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SharesRecord {
    /// How often the gang was formed.
    pub formation: u32,
    /// Measured speed of each rank, in replicas per 1,000 s; equal ones if it was not measured.
    pub speeds: Vec<u64>,
    /// Replicas of each rank, as `2,2`.
    pub replicas: String,
}
