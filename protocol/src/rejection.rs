//! Rejections: plain data that the caller gets back. A rejection is an answer, not an error.

use crate::tagged;
use alloc::string::String;
use bincode::{Decode, Encode};
use core::fmt;
use serde::{Deserialize, Serialize};

tagged! {
    /// Why a command was not accepted.
    pub enum Rejection {
        /// There is no such job, task or worker.
        1 => Unknown(Detail),
        /// It has ended, or is in a state that does not allow this.
        2 => WrongState(Detail),
        /// A field of the command is not valid.
        3 => Invalid(Invalid),
        /// It would exceed a limit.
        4 => LimitExceeded(Detail),
        /// It came from an attempt, an incarnation of a worker, or a leader that is no longer current.
        5 => Stale(Detail),
        /// The request id was used before for another command.
        6 => RequestReused(Detail),
        /// `decide` panicked on this command; it changed nothing, and the fault is in the log.
        7 => Faulted(Detail),
    }
}

/// A message for people.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Detail {
    /// What is wrong, and what would be right.
    pub message: String,
}

/// A field that is not valid.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Invalid {
    /// The field, as a path: `stages[2].needs`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rejection::Invalid(invalid) => write!(f, "{}: {}", invalid.field, invalid.message),
            Rejection::Unknown(d)
            | Rejection::WrongState(d)
            | Rejection::LimitExceeded(d)
            | Rejection::Stale(d)
            | Rejection::RequestReused(d)
            | Rejection::Faulted(d) => f.write_str(&d.message),
        }
    }
}
