//! Answers to what running attempts ask, from the state alone.

use crate::state::State;
use muster_protocol::{
    attempt_call::{CallAnswer, CallRequest},
    ids::AttemptId,
};

/// The answer to a question; `None` for one that changes something, which becomes a command instead.
pub fn answer(state: &State, attempt: AttemptId, request: &CallRequest) -> Option<CallAnswer> {
    let _ = (state, attempt, request);
    None
}
