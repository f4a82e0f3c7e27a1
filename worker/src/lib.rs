//! A Muster worker, assembled: the agent that holds attempts for the leader, and the executors that they run.
//!
//! **Boundary**: the agent knows no executor, and no executor knows how its attempt was started; they meet
//! only here.

pub use muster_agent::{BusError, DRAIN_MS_DEFAULT, DataError, Error, WorkerConfig, run};
pub use muster_agent::{RENDEZVOUS_PORT_FIRST_DEFAULT, RENDEZVOUS_PORTS_DEFAULT};
pub use muster_executors as executors;
