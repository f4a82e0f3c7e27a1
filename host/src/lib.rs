//! What Muster's processes need of the machine they run on: files that are whole or absent, pools of threads,
//! throttled logs.
//!
//! **Boundary**: nothing here knows jobs, models or messages.
#![warn(missing_docs)]

pub mod compute;
pub mod durable;
#[cfg(feature = "listener")]
pub mod listener;
pub mod log_throttle;
