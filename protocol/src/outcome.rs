//! Results of attempts, and final states of tasks and jobs.

use crate::{tagged, words};
use alloc::string::String;
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

tagged! {
    /// The result of an attempt.
    pub enum Outcome {
        /// It did its work.
        1 => Succeeded(Succeeded),
        /// It exited with an error.
        2 => Failed(Failed),
        /// It was stopped because its job was cancelled.
        3 => Cancelled(Reason),
        /// It ran longer than its timeout.
        4 => TimedOut(Reason),
        /// Its worker was lost, restarted, or fenced itself. Not counted as a failure of the task.
        5 => Lost(Reason),
        /// It could not start: no such program, executor or directory.
        6 => NotStarted(Reason),
        /// It was stopped because another rank of its gang ended badly. Not counted as a failure of the task.
        7 => GangBroken(Reason),
    }
}

/// A success, with what later stages may read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Succeeded {
    /// At most [`PROGRESS_BODY_BYTES_MAX`](crate::limits::PROGRESS_BODY_BYTES_MAX) bytes; JSON by convention;
    /// empty for processes.
    #[serde(default)]
    pub output: String,
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Failed {
    /// The exit code, if it exited.
    pub exit_code: Option<i32>,
    /// The signal that killed it, if one did.
    pub signal: Option<i32>,
    /// Its own error message, or what the agent observed.
    pub message: String,
}

/// The reason for an outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Reason {
    /// For people.
    pub message: String,
}

impl Outcome {
    /// The word shown to people: `succeeded`, `failed`, …
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Succeeded(_) => "succeeded",
            Outcome::Failed(_) => "failed",
            Outcome::Cancelled(_) => "cancelled",
            Outcome::TimedOut(_) => "timed-out",
            Outcome::Lost(_) => "lost",
            Outcome::NotStarted(_) => "not-started",
            Outcome::GangBroken(_) => "gang-broken",
        }
    }

    /// The reason, for people; empty for a success.
    pub fn message(&self) -> &str {
        match self {
            Outcome::Succeeded(_) => "",
            Outcome::Failed(failed) => &failed.message,
            Outcome::Cancelled(reason)
            | Outcome::TimedOut(reason)
            | Outcome::Lost(reason)
            | Outcome::NotStarted(reason)
            | Outcome::GangBroken(reason) => &reason.message,
        }
    }
}

words! {
    /// The final state of a task or a job.
    pub enum Terminal {
        /// Every task succeeded.
        1 => Succeeded = "succeeded",
        /// A task failed and has no retries left.
        2 => Failed = "failed",
        /// It was cancelled.
        3 => Cancelled = "cancelled",
    }
}
