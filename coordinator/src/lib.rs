//! A Muster coordinator: the replica that decides, the store that keeps, and the doors to peers, workers and
//! clients.
//!
//! The [`core`] is a synchronous state machine without clock and IO, except through a [`disk::Disk`] that it
//! is given; the process around it and the simulator drive the very same code.

mod api;
mod bus;
pub mod config;
mod peers;
pub mod process;
pub mod replay;
pub mod store;

pub use config::{Config, ConfigError, members};
pub use muster_replica::MemberConfig;
pub use process::{RunError, run};
