//! The model one token at a time, with the keys and values of those before kept.
//!
//! This is the arithmetic of `model` on single rows, without candle: nothing is learnt here, and a row is too little
//! work to be worth a graph. The test holds it against the model.

use crate::model::rope_scaling::frequencies;
use crate::model::weights::slots;
use crate::model::{Error, ModelConfig};
use crate::ops::numeric::{dot, softmax};
use crate::ops::rope::Rotation;
use crate::ops::{rms_norm, swiglu};
use std::collections::BTreeMap;
use std::ops::Range;

/// Where one block's weights lie.
struct Block {
    input_norm: Range<usize>,
    q: Range<usize>,
    k: Range<usize>,
    v: Range<usize>,
    o: Range<usize>,
    post_norm: Range<usize>,
    gate: Range<usize>,
    up: Range<usize>,
    down: Range<usize>,
}

/// A model's weights, ready for single rows.
pub struct Cached {
    config: ModelConfig,
    flat: Vec<f32>,
    embedding: Range<usize>,
    norm: Range<usize>,
    blocks: Vec<Block>,
    rotation: Rotation,
}

/// The keys and values of the tokens seen, by block.
pub struct Cache {
    seen: usize,
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
}

impl Cache {
    /// One that has seen nothing.
    pub fn new(config: &ModelConfig) -> Self {
        let empty = || vec![Vec::new(); config.num_hidden_layers];
        Self { seen: 0, keys: empty(), values: empty() }
    }
}

/// `out[i] = x . weight[i]`.
fn project(x: &[f32], weight: &[f32]) -> Vec<f32> {
    weight.chunks_exact(x.len()).map(|row| dot(x, row)).collect()
}

fn add(x: &mut [f32], other: &[f32]) {
    for (x, other) in x.iter_mut().zip(other) {
        *x += other;
    }
}

impl Cached {
    /// Takes the weights of a flat vector.
    pub fn new(config: ModelConfig, flat: Vec<f32>) -> Result<Self, Error> {
        config.validate()?;
        if flat.len() != config.parameter_count() {
            return Err(Error::Weights(format!("{} numbers for a model of {}", flat.len(), config.parameter_count())));
        }
        let by_name: BTreeMap<String, Range<usize>> = slots(&config).into_iter().map(|slot| (slot.name.clone(), slot.range())).collect();
        let find = |name: &str| by_name.get(name).cloned().ok_or_else(|| Error::Weights(format!("there is no {name}")));
        let block = |layer: usize| -> Result<Block, Error> {
            let find = |part: &str| find(&format!("model.layers.{layer}.{part}.weight"));
            Ok(Block {
                input_norm: find("input_layernorm")?,
                q: find("self_attn.q_proj")?,
                k: find("self_attn.k_proj")?,
                v: find("self_attn.v_proj")?,
                o: find("self_attn.o_proj")?,
                post_norm: find("post_attention_layernorm")?,
                gate: find("mlp.gate_proj")?,
                up: find("mlp.up_proj")?,
                down: find("mlp.down_proj")?,
            })
        };
        let blocks = (0..config.num_hidden_layers).map(block).collect::<Result<_, Error>>()?;
        let (frequencies, factor) =
            frequencies(config.head_dim(), config.rope_theta, config.max_position_embeddings, config.rope_scaling.as_ref());
        let rotation = Rotation::new(&frequencies, config.max_position_embeddings, factor);
        let (embedding, norm) = (find("model.embed_tokens.weight")?, find("model.norm.weight")?);
        Ok(Self { config, flat, embedding, norm, blocks, rotation })
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn weight(&self, range: &Range<usize>) -> &[f32] {
        &self.flat[range.clone()]
    }

    fn normed(&self, x: &[f32], weight: &Range<usize>) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        rms_norm::row(x, self.weight(weight), self.config.rms_norm_eps as f32, &mut out);
        out
    }

    fn turned(&self, x: &[f32], position: usize) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        self.rotation.row(x, position, &mut out);
        out
    }

    /// Sees one more token, and gives the logits of the next.
    pub fn advance(&self, cache: &mut Cache, token: u32) -> Result<Vec<f32>, Error> {
        let (hidden, vocab, position) = (self.config.hidden_size, self.config.vocab_size, cache.seen);
        if token as usize >= vocab {
            return Err(Error::Tokens(format!("token {token} is outside the vocabulary of {vocab}")));
        }
        if position >= self.config.max_position_embeddings {
            return Err(Error::Tokens(format!("the context of {} is full", self.config.max_position_embeddings)));
        }
        let embedding = self.weight(&self.embedding);
        let mut x = embedding[token as usize * hidden..][..hidden].to_vec();
        for ((block, keys), values) in self.blocks.iter().zip(&mut cache.keys).zip(&mut cache.values) {
            let h = self.normed(&x, &block.input_norm);
            let q = self.turned(&project(&h, self.weight(&block.q)), position);
            keys.extend(self.turned(&project(&h, self.weight(&block.k)), position));
            values.extend(project(&h, self.weight(&block.v)));
            add(&mut x, &project(&self.attend(&q, keys, values), self.weight(&block.o)));

            let h = self.normed(&x, &block.post_norm);
            let (gate, up) = (project(&h, self.weight(&block.gate)), project(&h, self.weight(&block.up)));
            let mut gated = vec![0.0; gate.len()];
            swiglu::forward(&gate, &up, &mut gated);
            add(&mut x, &project(&gated, self.weight(&block.down)));
        }
        cache.seen += 1;
        Ok(project(&self.normed(&x, &self.norm), embedding))
    }

    fn attend(&self, q: &[f32], keys: &[f32], values: &[f32]) -> Vec<f32> {
        let (dim, width) = (self.config.head_dim(), self.config.key_value_size());
        let group = self.config.num_attention_heads / self.config.num_key_value_heads;
        let scale = 1.0 / (dim as f32).sqrt();
        let mut out = vec![0f32; q.len()];
        for (head, (q, out)) in q.chunks_exact(dim).zip(out.chunks_exact_mut(dim)).enumerate() {
            let at = head / group * dim;
            let mut scores: Vec<f32> = keys.chunks_exact(width).map(|key| dot(q, &key[at..at + dim]) * scale).collect();
            softmax(&mut scores);
            for (score, value) in scores.iter().zip(values.chunks_exact(width)) {
                for (out, value) in out.iter_mut().zip(&value[at..at + dim]) {
                    *out += score * value;
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Decoder;
    use crate::model::weights::initial;
    use crate::ops::Rows;

    #[test]
    fn one_token_at_a_time_gives_the_models_logits() {
        let config = ModelConfig {
            vocab_size: 29,
            hidden_size: 32,
            intermediate_size: 20,
            max_position_embeddings: 12,
            initializer_range: 0.3,
            ..ModelConfig::default()
        };
        let flat: Vec<f32> = initial(&config, 4).iter().enumerate().map(|(i, x)| x * (1.0 + 0.2 * (i as f32).sin())).collect();
        let tokens: Vec<u32> = (0..12).map(|i| i * i * 5 % 29).collect();
        let model = Decoder::trained(config.clone(), &flat).expect("builds");
        let logits = model.logits(&tokens, &Rows::new(1, 12)).and_then(|l| Ok(l.to_vec2::<f32>()?)).expect("runs");
        let cached = Cached::new(config.clone(), flat).expect("builds");
        let mut cache = Cache::new(&config);
        for (token, expected) in tokens.iter().zip(logits) {
            let found = cached.advance(&mut cache, *token).expect("runs");
            let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(off < 1e-4, "off by {off}");
        }
        assert!(cached.advance(&mut cache, 1).expect_err("is full").to_string().contains("is full"));
    }
}
