//! A trainer at step 0: the base, what is trained on it, and the samples.

use super::setting::{Learning, Setting, shape};
use crate::{
    artifacts::Artifacts,
    executors::{
        attempt::Attempt,
        error::Error,
        model::{corpus, load, named_data_set},
        wire::{DataSet, TrainOutput},
    },
    loader::Stream,
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
    data: Digest,
    feed: Feed,
    compute: Compute,
    device: Device,
    artifacts: Artifacts,
}

/// Where samples come from.
enum Feed {
    /// All of the data, in memory.
    Corpus(Arc<Corpus>),
    /// Loaders, once they were found.
    Loaders(Option<Arc<Stream>>),
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
        let (hash, data) = named_data_set(attempt)?;
        let base = find_base(attempt, &data)?;
        let here = setting.loader_stage.is_empty();
        let feed = if here { Feed::Corpus(Arc::new(corpus(&attempt.artifacts, &data.train)?)) } else { Feed::Loaders(None) };
        let place = if attempt.launch.request.gpus > 0 { "cuda:0" } else { "cpu" };
        let device = device(place).map_err(Error::Unfit)?;
        let (setting, compute, artifacts) = (setting.clone(), attempt.compute()?, attempt.artifacts.clone());
        Ok(Source { setting, base, data: hash, feed, compute, device, artifacts })
    }

    /// Finds the loaders, if samples come from some.
    pub fn open(&mut self, attempt: &mut Attempt) -> Result<(), Error> {
        if let Feed::Loaders(stream) = &mut self.feed {
            *stream = Some(Arc::new(super::feed::open(attempt, &self.setting, self.data)?));
        }
        Ok(())
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
        let context = setting.context;
        let samples: Arc<dyn Samples> = match (&self.feed, setting.learning) {
            (Feed::Loaders(Some(stream)), _) => Arc::clone(stream) as Arc<dyn Samples>,
            (Feed::Loaders(None), _) => return Err(Error::Unfit("make a trainer before its loaders were found".to_owned())),
            (Feed::Corpus(corpus), Learning::Text { cut }) => Arc::new(Windows::new(Arc::clone(corpus), context, cut)?),
            (Feed::Corpus(corpus), Learning::Conversations(too_long)) => Arc::new(Packed::new(Arc::clone(corpus), context, 0, too_long)?),
            (Feed::Corpus(corpus), Learning::Preferences) => Arc::new(Pairs::against(Arc::clone(corpus), context, &model, &self.compute)?),
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
