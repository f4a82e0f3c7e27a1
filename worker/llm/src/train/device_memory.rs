//! What a microbatch needs of a device's memory, for the error when there is too little: exact for weights,
//! optimizer and gradients, an estimate for the rest.

use super::memory;
use crate::device;
use crate::model::Decoder;
use crate::ops::{attention, linear_cross_entropy};
use candle_core::DType;
use std::fmt;

/// Bytes that a step needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemoryNeed {
    /// Bytes of all weights.
    pub weights: usize,
    /// Bytes of masters and moments.
    pub optimizer: usize,
    /// Bytes of the gradients of one microbatch, and of their sum.
    pub gradients: usize,
    /// About the bytes that the forward pass keeps for the backward pass, and that single operations need
    /// beside it.
    pub activations: usize,
    /// Sequences of the microbatch, and positions per sequence.
    pub batch: [usize; 2],
    /// Free and total bytes of the device, where its driver says.
    pub device: Option<[usize; 2]>,
}

impl DeviceMemoryNeed {
    /// The need of a microbatch of `sequences` of `time` positions.
    #[must_use]
    pub fn of(model: &Decoder, sequences: usize, time: usize, checkpointing: bool) -> Self {
        let (store, config) = (model.store(), model.config());
        let (trained, size) = (store.trained_count(), store.dtype().size_in_bytes());
        let (left, again) = memory::layer_widths(model, checkpointing);
        let kept = usize::try_from(left + again).unwrap_or(usize::MAX);
        let (positions, sizes) = (sequences * time, store.backend().block_sizes());
        let passing = linear_cross_entropy::composed_bytes(positions, config.vocab_size, sizes)
            + attention::composed_bytes(sequences, time, config.heads(), sizes.queries);
        Self {
            weights: store.bytes(),
            optimizer: 4 * trained * if store.dtype() == DType::F32 { 2 } else { 3 },
            gradients: 2 * 4 * trained,
            activations: positions.saturating_mul(kept).saturating_mul(size).saturating_add(passing),
            batch: [sequences, time],
            device: device::free_and_total_memory(store.device()),
        }
    }

    /// The sum.
    #[must_use]
    pub fn total(&self) -> usize {
        self.weights + self.optimizer + self.gradients + self.activations
    }
}

/// Bytes in gigabytes.
fn gigabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e9
}

impl fmt::Display for DeviceMemoryNeed {
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
