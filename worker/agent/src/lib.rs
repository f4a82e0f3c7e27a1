//! The agent of a worker: runs attempts for the leader and reports how they end.
//!
//! [`machine`] decides and does no IO. [`process`] drives it: one loop that owns the [`bus`], the
//! [`attempts`], the [`hardware`] and the clock, and performs the machine's actions in order.
//!
//! **Boundary**: only [`bus`] names async-nats. Nothing here imports a coordinator's crate or any ML.

mod attempts;
mod bus;
mod config;
mod data_dir;
mod hardware;
pub mod machine;
mod process;
mod socket;

pub use bus::BusError;
pub use config::{DRAIN_MS_DEFAULT, RENDEZVOUS_PORT_FIRST_DEFAULT, RENDEZVOUS_PORTS_DEFAULT, WorkerConfig};
pub use data_dir::DataError;
pub use process::{Error, run};
