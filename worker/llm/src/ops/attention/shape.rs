//! The sizes of an attention, and what precedes its positions.

use crate::autograd::Weight;
use crate::ops::BatchLayout;
use crate::ops::rope::RotaryEmbedding;
use candle_core::Result;
use std::sync::Arc;

/// How attention's width divides into heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key and value heads.
    pub key_value: usize,
    /// Width of each.
    pub dim: usize,
}

impl Heads {
    /// Query heads per key and value head.
    #[must_use]
    pub fn group(self) -> usize {
        self.query / self.key_value
    }

    /// The scale of scores: `1 / sqrt(dim)`.
    #[must_use]
    pub fn scale(self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }
}

/// Learnt keys and values that every position attends to, each `[positions, key_value * dim]`; keys are not
/// rotated.
#[derive(Clone)]
pub struct KeyValuePrefix {
    /// Keys.
    pub keys: Weight,
    /// Values.
    pub values: Weight,
}

impl KeyValuePrefix {
    pub(super) fn len(prefix: Option<&KeyValuePrefix>) -> Result<usize> {
        prefix.map_or(Ok(0), |prefix| Ok(prefix.keys.shape().dims2()?.0))
    }
}

/// What all layers share.
#[derive(Clone)]
pub struct AttentionShape {
    /// The heads.
    pub heads: Heads,
    /// The sequences.
    pub rows: BatchLayout,
    /// The rotary position embedding.
    pub rotation: Arc<RotaryEmbedding>,
}
