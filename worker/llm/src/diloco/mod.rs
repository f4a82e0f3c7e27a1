//! DiLoCo (Douillard et al. 2023, <https://arxiv.org/abs/2311.08105>): replicas take many inner steps alone,
//! and are averaged in rounds.
//!
//! - [`replica`]: one replica between two rounds. [`int8`]: the delta that it sends.
//! - [`outer`]: the mean of the deltas, and the outer optimizer's step.
//! - [`commit`]: what the log records of a round.
//!
//! **Boundary.** Nothing here knows sockets, files or clocks: bytes and numbers in, bytes and numbers out.

pub mod commit;
pub mod int8;
pub mod outer;
pub mod replica;

#[cfg(test)]
mod tests;

pub use commit::{Contribution, RoundCommit, RoundPlan};
pub use int8::Int8Delta;
pub use outer::{OuterConfig, OuterOptimizer, mean_delta};
pub use replica::ReplicaState;

/// What can fail in a round.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Numbers that can't be quantised, or bytes that do not encode a delta.
    #[error("read an int8 delta: {0}")]
    Delta(String),
    /// Lengths or settings of the outer optimizer that do not fit.
    #[error("make the outer step: {0}")]
    Outer(String),
    /// A round that can't be committed.
    #[error("commit round {round}: {reason}")]
    Commit {
        /// The round's number.
        round: u64,
        /// The reason.
        reason: String,
    },
}
