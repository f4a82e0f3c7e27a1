//! The parameters of a run: model, batch, optimizer and schedule.

use crate::model::ModelConfig;
use serde::{Deserialize, Serialize};

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// The model's shape.
    pub model: ModelConfig,
    /// Draws the initial weights and the order of the data.
    pub seed: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Tokens of a sequence; at most the model's context.
    pub context: usize,
    /// Microbatches of a step, over all ranks. A power of two, so that ranks divide it.
    pub microbatches: usize,
    /// Sequences of a microbatch.
    pub sequences: usize,
    /// Greatest learning rate.
    pub learning_rate: f64,
    /// Steps until it is reached.
    pub warmup_steps: u64,
    /// The last learning rate, as a part of the greatest.
    pub final_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Pull towards zero, on matrices only.
    pub weight_decay: f64,
    /// Greatest norm of the gradient.
    pub clip_norm: f64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            model: ModelConfig::default(),
            seed: 1,
            steps: 600,
            context: 128,
            microbatches: 4,
            sequences: 16,
            learning_rate: 3e-3,
            warmup_steps: 40,
            final_rate: 0.05,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            clip_norm: 1.0,
        }
    }
}
