//! What microbatches add up to: gradients, and the few numbers that say what they were taken over.
//!
//! Nothing here is a mean yet: whoever has the sum over the global batch divides by what was counted in it,
//! so that a token counts the same wherever the batch was cut.

use super::Error;
use crate::autograd::Flat;

/// Sums over samples. They are exact or added in f64 in the order of the tree, so that they don't depend on
/// the number of ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Of the losses of what is counted: nats of tokens, or losses of pairs.
    pub loss: f64,
    /// How many tokens (or pairs) are counted.
    pub counted: f64,
    /// How many positions the model saw.
    pub tokens: f64,
    /// Of how much further the policy prefers the chosen answers than the reference does, times beta; 0
    /// without preferences.
    pub margin: f64,
    /// How many pairs have a margin above 0.
    pub preferred: f64,
}

/// How many numbers [`Sums`] are.
pub const SUMS: usize = 5;

impl Sums {
    /// As numbers to send.
    #[must_use]
    pub fn to_array(self) -> [f64; SUMS] {
        [self.loss, self.counted, self.tokens, self.margin, self.preferred]
    }

    /// From numbers that were received.
    ///
    /// # Errors
    /// When there are not [`SUMS`].
    pub fn from_slice(numbers: &[f64]) -> Result<Self, Error> {
        match *numbers {
            [loss, counted, tokens, margin, preferred] => {
                Ok(Self { loss, counted, tokens, margin, preferred })
            }
            _ => Err(Error::Parameters(format!("{} sums where {SUMS} are wanted", numbers.len()))),
        }
    }

    /// Adds others.
    pub fn add(&mut self, other: &Sums) {
        self.loss += other.loss;
        self.counted += other.counted;
        self.tokens += other.tokens;
        self.margin += other.margin;
        self.preferred += other.preferred;
    }
}

/// The sum over some microbatches.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// What they were taken over.
    pub sums: Sums,
    /// Sum of the gradients, in order of weight name; scaled by a constant of the run, see
    /// [`super::Trainer::apply`].
    pub flat: Flat,
}

impl Gradients {
    /// Adds the sum over other microbatches to this one, where it is.
    pub fn add(&mut self, other: Gradients) {
        self.sums.add(&other.sums);
        self.flat.add(&other.flat);
    }
}
