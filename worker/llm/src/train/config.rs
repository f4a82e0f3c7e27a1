//! The parameters of a run: model, batch, optimizer and schedule.

use super::Error;
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
    /// Microbatches of a step, over all ranks; at least one for each.
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

/// Most microbatches of a step.
const MICROBATCHES_MAX: usize = 4096;
/// Most tokens of a microbatch: its activations exist at the same time.
const MICROBATCH_TOKENS_MAX: usize = 1 << 20;

impl TrainConfig {
    /// Tokens that one step learns from, over all ranks.
    #[must_use]
    pub fn tokens_per_step(&self) -> u64 {
        (self.microbatches * self.sequences * self.context) as u64
    }

    /// Checks that the numbers make sense together.
    ///
    /// # Errors
    /// [`Error::Parameters`] naming the first that does not.
    pub fn validate(&self) -> Result<(), Error> {
        self.model.validate()?;
        let open = |x: f64| x.is_finite() && x > 0.0;
        let part = |x: f64| (0.0..1.0).contains(&x);
        let tokens = self.sequences.saturating_mul(self.context);
        let context_max = self.model.max_position_embeddings;
        let checks = [
            ("steps", self.steps > 0 && self.steps < i32::MAX as u64),
            ("context", (1..=context_max).contains(&self.context)),
            ("microbatches", (1..=MICROBATCHES_MAX).contains(&self.microbatches)),
            ("sequences", (1..=MICROBATCH_TOKENS_MAX).contains(&tokens)),
            ("learning_rate", open(self.learning_rate)),
            ("warmup_steps", self.warmup_steps <= self.steps),
            ("final_rate", (0.0..=1.0).contains(&self.final_rate)),
            ("beta1", part(self.beta1)),
            ("beta2", part(self.beta2)),
            ("epsilon", open(self.epsilon)),
            ("weight_decay", self.weight_decay >= 0.0 && self.weight_decay * self.learning_rate < 1.0),
            ("clip_norm", open(self.clip_norm)),
        ];
        match checks.iter().find(|(_, sound)| !sound) {
            Some((name, _)) => Err(Error::Parameters(format!("{name} is out of bounds in {self:?}"))),
            None => Ok(()),
        }
    }
}
