//! The operations of a model, each with its way back.
//!
//! One file holds one operation: its arithmetic on slices for the CPU, the same composed of candle's
//! operations for other devices, and the step that it leaves on the tape. Tests hold the two against each
//! other, and both against candle's own graph.
//!
//! All activations are `[batch * time, width]`, row by row.

pub mod attention;
pub mod dropout;
pub mod embedding;
pub mod head_loss;
pub mod host;
pub mod linear;
pub mod matrix;
pub mod numeric;
pub mod profile;
pub mod prompt;
pub mod rms_norm;
pub mod rope;
pub mod scale;
pub mod simd;
pub mod swiglu;

use std::sync::Arc;

/// How a batch of sequences lies in a `[batch * time, width]` tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Sequences.
    pub batch: usize,
    /// Positions of each.
    pub time: usize,
    /// For each row, the first position of its sequence that it may look back to: the start of its document,
    /// where several are packed into one sequence. `None`: position 0.
    pub starts: Option<Arc<[u32]>>,
}

impl Rows {
    /// Sequences of one document each.
    #[must_use]
    pub fn new(batch: usize, time: usize) -> Self {
        Self { batch, time, starts: None }
    }

    /// All rows.
    #[must_use]
    pub fn count(&self) -> usize {
        self.batch * self.time
    }
}
