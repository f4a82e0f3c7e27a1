//! The forward pass: embedding, blocks of attention and gated feed-forward, a final norm, the tied head.

use super::ops::Rows;
use super::ops::attention::{Heads, causal_attention};
use super::ops::head_loss::{self, head_loss};
use super::ops::linear::linear;
use super::ops::rms_norm::rms_norm;
use super::ops::rope::{Rotation, rope};
use super::ops::swiglu::swiglu;
use super::{Error, ModelConfig, Weights};
use candle_core::{Device, Tensor};
use std::sync::Arc;

/// A model: its configuration and weights.
pub struct Llama {
    config: ModelConfig,
    weights: Weights,
    rotation: Arc<Rotation>,
}

impl Llama {
    /// A model of `config` with the weights of a flat vector.
    ///
    /// # Errors
    /// When the configuration contradicts itself or the vector does not fit it.
    pub fn new(config: ModelConfig, flat: &[f32]) -> Result<Self, Error> {
        let weights = Weights::from_flat(&config, flat)?;
        let rotation = Arc::new(Rotation::new(config.head_dim(), config.max_position_embeddings, config.rope_theta));
        Ok(Self { config, weights, rotation })
    }

    /// The model's shape.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The model's numbers.
    #[must_use]
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// How the widths divide into heads.
    #[must_use]
    pub fn heads(&self) -> Heads {
        Heads { query: self.config.num_attention_heads, key_value: self.config.num_key_value_heads, dim: self.config.head_dim() }
    }

    /// The final hidden states `[batch * time, hidden]` of `tokens`, row by row.
    ///
    /// # Errors
    /// When a token is outside the vocabulary or a sequence longer than the context.
    pub fn hidden(&self, tokens: &[u32], rows: Rows) -> Result<Tensor, Error> {
        let vocab = self.config.vocab_size;
        if tokens.len() != rows.batch * rows.time || tokens.is_empty() {
            return Err(Error::Tokens(format!("{} tokens for {rows:?}", tokens.len())));
        }
        if rows.time > self.config.max_position_embeddings {
            return Err(Error::Tokens(format!(
                "a sequence of {} is longer than the context of {}",
                rows.time, self.config.max_position_embeddings
            )));
        }
        if let Some(token) = tokens.iter().find(|t| **t as usize >= vocab) {
            return Err(Error::Tokens(format!("token {token} is outside the vocabulary of {vocab}")));
        }
        let ids = Tensor::from_slice(tokens, tokens.len(), &Device::Cpu)?;
        let embedding = self.weights.get("model.embed_tokens.weight")?;
        let mut x = embedding.index_select(&ids, 0)?;
        for layer in 0..self.config.num_hidden_layers {
            x = self.block(&x, layer, rows)?;
        }
        let norm = self.weights.get("model.norm.weight")?;
        Ok(rms_norm(&x, norm, self.config.rms_norm_eps)?)
    }

    fn block(&self, x: &Tensor, layer: usize, rows: Rows) -> Result<Tensor, Error> {
        let weight = |part: &str| {
            let name = format!("model.layers.{layer}.{part}.weight");
            self.weights.get(&name).map(|var| var.as_tensor())
        };
        let eps = self.config.rms_norm_eps;

        let h = rms_norm(x, weight("input_layernorm")?, eps)?;
        let q = rope(&linear(&h, weight("self_attn.q_proj")?)?, &self.rotation, rows)?;
        let k = rope(&linear(&h, weight("self_attn.k_proj")?)?, &self.rotation, rows)?;
        let v = linear(&h, weight("self_attn.v_proj")?)?;
        let attended = causal_attention(&q, &k, &v, self.heads(), rows)?;
        let x = (x + linear(&attended, weight("self_attn.o_proj")?)?)?;

        let h = rms_norm(&x, weight("post_attention_layernorm")?, eps)?;
        let gate = linear(&h, weight("mlp.gate_proj")?)?;
        let up = linear(&h, weight("mlp.up_proj")?)?;
        let out = linear(&swiglu(&gate, &up)?, weight("mlp.down_proj")?)?;
        Ok((&x + out)?)
    }

    /// The mean cross-entropy in nats of predicting `targets`, as a node that backward can start from.
    ///
    /// # Errors
    /// As [`Llama::hidden`]; also when a target is outside the vocabulary.
    pub fn loss(&self, tokens: &[u32], targets: Vec<u32>, rows: Rows) -> Result<Tensor, Error> {
        let hidden = self.hidden(tokens, rows)?;
        let embedding = self.weights.get("model.embed_tokens.weight")?;
        Ok(head_loss(&hidden, embedding, targets)?)
    }

    /// The cross-entropy in nats of each target. Computes no gradients.
    ///
    /// # Errors
    /// As [`Llama::loss`].
    pub fn token_losses(&self, tokens: &[u32], targets: &[u32], rows: Rows) -> Result<Vec<f32>, Error> {
        let hidden = self.hidden(tokens, rows)?.flatten_all()?.to_vec1::<f32>()?;
        let embedding = self.weights.get("model.embed_tokens.weight")?;
        let embedding = embedding.flatten_all()?.to_vec1::<f32>()?;
        Ok(head_loss::losses(&hidden, &embedding, self.config.hidden_size, targets)?)
    }

    /// The logits `[batch * time, vocab]`, for comparison with other implementations.
    ///
    /// # Errors
    /// As [`Llama::hidden`].
    pub fn logits(&self, tokens: &[u32], rows: Rows) -> Result<Tensor, Error> {
        let embedding = self.weights.get("model.embed_tokens.weight")?;
        Ok(linear(&self.hidden(tokens, rows)?, embedding)?)
    }
}
