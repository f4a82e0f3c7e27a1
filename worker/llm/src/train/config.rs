//! The parameters of a run: batch, objective, optimizer and schedule. The model and the data are given beside
//! them.

use super::Error;
use crate::model::Precision;
use serde::{Deserialize, Serialize};

/// What training minimises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Objective {
    /// The cross-entropy of the next token, as a mean over the counted tokens of the global batch:
    /// pre-training, and fine-tuning on instructions, whose data say what counts.
    #[default]
    NextToken,
    /// Direct preference optimisation (Rafailov et al. 2023), as a mean over the pairs of the global batch.
    Preference {
        /// How strongly the policy is held to the reference.
        beta: f64,
        /// The part of the labels that is assumed to be wrong (conservative DPO, Mitchell 2023); 0 for none.
        label_smoothing: f64,
    },
}

/// The shape of the learning rate after the warm-up, from the peak to `final_rate` of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Half a cosine over the remaining steps (Loshchilov & Hutter 2017).
    #[default]
    Cosine,
    /// A straight line over the remaining steps.
    Linear,
    /// Constant, then over the last `decay_steps` a straight line down (warmup-stable-decay; Hu et al. 2024,
    /// MiniCPM). A checkpoint from before the decay can be trained on for any number of steps.
    Wsd,
    /// Constant.
    Constant,
}

/// The parameters of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Seed of the order of the data and of dropout.
    pub seed: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Microbatches of a step, over all ranks, at least one per rank. A microbatch is computed at a time, and
    /// is a leaf of the sum's tree.
    pub microbatches: usize,
    /// Samples of a microbatch: sequences, or pairs of them.
    pub sequences: usize,
    /// What is minimised.
    pub objective: Objective,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// The shape of the learning rate after the warm-up.
    pub schedule: Schedule,
    /// Steps until the peak is reached.
    pub warmup_steps: u64,
    /// Steps of the decay at the end, for [`Schedule::Wsd`].
    pub decay_steps: u64,
    /// The final learning rate, as a fraction of the peak.
    pub final_rate: f64,
    /// AdamW's decay of the first moment.
    pub beta1: f64,
    /// AdamW's decay of the second moment.
    pub beta2: f64,
    /// AdamW's epsilon, added to the root of the second moment.
    pub epsilon: f64,
    /// AdamW's decoupled weight decay; of matrices only.
    pub weight_decay: f64,
    /// The gradient is scaled down to this norm if it is greater.
    pub clip_norm: f64,
    /// The precision of trained weights: f32, or bf16 with f32 masters.
    pub precision: Precision,
    /// Gradient checkpointing: layers are computed again in the backward pass instead of kept. Less memory, a
    /// third more work.
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

/// Microbatches of a step, at most.
const MICROBATCHES_MAX: usize = 4096;
/// Samples of a microbatch, at most: their activations exist at the same time.
const SEQUENCES_MAX: usize = 1 << 16;

impl TrainConfig {
    /// Samples that one step learns from, over all ranks.
    #[must_use]
    pub fn samples_per_step(&self) -> u64 {
        (self.microbatches * self.sequences) as u64
    }

    /// Checks that the parameters are consistent.
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
