//! A cluster on this machine: child processes of this one, which end with it.
//!
//! - [`child`]: one child process.
//! - [`bus`]: a `nats-server` from the PATH, or the embedded broker.
//! - [`ports`]: ports that are free.
//! - [`cluster`]: coordinators and workers, by their place.
//! - [`up`]: the verb that keeps one running.

pub mod bus;
pub mod child;
pub mod cluster;
pub mod ports;
pub mod up;
