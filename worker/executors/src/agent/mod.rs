//! The stages of a plan-and-execute run on the trained model: plan, complete, verify, join.
//!
//! The planner is plain code, and so is the verifier; only `complete` asks a model, the one that the same job
//! trained.

pub mod complete;
pub mod join;
mod lines;
pub mod plan;
pub mod rust_line;
pub mod verify;

use super::attempt::Attempt;
use super::error::Error;
use muster_protocol::ids::Digest;

/// The artifact of the line that the planner gave a subtask.
fn line_hash(attempt: &Attempt) -> Result<Digest, Error> {
    let text = attempt.params.text("line");
    text.parse().map_err(|e| {
        Error::Unfit(format!("find the line to complete: `line` = {text:?} is {e}; agent.plan sets it"))
    })
}
