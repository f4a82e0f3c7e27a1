//! The stages of a plan-and-execute run on the trained model: plan, complete, verify, join.
//!
//! The planner is plain code, and so is the verifier; only `complete` asks a model, the one that the same job
//! trained.

pub mod complete;
mod error;
pub mod join;
mod lines;
pub mod plan;
pub mod rust_line;
pub mod verify;

pub use error::AgentError;

use muster_protocol::ids::Digest;

/// The artifact of the line that the planner gave a subtask.
fn line_hash(text: &str) -> Result<Digest, AgentError> {
    text.parse().map_err(|e| AgentError::Line { text: text.to_owned(), reason: format!("{e}") })
}
