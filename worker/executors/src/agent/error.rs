//! The errors of agent stages.

/// An agent's stage can't go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("find the line to complete: `line` = {text:?} is {reason}; agent.plan sets it")]
    Line { text: String, reason: String },
    #[error("plan: no held-out line is worth completing")]
    NoLines,
    #[error("write a subtask as JSON: {0}")]
    Subtask(serde_json::Error),
    #[error("write a request as JSON: {0}")]
    Request(serde_json::Error),
    #[error("find the candidates for line {n} in the outputs of stage `{stage}`")]
    NoCandidates { n: u64, stage: String },
    #[error("judge: there is no candidate")]
    NothingToJudge,
}
