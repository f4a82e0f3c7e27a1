//! The parameters of a run: batch, objective, optimizer and schedule. The model and the data are given beside
//! them.

use super::Error;
use super::schedule::Schedule;
use crate::model::Precision;
use serde::{Deserialize, Serialize};

/// What is to become small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Objective {
    /// The cross-entropy of the next token, as a mean over the counted tokens of the global batch:
    /// pre-training, and fine-tuning on instructions, whose data say what counts.
    #[default]
    NextToken,
    /// Direct preference optimisation (Rafailov et al. 2023), as a mean over the pairs of the global batch.
    Preference {
        /// How dearly it costs to leave the reference.
        beta: f64,
        /// The part of the labels that is taken to be wrong (conservative DPO, Mitchell 2023); 0: none.
        label_smoothing: f64,
    },
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Draws the order of the data and what is dropped.
    pub seed: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Microbatches of a step, over all ranks, at least one for each: what is computed at a time, and the
    /// leaves of the sum.
    pub microbatches: usize,
    /// Samples of a microbatch: sequences, or pairs of them.
    pub sequences: usize,
    /// What is to become small.
    pub objective: Objective,
    /// Greatest learning rate.
    pub learning_rate: f64,
    /// The course of the learning rate after the warm-up.
    pub schedule: Schedule,
    /// Steps until the greatest rate is reached.
    pub warmup_steps: u64,
    /// Steps of the fall at the end, where the schedule has one of its own.
    pub decay_steps: u64,
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
    /// What trained weights are computed with: f32, or bf16 with masters in f32.
    pub precision: Precision,
    /// Whether blocks are done again on the way back instead of kept: less memory, a third more work.
    pub gradient_checkpointing: bool,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            steps: 600,
            microbatches: 4,
            sequences: 16,
            objective: Objective::NextToken,
            learning_rate: 3e-3,
            schedule: Schedule::Cosine,
            warmup_steps: 40,
            decay_steps: 0,
            final_rate: 0.05,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            clip_norm: 1.0,
            precision: Precision::F32,
            gradient_checkpointing: false,
        }
    }
}

/// Most microbatches of a step.
const MICROBATCHES_MAX: usize = 4096;
/// Most samples of a microbatch: their activations exist at the same time.
const SEQUENCES_MAX: usize = 1 << 16;

impl TrainConfig {
    /// Samples that one step learns from, over all ranks.
    #[must_use]
    pub fn samples_per_step(&self) -> u64 {
        (self.microbatches * self.sequences) as u64
    }

    /// Checks that the numbers make sense together.
    ///
    /// # Errors
    /// [`Error::Parameters`] naming the first that does not.
    pub fn validate(&self) -> Result<(), Error> {
        let open = |x: f64| x.is_finite() && x > 0.0;
        let part = |x: f64| (0.0..1.0).contains(&x);
        let (beta, label_smoothing) = match self.objective {
            Objective::NextToken => (1.0, 0.0),
            Objective::Preference { beta, label_smoothing } => (beta, label_smoothing),
        };
        let checks = [
            ("steps", self.steps > 0 && self.steps < i32::MAX as u64, "from 1 to 2^31 - 2"),
            ("microbatches", (1..=MICROBATCHES_MAX).contains(&self.microbatches), "from 1 to 4096"),
            ("sequences", (1..=SEQUENCES_MAX).contains(&self.sequences), "from 1 to 65536"),
            ("objective.beta", open(beta), "above 0"),
            ("objective.label_smoothing", (0.0..0.5).contains(&label_smoothing), "from 0 to below 0.5"),
            ("learning_rate", open(self.learning_rate), "above 0"),
            ("warmup_steps", self.warmup_steps <= self.steps, "at most `steps`"),
            (
                "decay_steps",
                self.decay_steps <= self.steps - self.warmup_steps.min(self.steps),
                "at most `steps` less `warmup_steps`",
            ),
            ("final_rate", (0.0..=1.0).contains(&self.final_rate), "from 0 to 1"),
            ("beta1", part(self.beta1), "from 0 to below 1"),
            ("beta2", part(self.beta2), "from 0 to below 1"),
            ("epsilon", open(self.epsilon), "above 0"),
            (
                "weight_decay",
                self.weight_decay >= 0.0 && self.weight_decay * self.learning_rate < 1.0,
                "at least 0, and below 1 when multiplied with `learning_rate`",
            ),
            ("clip_norm", open(self.clip_norm), "above 0"),
            ("precision", matches!(self.precision, Precision::F32 | Precision::Bf16), "`f32` or `bf16`"),
        ];
        match checks.iter().find(|(_, sound, _)| !sound) {
            Some((name, _, right)) => {
                Err(Error::Parameters(format!("{name} is out of bounds: it must be {right}, in {self:?}")))
            }
            None => Ok(()),
        }
    }
}
