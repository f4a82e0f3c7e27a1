//! Opens what several executors need from the artifacts: a data set, its shards and tokenizer, and a trained
//! model with its adapter.

use crate::error::Error;
use crate::outputs::{DataSet, DatasetRef, ManifestOutput, ShardRef, TrainOutput};
use crate::place::{ADAPTERS_MAX, ModelError, ModelPlace};
use muster_attempt::Attempt;
use muster_attempt::artifacts::Artifacts;
use muster_data::megatron::Files;
use muster_data::shard::Shard;
use muster_data::tokenizer::{SpecialTokens, Tokenizer};
use muster_llm::device::Device;
use muster_llm::model::{self, Decoder, ModelConfig, Precision, hub};
use muster_llm::peft::adapter::{self, Adapter};
use muster_llm::peft::{self, MethodConfig};
use muster_llm::train::checkpoint::{self, CheckpointContents};
use muster_llm::train::{CheckpointManifest, Corpus};
use muster_protocol::ids::Digest;
use std::collections::BTreeMap;
use std::path::Path;

/// The files of a tokenizer, as Hugging Face names them; beside them may lie [`TOKENIZER_CONFIG`].
pub const TOKENIZER: &str = "tokenizer.json";
/// Its special tokens.
pub const SPECIAL_TOKENS: &str = "special_tokens_map.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// Opens a shard.
pub fn shard(artifacts: &Artifacts, shard: &ShardRef) -> Result<Shard, Error> {
    let files = |files: &DatasetRef| -> Result<Files, Error> {
        Ok(Files { bin: artifacts.get(files.bin)?, idx: artifacts.get(files.idx)? })
    };
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

/// The data set that the stage `manifest_stage` made.
pub fn data_set(attempt: &mut Attempt, manifest_stage: &str) -> Result<DataSet, Error> {
    Ok(named_data_set(attempt, manifest_stage)?.1)
}

/// The same, and the artifact that it is.
pub fn named_data_set(attempt: &mut Attempt, manifest_stage: &str) -> Result<(Digest, DataSet), Error> {
    let output: ManifestOutput = attempt.output_of(manifest_stage)?;
    Ok((output.data, attempt.get_json(output.data)?))
}

/// The tokenizer of a data set, which must be the one that its shards were made with.
pub fn tokenizer(artifacts: &Artifacts, data: &DataSet) -> Result<Tokenizer, Error> {
    let tokenizer = open_tokenizer(artifacts, data.tokenizer, data.special_tokens)?;
    tokenizer.check_hash(&data.manifest.tokenizer)?;
    Ok(tokenizer)
}

/// Opens a tokenizer.
pub fn open_tokenizer(
    artifacts: &Artifacts,
    json: Digest,
    special_tokens: Option<Digest>,
) -> Result<Tokenizer, Error> {
    let specials = special_tokens.map(|hash| artifacts.get(hash)).transpose()?;
    Ok(Tokenizer::load(&artifacts.get(json)?, SpecialTokens::from_files(None, specials.as_deref())?)?)
}

/// The model that a stage trained: rank 0's last checkpoint, and the whole model that was made of it, if that
/// is another artifact.
pub fn trained_by(attempt: &mut Attempt, stage: &str) -> Result<(Digest, ModelPlace), Error> {
    let outputs: Vec<TrainOutput> = attempt.outputs_of(stage)?;
    let rank_0 = outputs.iter().find(|output| output.rank == 0);
    let output = rank_0.ok_or_else(|| ModelError::NoRank0 { stage: stage.to_owned() })?;
    Ok((output.checkpoint, ModelPlace::Artifact(output.model.unwrap_or(output.checkpoint))))
}

/// The files of a model, wherever they are.
enum Opened<'a> {
    Directory(&'a Path),
    Listed(&'a Artifacts, BTreeMap<String, Digest>),
    Checkpoint(&'a Artifacts, Box<CheckpointManifest>),
}

impl<'a> Opened<'a> {
    fn open(artifacts: &'a Artifacts, place: &'a ModelPlace) -> Result<Opened<'a>, Error> {
        let hash = match place {
            ModelPlace::Directory(dir) => return Ok(Opened::Directory(Path::new(dir))),
            ModelPlace::Artifact(hash) => *hash,
        };
        let bytes = artifacts.get(hash)?;
        match serde_json::from_slice::<BTreeMap<String, Digest>>(&bytes) {
            Ok(files) => Ok(Opened::Listed(artifacts, files)),
            Err(_) => Ok(Opened::Checkpoint(artifacts, Box::new(CheckpointManifest::from_bytes(&bytes)?))),
        }
    }

    /// A file; `None` if none has that name.
    fn file(&self, name: &str) -> Result<Option<Vec<u8>>, model::Error> {
        let failed = |reason: String| model::Error::File { what: "read", file: name.to_owned(), reason };
        match self {
            Opened::Directory(dir) => hub::read_file(&dir.join(name)),
            Opened::Listed(artifacts, files) => files
                .get(name)
                .map(|hash| artifacts.get(*hash))
                .transpose()
                .map_err(|e| failed(e.to_string())),
            Opened::Checkpoint(artifacts, manifest) => manifest
                .file(name, &|file| checkpoint_file(artifacts, file))
                .map_err(|e| failed(e.to_string())),
        }
    }

    /// A whole model, flat in order of name.
    fn whole(&self) -> Result<(ModelConfig, Vec<f32>), Error> {
        match self {
            Opened::Checkpoint(artifacts, manifest) => {
                Ok(checkpoint::model(manifest, &|file| checkpoint_file(artifacts, file))?)
            }
            Opened::Directory(_) | Opened::Listed(..) => Ok(hub::load(|name| self.file(name))?),
        }
    }
}

/// A model with its adapter.
pub struct Model {
    /// Its shape.
    pub config: ModelConfig,
    /// Its weights, flat in order of name.
    pub weights: Vec<f32>,
    /// A prefix or a prompt, which can't be merged into weights.
    pub adapter: Option<Adapter>,
    /// Where the weights are.
    pub base: ModelPlace,
}

impl Model {
    /// Opens a directory, a checkpoint, or an artifact that lists the files of a model. If a checkpoint holds
    /// only an adapter, the adapter names its base; LoRA layers are merged into it.
    pub fn load(artifacts: &Artifacts, place: &ModelPlace) -> Result<Model, Error> {
        Model::within(artifacts, place, ADAPTERS_MAX)
    }

    fn within(artifacts: &Artifacts, place: &ModelPlace, depth: usize) -> Result<Model, Error> {
        let opened = Opened::open(artifacts, place)?;
        let manifest = match &opened {
            Opened::Checkpoint(_, manifest) if manifest.holds == CheckpointContents::Trained => manifest,
            Opened::Checkpoint(..) | Opened::Directory(_) | Opened::Listed(..) => {
                let (config, weights) = opened.whole()?;
                return Ok(Model { config, weights, adapter: None, base: place.clone() });
            }
        };
        let adapter = adapter::load(&manifest.model, |name| opened.file(name))?;
        if adapter.base.is_empty() {
            return Err(ModelError::BaseNotKept { place: place.clone() }.into());
        }
        let base = ModelPlace::named(&adapter.base)?;
        let Some(depth) = depth.checked_sub(1) else {
            return Err(ModelError::TooManyAdapters { place: place.clone() }.into());
        };
        let below = Model::within(artifacts, &base, depth)?;
        if below.adapter.is_some() {
            return Err(ModelError::BaseHasRows { place: place.clone(), base }.into());
        }
        match &adapter.method {
            MethodConfig::Full(_) | MethodConfig::Prefix(_) | MethodConfig::Prompt(_) => {
                Ok(Model { adapter: Some(adapter), ..below })
            }
            MethodConfig::Lora(_) | MethodConfig::Qlora(_) => {
                let merged = peft::merge(&adapter.build(
                    below.config,
                    below.weights,
                    Precision::F32,
                    &Device::Cpu,
                )?)?;
                Ok(Model {
                    config: merged.config().clone(),
                    weights: flat(&merged)?,
                    adapter: None,
                    base: place.clone(),
                })
            }
        }
    }

    /// To compute with, on the CPU.
    pub fn decoder(&self) -> Result<Decoder, Error> {
        match &self.adapter {
            Some(adapter) => {
                Ok(adapter.build(self.config.clone(), self.weights.clone(), Precision::F32, &Device::Cpu)?)
            }
            None => Ok(Decoder::trained(self.config.clone(), &self.weights)?),
        }
    }
}

/// All weights of a model, in order of name.
fn flat(model: &Decoder) -> Result<Vec<f32>, model::Error> {
    let mut flat = Vec::with_capacity(model.config().parameter_count());
    for (name, _) in model.config().weight_shapes() {
        flat.extend_from_slice(&model.store().get(&name)?.numbers()?);
    }
    Ok(flat)
}

/// The tokenizer in a model's directory, if there is one.
pub fn tokenizer_of(artifacts: &Artifacts, place: &ModelPlace) -> Result<Option<Tokenizer>, Error> {
    let opened = Opened::open(artifacts, place)?;
    let Some(json) = opened.file(TOKENIZER)? else { return Ok(None) };
    let (config, map) = (opened.file(TOKENIZER_CONFIG)?, opened.file(SPECIAL_TOKENS)?);
    Ok(Some(Tokenizer::load(&json, SpecialTokens::from_files(config.as_deref(), map.as_deref())?)?))
}

/// A trained model, not opened yet.
pub struct Trained {
    /// The checkpoint that it is from.
    pub checkpoint: Digest,
    /// That checkpoint, or a whole model that was made of it.
    place: ModelPlace,
}

impl Trained {
    /// Opens it: a whole model, or an adapter on its base.
    pub fn open(&self, artifacts: &Artifacts) -> Result<Decoder, Error> {
        Model::load(artifacts, &self.place)?.decoder()
    }
}

/// The model that the stage `train_stage` trained.
pub fn trained(attempt: &mut Attempt, train_stage: &str) -> Result<Trained, Error> {
    let (checkpoint, place) = trained_by(attempt, train_stage)?;
    Ok(Trained { checkpoint, place })
}

/// Reads a file of a checkpoint: the artifact with the hash in the manifest.
pub fn checkpoint_file(artifacts: &Artifacts, file: &checkpoint::CheckpointFile) -> Result<Vec<u8>, String> {
    let hash = checkpoint_file_hash(file).map_err(|e| e.to_string())?;
    artifacts.get(hash).map_err(|e| e.to_string())
}

/// The artifact that a file of a checkpoint is.
pub fn checkpoint_file_hash(file: &checkpoint::CheckpointFile) -> Result<Digest, ModelError> {
    let failed = |reason| ModelError::FileHash { file: file.name.clone(), reason };
    format!("blake3:{}", file.hash).parse().map_err(|e| failed(format!("{e}")))
}
