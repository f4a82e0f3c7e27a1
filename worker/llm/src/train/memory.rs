//! The memory that training a batch needs, known before it is computed: a process that takes more than it was
//! granted is killed without a message. [`super::device_memory`] estimates the need on a device.
//!
//! It is computed from shapes alone, so that every rank and every restart gets the same answer: the weights,
//! their moments and one gradient, the copy that a checkpoint is written from, and what the backward pass
//! keeps per position. Small temporaries are left out, so the result is slightly too low: whatever is refused
//! would not have fitted. Tests compare it with the allocator.

use crate::model::Decoder;
use crate::model::layer::DecoderLayer;
use crate::ops::BatchLayout;
use crate::ops::linear_cross_entropy::ROWS_PER_CHUNK;
use candle_core::DType;
use std::fmt;

/// Bytes that are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNeed {
    /// For the weights, the moments, one gradient and a checkpoint's copy, independent of the batch.
    pub resident: u64,
    /// For what the backward pass keeps of the batch.
    pub batch: u64,
}

impl MemoryNeed {
    /// The sum.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.resident.saturating_add(self.batch)
    }
}

impl fmt::Display for MemoryNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [all, resident, batch] = [self.bytes(), self.resident, self.batch].map(ByteSize);
        write!(
            f,
            "{all} ({resident} for weights, moments, gradients and a checkpoint's copy, {batch} for what the backward pass keeps)"
        )
    }
}

/// A number of bytes, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = *self;
        match bytes {
            0..1024 => write!(f, "{bytes} bytes"),
            1024..1_048_576 => write!(f, "{:.1} KiB", bytes as f64 / 1024.0),
            1_048_576..1_073_741_824 => write!(f, "{:.1} MiB", bytes as f64 / 1_048_576.0),
            _ => write!(f, "{:.1} GiB", bytes as f64 / 1_073_741_824.0),
        }
    }
}

/// Bytes that training `model` takes independent of the batch; `apart`: f32 masters are kept beside the
/// model.
#[must_use]
pub fn training_bytes(model: &Decoder, apart: bool) -> u64 {
    let vectors = if apart { 4 } else { 3 };
    let trained = model.store().trained_count() as u64;
    model.store().bytes() as u64 + trained * vectors * size_of::<f32>() as u64
}

/// Bytes of the copy that a checkpoint is written from while training goes on: the weights and their moments.
#[must_use]
pub fn snapshot_bytes(model: &Decoder) -> u64 {
    model.store().trained_count() as u64 * 3 * size_of::<f32>() as u64
}

/// Bytes that the backward pass keeps of `rows`, and the most that is added to them at one time.
#[must_use]
pub fn activation_bytes(model: &Decoder, rows: &BatchLayout, checkpointing: bool) -> u64 {
    let config = model.config();
    let (hidden, wide) = (config.hidden_size as u64, config.intermediate_size as u64);
    let prompt = model.prompt().and_then(|prompt| prompt.shape().dims().first().copied()).unwrap_or(0);
    let count = (rows.batch as u64) * (rows.time + prompt) as u64;
    let (of_layers, again) = layer_widths(model, checkpointing);
    // At the end either the output layer holds a chunk of logits, or the last layer's feed-forward its
    // gradients, after it was computed again.
    let logits = (ROWS_PER_CHUNK as u64).min(count) * config.vocab_size as u64
        + count * hidden
        + dequantized_head(model);
    let last = count * (again + 2 * wide + hidden);
    let numbers = count * (of_layers + hidden) + logits.max(last);
    numbers * model.store().dtype().size_in_bytes() as u64
}

/// Elements of the output layer, if it is quantised: a product needs all of them as f32.
fn dequantized_head(model: &Decoder) -> u64 {
    let (_, _, head) = model.embedding_norm_head();
    let count = head.shape().elem_count();
    let short = model.store().dtype() == DType::F32 && head.bytes() < count * DType::F32.size_in_bytes();
    if short { count as u64 } else { 0 }
}

/// Elements that all layers keep per position, and those of one layer while it is computed again.
pub(super) fn layer_widths(model: &Decoder, checkpointing: bool) -> (u64, u64) {
    let config = model.config();
    let widths = [config.hidden_size as u64, config.intermediate_size as u64];
    let layers = model
        .layers()
        .map(|layer| saved(layer, config.query_size() as u64, config.key_value_size() as u64, widths));
    if checkpointing {
        let (layers, most) =
            layers.fold((0, 0), |(layers, most): (u64, u64), layer| (layers + 1, most.max(layer)));
        (layers * widths[0], most)
    } else {
        (layers.sum(), 0)
    }
}

/// Elements that a layer keeps per position.
fn saved(layer: &DecoderLayer, query: u64, key_value: u64, [hidden, wide]: [u64; 2]) -> u64 {
    // A frozen projection needs no input for its own gradient.
    let keeps = |at: usize| {
        let projection = &layer.projections()[at];
        projection.weight.slot().is_some() || projection.lora.is_some()
    };
    let if_any = |places: &[usize], width: u64| if places.iter().any(|at| keeps(*at)) { width } else { 0 };
    let norms = 2 * hidden + layer.norms().2.map_or(0, |_| query + key_value);
    let attention = 2 * query + 2 * key_value;
    let feed_forward = 2 * wide;
    let inputs = if_any(&[0, 1, 2], hidden) + if_any(&[4, 5], hidden) + if_any(&[6], wide);
    let low_rank = layer.projections().iter().filter_map(|projection| projection.lora.as_ref());
    let additions: u64 = low_rank
        .map(|lora| {
            let [rank, inner] =
                [0, 1].map(|at| lora.a.shape().dims().get(at).map_or(0, |width| *width as u64));
            rank + if lora.dropout > 0.0 { inner } else { 0 }
        })
        .sum();
    norms + attention + feed_forward + inputs + additions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_in_the_unit_that_fits() {
        let table = [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1536, "1.5 KiB"),
            (5 << 20, "5.0 MiB"),
            (u64::MAX, "17179869184.0 GiB"),
        ];
        for (bytes, expected) in table {
            assert_eq!(ByteSize(bytes).to_string(), expected);
        }
        let need = MemoryNeed { resident: 3 << 20, batch: 512 };
        assert_eq!(
            need.to_string(),
            "3.0 MiB (3.0 MiB for weights, moments, gradients and a checkpoint's copy, 512 bytes for what the backward pass keeps)"
        );
    }
}
