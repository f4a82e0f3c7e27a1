//! The agent of a worker: it holds attempts for the leader, runs their processes, and says what became of
//! them.
//!
//! [`agent`] decides and does no IO; [`process`] drives it: it owns the bus, the processes, the sockets and
//! the clock, and performs what the agent says, in order. **Boundary**: only [`bus`] knows NATS, and nothing
//! here knows the coordinator's crates, or any ML.

pub mod agent;
mod attempts;
mod bus;
mod config;
mod data_dir;
mod hardware;
mod process;
mod server;

pub use bus::BusError;
pub use config::{DRAIN_MS_DEFAULT, RENDEZVOUS_PORT_FIRST_DEFAULT, RENDEZVOUS_PORTS_DEFAULT, WorkerConfig};
pub use data_dir::DataError;
pub use process::{Error, run};
