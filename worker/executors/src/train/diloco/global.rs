//! The state that all ranks share, and how a round changes it.

use super::allocator::SampleAllocator;
use super::messages::RoundResult;
use crate::error::Error;
use muster_collective::RoundOutcome;
use muster_llm::diloco::{Contribution, OuterOptimizer};

/// The state that is equal on all ranks.
pub struct Global {
    pub round: u64,
    /// Rounds that this attempt has closed, including rolled-back ones: the number by which the gang tells
    /// them apart.
    pub turn: u32,
    pub weights: Vec<f32>,
    pub outer: OuterOptimizer,
    pub allocator: SampleAllocator,
}

/// Moves the global weights by a round's outcome. Samples of replicas that were neither merged nor refused
/// are returned.
pub fn adopt(
    global: &mut Global,
    outcome: &RoundOutcome,
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
