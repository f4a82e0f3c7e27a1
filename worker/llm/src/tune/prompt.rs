//! Learnt rows before each sequence, in the place of embedded tokens (Lester et al. 2021, prompt tuning).
//!
//! They take positions of the context. They start as embeddings of tokens drawn from the vocabulary, which
//! the paper found to be better than the random numbers that PEFT takes unless told otherwise.

use super::prefix::{TENSOR, fits, spread};
use super::{Added, Error, Init, Method};
use crate::model::{Decoder, Hold, ModelConfig, Precision};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What the rows start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Embeddings of drawn tokens.
    #[default]
    Vocabulary,
    /// Nearly normal numbers.
    Random,
}

/// Learnt rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prompt {
    /// How many before each sequence.
    pub virtual_tokens: usize,
    /// What they start from.
    pub start: Start,
    /// Spread of random numbers; the model's `initializer_range` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<f64>,
}

impl Default for Prompt {
    fn default() -> Self {
        Self { virtual_tokens: 16, start: Start::Vocabulary, spread: None }
    }
}

impl Method for Prompt {
    fn name(&self) -> &'static str {
        "prompt"
    }

    fn validate(&self, config: &ModelConfig) -> Result<(), Error> {
        spread("prompt", self.spread, config)?;
        fits("prompt", self.virtual_tokens, config)
    }

    fn hold(&self, _name: &str, _shape: &[usize], precision: Precision) -> Hold {
        Hold::Frozen(precision)
    }

    fn added(&self, config: &ModelConfig) -> Result<Vec<Added>, Error> {
        let init = match self.start {
            Start::Vocabulary => Init::Vocabulary,
            Start::Random => Init::Normal(spread("prompt", self.spread, config)?),
        };
        Ok(vec![Added {
            name: TENSOR.to_owned(),
            shape: vec![self.virtual_tokens, config.hidden_size],
            init,
        }])
    }

    fn attach(&self, decoder: &mut Decoder) -> Result<(), Error> {
        let prompt = decoder.store().get(TENSOR)?;
        decoder.set_prompt(prompt);
        Ok(())
    }

    fn peft_config(&self, config: &ModelConfig) -> Option<Value> {
        Some(json!({
            "peft_type": "PROMPT_TUNING",
            "task_type": "CAUSAL_LM",
            "inference_mode": true,
            "num_virtual_tokens": self.virtual_tokens,
            "token_dim": config.hidden_size,
            "num_layers": config.num_hidden_layers,
            "num_attention_heads": config.num_attention_heads,
            "num_transformer_submodules": 1,
            "prompt_tuning_init": "RANDOM",
            "modules_to_save": null,
        }))
    }
}
