//! What several executors open from the artifacts: a data set, its shards and tokenizer, and a trained model.

use super::{
    attempt::Attempt,
    error::Error,
    wire::{DataSet, DatasetRef, ManifestOutput, ShardRef, TrainOutput},
};
use crate::artifacts::Artifacts;
use muster_llm::{
    compute::Device,
    data::{
        megatron::Files,
        shard::Shard,
        tokenizer::{Specials, Tokenizer},
    },
    model::{Decoder, ModelConfig, Precision, hub},
    train::{
        Corpus, Manifest,
        checkpoint::{self, Holds},
    },
    tune::peft,
};
use muster_protocol::ids::Digest;
use std::{collections::BTreeMap, path::Path};

/// Opens a shard.
pub fn shard(artifacts: &Artifacts, shard: &ShardRef) -> Result<Shard, Error> {
    let files =
        |files: &DatasetRef| -> Result<Files, Error> { Ok(Files { bin: artifacts.get(files.bin)?, idx: artifacts.get(files.idx)? }) };
    let mask = shard.mask.as_ref().map(files).transpose()?;
    Ok(Shard::open(&artifacts.get(shard.index)?, files(&shard.tokens)?, mask)?)
}

/// Opens shards.
pub fn shards(artifacts: &Artifacts, refs: &[ShardRef]) -> Result<Vec<Shard>, Error> {
    refs.iter().map(|one| shard(artifacts, one)).collect()
}

/// Opens shards as one sequence of tokens.
pub fn corpus(artifacts: &Artifacts, refs: &[ShardRef]) -> Result<Corpus, Error> {
    Ok(Corpus::new(shards(artifacts, refs)?)?)
}

/// The data set of our job.
pub fn data_set(attempt: &mut Attempt) -> Result<DataSet, Error> {
    Ok(named_data_set(attempt)?.1)
}

/// The data set of our job, and the artifact that it is.
pub fn named_data_set(attempt: &mut Attempt) -> Result<(Digest, DataSet), Error> {
    let stage = attempt.params.text("manifest_stage").to_owned();
    let output: ManifestOutput = attempt.output_of(&stage)?;
    Ok((output.data, attempt.get_json(output.data)?))
}

/// The tokenizer of a data set, which must be the one that its shards were made with.
pub fn tokenizer(artifacts: &Artifacts, data: &DataSet) -> Result<Tokenizer, Error> {
    let tokenizer = open_tokenizer(artifacts, data.tokenizer, data.special_tokens)?;
    tokenizer.check_hash(&data.manifest.tokenizer)?;
    Ok(tokenizer)
}

/// Opens a tokenizer.
pub fn open_tokenizer(artifacts: &Artifacts, json: Digest, special_tokens: Option<Digest>) -> Result<Tokenizer, Error> {
    let specials = special_tokens.map(|hash| artifacts.get(hash)).transpose()?;
    Ok(Tokenizer::load(&artifacts.get(json)?, Specials::from_files(None, specials.as_deref())?)?)
}

/// A trained model, not opened yet.
pub struct Trained {
    /// The checkpoint that it is from.
    pub checkpoint: Digest,
    /// What holds the most of it: that checkpoint, or a whole model that was made of it.
    most: Digest,
}

/// The model that our job trained: rank 0's last checkpoint.
pub fn trained(attempt: &mut Attempt) -> Result<Trained, Error> {
    let stage = attempt.params.text("train_stage").to_owned();
    let outputs: Vec<TrainOutput> = attempt.outputs_of(&stage)?;
    let rank_0 = outputs.iter().find(|output| output.rank == 0);
    let output = rank_0.ok_or_else(|| Error::Unfit(format!("find the model: stage `{stage}` has no rank 0")))?;
    Ok(Trained { checkpoint: output.checkpoint, most: output.model.unwrap_or(output.checkpoint) })
}

impl Trained {
    /// Opens it: a whole model, or what was learnt on a base, on that base.
    pub fn open(&self, artifacts: &Artifacts) -> Result<Decoder, Error> {
        let manifest = Manifest::from_bytes(&artifacts.get(self.most)?).ok().filter(|manifest| manifest.holds == Holds::Trained);
        let Some(manifest) = manifest else {
            let (config, weights) = load(artifacts, self.most)?;
            return Ok(Decoder::trained(config, &weights)?);
        };
        let read = |name: &str| {
            let bytes = manifest.file(name, &|file| checkpoint_file(artifacts, file));
            bytes.map_err(|e| muster_llm::model::Error::File { what: "read", file: name.to_owned(), reason: e.to_string() })
        };
        let adapter = peft::load(&manifest.model, read)?;
        let (config, base) = match adapter.base.parse() {
            Ok(hash) => load(artifacts, hash)?,
            Err(_) => hub::load_dir(Path::new(&adapter.base))?,
        };
        Ok(adapter.build(config, base, Precision::F32, &Device::Cpu)?)
    }
}

/// A whole model, and its weights flat in order of name: of a checkpoint, or of an artifact that lists the files of one.
pub fn load(artifacts: &Artifacts, hash: Digest) -> Result<(ModelConfig, Vec<f32>), Error> {
    let bytes = artifacts.get(hash)?;
    let Ok(files) = serde_json::from_slice::<BTreeMap<String, Digest>>(&bytes) else {
        let manifest = Manifest::from_bytes(&bytes)?;
        return Ok(checkpoint::model(&manifest, &|file| checkpoint_file(artifacts, file))?);
    };
    let read = |name: &str| {
        let bytes = files.get(name).map(|hash| artifacts.get(*hash)).transpose();
        bytes.map_err(|e| muster_llm::model::Error::File { what: "read", file: name.to_owned(), reason: e.to_string() })
    };
    Ok(hub::load(read)?)
}

/// A file of a checkpoint, which is the artifact with the hash that its manifest says.
pub fn checkpoint_file(artifacts: &Artifacts, file: &checkpoint::File) -> Result<Vec<u8>, String> {
    let hash: Digest = format!("blake3:{}", file.hash).parse().map_err(|e| format!("{e}"))?;
    artifacts.get(hash).map_err(|e| e.to_string())
}
