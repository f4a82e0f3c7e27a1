//! What should run where: a pure function of the state, whose result is a command like any other.
//!
//! Stages that ask for the same are one class: when one of them does not fit, the others of its class are not
//! tried. Among those that may fit, larger priority goes first, then the older job. Equal tasks are spread
//! over workers; a gang's ranks, over as many workers as it can. Short tasks queue at workers beyond what
//! fits, so that no slot is idle for a round trip; long ones do not, since another worker may be free before.

mod capacity;
mod gang;
mod plan;
mod single;

use crate::state::State;
use muster_protocol::command::{Assign, LoadHint};
use plan::Plan;

/// Proposes assignments; `None`: there is nothing to place, or no room. Costs what is ready and what is free,
/// not what exists.
///
/// `hints` are what workers measured. They decide nothing yet, so none is recorded: measured load follows
/// what the state knows a moment later. A scheduler that breaks ties by them must return those it used in
/// [`Assign::hints`], so that a replayed decision sees them.
pub fn schedule(state: &State, _hints: &[LoadHint]) -> Option<Assign> {
    if !state.has_ready() {
        return None;
    }
    let mut plan = Plan::new(state);
    plan.fill();
    let assignments = plan.into_assignments();
    if assignments.is_empty() { None } else { Some(Assign { assignments, hints: Default::default() }) }
}
