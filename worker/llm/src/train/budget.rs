//! What a batch needs of the memory that was granted, told before it is computed: a process that takes more
//! is killed without a word. [`super::memory`] says afterwards what a device had too little of.
//!
//! It is counted from shapes alone, so that every rank and every restart comes to the same answer: the
//! weights, their moments and one gradient, the copy that a checkpoint is written from, and what the way back
//! keeps of each position. What exists for a moment only is left out where it is small, so that the count is
//! a little too low: what is refused would not have fitted. Tests hold it against the allocator.

use crate::model::Decoder;
use crate::model::block::Block;
use crate::ops::Rows;
use candle_core::DType;
use std::fmt;

/// Rows whose logits exist at the same time; as the output layer takes them.
const LOGIT_ROWS: usize = 256;

/// Bytes that are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// For the weights, the moments, one gradient and a checkpoint's copy, whatever the batch.
    pub resident: u64,
    /// For what the way back keeps of the batch.
    pub batch: u64,
}

impl Need {
    /// All of them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.resident.saturating_add(self.batch)
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [all, resident, batch] = [self.bytes(), self.resident, self.batch].map(Size);
        write!(
            f,
            "{all} ({resident} for weights, moments, gradients and a checkpoint's copy, {batch} for what the way back keeps)"
        )
    }
}

/// A number of bytes, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
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

/// What training `model` takes whatever the batch; `apart`: f32 masters are kept beside the model.
#[must_use]
pub fn resident(model: &Decoder, apart: bool) -> u64 {
    let vectors = if apart { 4 } else { 3 };
    let trained = model.store().trained_count() as u64;
    model.store().bytes() as u64 + trained * vectors * size_of::<f32>() as u64
}

/// What a checkpoint is written from while the training goes on: a copy of the weights and their moments.
#[must_use]
pub fn snapshot(model: &Decoder) -> u64 {
    model.store().trained_count() as u64 * 3 * size_of::<f32>() as u64
}

/// What the way back keeps of `rows`, and the most that is added to that at one time.
#[must_use]
pub fn activations(model: &Decoder, rows: &Rows, checkpointing: bool) -> u64 {
    let config = model.config();
    let (hidden, wide) = (config.hidden_size as u64, config.intermediate_size as u64);
    let prompt = model.prompt().and_then(|prompt| prompt.shape().dims().first().copied()).unwrap_or(0);
    let count = (rows.batch as u64) * (rows.time + prompt) as u64;
    let (of_blocks, again) = blocks(model, checkpointing);
    // At the end either the output layer has a chunk of logits, or the last block's feed-forward its
    // gradients, after it was done again.
    let logits = (LOGIT_ROWS as u64).min(count) * config.vocab_size as u64 + count * hidden + in_full(model);
    let last = count * (again + 2 * wide + hidden);
    let numbers = count * (of_blocks + hidden) + logits.max(last);
    numbers * model.store().dtype().size_in_bytes() as u64
}

/// Numbers of the output layer, if it is held in few bits: a product takes them as f32, all of them.
fn in_full(model: &Decoder) -> u64 {
    let (_, _, head) = model.ends();
    let count = head.shape().elem_count();
    let short = model.store().dtype() == DType::F32 && head.bytes() < count * DType::F32.size_in_bytes();
    if short { count as u64 } else { 0 }
}

/// Numbers that all blocks keep of each position, and those that one of them has again while it is computed a
/// second time.
pub(super) fn blocks(model: &Decoder, checkpointing: bool) -> (u64, u64) {
    let config = model.config();
    let widths = [config.hidden_size as u64, config.intermediate_size as u64];
    let blocks = model
        .blocks()
        .map(|block| kept(block, config.query_size() as u64, config.key_value_size() as u64, widths));
    if checkpointing {
        let (blocks, most) =
            blocks.fold((0, 0), |(blocks, most): (u64, u64), block| (blocks + 1, most.max(block)));
        (blocks * widths[0], most)
    } else {
        (blocks.sum(), 0)
    }
}

/// Numbers that a block keeps of each position.
fn kept(block: &Block, query: u64, key_value: u64, [hidden, wide]: [u64; 2]) -> u64 {
    // A frozen projection needs no input for its own gradient.
    let keeps = |at: usize| {
        let projection = &block.projections()[at];
        projection.weight.slot().is_some() || projection.lora.is_some()
    };
    let if_any = |places: &[usize], width: u64| if places.iter().any(|at| keeps(*at)) { width } else { 0 };
    let norms = 2 * hidden + block.norms().2.map_or(0, |_| query + key_value);
    let attention = 2 * query + 2 * key_value;
    let feed_forward = 2 * wide;
    let inputs = if_any(&[0, 1, 2], hidden) + if_any(&[4, 5], hidden) + if_any(&[6], wide);
    let low_rank = block.projections().iter().filter_map(|projection| projection.lora.as_ref());
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
            assert_eq!(Size(bytes).to_string(), expected);
        }
        let need = Need { resident: 3 << 20, batch: 512 };
        assert_eq!(
            need.to_string(),
            "3.0 MiB (3.0 MiB for weights, moments, gradients and a checkpoint's copy, 512 bytes for what the way back keeps)"
        );
    }
}
