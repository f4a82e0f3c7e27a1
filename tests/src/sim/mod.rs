//! Simulated clusters: the real cores and the real agents, over a simulated bus, peers, disks and clocks, all
//! from one seed.
//!
//! Its one job is to bring about, quickly and again and again alike, what happens to real clusters once in
//! months: lost, late, repeated and reordered messages, partitions, crashes that lose what was not synced,
//! hangs, clocks that jump. First comes a safety phase, in which all of that happens; then everything heals,
//! and all that was acknowledged must come to its end. It must never draw a number or read a clock outside
//! the seed: a seed run twice gives the same trace.
//!
//! What is simulated is what has no place in a test: networks, disks, processes. What decides is the
//! product's own code.

mod client;
mod coordinator;
mod disk;
mod execution;
mod faults;
pub mod invariants;
mod network;
mod report;
mod settings;
mod trace;
mod worker;
mod workload;
mod world;

pub use report::{Failure, Report, Stats};
pub use settings::Settings;

use world::World;

/// Runs one seed to its end.
pub fn run(seed: u64, settings: &Settings) -> Report {
    World::new(seed, settings.clone()).run()
}
