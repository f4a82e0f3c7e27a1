//! What a microbatch needs of a device's memory, to be said when there is not enough: exact for what is held,
//! an estimate for the rest.

use super::{Error, budget};
use crate::compute;
use crate::model::Decoder;
use crate::ops::{attention, head_loss};
use candle_core::DType;
use std::fmt;

/// Bytes that a step needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Of all weights, as they are held.
    pub weights: usize,
    /// Of masters and moments.
    pub optimizer: usize,
    /// Of the gradients of one microbatch, and of the sum that they are added to.
    pub gradients: usize,
    /// About what the forward pass leaves for the backward one, and what single operations need beside it.
    pub activations: usize,
    /// Sequences of the microbatch, and positions of each.
    pub batch: [usize; 2],
    /// Free and all bytes of the device, where its driver says.
    pub device: Option<[usize; 2]>,
}

impl Needs {
    /// Those of a microbatch of `sequences` of `time` positions.
    #[must_use]
    pub fn of(model: &Decoder, sequences: usize, time: usize, checkpointing: bool) -> Self {
        let (store, config) = (model.store(), model.config());
        let (trained, size) = (store.trained_count(), store.dtype().size_in_bytes());
        let (left, again) = budget::blocks(model, checkpointing);
        let kept = usize::try_from(left + again).unwrap_or(usize::MAX);
        let positions = sequences * time;
        let passing = head_loss::composed_bytes(positions, config.vocab_size)
            + attention::composed_bytes(sequences, time, config.heads());
        Self {
            weights: store.bytes(),
            optimizer: 4 * trained * if store.dtype() == DType::F32 { 2 } else { 3 },
            gradients: 2 * 4 * trained,
            activations: positions.saturating_mul(kept).saturating_mul(size).saturating_add(passing),
            batch: [sequences, time],
            device: compute::memory(store.device()),
        }
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> usize {
        self.weights + self.optimizer + self.gradients + self.activations
    }

    /// An error that says what was needed, if `error` is for want of memory; else the same.
    #[must_use]
    pub fn explain(error: Error, needs: impl FnOnce() -> Self) -> Error {
        let reason = error.to_string();
        if compute::is_out_of_memory(&reason) { Error::Memory { needs: needs(), reason } } else { error }
    }
}

/// Bytes in gigabytes.
fn gigabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e9
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [weights, optimizer, gradients, activations, total] =
            [self.weights, self.optimizer, self.gradients, self.activations, self.total()].map(gigabytes);
        let [sequences, time] = self.batch;
        write!(
            f,
            "about {total:.2} GB: weights {weights:.2}, masters and moments {optimizer:.2}, gradients {gradients:.2}, activations of \
             {sequences} sequences of {time} about {activations:.2}"
        )?;
        match self.device.map(|sizes| sizes.map(gigabytes)) {
            Some([free, all]) => write!(f, "; the device has {all:.2} GB, of which {free:.2} are free"),
            None => Ok(()),
        }
    }
}
