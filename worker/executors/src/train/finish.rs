//! What a training leaves beside its numbers: an adapter in PEFT's layout, the tokenizer, and a whole model
//! in the Hugging Face layout.

use super::build::Source;
use super::setting::Setting;
use crate::attempt::Attempt;
use crate::error::Error;
use muster_llm::model::hub;
use muster_llm::peft::{self, MethodConfig, adapter};
use muster_llm::train::Trainer;
use muster_protocol::ids::Digest;
use std::collections::BTreeMap;

/// A file of a model gets no longer than about this.
const FILE_BYTES: usize = 1 << 30;

/// What a checkpoint has beside its numbers: the tokenizer, and the adapter's files, of a method that leaves
/// one.
pub fn beside(
    setting: &Setting,
    source: &Source,
    trainer: &Trainer,
) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut files = source.tokenizer_files();
    match &setting.method {
        MethodConfig::Full(_) => {}
        MethodConfig::Lora(_)
        | MethodConfig::Qlora(_)
        | MethodConfig::Prefix(_)
        | MethodConfig::Prompt(_) => {
            files.extend(adapter::save(
                &setting.method,
                trainer.model(),
                &trainer.weights()?,
                &source.base_name(),
            )?);
        }
    }
    Ok(files)
}

/// An artifact that lists the files of a whole model, if the checkpoint is none and one can be made: low-rank
/// additions are merged.
pub fn merged(
    attempt: &Attempt,
    setting: &Setting,
    source: &Source,
    trainer: &Trainer,
) -> Result<Option<Digest>, Error> {
    match &setting.method {
        MethodConfig::Full(_) | MethodConfig::Prefix(_) | MethodConfig::Prompt(_) => Ok(None),
        MethodConfig::Lora(_) | MethodConfig::Qlora(_) => {
            let merged = peft::merge(trainer.model())?;
            let mut files = BTreeMap::new();
            let mut all = hub::save(merged.config(), merged.store(), merged.store().dtype(), FILE_BYTES)?;
            all.extend(source.tokenizer_files());
            for (name, bytes) in all {
                files.insert(name, attempt.artifacts.put(&bytes)?);
            }
            Ok(Some(attempt.put_json(&files)?))
        }
    }
}
