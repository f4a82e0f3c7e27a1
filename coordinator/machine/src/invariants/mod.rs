//! What must hold of every state, whatever the commands were. One invariant per file.

mod counts;
mod epochs;
mod gangs;
mod held;
mod index;
mod moves;
mod resources;
mod terminals;

use crate::state::State;
use alloc::string::String;
use alloc::vec::Vec;

/// Describes what does not hold; empty if all is well. Costs what exists: for tests and the simulator.
pub fn check(state: &State) -> Vec<String> {
    let mut broken = Vec::new();
    resources::check(state, &mut broken);
    gangs::check(state, &mut broken);
    terminals::check(state, &mut broken);
    epochs::check(state, &mut broken);
    held::check(state, &mut broken);
    counts::check(state, &mut broken);
    index::check(state, &mut broken);
    moves::check(state, &mut broken);
    broken
}
