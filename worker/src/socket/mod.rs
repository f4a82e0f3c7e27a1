//! The local socket between an attempt's process and its agent: frames, the agent's end, and the attempt's end, which may also write from a thread of its own.

mod client;
mod frame;
mod pen;
pub(crate) mod server;

pub use client::{AttemptClient, ClientError, launch_from_env};
pub use frame::{FRAME_BYTES_MAX, FrameError};
pub use pen::{Pen, Receipt};
