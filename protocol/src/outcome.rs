//! How attempts, tasks and jobs end.

use crate::{tagged, words};
use alloc::string::String;
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

tagged! {
    /// How an attempt ended.
    pub enum Outcome {
        /// It did what it should.
        1 => Succeeded(Succeeded),
        /// It ended by itself, and not well.
        2 => Failed(Failed),
        /// It was ended because its job was cancelled.
        3 => Cancelled(Reason),
        /// It ran longer than its timeout.
        4 => TimedOut(Reason),
        /// Its worker was lost, restarted, or fenced itself; no failure of the task.
        5 => Lost(Reason),
        /// It never started: no such program, no such executor, no directory.
        6 => NotStarted(Reason),
        /// It was ended because another rank of its gang ended badly; no failure of the task.
        7 => GangBroken(Reason),
    }
}

/// A success, with what later stages may read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Succeeded {
    /// At most [`PROGRESS_BODY_BYTES_MAX`](crate::limits::PROGRESS_BODY_BYTES_MAX) bytes; JSON by custom;
    /// empty for processes.
    #[serde(default)]
    pub output: String,
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Failed {
    /// The exit code, if it exited.
    pub exit_code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// What it said, or what the agent saw.
    pub message: String,
}

/// Why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Reason {
    /// For people.
    pub message: String,
}

impl Outcome {
    /// The word for it: `succeeded`, `failed`, …
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

    /// Why, for people; empty for a success.
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
    /// How a task or a job ended: terminal, once.
    pub enum Terminal {
        /// Every task did what it should.
        1 => Succeeded = "succeeded",
        /// A task failed for good.
        2 => Failed = "failed",
        /// Somebody cancelled it.
        3 => Cancelled = "cancelled",
    }
}
