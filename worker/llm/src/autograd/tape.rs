//! The recorded operations, and the backward pass through them.
//!
//! A tape is made for one microbatch and used up by its backward pass. It is not shared between threads:
//! operations are parallel inside. What an operation keeps for its backward pass is freed as soon as that has
//! run.

use super::GradientBuffer;
use crate::cpu::slices;
use crate::device::Backend;
use candle_core::{Result, Tensor};

/// An intermediate result.
#[derive(Clone)]
pub struct Value {
    data: Tensor,
    id: Option<ValueId>,
}

/// Names a value that needs a gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueId(usize);

impl Value {
    /// A value that needs no gradient.
    #[must_use]
    pub fn constant(data: Tensor) -> Self {
        Self { data, id: None }
    }

    /// The tensor.
    #[must_use]
    pub fn data(&self) -> &Tensor {
        &self.data
    }

    /// Its id, if it needs a gradient.
    #[must_use]
    pub fn id(&self) -> Option<ValueId> {
        self.id
    }
}

type Backward = Box<dyn FnOnce(Tensor, &mut BackwardContext<'_>) -> Result<()>>;

struct TapeEntry {
    output: ValueId,
    backward: Backward,
}

/// The record of a forward pass.
pub struct Tape {
    backend: Backend,
    gradients: Option<GradientBuffer>,
    entries: Vec<TapeEntry>,
    values: usize,
}

impl Tape {
    /// A tape that records nothing, as PyTorch's `no_grad`: for evaluation.
    #[must_use]
    pub fn no_grad(backend: Backend) -> Self {
        Self { backend, gradients: None, entries: Vec::new(), values: 0 }
    }

    /// A tape that records operations; its backward pass adds to `gradients`.
    #[must_use]
    pub fn recording(gradients: GradientBuffer, backend: Backend) -> Self {
        Self { backend, gradients: Some(gradients), entries: Vec::new(), values: 0 }
    }

    /// How operations on this tape are computed.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The gradients that the backward pass will add to; `None` if nothing is recorded. For operations that
    /// compute their gradients in the forward pass.
    pub fn gradients(&mut self) -> Option<&mut GradientBuffer> {
        self.gradients.as_mut()
    }

    /// Whether an operation on `values` must record its backward pass. `trained`: it also uses a trained
    /// weight.
    #[must_use]
    pub fn needs_backward(&self, values: &[&Value], trained: bool) -> bool {
        self.gradients.is_some() && (trained || values.iter().any(|value| value.id.is_some()))
    }

    /// An input whose gradient is wanted; see [`Tape::backward_to`].
    pub fn leaf(&mut self, data: Tensor) -> Value {
        let id = self.gradients.is_some().then(|| self.next());
        Value { data, id }
    }

    /// Records an operation's result. `backward` gets the gradient of `data` and passes gradients on through
    /// [`BackwardContext`]. Call it only if [`Tape::needs_backward`] says so; otherwise make a
    /// [`Value::constant`].
    pub fn push(
        &mut self,
        data: Tensor,
        backward: impl FnOnce(Tensor, &mut BackwardContext<'_>) -> Result<()> + 'static,
    ) -> Value {
        let output = self.next();
        self.entries.push(TapeEntry { output, backward: Box::new(backward) });
        Value { data, id: Some(output) }
    }

    fn next(&mut self) -> ValueId {
        self.values += 1;
        ValueId(self.values - 1)
    }

    /// Runs the backward pass from `from`, whose gradient is given, and returns the gradients of the weights.
    ///
    /// # Errors
    /// When an operation's backward pass fails.
    pub fn backward(self, from: &Value, gradient: Tensor) -> Result<GradientBuffer> {
        self.backward_to(from, gradient, &[]).map(|(gradients, _)| gradients)
    }

    /// As [`Tape::backward`], and also returns the gradients of `leaves` (`None` where `from` does not depend
    /// on one).
    ///
    /// # Errors
    /// When an operation's backward pass fails, or nothing was recorded.
    pub fn backward_to(
        self,
        from: &Value,
        gradient: Tensor,
        leaves: &[&Value],
    ) -> Result<(GradientBuffer, Vec<Option<Tensor>>)> {
        let Some(mut gradients) = self.gradients else {
            candle_core::bail!("a tape that records nothing has no backward pass");
        };
        let backend = self.backend;
        let mut pending: Vec<Option<Tensor>> = vec![None; self.values];
        if let Some(ValueId(id)) = from.id {
            pending[id] = Some(gradient);
        }
        for TapeEntry { output: ValueId(output), backward } in self.entries.into_iter().rev() {
            // A value that nothing was made of has no gradient, and neither has what it was made from.
            if let Some(gradient) = pending[output].take() {
                backward(
                    gradient,
                    &mut BackwardContext { backend, pending: &mut pending, gradients: &mut gradients },
                )?;
            }
        }
        let found = leaves.iter().map(|leaf| leaf.id.and_then(|ValueId(id)| pending[id].take())).collect();
        Ok((gradients, found))
    }

    /// `block(input)`, of which only the input is kept; the backward pass computes it again (gradient
    /// checkpointing, Chen et al. 2016, "Training deep nets with sublinear memory cost"). `block` must return
    /// the same each time.
    ///
    /// # Errors
    /// Those of `block`.
    pub fn checkpointed<F>(&mut self, input: &Value, block: F) -> Result<Value>
    where
        F: Fn(&mut Tape, &Value) -> Result<Value> + 'static,
    {
        if self.gradients.is_none() {
            return block(self, input);
        }
        let backend = self.backend;
        let output = block(&mut Tape::no_grad(backend), &Value::constant(input.data.clone()))?;
        let (given, id) = (input.data.clone(), input.id);
        // Weights inside the block can't be seen from here, so it is always recorded: a block without trained
        // weights costs one more forward pass.
        Ok(self.push(output.data, move |gradient, ctx| {
            let mut tape = Tape::recording(ctx.lend_gradients(), backend);
            let input = match id {
                Some(_) => tape.leaf(given),
                None => Value::constant(given),
            };
            let output = block(&mut tape, &input)?;
            let (gradients, mut found) = tape.backward_to(&output, gradient, &[&input])?;
            ctx.return_gradients(gradients);
            match (id, found.pop().flatten()) {
                (Some(id), Some(found)) => ctx.accumulate(Some(id), found),
                (_, _) => Ok(()),
            }
        }))
    }
}

/// Through this, an operation's backward pass hands gradients on.
pub struct BackwardContext<'a> {
    backend: Backend,
    pending: &'a mut Vec<Option<Tensor>>,
    gradients: &'a mut GradientBuffer,
}

impl BackwardContext<'_> {
    /// The gradients of weights.
    pub fn weights(&mut self) -> &mut GradientBuffer {
        self.gradients
    }

    /// Adds to the gradient of a value. The tensor must not be shared: it may be written to later.
    ///
    /// # Errors
    /// When the shapes differ, or the tensor library fails.
    pub fn accumulate(&mut self, to: Option<ValueId>, gradient: Tensor) -> Result<()> {
        let Some(ValueId(id)) = to else { return Ok(()) };
        let sum = match (self.pending[id].take(), self.backend) {
            (Some(before), Backend::Fused) => slices::add_in_place(before, &gradient)?,
            (Some(before), Backend::Composed(_)) => (before + &gradient)?,
            (None, _) => gradient,
        };
        self.pending[id] = Some(sum);
        Ok(())
    }

    /// Takes the gradient that a value has so far, so that an operation can add to it in place and hand the
    /// sum to [`BackwardContext::accumulate`].
    pub fn take(&mut self, of: Option<ValueId>) -> Option<Tensor> {
        of.and_then(|ValueId(id)| self.pending[id].take())
    }

    fn lend_gradients(&mut self) -> GradientBuffer {
        self.gradients.take()
    }

    fn return_gradients(&mut self, gradients: GradientBuffer) {
        *self.gradients = gradients;
    }
}
