//! Deterministic simulation of whole clusters: the real replicas and the real agents, over a simulated bus,
//! network, disk and clock, all driven by one seed.
//!
//! It provokes in seconds what real clusters see once in months: lost, late, repeated and reordered messages,
//! partitions, crashes that lose unsynced writes, hangs, and clocks that jump. A run has two phases. In the
//! fault phase all of that happens, and safety is checked; then everything heals, and every acknowledged job
//! must end. The simulator must never draw a random number or read a clock outside the seed: the same seed
//! always gives the same trace.
//!
//! Networks, disks and processes are simulated; every decision is made by the product's own code.

mod client;
mod coordinator;
mod disk;
mod execution;
mod faults;
pub mod invariants;
mod network;
mod oracle;
mod report;
mod settings;
mod trace;
mod worker;
mod workload;
mod world;

pub use report::{Failure, Report, Stats};
pub use settings::Settings;

use world::World;

/// Runs one seed.
pub fn run(seed: u64, settings: &Settings) -> Report {
    World::new(seed, settings.clone()).run()
}
