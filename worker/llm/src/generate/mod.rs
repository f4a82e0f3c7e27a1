//! Seeded sampling from a model.

use crate::data::tokenizer::Tokenizer;
use crate::model::ModelConfig;
use serde::{Deserialize, Serialize};

/// What can fail in sampling.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model refused.
    #[error(transparent)]
    Model(#[from] crate::model::Error),
    /// The tokenizer refused.
    #[error(transparent)]
    Data(#[from] crate::data::Error),
    /// The parameters contradict each other.
    #[error("use the parameters: {0}")]
    Parameters(String),
}

/// How to sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// 0 takes the likeliest token; higher is wilder.
    pub temperature: f64,
    /// Only this many of the likeliest tokens are drawn from; 0: all.
    pub top_k: usize,
    /// Most tokens.
    pub tokens_max: usize,
    /// Whether to stop at the end of a line.
    pub one_line: bool,
    /// Draws the tokens.
    pub seed: u64,
}

/// What was sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The tokens, without the prompt and without a boundary.
    pub tokens: Vec<u32>,
    /// Their text; if `one_line`, without the line's end and what follows it.
    pub text: String,
    /// Sum of the tokens' log-probabilities in nats, by the model itself (at temperature 1, over all tokens).
    pub logprob: f64,
    /// Why it ended.
    pub ended: Ended,
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// At a line's end.
    Line,
    /// At a document's end.
    Boundary,
    /// At the most tokens.
    Limit,
}

/// A model ready to sample from.
pub struct Generator {}

impl Generator {
    /// A model of `config` with the weights of a flat vector, for instance of [`crate::train::checkpoint::weights`].
    ///
    /// # Errors
    /// When the configuration contradicts itself or the vector does not fit it.
    pub fn new(config: ModelConfig, flat: &[f32]) -> Result<Self, Error> {
        let _ = (config, flat);
        todo!()
    }

    /// Continues `prompt`. Of a long prompt, the last tokens that fit the context are seen.
    ///
    /// # Errors
    /// When the tokenizer is not the model's.
    pub fn complete(&self, tokenizer: &Tokenizer, prompt: &str, sampling: &Sampling) -> Result<Completion, Error> {
        let _ = (tokenizer, prompt, sampling);
        todo!()
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.8, top_k: 40, tokens_max: 48, one_line: true, seed: 0 }
    }
}
