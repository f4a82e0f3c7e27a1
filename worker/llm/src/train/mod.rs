//! One rank's share of synchronous data-parallel training, with results that don't depend on the number of ranks.
//!
//! The global batch of a step is divided into microbatches, fixed by the configuration. A rank computes the
//! gradient sums of a range of them ([`Trainer::loss_and_gradients`]); the caller brings the sums of all ranks
//! together ([`crate::parallel::Tree`]) and gives every rank the same total ([`Trainer::apply`]). Sums are taken along
//! one tree over microbatches, so any number of ranks, with equal or unequal shares, gets the same bits.

pub mod adamw;
pub mod batches;
pub mod checkpoint;
pub mod config;
pub mod corpus;
pub mod packing;
pub mod trainer;

#[cfg(test)]
pub(crate) mod tests;

pub use config::TrainConfig;
pub use corpus::Corpus;
pub use packing::{Packing, Window};
pub use trainer::{Applied, Gradients, Trainer};

/// What can fail in training.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model refused.
    #[error(transparent)]
    Model(#[from] crate::model::Error),
    /// The parameters contradict each other or the data.
    #[error("use the parameters: {0}")]
    Parameters(String),
    /// The microbatches can't be shared or summed so.
    #[error(transparent)]
    Parallel(#[from] crate::parallel::Error),
    /// A number that is no number, or infinite: going on would ruin the weights.
    #[error("go on at step {step}: {what} is {value}")]
    NotFinite {
        /// The step.
        step: u64,
        /// Which number.
        what: &'static str,
        /// What it is.
        value: f64,
    },
    /// Steps must follow each other.
    #[error("apply step {given}: the trainer is at step {expected}")]
    OutOfOrder {
        /// The step that was given.
        given: u64,
        /// The step that is next.
        expected: u64,
    },
    /// A checkpoint is damaged or of another run.
    #[error("read the checkpoint: {0}")]
    Checkpoint(String),
}
