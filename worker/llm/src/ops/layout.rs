//! How a batch of sequences lies in a tensor.

use std::sync::Arc;

/// How a batch of sequences lies in a `[batch * time, width]` tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchLayout {
    /// Number of sequences.
    pub batch: usize,
    /// Positions per sequence.
    pub time: usize,
    /// For each row, the first position of its sequence that it may attend to: the start of its document,
    /// where several are packed into one sequence. `None` means position 0.
    pub starts: Option<Arc<[u32]>>,
}

impl BatchLayout {
    /// Sequences that hold one document each.
    #[must_use]
    pub fn new(batch: usize, time: usize) -> Self {
        Self { batch, time, starts: None }
    }

    /// Number of rows: `batch * time`.
    #[must_use]
    pub fn count(&self) -> usize {
        self.batch * self.time
    }
}
