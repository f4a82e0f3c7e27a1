//! A trainer at step 0: the base, what is trained on it, and the samples.

use super::setting::{Learning, Setting, shape};
use crate::{
    artifacts::Artifacts,
    executors::{
        attempt::Attempt,
        error::Error,
        model::{corpus, data_set, load},
        wire::{DataSet, TrainOutput},
    },
};
use muster_llm::{
    compute::{Compute, Device, device},
    model::{ModelConfig, hub, weights::initial},
    train::{Corpus, Packed, Pairs, Samples, Trainer, Windows},
    tune,
};
use muster_protocol::ids::Digest;
use std::{path::Path, sync::Arc};

/// What trainers of one attempt are made of, as often as one goes back to the start.
pub struct Source {
    setting: Setting,
    base: Base,
    corpus: Arc<Corpus>,
    compute: Compute,
    device: Device,
    artifacts: Artifacts,
}

/// Where the weights come from.
enum Base {
    Scratch(ModelConfig),
    Directory(String),
    Checkpoint(Digest),
}

impl Source {
    /// Looks up what the parameters name.
    pub fn find(attempt: &mut Attempt, setting: &Setting) -> Result<Source, Error> {
        let data = data_set(attempt)?;
        let base = find_base(attempt, &data)?;
        let corpus = Arc::new(corpus(&attempt.artifacts, &data.train)?);
        let place = if attempt.launch.request.gpus > 0 { "cuda:0" } else { "cpu" };
        let device = device(place).map_err(Error::Unfit)?;
        let (setting, compute, artifacts) = (setting.clone(), attempt.compute()?, attempt.artifacts.clone());
        Ok(Source { setting, base, corpus, compute, device, artifacts })
    }

    /// A trainer at step 0.
    pub fn trainer(&self) -> Result<Trainer, Error> {
        let setting = &self.setting;
        let (config, weights) = match &self.base {
            Base::Scratch(config) => (config.clone(), initial(config, setting.train.seed)),
            Base::Directory(dir) => hub::load_dir(Path::new(dir))?,
            Base::Checkpoint(hash) => load(&self.artifacts, *hash)?,
        };
        let model = tune::build(config, weights, &setting.method, setting.train.precision, &self.device, setting.train.seed)?;
        let (corpus, context) = (Arc::clone(&self.corpus), setting.context);
        let samples: Arc<dyn Samples> = match setting.learning {
            Learning::Text { cut } => Arc::new(Windows::new(corpus, context, cut)?),
            Learning::Conversations(too_long) => Arc::new(Packed::new(corpus, context, 0, too_long)?),
            Learning::Preferences => Arc::new(Pairs::against(corpus, context, &model, &self.compute)?),
        };
        Ok(Trainer::new(setting.train.clone(), model, samples, self.compute.clone())?)
    }

    /// What an adapter says of its base.
    pub fn base_name(&self) -> String {
        match &self.base {
            Base::Scratch(_) => String::new(),
            Base::Directory(dir) => dir.clone(),
            Base::Checkpoint(hash) => hash.to_string(),
        }
    }
}

fn find_base(attempt: &mut Attempt, data: &DataSet) -> Result<Base, Error> {
    let (base, stage) = (attempt.params.text("base").to_owned(), attempt.params.text("base_stage").to_owned());
    if !stage.is_empty() {
        let outputs: Vec<TrainOutput> = attempt.outputs_of(&stage)?;
        let rank_0 = outputs.iter().find(|output| output.rank == 0);
        let output = rank_0.ok_or_else(|| Error::Unfit(format!("find the base: stage `{stage}` has no rank 0")))?;
        return Ok(Base::Checkpoint(output.model.unwrap_or(output.checkpoint)));
    }
    if base.is_empty() {
        return Ok(Base::Scratch(shape(&attempt.params, data.manifest.vocab_size as usize)));
    }
    match base.parse() {
        Ok(hash) => Ok(Base::Checkpoint(hash)),
        Err(_) if Path::new(&base).is_dir() => Ok(Base::Directory(base)),
        Err(_) => Err(Error::Unfit(format!("find the base `{base}`: it is neither a directory on this worker nor an artifact (blake3:…)"))),
    }
}
