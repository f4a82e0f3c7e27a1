//! A run's whole state as one safetensors file.

use super::{Error, TrainConfig};

/// What a checkpoint says of itself.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CheckpointInfo {
    /// Steps done.
    pub step: u64,
    /// The run's parameters.
    pub config: TrainConfig,
    /// Which tokens it learnt from.
    pub corpus: String,
}

/// The description and the weights, flat in order of name, of a checkpoint: all that evaluation and sampling need.
///
/// # Errors
/// When the bytes are no checkpoint of ours.
pub fn weights(bytes: &[u8]) -> Result<(CheckpointInfo, Vec<f32>), Error> {
    let _ = bytes;
    todo!()
}
