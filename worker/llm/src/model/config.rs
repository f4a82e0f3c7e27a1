//! The shape of a model, in the field names of a Hugging Face `config.json`.

use super::Error;
use super::rope_scaling::RopeScaling;
use crate::ops::attention::Heads;
use serde::{Deserialize, Serialize};

/// The family of a model. Families differ in biases and in norms of heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Llama and models built like it (Mistral without sliding windows, SmolLM, TinyLlama).
    #[default]
    Llama,
    /// Qwen2: queries, keys and values have biases.
    Qwen2,
    /// Qwen3: queries and keys are normalised per head.
    Qwen3,
}

impl Family {
    /// The class name in transformers.
    #[must_use]
    pub fn architecture(self) -> &'static str {
        match self {
            Family::Llama => "LlamaForCausalLM",
            Family::Qwen2 => "Qwen2ForCausalLM",
            Family::Qwen3 => "Qwen3ForCausalLM",
        }
    }
}

/// The shape of a Llama-style decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelConfig {
    /// The family.
    pub model_type: Family,
    /// Number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layers.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; divides the query heads (grouped-query attention).
    pub num_key_value_heads: usize,
    /// Width of a head; `hidden_size / num_attention_heads` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// RMSNorm's epsilon, added to the mean square.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are scaled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// Whether the output layer is the embedding itself.
    pub tie_word_embeddings: bool,
    /// Whether the projections of attention have biases. Qwen2's always do, except the last.
    pub attention_bias: bool,
    /// Whether the projections of the feed-forward layers have biases.
    pub mlp_bias: bool,
    /// Standard deviation of the initial weights.
    pub initializer_range: f64,
    /// The end-of-text token, kept for other tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eos_token_id: Option<u32>,
}

impl Default for ModelConfig {
    /// About one million parameters: small enough for a few minutes on one core.
    fn default() -> Self {
        Self {
            model_type: Family::Llama,
            vocab_size: 2048,
            hidden_size: 128,
            intermediate_size: 352,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: None,
            max_position_embeddings: 128,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: None,
            tie_word_embeddings: true,
            attention_bias: false,
            mlp_bias: false,
            initializer_range: 0.02,
            eos_token_id: None,
        }
    }
}

impl ModelConfig {
    /// Width of one head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// Width of all keys (or values) of a position.
    #[must_use]
    pub fn key_value_size(&self) -> usize {
        self.head_dim() * self.num_key_value_heads
    }

    /// Width of all queries of a position.
    #[must_use]
    pub fn query_size(&self) -> usize {
        self.head_dim() * self.num_attention_heads
    }

    /// How the widths divide into heads.
    #[must_use]
    pub fn heads(&self) -> Heads {
        Heads { query: self.num_attention_heads, key_value: self.num_key_value_heads, dim: self.head_dim() }
    }

    /// Whether queries, keys and values have biases.
    #[must_use]
    pub fn has_qkv_bias(&self) -> bool {
        self.attention_bias || self.model_type == Family::Qwen2
    }

    /// Whether the projection after attention has a bias.
    #[must_use]
    pub fn has_o_bias(&self) -> bool {
        self.attention_bias && self.model_type != Family::Qwen2
    }

    /// Whether queries and keys are normalised per head.
    #[must_use]
    pub fn has_head_norms(&self) -> bool {
        self.model_type == Family::Qwen3
    }

    /// Checks that the sizes agree with each other.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first inconsistency.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |reason: String| Err(Error::Config(reason));
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (name, size) in sizes {
            if size == 0 {
                return wrong(format!("{name} must not be 0"));
            }
        }
        if self.head_dim.is_none() && !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return wrong(format!(
                "hidden_size {} is not a multiple of num_attention_heads {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        if self.head_dim() == 0 || !self.head_dim().is_multiple_of(2) {
            return wrong(format!("the head width {} must be even for rotary positions", self.head_dim()));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return wrong(format!(
                "num_attention_heads {} is not a multiple of num_key_value_heads {}",
                self.num_attention_heads, self.num_key_value_heads
            ));
        }
        if self.mlp_bias && self.model_type != Family::Llama {
            return wrong(format!("mlp_bias is for llama only, not {:?}", self.model_type));
        }
        self.rope_scaling.as_ref().map_or(Ok(()), RopeScaling::validate)
    }

    /// The names and shapes of all weights, sorted by name: the order of every flat vector.
    #[must_use]
    pub fn weight_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let (query, key_value) = (self.query_size(), self.key_value_size());
        let mut shapes = vec![
            ("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, hidden]),
            ("model.norm.weight".to_owned(), vec![hidden]),
        ];
        if !self.tie_word_embeddings {
            shapes.push(("lm_head.weight".to_owned(), vec![self.vocab_size, hidden]));
        }
        let projections = [
            ("self_attn.q_proj", query, hidden, self.has_qkv_bias()),
            ("self_attn.k_proj", key_value, hidden, self.has_qkv_bias()),
            ("self_attn.v_proj", key_value, hidden, self.has_qkv_bias()),
            ("self_attn.o_proj", hidden, query, self.has_o_bias()),
            ("mlp.gate_proj", inner, hidden, self.mlp_bias),
            ("mlp.up_proj", inner, hidden, self.mlp_bias),
            ("mlp.down_proj", hidden, inner, self.mlp_bias),
        ];
        for layer in 0..self.num_hidden_layers {
            let mut add =
                |part: &str, shape: Vec<usize>| shapes.push((format!("model.layers.{layer}.{part}"), shape));
            add("input_layernorm.weight", vec![hidden]);
            add("post_attention_layernorm.weight", vec![hidden]);
            if self.has_head_norms() {
                add("self_attn.q_norm.weight", vec![self.head_dim()]);
                add("self_attn.k_norm.weight", vec![self.head_dim()]);
            }
            for (part, outer, inner, bias) in projections {
                add(&format!("{part}.weight"), vec![outer, inner]);
                if bias {
                    add(&format!("{part}.bias"), vec![outer]);
                }
            }
        }
        shapes.sort();
        shapes
    }

    /// Number of parameters.
    #[must_use]
    pub fn parameter_count(&self) -> usize {
        self.weight_shapes().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_named() {
        type Break = fn(&mut ModelConfig);
        let table: [(&str, Break); 6] = [
            ("vocab_size must not be 0", |c| c.vocab_size = 0),
            ("num_attention_heads 3", |c| c.num_attention_heads = 3),
            ("num_key_value_heads 3", |c| c.num_key_value_heads = 3),
            ("must be even", |c| {
                c.hidden_size = 12;
                c.num_attention_heads = 4;
            }),
            ("mlp_bias is for llama", |c| (c.model_type, c.mlp_bias) = (Family::Qwen3, true)),
            ("factor is 0", |c| c.rope_scaling = Some(RopeScaling::Linear { factor: 0.0 })),
        ];
        for (expected, break_it) in table {
            let mut config = ModelConfig::default();
            break_it(&mut config);
            let message = config.validate().expect_err(expected).to_string();
            assert!(message.contains(expected), "{message}");
        }
        ModelConfig::default().validate().expect("the default is sound");
    }

    #[test]
    fn the_default_has_a_million_parameters() {
        let count = ModelConfig::default().parameter_count();
        assert!((900_000..1_100_000).contains(&count), "{count}");
    }
}
