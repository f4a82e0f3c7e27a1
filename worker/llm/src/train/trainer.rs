//! One rank of a run: gradients of its microbatches, and the update that all ranks make alike.
//!
//! It states which samples each microbatch takes before it is computed ([`Trainer::plan`]), so that whoever
//! schedules can lease and record them. Vectors of gradients are used again from step to step. No clock is
//! read: whoever calls measures time and memory.

use super::adamw::Moments;
use super::budget::{self, Need};
use super::checkpoint::{Manifest, Restored, Snapshot};
use super::gradients::{Gradients, Sums};
use super::memory::Needs;
use super::optimizer::{Optimizer, Update};
use super::order::{self, Order};
use super::samples::{Batch, Samples};
use super::schedule::learning_rate;
use super::{Error, Objective, State, StepReport, TrainConfig, loss};
use crate::autograd::Flat;
use crate::model::weights::slots;
use crate::model::{self, Decoder, Precision};
use crate::parallel::{Partial, Tree, tree};
use muster_host::compute::Compute;
use muster_host::durable;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;

/// One rank.
pub struct Trainer {
    config: TrainConfig,
    samples: Arc<dyn Samples>,
    order: Order,
    compute: Compute,
    model: Decoder,
    optimizer: Optimizer,
    state: State,
    loss: Option<f64>,
    spaces: Mutex<Vec<Vec<f32>>>,
    /// Bytes that may be used.
    granted: Option<u64>,
}

/// Vectors of gradients that are kept to be used again; a sum over microbatches has about log2 of their
/// number alive.
const SPACES_MAX: usize = 4;

impl Trainer {
    /// A run at step 0 of a model as it is.
    ///
    /// # Errors
    /// When the parameters contradict each other, the model or the data, or a weight would get no gradient.
    pub fn new(
        config: TrainConfig,
        model: Decoder,
        samples: Arc<dyn Samples>,
        compute: Compute,
    ) -> Result<Self, Error> {
        Self::within(config, model, samples, compute, None)
    }

    /// As [`Trainer::new`], in `granted` bytes of memory: a batch that would need more is refused before it
    /// is computed.
    ///
    /// # Errors
    /// As [`Trainer::new`]; [`Error::Budget`] when one sample is too much.
    pub fn within(
        config: TrainConfig,
        mut model: Decoder,
        samples: Arc<dyn Samples>,
        compute: Compute,
        granted: Option<u64>,
    ) -> Result<Self, Error> {
        config.validate()?;
        let about = samples.about();
        let (vocab, context) = (model.config().vocab_size, model.config().max_position_embeddings);
        if about.vocab_size > vocab {
            return Err(Error::Parameters(format!(
                "tokens of a vocabulary of {} for a model of {vocab}: the tokenizer is not the model's",
                about.vocab_size
            )));
        }
        let learnt = model.before();
        if learnt + about.positions > context {
            let behind = if learnt > 0 { format!(" behind {learnt} that are learnt") } else { String::new() };
            return Err(Error::Parameters(format!(
                "sequences of {}{behind} are longer than the model's context of {context}; at most {} fit",
                about.positions,
                context.saturating_sub(learnt)
            )));
        }
        let order = Order::new(config.seed, about.samples)
            .ok_or_else(|| Error::Parameters("there are no samples".to_owned()))?;
        let needs = || Needs::of(&model, config.sequences, about.positions, config.gradient_checkpointing);
        let optimizer =
            Optimizer::of(model.store(), &config).map_err(|error| Needs::explain(error, needs))?;
        model.set_checkpointing(config.gradient_checkpointing);
        let (state, loss, spaces) = (State::default(), None, Mutex::default());
        let trainer =
            Self { config, samples, order, compute, model, optimizer, state, loss, spaces, granted };
        // A weight that nothing depends on would stay as it is, in silence: one sample tells.
        let batch = trainer.batch(std::slice::from_ref(&(0..1)))?;
        trainer.recycle(trainer.gradients_of(&batch, 0)?.flat);
        Ok(trainer)
    }

    /// The step that is next; it equals `config().steps` when the run is over.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.state.step
    }

    /// Where the run stands.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The parameters.
    #[must_use]
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The model, as it is after the last step.
    #[must_use]
    pub fn model(&self) -> &Decoder {
        &self.model
    }

    /// What it learns from.
    #[must_use]
    pub fn samples(&self) -> &Arc<dyn Samples> {
        &self.samples
    }

    /// Its threads.
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

    /// How many numbers a gradient has.
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
        self.config.samples_per_step() * per_sample * self.samples.about().positions as u64
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

    /// The places in the source of samples with these numbers: what a loader prepares ahead.
    #[must_use]
    pub fn places(&self, numbers: &[Range<u64>]) -> Vec<u64> {
        self.order.places(numbers)
    }

    /// The samples with these numbers.
    ///
    /// # Errors
    /// When the source can't give them.
    pub fn batch(&self, numbers: &[Range<u64>]) -> Result<Batch, Error> {
        self.samples.batch(&self.places(numbers))
    }

    /// The batches that will be wanted from now on, in this order, by the numbers of their samples: a source
    /// that is elsewhere may fetch them ahead.
    pub fn expect(&self, upcoming: impl Iterator<Item = Vec<Range<u64>>> + Send + 'static) {
        let order = self.order;
        self.samples.expect(Box::new(upcoming.map(move |numbers| order.places(&numbers))));
    }

    /// The gradient sums of a contiguous range of the microbatches of the next step, as far as the tree over
    /// them allows.
    ///
    /// Give each rank its range of [`crate::parallel::shares()`], and bring the sums of all together with
    /// [`crate::parallel::Tree`]. About log2 of the range's length gradients exist at a time.
    ///
    /// # Errors
    /// When `step` is not the next one, the range is empty or past the end, or a sample can't be read or does
    /// not fit the model. A loss that is not finite is no error yet: all ranks must learn of it, from the
    /// sum.
    pub fn loss_and_gradients(
        &self,
        step: u64,
        microbatches: Range<usize>,
    ) -> Result<Vec<Partial<Gradients>>, Error> {
        self.expect_step(step)?;
        let plan = self.plan();
        let make = |microbatch: usize| {
            let numbers = &plan[microbatch];
            self.gradients_of(&self.batch(numbers)?, numbers.first().map_or(0, |range| range.start))
        };
        crate::compute::run(&self.compute, || {
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

    /// Adds the sum over other microbatches, where they are, and keeps the vector that this frees.
    pub fn join(&self, sum: &mut Gradients, other: Gradients) {
        sum.sums.add(&other.sums);
        sum.flat.add(&other.flat);
        self.recycle(other.flat);
    }

    /// What the gradients of a batch need in memory.
    #[must_use]
    pub fn need(&self, batch: &Batch) -> Need {
        let apart = self.config.precision == Precision::Bf16;
        let batch = budget::activations(&self.model, &batch.rows(), self.config.gradient_checkpointing);
        Need { resident: budget::resident(&self.model, apart) + budget::snapshot(&self.model), batch }
    }

    /// Gradients of one batch, which may come from a loader elsewhere. `number` is that of its first sample:
    /// dropout is drawn from it.
    ///
    /// # Errors
    /// When the batch does not fit the model, or a trained weight gets no gradient; [`Error::Budget`] when it
    /// does not fit what was granted, [`Error::Memory`] when it does not fit the device.
    pub fn gradients_of(&self, batch: &Batch, number: u64) -> Result<Gradients, Error> {
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
        let needs = || Needs::of(&self.model, batch.sequences, batch.time, config.gradient_checkpointing);
        let found = crate::compute::run(&self.compute, || {
            loss::gradients(&self.model, batch, config.objective, unit, dropout, space)
        });
        let (sums, gradients) = found.map_err(|error| Needs::explain(error, needs))?;
        if let Some(name) = gradients.untouched().next() {
            return Err(model::Error::NoGradient(name.to_owned()).into());
        }
        Ok(Gradients { sums, flat: gradients.finish() })
    }

    /// Makes the update of `step` from the sum over all microbatches of all ranks. The gradients' scale is
    /// that of one microbatch of which everything counts; here they become those of the mean over what was
    /// counted.
    ///
    /// # Errors
    /// When `step` is not the next one, the length differs, or the loss or the gradient is not finite;
    /// nothing is then changed.
    pub fn apply(&mut self, step: u64, total: Gradients) -> Result<StepReport, Error> {
        self.expect_step(step)?;
        let Gradients { sums, flat } = total;
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
        let gradient_norm = crate::compute::run(&self.compute, || self.optimizer.norm(&flat, mean))
            .map_err(|error| self.explain(error))?;
        for (what, value) in [("the loss", sums.loss), ("the gradient's norm", gradient_norm)] {
            if !value.is_finite() {
                return Err(Error::NotFinite { step, what, value });
            }
        }
        // If nothing counted in the first step, the factors that begin as zeros still are.
        if step == LORA_LEARNS_AT && gradient_norm > 0.0 && self.optimizer.has_moved()? {
            self.expect_all_learn(&flat)?;
        }
        // A global batch of which nothing counts says nothing; moments that go on would still move the
        // weights.
        if sums.counted > 0.0 {
            let clip = if gradient_norm > self.config.clip_norm {
                self.config.clip_norm / gradient_norm
            } else {
                1.0
            };
            let Self { config, optimizer, model, compute, .. } = self;
            let update = Update { config, step, gradients: &flat, scale: mean * clip };
            crate::compute::run(&compute, || optimizer.update(model.store(), &update))
                .map_err(|error| self.explain(error))?;
        }
        self.recycle(flat);
        Ok(self.advance(step, &sums, gradient_norm))
    }

    fn advance(&mut self, step: u64, sums: &Sums, gradient_norm: f64) -> StepReport {
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

    /// Leaves samples out that are still to come.
    ///
    /// # Errors
    /// When some of them were used already, as far as this run knows: go back to a checkpoint first.
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

    /// Takes the weights, the moments and the place of another run of the same parameters: of a logical
    /// replica, say.
    ///
    /// # Errors
    /// When the lengths differ; nothing is then changed.
    pub fn put(&mut self, state: State, weights: &[f32], moments: Moments) -> Result<(), Error> {
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

    /// Takes the moments away, to give them to a replica; [`Trainer::put`] must follow before the next step.
    ///
    /// # Errors
    /// When a device can't be read.
    pub fn take_moments(&mut self) -> Result<Moments, Error> {
        self.optimizer.take_moments()
    }

    /// A copy of all that a checkpoint holds, to be written elsewhere while the training goes on. `parent` is
    /// the hash of the manifest of the checkpoint before.
    ///
    /// # Errors
    /// When a device can't be read.
    pub fn snapshot(&self, parent: Option<String>) -> Result<Snapshot, Error> {
        Snapshot::new(self, parent)
    }

    /// The last step's mean loss.
    #[must_use]
    pub fn last_loss(&self) -> Option<f64> {
        self.loss
    }

    /// Goes on where a checkpoint of this run was written, bit for bit. `read` gives a file of the manifest.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when it is damaged, or of other parameters or data; nothing is then changed.
    pub fn restore(&mut self, manifest: &Manifest, read: super::checkpoint::Read<'_>) -> Result<(), Error> {
        manifest.expect(self)?;
        let Restored { weights, moments } = manifest.numbers(self.model.store().slots(), read)?;
        self.put(manifest.state.clone(), &weights, moments)?;
        self.loss = manifest.loss;
        Ok(())
    }

    /// Names the parameters, the model and what of it is trained. As text, since a float that was read from
    /// JSON may lack its last bit.
    #[must_use]
    pub fn config_hash(&self) -> String {
        let slots: Vec<_> = self.model.store().slots().iter().map(|slot| (&slot.name, &slot.shape)).collect();
        // Plain data without maps of other keys than strings are JSON.
        let json = serde_json::to_vec(&(&self.config, self.model.config(), slots)).unwrap_or_default();
        durable::hash(&json)
    }

    /// Whether the model's weights are all trained, so that a checkpoint is a whole model.
    #[must_use]
    pub fn trains_all(&self) -> bool {
        let whole = slots(self.model.config());
        let trained = self.model.store().slots();
        whole.len() == trained.len()
            && whole.iter().zip(trained.iter()).all(|(a, b)| (&a.name, &a.shape) == (&b.name, &b.shape))
    }

    /// What a gradient is multiplied with while it is summed: one over the most that a microbatch can count.
    fn unit(&self) -> f64 {
        let most = match self.config.objective {
            Objective::NextToken => self.config.sequences * self.samples.about().positions,
            Objective::Preference { .. } => self.config.sequences,
        };
        // As the model takes it, so that dividing by it again takes nothing away.
        f64::from((1.0 / most as f64) as f32)
    }

    /// Names what was needed where memory was short.
    fn explain(&self, error: Error) -> Error {
        let (config, positions) = (&self.config, self.samples.about().positions);
        Needs::explain(error, || {
            Needs::of(&self.model, config.sequences, positions, config.gradient_checkpointing)
        })
    }

    fn recycle(&self, space: Flat) {
        // A device's allocator keeps what is freed by itself.
        let Flat::Host(space) = space else { return };
        let mut spaces = self.spaces.lock();
        if spaces.len() < SPACES_MAX && space.len() == self.parameter_count() {
            spaces.push(space);
        }
    }

    /// A matrix whose gradient is all zeros at the first step may be one factor of a product of which the
    /// other begins as zeros; at the second step it is one that nothing reaches.
    fn expect_all_learn(&self, gradients: &Flat) -> Result<(), Error> {
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
