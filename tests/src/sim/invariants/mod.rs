//! What must hold in every run, whatever goes wrong. One file each; each sees what it needs to and nothing
//! else.

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
pub use resources::{never_oversubscribed, state_holds};
pub use same_state::SameState;
pub use single_copy::single_copy;

use super::report::Failure;

/// Whether an invariant holds.
pub type Verdict = Result<(), Failure>;

/// It does not hold.
fn broken(invariant: &'static str, what: String) -> Verdict {
    Err(Failure { invariant, what })
}
