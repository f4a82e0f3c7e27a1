//! The process harness, the simulator, and what end-to-end tests share.

pub mod cluster;
pub mod sim;
