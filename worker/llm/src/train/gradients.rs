//! The sums over microbatches: gradients, losses and counts.
//!
//! Nothing here is a mean yet. The trainer divides the sum over the global batch by what was counted in it,
//! so that a token counts the same wherever the batch was cut.

use super::Error;
use crate::autograd::FlatVector;

/// Sums of losses and counts over samples. They are exact, or added in f64 in the order of the tree, so they
/// do not depend on the number of ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSums {
    /// Sum of the losses of what is counted: of tokens in nats, or of pairs.
    pub loss: f64,
    /// Number of tokens (or pairs) that are counted.
    pub counted: f64,
    /// Number of positions that the model saw.
    pub tokens: f64,
    /// Sum of DPO's margins: how much more the policy prefers the chosen answers than the reference does,
    /// times beta; 0 without preferences.
    pub margin: f64,
    /// Number of pairs with a margin above 0.
    pub preferred: f64,
}

/// How many numbers [`LossSums`] has.
pub const LOSS_SUMS: usize = 5;

impl LossSums {
    /// The numbers to send to another rank.
    #[must_use]
    pub fn to_array(self) -> [f64; LOSS_SUMS] {
        [self.loss, self.counted, self.tokens, self.margin, self.preferred]
    }

    /// The sums from numbers that were received.
    ///
    /// # Errors
    /// When there are not [`LOSS_SUMS`].
    pub fn from_slice(numbers: &[f64]) -> Result<Self, Error> {
        match *numbers {
            [loss, counted, tokens, margin, preferred] => {
                Ok(Self { loss, counted, tokens, margin, preferred })
            }
            _ => Err(Error::Parameters(format!("{} sums where {LOSS_SUMS} are wanted", numbers.len()))),
        }
    }

    /// Adds the sums over other samples.
    pub fn add(&mut self, other: &LossSums) {
        self.loss += other.loss;
        self.counted += other.counted;
        self.tokens += other.tokens;
        self.margin += other.margin;
        self.preferred += other.preferred;
    }
}

/// The sum over some microbatches.
#[derive(Clone, Debug, PartialEq)]
pub struct GradientSum {
    /// Losses and counts.
    pub sums: LossSums,
    /// Sum of the gradients, in order of weight name; scaled by a constant of the run, see
    /// [`super::Trainer::apply`].
    pub flat: FlatVector,
}

impl GradientSum {
    /// Adds the sum over other microbatches, in place.
    pub fn add(&mut self, other: GradientSum) {
        self.sums.add(&other.sums);
        self.flat.add(&other.flat);
    }
}
