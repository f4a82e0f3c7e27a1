//! Batches made on one worker and learnt from on another: a loader serves them over TCP, a stream fetches
//! them ahead of the trainer.
//!
//! What a batch holds is a pure function of the data set, of how it is read ([`Recipe`]), and of the places
//! that are asked for; so it does not matter which loader gives it, or how often, and a trainer whose loader
//! died goes on with the same bits. A trainer learns only from samples that are leased to it; it may look at
//! some before, to see that all is well and how fast it is. **Back-pressure**: a stream asks for so many
//! batches ahead and for no more until one is taken; a loader makes one at a time for each connection, when
//! it is asked.
//!
//! **Boundary**: this room knows sockets and samples. Where loaders listen, and when they end, is known to
//! whoever uses it.

mod server;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

pub use server::{Served, serve};
pub use stream::{Place, Stream};

use muster_data::pack::TooLong;
use serde::{Deserialize, Serialize};

/// How samples are made of a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Recipe {
    /// Windows of all text.
    Text {
        /// Positions of a sample.
        context: usize,
        /// Whether attention is cut where documents begin.
        cut: bool,
    },
    /// Packed conversations.
    Conversations {
        /// Positions of a sample.
        context: usize,
        /// What becomes of one that is longer.
        too_long: TooLong,
    },
}

/// Who asks, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reader {
    /// The stage that trains.
    pub stage: u16,
    /// Which life of its gang; older ones are turned away once a newer one has come.
    pub formation: u32,
    /// Its rank.
    pub rank: u32,
    /// The data set: the hash of its artifact.
    pub data: String,
    /// How it is read.
    pub recipe: Recipe,
}

/// A loader can't be used, or can't serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It said no, or what it said makes no sense.
    #[error("use the loader at {address}: {reason}")]
    Refused {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// None has answered for too long.
    #[error("get samples from a loader for {waited_s} s: {reason}")]
    Silent {
        /// How long.
        waited_s: u64,
        /// What the last try met with.
        reason: String,
    },
    /// The system refuses a socket or a thread.
    #[error("serve samples: {0}")]
    System(std::io::Error),
}
