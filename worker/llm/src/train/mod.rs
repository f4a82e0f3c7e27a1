//! One rank's share of synchronous data-parallel training, with results that do not depend on the number of
//! ranks.
//!
//! The global batch of a step is divided into microbatches, fixed by the configuration. A rank computes the
//! sum of the gradients of a range of them ([`Trainer::loss_and_gradients`]); the caller brings the sums of
//! all ranks together ([`crate::parallel::Tree`]) and gives every rank the same total ([`Trainer::apply`]).
//! Sums are made along one tree over microbatches, so any number of ranks, with equal or unequal shares, gets
//! the same bits.
//!
//! - Data: [`corpus`], [`packing`]; as numbered samples [`dataset`], [`windows`], [`pairs`]; their order,
//!   [`order`].
//! - A step: [`loss`], [`gradients`], [`adamw`], [`schedule`]; the memory that it needs, [`memory`],
//!   [`device_memory`]; the [`trainer`], with the parameters of [`config`].
//! - Recovery: [`checkpoint`], [`background`], [`guard`].
//!
//! **Invariant.** A step is a pure function of the state before it and of the configuration: no clock is
//! read, and every random number comes from a seed.

pub mod adamw;
pub mod background;
pub mod checkpoint;
pub mod config;
pub mod corpus;
pub mod dataset;
pub mod device_memory;
pub mod gradients;
pub mod guard;
pub mod loss;
pub mod memory;
mod optimizer;
pub mod order;
pub mod packing;
pub mod pairs;
pub mod schedule;
mod state;
pub mod trainer;
pub mod windows;

#[cfg(test)]
pub(crate) mod tests;

pub use background::BackgroundTask;
pub use checkpoint::{CheckpointManifest, Retention, Snapshot};
pub use config::{Objective, Schedule, TrainConfig};
pub use corpus::Corpus;
pub use dataset::{Dataset, DatasetInfo, TokenBatch};
pub use gradients::{GradientSum, LossSums};
pub use guard::{GuardVerdict, SpikeGuard};
pub use packing::{Packing, Window};
pub use pairs::PreferencePairs;
pub use state::{StepReport, TrainState};
pub use trainer::Trainer;
pub use windows::{PackedSequences, TextWindows};

use crate::device::is_out_of_memory;

/// What can fail in training.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model refused.
    #[error(transparent)]
    Model(#[from] crate::model::Error),
    /// The memory that was granted is too small.
    #[error("hold {sequences} sequences of {time} positions in memory: they need {need}, and {} are granted", memory::ByteSize(*granted))]
    Budget {
        /// Number of sequences.
        sequences: usize,
        /// Positions per sequence.
        time: usize,
        /// The memory that they need.
        need: memory::MemoryNeed,
        /// Bytes that were granted.
        granted: u64,
    },
    /// A device's memory is too small.
    #[error("find memory on the device for {needs}: out of memory ({reason})")]
    Memory {
        /// The memory that was needed.
        needs: device_memory::DeviceMemoryNeed,
        /// What the device's driver said.
        reason: String,
    },
    /// The parameters contradict each other or the data.
    #[error("use the parameters: {0}")]
    Parameters(String),
    /// The microbatches can't be shared out or summed like this.
    #[error(transparent)]
    Parallel(#[from] crate::parallel::Error),
    /// Samples are missing or malformed.
    #[error("use the data: {0}")]
    Data(String),
    /// The loss or the gradient is NaN or infinite: an update would ruin the weights.
    #[error("go on at step {step}: {what} is {value}")]
    NotFinite {
        /// The step.
        step: u64,
        /// Which of the two.
        what: &'static str,
        /// Its value.
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
        /// The file.
        file: String,
        /// The reason.
        reason: String,
    },
}

impl Error {
    /// The same error; if a device ran out of memory, one that says what was needed.
    pub(crate) fn explain_memory(self, need: impl FnOnce() -> device_memory::DeviceMemoryNeed) -> Self {
        let reason = self.to_string();
        if is_out_of_memory(&reason) { Self::Memory { needs: need(), reason } } else { self }
    }
}
