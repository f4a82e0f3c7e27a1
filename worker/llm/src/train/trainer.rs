//! One rank of a run: gradients of its microbatches, and the update that all ranks make alike.

use super::{Corpus, Error, TrainConfig};
use crate::compute::Compute;
use std::ops::Range;
use std::sync::Arc;

/// The sum over some microbatches.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// Sum of the microbatches' mean losses, in nats.
    pub loss_sum: f64,
    /// Sum of the gradients of those, in order of weight name.
    pub flat: Vec<f32>,
}

/// What an update did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Applied {
    /// The learning rate used.
    pub learning_rate: f64,
    /// Norm of the mean gradient, before clipping.
    pub gradient_norm: f64,
}

/// One rank.
pub struct Trainer {}

impl Trainer {
    /// A run at step 0.
    ///
    /// # Errors
    /// When the parameters contradict each other or the data, or a weight would get no gradient.
    pub fn new(config: TrainConfig, corpus: Arc<Corpus>, compute: Compute) -> Result<Self, Error> {
        let _ = (config, corpus, compute);
        todo!()
    }

    /// A run that goes on where `bytes` was written, bit for bit.
    ///
    /// # Errors
    /// As [`Trainer::new`]; also when the checkpoint is damaged, or of other parameters or data.
    pub fn from_checkpoint(config: TrainConfig, corpus: Arc<Corpus>, compute: Compute, bytes: &[u8]) -> Result<Self, Error> {
        let _ = (config, corpus, compute, bytes);
        todo!()
    }

    /// Weights, moments and step as a safetensors file.
    ///
    /// # Errors
    /// When the format refuses.
    pub fn to_checkpoint(&self) -> Result<Vec<u8>, Error> {
        todo!()
    }

    /// The step that is next; it equals `config().steps` when the run is over.
    #[must_use]
    pub fn step(&self) -> u64 {
        todo!()
    }

    /// The parameters.
    #[must_use]
    pub fn config(&self) -> &TrainConfig {
        todo!()
    }

    /// How many numbers a gradient has.
    #[must_use]
    pub fn parameter_count(&self) -> usize {
        todo!()
    }

    /// Tokens that one step learns from, over all ranks.
    #[must_use]
    pub fn tokens_per_step(&self) -> u64 {
        todo!()
    }

    /// Hash of the weights: equal on all ranks after each step.
    #[must_use]
    pub fn weights_hash(&self) -> String {
        todo!()
    }

    /// The gradient sum of a contiguous range of the microbatches of the next step.
    ///
    /// Give each rank [`super::reduce::share`], and bring the sums together with [`super::reduce::tree`].
    ///
    /// # Errors
    /// When `step` is not the next one, the range is empty or past the end, or the loss is not finite.
    pub fn loss_and_gradients(&self, step: u64, microbatches: Range<usize>) -> Result<Gradients, Error> {
        let _ = (step, microbatches);
        todo!()
    }

    /// Makes the update of `step` from the sum over all microbatches of all ranks.
    ///
    /// # Errors
    /// When `step` is not the next one, the length differs, or the gradient is not finite; nothing is then changed.
    pub fn apply(&mut self, step: u64, summed: &[f32]) -> Result<Applied, Error> {
        let _ = (step, summed);
        todo!()
    }
}
