//! What all ranks know alike, and how a round changes it.

use super::allocator::SampleAllocator;
use super::messages::RoundResult;
use crate::error::Error;
use muster_collective::Outcome;
use muster_llm::diloco::{Contribution, OuterOptimizer};

/// What all ranks know alike.
pub struct Global {
    pub round: u64,
    /// Rounds that were closed in this life, whether they counted or not: what the gang tells them apart by.
    pub turn: u32,
    pub weights: Vec<f32>,
    pub outer: OuterOptimizer,
    pub allocator: SampleAllocator,
}

/// Moves the global weights by a round's outcome; samples of replicas that are neither in it nor refused go
/// back.
pub fn adopt(
    global: &mut Global,
    outcome: &Outcome,
    result: &RoundResult,
    leases: &[Contribution],
    mean: &[f32],
) -> Result<(), Error> {
    global.turn = global.turn.wrapping_add(1);
    if result.rolled_back {
        return Ok(());
    }
    global.outer.step(&mut global.weights, mean)?;
    for lease in leases.iter().filter(|lease| !outcome.has(lease.replica) && !result.refuses(lease.replica)) {
        global.allocator.give_back(lease.samples.ranges());
    }
    global.round += 1;
    Ok(())
}
