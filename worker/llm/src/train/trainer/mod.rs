//! One rank of a run: the gradients of its microbatches, and the update that all ranks make alike.
//!
//! It says which samples each microbatch takes before it is computed ([`Trainer::plan`]), so that they can be
//! leased and recorded. Vectors of gradients are used again from step to step. No clock is read: the caller
//! measures time and memory.

mod resume;

use crate::train::adamw::Moments;

use crate::autograd::FlatVector;
use crate::model::{self, Decoder, Precision};
use crate::parallel::{Partial, Tree, tree};
use crate::train::dataset::{Dataset, TokenBatch};
use crate::train::device_memory::DeviceMemoryNeed;
use crate::train::gradients::{GradientSum, LossSums};
use crate::train::memory::{self, MemoryNeed};
use crate::train::optimizer::{Optimizer, OptimizerStep};
use crate::train::order::{self, SampleOrder};
use crate::train::schedule::learning_rate;
use crate::train::{Error, Objective, StepReport, TrainConfig, TrainState, loss};
use muster_host::compute::Compute;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;

/// One rank of a training run.
pub struct Trainer {
    config: TrainConfig,
    dataset: Arc<dyn Dataset>,
    order: SampleOrder,
    compute: Compute,
    model: Decoder,
    optimizer: Optimizer,
    state: TrainState,
    loss: Option<f64>,
    spaces: Mutex<Vec<Vec<f32>>>,
    /// Bytes that may be used, if that is limited.
    granted: Option<u64>,
}

/// Vectors of gradients that are kept for reuse; a sum over n microbatches has about log2(n) alive.
const SPACES_MAX: usize = 4;

impl Trainer {
    /// A run at step 0 of `model`.
    ///
    /// # Errors
    /// When the parameters contradict each other, the model or the data, or a weight would get no gradient.
    pub fn new(
        config: TrainConfig,
        model: Decoder,
        dataset: Arc<dyn Dataset>,
        compute: Compute,
    ) -> Result<Self, Error> {
        Self::within(config, model, dataset, compute, None)
    }

    /// As [`Trainer::new`], in `granted` bytes of memory: a batch that would need more is refused before it
    /// is computed.
    ///
    /// # Errors
    /// As [`Trainer::new`]; [`Error::Budget`] when one sample is too much.
    pub fn within(
        config: TrainConfig,
        mut model: Decoder,
        dataset: Arc<dyn Dataset>,
        compute: Compute,
        granted: Option<u64>,
    ) -> Result<Self, Error> {
        config.validate()?;
        let info = dataset.info();
        let (vocab, context) = (model.config().vocab_size, model.config().max_position_embeddings);
        if info.vocab_size > vocab {
            return Err(Error::Parameters(format!(
                "tokens of a vocabulary of {} for a model of {vocab}: the tokenizer is not the model's",
                info.vocab_size
            )));
        }
        let learnt = model.virtual_tokens();
        if learnt + info.positions > context {
            let behind = if learnt > 0 { format!(" behind {learnt} that are learnt") } else { String::new() };
            return Err(Error::Parameters(format!(
                "sequences of {}{behind} are longer than the model's context of {context}; at most {} fit",
                info.positions,
                context.saturating_sub(learnt)
            )));
        }
        let order = SampleOrder::new(config.seed, info.samples)
            .ok_or_else(|| Error::Parameters("there are no samples".to_owned()))?;
        let needs =
            || DeviceMemoryNeed::of(&model, config.sequences, info.positions, config.gradient_checkpointing);
        let optimizer = Optimizer::of(model.store(), &config).map_err(|error| error.explain_memory(needs))?;
        model.set_checkpointing(config.gradient_checkpointing);
        let (state, loss, spaces) = (TrainState::default(), None, Mutex::default());
        let trainer =
            Self { config, dataset, order, compute, model, optimizer, state, loss, spaces, granted };
        // A weight that the loss does not depend on would silently stay untrained: one sample shows it.
        let batch = trainer.batch(std::slice::from_ref(&(0..1)))?;
        trainer.recycle(trainer.gradients_of(&batch, 0)?.flat);
        Ok(trainer)
    }

    /// The next step; it equals `config().steps` when the run is over.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.state.step
    }

    /// The run's progress.
    #[must_use]
    pub fn state(&self) -> &TrainState {
        &self.state
    }

    /// The parameters.
    #[must_use]
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The model after the last step.
    #[must_use]
    pub fn model(&self) -> &Decoder {
        &self.model
    }

    /// The data set.
    #[must_use]
    pub fn dataset(&self) -> &Arc<dyn Dataset> {
        &self.dataset
    }

    /// Its thread pool.
    #[must_use]
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// A copy of the trained weights, flat in order of name.
    ///
    /// # Errors
    /// When a device can't be read.
    pub fn weights(&self) -> Result<Vec<f32>, Error> {
        self.optimizer.weights(self.model.store())
    }

    /// A copy of the optimizer's moments.
    ///
    /// # Errors
    /// When a device can't be read.
    pub fn moments(&self) -> Result<Moments, Error> {
        self.optimizer.moments()
    }

    /// Number of trained parameters.
    #[must_use]
    pub fn parameter_count(&self) -> usize {
        self.model.store().trained_count()
    }

    /// The most positions that one step sees, over all ranks.
    #[must_use]
    pub fn tokens_per_step(&self) -> u64 {
        let per_sample = match self.config.objective {
            Objective::NextToken => 1,
            Objective::Preference { .. } => 2,
        };
        self.config.samples_per_step() * per_sample * self.dataset.info().positions as u64
    }

    /// Hash of the trained weights: equal on all ranks after each step.
    ///
    /// # Errors
    /// When a device can't be read.
    pub fn weights_hash(&self) -> Result<String, Error> {
        self.optimizer.hash(self.model.store())
    }

    /// The numbers of the samples that the next step takes, for each of its microbatches.
    #[must_use]
    pub fn plan(&self) -> Vec<Vec<Range<u64>>> {
        let all = order::take(self.state.cursor, self.config.samples_per_step(), &self.state.skipped);
        let each = self.config.sequences as u64;
        (0..self.config.microbatches as u64)
            .map(|microbatch| order::part(&all, microbatch * each, each))
            .collect()
    }

    /// The places in the data set of the samples with these numbers: what a loader prepares ahead.
    #[must_use]
    pub fn places(&self, numbers: &[Range<u64>]) -> Vec<u64> {
        self.order.places(numbers)
    }

    /// The samples with these numbers.
    ///
    /// # Errors
    /// When the data set can't be read.
    pub fn batch(&self, numbers: &[Range<u64>]) -> Result<TokenBatch, Error> {
        self.dataset.batch(&self.places(numbers))
    }

    /// Announces the batches that will be wanted from now on, in this order, by the numbers of their samples;
    /// see [`Dataset::prefetch`].
    pub fn prefetch(&self, upcoming: impl Iterator<Item = Vec<Range<u64>>> + Send + 'static) {
        let order = self.order;
        self.dataset.prefetch(Box::new(upcoming.map(move |numbers| order.places(&numbers))));
    }

    /// The gradient sums of a contiguous range of the microbatches of the next step, as far as the tree over
    /// them allows.
    ///
    /// Give each rank its range of [`crate::parallel::shares()`], and bring the sums of all together with
    /// [`crate::parallel::Tree`]. About log2 of the range's length gradients exist at a time.
    ///
    /// # Errors
    /// When `step` is not the next one, the range is empty or past the end, or a sample can't be read or does
    /// not fit the model. A loss that is NaN or infinite is not an error yet: all ranks must see it, in the
    /// sum.
    pub fn loss_and_gradients(
        &self,
        step: u64,
        microbatches: Range<usize>,
    ) -> Result<Vec<Partial<GradientSum>>, Error> {
        self.expect_step(step)?;
        let plan = self.plan();
        let make = |microbatch: usize| {
            let numbers = &plan[microbatch];
            self.gradients_of(&self.batch(numbers)?, numbers.first().map_or(0, |range| range.start))
        };
        self.compute.run(|| {
            tree::sum(microbatches, self.config.microbatches, make, |sum, other| self.join(sum, other))
        })
    }

    /// The whole next step on this rank alone.
    ///
    /// # Errors
    /// As [`Trainer::loss_and_gradients`] and [`Trainer::apply`].
    pub fn step_alone(&mut self) -> Result<StepReport, Error> {
        let (step, replicas) = (self.step(), self.config.microbatches);
        let mut whole = Tree::new(replicas);
        for partial in self.loss_and_gradients(step, 0..replicas)? {
            whole.push(partial, |sum, other| self.join(sum, other))?;
        }
        self.apply(step, whole.total()?)
    }

    /// Adds the sum over other microbatches, in place, and keeps the vector that this frees.
    pub fn join(&self, sum: &mut GradientSum, other: GradientSum) {
        sum.sums.add(&other.sums);
        sum.flat.add(&other.flat);
        self.recycle(other.flat);
    }

    /// The memory that the gradients of a batch need.
    #[must_use]
    pub fn need(&self, batch: &TokenBatch) -> MemoryNeed {
        let apart = self.config.precision == Precision::Bf16;
        let batch = memory::activation_bytes(&self.model, &batch.rows(), self.config.gradient_checkpointing);
        MemoryNeed {
            resident: memory::training_bytes(&self.model, apart) + memory::snapshot_bytes(&self.model),
            batch,
        }
    }

    /// Gradients of one batch, which may come from a loader elsewhere. `number` is that of its first sample:
    /// dropout is drawn from it.
    ///
    /// # Errors
    /// When the batch does not fit the model, or a trained weight gets no gradient; [`Error::Budget`] when it
    /// does not fit what was granted, [`Error::Memory`] when it does not fit the device.
    pub fn gradients_of(&self, batch: &TokenBatch, number: u64) -> Result<GradientSum, Error> {
        batch.validate()?;
        if let Some(granted) = self.granted {
            let need = self.need(batch);
            if need.bytes() > granted {
                return Err(Error::Budget { sequences: batch.sequences, time: batch.time, need, granted });
            }
        }
        let space = self.spaces.lock().pop().unwrap_or_default();
        let dropout = Some(order::mix(self.config.seed ^ order::mix(number)));
        let (config, unit) = (&self.config, self.unit());
        let needs =
            || DeviceMemoryNeed::of(&self.model, batch.sequences, batch.time, config.gradient_checkpointing);
        let found =
            self.compute.run(|| loss::gradients(&self.model, batch, config.objective, unit, dropout, space));
        let (sums, gradients) = found.map_err(|error| error.explain_memory(needs))?;
        if let Some(name) = gradients.untouched().next() {
            return Err(model::Error::NoGradient(name.to_owned()).into());
        }
        Ok(GradientSum { sums, flat: gradients.into_flat() })
    }

    /// Makes the update of `step` from the sum over all microbatches of all ranks. The gradients become those
    /// of the mean loss over what was counted.
    ///
    /// # Errors
    /// When `step` is not the next one, the length differs, or the loss or the gradient is NaN or infinite;
    /// nothing is then changed.
    pub fn apply(&mut self, step: u64, total: GradientSum) -> Result<StepReport, Error> {
        self.expect_step(step)?;
        let GradientSum { sums, flat } = total;
        let flat = self.optimizer.place(self.model.store(), flat).map_err(|error| self.explain(error))?;
        if flat.len() != self.parameter_count() {
            return Err(Error::Parameters(format!(
                "a gradient of {} numbers for {} weights",
                flat.len(),
                self.parameter_count()
            )));
        }
        let counted = sums.counted.max(1.0);
        let mean = 1.0 / (self.unit() * counted);
        let gradient_norm =
            self.compute.run(|| self.optimizer.norm(&flat, mean)).map_err(|error| self.explain(error))?;
        for (what, value) in [("the loss", sums.loss), ("the gradient's norm", gradient_norm)] {
            if !value.is_finite() {
                return Err(Error::NotFinite { step, what, value });
            }
        }
        // If nothing was counted in the first step, LoRA's B is still zero.
        if step == LORA_LEARNS_AT && gradient_norm > 0.0 && self.optimizer.has_moved()? {
            self.expect_all_learn(&flat)?;
        }
        // Without anything counted there is no gradient, but AdamW's moments would still move the weights.
        if sums.counted > 0.0 {
            let clip = if gradient_norm > self.config.clip_norm {
                self.config.clip_norm / gradient_norm
            } else {
                1.0
            };
            let Self { config, optimizer, model, compute, .. } = self;
            let update = OptimizerStep { config, step, gradients: &flat, scale: mean * clip };
            compute.run(|| optimizer.update(model.store(), &update)).map_err(|error| self.explain(error))?;
        }
        self.recycle(flat);
        Ok(self.advance(step, &sums, gradient_norm))
    }

    fn advance(&mut self, step: u64, sums: &LossSums, gradient_norm: f64) -> StepReport {
        let samples = order::take(self.state.cursor, self.config.samples_per_step(), &self.state.skipped);
        let counted = sums.counted.max(1.0);
        let preference = match self.config.objective {
            Objective::NextToken => None,
            Objective::Preference { .. } => Some([sums.margin / counted, sums.preferred / counted]),
        };
        self.state.cursor = samples.last().map_or(self.state.cursor, |range| range.end);
        self.state.step += 1;
        let loss = sums.loss / counted;
        self.loss = Some(loss);
        StepReport {
            step,
            loss,
            learning_rate: learning_rate(&self.config, step),
            gradient_norm,
            tokens: sums.tokens as u64,
            counted: sums.counted as u64,
            preference,
            samples,
        }
    }

    /// Skips samples that are still to come.
    ///
    /// # Errors
    /// When some of them were used already: restore an earlier checkpoint first.
    pub fn skip(&mut self, numbers: Range<u64>) -> Result<(), Error> {
        if numbers.is_empty() || numbers.start < self.state.cursor {
            return Err(Error::Parameters(format!(
                "samples {numbers:?} can't be skipped: the next is {}",
                self.state.cursor
            )));
        }
        order::skip(&mut self.state.skipped, numbers);
        Ok(())
    }

    /// Replaces progress, weights and moments by those of another run with the same parameters, such as a
    /// DiLoCo replica.
    ///
    /// # Errors
    /// When the lengths differ; nothing is then changed.
    pub fn put(&mut self, state: TrainState, weights: &[f32], moments: Moments) -> Result<(), Error> {
        let count = self.parameter_count();
        let lengths = [weights.len(), moments.first.len(), moments.second.len()];
        if lengths.iter().any(|len| *len != count) || state.step > self.config.steps {
            let steps = self.config.steps;
            return Err(Error::Parameters(format!(
                "{lengths:?} numbers at step {} for {count} and {steps} steps",
                state.step
            )));
        }
        self.optimizer.put(self.model.store(), weights, moments)?;
        self.state = state;
        Ok(())
    }

    /// Moves the moments out, to give them to a replica; [`Trainer::put`] must follow before the next step.
    ///
    /// # Errors
    /// When a device can't be read.
    pub fn take_moments(&mut self) -> Result<Moments, Error> {
        self.optimizer.take_moments()
    }

    /// The last step's mean loss.
    #[must_use]
    pub fn last_loss(&self) -> Option<f64> {
        self.loss
    }

    /// The scale of gradients while they are summed: one over the most that a microbatch can count.
    fn unit(&self) -> f64 {
        let most = match self.config.objective {
            Objective::NextToken => self.config.sequences * self.dataset.info().positions,
            Objective::Preference { .. } => self.config.sequences,
        };
        // Rounded to f32 as the model uses it, so that dividing by it restores the loss exactly.
        f64::from((1.0 / most as f64) as f32)
    }

    /// Adds what was needed to an error for lack of memory.
    fn explain(&self, error: Error) -> Error {
        let (config, positions) = (&self.config, self.dataset.info().positions);
        error.explain_memory(|| {
            DeviceMemoryNeed::of(&self.model, config.sequences, positions, config.gradient_checkpointing)
        })
    }

    fn recycle(&self, space: FlatVector) {
        // A device's allocator keeps what is freed by itself.
        let FlatVector::Host(space) = space else { return };
        let mut spaces = self.spaces.lock();
        if spaces.len() < SPACES_MAX && space.len() == self.parameter_count() {
            spaces.push(space);
        }
    }

    /// At the first step a matrix may rightly have a zero gradient, because it is multiplied with one that
    /// starts as zeros (LoRA's A); at the second step it means that no gradient reaches it.
    fn expect_all_learn(&self, gradients: &FlatVector) -> Result<(), Error> {
        match self.optimizer.unmoved(self.model.store(), gradients)? {
            Some(slot) => Err(model::Error::NoGradient(slot.name.clone()).into()),
            None => Ok(()),
        }
    }

    fn expect_step(&self, given: u64) -> Result<(), Error> {
        let expected = self.state.step;
        if expected >= self.config.steps {
            return Err(Error::Parameters(format!("the run of {} steps is over", self.config.steps)));
        }
        if given == expected { Ok(()) } else { Err(Error::OutOfOrder { given, expected }) }
    }
}

/// The step at which every trained weight must have a gradient that is not all zeros.
const LORA_LEARNS_AT: u64 = 1;
