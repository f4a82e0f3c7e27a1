//! A trainer at step 0: the base, what is trained on it, and the samples.

use super::error::TrainError;
use super::params::TrainParams;
use super::spec::{Learning, TrainSpec, shape};
use super::stream;
use crate::error::Error;
use crate::launch::compute;
use crate::model::{
    Model, SPECIAL_TOKENS, TOKENIZER, corpus, named_data_set, tokenizer, tokenizer_of, trained_by,
};
use crate::outputs::DataSet;
use crate::place::ModelPlace;
use muster_attempt::Attempt;
use muster_attempt::artifacts::Artifacts;
use muster_collective::loader::BatchStream;
use muster_data::tokenizer::Tokenizer;
use muster_host::compute::Compute;
use muster_llm::device::{self, Device};
use muster_llm::model::weights::initial;
use muster_llm::model::{Decoder, ModelConfig};
use muster_llm::peft::adapter::Adapter;
use muster_llm::peft::{self, MethodConfig};
use muster_llm::train::{Corpus, Dataset, PackedSequences, PreferencePairs, TextWindows, Trainer};
use muster_protocol::ids::Digest;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Makes the trainers of one attempt: one at the start, and one for each rollback to step 0.
pub struct TrainerFactory {
    spec: TrainSpec,
    base: BaseModel,
    tokenizer: Tokenizer,
    data: Digest,
    samples: SampleSource,
    compute: Compute,
    device: Device,
    artifacts: Artifacts,
    /// The memory granted, in bytes, where that is the limit.
    memory: Option<u64>,
    /// An adapter's description of its base, once it was read.
    name: OnceLock<String>,
}

/// Where samples come from.
enum SampleSource {
    /// All of the data, in memory.
    Corpus(Arc<Corpus>),
    /// Loaders, once they were found.
    Loaders(Option<Arc<BatchStream>>),
}

/// Where the weights come from.
enum BaseModel {
    Scratch(ModelConfig),
    Model(ModelPlace),
}

impl TrainerFactory {
    /// Looks up what the parameters name.
    pub fn find(
        attempt: &mut Attempt,
        params: &TrainParams,
        spec: &TrainSpec,
    ) -> Result<TrainerFactory, Error> {
        let (hash, data) = named_data_set(attempt, &params.manifest_stage)?;
        let tokenizer = tokenizer(&attempt.artifacts, &data)?;
        let base = find_base(attempt, params, &data, &tokenizer)?;
        let here = spec.loader_stage.is_empty();
        let samples = if here {
            SampleSource::Corpus(Arc::new(corpus(&attempt.artifacts, &data.train)?))
        } else {
            SampleSource::Loaders(None)
        };
        let place = if attempt.launch.request.gpus > 0 { "cuda:0" } else { "cpu" };
        let device = device::open(place).map_err(TrainError::Device)?;
        let request = &attempt.launch.request;
        // Without a request no limit is known. On a GPU the driver reports the limit.
        let memory =
            (request.gpus == 0 && request.memory_mib > 0).then(|| u64::from(request.memory_mib) << 20);
        let (spec, compute, artifacts) = (spec.clone(), compute(attempt)?, attempt.artifacts.clone());
        Ok(TrainerFactory {
            spec,
            base,
            tokenizer,
            data: hash,
            samples,
            compute,
            device,
            artifacts,
            memory,
            name: OnceLock::new(),
        })
    }

    /// Finds the loaders, if samples come from some.
    pub fn open(&mut self, attempt: &mut Attempt, outage: Duration) -> Result<(), Error> {
        if let SampleSource::Loaders(stream) = &mut self.samples {
            *stream = Some(Arc::new(stream::open(attempt, &self.spec, self.data, outage)?));
        }
        Ok(())
    }

    /// A trainer at step 0.
    pub fn trainer(&self) -> Result<Trainer, Error> {
        let spec = &self.spec;
        let (config, weights, begun) = match &self.base {
            BaseModel::Scratch(config) => (config.clone(), initial(config, spec.train.seed), None),
            BaseModel::Model(place) => {
                let Model { config, weights, adapter, base } = Model::load(&self.artifacts, place)?;
                if let Some(adapter) = &adapter {
                    goes_on(&spec.method, adapter, place)?;
                }
                // A training that continues an adapter keeps its base.
                self.name.get_or_init(|| base.to_string());
                (config, weights, adapter)
            }
        };
        let context = spec.context;
        // Untrained rows are not part of the reference model, as if the adapter were off. LoRA layers start
        // at zero, and so change nothing.
        let fresh = begun.is_none() && before(&spec.method).is_some();
        let reference = match spec.learning {
            Learning::Preferences if fresh => {
                Some(self.build(config.clone(), weights.clone(), &MethodConfig::default())?)
            }
            Learning::Preferences | Learning::Text { .. } | Learning::Conversations(_) => None,
        };
        let model = self.build(config, weights, &spec.method)?;
        if let Some(adapter) = begun {
            model.store().set(&adapter.flat())?;
        }
        let prompt = matches!(spec.method, MethodConfig::Prompt(_));
        let samples: Arc<dyn Dataset> = match (&self.samples, spec.learning) {
            (SampleSource::Loaders(Some(stream)), _) => Arc::clone(stream) as Arc<dyn Dataset>,
            (SampleSource::Loaders(None), _) => {
                return Err(TrainError::LoadersNotOpen.into());
            }
            (SampleSource::Corpus(corpus), Learning::Text { cut }) => {
                Arc::new(TextWindows::new(Arc::clone(corpus), context, cut)?)
            }
            // A learnt prompt precedes a window, and so only its first sequence.
            (SampleSource::Corpus(corpus), Learning::Conversations(too_long)) if prompt => {
                Arc::new(PackedSequences::alone(Arc::clone(corpus), context, 0, too_long)?)
            }
            (SampleSource::Corpus(corpus), Learning::Conversations(too_long)) => {
                Arc::new(PackedSequences::new(Arc::clone(corpus), context, 0, too_long)?)
            }
            (SampleSource::Corpus(corpus), Learning::Preferences) => Arc::new(PreferencePairs::against(
                Arc::clone(corpus),
                context,
                reference.as_ref().unwrap_or(&model),
                &self.compute,
            )?),
        };
        drop(reference);
        Ok(Trainer::within(spec.train.clone(), model, samples, self.compute.clone(), self.memory)?)
    }

    fn build(&self, config: ModelConfig, weights: Vec<f32>, method: &MethodConfig) -> Result<Decoder, Error> {
        let train = &self.spec.train;
        Ok(peft::build(config, weights, method, train.precision, &self.device, train.seed)?)
    }

    /// An adapter's description of its base.
    pub fn base_name(&self) -> String {
        match &self.base {
            BaseModel::Scratch(_) => String::new(),
            BaseModel::Model(place) => self.name.get().cloned().unwrap_or_else(|| place.to_string()),
        }
    }

    /// The files of the data set's tokenizer, which becomes the model's.
    pub fn tokenizer_files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = vec![(TOKENIZER.to_owned(), self.tokenizer.to_bytes().to_vec())];
        if !self.tokenizer.special_tokens().is_empty() {
            files.push((SPECIAL_TOKENS.to_owned(), self.tokenizer.special_tokens().to_bytes()));
        }
        files
    }
}

/// The name of what a method puts before each sequence, and its number of positions.
fn before(method: &MethodConfig) -> Option<(&'static str, usize)> {
    match method {
        MethodConfig::Prefix(prefix) => Some(("prefix", prefix.virtual_tokens)),
        MethodConfig::Prompt(prompt) => Some(("prompt", prompt.virtual_tokens)),
        MethodConfig::Full(_) | MethodConfig::Lora(_) | MethodConfig::Qlora(_) => None,
    }
}

/// A prefix or prompt can't be merged into weights, so only the same method continues from it.
fn goes_on(method: &MethodConfig, from: &Adapter, place: &ModelPlace) -> Result<(), TrainError> {
    match (before(method), before(&from.method)) {
        (Some(ours), Some(theirs)) if ours == theirs => Ok(()),
        (_, Some((method, rows))) => Err(TrainError::OtherRows { place: place.clone(), method, rows }),
        (_, None) => Ok(()),
    }
}

fn find_base(
    attempt: &mut Attempt,
    params: &TrainParams,
    data: &DataSet,
    tokenizer: &Tokenizer,
) -> Result<BaseModel, Error> {
    let place = if !params.base_stage.is_empty() {
        trained_by(attempt, &params.base_stage)?.1
    } else if !params.base.is_empty() {
        ModelPlace::named(&params.base)?
    } else {
        return Ok(BaseModel::Scratch(shape(params, data.manifest.vocab_size as usize)));
    };
    match tokenizer_of(&attempt.artifacts, &place) {
        Ok(Some(theirs)) => tokenizer.check_tokens(&theirs)?,
        Ok(None) => {}
        // Its kind may be unknown here; the model can still be trained on other tokens.
        Err(error) => attempt.say(&format!(
            "the tokenizer of {place} can't be compared with that of the data: failed to {error}"
        )),
    }
    Ok(BaseModel::Model(place))
}
