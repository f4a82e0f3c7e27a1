//! What a training leaves beside its checkpoints: an adapter in PEFT's layout, and a whole model in the Hugging Face layout.

use super::{build::Source, setting::Setting};
use crate::executors::{attempt::Attempt, error::Error};
use muster_llm::{
    model::hub,
    train::Trainer,
    tune::{self, MethodConfig, peft},
};
use muster_protocol::ids::Digest;
use std::collections::BTreeMap;

/// A file of a model gets no longer than about this.
const FILE_BYTES: usize = 1 << 30;

/// The adapter's files, of a method that leaves one.
pub fn adapter(setting: &Setting, source: &Source, trainer: &Trainer) -> Result<Vec<(String, Vec<u8>)>, Error> {
    match &setting.method {
        MethodConfig::Full(_) => Ok(Vec::new()),
        MethodConfig::Lora(_) | MethodConfig::Qlora(_) | MethodConfig::Prefix(_) | MethodConfig::Prompt(_) => {
            Ok(peft::save(&setting.method, trainer.model(), &trainer.weights()?, &source.base_name())?)
        }
    }
}

/// An artifact that lists the files of a whole model, if the checkpoint is none and one can be made: low-rank additions are merged.
pub fn merged(attempt: &Attempt, setting: &Setting, trainer: &Trainer) -> Result<Option<Digest>, Error> {
    match &setting.method {
        MethodConfig::Full(_) | MethodConfig::Prefix(_) | MethodConfig::Prompt(_) => Ok(None),
        MethodConfig::Lora(_) | MethodConfig::Qlora(_) => {
            let merged = tune::merge(trainer.model())?;
            let mut files = BTreeMap::new();
            for (name, bytes) in hub::save(merged.config(), merged.store(), merged.store().dtype(), FILE_BYTES)? {
                files.insert(name, attempt.artifacts.put(&bytes)?);
            }
            Ok(Some(attempt.put_json(&files)?))
        }
    }
}
