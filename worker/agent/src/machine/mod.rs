//! What a worker's agent decides: which attempts it holds, what it reports of them, and how long it may run
//! them. A synchronous state machine: inputs in, actions out.
//!
//! [`Agent`] turns what the leader and the attempts say into [`Action`]s, which its driver performs in order:
//! `process` in a real worker, or the simulator. All times are milliseconds of the driver's monotonic clock.
//! It must never start an attempt twice, nor let one outlive its lease.
//!
//! **Boundary**: no clock, IO or randomness, and no import from the rest of this crate.

mod agent;
mod attempt_state;
mod attempt_table;
mod drain;
mod free_resources;
mod input;
mod lease;
mod pending_calls;
mod progress_waiters;
mod recently_ended;
mod send_window;
#[cfg(test)]
mod tests;

pub use agent::{Agent, AgentStatus};
pub use input::{Action, AgentConfig, AgentInput, Load};
