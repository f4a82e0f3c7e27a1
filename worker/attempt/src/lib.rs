//! What an attempt's process uses of its worker: the agent's socket, a writer of progress records, and
//! artifacts by hash. Environment variables say where they are.
//!
//! **Boundary**: nothing here starts attempts or knows executors.
#![warn(missing_docs)]

pub mod artifacts;
mod attempt;
mod client;
mod record_writer;

pub use attempt::{Attempt, AttemptError};
pub use client::{AttemptClient, ClientError, FRAME_BYTES_MAX, launch_from_env};
pub use record_writer::{CommitHandle, RecordWriter};
