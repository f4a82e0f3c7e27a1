//! Training by several ranks with results that don't depend on how many there are: who computes what, and in
//! which order it is summed.
//!
//! A job fixes a number of *logical replicas* (in synchronous training: the microbatches of a step). They are
//! mapped on whatever ranks there are as contiguous ranges ([`shares()`]), and whatever is summed over them
//! is summed along one tree over the replicas ([`tree`]), so that every mapping gives the same bits.
//! [`int8`], [`outer`], [`replica`] and [`round`] are the parts of DiLoCo (Douillard et al. 2023,
//! <https://arxiv.org/abs/2311.08105>): replicas that go for many steps alone, and meet in rounds.
//!
//! **Boundary.** Nothing here knows sockets, files or clocks: bytes and numbers in, bytes and numbers out.
//! What the fixed order costs: ranks whose ranges are not aligned to the tree hand on more than one partial
//! sum each.

pub mod int8;
pub mod outer;
pub mod record;
pub mod replica;
pub mod round;
pub mod runs;
pub mod shares;
pub mod tree;

#[cfg(test)]
mod tests;

pub use int8::Int8;
pub use outer::{Outer, OuterConfig, mean_delta};
pub use record::{Commit, Contribution, Record};
pub use replica::{Feedback, Replica};
pub use round::{Accepted, Offer, Refusal, Round, RoundPlan, Verdict};
pub use runs::{Run, Runs};
pub use shares::shares;
pub use tree::{Partial, Tree};

/// What can fail between ranks.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not every rank would have something to do, or there is none.
    #[error(
        "share {replicas} replicas among {world} ranks: each needs at least one, and there must be a rank"
    )]
    Shares {
        /// Logical replicas.
        replicas: usize,
        /// Ranks.
        world: usize,
    },
    /// A partial sum that is none of the tree's, or comes out of order.
    #[error("sum replicas {first}..{end} of {replicas}: {reason}")]
    Order {
        /// The first replica of the part.
        first: usize,
        /// One past its last.
        end: usize,
        /// Logical replicas.
        replicas: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// Numbers that can't be quantised, or bytes that are no quantised numbers.
    #[error("read an int8 delta: {0}")]
    Delta(String),
    /// Lengths or settings of the outer optimizer that do not fit.
    #[error("make the outer step: {0}")]
    Outer(String),
    /// A round that can't be closed or written down.
    #[error("commit round {round}: {reason}")]
    Commit {
        /// Which round.
        round: u64,
        /// Why.
        reason: String,
    },
}
