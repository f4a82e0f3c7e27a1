//! Held-out bits per byte, of a model and of two baselines over the very same tokens.
//!
//! Bytes are those of the decoded text, so tokenizers can be compared; boundaries cost bits and give no bytes.

use crate::compute::Compute;
use crate::model::Llama;
use crate::train::Corpus;
use serde::{Deserialize, Serialize};

/// What can fail in measuring.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model refused.
    #[error(transparent)]
    Model(#[from] crate::model::Error),
    /// The data don't fit each other or the model.
    #[error("use the held-out data: {0}")]
    Data(String),
}

/// A measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Tokens predicted.
    pub tokens: u64,
    /// Bytes of text that they stand for.
    pub bytes: u64,
    /// The model's bits per byte.
    pub model_bits_per_byte: f64,
    /// Those of a uniform guess over the vocabulary.
    pub uniform_bits_per_byte: f64,
    /// Those of the training tokens' frequencies, with one added to each count.
    pub unigram_bits_per_byte: f64,
    /// The model's mean loss in nats per token.
    pub model_loss: f64,
    /// How much lower than the unigram's the model's bits per byte are, as a part of the unigram's.
    pub gain_over_unigram: f64,
}

/// Measures `model` on the first `tokens_max` tokens of `held_out`.
///
/// `training_counts` is [`Corpus::counts`] of the training tokens, `byte_lengths` the tokenizer's.
///
/// # Errors
/// When there are fewer than two tokens, or a table's length is not the model's vocabulary.
pub fn evaluate(
    model: &Llama,
    held_out: &Corpus,
    tokens_max: u64,
    training_counts: &[u64],
    byte_lengths: &[u32],
    compute: &Compute,
) -> Result<Evaluation, Error> {
    let _ = (model, held_out, tokens_max, training_counts, byte_lengths, compute);
    todo!()
}
