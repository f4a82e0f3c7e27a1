//! A cluster on this machine: child processes that end with this one.
//!
//! - [`child`]: one child process.
//! - [`bus`]: `nats-server` from the PATH, or the embedded broker.
//! - [`ports`]: finds free ports.
//! - [`cluster`]: coordinators and workers.
//! - [`up`]: the verb `up`.

pub mod bus;
pub mod child;
pub mod cluster;
pub mod ports;
pub mod up;
