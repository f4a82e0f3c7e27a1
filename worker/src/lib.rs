//! A Muster worker: the agent that holds attempts for the leader, the attempts themselves, and what they run.
//!
//! [`agent`] decides and does no IO; [`process`] drives it: it owns the bus, the processes, the sockets and the clock, and performs what
//! the agent says, in order. **Boundary**: only [`bus`] knows NATS, and nothing here knows the coordinator's crates.

pub mod agent;
pub mod artifacts;
mod attempts;
mod bus;
#[cfg(feature = "llm")]
pub mod collective;
mod config;
mod data_dir;
pub mod executors;
mod hardware;
#[cfg(feature = "llm")]
pub mod loader;
mod process;
mod seldom;
pub mod socket;

pub use bus::BusError;
pub use config::{DRAIN_MS_DEFAULT, RENDEZVOUS_PORT_FIRST_DEFAULT, RENDEZVOUS_PORTS_DEFAULT, WorkerConfig};
pub use data_dir::DataError;
pub use process::{Error, run};
