//! The invariants that every run must keep. One file each.

mod acknowledged;
mod gangs;
mod live_attempt;
mod one_terminal;
mod replay;
mod resources;
mod same_state;
mod single_copy;

pub use acknowledged::Acknowledged;
pub use gangs::Gangs;
pub use live_attempt::LiveAttempt;
pub use one_terminal::OneTerminal;
pub use replay::replay_equals_live;
pub use resources::{machine_invariants_hold, never_oversubscribed};
pub use same_state::SameState;
pub use single_copy::single_copy;

use super::report::Failure;

pub type InvariantResult = Result<(), Failure>;

fn violated(invariant: &'static str, what: String) -> InvariantResult {
    Err(Failure { invariant, what })
}
