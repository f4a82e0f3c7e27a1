//! A run's progress, and what a step did: plain data for checkpoints, records and guards.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A run's progress, without weights and moments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainState {
    /// Steps done.
    pub step: u64,
    /// The number of the next sample; see [`super::order`].
    pub cursor: u64,
    /// Numbers of skipped samples, disjoint and in order.
    pub skipped: Vec<Range<u64>>,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The step, counted from 0.
    pub step: u64,
    /// Mean loss over what was counted in the global batch, in nats.
    pub loss: f64,
    /// The learning rate used.
    pub learning_rate: f64,
    /// Norm of the mean gradient, before clipping.
    pub gradient_norm: f64,
    /// Positions that the model saw.
    pub tokens: u64,
    /// Tokens (or pairs) that were learnt from.
    pub counted: u64,
    /// For preferences: the mean margin, and the part of the pairs whose margin is above 0.
    pub preference: Option<[f64; 2]>,
    /// The numbers of the samples used, over all ranks.
    pub samples: Vec<Range<u64>>,
}
