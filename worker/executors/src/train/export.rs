//! What a training saves besides its state: an adapter in PEFT's layout, the tokenizer, and a whole model in
//! the Hugging Face layout.

use super::factory::TrainerFactory;
use super::spec::TrainSpec;
use crate::error::Error;
use muster_attempt::Attempt;
use muster_llm::model::hub;
use muster_llm::peft::{self, MethodConfig, adapter};
use muster_llm::train::Trainer;
use muster_protocol::ids::Digest;
use std::collections::BTreeMap;

/// Files of a model are split at about this length.
const FILE_BYTES: usize = 1 << 30;

/// The other files of a checkpoint: the tokenizer, and the adapter's files if the method has an adapter.
pub fn extra_files(
    spec: &TrainSpec,
    factory: &TrainerFactory,
    trainer: &Trainer,
) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut files = factory.tokenizer_files();
    match &spec.method {
        MethodConfig::Full(_) => {}
        MethodConfig::Lora(_)
        | MethodConfig::Qlora(_)
        | MethodConfig::Prefix(_)
        | MethodConfig::Prompt(_) => {
            files.extend(adapter::save(
                &spec.method,
                trainer.model(),
                &trainer.weights()?,
                &factory.base_name(),
            )?);
        }
    }
    Ok(files)
}

/// An artifact that lists the files of a whole model, if the checkpoint holds none and one can be made by
/// merging LoRA layers.
pub fn merged_model(
    attempt: &Attempt,
    spec: &TrainSpec,
    factory: &TrainerFactory,
    trainer: &Trainer,
) -> Result<Option<Digest>, Error> {
    match &spec.method {
        MethodConfig::Full(_) | MethodConfig::Prefix(_) | MethodConfig::Prompt(_) => Ok(None),
        MethodConfig::Lora(_) | MethodConfig::Qlora(_) => {
            let merged = peft::merge(trainer.model())?;
            let mut files = BTreeMap::new();
            let mut all = hub::save(merged.config(), merged.store(), merged.store().dtype(), FILE_BYTES)?;
            all.extend(factory.tokenizer_files());
            for (name, bytes) in all {
                files.insert(name, attempt.artifacts.put(&bytes)?);
            }
            Ok(Some(attempt.put_json(&files)?))
        }
    }
}
