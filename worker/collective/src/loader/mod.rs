//! Remote data loading: a loader on one worker makes batches and serves them over TCP; a stream prefetches
//! them for a trainer on another.
//!
//! A batch is a pure function of the data set, of how it is read ([`Recipe`]), and of the requested indices.
//! So it does not matter which loader serves it, or how often, and a trainer whose loader died continues with
//! the same bits. A trainer trains only on samples that are leased to it; it may read some before, to check
//! the data and to measure its speed. **Back-pressure**: a stream requests a fixed number of batches ahead,
//! and no more until one is taken; a loader makes one batch at a time for each connection.
//!
//! **Boundary**: this module knows sockets and samples. Its callers know where loaders listen, and when they
//! end.

mod server;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

pub use server::{Served, serve};
pub use stream::{BatchStream, LoaderAddress};

use muster_data::pack::TooLong;
use serde::{Deserialize, Serialize};

/// How samples are made from a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Recipe {
    /// Windows of all text.
    Text {
        /// The length of a sample, in tokens.
        context: usize,
        /// Whether attention stops at document boundaries.
        cut: bool,
    },
    /// Packed conversations.
    Conversations {
        /// The length of a sample, in tokens.
        context: usize,
        /// What is done with a conversation that is longer.
        too_long: TooLong,
    },
}

/// A trainer that reads from a loader, and what it reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reader {
    /// The stage that trains.
    pub stage: u16,
    /// The formation of its gang: older ones are refused once a newer one has connected.
    pub formation: u32,
    /// Its rank.
    pub rank: u32,
    /// The hash of the data set's artifact.
    pub data: String,
    /// How it is read.
    pub recipe: Recipe,
}

/// A loader can't be used, or can't serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The loader refused the request.
    #[error("use the loader at {address}: {reason}")]
    Refused {
        /// The loader's address.
        address: String,
        /// Its reason.
        reason: String,
    },
    /// No loader has answered in time.
    #[error("get samples from a loader for {waited_s} s: {reason}")]
    TimedOut {
        /// Seconds waited.
        waited_s: u64,
        /// The last failure.
        reason: String,
    },
    /// A socket or a thread could not be made.
    #[error("serve samples: {0}")]
    Io(std::io::Error),
}
