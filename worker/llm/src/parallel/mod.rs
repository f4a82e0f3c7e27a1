//! Which rank computes what, and in which order results are summed, so that results do not depend on the
//! number of ranks.
//!
//! A job fixes a number of *logical replicas* (in synchronous training: the microbatches of a step). They are
//! mapped onto the ranks as contiguous ranges ([`shares()`]), and sums over them are made along one tree over
//! the replicas ([`tree`]), so that every mapping gives the same bits.
//!
//! **Boundary.** Nothing here knows sockets, files or clocks: numbers in, numbers out. The cost of the fixed
//! order: ranks whose ranges are not aligned to the tree pass on more than one partial sum each.

pub mod shares;
pub mod tree;

pub use shares::shares;
pub use tree::{Partial, Tree};

/// What can fail between ranks.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There are more ranks than replicas, or no ranks.
    #[error(
        "share {replicas} replicas among {world} ranks: each needs at least one, and there must be a rank"
    )]
    Shares {
        /// Logical replicas.
        replicas: usize,
        /// Ranks.
        world: usize,
    },
    /// A partial sum that is not a node of the tree, or is out of order.
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
}
