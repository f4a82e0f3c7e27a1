//! The pure core: what commands come to, how events change the state, and what runs where. No clock, no IO,
//! no randomness.
//!
//! [`State::evolve`] folds events, and is the only fold. [`decide()`] turns a command into events, each
//! folded as soon as it is decided, or into a rejection, which changes nothing. [`schedule()`] proposes what
//! should run where, as a command like any other, which `decide` checks again. The same inputs give the same
//! outputs on every replica and on every architecture: arithmetic is integer, and nothing is iterated in an
//! order that differs between runs.
//!
//! Imports go one way: `transaction` < `state` < `fold` < `decide`, `schedule`, `answer`, `views`,
//! `invariants`. Nothing here may import another crate of the project but the protocol.
#![cfg_attr(not(test), no_std)]
extern crate alloc;
// Unit tests share the generator of the random tests, which names the crate from outside.
#[cfg(test)]
extern crate self as muster_machine;

mod answer;
mod decide;
#[cfg(test)]
mod faults;
mod fold;
pub mod invariants;
mod outcomes;
mod schedule;
mod state;
mod transaction;
pub mod views;

pub use answer::answer;
pub use decide::{Decision, check_spec, decide, fault, rehearse, rehearse_fault};
pub use schedule::schedule;
pub use state::{Moment, State, Usage, Worker};

use muster_protocol::event::Event;

/// Whether an event moves a task from one state to another: what replay figures count.
pub fn is_transition(event: &Event) -> bool {
    matches!(
        event,
        Event::TaskAssigned(_)
            | Event::AttemptStarted(_)
            | Event::AttemptStopped(_)
            | Event::AttemptEnded(_)
            | Event::TaskRequeued(_)
            | Event::TaskReadied(_)
            | Event::TaskEnded(_)
    )
}
