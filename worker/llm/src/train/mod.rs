//! One rank's share of synchronous data-parallel training, with results that don't depend on the number of
//! ranks.
//!
//! The global batch of a step is divided into microbatches, fixed by the configuration. A rank computes the
//! gradient sum of a range of them ([`Trainer::loss_and_gradients`]); the caller brings the sums of all ranks
//! together ([`crate::parallel::Tree`]) and gives every rank the same total ([`Trainer::apply`]). Sums are
//! taken along one tree over microbatches, so any number of ranks, with equal or unequal shares, gets the
//! same bits.
//!
//! - What is learnt from: [`corpus`], [`packing`]; as numbered samples [`samples`], [`windows`], [`pairs`];
//!   in which order, [`order`].
//! - What is done with it: [`loss`], [`gradients`], [`adamw`], [`schedule`], and what it needs, [`budget`],
//!   [`memory`]; by the [`trainer`], with the parameters of [`config`].
//! - What is kept, and when to go back to it: [`checkpoint`], [`in_flight`], [`guard`].
//!
//! **Invariant.** A step is a pure function of the state before it and of the configuration: no clock, no
//! drawing without a seed.

pub mod adamw;
pub mod budget;
pub mod checkpoint;
pub mod config;
pub mod corpus;
pub mod gradients;
pub mod guard;
pub mod in_flight;
pub mod loss;
pub mod memory;
mod optimizer;
pub mod order;
pub mod packing;
pub mod pairs;
pub mod samples;
pub mod schedule;
mod state;
pub mod trainer;
pub mod windows;

#[cfg(test)]
mod device_tests;
#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod source_tests;
#[cfg(test)]
pub(crate) mod tests;

pub use checkpoint::{Manifest, Retention, Snapshot};
pub use config::{Objective, TrainConfig};
pub use corpus::Corpus;
pub use gradients::{Gradients, Sums};
pub use guard::{Guard, Verdict};
pub use in_flight::InFlight;
pub use packing::{Packing, Window};
pub use pairs::Pairs;
pub use samples::{About, Batch, Samples};
pub use schedule::Schedule;
pub use state::{State, StepReport};
pub use trainer::Trainer;
pub use windows::{Packed, Windows};

/// What can fail in training.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model refused.
    #[error(transparent)]
    Model(#[from] crate::model::Error),
    /// The memory that was granted is too small.
    #[error("hold {sequences} sequences of {time} positions in memory: they need {need}, and {} are granted", budget::Size(*granted))]
    Budget {
        /// How many sequences.
        sequences: usize,
        /// Positions of each.
        time: usize,
        /// What they need.
        need: budget::Need,
        /// What there is, in bytes.
        granted: u64,
    },
    /// A device's memory is too small.
    #[error("find memory on the device for {needs}: out of memory ({reason})")]
    Memory {
        /// What for.
        needs: memory::Needs,
        /// What the device's driver said.
        reason: String,
    },
    /// The parameters contradict each other or the data.
    #[error("use the parameters: {0}")]
    Parameters(String),
    /// The microbatches can't be shared or summed so.
    #[error(transparent)]
    Parallel(#[from] crate::parallel::Error),
    /// Samples that are not there or not what they should be.
    #[error("use the data: {0}")]
    Data(String),
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
    /// A checkpoint could not be written.
    #[error("write the checkpoint's {file}: {reason}")]
    Keep {
        /// Which file of it.
        file: String,
        /// Why.
        reason: String,
    },
}
