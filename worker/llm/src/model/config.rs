//! The shape of a model, in the field names of a Hugging Face `config.json`.

use super::Error;
use serde::{Deserialize, Serialize};

/// A llama-style architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelConfig {
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
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Added to the mean square before its root is taken.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Whether the output layer is the embedding itself. Only `true` is built today.
    pub tie_word_embeddings: bool,
    /// Spread of the initial weights.
    pub initializer_range: f64,
    /// The architecture's name for other tools.
    pub model_type: String,
}

impl Default for ModelConfig {
    /// About one million parameters: small enough for a few minutes on one core.
    fn default() -> Self {
        Self {
            vocab_size: 2048,
            hidden_size: 128,
            intermediate_size: 352,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            max_position_embeddings: 128,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            tie_word_embeddings: true,
            initializer_range: 0.02,
            model_type: "llama".to_owned(),
        }
    }
}

impl ModelConfig {
    /// Width of one head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads.max(1)
    }

    /// Width of all keys (or values) of a position.
    #[must_use]
    pub fn key_value_size(&self) -> usize {
        self.head_dim() * self.num_key_value_heads
    }

    /// Checks that the sizes agree with each other.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first contradiction.
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
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return wrong(format!(
                "hidden_size {} is not a multiple of num_attention_heads {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        if !self.head_dim().is_multiple_of(2) {
            return wrong(format!("the head width {} must be even for rotary positions", self.head_dim()));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return wrong(format!(
                "num_attention_heads {} is not a multiple of num_key_value_heads {}",
                self.num_attention_heads, self.num_key_value_heads
            ));
        }
        if !self.tie_word_embeddings {
            return wrong("tie_word_embeddings = false is not supported".to_owned());
        }
        if self.model_type != "llama" {
            return wrong(format!("model_type {:?} is not supported; use \"llama\"", self.model_type));
        }
        Ok(())
    }

    /// The names and shapes of all weights, sorted by name: the order of every flat vector.
    #[must_use]
    pub fn weight_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, inner, key_value) = (self.hidden_size, self.intermediate_size, self.key_value_size());
        let mut shapes =
            vec![("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, hidden]), ("model.norm.weight".to_owned(), vec![hidden])];
        for layer in 0..self.num_hidden_layers {
            let mut add = |part: &str, shape: Vec<usize>| {
                shapes.push((format!("model.layers.{layer}.{part}.weight"), shape));
            };
            add("input_layernorm", vec![hidden]);
            add("post_attention_layernorm", vec![hidden]);
            add("self_attn.q_proj", vec![hidden, hidden]);
            add("self_attn.k_proj", vec![key_value, hidden]);
            add("self_attn.v_proj", vec![key_value, hidden]);
            add("self_attn.o_proj", vec![hidden, hidden]);
            add("mlp.gate_proj", vec![inner, hidden]);
            add("mlp.up_proj", vec![inner, hidden]);
            add("mlp.down_proj", vec![hidden, inner]);
        }
        shapes.sort();
        shapes
    }

    /// How many numbers the model holds.
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
        let table: [(&str, Break); 5] = [
            ("vocab_size must not be 0", |c| c.vocab_size = 0),
            ("num_attention_heads 3", |c| c.num_attention_heads = 3),
            ("num_key_value_heads 3", |c| c.num_key_value_heads = 3),
            ("must be even", |c| {
                c.hidden_size = 12;
                c.num_attention_heads = 4;
            }),
            ("tie_word_embeddings", |c| c.tie_word_embeddings = false),
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
