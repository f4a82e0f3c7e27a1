//! Real processes on loopback: coordinators, workers and a broker, each with its data in a temporary
//! directory.
//!
//! The harness starts, kills and queries them, and leaves nothing behind: every process ends with the value
//! that owns it, by its own process id, also when a test panics or the test program is killed. It never looks
//! inside a process, and never waits for a fixed time: it waits for progress, and gives up when there is none
//! ([`progress_wait`]).
//!
//! Only one cluster runs at a time on a machine ([`permit`]), since elections between starved processes prove
//! nothing.

pub mod api;
pub mod binary;
pub mod broker;
pub mod error;
pub mod permit;
pub mod ports;
pub mod process;
pub mod progress_wait;
pub mod running;
pub mod shape;

pub use api::Api;
pub use broker::BrokerKind;
pub use error::Error;
pub use process::Process;
pub use progress_wait::wait_for;
pub use running::Cluster;
pub use shape::Shape;
