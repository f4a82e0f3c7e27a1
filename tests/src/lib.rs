//! The cluster harness and the simulator.
//!
//! **Boundary**: this crate runs the binary `muster`, and must not link what the binary is made of beyond the
//! replica and the agent.

pub mod cluster;
pub mod sim;
