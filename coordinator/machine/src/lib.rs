//! The pure core: what commands come to, how events change the state, and what runs where. No clock, no IO,
//! no randomness.
//!
//! [`decide()`] turns a command into events or a rejection, and changes nothing. [`State::evolve`] folds
//! events, and is the only fold. [`schedule()`] proposes what should run where, as a command like any other,
//! which `decide` checks again. The same inputs give the same outputs on every replica and on every
//! architecture: arithmetic is integer, and nothing is iterated in an order that differs between runs.
#![no_std]
extern crate alloc;

mod answer;
mod decide;
mod evolve;
pub mod invariants;
mod outcomes;
mod room;
mod schedule;
mod state;
pub mod views;

pub use answer::answer;
pub use decide::{Decision, check_spec, decide, fault};
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
