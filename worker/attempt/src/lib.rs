//! What an attempt's process uses of its worker: the agent's socket, records that a thread writes, and
//! artifacts by hash.
//!
//! Programs of others reach all of it through the environment alone. **Boundary**: nothing here starts
//! attempts, and nothing knows executors.
#![warn(missing_docs)]

pub mod artifacts;
mod attempt;
mod client;
pub mod frame;
mod pen;

pub use attempt::{Attempt, AttemptError};
pub use client::{AttemptClient, ClientError, launch_from_env};
pub use frame::{FRAME_BYTES_MAX, FrameError};
pub use pen::{Pen, Receipt};
