//! The errors of a training.

use crate::place::ModelPlace;
use muster_llm::train;
use muster_protocol::ids::Digest;
use std::io;
use std::ops::Range;

/// A training can't go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("train with `mode` = single as {world} tasks: it is for one task; use sync or diloco for more")]
    SingleOfMany { world: u32 },
    #[error("share `{key}` = {count} among {world} ranks: each rank needs at least one")]
    TooFewShares { key: &'static str, count: usize, world: u32 },
    #[error("find the other ranks: a stage with more than one trainer needs `gang = true`")]
    NoGang,
    #[error("{0}")]
    Device(String),
    #[error("find the loaders: stage `{stage}` has no task")]
    NoLoaders { stage: String },
    #[error(
        "stream preferences: their reference is the model's, which loaders don't have; leave `loader_stage` out"
    )]
    StreamedPreferences,
    #[error("make a trainer before its loaders were found")]
    LoadersNotOpen,
    #[error(
        "continue from {place}: its {method} of {rows} rows can't be merged into weights; only `method` = {method} \
         with `virtual_tokens` = {rows} can continue from it"
    )]
    OtherRows { place: ModelPlace, method: &'static str, rows: usize },
    #[error(
        "compute a batch of {samples} samples of {tokens} positions: {source}; {hint} or `gradient_checkpointing` would \
         need less"
    )]
    TooLittleMemory { samples: u64, tokens: usize, source: Box<train::Error>, hint: &'static str },
    #[error("read the gradients of a device: {0}")]
    ReadDevice(String),
    #[error("continue at step {step}: {why}; the guard may roll back {times} times (`guard_max`)")]
    GuardExhausted { step: u64, why: String, times: u64 },
    #[error("end the training: it has no checkpoint")]
    NoCheckpoint,

    #[error("read where rank 0 resumes: {0}")]
    Resume(serde_json::Error),
    #[error("read the name of rank 0's checkpoint")]
    CheckpointName,
    #[error("read a rank's speed: it sent {bytes} bytes")]
    Speed { bytes: usize },
    #[error("find the share of rank {rank}")]
    NoShare { rank: usize },

    #[error("read the record `{key}` {seq} of an earlier attempt: {source}")]
    UnreadableRecord { key: String, seq: u64, source: serde_json::Error },
    #[error("write {what} as JSON: {source}")]
    Encode { what: &'static str, source: serde_json::Error },
    #[error("lease {samples:?}: some are given twice")]
    LeasedTwice { samples: Vec<Range<u64>> },
    #[error("start a thread to {task}: {source}")]
    Thread { task: &'static str, source: io::Error },

    #[error("resume from {checkpoint}: it has no file {file}, so it is not a checkpoint of `mode` = diloco")]
    NotDiloco { checkpoint: Digest, file: &'static str },
    #[error("read {file}: {source}")]
    Decode { file: &'static str, source: serde_json::Error },
    #[error("read {what}: {bytes} bytes where {count} numbers are expected")]
    WrongLength { what: &'static str, bytes: usize, count: usize },
    #[error(
        "read a replica's result: {losses} losses and {numbers} numbers, for {steps} steps and {parameters} weights"
    )]
    OtherReplica { losses: usize, numbers: usize, steps: u64, parameters: usize },
    #[error("sum the microbatches of a replica: some are missing")]
    MissingMicrobatches,
    #[error("skip the samples of step {step}: some are given twice")]
    LeftOutTwice { step: u64 },
    #[error("end the training: this rank's weights {ours} differ from those of rank 0")]
    WeightsDiffer { ours: String },
}
