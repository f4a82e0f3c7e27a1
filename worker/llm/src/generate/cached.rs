//! A model one token at a time, with the keys and values of earlier tokens cached.
//!
//! This is the arithmetic of [`crate::model`] on single rows, without candle: nothing is trained here, and a
//! row is too little work to be worth a graph. Tests compare it with the model. It takes any decoder on the
//! CPU, with its adapters. Weights that are not f32 are converted one at a time, again for each token: slow,
//! but they need no more memory.

use crate::autograd::{Weight, WeightData};
use crate::cpu::math::{dot, softmax};
use crate::model::layer::Projection;
use crate::model::{Decoder, Error, ModelConfig};
use crate::ops::{rms_norm, swiglu};
use candle_core::DType;

/// A model that is applied to single rows.
pub struct CachedModel {
    decoder: Decoder,
    before: usize,
}

/// The keys and values of earlier tokens, by layer.
pub struct KvCache {
    seen: usize,
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
}

/// `out[i] = x . weight[i]`.
fn project(x: &[f32], weight: &Weight) -> Result<Vec<f32>, Error> {
    let weight = weight.numbers()?;
    Ok(weight.chunks_exact(x.len()).map(|row| dot(x, row)).collect())
}

fn add(x: &mut [f32], other: &[f32]) {
    for (x, other) in x.iter_mut().zip(other) {
        *x += other;
    }
}

/// A projection of one row, with bias and LoRA.
fn apply(x: &[f32], projection: &Projection) -> Result<Vec<f32>, Error> {
    let mut y = project(x, &projection.weight)?;
    if let Some(bias) = &projection.bias {
        add(&mut y, &bias.numbers()?);
    }
    if let Some(lora) = &projection.lora {
        let mut narrow = project(x, &lora.a)?;
        narrow.iter_mut().for_each(|number| *number *= lora.scale as f32);
        add(&mut y, &project(&narrow, &lora.b)?);
    }
    Ok(y)
}

/// One row of a weight.
fn row(weight: &Weight, at: usize, width: usize) -> Result<Vec<f32>, Error> {
    match weight.data() {
        WeightData::Dense(tensor) => {
            Ok(tensor.narrow(0, at, 1)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
        }
        WeightData::Quantized(_) => Ok(weight.numbers()?[at * width..][..width].to_vec()),
    }
}

impl CachedModel {
    /// Fails unless the model is on the CPU.
    pub fn new(decoder: Decoder) -> Result<Self, Error> {
        if !decoder.store().device().is_cpu() {
            let place = decoder.store().device().location();
            return Err(Error::Weights(format!(
                "weights on {place:?} can't be read row by row; build the model on the CPU"
            )));
        }
        Ok(Self { before: decoder.virtual_tokens(), decoder })
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        self.decoder.config()
    }

    /// Tokens that fit: the context without virtual tokens.
    pub fn context(&self) -> usize {
        self.config().max_position_embeddings.saturating_sub(self.before)
    }

    /// A cache of the learnt prefix or prompt, before any token.
    pub fn start(&self) -> Result<KvCache, Error> {
        let empty = || vec![Vec::new(); self.config().num_hidden_layers];
        let mut cache = KvCache { seen: 0, keys: empty(), values: empty() };
        for ((block, keys), values) in self.decoder.layers().zip(&mut cache.keys).zip(&mut cache.values) {
            if let Some(prefix) = block.prefix() {
                keys.extend_from_slice(&prefix.keys.numbers()?);
                values.extend_from_slice(&prefix.values.numbers()?);
                cache.seen = prefix.keys.shape().dims2()?.0;
            }
        }
        if let Some(prompt) = self.decoder.prompt() {
            let rows = prompt.numbers()?;
            for row in rows.chunks_exact(self.config().hidden_size) {
                self.see(&mut cache, row.to_vec())?;
            }
        }
        Ok(cache)
    }

    /// Appends a token, and returns the logits of the next.
    pub fn advance(&self, cache: &mut KvCache, token: u32) -> Result<Vec<f32>, Error> {
        let vocab = self.config().vocab_size;
        if token as usize >= vocab {
            return Err(Error::Tokens(format!("token {token} is outside the vocabulary of {vocab}")));
        }
        let (embedding, norm, head) = self.decoder.embedding_norm_head();
        let x = self.see(cache, row(embedding, token as usize, self.config().hidden_size)?)?;
        project(&self.normed(&x, norm)?, head)
    }

    /// Appends an embedded row, and returns its hidden state before the final norm.
    fn see(&self, cache: &mut KvCache, mut x: Vec<f32>) -> Result<Vec<f32>, Error> {
        let position = cache.seen;
        if position >= self.config().max_position_embeddings {
            return Err(Error::Tokens(format!("the context of {} is full", self.context())));
        }
        for ((block, keys), values) in self.decoder.layers().zip(&mut cache.keys).zip(&mut cache.values) {
            let [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj] = block.projections();
            let (input_norm, post_norm, head_norms) = block.norms();
            let h = self.normed(&x, input_norm)?;
            let (mut q, mut k) = (apply(&h, q_proj)?, apply(&h, k_proj)?);
            if let Some((q_norm, k_norm)) = head_norms {
                (q, k) = (self.normed(&q, q_norm)?, self.normed(&k, k_norm)?);
            }
            let q = self.turned(&q, position);
            keys.extend(self.turned(&k, position));
            values.extend(apply(&h, v_proj)?);
            add(&mut x, &apply(&self.attend(&q, keys, values), o_proj)?);

            let h = self.normed(&x, post_norm)?;
            let (gate, up) = (apply(&h, gate_proj)?, apply(&h, up_proj)?);
            let mut gated = vec![0.0; gate.len()];
            swiglu::forward(&gate, &up, &mut gated);
            add(&mut x, &apply(&gated, down_proj)?);
        }
        cache.seen += 1;
        Ok(x)
    }

    /// Normalises groups as wide as the weight: the whole row, or each head.
    fn normed(&self, x: &[f32], weight: &Weight) -> Result<Vec<f32>, Error> {
        let (weight, eps) = (weight.numbers()?, self.config().rms_norm_eps as f32);
        let mut out = vec![0.0; x.len()];
        for (x, out) in x.chunks_exact(weight.len()).zip(out.chunks_exact_mut(weight.len())) {
            rms_norm::row(x, &weight, eps, out);
        }
        Ok(out)
    }

    fn turned(&self, x: &[f32], position: usize) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        self.decoder.rotation().row(x, position, &mut out);
        out
    }

    fn attend(&self, q: &[f32], keys: &[f32], values: &[f32]) -> Vec<f32> {
        let (dim, width) = (self.config().head_dim(), self.config().key_value_size());
        let group = self.config().num_attention_heads / self.config().num_key_value_heads;
        let scale = 1.0 / (dim as f32).sqrt();
        let mut out = vec![0f32; q.len()];
        for (head, (q, out)) in q.chunks_exact(dim).zip(out.chunks_exact_mut(dim)).enumerate() {
            let at = head / group * dim;
            let mut scores: Vec<f32> =
                keys.chunks_exact(width).map(|key| dot(q, &key[at..at + dim]) * scale).collect();
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
    use crate::model::weights::initial;
    use crate::model::{Family, Precision};
    use crate::ops::BatchLayout;
    use crate::peft::{self, MethodConfig};
    use candle_core::Device;
    use serde_json::json;

    fn config(model_type: Family) -> ModelConfig {
        ModelConfig {
            model_type,
            vocab_size: 29,
            hidden_size: 32,
            intermediate_size: 40,
            num_hidden_layers: 2,
            max_position_embeddings: 12,
            initializer_range: 0.3,
            tie_word_embeddings: model_type == Family::Llama,
            ..ModelConfig::default()
        }
    }

    #[test]
    fn one_token_at_a_time_gives_the_models_logits() {
        let biased =
            ModelConfig { attention_bias: true, mlp_bias: true, head_dim: Some(6), ..config(Family::Llama) };
        let lora = |base| json!({"method": "lora", "targets": "all-linear", "r": 3, "base": base});
        // (model, method, how many tokens it can see)
        let table = [
            (config(Family::Llama), json!({"method": "full"}), 12),
            (biased.clone(), json!({"method": "full"}), 12),
            (config(Family::Qwen2), json!({"method": "full"}), 12),
            (config(Family::Qwen3), json!({"method": "full"}), 12),
            (config(Family::Qwen3), lora("f32"), 12),
            (biased, lora("bf16"), 12),
            (config(Family::Qwen2), json!({"method": "qlora", "base": "q8_0", "embeddings": "q8_0"}), 12),
            (config(Family::Qwen3), json!({"method": "prefix", "virtual_tokens": 5, "spread": 0.7}), 7),
            (config(Family::Llama), json!({"method": "prompt", "virtual_tokens": 3}), 9),
        ];
        for (config, method, context) in table {
            let flat = initial(&config, 4)
                .iter()
                .enumerate()
                .map(|(i, x)| x * (1.0 + 0.2 * (i as f32).sin()) + 0.01)
                .collect();
            let of: MethodConfig = serde_json::from_value(method.clone()).expect("a method");
            let model =
                peft::build(config.clone(), flat, &of, Precision::F32, &Device::Cpu, 7).expect("builds");
            // B begins as zeros, which would hide all that is added.
            model
                .store()
                .edit(|flat| flat.iter_mut().enumerate().for_each(|(i, x)| *x += 0.1 * (i as f32).cos()))
                .expect("edits");
            let tokens: Vec<u32> = (0..context as u32).map(|i| i * i * 5 % 29).collect();
            let logits = model
                .logits(&tokens, &BatchLayout::new(1, context))
                .and_then(|l| Ok(l.to_vec2::<f32>()?))
                .expect("runs");
            let cached = CachedModel::new(model).expect("builds");
            assert_eq!(cached.context(), context, "{method}");
            let mut cache = cached.start().expect("starts");
            for (token, expected) in tokens.iter().zip(logits) {
                let found = cached.advance(&mut cache, *token).expect("runs");
                let scale = expected.iter().fold(0f32, |scale, x| scale.max(x.abs()));
                let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
                assert!(off < 1e-4 * scale, "{method}: off by {off} of {scale}");
            }
            assert!(cached.advance(&mut cache, 1).expect_err("is full").to_string().contains("is full"));
        }
    }
}
