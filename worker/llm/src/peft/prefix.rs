//! Prefix tuning: learnt keys and values before each sequence, in each layer (Li and Liang 2021), without a
//! projection.
//!
//! PEFT stores them as one tensor, each row of which has the keys and then the values of each layer in turn;
//! here each is a weight of its own. They take positions of the context. They start with the standard
//! deviation of the model's initial weights, where PEFT uses 1: values of that size would drown out the
//! activations of a small base.

use super::added::{AddedWeight, WeightInit};
use super::error::{Error, invalid};
use super::method::Method;
use crate::autograd::Slot;
use crate::model::hub::NamedTensor;
use crate::model::{Decoder, ModelConfig, Precision, WeightRole};
use crate::ops::attention;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The one tensor of an adapter.
pub const TENSOR: &str = "prompt_embeddings";

/// The parameters of prefix tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrefixTuningConfig {
    /// Positions before each sequence (PEFT's `num_virtual_tokens`).
    pub virtual_tokens: usize,
    /// Initial standard deviation; the model's `initializer_range` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<f64>,
}

impl Default for PrefixTuningConfig {
    fn default() -> Self {
        Self { virtual_tokens: 16, spread: None }
    }
}

/// Our names of the keys and of the values of a block.
fn names(layer: usize) -> [String; 2] {
    ["keys", "values"].map(|kind| format!("{TENSOR}.layers.{layer}.{kind}"))
}

/// Our names in the order of PEFT's columns.
fn columns(config: &ModelConfig) -> impl Iterator<Item = String> {
    (0..config.num_hidden_layers).flat_map(names)
}

/// Checks that at least one position of the context is left.
pub(super) fn fits(method: &'static str, virtual_tokens: usize, config: &ModelConfig) -> Result<(), Error> {
    let context = config.max_position_embeddings;
    if virtual_tokens == 0 || virtual_tokens >= context {
        return Err(invalid(
            method,
            format!(
                "virtual_tokens is {virtual_tokens}, and must be from 1 to below the context of {context}"
            ),
        ));
    }
    Ok(())
}

/// The initial standard deviation, which must be positive.
pub(super) fn spread(method: &'static str, spread: Option<f64>, config: &ModelConfig) -> Result<f64, Error> {
    let spread = spread.unwrap_or(config.initializer_range);
    if !(spread.is_finite() && spread > 0.0) {
        return Err(invalid(method, format!("the spread is {spread}, and must be above 0")));
    }
    Ok(spread)
}

impl Method for PrefixTuningConfig {
    fn name(&self) -> &'static str {
        "prefix"
    }

    fn validate(&self, config: &ModelConfig) -> Result<(), Error> {
        spread("prefix", self.spread, config)?;
        fits("prefix", self.virtual_tokens, config)
    }

    fn role(&self, _name: &str, _shape: &[usize], precision: Precision) -> WeightRole {
        WeightRole::Frozen(precision)
    }

    fn added(&self, config: &ModelConfig) -> Result<Vec<AddedWeight>, Error> {
        let (shape, spread) =
            (vec![self.virtual_tokens, config.key_value_size()], spread("prefix", self.spread, config)?);
        Ok(columns(config)
            .map(|name| AddedWeight { name, shape: shape.clone(), init: WeightInit::Normal(spread) })
            .collect())
    }

    fn attach(&self, decoder: &mut Decoder) -> Result<(), Error> {
        let mut prefixes = Vec::new();
        for layer in 0..decoder.config().num_hidden_layers {
            let [keys, values] = names(layer).map(|name| decoder.store().get(&name));
            prefixes.push(attention::KeyValuePrefix { keys: keys?, values: values? });
        }
        decoder.layers_mut().zip(prefixes).for_each(|(block, prefix)| block.set_prefix(prefix));
        Ok(())
    }

    fn peft_config(&self, config: &ModelConfig) -> Option<Value> {
        Some(json!({
            "peft_type": "PREFIX_TUNING",
            "task_type": "CAUSAL_LM",
            "inference_mode": true,
            "num_virtual_tokens": self.virtual_tokens,
            "num_layers": config.num_hidden_layers,
            // PEFT counts the heads of keys and values here, and their width together.
            "token_dim": config.key_value_size(),
            "num_attention_heads": config.num_key_value_heads,
            "num_transformer_submodules": 1,
            "encoder_hidden_size": config.key_value_size(),
            "prefix_projection": false,
            "modules_to_save": null,
        }))
    }

    fn to_peft(&self, config: &ModelConfig, slots: &[Slot], flat: &[f32]) -> Vec<NamedTensor> {
        let width = config.key_value_size();
        let parts: Vec<&[f32]> = columns(config)
            .map(|name| {
                slots.iter().find(|slot| slot.name == name).map_or(&[][..], |slot| &flat[slot.range()])
            })
            .collect();
        let mut numbers = Vec::with_capacity(self.virtual_tokens * width * parts.len());
        for row in 0..self.virtual_tokens {
            parts
                .iter()
                .filter_map(|part| part.chunks_exact(width).nth(row))
                .for_each(|part| numbers.extend_from_slice(part));
        }
        vec![NamedTensor {
            name: TENSOR.to_owned(),
            shape: vec![self.virtual_tokens, width * parts.len()],
            numbers,
        }]
    }

    fn read_peft(&self, config: &ModelConfig, tensors: Vec<NamedTensor>) -> Result<Vec<NamedTensor>, Error> {
        let width = config.key_value_size();
        let wanted = vec![self.virtual_tokens, 2 * config.num_hidden_layers * width];
        let found = tensors.iter().find(|tensor| tensor.name == TENSOR);
        let found = found.ok_or_else(|| Error::Adapter(format!("there is no tensor {TENSOR}")))?;
        if found.shape != wanted {
            return Err(Error::Adapter(format!(
                "{TENSOR} has shape {:?} where the model wants {wanted:?}",
                found.shape
            )));
        }
        let part = |at: usize, name: String| {
            let numbers = found
                .numbers
                .chunks_exact(wanted[1])
                .flat_map(|row| &row[at * width..][..width])
                .copied()
                .collect();
            NamedTensor { name, shape: vec![self.virtual_tokens, width], numbers }
        };
        Ok(columns(config).enumerate().map(|(at, name)| part(at, name)).collect())
    }
}
