//! A Muster coordinator: a replica on a real disk, connected to its peers, to workers and to clients.
//!
//! It does the IO for `muster-replica`, which makes all decisions: it must not decide anything itself. It may
//! import `muster-protocol`, `muster-machine`, `muster-replica` and `muster-host`. Within it, `handle` and
//! `store` stand below `peers`, `bus`, `api` and `replay`, and `process` assembles them all.

mod api;
mod bus;
pub mod config;
mod handle;
mod peers;
pub mod process;
pub mod replay;
pub mod store;

pub use config::{Config, ConfigError, members};
pub use muster_replica::MemberConfig;
pub use process::{RunError, run};
