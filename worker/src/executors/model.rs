//! What several executors open from the artifacts: a data set, its shards and tokenizer, and a trained model.

use super::{
    attempt::Attempt,
    error::Error,
    wire::{DataSet, ManifestOutput, ShardRef, TrainOutput},
};
use crate::artifacts::Artifacts;
use muster_llm::{
    data::{shard::Shard, tokenizer::Tokenizer},
    model::ModelConfig,
    train::{Corpus, checkpoint},
};
use muster_protocol::ids::Digest;

/// Opens shards.
pub fn shards(artifacts: &Artifacts, refs: &[ShardRef]) -> Result<Vec<Shard>, Error> {
    refs.iter().map(|shard| Ok(Shard::open(&artifacts.get(shard.index)?, artifacts.get(shard.tokens)?)?)).collect()
}

/// Opens shards as one sequence of tokens.
pub fn corpus(artifacts: &Artifacts, refs: &[ShardRef]) -> Result<Corpus, Error> {
    Ok(Corpus::new(shards(artifacts, refs)?)?)
}

/// The data set of our job.
pub fn data_set(attempt: &mut Attempt) -> Result<DataSet, Error> {
    let stage = attempt.params.text("manifest_stage").to_owned();
    let output: ManifestOutput = attempt.output_of(&stage)?;
    attempt.get_json(output.data)
}

/// The tokenizer of a data set.
pub fn tokenizer(artifacts: &Artifacts, data: &DataSet) -> Result<Tokenizer, Error> {
    Ok(Tokenizer::from_bytes(&artifacts.get(data.tokenizer)?)?)
}

/// A trained model.
pub struct Trained {
    /// The checkpoint that it is from.
    pub checkpoint: Digest,
    /// Its shape.
    pub config: ModelConfig,
    /// Its weights, flat.
    pub weights: Vec<f32>,
}

/// The model that our job trained: rank 0's last checkpoint.
pub fn trained(attempt: &mut Attempt) -> Result<Trained, Error> {
    let stage = attempt.params.text("train_stage").to_owned();
    let outputs: Vec<TrainOutput> = attempt.outputs_of(&stage)?;
    let rank_0 = outputs.iter().find(|output| output.rank == 0);
    let checkpoint = rank_0.ok_or_else(|| Error::Unfit(format!("find the model: stage `{stage}` has no rank 0")))?.checkpoint;
    let (info, weights) = checkpoint::weights(&attempt.artifacts.get(checkpoint)?)?;
    Ok(Trained { checkpoint, config: info.config.model, weights })
}
