//! What every process of Muster needs of its machine: files that are whole or absent, frames on streams,
//! bounded listeners, a pool of threads, throttled logs.
//!
//! **Boundary**: nothing here knows jobs, models or messages; it imports no crate of ours.
#![warn(missing_docs)]

pub mod compute;
pub mod durable;
pub mod frame;
#[cfg(feature = "listener")]
pub mod listener;
pub mod log_throttle;
