//! Prompt tuning: learnt embeddings before each sequence (Lester et al. 2021).
//!
//! They take positions of the context. They start as embeddings of randomly drawn tokens, which the paper
//! found to be better than random numbers, PEFT's default.

use super::added::{AddedWeight, WeightInit};
use super::error::Error;
use super::method::Method;
use super::prefix::{TENSOR, fits, spread};
use crate::model::{Decoder, ModelConfig, Precision, WeightRole};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How a prompt is initialised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptInit {
    /// Embeddings of randomly drawn tokens.
    #[default]
    Vocabulary,
    /// Normal random numbers.
    Random,
}

/// The parameters of prompt tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromptTuningConfig {
    /// Embeddings before each sequence (PEFT's `num_virtual_tokens`).
    pub virtual_tokens: usize,
    /// How they are initialised.
    pub start: PromptInit,
    /// Standard deviation of random numbers; the model's `initializer_range` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<f64>,
}

impl Default for PromptTuningConfig {
    fn default() -> Self {
        Self { virtual_tokens: 16, start: PromptInit::Vocabulary, spread: None }
    }
}

impl Method for PromptTuningConfig {
    fn name(&self) -> &'static str {
        "prompt"
    }

    fn validate(&self, config: &ModelConfig) -> Result<(), Error> {
        spread("prompt", self.spread, config)?;
        fits("prompt", self.virtual_tokens, config)
    }

    fn role(&self, _name: &str, _shape: &[usize], precision: Precision) -> WeightRole {
        WeightRole::Frozen(precision)
    }

    fn added(&self, config: &ModelConfig) -> Result<Vec<AddedWeight>, Error> {
        let init = match self.start {
            PromptInit::Vocabulary => WeightInit::Vocabulary,
            PromptInit::Random => WeightInit::Normal(spread("prompt", self.spread, config)?),
        };
        Ok(vec![AddedWeight {
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
