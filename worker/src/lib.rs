//! A Muster worker: the agent that holds attempts for the leader, the attempts themselves, and what they run.
//!
//! [`agent`] decides and does no IO; [`process`] drives it: it owns the bus, the processes, the sockets and the clock, and performs what
//! the agent says, in order. **Boundary**: only [`bus`] knows NATS, and nothing here knows the coordinator's crates.

pub mod agent;
pub mod artifacts;
mod attempts;
mod bus;
pub mod collective;
mod config;
pub mod executors;
mod process;
pub mod socket;

pub use config::{DRAIN_MS_DEFAULT, RENDEZVOUS_PORT_FIRST_DEFAULT, RENDEZVOUS_PORTS_DEFAULT, WorkerConfig};
pub use process::{Error, run};
