//! The operations done so far, and the way back through them.
//!
//! A tape is made for one microbatch and used up by its backward. It is not shared between threads:
//! operations are parallel inside. What an operation keeps for its backward is freed as soon as that has run.

use super::Gradients;
use crate::ops::host;
use candle_core::{Result, Tensor};

/// An intermediate result.
#[derive(Clone)]
pub struct Value {
    data: Tensor,
    id: Option<Id>,
}

/// A value that needs a gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(usize);

impl Value {
    /// One that needs no gradient.
    #[must_use]
    pub fn constant(data: Tensor) -> Self {
        Self { data, id: None }
    }

    /// The numbers.
    #[must_use]
    pub fn data(&self) -> &Tensor {
        &self.data
    }

    /// Which one it is, if it needs a gradient.
    #[must_use]
    pub fn id(&self) -> Option<Id> {
        self.id
    }
}

type Backward = Box<dyn FnOnce(Tensor, &mut Flow<'_>) -> Result<()>>;

struct Step {
    output: Id,
    backward: Backward,
}

/// What is remembered of a forward pass.
pub struct Tape {
    gradients: Option<Gradients>,
    steps: Vec<Step>,
    values: usize,
}

impl Tape {
    /// One that remembers nothing: for evaluation.
    #[must_use]
    pub fn forgetful() -> Self {
        Self { gradients: None, steps: Vec::new(), values: 0 }
    }

    /// One that will add to `gradients`.
    #[must_use]
    pub fn recording(gradients: Gradients) -> Self {
        Self { gradients: Some(gradients), steps: Vec::new(), values: 0 }
    }

    /// The gradients that backward will add to; `None` if nothing is remembered. For operations whose
    /// backward is part of their forward.
    pub fn gradients(&mut self) -> Option<&mut Gradients> {
        self.gradients.as_mut()
    }

    /// Whether an operation on `values`, with a trained weight or not, has a way back.
    #[must_use]
    pub fn follows(&self, values: &[&Value], trained: bool) -> bool {
        self.gradients.is_some() && (trained || values.iter().any(|value| value.id.is_some()))
    }

    /// A value for which a gradient is wanted, though nothing before it is known.
    pub fn leaf(&mut self, data: Tensor) -> Value {
        let id = self.gradients.is_some().then(|| self.next());
        Value { data, id }
    }

    /// The result of an operation: `backward` is given the gradient of `data`, and passes it on through
    /// [`Flow`]. Call it only if [`Tape::follows`] says so, and make a [`Value::constant`] else.
    pub fn push(
        &mut self,
        data: Tensor,
        backward: impl FnOnce(Tensor, &mut Flow<'_>) -> Result<()> + 'static,
    ) -> Value {
        let output = self.next();
        self.steps.push(Step { output, backward: Box::new(backward) });
        Value { data, id: Some(output) }
    }

    fn next(&mut self) -> Id {
        self.values += 1;
        Id(self.values - 1)
    }

    /// Goes back from `from`, whose gradient is given, and returns the gradients of the weights.
    ///
    /// # Errors
    /// When an operation's backward fails.
    pub fn backward(self, from: &Value, gradient: Tensor) -> Result<Gradients> {
        self.backward_to(from, gradient, &[]).map(|(gradients, _)| gradients)
    }

    /// As [`Tape::backward`]; also gives the gradients of `leaves` (`None` where nothing depended on one).
    ///
    /// # Errors
    /// When an operation's backward fails, or nothing was remembered.
    pub fn backward_to(
        self,
        from: &Value,
        gradient: Tensor,
        leaves: &[&Value],
    ) -> Result<(Gradients, Vec<Option<Tensor>>)> {
        let Some(mut gradients) = self.gradients else {
            candle_core::bail!("a tape that remembers nothing has no way back");
        };
        let mut pending: Vec<Option<Tensor>> = vec![None; self.values];
        if let Some(Id(id)) = from.id {
            pending[id] = Some(gradient);
        }
        for Step { output: Id(output), backward } in self.steps.into_iter().rev() {
            // A value that nothing was made of has no gradient, and neither has what it was made from.
            if let Some(gradient) = pending[output].take() {
                backward(gradient, &mut Flow { pending: &mut pending, gradients: &mut gradients })?;
            }
        }
        let found = leaves.iter().map(|leaf| leaf.id.and_then(|Id(id)| pending[id].take())).collect();
        Ok((gradients, found))
    }

    /// `block(input)`, of which only the input is kept: backward does it again (Chen et al. 2016, sublinear
    /// memory). `block` must give the same each time.
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
        let output = block(&mut Tape::forgetful(), &Value::constant(input.data.clone()))?;
        let (given, id) = (input.data.clone(), input.id);
        // Weights inside are not seen from here, so it is always followed: a block without trained weights
        // costs one repetition.
        Ok(self.push(output.data, move |gradient, flow| {
            let mut tape = Tape::recording(flow.lend());
            let input = match id {
                Some(_) => tape.leaf(given),
                None => Value::constant(given),
            };
            let output = block(&mut tape, &input)?;
            let (gradients, mut found) = tape.backward_to(&output, gradient, &[&input])?;
            flow.give_back(gradients);
            match (id, found.pop().flatten()) {
                (Some(id), Some(found)) => flow.give(Some(id), found),
                (_, _) => Ok(()),
            }
        }))
    }
}

/// What a backward passes gradients on through.
pub struct Flow<'a> {
    pending: &'a mut Vec<Option<Tensor>>,
    gradients: &'a mut Gradients,
}

impl Flow<'_> {
    /// The gradients of weights.
    pub fn weights(&mut self) -> &mut Gradients {
        self.gradients
    }

    /// Adds to the gradient of a value. The tensor must not be shared: it may be written to later.
    ///
    /// # Errors
    /// When the tensor library refuses.
    pub fn give(&mut self, to: Option<Id>, gradient: Tensor) -> Result<()> {
        let Some(Id(id)) = to else { return Ok(()) };
        let sum = match self.pending[id].take() {
            Some(before) => host::sum(before, &gradient)?,
            None => gradient,
        };
        self.pending[id] = Some(sum);
        Ok(())
    }

    /// Takes what was given to a value so far, so that an operation can add to it in place and give the sum
    /// back.
    pub fn take(&mut self, of: Option<Id>) -> Option<Tensor> {
        of.and_then(|Id(id)| self.pending[id].take())
    }

    fn lend(&mut self) -> Gradients {
        self.gradients.take()
    }

    fn give_back(&mut self, gradients: Gradients) {
        *self.gradients = gradients;
    }
}
