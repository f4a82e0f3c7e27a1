//! The same model from plain candle operations, whose backward is candle's own: the oracle for our layers.

use super::weights::{initial, slots};
use super::{Decoder, Family, ModelConfig};
use crate::device::Backend;
use crate::device::tests::small_blocks;
use crate::ops::BatchLayout;
use crate::ops::linear_cross_entropy::{IGNORE_INDEX, LossTargets};
use candle_core::{D, Device, Result, Tensor, Var};
use std::collections::BTreeMap;

fn norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(mean_square + eps)?.sqrt()?)?.broadcast_mul(weight)
}

fn softmax(x: &Tensor) -> Result<Tensor> {
    let e = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
}

/// `[batch * time, heads * dim]` to `[batch, heads, time, dim]`, rotated by position.
fn heads(x: &Tensor, rows: &BatchLayout, dim: usize, theta: Option<f64>) -> Result<Tensor> {
    let count = x.dim(1)? / dim;
    let x = x.reshape((rows.batch, rows.time, count, dim))?.transpose(1, 2)?.contiguous()?;
    let Some(theta) = theta else { return Ok(x) };
    let half = dim / 2;
    let angles: Vec<f32> = (0..rows.time)
        .flat_map(|t| (0..half).map(move |i| (t as f64 / theta.powf(2.0 * i as f64 / dim as f64)) as f32))
        .collect();
    let angles = Tensor::from_vec(angles, (rows.time, half), &Device::Cpu)?;
    let (cos, sin) = (angles.cos()?, angles.sin()?);
    let (a, b) = (x.narrow(3, 0, half)?, x.narrow(3, half, half)?);
    let left = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let right = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    Tensor::cat(&[left, right], 3)
}

fn loss(
    config: &ModelConfig,
    vars: &BTreeMap<String, Var>,
    tokens: &[u32],
    targets: &[u32],
    rows: &BatchLayout,
) -> Result<Tensor> {
    let weight = |name: String| vars.get(&name).expect("the model has it").as_tensor().clone();
    let layer_weight = |layer: usize, part: &str| weight(format!("model.layers.{layer}.{part}.weight"));
    let (dim, group) = (config.head_dim(), config.num_attention_heads / config.num_key_value_heads);
    let mask: Vec<f32> = (0..rows.time)
        .flat_map(|i| (0..rows.time).map(move |j| if j > i { f32::NEG_INFINITY } else { 0.0 }))
        .collect();
    let mask = Tensor::from_vec(mask, (rows.time, rows.time), &Device::Cpu)?;
    let embedding = weight("model.embed_tokens.weight".to_owned());
    let mut x = embedding.index_select(&Tensor::from_slice(tokens, tokens.len(), &Device::Cpu)?, 0)?;
    for layer in 0..config.num_hidden_layers {
        let w = |part: &str| layer_weight(layer, part);
        let h = norm(&x, &w("input_layernorm"), config.rms_norm_eps)?;
        let project = |part: &str| h.matmul(&w(part).t()?);
        let q = heads(&project("self_attn.q_proj")?, rows, dim, Some(config.rope_theta))?;
        let k = heads(&project("self_attn.k_proj")?, rows, dim, Some(config.rope_theta))?;
        let v = heads(&project("self_attn.v_proj")?, rows, dim, None)?;
        let repeat = |x: Tensor| -> Result<Tensor> {
            let (b, n, t, d) = x.dims4()?;
            x.unsqueeze(2)?.expand((b, n, group, t, d))?.reshape((b, n * group, t, d))
        };
        let (k, v) = (repeat(k)?, repeat(v)?);
        let scores = (q.matmul(&k.transpose(2, 3)?.contiguous()?)? * (1.0 / (dim as f64).sqrt()))?;
        let attended = softmax(&scores.broadcast_add(&mask)?)?.matmul(&v.contiguous()?)?;
        let attended = attended.transpose(1, 2)?.reshape(x.shape())?;
        x = (x + attended.matmul(&w("self_attn.o_proj").t()?)?)?;
        let h = norm(&x, &w("post_attention_layernorm"), config.rms_norm_eps)?;
        let gate = h.matmul(&w("mlp.gate_proj").t()?)?;
        let gated = (gate.silu()? * h.matmul(&w("mlp.up_proj").t()?)?)?;
        x = (x + gated.matmul(&w("mlp.down_proj").t()?)?)?;
    }
    let x = norm(&x, &weight("model.norm.weight".to_owned()), config.rms_norm_eps)?;
    let logits = x.matmul(&embedding.t()?)?;
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    let log_total = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let picked = shifted.gather(&Tensor::from_slice(targets, (targets.len(), 1), &Device::Cpu)?, 1)?;
    (log_total - picked)?.mean_all()
}

/// Tokens without meaning but with variety.
fn tokens(count: usize, vocab: usize, salt: usize) -> Vec<u32> {
    (0..count).map(|i| ((i * i * 31 + i * 7 + salt) % vocab) as u32).collect()
}

/// A small model with weights that hide nothing: norms of 1 would hide an error in their use.
fn small(query: usize, key_value: usize, dim: usize, inner: usize) -> (ModelConfig, Vec<f32>) {
    let config = ModelConfig {
        vocab_size: 61,
        hidden_size: query * dim,
        intermediate_size: inner,
        num_hidden_layers: 2,
        num_attention_heads: query,
        num_key_value_heads: key_value,
        initializer_range: 0.2,
        ..ModelConfig::default()
    };
    let flat =
        initial(&config, 3).iter().enumerate().map(|(i, x)| x * (1.0 + 0.1 * (i as f32).sin())).collect();
    (config, flat)
}

fn close(name: &str, ours: &[f32], plain: &[f32], bound: f32) {
    let norm = plain.iter().map(|x| x * x).sum::<f32>().sqrt();
    let off = ours.iter().zip(plain).map(|(x, y)| (x - y) * (x - y)).sum::<f32>().sqrt();
    assert!(norm > 0.0, "{name} has a gradient");
    assert!(off < bound * norm, "{name}: off by {off} of {norm}");
}

#[test]
fn the_loss_and_every_gradient_agree_with_plain_operations() {
    // (query heads, key/value heads, head width, inner, batch, time)
    let table = [(4, 2, 8, 40, 3, 17), (2, 2, 16, 24, 1, 5), (6, 1, 4, 50, 2, 70)];
    for (query, key_value, dim, inner, batch, time) in table {
        let (config, flat) = small(query, key_value, dim, inner);
        let model = Decoder::trained(config.clone(), &flat).expect("builds");
        let rows = BatchLayout::new(batch, time);
        let (inputs, targets) = (tokens(batch * time, 61, 1), tokens(batch * time, 61, 5));
        let (ours, gradients) = model
            .gradients(&inputs, &LossTargets::mean(targets.clone()), &rows, None, vec![f32::NAN; 7])
            .expect("runs");
        let slots = slots(&config);
        let var = |slot: &crate::autograd::Slot| {
            let numbers = Tensor::from_slice(&flat[slot.range()], slot.shape.as_slice(), &Device::Cpu)?;
            Ok((slot.name.clone(), Var::from_tensor(&numbers)?))
        };
        let vars: BTreeMap<_, _> = slots.iter().map(var).collect::<Result<_>>().expect("makes variables");
        let plain = loss(&config, &vars, &inputs, &targets, &rows).expect("runs");
        let b = f64::from(plain.to_scalar::<f32>().expect("scalar"));
        assert!((ours - b).abs() < 1e-5 * b.abs(), "{ours} against {b}");
        let each = model.token_losses(&inputs, &targets, &rows).expect("runs");
        let mean = f64::from(each.iter().sum::<f32>()) / each.len() as f64;
        assert!((mean - b).abs() < 1e-5 * b.abs(), "{mean} against {b}");

        assert_eq!(gradients.untouched().count(), 0);
        let ours = gradients.into_vec().expect("reads");
        let plain = plain.backward().expect("backward");
        for slot in &slots {
            let gradient =
                plain.get(&vars[&slot.name]).unwrap_or_else(|| panic!("no gradient for {}", slot.name));
            let gradient = gradient.flatten_all().and_then(|g| g.to_vec1::<f32>()).expect("reads");
            close(&slot.name, &ours[slot.range()], &gradient, 2e-5);
        }
    }
}

/// What runs on other devices gives the same on the CPU: with head norms, biases, documents that are packed,
/// and layers that are computed again.
#[test]
fn composed_operations_agree_with_those_on_slices() {
    let table = [(Family::Llama, true, false), (Family::Qwen2, false, true), (Family::Qwen3, false, false)];
    for (model_type, attention_bias, packed) in table {
        let (config, _) = small(4, 2, 8, 40);
        let config = ModelConfig { model_type, attention_bias, tie_word_embeddings: packed, ..config };
        let flat: Vec<f32> =
            initial(&config, 5).iter().enumerate().map(|(i, x)| x + 0.1 * (i as f32).sin()).collect();
        let mut model = Decoder::trained(config.clone(), &flat).expect("builds");
        let mut rows = BatchLayout::new(2, 70);
        if packed {
            rows.starts = Some((0..140).map(|row| if row % 70 < 23 { 0 } else { 23 }).collect());
        }
        let mut targets = LossTargets::mean(tokens(140, 61, 5));
        targets.tokens[4] = IGNORE_INDEX;
        let inputs = tokens(140, 61, 1);
        let mut run = |backend, checkpointing| {
            model.set_backend(backend);
            model.set_checkpointing(checkpointing);
            let (loss, gradients) =
                model.gradients(&inputs, &targets, &rows, None, Vec::new()).expect("runs");
            let losses = model.token_losses(&inputs, &targets.tokens, &rows).expect("runs");
            (loss, losses, gradients.into_vec().expect("reads"))
        };
        let (loss, losses, gradients) = run(Backend::Fused, false);
        for checkpointing in [false, true] {
            let composed = run(small_blocks(), checkpointing);
            assert!((loss - composed.0).abs() < 1e-5 * loss, "{loss} against {}", composed.0);
            close("losses", &losses, &composed.1, 1e-5);
            for slot in slots(&config) {
                close(&slot.name, &gradients[slot.range()], &composed.2[slot.range()], 1e-4);
            }
        }
    }
}

#[test]
fn blocks_that_are_done_again_give_the_same_bits() {
    let (config, flat) = small(4, 2, 8, 40);
    let mut model = Decoder::trained(config, &flat).expect("builds");
    let rows = BatchLayout::new(2, 70);
    let (inputs, targets) = (tokens(140, 61, 1), LossTargets::mean(tokens(140, 61, 5)));
    let mut run = |checkpointing| {
        model.set_checkpointing(checkpointing);
        let (loss, gradients) = model.gradients(&inputs, &targets, &rows, None, Vec::new()).expect("runs");
        (loss, gradients.into_vec().expect("reads"))
    };
    assert!(run(true) == run(false));
}

/// Documents that are packed into one sequence don't see each other, and a target that is ignored counts
/// nothing.
#[test]
fn packed_documents_are_as_good_as_alone() {
    let (config, flat) = small(4, 2, 8, 40);
    let model = Decoder::trained(config, &flat).expect("builds");
    let lengths = [3usize, 75, 1, 21];
    let count = lengths.iter().sum::<usize>();
    let (inputs, targets) = (tokens(count, 61, 1), tokens(count, 61, 5));
    let (mut starts, mut alone, mut at) = (Vec::new(), Vec::new(), 0);
    for length in lengths {
        starts.extend(vec![at as u32; length]);
        alone.extend(
            model
                .token_losses(
                    &inputs[at..at + length],
                    &targets[at..at + length],
                    &BatchLayout::new(1, length),
                )
                .expect("runs"),
        );
        at += length;
    }
    let packed = BatchLayout { batch: 1, time: count, starts: Some(starts.into()) };
    let found = model.token_losses(&inputs, &targets, &packed).expect("runs");
    close("losses", &found, &alone, 1e-5);

    // Backward, too: gradients of the packed are the sums of those of the documents.
    let ones = |targets: &[u32]| LossTargets { tokens: targets.to_vec(), weights: vec![1.0; targets.len()] };
    let flat_of = |tokens: &[u32], targets: LossTargets, rows: &BatchLayout| {
        let (_, gradients) = model.gradients(tokens, &targets, rows, None, Vec::new()).expect("runs");
        gradients.into_vec().expect("reads")
    };
    let mut masked = targets.clone();
    masked[3..78].fill(IGNORE_INDEX);
    let together = flat_of(&inputs, ones(&masked), &packed);
    let mut sum = vec![0f32; together.len()];
    let mut at = 0;
    for length in lengths {
        if length != 75 {
            let part = flat_of(
                &inputs[at..at + length],
                ones(&targets[at..at + length]),
                &BatchLayout::new(1, length),
            );
            sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        at += length;
    }
    close("gradients", &together, &sum, 2e-5);
}

#[test]
fn what_does_not_fit_the_model_is_refused_by_name() {
    let config = ModelConfig { vocab_size: 16, hidden_size: 16, ..ModelConfig::default() };
    let model = Decoder::trained(config.clone(), &initial(&config, 0)).expect("builds");
    let refused = |tokens: &[u32], rows: BatchLayout| {
        let targets = tokens.to_vec();
        model.token_losses(tokens, &targets, &rows).expect_err("refused").to_string()
    };
    assert!(refused(&[16], BatchLayout::new(1, 1)).contains("outside the vocabulary"));
    assert!(refused(&[0; 129], BatchLayout::new(1, 129)).contains("longer than the context"));
    assert!(refused(&[0; 3], BatchLayout::new(1, 2)).contains("3 tokens"));
}
