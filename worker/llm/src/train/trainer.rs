//! One rank of a run: gradients of its microbatches, and the update that all ranks make alike.

use super::adamw::{self, Moments};
use super::batches::Batches;
use super::checkpoint::{self, CheckpointInfo};
use super::{Corpus, Error, TrainConfig};
use crate::compute::Compute;
use crate::durable;
use crate::model::weights::initial;
use crate::model::{self, Decoder};
use crate::ops::Rows;
use crate::ops::head_loss::Targets;
use crate::parallel::{Partial, tree};
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

impl Gradients {
    /// Adds the sum over other microbatches to this one.
    pub fn add(&mut self, other: Gradients) {
        self.loss_sum += other.loss_sum;
        tree::add(&mut self.flat, &other.flat);
    }
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
pub struct Trainer {
    config: TrainConfig,
    corpus: Arc<Corpus>,
    compute: Compute,
    batches: Batches,
    model: Decoder,
    weights: Vec<f32>,
    moments: Moments,
    step: u64,
}

impl Trainer {
    /// A run at step 0.
    ///
    /// # Errors
    /// When the parameters contradict each other or the data, or a weight would get no gradient.
    pub fn new(config: TrainConfig, corpus: Arc<Corpus>, compute: Compute) -> Result<Self, Error> {
        config.validate()?;
        let weights = initial(&config.model, config.seed);
        let moments = Moments::zero(weights.len());
        Self::start(config, corpus, compute, 0, weights, moments)
    }

    /// A run that goes on where `bytes` was written, bit for bit.
    ///
    /// # Errors
    /// As [`Trainer::new`]; also when the checkpoint is damaged, or of other parameters or data.
    pub fn from_checkpoint(config: TrainConfig, corpus: Arc<Corpus>, compute: Compute, bytes: &[u8]) -> Result<Self, Error> {
        config.validate()?;
        let expected = CheckpointInfo::new(0, &config, corpus.hash());
        let (step, weights, moments) = checkpoint::read(bytes, &expected)?;
        Self::start(config, corpus, compute, step, weights, moments)
    }

    fn start(
        config: TrainConfig,
        corpus: Arc<Corpus>,
        compute: Compute,
        step: u64,
        weights: Vec<f32>,
        moments: Moments,
    ) -> Result<Self, Error> {
        if corpus.vocab_size() > config.model.vocab_size {
            return Err(Error::Parameters(format!(
                "tokens of a vocabulary of {} for a model of {}",
                corpus.vocab_size(),
                config.model.vocab_size
            )));
        }
        let batches = Batches::new(config.seed, corpus.len(), config.context);
        let batches =
            batches.ok_or_else(|| Error::Parameters(format!("{} tokens are too few for a context of {}", corpus.len(), config.context)))?;
        let model = Decoder::trained(config.model.clone(), &weights)?;
        let trainer = Self { config, corpus, compute, batches, model, weights, moments, step };
        // A layer that lost its graph would stay as it was drawn, in silence: one sequence tells.
        trainer.compute.run(|| trainer.gradients_of(0, 1))?;
        Ok(trainer)
    }

    /// Weights, moments and step as a safetensors file.
    ///
    /// # Errors
    /// When the format refuses.
    pub fn to_checkpoint(&self) -> Result<Vec<u8>, Error> {
        let info = CheckpointInfo::new(self.step, &self.config, self.corpus.hash());
        checkpoint::write(&info, &self.weights, &self.moments)
    }

    /// The step that is next; it equals `config().steps` when the run is over.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The parameters.
    #[must_use]
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The weights, flat in order of name.
    #[must_use]
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// How many numbers a gradient has.
    #[must_use]
    pub fn parameter_count(&self) -> usize {
        self.weights.len()
    }

    /// Tokens that one step learns from, over all ranks.
    #[must_use]
    pub fn tokens_per_step(&self) -> u64 {
        self.config.tokens_per_step()
    }

    /// Hash of the weights: equal on all ranks after each step.
    #[must_use]
    pub fn weights_hash(&self) -> String {
        let bytes: Vec<u8> = self.weights.iter().flat_map(|x| x.to_le_bytes()).collect();
        durable::hash(&bytes)
    }

    /// The gradient sums of a contiguous range of the microbatches of the next step, as far as the tree over them allows.
    ///
    /// Give each rank its range of [`crate::parallel::shares()`], and bring the sums of all together with [`crate::parallel::Tree`]. About
    /// log2 of the range's length gradients exist at a time.
    ///
    /// # Errors
    /// When `step` is not the next one, the range is empty or past the end, or the loss is not finite.
    pub fn loss_and_gradients(&self, step: u64, microbatches: Range<usize>) -> Result<Vec<Partial<Gradients>>, Error> {
        self.expect_step(step)?;
        let sequences = self.config.sequences;
        let first = step * self.config.microbatches as u64;
        let make = |microbatch: usize| self.gradients_of((first + microbatch as u64) * sequences as u64, sequences);
        self.compute.run(|| tree::sum(microbatches, self.config.microbatches, make, Gradients::add))
    }

    /// Loss and gradients of one microbatch: the run's sequences from `first` on.
    fn gradients_of(&self, first: u64, sequences: usize) -> Result<Gradients, Error> {
        let context = self.config.context;
        let (mut tokens, mut targets) = (Vec::with_capacity(sequences * context), Vec::with_capacity(sequences * context));
        for sequence in 0..sequences as u64 {
            let window = self.corpus.tokens(self.batches.start(first + sequence), context + 1);
            tokens.extend_from_slice(&window[..context]);
            targets.extend_from_slice(&window[1..]);
        }
        let rows = Rows::new(sequences, context);
        let (loss_sum, gradients) = self.model.gradients(&tokens, &Targets::mean(targets), &rows, None, Vec::new())?;
        if !loss_sum.is_finite() {
            return Err(Error::NotFinite { step: self.step, what: "the loss", value: loss_sum });
        }
        if let Some(name) = gradients.untouched().next() {
            return Err(model::Error::NoGradient(name.to_owned()).into());
        }
        let flat = gradients.into_flat().map_err(model::Error::from)?;
        Ok(Gradients { loss_sum, flat })
    }

    /// Makes the update of `step` from the sum over all microbatches of all ranks.
    ///
    /// # Errors
    /// When `step` is not the next one, the length differs, or the gradient is not finite; nothing is then changed.
    pub fn apply(&mut self, step: u64, summed: &[f32]) -> Result<Applied, Error> {
        self.expect_step(step)?;
        if summed.len() != self.weights.len() {
            return Err(Error::Parameters(format!("a gradient of {} numbers for {} weights", summed.len(), self.weights.len())));
        }
        let mean = 1.0 / self.config.microbatches as f64;
        let gradient_norm = adamw::norm(summed, mean);
        if !gradient_norm.is_finite() {
            return Err(Error::NotFinite { step, what: "the gradient's norm", value: gradient_norm });
        }
        let clip = if gradient_norm > self.config.clip_norm { self.config.clip_norm / gradient_norm } else { 1.0 };
        adamw::update(&self.config, step, &mut self.weights, &mut self.moments, summed, mean * clip);
        self.model.store().set(&self.weights)?;
        self.step += 1;
        Ok(Applied { learning_rate: adamw::learning_rate(&self.config, step), gradient_norm })
    }

    fn expect_step(&self, given: u64) -> Result<(), Error> {
        if self.step >= self.config.steps {
            return Err(Error::Parameters(format!("the run of {} steps is over", self.config.steps)));
        }
        if given == self.step { Ok(()) } else { Err(Error::OutOfOrder { given, expected: self.step }) }
    }
}
