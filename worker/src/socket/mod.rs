//! The local socket between an attempt's process and its agent: frames, the agent's end, and the attempt's end.

mod client;
mod frame;
pub(crate) mod server;

pub use client::{AttemptClient, ClientError, launch_from_env};
pub use frame::{FRAME_BYTES_MAX, FrameError};
