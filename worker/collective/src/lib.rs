//! Collectives over TCP, directly between the ranks of a gang; and loaders that serve batches to trainers
//! ([`loader`]).
//!
//! The ranks form a full mesh of connections: rank 0 listens at the gang's rendezvous address and tells all
//! ranks where the others listen. Sums are taken along one tree over logical replicas
//! ([`muster_llm::parallel::tree`]), so they have the same bits on every rank, in every run, for any number
//! of ranks with any shares. Traffic is spread evenly: each rank owns a slice of the vector and sums it for
//! all. A caller of another job, another formation, or no rank at all is refused with a reason.
//!
//! All ranks call the same operations in the same order, except late ranks in DiLoCo's rounds. An operation
//! runs on its caller's thread; a second thread only sends heartbeats while the caller computes. Memory,
//! besides what the caller passes: one chunk (256 KiB) for each partial sum that another rank brings. Frames
//! have at most 1 MiB, and bytes that no operation is ready for stay in the sender's memory.
//!
//! **Invariant**: a rank that dies or falls silent is an error for all others within [`Timeouts`]: they end,
//! and the scheduler forms the gang again.
//!
//! **Boundary**: nothing here knows the agent or the log. It imports `host`, `data` and `llm` only.
#![warn(missing_docs)]

mod all_reduce;
mod connection;
mod error;
mod frame;
mod gang;
mod gather;
mod handshake;
mod heartbeat;
pub mod loader;
mod member;
mod poll_loop;
mod reduce_plan;
mod rendezvous;
mod rounds;
mod sums;
#[cfg(test)]
mod tests;
mod timeouts;

pub use error::Error;
pub use gang::Gang;
pub use member::Member;
pub use rounds::{RoundOutcome, RoundQuorum};
pub use sums::Sums;
pub use timeouts::Timeouts;
