//! A run's whole state as one safetensors file: weights under their Hugging Face names, and the moments beside them.

use super::adamw::Moments;
use super::{Error, TrainConfig};
use crate::durable;
use crate::model::weights::{about, from_safetensors, slots, to_safetensors};
use serde::{Deserialize, Serialize};

const FIRST: &str = "adamw.first.";
const SECOND: &str = "adamw.second.";

/// What a checkpoint says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointInfo {
    /// Steps done.
    pub step: u64,
    /// The run's parameters.
    pub config: TrainConfig,
    /// Hash of the parameters as JSON: reading a float from JSON may not give its last bit.
    pub config_hash: String,
    /// Which tokens it learnt from.
    pub corpus: String,
}

impl CheckpointInfo {
    /// Describes a run after `step` steps.
    #[must_use]
    pub fn new(step: u64, config: &TrainConfig, corpus: &str) -> Self {
        let json = serde_json::to_vec(config).expect("strings and numbers are JSON");
        Self { step, config: config.clone(), config_hash: durable::hash(&json), corpus: corpus.to_owned() }
    }
}

/// The description and the weights, flat in order of name, of a checkpoint: all that evaluation and sampling need.
///
/// # Errors
/// When the bytes are no checkpoint of ours.
pub fn weights(bytes: &[u8]) -> Result<(CheckpointInfo, Vec<f32>), Error> {
    let info = info(bytes)?;
    let weights = part(&info, bytes, "")?;
    Ok((info, weights))
}

/// The description of a checkpoint.
///
/// # Errors
/// When the bytes are no checkpoint of ours.
pub fn info(bytes: &[u8]) -> Result<CheckpointInfo, Error> {
    let about = about(bytes).map_err(|e| Error::Checkpoint(e.to_string()))?;
    let info: CheckpointInfo = serde_json::from_str(&about).map_err(|e| Error::Checkpoint(format!("its description: {e}")))?;
    info.config.model.validate().map_err(|e| Error::Checkpoint(e.to_string()))?;
    Ok(info)
}

fn part(info: &CheckpointInfo, bytes: &[u8], prefix: &str) -> Result<Vec<f32>, Error> {
    let numbers = from_safetensors(&slots(&info.config.model), bytes, prefix).map_err(|e| Error::Checkpoint(e.to_string()))?;
    match numbers.iter().find(|x| !x.is_finite()) {
        Some(x) => Err(Error::Checkpoint(format!("it holds {x}"))),
        None => Ok(numbers),
    }
}

/// Writes a checkpoint.
pub(super) fn write(info: &CheckpointInfo, weights: &[f32], moments: &Moments) -> Result<Vec<u8>, Error> {
    let about = serde_json::to_string(info).map_err(|e| Error::Checkpoint(e.to_string()))?;
    let parts = [("", weights), (FIRST, moments.first.as_slice()), (SECOND, moments.second.as_slice())];
    Ok(to_safetensors(&slots(&info.config.model), &parts, Some(&about))?)
}

/// Reads what [`write()`] wrote for the same run.
pub(super) fn read(bytes: &[u8], expected: &CheckpointInfo) -> Result<(u64, Vec<f32>, Moments), Error> {
    let found = info(bytes)?;
    if found.config_hash != expected.config_hash {
        return Err(Error::Checkpoint(format!("it is of a run with other parameters, {:?}", found.config)));
    }
    if found.corpus != expected.corpus {
        return Err(Error::Checkpoint(format!("it is of a run on other tokens, {}", found.corpus)));
    }
    if found.step > found.config.steps {
        return Err(Error::Checkpoint(format!("it is at step {} of {}", found.step, found.config.steps)));
    }
    let moments = Moments { first: part(expected, bytes, FIRST)?, second: part(expected, bytes, SECOND)? };
    Ok((found.step, part(expected, bytes, "")?, moments))
}
