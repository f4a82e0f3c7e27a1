//! What should run where: a pure function of the state, whose result is a command like any other.

use crate::state::State;
use muster_protocol::command::{Assign, LoadHint};

/// Proposes assignments; `None`: there is nothing to place, or no room. Costs what is ready and what is free, not what exists.
pub fn schedule(state: &State, hints: &[LoadHint]) -> Option<Assign> {
    let _ = (state, hints);
    None
}
